"""One request on its way through the corridor, whichever HTTP version it came by.

Made by a client connection, filled by `corridor`, read by the tunnel when the answer comes.
"""

from typing import Protocol

from mk8s_agent.wire.stream import Fields, Stream
from mk8s_proxy.audit.event import AuditEntry
from mk8s_proxy.audit.identifier import new_audit_id
from mk8s_proxy.authn.identity import Identity
from mk8s_proxy.authz.attributes import Decision
from mk8s_proxy.request_headers import RequestHead
from mk8s_proxy.request_info import RequestInfo


class Front(Protocol):
    """A client connection as the corridor sees it."""

    def answer(self, stream: Stream, code: int, fields: Fields, body: bytes) -> None:
        """Sends a whole answer of central's own."""


class Exchange:
    """What is known of one request. `front` is its stream on the client's connection."""

    __slots__ = (
        "back",
        "decision",
        "entry",
        "farewell",
        "forwarded_target",
        "front",
        "head",
        "identity",
        "info",
        "prefix",
        "settled",
        "whole",
    )

    def __init__(self, front: Stream, head: RequestHead, entry: AuditEntry) -> None:
        self.front = front
        self.head = head
        self.entry = entry
        self.info: RequestInfo | None = None
        self.identity: Identity | None = None
        """As whom the cluster answers; `identity.original` is the real user if that is another."""
        self.decision: Decision | None = None
        self.back: Stream | None = None
        """Its stream on the tunnel, once staged."""
        self.prefix = b""
        """What path addressing put before the Kubernetes path, such as /k8s/prod."""
        self.forwarded_target = b""
        """What a stage sends to the cluster instead of the client's target; empty: that one."""
        self.farewell = b""
        """What an open watch says to its client before it ends."""
        self.settled = False
        """The outcome row is written."""
        self.whole: Exchange | None = None
        """The request that this one is a part of, where central carries that out by several."""

    def __repr__(self) -> str:
        entry = self.entry
        return f"<Exchange {entry.method} {entry.request_uri!r} cluster={entry.cluster!r}>"


def new_entry(head: RequestHead, source_ip: str, received: float) -> AuditEntry:
    """The audit entry of a request whose head has just been read."""
    return AuditEntry(  # by position, which is the faster half
        new_audit_id(),
        received,
        head.method.decode("ascii", "replace"),
        head.target.decode("ascii", "replace"),
        source_ip,
        head.user_agent.decode("utf-8", "replace"),
        head.client_audit_id.decode("ascii", "replace"),
    )


def describe(entry: AuditEntry, info: RequestInfo) -> None:
    """Copies what a request asks for into its audit entry."""
    entry.verb = info.verb
    entry.api_group = info.api_group
    entry.api_version = info.api_version
    entry.namespace = info.namespace
    entry.resource = info.resource
    entry.subresource = info.subresource
    entry.name = info.name
