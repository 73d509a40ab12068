r"""An HTTP/1.1 request head: its raw bytes, strict where parsers differ, and what it says.

Called by the HTTP/1.1 connection, with the raw bytes before they go to llhttp, which is lenient
about some of this, and with the fields behind it; pure. Bytes that pass have one reading: CRLF line
ends only, `METHOD target HTTP/1.1` or 1.0, then `Name: value` lines with token names and no control
bytes, then the blank line (RFC 9112, 2.2, 5). The good path is one regular expression without
backtracking; `_reason` only names the fault.
"""

import re
from typing import Final

from mk8s_proxy.listener.head_limits import HEAD_LIMITS, LINE_OVERHEAD, HeadLimits
from mk8s_proxy.listener.header_names import HTTP1_ACTIONS
from mk8s_proxy.listener.refusals import HeaderRefusal
from mk8s_proxy.listener.request_head import (
    MAX_LENGTH_DIGITS,
    METHODS,
    Field,
    RequestHead,
    check_body,
    check_bytes,
    check_request_line,
    compose_head,
    content_length,
    sort_fields,
)
from mk8s_proxy.listener.upgrade_head import read_upgrade

_REQUEST: Final = rb"(?:GET|HEAD|POST|PUT|PATCH|DELETE) [!-~]++ HTTP/1\.([01])\r\n"
_FIELD: Final = rb"[!#$%&'*+.^`|~0-9A-Za-z-]++:[\t -~\x80-\xff]*+"
_UNDERSCORED_FIELD: Final = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]++:[\t -~\x80-\xff]*+"
_HEAD: Final = re.compile(_REQUEST + rb"(?:" + _FIELD + rb"\r\n)*+\r\n")
_UNDERSCORED_HEAD: Final = re.compile(_REQUEST + rb"(?:" + _UNDERSCORED_FIELD + rb"\r\n)*+\r\n")
_REQUEST_LINE: Final = re.compile(rb"([^ ]+) ([!-~]+) (HTTP/[0-9]\.[0-9])")
_LINE: Final = re.compile(_FIELD)
_UNDERSCORED_LINE: Final = re.compile(_UNDERSCORED_FIELD)
_NAME: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_LONG_TARGET: Final = re.compile(rb"[A-Z]{3,6} /[!->@-~]{0,8192}+\?")
"""How a request line begins that may be long: only its query is."""
_BARE_CR: Final = re.compile(rb"\r(?!\n)")
_BARE_LF: Final = re.compile(rb"(?<!\r)\n")
_OLD: Final = b"0"
_LINE_END: Final = b"\r\n"
_END: Final = b"\r\n\r\n"


def check_http1_head(
    head: bytes, limits: HeadLimits = HEAD_LIMITS, *, underscores: bool = False
) -> None:
    """Refuse a request head that two parsers could read differently.

    Args:
        head: the raw bytes up to and including the blank line, and nothing after it.
        limits: of raw bytes; the count with overhead in `head_limits` is stricter still.
        underscores: whether names may hold one.

    Raises:
        HeaderRefusal: with the reason of the first fault.
    """
    if len(head) > limits.fields and _is_too_long(len(head), head.find(_LINE_END), limits):
        raise HeaderRefusal("HEADER_TOO_LARGE")
    good = (_UNDERSCORED_HEAD if underscores else _HEAD).fullmatch(head)
    if good is None:
        raise HeaderRefusal(_reason(head, underscores=underscores))
    if good[1] == _OLD:
        _check_old(head)


def _check_old(head: bytes) -> None:
    """HTTP/1.0 knows no chunks, and no upgrades (RFC 9112, 6.1; RFC 9110, 7.8)."""
    if _values(head, b"transfer-encoding"):
        raise HeaderRefusal("TE")
    if _values(head, b"upgrade"):
        raise HeaderRefusal("UPGRADE_TOKEN")


class HeadSearch:
    """Finds the end of the next head in bytes that come in pieces, and looks at each of them once.

    A stranger's garbage is not waited for until the longest target would have ended: what is to be
    a long one has begun like one.
    """

    __slots__ = ("_limits", "_line_end", "_long", "_searched")

    def __init__(self, limits: HeadLimits) -> None:
        self._limits = limits
        self._restart()

    def _restart(self) -> None:
        self._searched = 0
        """From here on the end of the head may be in the bytes."""
        self._line_end = -1
        """The end of the request line, once a long head is known to have one."""
        self._long = False

    def end(self, early: bytearray) -> int:
        """Where the first head ends; 0 while it has not all come.

        Raises:
            HeaderRefusal: it is too long already.
        """
        end = early.find(_END, self._searched, self._limits.both)
        if end >= 0:
            self._restart()
            return end + len(_END)
        if len(early) >= self._limits.fields and self._is_too_long(early):
            self._restart()
            raise HeaderRefusal("HEADER_TOO_LARGE")
        self._searched = max(len(early) - 3, 0)
        return 0

    def _is_too_long(self, early: bytearray) -> bool:
        if self._line_end < 0:
            self._line_end = early.find(_LINE_END, self._searched if self._long else 0)
        if self._line_end < 0 and not self._long:
            self._long = _LONG_TARGET.match(early) is not None
            if not self._long:
                return True
        return _is_too_long(len(early), self._line_end, self._limits)


def _is_too_long(size: int, line_end: int, limits: HeadLimits) -> bool:
    """Whether `size` bytes of a head are too many; its request line ends at `line_end`, if >= 0."""
    line = line_end if line_end >= 0 else size
    return line > limits.target + LINE_OVERHEAD or size - line > limits.fields


def read_http1_head(
    method: bytes,
    target: bytes,
    fields: list[Field],
    limits: HeadLimits = HEAD_LIMITS,
    *,
    underscores: bool = False,
) -> RequestHead:
    """Read the head of an HTTP/1.1 request whose raw bytes passed `check_http1_head`.

    Args:
        method: as in the request line.
        target: as in the request line, undecoded.
        fields: names in any case and values, in the order received.
        limits: of the head, counted as `head_bytes` does.
        underscores: whether names may hold one.

    Raises:
        HeaderRefusal: the head breaks RFC 9112 or a rule of ours.
    """
    fields = [(name.lower(), value.strip(b" \t")) for name, value in fields]
    check_request_line(method, target)
    check_bytes([*fields, (method, target)], target, limits)
    found = sort_fields(fields, HTTP1_ACTIONS, underscores)
    kept = found.kept
    length = content_length(kept)
    coding = kept.get(b"transfer-encoding")
    if coding is not None:
        if length >= 0:
            raise HeaderRefusal("CL_TE")
        if coding != b"chunked":  # exactly: a longer or differently cased form may be read twice
            raise HeaderRefusal("TE")
    has_body = length > 0 or coding is not None
    check_body(method, length, has_body=has_body)
    upgrade = read_upgrade(method, kept)
    if upgrade.token and has_body:
        raise HeaderRefusal("UPGRADE_BODY")
    if upgrade.removed:
        found.forwarded[:] = [field for field in found.forwarded if field[0] not in upgrade.removed]
    return compose_head(method, target, kept.get(b"host"), length, found, upgrade)


def _reason(head: bytes, *, underscores: bool) -> str:
    """The reason code of a head that is known to be bad."""
    if _BARE_CR.search(head):
        return "BARE_CR"
    if _BARE_LF.search(head):
        return "BARE_LF"
    request_line, *lines = head.split(b"\r\n")
    fault = _request_line_fault(request_line)
    if fault:
        return fault
    for index, line in enumerate(lines[:-2]):
        fault = _line_fault(line, first=index == 0, underscores=underscores)
        if fault:
            return fault
    return "BAD_HEADER"  # the blank line is missing


def _request_line_fault(line: bytes) -> str:
    parts = _REQUEST_LINE.fullmatch(line)
    if parts is None:
        return "REQUEST_LINE"
    method, _, version = parts.groups()
    if version not in (b"HTTP/1.1", b"HTTP/1.0"):
        return "HTTP_VERSION"
    return "" if method in METHODS else "METHOD"


def _line_fault(line: bytes, *, first: bool, underscores: bool) -> str:
    if (_UNDERSCORED_LINE if underscores else _LINE).fullmatch(line):
        return ""
    if line[:1] in {b" ", b"\t"}:
        return "BAD_HEADER" if first else "OBS_FOLD"
    name, colon, _ = line.partition(b":")
    if not colon:
        return "BAD_HEADER"
    if _NAME.fullmatch(name) is None:
        return "BAD_HEADER_NAME"
    refused = b"_" in name and not underscores
    return "UNDERSCORE_HEADER" if refused else "BAD_HEADER_VALUE"


def parser_reason(head: bytes) -> str:
    """The reason code of a head that passed `check_http1_head` and that llhttp refuses.

    What it refuses then is how the body is framed. Each kind of smuggling has its own word in the
    audit (RFC 9112, 6.1 and 6.3), so that an attempt can be told from a broken client.
    """
    lengths, codings = _values(head, b"content-length"), _values(head, b"transfer-encoding")
    if lengths and codings:
        return "CL_TE"
    if codings and codings != [b"chunked"]:
        return "TE"
    is_number = len(lengths) == 1 and lengths[0].isdigit() and len(lengths[0]) <= MAX_LENGTH_DIGITS
    return "BAD_HEADER" if is_number or not lengths else "CL"


def _values(head: bytes, sought: bytes) -> list[bytes]:
    lines = [line.partition(b":") for line in head.split(b"\r\n")[1:]]
    return [value.strip(b" \t") for name, _, value in lines if name.lower() == sought]
