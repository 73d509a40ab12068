r"""An HTTP/1.1 request head: its raw bytes, strict where parsers differ, and what it says.

Called by the HTTP/1.1 connection, with the raw bytes before they go to llhttp, which is lenient
about some of this, and with the fields behind it; pure. Bytes that pass have one reading: CRLF line
ends only, `METHOD target HTTP/1.1`, then `Name: value` lines with token names and no control bytes,
then the blank line (RFC 9112, 2.2, 5). The good path is one regular expression without
backtracking; `_reason` only names the fault.
"""

import re
from typing import Final

from mk8s_proxy.listener.header_names import HTTP1_ACTIONS
from mk8s_proxy.listener.refusals import HeaderRefusal
from mk8s_proxy.listener.request_head import (
    HEAD_BYTES,
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

_REQUEST: Final = rb"(?:GET|HEAD|POST|PUT|PATCH|DELETE) [!-~]++ HTTP/1\.1\r\n"
_FIELD: Final = rb"[!#$%&'*+.^`|~0-9A-Za-z-]++:[\t -~\x80-\xff]*+"
_UNDERSCORED_FIELD: Final = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]++:[\t -~\x80-\xff]*+"
_HEAD: Final = re.compile(_REQUEST + rb"(?:" + _FIELD + rb"\r\n)*+\r\n")
_UNDERSCORED_HEAD: Final = re.compile(_REQUEST + rb"(?:" + _UNDERSCORED_FIELD + rb"\r\n)*+\r\n")
_REQUEST_LINE: Final = re.compile(rb"([^ ]+) ([!-~]+) (HTTP/[0-9]\.[0-9])")
_LINE: Final = re.compile(_FIELD)
_UNDERSCORED_LINE: Final = re.compile(_UNDERSCORED_FIELD)
_NAME: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_BARE_CR: Final = re.compile(rb"\r(?!\n)")
_BARE_LF: Final = re.compile(rb"(?<!\r)\n")
_END: Final = b"\r\n\r\n"


def check_http1_head(head: bytes, limit: int = HEAD_BYTES, *, underscores: bool = False) -> None:
    """Refuse a request head that two parsers could read differently.

    Args:
        head: the raw bytes up to and including the blank line, and nothing after it.
        limit: raw bytes of a head; the count with overhead in `request_head` is stricter still.
        underscores: whether names may hold one.

    Raises:
        HeaderRefusal: with the reason of the first fault.
    """
    if len(head) > limit:
        raise HeaderRefusal("HEADER_TOO_LARGE")
    if (_UNDERSCORED_HEAD if underscores else _HEAD).fullmatch(head) is None:
        raise HeaderRefusal(_reason(head, underscores=underscores))


def read_http1_head(
    method: bytes,
    target: bytes,
    fields: list[Field],
    limit: int = HEAD_BYTES,
    *,
    underscores: bool = False,
) -> RequestHead:
    """Read the head of an HTTP/1.1 request whose raw bytes passed `check_http1_head`.

    Args:
        method: as in the request line.
        target: as in the request line, undecoded.
        fields: names in any case and values, in the order received.
        limit: bytes of the head, counted as `head_bytes` does.
        underscores: whether names may hold one.

    Raises:
        HeaderRefusal: the head breaks RFC 9112 or a rule of ours.
    """
    fields = [(name.lower(), value.strip(b" \t")) for name, value in fields]
    check_request_line(method, target)
    check_bytes([*fields, (method, target)], limit)
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
    if version != b"HTTP/1.1":
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
