"""Reads what a client sends on HTTP/1.1: whole request heads, and chunked bodies.

Used by `http1`. A head is checked byte by byte before llhttp sees it, so that nothing depends on
a parser's leniency, and both must take it.

Clients repeat themselves: behind the request line, a program sends the same lines again and again.
What a head meant is remembered by its method and those bytes, and the next one with the same bytes
is not taken apart again. That is sound because a head is read line by line: with another target it
means the same but for the target. Whatever is not certain goes the long way, which alone refuses.
"""

import re
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import httptools

from mk8s_agent.wire.chunk_lines import ChunkLines, ChunkLineTooLong
from mk8s_agent.wire.memory import Memory
from mk8s_proxy.listener.head_limits import HEAD_LIMITS, MAX_FIELDS, HeadLimits
from mk8s_proxy.listener.http1_head import check_http1_head, parser_reason, read_http1_head
from mk8s_proxy.listener.refusals import HeaderRefusal
from mk8s_proxy.listener.request_head import RequestHead, is_target

_KNOWN_BYTES: Final = 2048
"""Of a head that is remembered, behind its request line."""
_MOST_COUNTED: Final = _KNOWN_BYTES + (MAX_FIELDS + 1) * 32
"""What a remembered head counts at most, its target apart (see `request_head.head_bytes`)."""
_OLD_HEALTH_CHECK: Final = re.compile(rb"(?:GET|HEAD) (?:/livez|/readyz) HTTP/1\.0\r\n")
_ITS_END: Final = b"Connection: close\r\n\r\n"
"""Of a balancer's health check nothing else is read: it needs none of its fields."""
_OLD: Final = b"HTTP/1.0"
_NO_HOST: Final = (b"host", b"host.invalid")
"""Stands for the field that HTTP/1.0 does not demand (RFC 9112, 3.2): it addresses no cluster."""
_CHUNKED_HEAD: Final = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"


class Request(NamedTuple):
    """A request head, and what it says about its connection."""

    head: RequestHead
    keep_alive: bool
    """The client may send another request."""
    chunked: bool
    """The body comes in chunks."""
    old: bool = False
    """It came in HTTP/1.0, and must be answered so: without chunks."""


_known: Final[Memory[tuple[bytes, bytes], Request]] = Memory(4096, 24 << 20)
"""By method and by the bytes from the HTTP version on; without target. Buys 30 % of a request on
HTTP/1.1 with a new target (compiled 27 %)."""


def read_request(
    raw: bytes, limits: HeadLimits = HEAD_LIMITS, *, underscores: bool = False
) -> Request:
    """Reads a whole head, blank line included, within `limits`.

    Raises:
        HeaderRefusal: it is not one that mk8s takes.
    """
    method, _, rest = raw.partition(b" ")
    target, _, lines = rest.partition(b" ")
    known = _known.find((method, lines))
    if known is None:
        check = _OLD_HEALTH_CHECK.match(raw)
        if check is not None:
            return read_anew(check[0] + _ITS_END, limits)
        request = read_anew(raw, limits, underscores=underscores)
        _remember(method, lines, request)
        return request
    tight = limits.fields < _MOST_COUNTED
    if tight or len(target) > limits.target or not is_target(target):
        return read_anew(raw, limits, underscores=underscores)  # it knows the reason
    head = known.head
    return Request(RequestHead(head[0], target, *head[2:]), known.keep_alive, False, known.old)


def _remember(method: bytes, lines: bytes, request: Request) -> None:
    """Keeps a head without a body: most have none, and the others differ in their length."""
    head = request.head
    if request.chunked or head.content_length > 0 or head.upgrade or len(lines) > _KNOWN_BYTES:
        return
    kept = request._replace(head=head._replace(target=b""))
    _known.keep((method, lines), kept, 3 * len(lines) + 1024)


class _Parsed:
    """What llhttp reads in one head."""

    def __init__(self, raw: bytes) -> None:
        self.target = b""
        self.fields: list[tuple[bytes, bytes]] = []
        self.keep_alive = False
        self._parser: Any = httptools.HttpRequestParser(self)
        try:
            self._parser.feed_data(raw)
        except httptools.HttpParserUpgrade:
            pass  # the head is complete; the handler chain decides about the upgrade
        except httptools.HttpParserError as error:
            raise HeaderRefusal(parser_reason(raw)) from error
        self.method: bytes = self._parser.get_method()
        self._parser = None  # each holds the other

    def on_url(self, url: bytes) -> None:
        """httptools: a part of the request target."""
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """httptools: one header field."""
        self.fields.append((name, value))

    def on_headers_complete(self) -> None:
        """httptools: the head is complete; a moment later the parser has forgotten what it said."""
        self.keep_alive = self._parser.should_keep_alive()


def read_anew(
    raw: bytes, limits: HeadLimits = HEAD_LIMITS, *, underscores: bool = False
) -> Request:
    """Reads a head as if no other had come before (see `read_request`)."""
    check_http1_head(raw, limits, underscores=underscores)
    parsed = _Parsed(raw)
    old = raw[: raw.index(b"\r\n")].endswith(_OLD)
    if old and not any(name.lower() == b"host" for name, _ in parsed.fields):
        parsed.fields.append(_NO_HOST)
    head = read_http1_head(
        parsed.method, parsed.target, parsed.fields, limits, underscores=underscores
    )
    chunked = any(name.lower() == b"transfer-encoding" for name, _ in parsed.fields)
    if old and head.expects_continue:  # it waits for nothing (RFC 9110, 10.1.1)
        head = head._replace(expects_continue=False)
    return Request(head, parsed.keep_alive, chunked, old)


class BadChunk(Exception):
    """A body's framing is broken."""


class ChunkedBody:
    """Takes the framing off one chunked body.

    Args:
        on_data: gets the body piece by piece.
    """

    def __init__(self, on_data: Callable[[bytes], None]) -> None:
        self.done = False
        """The last chunk came."""
        self.more = False
        """Something came behind it: pipelining, which is not supported here."""
        self.on_body = on_data
        self._lines = ChunkLines()
        self._parser = httptools.HttpRequestParser(self)
        self._parser.feed_data(_CHUNKED_HEAD)

    def feed(self, data: bytes) -> None:
        """Takes bytes from the socket.

        Raises:
            BadChunk: they are no chunks.
        """
        try:
            self._lines.feed(data)
            self._parser.feed_data(data)
        except (httptools.HttpParserError, ChunkLineTooLong) as error:
            raise BadChunk from error

    def on_message_complete(self) -> None:
        """httptools: the last chunk and its trailers came."""
        self.done = True

    def on_message_begin(self) -> None:
        """httptools: the canned head, or what came behind the body."""
        self.more = self.done
