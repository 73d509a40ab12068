"""Request headers: from the fields a client sent to the one `RequestHead` the chain works with.

Called by the HTTP/2 connection for each request, and by `http1_head` for what both versions share;
pure. The forwarded set is built from nothing out of what `mk8s_proxy.listener.header_names` lets
through, so nothing a client sends can name an identity, describe a connection or be read
differently by the next hop.

The order of checks: size, bytes of values, pseudo headers, method and target, then the fields in
one loop, then what needs several of them together (host, body length, upgrade, credential).
"""

import re
from typing import Final, NamedTuple

from mk8s_agent.wire.memory import Memory
from mk8s_proxy.listener.head_limits import (
    HEAD_LIMITS,
    MAX_FIELDS,
    HeadLimits,
    head_bytes,
    target_of,
)
from mk8s_proxy.listener.header_names import (
    CONNECTION,
    DROP,
    DUPLICATE_REASONS,
    FORWARD,
    HTTP2_ACTIONS,
    IMPERSONATE,
    MAX_IMPERSONATION,
    NOTE,
    REPEATABLE,
    action_of_unlisted,
)
from mk8s_proxy.listener.refusals import HeaderRefusal

Field = tuple[bytes, bytes]

METHODS: Final = frozenset((b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE"))
"""The methods of the Kubernetes API; no CONNECT, TRACE or OPTIONS comes through."""

SMALL_BODY: Final = 16 * 1024
"""Bytes that GET and HEAD may have, if they say how many."""
MAX_LENGTH_DIGITS: Final = 18
"""Of a Content-Length: it fits a signed 64-bit number, as every HTTP server counts."""

# RFC 9110, 5.5: tab, space, visible ASCII, and bytes over 0x7F, which are opaque.
_LEGAL_IN_VALUES: Final = bytes(b for b in range(256) if b == 0x09 or (b >= 0x20 and b != 0x7F))
_VISIBLE: Final = bytes(range(0x21, 0x7F))
_AUTHORITY: Final = re.compile(rb"(?:[a-z0-9._-]{1,255}|\[[0-9a-f:.]{2,45}\])(?::[0-9]{1,5})?")
_PSEUDO_NAMES: Final = frozenset((b":method", b":scheme", b":authority", b":path"))
_SCHEMES: Final = frozenset((b"https", b"http"))
_BODILESS: Final = frozenset((b"GET", b"HEAD"))
_CODINGS: Final = frozenset((b"br", b"deflate", b"gzip", b"identity", b"x-gzip", b"zstd"))
_TOKEN68: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~+/"
_SCHEME_LENGTH: Final = len(b"Bearer ")


class Upgrade(NamedTuple):
    """What a head asks to become."""

    token: bytes
    """Empty, `websocket` or `SPDY/3.1`."""
    credential: bytes
    """`Bearer <token>` from the WebSocket subprotocol, or empty."""
    forwarded: tuple[tuple[bytes, bytes], ...]
    """The WebSocket headers to relay, rebuilt."""
    removed: frozenset[bytes] = frozenset()
    """Fields that Connection names: meant for this hop, never relayed (RFC 9110, 7.6.1)."""


_NO_UPGRADE: Final = Upgrade(token=b"", credential=b"", forwarded=())


class RequestHead(NamedTuple):
    """A request head that passed every check that one head alone can decide.

    A named tuple and not a frozen dataclass: one is made for every request, a microsecond cheaper.
    """

    method: bytes
    target: bytes
    """Exactly the bytes of path and query the client sent; not yet parsed."""
    authority: bytes
    """Host and port the client addressed, lower-case."""
    authorization: bytes
    """The one credential as `Bearer <token>`, from Authorization or from the WebSocket
    subprotocol; empty when there is none, which the handler chain answers by `no_credential()`."""
    upgrade: bytes
    """Empty, `websocket` or `SPDY/3.1`. Whether the route may be upgraded is not decided here."""
    content_length: int
    """What the client declared, in bytes; -1 when it declared nothing."""
    content_type: bytes
    accept: bytes
    user_agent: bytes
    client_audit_id: bytes
    """The client's Audit-ID: untrusted, for the audit row only."""
    impersonation: tuple[Field, ...]
    """The client's Impersonate-* headers, for the handler chain to judge."""
    forwarded: tuple[Field, ...]
    """The headers to relay: lower-case names, in the client's order."""
    expects_continue: bool = False
    """The client waits for `100 Continue` before it sends the body."""
    forwarded_for: bytes = b""
    """X-Forwarded-For: untrusted, unless the peer is a proxy of ours."""
    cookie: bytes = b""
    """For the management API only."""


_KEPT_BYTES: Final = 4096
"""A head above this size is rare, and not remembered."""
_FIELD_BYTES: Final = 160
"""What a field holds in memory, beside its bytes."""
_repeated: Final[Memory[tuple[object, ...], tuple[RequestHead, int]]] = Memory(16384, 32 << 20)
"""Heads without their target, by their other fields, and what each counts without it. As many as
tokens are remembered, since each has a head of its own; strangers can fill it. Buys 27 % of a
request with a new head (compiled 20 %), nothing where heads recur."""


class _Sorted(NamedTuple):
    kept: dict[bytes, bytes]
    forwarded: list[Field]
    impersonation: list[Field]


def read_http2_head(
    fields: list[Field],
    end_stream: bool,
    limits: HeadLimits = HEAD_LIMITS,
    *,
    underscores: bool = False,
) -> RequestHead:
    """Read the decoded fields of an HTTP/2 HEADERS block, pseudo headers included.

    Args:
        fields: names and values in the order received.
        end_stream: whether the block ended the stream, so that no body follows.
        limits: of the head, counted as `head_bytes` does.
        underscores: whether names may hold one.

    Raises:
        HeaderRefusal: the head breaks RFC 9113, 8.2 and 8.3, or a rule of ours.
    """
    check_bytes(fields, target_of(fields), limits)
    return _read(fields, end_stream, underscores)


def _read(fields: list[Field], end_stream: bool, underscores: bool) -> RequestHead:
    """The head of these fields, whose size and bytes are checked."""
    pseudo = _read_pseudo(fields)
    method, target = pseudo[b":method"], pseudo[b":path"]
    found = sort_fields(fields[len(pseudo) :], HTTP2_ACTIONS, underscores)
    kept = found.kept
    if kept.get(b"te", b"trailers") != b"trailers":
        raise HeaderRefusal("CONNECTION_HEADER", b"te")
    host = kept.get(b"host")
    authority = pseudo.get(b":authority", host)
    if host is not None and host != authority:
        raise HeaderRefusal("HOST")
    length = content_length(kept) if b"content-length" in kept else -1
    if length > 0 and end_stream:
        raise HeaderRefusal("CL")
    if not end_stream:
        check_body(method, length, has_body=length != 0)
    return compose_head(method, target, authority, length, found, _NO_UPGRADE)


def read_repeated_head(
    fields: list[Field],
    end_stream: bool,
    limits: HeadLimits = HEAD_LIMITS,
    *,
    underscores: bool = False,
) -> RequestHead:
    """As `read_http2_head`, which it asks for what it has not seen.

    A client sends the same fields again and again, `:path` apart, so what became of them is kept.
    It is a pure function of the fields, so equal fields may share it; what was refused is read
    anew, and refused again.

    Raises:
        HeaderRefusal: as `read_http2_head`.
    """
    place = 0
    for field in fields:
        if field[0] == b":path":
            break
        place += 1
    else:
        return read_http2_head(fields, end_stream, limits, underscores=underscores)
    target = fields[place][1]
    others = (place, end_stream, underscores, *fields[:place], *fields[place + 1 :])
    known = _repeated.find(others)
    if known is None:
        size = check_bytes(fields, target, limits)
        head = _read(fields, end_stream, underscores)
        if size <= _KEPT_BYTES:
            kept = (head._replace(target=b""), size - len(target))
            _repeated.keep(others, kept, size + _FIELD_BYTES * len(fields))
        return head
    head, size = known
    too_long = len(target) > limits.target or size > limits.fields
    if too_long or target[:1] != b"/" or target.translate(None, _VISIBLE):
        # it knows the reason
        return read_http2_head(fields, end_stream, limits, underscores=underscores)
    return RequestHead(head[0], target, *head[2:])


def check_bytes(fields: list[Field], target: bytes, limits: HeadLimits) -> int:
    """Size of the list and the bytes of every value, with a fixed number of passes in C.

    Returns:
        What the head counts, its target included.
    """
    if not fields:
        raise HeaderRefusal("BAD_HEADER")
    size, long = head_bytes(fields), len(target)
    if len(fields) > MAX_FIELDS or long > limits.target or size - long > limits.fields:
        raise HeaderRefusal("HEADER_TOO_LARGE")
    values = [value for _, value in fields]
    stripped = [value.strip() for value in values]
    if stripped != values or b"".join(values).translate(None, _LEGAL_IN_VALUES):
        raise HeaderRefusal("BAD_HEADER_VALUE")
    return size


def is_target(target: bytes) -> bool:
    """Whether these bytes may stand as path and query: visible ASCII that begins with a slash."""
    return target.startswith(b"/") and not target.translate(None, _VISIBLE)


def check_request_line(method: bytes, target: bytes) -> None:
    """Refuses a method that is not Kubernetes's, and a target of other bytes than `is_target`'s."""
    if method not in METHODS:
        raise HeaderRefusal("METHOD")
    if not target.startswith(b"/"):
        raise HeaderRefusal("TARGET_FORM")
    if target.translate(None, _VISIBLE):
        raise HeaderRefusal("RAW_ILLEGAL")


def _read_pseudo(fields: list[Field]) -> dict[bytes, bytes]:
    """The pseudo headers: unique, known, first, and complete (RFC 9113, 8.3)."""
    pseudo: dict[bytes, bytes] = {}
    for name, value in fields:
        if name not in _PSEUDO_NAMES:
            if name == b":protocol":  # extended CONNECT (RFC 8441) is not offered
                raise HeaderRefusal("METHOD")
            break  # another name with a colon is refused with the fields
        if name in pseudo:
            raise HeaderRefusal("PSEUDO_HEADER", name)
        pseudo[name] = value
    method, target = pseudo.get(b":method"), pseudo.get(b":path")
    if method is None:
        raise HeaderRefusal("PSEUDO_HEADER", b":method")
    if not target or pseudo.get(b":scheme") not in _SCHEMES:  # CONNECT has neither
        raise HeaderRefusal("PSEUDO_HEADER" if method in METHODS else "METHOD")
    check_request_line(method, target)
    return pseudo


def sort_fields(fields: list[Field], actions: dict[bytes, int], underscores: bool) -> _Sorted:
    """The one loop over the fields: relay, keep, hand over or forget each of them."""
    kept: dict[bytes, bytes] = {}
    forwarded: list[Field] = []
    impersonation: list[Field] = []
    for field in fields:
        name = field[0]
        action = actions.get(name, -1)
        if action < 0:
            action = action_of_unlisted(name, underscores=underscores)
        if action == FORWARD:
            forwarded.append(field)
        elif action == IMPERSONATE:
            if len(impersonation) == MAX_IMPERSONATION:
                raise HeaderRefusal("IMPERSONATION_HEADER", name)
            impersonation.append(field)
        elif action == CONNECTION:
            raise HeaderRefusal("CONNECTION_HEADER", name)
        elif action != DROP:
            if action == NOTE:
                forwarded.append(field)
            kept[name] = _joined(name, kept[name], field[1]) if name in kept else field[1]
    return _Sorted(kept, forwarded, impersonation)


def _joined(name: bytes, first: bytes, second: bytes) -> bytes:
    if name not in REPEATABLE:
        raise HeaderRefusal(DUPLICATE_REASONS.get(name, "DUP_HEADER"), name)
    return b"%b; %b" % (first, second) if name == b"cookie" else b"%b, %b" % (first, second)


def content_length(kept: dict[bytes, bytes]) -> int:
    """What the kept headers say of the body's bytes; -1 where they say nothing."""
    text = kept.get(b"content-length")
    if text is None:
        return -1
    if not text.isdigit() or len(text) > MAX_LENGTH_DIGITS:  # no sign, no list, no underscore
        raise HeaderRefusal("CL")
    return int(text)


def check_body(method: bytes, length: int, *, has_body: bool) -> None:
    """A body of GET or HEAD means nothing (RFC 9110, 9.3.1), but some clients send a small one."""
    if has_body and method in _BODILESS and not 0 < length <= SMALL_BODY:
        raise HeaderRefusal("BODY_ON_GET")


def _check_origin(kept: dict[bytes, bytes], host: bytes, upgrade: Upgrade) -> None:
    """Refuses what a page of another site may send.

    A page cannot set Authorization without a preflight, which is refused: beside it an Origin
    proves nothing bad. Dashboards on a desk, browsers behind `kubectl proxy` and programs whose
    WebSocket library sends one have it. A token in a subprotocol proves nothing, since a page may
    send that. The field never travels on: a server behind mk8s would compare it with another name,
    and needs none.
    """
    if b"authorization" in kept:
        return
    own = b"https://" + host
    origin = kept[b"origin"].lower()
    if upgrade.credential or not (origin == own or origin.startswith(own + b"/")):
        raise HeaderRefusal("BROWSER_ORIGIN")


def compose_head(
    method: bytes,
    target: bytes,
    authority: bytes | None,
    length: int,
    found: _Sorted,
    upgrade: Upgrade,
) -> RequestHead:
    """The head, once what needs several of its fields is checked: host, origin, credential."""
    kept, forwarded = found.kept, found.forwarded
    if authority is None or _AUTHORITY.fullmatch(host := authority.lower()) is None:
        raise HeaderRefusal("HOST")  # user information or an empty name, too
    if b"origin" in kept:
        _check_origin(kept, host, upgrade)
    if kept.get(b"content-encoding", b"gzip").lower() not in _CODINGS:
        raise HeaderRefusal("CONTENT_CODING")
    authorization = upgrade.credential
    if b"authorization" in kept:  # read_upgrade refuses both at once
        authorization = bearer(kept[b"authorization"])
    forwarded.extend(upgrade.forwarded)
    return RequestHead(
        method,
        target,
        host,
        authorization,
        upgrade.token,
        length,
        kept.get(b"content-type", b""),
        kept.get(b"accept", b""),
        kept.get(b"user-agent", b""),
        kept.get(b"audit-id", b""),
        tuple(found.impersonation),
        tuple(forwarded),
        b"100-continue" in kept.get(b"expect", b"").lower(),
        kept.get(b"x-forwarded-for", b""),
        kept.get(b"cookie", b""),
    )


def bearer(authorization: bytes) -> bytes:
    """The one form of a bearer credential, `Bearer <token68>` (RFC 6750, 2.1).

    Raises:
        HeaderRefusal: BAD_AUTHORIZATION: another scheme, several tokens, or no token.
    """
    scheme, token = authorization[:_SCHEME_LENGTH], authorization[_SCHEME_LENGTH:]
    if scheme != b"Bearer " and scheme.lower() != b"bearer ":
        raise HeaderRefusal("BAD_AUTHORIZATION")
    characters = token.rstrip(b"=")
    if not characters or characters.translate(None, _TOKEN68):
        raise HeaderRefusal("BAD_AUTHORIZATION")
    return b"Bearer " + token
