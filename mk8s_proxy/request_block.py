"""The head of a request as it goes through a tunnel; pure. Called by the corridor.

The bearer token never leaves central. What goes instead is one field that says on whose behalf the
agent shall act, encoded once for each token.
"""

from typing import Any, Final

import orjson

from mk8s_agent.wire import headers, hpack_codec
from mk8s_proxy.authn.identity import Identity
from mk8s_proxy.exchange import Exchange
from mk8s_proxy.request_target import RequestTarget

_SCHEME: Final = b"\x87"  # :scheme https, from HPACK's static table


def request_block(exchange: Exchange, identity: Identity, target: RequestTarget) -> bytes:
    """The stateless header block of a request for the tunnel.

    Identity travels in one field that is encoded once for each token; the bearer token itself
    never leaves central.
    """
    head = exchange.head
    field = hpack_codec.field
    if not identity.wire:
        who: dict[str, Any] = {
            "user": identity.user,
            "uid": identity.uid,
            "groups": list(identity.groups),
        }
        if identity.extra:
            who["extra"] = identity.extra
        identity.wire = hpack_codec.literal(headers.IDENTITY, orjson.dumps(who))
    parts = [
        field(b":method", head.method),
        _SCHEME,
        hpack_codec.literal(b":path", exchange.forwarded_target or target.raw),
        identity.wire,
        hpack_codec.literal(headers.AUDIT_ID, exchange.entry.audit_id.encode("ascii")),
    ]
    if head.content_length >= 0:
        parts.append(field(headers.LENGTH, b"%d" % head.content_length))
    if head.upgrade:
        parts.append(field(headers.UPGRADE, head.upgrade))
    parts += [field(name, value) for name, value in head.forwarded]
    return b"".join(parts)
