"""The request target, read once and strictly from its raw bytes. Called by the handler chain.

A Kubernetes path is read by several programs on its way (this one, the agent, the API server, an
aggregated API server, a Pod behind a proxy subresource). An access decision holds only if all of
them read the same thing, so whatever two parsers could read differently is refused here, and the
bytes that were judged are the bytes that are forwarded.

One regular expression accepts the usual clean target. Whatever it does not accept goes through the
checks one by one, in the order of `CHECK_ORDER`, so that the refusal names the first one broken.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote_to_bytes

METHODS: Final = frozenset({b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE"})
"""The methods that Kubernetes maps to verbs; HTTP method names are case sensitive."""

MAXIMUM_PATH: Final = 4 * 1024
"""Bytes of the path. Names, however long, belong to the API server; the path as a whole is ours."""

MAXIMUM_TARGET: Final = 256 * 1024
"""Bytes of path and query: `kubectl exec` carries the whole command line in the query."""

MAXIMUM_PAIRS: Final = 256
"""Pairs of a query, empty ones too. Go since 1.24.12 and 1.25.6 reads a query with more than 10,000
of them as an empty one (net/url, GODEBUG `urlmaxqueryparams`): a selector that was judged would not
be applied. kubectl exec sends one pair for each word of a command; those are counted apart."""

MAXIMUM_WORDS: Final = 4096
"""`command` pairs of a query."""

REPEATABLE_PARAMETERS: Final = frozenset({b"command", b"ports", b"exclude", b"dryRun", b"match[]"})
"""Query parameters documented as lists: exec's command, port-forward's ports, the checks that
/livez and /readyz leave out, dryRun, and the series selectors of Prometheus behind a proxy. Any
other parameter may appear once: some programs take the first value, others the last."""

CHECK_ORDER: Final = (
    "METHOD", "TARGET_FORM", "RAW_ILLEGAL", "LENGTH", "BAD_PCT", "CONTROL", "ENC_SLASH",
    "ENC_PERCENT", "ENC_BACKSLASH", "ENC_QUESTION", "ENC_HASH", "SEMICOLON", "BAD_UTF8",
    "EMPTY_SEGMENT", "DOT_SEGMENT", "NEEDLESS_ENC", "SEMICOLON", "BAD_PCT", "MANY_PARAMS",
    "DUP_PARAM",
)  # fmt: skip
"""Reasons in the order of their checks; the last four are those of the query."""


class TargetRefusal(Exception):
    """A request line that is not forwarded.

    Attributes:
        reason: the code that the audit row carries, such as "ENC_SLASH".
        code: the HTTP status, 400 or 405.
        message: one line for the person who sent the request.
    """

    def __init__(self, reason: str, code: int, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class RequestTarget:
    """A request target that every parser reads in the same way."""

    raw: bytes
    """Exactly the bytes to forward: path, "?" and query."""
    path: str
    """The path, percent-decoded once; what Kubernetes calls `URL.Path`."""
    query: bytes
    """The query as received, without its "?"."""


# RFC 3986 pchar without "%" and ";", which have checks of their own.
_PLAIN = rb"A-Za-z0-9\-._~!$&'()*+,=:@"
_CLEAN = re.compile(
    rb"(?P<path>/(?:(?!\.\.?(?:[/?]|\Z))[%(plain)s]++(?:/(?!\.\.?(?:[/?]|\Z))[%(plain)s]++)*+/?)?)"
    rb"(?:\?(?P<query>[%(plain)s/?\[\]|{}^`%%]*+))?" % {b"plain": _PLAIN}
)
_PATH_BYTES = re.compile(rb"[%s/%%;]*+" % _PLAIN)
_QUERY_BYTES = re.compile(rb"[%s/?\[\]|{}^`%%;]*+" % _PLAIN)
_PLAIN_QUERY = re.compile(rb"[%s/?\[\]|{}^`]*+" % _PLAIN.replace(b"&", b""))
"""One parameter at most, and nothing encoded: `_check_query` would find nothing."""
_BAD_PERCENT = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_DOT_SEGMENT = re.compile(rb"/\.\.?(?:/|\Z)")
_ENCODED_PATH_CHECKS: Final = (
    ("CONTROL", re.compile(rb"%(?:[01][0-9A-Fa-f]|7[Ff])"), "an encoded control character"),
    ("ENC_SLASH", re.compile(rb"%2[Ff]"), "an encoded slash (%2F)"),
    ("ENC_PERCENT", re.compile(rb"%25"), "an encoded percent sign (%25)"),
    ("ENC_BACKSLASH", re.compile(rb"%5[Cc]"), "an encoded backslash (%5C)"),
    ("ENC_QUESTION", re.compile(rb"%3[Ff]"), "an encoded question mark (%3F)"),
    ("ENC_HASH", re.compile(rb"%23"), "an encoded number sign (%23)"),
    ("SEMICOLON", re.compile(rb";|%3[Bb]"), "a semicolon"),
)
_NEEDLESS_ENCODING = re.compile(
    rb"%(?:4[1-9A-Fa-f]|5[0-9AaFf]|6[1-9A-Fa-f]|7[0-9AaEe]|3[0-9]|2[DdEe])"
)


def parse_target(method: bytes, target: bytes) -> RequestTarget:
    """Read the target of a request line, or the `:path` of HTTP/2.

    Args:
        method: as received.
        target: as received, after a cluster prefix was taken off.

    Raises:
        TargetRefusal: any other program could read this target differently.
    """
    clean = _CLEAN.fullmatch(target)
    if clean is None or method not in METHODS or len(target) > MAXIMUM_PATH:
        return _parse_carefully(method, target)
    path, query = clean.groups()
    if query and not _PLAIN_QUERY.fullmatch(query):
        _check_query(query)
    return RequestTarget(target, path.decode("ascii"), query or b"")


def _parse_carefully(method: bytes, target: bytes) -> RequestTarget:
    if method not in METHODS:
        raise TargetRefusal("METHOD", 405, "use GET, HEAD, POST, PUT, PATCH or DELETE")
    if not target.startswith(b"/"):
        raise _refusal("TARGET_FORM", "the request target must start with a slash")
    raw_path, _, query = target.partition(b"?")
    if not (_PATH_BYTES.fullmatch(raw_path) and _QUERY_BYTES.fullmatch(query)):
        raise _refusal("RAW_ILLEGAL", "the URL contains a character that must be percent-encoded")
    if len(raw_path) > MAXIMUM_PATH or len(target) > MAXIMUM_TARGET:
        raise _refusal(
            "LENGTH", f"the path may have {MAXIMUM_PATH} bytes, the whole URL {MAXIMUM_TARGET}"
        )
    path = _decode_path(raw_path)
    _check_query(query)
    return RequestTarget(target, path, query)


def _decode_path(raw: bytes) -> str:
    if _BAD_PERCENT.search(raw):
        raise _refusal("BAD_PCT", "the path contains a percent sign that encodes nothing")
    for reason, pattern, words in _ENCODED_PATH_CHECKS:
        if pattern.search(raw):
            raise _refusal(reason, f"the path contains {words}, which programs read differently")
    decoded = unquote_to_bytes(raw)
    try:
        path = decoded.decode("utf-8")
    except UnicodeDecodeError:
        raise _refusal("BAD_UTF8", "the path is not valid UTF-8") from None
    if b"//" in decoded:
        raise _refusal("EMPTY_SEGMENT", "the path contains an empty segment (//)")
    if _DOT_SEGMENT.search(decoded):
        raise _refusal("DOT_SEGMENT", "the path contains a . or .. segment")
    if _NEEDLESS_ENCODING.search(raw):
        raise _refusal("NEEDLESS_ENC", "the path encodes a character that needs no encoding")
    return path


def _check_query(query: bytes) -> None:
    if b";" in query:
        raise _refusal("SEMICOLON", "the query contains a semicolon: write it as %3B")
    if _BAD_PERCENT.search(query):
        raise _refusal("BAD_PCT", "the query contains a percent sign that encodes nothing")
    if b"&" not in query:
        return
    _check_pairs(query)
    decode = decode_parameter if b"%" in query or b"+" in query else _unchanged
    _check_repetition(query, decode)


def _check_pairs(query: bytes) -> None:
    pairs = query.count(b"&") + 1
    if pairs > MAXIMUM_PAIRS:
        words = (b"&" + query).count(b"&command=")
        if words > MAXIMUM_WORDS or pairs - words > MAXIMUM_PAIRS:
            raise _refusal("MANY_PARAMS", f"the query has more than {MAXIMUM_PAIRS} parameters")


def _check_repetition(query: bytes, decode: Callable[[bytes], bytes]) -> None:
    # Nothing between two "&" is nothing to every parser (net/url); kube-rs writes "?&watch=true".
    seen: set[bytes] = set()
    for pair in filter(None, query.split(b"&")):
        key = decode(pair.partition(b"=")[0])
        if key in seen and key not in REPEATABLE_PARAMETERS:
            raise _refusal("DUP_PARAM", "a query parameter appears twice: send it once")
        seen.add(key)


def decode_parameter(encoded: bytes) -> bytes:
    """Decode a key or value of a query as Go's `url.QueryUnescape` does: "+" is a space."""
    return unquote_to_bytes(encoded.replace(b"+", b" "))


def _unchanged(value: bytes) -> bytes:
    return value


def _refusal(reason: str, message: str) -> TargetRefusal:
    return TargetRefusal(reason, 400, message)
