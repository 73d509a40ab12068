"""What of a cluster's answer reaches the client.

Called by `tunnel.session` for each answer, in the client's interest: the cluster, or an agent that
was taken over, is not trusted with the client's connection. The head is decoded, checked and
composed anew, so a block that one decoder takes and another does not never passes.
"""

# compiled: every answer's head is checked here

import logging
import re
from typing import Final, NamedTuple

from mk8s_agent.wire.headers import HOP_BY_HOP, INTERNAL_PREFIX
from mk8s_agent.wire.memory import Memory
from mk8s_agent.wire.stream import Fields
from mk8s_proxy.kube.request_info import RequestInfo

log = logging.getLogger(__name__)

_DROPPED: Final = HOP_BY_HOP | {
    b"set-cookie", b"alt-svc", b"strict-transport-security", b"clear-site-data", b"refresh",
    b"service-worker-allowed", b"nel", b"report-to", b"reporting-endpoints", b"public-key-pins",
}  # fmt: skip
"""They would speak for central's own origin (wss, cookies, other ports, what browsers keep of it
and tell others), send people elsewhere, or be for one hop only."""

_NAME: Final = re.compile(rb"[a-z0-9!#$%&'*+.^`|~-]{1,256}")
_UNDERSCORED: Final = re.compile(rb"[a-z0-9!#$%&'*+.^_`|~-]{1,256}")
"""Legal, but a hop in front of central may read "_" as "-", and content_length as a length: such a
field is left out, and the rest of the answer is as good as any."""

_LEGAL_IN_VALUES: Final = bytes(b for b in range(256) if b == 0x09 or (b >= 0x20 and b != 0x7F))
_CONTROL_CHARACTERS: Final = "a header value with control characters"
_CLIMBS: Final = re.compile(rb"(?i)\\|/(?:\.|%2e){1,2}(?:[/?#]|$)")
"""Browsers take a backslash for a slash, and %2e for a dot."""
_FIRST_SEGMENT: Final = re.compile(rb"/[^/?#\\]+")
_PROXIED_ROOTS: Final = frozenset((b"/api", b"/apis"))
_READING: Final = frozenset((b"GET", b"HEAD"))
_NOTED_NAMES: Final = 32
"""Names that get a line in the log, once each; a hostile cluster makes up any number."""

_SANDBOX: Final = [
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"sandbox"),
]
"""Added where a pod or service wrote the answer: it must not act as a page of central."""

_NOTED: Final = frozenset((b"content-length", b"audit-id"))
_RELAY, _NOTE, _DROP, _INTERNAL = range(1, 5)
_THREE: Final = ord("3")
_FINAL: Final = 200
"""Lower statuses announce another head."""

_NAME_BYTES: Final = 64
"""What a name holds in memory, beside its bytes."""
_places: Final[Memory[tuple[bytes, ...], tuple[int, int]]] = Memory(1024, 2 << 20)
"""Where content-length and audit-id stand, 0 for nowhere, by the names of an answer of which all
is relayed."""
_noted: set[bytes] = set()


class ResponseRefused(Exception):
    """The cluster's answer cannot be relayed."""


class ResponseHead(NamedTuple):
    """A checked head, sorted in one pass."""

    status: int
    fields: Fields
    """What the client gets, status first."""
    length: bytes | None
    """The content-length, if there is one."""
    audit_id: bytes
    """The API server's name for the request; empty if it gave none."""
    internal: dict[bytes, bytes]
    """What the agent itself says; empty for nearly all answers."""


def read_response(fields: Fields) -> ResponseHead:
    """Sorts the fields of an answer: to relay, to note, or to forget.

    Of an informational one (1xx), which goes no further, only the status is looked at.

    Args:
        fields: the decoded head.

    Raises:
        ResponseRefused: no status of three digits, a name or value that HTTP does not allow, or two
            content-lengths.
    """
    if not fields or fields[0][0] != b":status":
        raise ResponseRefused("an answer without a status")
    digits = fields[0][1]
    if len(digits) != 3 or not digits.isdigit() or not b"100" <= digits <= b"599":
        raise ResponseRefused("an invalid status")
    status = int(digits)
    if status < _FINAL:
        return ResponseHead(status, [], None, b"", {})
    names, values = zip(*fields, strict=True)
    places = _places.find(names)
    if places is None:
        return _sort(status, fields, names)
    if b"".join(values).translate(None, _LEGAL_IN_VALUES):
        raise ResponseRefused(_CONTROL_CHARACTERS)
    at_length, at_id = places
    length = values[at_length] if at_length else None
    return ResponseHead(status, fields, length, values[at_id] if at_id else b"", {})


def _sort(status: int, fields: Fields, names: tuple[bytes, ...]) -> ResponseHead:
    """As `read_response`, field by field."""
    kept = fields[:1]
    noted: dict[bytes, bytes] = {}
    internal: dict[bytes, bytes] = {}
    for field in fields[1:]:
        action = _judge(field[0])
        if action == _RELAY:
            kept.append(field)
        elif action == _NOTE:
            if field[0] in noted and field[0] != b"audit-id":  # an aggregated API may add its own
                raise ResponseRefused("a second content-length")
            noted[field[0]] = field[1]
            kept.append(field)
        elif action == _INTERNAL:
            internal[field[0]] = field[1]
    if b"".join([value for _, value in kept]).translate(None, _LEGAL_IN_VALUES):
        raise ResponseRefused(_CONTROL_CHARACTERS)
    if len(kept) == len(fields):
        last = {name: place for place, name in enumerate(names)}
        places = last.get(b"content-length", 0), last.get(b"audit-id", 0)
        _places.keep(names, places, sum(map(len, names)) + _NAME_BYTES * len(names))
    length, audit_id = noted.get(b"content-length"), noted.get(b"audit-id", b"")
    return ResponseHead(status, kept, length, audit_id, internal)


def body_length(head: ResponseHead, method: bytes, *, end: bool) -> int:
    """How many bytes of body must follow a head; -1 when it does not say.

    A client on HTTP/1.1 would read more as the next answer, perhaps of another cluster, and would
    take the next answer for what is missing.

    Raises:
        ResponseRefused: content-length is no number, or the body is not to come.
    """
    length, status = head.length, head.fields[0][1]
    if length is not None and (len(length) > 18 or not length.isdigit()):
        raise ResponseRefused("an invalid content-length")
    if end or method == b"HEAD" or status in (b"204", b"304"):
        if end and length and int(length) and method != b"HEAD" and status != b"304":
            raise ResponseRefused("an answer that ended before its body")
        return 0
    return -1 if length is None else int(length)


def relayed_fields(
    head: ResponseHead,
    *,
    proxied: bool,
    prefix: bytes = b"",
    method: bytes = b"",
    info: RequestInfo | None = None,
) -> Fields:
    """The fields that the client gets, status included, of a redirect or a proxied answer.

    Of all others it gets those of `head`.

    Args:
        head: what `read_response` made of the answer.
        proxied: a pod, service or node behind a proxy subresource wrote the answer.
        prefix: what path addressing needs before a Location of the API server's own.
        method: of the request.
        info: what was asked; None allows no redirect of the API server itself.

    Raises:
        ResponseRefused: a redirect elsewhere.
    """
    fields = head.fields
    status = fields[0][1]
    if status[0] == _THREE and status != b"304":
        roots = _PROXIED_ROOTS if proxied else _own_root(method, info)
        return _redirect(fields, prefix, roots) + _SANDBOX
    return fields + _SANDBOX if proxied else fields


def _judge(name: bytes) -> int:
    """What to do with fields of this name."""
    if not _NAME.fullmatch(name):
        if not _UNDERSCORED.fullmatch(name):
            raise ResponseRefused("an invalid header name")
        _note(name)
        return _DROP
    if name.startswith(INTERNAL_PREFIX):
        return _INTERNAL
    if name in _DROPPED:
        return _DROP
    return _NOTE if name in _NOTED else _RELAY


def _note(name: bytes) -> None:
    """Tells the operator, once, that clients do not get a field."""
    if name not in _noted and len(_noted) < _NOTED_NAMES:
        _noted.add(name)
        log.warning("response.header_dropped", extra={"header": name.decode("ascii")})


def _own_root(method: bytes, info: RequestInfo | None) -> frozenset[bytes]:
    """Where the API server itself may redirect to: the first segment of what was asked.

    Kubernetes does so for paths that only read and are no resource (`/openapi/v3/...?hash=` with an
    old hash, `/debug/pprof`). An aggregated API could send writes elsewhere (CVE-2022-3172).
    """
    if info is None or info.is_resource_request or method not in _READING:
        raise ResponseRefused("the API server answered with a redirect")
    first = _FIRST_SEGMENT.match(info.path.encode("utf-8", "surrogateescape"))
    return frozenset([first[0]] if first else ())


def _redirect(kept: Fields, prefix: bytes, roots: frozenset[bytes]) -> Fields:
    """A redirect that stays below `roots` of the same cluster, with the address's prefix."""
    moved = []
    found = False
    for name, value in kept:
        if name != b"location":
            moved.append((name, value))
            continue
        first = _FIRST_SEGMENT.match(value)
        if found or first is None or first[0] not in roots or _CLIMBS.search(value):
            raise ResponseRefused("a redirect that leaves the cluster's API")
        found = True
        moved.append((name, prefix + value))
    return moved
