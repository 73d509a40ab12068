"""Heads of answers in HTTP/1.1, and in HTTP/1.0 for who asked in that; pure. Called by `http1`."""

from http import HTTPStatus
from typing import Final, NamedTuple

from mk8s_agent.wire.stream import Fields

_STATUS_LINES: Final = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}".encode("ascii")
    for status in HTTPStatus
}
_LENGTH: Final = b"\r\ncontent-length: "
_CHUNKED: Final = b"transfer-encoding: chunked\r\n"
_EMPTY: Final = b"content-length: 0\r\n"
_LAST: Final = b"connection: close\r\n"
_NOT_LAST: Final = b"connection: keep-alive\r\n"
_OLD: Final = b"HTTP/1.0"
_BODILESS: Final = (204, 304)


class AnswerHead(NamedTuple):
    """A head that is ready to be sent, and how its body goes."""

    lines: bytes
    chunked: bool
    keep_alive: bool
    """The connection outlives the answer; else the body may end where the connection does."""


def answer_head(
    code: int, fields: Fields, *, method: bytes, end: bool, keep_alive: bool, old: bool
) -> AnswerHead:
    """The head of an answer.

    Args:
        code: the status.
        fields: the fields that the client gets, status first.
        method: of the request.
        end: there is no body.
        keep_alive: the connection may take another request.
        old: the client speaks HTTP/1.0: no chunks, and it counts on a connection that stays open
            only where the answer says so (RFC 9112, 6.1 and 9.3).
    """
    lines = head_lines(code, fields)
    has_length = _LENGTH in lines
    chunked = not (end or has_length or code in _BODILESS or method == b"HEAD")
    if chunked:
        if old:
            chunked = keep_alive = False
        else:
            lines += _CHUNKED
    elif end and not has_length and code not in _BODILESS:
        lines += _EMPTY
    if not keep_alive:
        lines += _LAST
    if old:
        lines = _OLD + lines[len(_OLD) :] + (_NOT_LAST if keep_alive else b"")
    return AnswerHead(lines + b"\r\n", chunked, keep_alive)


def head_lines(code: int, fields: Fields) -> bytes:
    """Status line and header lines of an answer; `fields` begins with the status.

    No name and no value holds a line end: `response_headers` lets none through.
    """
    lines = list(map(b": ".join, fields))
    lines[0] = _STATUS_LINES.get(code) or b"HTTP/1.1 %d " % code
    lines.append(b"")
    return b"\r\n".join(lines)
