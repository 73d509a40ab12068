"""One request as it came through the tunnel, checked and made ready for the API server; no I/O.

Called by `mk8s_agent.apiserver.request_block` for a head that it has not seen before. The head is
written anew from the parts that central may send: method, target, plain headers, and the mk8s
headers that say on whose behalf.
"""

import re
from dataclasses import dataclass, field
from typing import Final

from mk8s_agent.apiserver.impersonation import ImpersonationRefused, impersonation_headers
from mk8s_agent.wire import headers, hpack_codec
from mk8s_agent.wire.stream import Bytes, Fields

METHODS: Final = frozenset({b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE"})
SCHEME: Final = b"\x87"  # :scheme https, from HPACK's static table
_PSEUDO: Final = frozenset({b":method", b":path", b":scheme"})
_FORBIDDEN: Final = headers.HOP_BY_HOP | {
    b"authorization", b"audit-id", b"content-length", b"cookie", b"expect", b"host",
    b"origin",
}  # fmt: skip
_NAME: Final = re.compile(rb"[a-z0-9!#$%&'*+.^_`|~-]{1,256}")
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
"""What would end a header line of HTTP/1.1, where upgrades go, and begin one of somebody else."""
_TARGET: Final = re.compile(rb"/[\x21-\x7e]*")
"""Only visible ASCII: a space or a line end would end the request line of HTTP/1.1."""
_AS_NOBODY: Final = hpack_codec.block([(b"impersonate-user", b"system:anonymous")])
"""The API server itself adds the group (its filters/impersonation.go)."""
_AMBIGUOUS: Final = re.compile(
    rb"//|/\.\.?(?:/|\Z)|[\\#;]|%(?![0-9A-Fa-f]{2})"
    rb"|%(?:2[35EeFf]|3[BbFf]|5[Cc]|[01][0-9A-Fa-f]|7[Ff])"
)
"""What two servers could read as different paths: dot segments, empty ones, and what would be
another path, or end it, if it were decoded once more. Central refuses all of it, and so do we."""
_decoder: Final = hpack_codec.Decoder(0, 1 << 24)
"""For what was written here; no head from a tunnel comes near so many bytes."""


class RequestRefused(Exception):
    """Central sent what an agent does not forward; the text says what was wrong."""


@dataclass(slots=True)
class Attempt:
    """What is known of a request's first try (see `resending`)."""

    body: list[Bytes] = field(default_factory=list)
    size: int = 0
    """Bytes of `body`; they count on the process's budget."""
    complete: bool = False
    """`body` is all of it."""
    spent: bool = False
    """There is no further try."""
    connection_lost: bool = False
    """Its connection went away, and doing it twice would do no harm."""


@dataclass(slots=True)
class Request:
    """A request for the API server, without its `:authority` and the agent's credential."""

    block: bytes
    """The head as stateless HPACK: method, scheme, path, audit id, length, and what `Carried`
    says."""
    length: int
    """Content-Length; -1 when the client gave none."""
    upgrade: bytes
    own_origin: bool
    """The API server gets an Origin: itself."""
    end: bool
    """There is no body."""
    identity: bytes = b""
    """Who asks, as central said it."""
    attempt: Attempt | None = None
    """There once a body is kept, or a first try has failed."""


@dataclass(slots=True)
class Carried:
    """The part of a head that many requests share: client's headers, and the Impersonate ones."""

    identity: bytes
    fields: Fields
    """The client's headers as they came."""
    fields_block: bytes
    """The same, encoded."""
    block: bytes
    """What becomes of both for the API server."""


def impersonate(identity: bytes) -> bytes:
    """The Impersonate headers of an identity, encoded.

    Raises:
        RequestRefused: the identity is not one to act as.
    """
    if identity == headers.ANONYMOUS:
        return _AS_NOBODY
    try:
        return hpack_codec.block(impersonation_headers(identity))
    except ImpersonationRefused as error:
        raise RequestRefused(str(error)) from error


def read_request(received: Fields, end: bool, prefix: bytes = b"") -> tuple[Request, Carried]:
    """Takes a head apart.

    Args:
        received: the fields of the head, in order.
        end: there is no body.
        prefix: of all paths of the API server.

    Raises:
        RequestRefused: a field that central never sends, or no usable identity.
    """
    plain: Fields = []
    known: dict[bytes, bytes] = {}
    for name, value in received:
        if name in _PSEUDO or name.startswith(headers.INTERNAL_PREFIX):
            if name in known:
                raise RequestRefused(f"two {name.decode('ascii', 'replace')} fields")
            if plain and name in _PSEUDO:
                raise RequestRefused("a pseudo-header field behind a header")
            known[name] = value
        elif not _NAME.fullmatch(name) and not name.startswith(b":"):
            raise RequestRefused("an invalid header name")
        elif _is_forbidden(name.replace(b"_", b"-")):
            raise RequestRefused(f"a {name.decode('ascii', 'replace')} field")
        else:
            plain.append((name, value))
    if any(_CONTROL.search(value) for _, value in received):
        raise RequestRefused("a header value with control characters")
    identity = known.get(headers.IDENTITY, b"")
    if identity == headers.ANONYMOUS:
        _check_anonymous(known, end)
    impersonated = impersonate(identity)
    plain_block = hpack_codec.block(plain)
    carried = Carried(identity, plain, plain_block, plain_block + impersonated)
    return _complete(known, carried, end, prefix), carried


def _check_anonymous(known: dict[bytes, bytes], end: bool) -> None:
    """Nobody asks for anything but the version, whatever the cluster would answer."""
    asked = known.get(b":path", b"").partition(b"?")[0] in (b"/version", b"/version/")
    reads = known.get(b":method") in (b"GET", b"HEAD") and end and headers.UPGRADE not in known
    if not (asked and reads):
        raise RequestRefused("an identity of nobody for more than the version")


def _is_forbidden(name: bytes) -> bool:
    """Whether central never forwards such a field; some servers read "_" in a name as "-"."""
    reserved = (b":", b"impersonate-", b"x-remote-", headers.INTERNAL_PREFIX)
    return name in _FORBIDDEN or name.startswith(reserved)


def _complete(known: dict[bytes, bytes], carried: Carried, end: bool, prefix: bytes) -> Request:
    method, target = known.get(b":method", b""), known.get(b":path", b"")
    upgrade = known.get(headers.UPGRADE, b"")
    if b":scheme" not in known:
        raise RequestRefused("no scheme")
    if method not in METHODS:
        raise RequestRefused("an unknown method")
    if not _TARGET.fullmatch(target) or _AMBIGUOUS.search(target.partition(b"?")[0]):
        raise RequestRefused("an invalid target")
    if upgrade not in (b"", b"websocket", b"SPDY/3.1"):
        raise RequestRefused("an unknown upgrade protocol")
    own_origin = known.get(headers.ORIGIN, b"")
    if own_origin and (own_origin, upgrade) != (headers.OWN, b"websocket"):
        raise RequestRefused("an unknown origin")
    length = _length(known.get(headers.LENGTH, b""))
    if length > 0 and (end or upgrade):
        raise RequestRefused("a length without a body")
    parts = [
        hpack_codec.field(b":method", method),
        SCHEME,
        hpack_codec.literal(b":path", prefix + target),
    ]
    if audit_id := known.get(headers.AUDIT_ID):
        parts.append(hpack_codec.literal(b"audit-id", audit_id))
    if length >= 0:
        parts.append(hpack_codec.literal(b"content-length", b"%d" % length))
    block = b"".join(parts) + carried.block
    return Request(block, length, upgrade, bool(own_origin), end, carried.identity)


def _length(text: bytes) -> int:
    if not text:
        return -1
    if not text.isdigit() or len(text) > 18:
        raise RequestRefused("an invalid length")
    return int(text)


def request_line(request: Request) -> tuple[bytes, bytes, Fields]:
    """Method, target and headers of a request for HTTP/1.1, which frames bodies by itself."""
    fields = _decoder.decode(request.block)
    plain = [field for field in fields[3:] if field[0] != b"content-length"]
    return fields[0][1], fields[2][1], plain
