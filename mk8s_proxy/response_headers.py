"""What of a cluster's answer reaches the client.

Called by `tunnel.session` for each answer, in the client's interest: the cluster, or an agent that
was taken over, is not trusted with the client's connection. The head is decoded, checked and
composed anew, so a block that one decoder takes and another does not never passes.
"""

import logging
import re
from typing import Final

from mk8s_agent.wire.headers import HOP_BY_HOP, INTERNAL_PREFIX
from mk8s_agent.wire.stream import Fields

log = logging.getLogger(__name__)

_DROPPED: Final = HOP_BY_HOP | {b"set-cookie", b"alt-svc", b"strict-transport-security"}
"""They would speak for central's own origin (wss, cookies, other ports), or for one hop only."""

_NAME: Final = re.compile(rb"[a-z0-9!#$%&'*+.^`|~-]{1,256}")
_UNDERSCORED: Final = re.compile(rb"[a-z0-9!#$%&'*+.^_`|~-]{1,256}")
"""Legal, but a hop in front of central may read "_" as "-", and content_length as a length: such a
field is left out, and the rest of the answer is as good as any."""

_BAD_VALUE: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_CLIMBS: Final = re.compile(rb"(?i)\\|/(?:\.|%2e){1,2}(?:[/?#]|$)")
"""Browsers take a backslash for a slash, and %2e for a dot."""
_KEPT_NAMES: Final = 4096
_NOTED_NAMES: Final = 32
"""Names that get a line in the log, once each; a hostile cluster makes up any number."""

_SANDBOX: Final = [
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"sandbox"),
]
"""Added where a pod or service wrote the answer: it must not act as a page of central."""

_verdicts: dict[bytes, bool] = {}
_noted: set[bytes] = set()


class ResponseRefused(Exception):
    """The cluster's answer cannot be relayed."""


def read_status(fields: Fields) -> int:
    """The status of a response head.

    Raises:
        ResponseRefused: no status, or not three digits.
    """
    if not fields or fields[0][0] != b":status":
        raise ResponseRefused("an answer without a status")
    value = fields[0][1]
    if len(value) != 3 or not value.isdigit() or not b"100" <= value <= b"599":
        raise ResponseRefused("an invalid status")
    return int(value)


def body_length(fields: Fields, method: bytes, *, end: bool) -> int:
    """How many bytes of body must follow a head; -1 when it does not say.

    A client on HTTP/1.1 would read more as the next answer, perhaps of another cluster, and would
    take the next answer for what is missing.

    Raises:
        ResponseRefused: content-length is no number, or comes twice, or the body is not to come.
    """
    lengths = [value for name, value in fields if name == b"content-length"]
    if lengths and (len(lengths) > 1 or len(lengths[0]) > 18 or not lengths[0].isdigit()):
        raise ResponseRefused("an invalid content-length")
    if end or method == b"HEAD" or fields[0][1] in (b"204", b"304"):
        if end and lengths and int(lengths[0]) and method != b"HEAD" and fields[0][1] != b"304":
            raise ResponseRefused("an answer that ended before its body")
        return 0
    return int(lengths[0]) if lengths else -1


def sanitize(fields: Fields, *, proxied: bool, prefix: bytes = b"") -> Fields:
    """The fields to relay, status included.

    Args:
        fields: the decoded head.
        proxied: a pod, service or node behind a proxy subresource wrote the answer.
        prefix: what path addressing needs before a Location of the API server's own.

    Raises:
        ResponseRefused: a name or value that HTTP does not allow, or a redirect elsewhere.
    """
    status = fields[0]
    kept = [status]
    for name, value in fields[1:]:
        relayed = _verdicts.get(name)
        if relayed is None:
            relayed = _judge(name)
        if relayed:
            kept.append((name, value))
    if _BAD_VALUE.search(b"\t".join([value for _, value in kept])):
        raise ResponseRefused("a header value with control characters")
    if status[1].startswith(b"3") and status[1] != b"304":
        return _redirect(kept, prefix) + _SANDBOX if proxied else _no_redirect()
    return kept + _SANDBOX if proxied else kept


def _judge(name: bytes) -> bool:
    """Whether a field of this name is relayed, remembered for the next answer."""
    relayed = name not in _DROPPED and not name.startswith(INTERNAL_PREFIX)
    if not _NAME.fullmatch(name):
        if not _UNDERSCORED.fullmatch(name):
            raise ResponseRefused("an invalid header name")
        relayed = False
        _note(name)
    if len(_verdicts) >= _KEPT_NAMES:
        _verdicts.clear()
    _verdicts[name] = relayed
    return relayed


def _note(name: bytes) -> None:
    """Tells the operator, once, that clients do not get a field."""
    if name not in _noted and len(_noted) < _NOTED_NAMES:
        _noted.add(name)
        log.warning("response.header_dropped", extra={"header": name.decode("ascii")})


def _no_redirect() -> Fields:
    raise ResponseRefused("the API server answered with a redirect")


def _redirect(kept: Fields, prefix: bytes) -> Fields:
    """Redirects under a proxy subresource stay there (the API server's own trailing slash)."""
    moved = []
    for name, value in kept:
        if name == b"location":
            if not value.startswith((b"/api/", b"/apis/")) or _CLIMBS.search(value):
                raise ResponseRefused("a redirect that leaves the cluster's API")
            moved.append((name, prefix + value))
        else:
            moved.append((name, value))
    return moved
