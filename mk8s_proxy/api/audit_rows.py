"""Rows of the audit journal for what the management API does.

Used by the door of each endpoint that hands out a credential or changes something. Bodies never
come here: a row names who did what to which object from where, and how it ended.
"""

import time
from typing import Protocol

from aiohttp import web

from mk8s_proxy.audit.event import AuditEntry, AuditFacts
from mk8s_proxy.audit.identifier import AuditId

API_GROUP = "mk8s.io"
"""The group under which our own resources appear in rows."""


class Journal(Protocol):
    """The part of `mk8s_proxy.audit.journal.Journal` that is used here."""

    def intent(self, entry: AuditEntry) -> None:
        """Buffer the row of what is about to be done."""

    def outcome(self, entry: AuditEntry) -> None:
        """Buffer the row of how it ended."""

    def commit(self) -> bool:
        """Append what is buffered; False when it could not be written."""


class Actor(Protocol):
    """The part of a call that goes into its row."""

    request_id: AuditId
    source: str
    user_agent: str
    actor: str
    actor_id: str
    token_id: str
    cluster: str
    subject: str
    reason: str


class AuditRow:
    """The row, or the two rows, of one call."""

    def __init__(self, journal: Journal, verb: str, resource: str, call: Actor) -> None:
        self._journal = journal
        self._call = call
        self._began = time.monotonic()
        self._entry = AuditEntry(
            audit_id=call.request_id,
            received=time.time(),
            source_ip=call.source,
            facts=AuditFacts(
                verb=verb,
                resource=resource,
                api_group=API_GROUP,
                user_agent=call.user_agent,
            ),
        )
        self.opened = False
        """Whether the intent stands in the journal."""

    def open(self, request: web.Request) -> bool:
        """Write that the change is about to happen; False when it must not."""
        self._fill(request)
        self._decided("allow", "role admin")
        self._journal.intent(self._entry)
        self.opened = self._journal.commit()
        return self.opened

    def close(self, request: web.Request, code: int, message: str) -> bool:
        """Write how it ended; False when that could not be written yet."""
        self._fill(request)
        entry = self._entry
        entry.code = code
        entry.duration = time.monotonic() - self._began
        if code >= 400:
            entry.refusal = self._call.reason
        if not self.opened:
            self._decided("allow" if code < 400 else "forbid", message)
        self._journal.outcome(entry)
        return self._journal.commit()

    def _fill(self, request: web.Request) -> None:
        call = self._call
        self._entry.facts = self._entry.facts._replace(
            user=call.actor,
            uid=call.actor_id,
            token_id=call.token_id,
            cluster=call.cluster,
            name=call.subject,
            method=request.method,
            request_uri=request.rel_url.raw_path,
        )

    def _decided(self, decision: str, reason: str) -> None:
        self._entry.facts = self._entry.facts._replace(decision=decision, reason=reason)
