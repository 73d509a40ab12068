"""The head of a request as it goes through a tunnel; pure. Called by the handler chain.

The bearer token never leaves central. What goes instead is one field that says on whose behalf the
agent shall act, encoded once for each token. First comes what differs from request to request, then
what repeats: an agent recognises the second part by its bytes
(`mk8s_agent.apiserver.request_block`).
"""

from typing import Any, Final

import orjson

from mk8s_agent.wire import headers, hpack_codec
from mk8s_proxy.audit.identifier import AuditId
from mk8s_proxy.identity.identity import Identity
from mk8s_proxy.kube.upgrades import is_websocket_watch
from mk8s_proxy.listener.exchange import Exchange

_SCHEME: Final = b"\x87"  # :scheme https, from HPACK's static table
_KEPT: Final = 2048
_KEPT_BYTES: Final = 4096

_forwarded: dict[tuple[tuple[bytes, bytes], ...], bytes] = {}


def request_parts(exchange: Exchange, identity: Identity, path_block: bytes) -> tuple[bytes, bytes]:
    """The stateless header block of a request for the tunnel: what goes before `audit_field`, and
    what goes after it. Equal requests have equal parts.

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
    parts += (identity.wire or _identity_block(identity), _forwarded_block(head.forwarded))
    return field(b":method", head.method) + _SCHEME + path_block, b"".join(parts)


def audit_field(audit_id: AuditId) -> bytes:
    """The field of the block in which no two requests agree."""
    return hpack_codec.literal(headers.AUDIT_ID, audit_id.encode("ascii"))


def _identity_block(identity: Identity) -> bytes:
    """Who asks, in one field; kept with the identity."""
    who: dict[str, Any] = {
        "user": identity.user,
        "uid": identity.uid,
        "groups": list(identity.groups),
    }
    if identity.extra:
        who["extra"] = identity.extra
    identity.wire = hpack_codec.literal(headers.IDENTITY, orjson.dumps(who))
    return identity.wire


def _forwarded_block(fields: tuple[tuple[bytes, bytes], ...]) -> bytes:
    """The client's own fields, encoded; most requests of a client have the same ones."""
    block = _forwarded.get(fields)
    if block is None:
        block = b"".join([hpack_codec.literal(name, value) for name, value in fields])
        if len(block) <= _KEPT_BYTES:
            if len(_forwarded) >= _KEPT:
                _forwarded.clear()
            _forwarded[fields] = block
    return block
