"""Connection, Upgrade and WebSocket headers of an HTTP/1.1 head.

Called by `mk8s_proxy.listener.http1_head`; pure. kubectl upgrades to `websocket` (exec since
1.30, port-forward since 1.31) and to `SPDY/3.1`; any other token would turn the proxy blind to what
follows. Which routes may be upgraded is the handler chain's question, not this module's.

Browsers and the dashboards in them cannot set Authorization on a WebSocket, so Kubernetes reads
the token from a subprotocol (apiserver, authentication/request/websocket/protocol.go). Unlike
Kubernetes, a second credential beside it is refused and the token never travels on.
"""

import base64
import binascii
import re
from typing import Final

from mk8s_proxy.listener.header_names import DROP, FORWARD, HTTP1_ACTIONS, action_of_unlisted
from mk8s_proxy.listener.refusals import HeaderRefusal
from mk8s_proxy.listener.request_head import Upgrade, bearer

_NONE: Final = Upgrade(b"", b"", ())
_TOKENS: Final = {b"websocket": b"websocket", b"spdy/3.1": b"SPDY/3.1"}
_CONNECTION_OPTIONS: Final = frozenset((b"close", b"keep-alive", b"upgrade"))
_ABOUT_THE_HOP: Final = frozenset((b"te", b"keep-alive", b"proxy-connection", b"trailer"))
_BEARER_SUBPROTOCOL: Final = b"base64url.bearer.authorization.k8s.io."
# Tokens (RFC 9110, 5.6.2), and the slash of kubectl's `SPDY/3.1+portforward.k8s.io`.
_PROTOCOL: Final = re.compile(rb"[!#$%&'*+./^_`|~0-9A-Za-z-]+")
_BASE64URL: Final = re.compile(rb"[A-Za-z0-9_-]+")
_WEBSOCKET_KEY: Final = re.compile(rb"[A-Za-z0-9+/]{22}==")  # 16 bytes, RFC 6455, 4.1
_WEBSOCKET_VERSION: Final = b"13"


def read_upgrade(method: bytes, kept: dict[bytes, bytes]) -> Upgrade:
    """Read Connection, Upgrade and Sec-WebSocket-* out of the kept headers of one head.

    Args:
        method: of the request; a WebSocket needs GET (RFC 6455, 4.1).
        kept: values by lower-case name, repeated ones joined.

    Raises:
        HeaderRefusal: the connection options, the token or the handshake are not ours.
    """
    token = kept.get(b"upgrade")
    options = _connection_options(kept.get(b"connection"))
    asked = token is not None or b"upgrade" in options
    known = _TOKENS.get(token.lower(), b"") if token is not None else b""
    if asked and (not known or b"upgrade" not in options):
        raise HeaderRefusal("UPGRADE_TOKEN")
    removed = options - _CONNECTION_OPTIONS
    if not all(map(_removable, removed)):
        raise HeaderRefusal("CONNECTION_OPTION")
    if known == b"websocket":
        return _read_websocket(method, kept)._replace(removed=removed)
    return Upgrade(known, b"", (), removed) if asked or removed else _NONE


def _connection_options(connection: bytes | None) -> frozenset[bytes]:
    if connection is None:
        return frozenset()
    return frozenset(option.strip(b" \t").lower() for option in connection.split(b","))


def _removable(option: bytes) -> bool:
    """Whether a field may be taken out: nobody here and nobody behind us decides by it.

    What names a person, frames a body or says what is asked for stays or is refused: else a client
    could take away what a proxy in front of us has added.
    """
    if option in _ABOUT_THE_HOP:
        return True
    try:
        action = HTTP1_ACTIONS.get(option, -1)
        action = action_of_unlisted(option) if action < 0 else action
    except HeaderRefusal:
        return False
    return action in (FORWARD, DROP)


def _read_websocket(method: bytes, kept: dict[bytes, bytes]) -> Upgrade:
    key = kept.get(b"sec-websocket-key", b"")
    version = kept.get(b"sec-websocket-version")
    if method != b"GET" or version != _WEBSOCKET_VERSION or not _WEBSOCKET_KEY.fullmatch(key):
        raise HeaderRefusal("WEBSOCKET_HEAD")
    credential, others = _subprotocols(kept.get(b"sec-websocket-protocol"))
    if credential:
        if b"authorization" in kept:
            raise HeaderRefusal("TWO_CREDENTIALS")
        if not others:
            raise HeaderRefusal("SUBPROTOCOL")
    forwarded = [(b"sec-websocket-version", version), (b"sec-websocket-key", key)]
    if others:
        forwarded.append((b"sec-websocket-protocol", b", ".join(others)))
    return Upgrade(b"websocket", credential, tuple(forwarded))


def _subprotocols(offered: bytes | None) -> tuple[bytes, list[bytes]]:
    """The credential among the offered subprotocols, and the others in order."""
    credential = b""
    others: list[bytes] = []
    for item in offered.split(b",") if offered is not None else ():
        protocol = item.strip(b" \t")
        if _PROTOCOL.fullmatch(protocol) is None:
            raise HeaderRefusal("SUBPROTOCOL")
        if not protocol.lower().startswith(_BEARER_SUBPROTOCOL):
            others.append(protocol)
        elif credential:
            raise HeaderRefusal("DUP_AUTHORIZATION")
        else:
            credential = _credential(protocol)
    return credential, others


def _credential(protocol: bytes) -> bytes:
    """`Bearer <token>` out of a bearer subprotocol: base64url, unpadded, strictly."""
    encoded = protocol[len(_BEARER_SUBPROTOCOL) :]
    if not protocol.startswith(_BEARER_SUBPROTOCOL):  # another case: Kubernetes reads no token here
        raise HeaderRefusal("BAD_AUTHORIZATION")
    if _BASE64URL.fullmatch(encoded) is None:
        raise HeaderRefusal("BAD_AUTHORIZATION")
    try:
        token = base64.urlsafe_b64decode(encoded + b"=" * (-len(encoded) % 4))
    except binascii.Error as error:  # a length no encoder produces
        raise HeaderRefusal("BAD_AUTHORIZATION") from error
    return bearer(b"Bearer " + token)
