"""One request as it came through the tunnel, checked and made ready for the API server; no I/O.

Called by `mk8s_agent.tunnel` for every stream. The head is written anew from the parts that
central may send: method, target, plain headers, and the mk8s headers that say on whose behalf.
"""

import re
from dataclasses import dataclass, field
from typing import Final

from mk8s_agent.impersonation import ImpersonationRefused, impersonation_headers
from mk8s_agent.wire import headers

Fields = list[tuple[bytes, bytes]]

METHODS: Final = frozenset({b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE"})
_PSEUDO: Final = frozenset({b":method", b":path", b":scheme"})
_FORBIDDEN: Final = headers.HOP_BY_HOP | {
    b"authorization", b"audit-id", b"content-length", b"cookie", b"expect", b"host",
}  # fmt: skip
_NAME: Final = re.compile(rb"[a-z0-9!#$%&'*+.^`|~-]{1,256}")
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
"""What would end a header line of HTTP/1.1, where upgrades go, and begin one of somebody else."""
_IDENTITIES: Final = 4096


class RequestRefused(Exception):
    """Central sent what an agent does not forward; the text says what was wrong."""


@dataclass(slots=True)
class Request:
    """A request for the API server, without its credential."""

    method: bytes = b""
    target: bytes = b""
    fields: Fields = field(default_factory=list)
    """Headers to send, the Impersonate ones included; lower-case names."""
    length: int = -1
    """Content-Length; -1 when the client gave none."""
    upgrade: bytes = b""
    end: bool = False
    """There is no body."""


_impersonations: dict[bytes, tuple[tuple[bytes, bytes], ...]] = {}


def impersonate(identity: bytes) -> tuple[tuple[bytes, bytes], ...]:
    """The Impersonate headers of an identity, kept for the next request of the same user.

    Raises:
        ImpersonationRefused: the identity is not one to act as.
    """
    known = _impersonations.get(identity)
    if known is None:
        known = impersonation_headers(identity)
        if len(_impersonations) >= _IDENTITIES:
            _impersonations.clear()
        _impersonations[identity] = known
    return known


def read_request(received: Fields, end: bool) -> Request:
    """Takes a head apart.

    Raises:
        RequestRefused: a field that central never sends, or no usable identity.
    """
    request = Request(end=end)
    known: dict[bytes, bytes] = {}
    for name, value in received:
        if name in _PSEUDO or name.startswith(headers.INTERNAL_PREFIX):
            if name in known:
                raise RequestRefused(f"two {name.decode('ascii', 'replace')} fields")
            known[name] = value
        elif not _NAME.fullmatch(name) and not name.startswith(b":"):
            raise RequestRefused("an invalid header name")
        elif name in _FORBIDDEN or name.startswith((b":", b"impersonate-", b"x-remote-")):
            raise RequestRefused(f"a {name.decode('ascii', 'replace')} field")
        else:
            request.fields.append((name, value))
    if any(_CONTROL.search(value) for _, value in received):
        raise RequestRefused("a header value with control characters")
    return _complete(request, known)


def _complete(request: Request, known: dict[bytes, bytes]) -> Request:
    request.method = known.get(b":method", b"")
    request.target = known.get(b":path", b"")
    request.upgrade = known.get(headers.UPGRADE, b"")
    if request.method not in METHODS:
        raise RequestRefused("an unknown method")
    if not request.target.startswith(b"/") or not _printable(request.target):
        raise RequestRefused("an invalid target")
    if request.upgrade not in (b"", b"websocket", b"SPDY/3.1"):
        raise RequestRefused("an unknown upgrade protocol")
    length = known.get(headers.LENGTH, b"")
    if length:
        if not length.isdigit() or len(length) > 18:
            raise RequestRefused("an invalid length")
        request.length = int(length)
        if request.length and (request.end or request.upgrade):
            raise RequestRefused("a length without a body")
    try:
        request.fields += impersonate(known.get(headers.IDENTITY, b""))
    except ImpersonationRefused as error:
        raise RequestRefused(str(error)) from error
    if audit_id := known.get(headers.AUDIT_ID):
        request.fields.append((b"audit-id", audit_id))
    return request


def _printable(target: bytes) -> bool:
    """Only visible ASCII: a space or a line end would end the request line of HTTP/1.1."""
    return target.isascii() and target.decode("ascii").isprintable() and b" " not in target
