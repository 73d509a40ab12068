"""Rows of the audit journal for what the management API does.

Used by the door of each endpoint that hands out a credential or changes something. Bodies never
come here: a row names who did what to which object from where, and how it ended.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final, Protocol
from urllib.parse import urlencode

from aiohttp import web

from mk8s_proxy.audit.event import AuditEntry, AuditFacts
from mk8s_proxy.audit.identifier import AuditId

API_GROUP = "mk8s.io"
"""The group under which our own resources appear in rows."""


_POLL_SECONDS: Final = 0.01


class AuditLog(Protocol):
    """The part of `mk8s_proxy.audit.journal.Journal` that is used here."""

    failures: int

    @property
    def waiting(self) -> bool:
        """Whether a slow disk has still to say what became of the last commit."""

    def intent(self, entry: AuditEntry) -> None:
        """Buffer the row of what is about to be done."""

    def outcome(self, entry: AuditEntry) -> None:
        """Buffer the row of how it ended."""


class Journal:
    """The journal as the management API writes it.

    Args:
        log: where rows are noted.
        commit: writes them, together with those of the handler chain.
    """

    def __init__(self, log: AuditLog, commit: Callable[[], bool]) -> None:
        self.intent: Callable[[AuditEntry], None] = log.intent
        self.outcome: Callable[[AuditEntry], None] = log.outcome
        self._log = log
        self._commit = commit

    async def commit(self) -> bool:
        """Append what is buffered, however slow the disk is; False when it could not be written."""
        before = self._log.failures
        written = self._commit()
        while not written and self._log.waiting:
            await asyncio.sleep(_POLL_SECONDS)
            written = self._commit()
        return written and self._log.failures == before


class Actor(Protocol):
    """The part of a call that goes into its row."""

    request_id: AuditId
    source: str
    user_agent: str
    actor: str
    actor_id: str
    token_id: str
    delegate: str
    cluster: str
    subject: str
    reason: str
    granted_by: str
    command: tuple[str, ...]


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

    async def open(self, request: web.Request) -> bool:
        """Write that the change is about to happen; False when it must not."""
        self._fill(request)
        self._decided("allow", self._call.granted_by)
        self._journal.intent(self._entry)
        self.opened = await self._journal.commit()
        return self.opened

    async def close(self, request: web.Request, code: int, message: str) -> bool:
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
        return await self._journal.commit()

    def _fill(self, request: web.Request) -> None:
        call = self._call
        self._entry.facts = self._entry.facts._replace(
            user=call.actor,
            uid=call.actor_id,
            token_id=call.token_id,
            delegate=call.delegate,
            cluster=call.cluster,
            name=call.subject,
            method=request.method,
            request_uri=request.rel_url.raw_path + _query(call.command),
        )

    def _decided(self, decision: str, reason: str) -> None:
        self._entry.facts = self._entry.facts._replace(decision=decision, reason=reason)


def _query(command: tuple[str, ...]) -> str:
    """A command as requests for an exec have theirs, so that the operator's patterns find it."""
    return "?" + urlencode([("command", argument) for argument in command]) if command else ""
