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
from mk8s_proxy.listener.http1_head import check_http1_head, parser_reason, read_http1_head
from mk8s_proxy.listener.refusals import HeaderRefusal
from mk8s_proxy.listener.request_head import HEAD_BYTES, MAX_FIELDS, RequestHead, is_target

_KNOWN_BYTES: Final = 2048
"""Of a head that is remembered, behind its request line."""
_MOST_COUNTED: Final = _KNOWN_BYTES + (MAX_FIELDS + 1) * 32
"""What a remembered head counts at most, its target apart (see `request_head.head_bytes`)."""
_OLD_HEALTH_CHECK: Final = re.compile(rb"(?:GET|HEAD) (?:/livez|/readyz) (?=HTTP/1\.0\r\n)")
_AS_HTTP1_1: Final = b"HTTP/1.1\r\nHost: health.invalid\r\nConnection: close\r\n\r\n"
"""What a balancer's health check in HTTP/1.0 is read as: it needs none of its fields."""
_CHUNKED_HEAD: Final = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"


class Request(NamedTuple):
    """A request head, and what it says about its connection."""

    head: RequestHead
    keep_alive: bool
    """The client may send another request."""
    chunked: bool
    """The body comes in chunks."""


_known: Final[Memory[tuple[bytes, bytes], Request]] = Memory(4096, 24 << 20)
"""By method and by the bytes from the HTTP version on; without target. Buys 30 % of a request on
HTTP/1.1 with a new target (compiled 27 %)."""


def read_request(raw: bytes, limit: int = HEAD_BYTES, *, underscores: bool = False) -> Request:
    """Reads a whole head, blank line included, of at most `limit` bytes.

    Raises:
        HeaderRefusal: it is not one that mk8s takes.
    """
    method, _, rest = raw.partition(b" ")
    target, _, lines = rest.partition(b" ")
    known = _known.find((method, lines))
    if known is None:
        old = _OLD_HEALTH_CHECK.match(raw)
        if old is not None:
            return read_anew(old[0] + _AS_HTTP1_1, limit)
        request = read_anew(raw, limit, underscores=underscores)
        _remember(method, lines, request)
        return request
    if len(target) > limit - _MOST_COUNTED or not is_target(target):
        return read_anew(raw, limit, underscores=underscores)  # it knows the reason
    head = known.head
    return Request(RequestHead(head[0], target, *head[2:]), known.keep_alive, False)


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


def read_anew(raw: bytes, limit: int = HEAD_BYTES, *, underscores: bool = False) -> Request:
    """Reads a head as if no other had come before (see `read_request`)."""
    check_http1_head(raw, limit, underscores=underscores)
    parsed = _Parsed(raw)
    head = read_http1_head(
        parsed.method, parsed.target, parsed.fields, limit, underscores=underscores
    )
    chunked = any(name.lower() == b"transfer-encoding" for name, _ in parsed.fields)
    return Request(head, parsed.keep_alive, chunked)


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
