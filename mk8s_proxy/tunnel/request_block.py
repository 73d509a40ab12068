"""The head of a request as it goes through a tunnel; pure. Called by the handler chain.

The bearer token never leaves central. What goes instead is one field that says on whose behalf the
agent shall act. First comes what differs from request to request, then
what repeats: an agent recognises the second part by its bytes
(`mk8s_agent.apiserver.request_block`).
"""

# compiled: every request's head is built here

from typing import Any, Final

import orjson

from mk8s_agent.wire import headers, hpack_codec
from mk8s_agent.wire.memory import Memory
from mk8s_proxy.identity.identity import Identity
from mk8s_proxy.kube.request_target import METHODS
from mk8s_proxy.kube.upgrades import is_websocket_watch
from mk8s_proxy.listener.exchange import Exchange

AUDIT_FIELD: Final = hpack_codec.literal(headers.AUDIT_ID, b"-" * 36)[:-36]
"""The field of the block in which no two requests agree, up to the 36 bytes of the audit id."""
_METHODS: Final = {name: hpack_codec.field(b":method", name) for name in METHODS}
_SCHEME: Final = b"\x87"  # :scheme https, from HPACK's static table

_identities: Final[Memory[tuple[str, str, tuple[str, ...]], bytes]] = Memory(16384, 16 << 20)
"""People who ask as themselves, encoded. Buys 3 % of a request with a new target."""
_forwarded: Final[Memory[tuple[tuple[bytes, bytes], ...], bytes]] = Memory(2048, 8 << 20)
"""A client's own fields, encoded. Buys 4 % of a request with a new head (compiled: nothing)."""


def request_parts(exchange: Exchange, identity: Identity, path_block: bytes) -> tuple[bytes, bytes]:
    """The stateless header block of a request for the tunnel: what goes before `AUDIT_FIELD` and
    the audit id, and what goes after them. Equal requests have equal parts.

    Args:
        exchange: whose head is sent on.
        identity: as whom the agent shall act.
        path_block: the `:path` field, encoded; `exchange.forwarded_target` goes before it.
    """
    head = exchange.head
    field = hpack_codec.field
    if exchange.forwarded_target:
        path_block = hpack_codec.literal(b":path", exchange.forwarded_target)
    parts: list[bytes] = []
    if head.content_length >= 0:
        parts.append(hpack_codec.literal(headers.LENGTH, b"%d" % head.content_length))
    if head.upgrade:
        parts.append(field(headers.UPGRADE, head.upgrade))
        if exchange.info is not None and is_websocket_watch(head.upgrade, exchange.info):
            parts.append(field(headers.ORIGIN, headers.OWN))
    forwarded = _forwarded.find(head.forwarded)
    if forwarded is None:
        forwarded = hpack_codec.block(head.forwarded)
        _forwarded.keep(head.forwarded, forwarded, 2 * len(forwarded) + 160 * len(head.forwarded))
    decision = exchange.decision
    # Which groups of its login a cluster may know is the policy's word (`decision.groups`).
    # The first is the one of everybody; who is nobody has none.
    groups = identity.groups[:1] if identity.original is None else identity.groups
    if decision is not None:
        groups += decision.groups
    who = b"" if identity.extra else _identities.find((identity.user, identity.uid, groups))
    parts += (who or _identity_block(identity, groups), forwarded)
    method = _METHODS.get(head.method) or field(b":method", head.method)
    return method + _SCHEME + path_block, b"".join(parts)


def _identity_block(identity: Identity, groups: tuple[str, ...]) -> bytes:
    """Who asks, in one field; the groups are those of the roles, too."""
    who: dict[str, Any] = {
        "user": identity.user,
        "uid": identity.uid,
        "groups": list(groups),
    }
    if identity.extra:
        who["extra"] = identity.extra
    block = hpack_codec.literal(headers.IDENTITY, orjson.dumps(who))
    if not identity.extra:
        key = (identity.user, identity.uid, groups)
        _identities.keep(key, block, 3 * len(block) + 300)
    return block
