"""One request on its way through the chain, whichever HTTP version it came by.

Made by a client connection, filled by `handler_chain`, read by the tunnel when the answer comes.
"""

import time
from typing import Final, Protocol

from mk8s_agent.wire.stream import Fields, Stream
from mk8s_proxy.audit.event import AuditEntry, AuditFacts, ImpersonatedUser
from mk8s_proxy.audit.identifier import new_audit_id
from mk8s_proxy.audit.rows import MAX_URI
from mk8s_proxy.authz.attributes import Decision
from mk8s_proxy.identity.identity import Identity
from mk8s_proxy.kube.request_info import RequestInfo
from mk8s_proxy.kube.watch_events import UNKNOWN_FORM, AnswerForm
from mk8s_proxy.listener.recurring import Recurring
from mk8s_proxy.listener.request_head import RequestHead

_NO_INFO: Final = RequestInfo(False, "", "")
_KEPT_BYTES: Final = 2052
"""Of header values, decoded for rows: more than a row keeps (512 characters), and no more."""
_KEPT_TARGET: Final = MAX_URI + 1
"""Of a target: so much that a row, which keeps no more, says that it was cut."""
_NOBODY: Final = Identity("", "", (), 0.0, "", "", 0)


class Front(Protocol):
    """A client connection as the handler chain sees it."""

    def answer(self, stream: Stream, code: int, fields: Fields, body: bytes) -> None:
        """Sends a whole answer of central's own."""


class Exchange:
    """What is known of one request. `front` is its stream on the client's connection."""

    __slots__ = (
        "answer_form",
        "back",
        "closing_event",
        "cluster",
        "decision",
        "entry",
        "forwarded_target",
        "front",
        "head",
        "identity",
        "info",
        "prefix",
        "recurring",
        "settled",
        "stays_open",
        "subprotocol",
        "whole",
    )

    def __init__(
        self,
        front: Stream,
        head: RequestHead,
        entry: AuditEntry,
        recurring: Recurring | None = None,
    ) -> None:
        self.front = front
        self.head = head
        self.entry = entry
        self.recurring = recurring
        """What is known of earlier requests with the very same head, and of this one afterwards."""
        self.cluster = ""
        """The cluster that it is for, once known."""
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
        self.answer_form: AnswerForm = UNKNOWN_FORM
        """How the answer of what stays open is written; what is added to it is written so, too."""
        self.subprotocol = b""
        """What the API server and the client speak in an upgraded connection."""
        self.closing_event = b""
        """What an open watch says to its client before it ends."""
        self.stays_open = False
        """It may go on for hours: a watch, a followed log, an upgraded connection."""
        self.settled = False
        """The outcome row is written."""
        self.whole: Exchange | None = None
        """The request that this one is a part of, where central carries that out by several."""

    def __repr__(self) -> str:
        head = self.head
        return f"<Exchange {head.method!r} {head.target!r} cluster={self.cluster!r}>"


def new_entry(source_ip: str) -> AuditEntry:
    """The audit entry of a request whose head has just arrived."""
    return AuditEntry(new_audit_id(), time.time(), source_ip, began=time.monotonic())


def facts_of(exchange: Exchange, decision: str, reason: str) -> AuditFacts:
    """What the audit says of an exchange, as far as it has come.

    Args:
        exchange: whose doors have opened so far.
        decision: allow or forbid.
        reason: the sentence behind the decision.
    """
    head, info, identity = exchange.head, exchange.info or _NO_INFO, exchange.identity or _NOBODY
    groups = identity.groups + (exchange.decision.groups if exchange.decision is not None else ())
    if len(identity.groups) > 1:  # those of a login that the cluster is told are among both
        groups = tuple(dict.fromkeys(groups))
    impersonated = None
    if (original := identity.original) is not None:
        impersonated = ImpersonatedUser(identity.user, identity.uid, groups, identity.extra)
        identity, groups = original, original.groups
    return AuditFacts(  # by position, which is the faster half
        head.method.decode("ascii", "replace"),
        head.target[:_KEPT_TARGET].decode("ascii", "replace"),
        head.user_agent[:_KEPT_BYTES].decode("utf-8", "replace"),
        head.client_audit_id[:_KEPT_BYTES].decode("ascii", "replace"),
        identity.user, identity.uid, groups, identity.token_id, exchange.cluster,
        info.verb, info.api_group, info.api_version, info.namespace,
        info.resource, info.subresource, info.name,
        decision, reason, impersonated, identity.delegate,
    )  # fmt: skip


def refused_tunnel(cluster_id: str, cluster: str, reason: str) -> AuditEntry:
    """The entry of an agent that was turned away."""
    facts = AuditFacts(
        user=f"agent:{cluster_id}",
        uid=cluster_id,
        cluster=cluster,
        verb="connect",
        api_group="mk8s.io",
        resource="tunnels",
        name=cluster_id,
        reason=reason,
    )
    entry = AuditEntry(new_audit_id(), time.time(), facts=facts)
    entry.refusal, entry.code = "TUNNEL_REFUSED", 403
    return entry
