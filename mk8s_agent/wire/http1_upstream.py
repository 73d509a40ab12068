"""The client role of HTTP/1.1.

For upgrades to an API server, API servers without HTTP/2, and central's management API. One
connection carries one request at a time; `on_idle` offers it back for the next one. After a 101
with the protocol that was asked for, the connection is two byte streams and nothing else.
"""

# compiled: every byte of an HTTP/1.1 answer

import logging
from collections.abc import Callable
from typing import Final

import httptools

from mk8s_agent.wire import headers, hpack_codec
from mk8s_agent.wire.chunk_lines import ChunkLines, ChunkLineTooLong
from mk8s_agent.wire.http1_leg import Http1Leg, PausableTransport
from mk8s_agent.wire.http2.frames import ErrorCode
from mk8s_agent.wire.limits import KIB, BufferBudget
from mk8s_agent.wire.stream import Fields, Stream, join, part
from mk8s_agent.wire.ticks import Ticks

log = logging.getLogger(__name__)

_HEAD_BYTES: Final = 128 * KIB
"""Of one answer, informational heads included. kube-apiserver's have about 500 bytes; what is taken
here has to fit into a block of the tunnel, which costs more than one connection."""
_HEAD_END: Final = b"\r\n\r\n"
_BODILESS: Final = frozenset({b"GET", b"HEAD"})


class UpstreamError(Exception):
    """The upstream's answer cannot be relayed."""


class Http1Upstream(Http1Leg):
    """One connection to an HTTP/1.1 server.

    Args:
        on_idle: called when a request is over and the connection can take another one.
        on_lost: called once when the connection is gone.
    """

    def __init__(
        self,
        transport: PausableTransport,
        ticks: Ticks,
        buffers: BufferBudget,
        *,
        on_idle: Callable[["Http1Upstream"], None],
        on_lost: Callable[["Http1Upstream"], None],
    ) -> None:
        super().__init__(transport, ticks, buffers)
        self._on_idle = on_idle
        self._on_lost = on_lost
        self._upgrade = b""
        self._switched = False
        self._method = b""
        self._parser = httptools.HttpResponseParser(self)
        """For all answers in turn: behind a whole one it expects the next."""
        self._reset_exchange()

    def _reset_exchange(self) -> None:
        self._fields: Fields = []
        self._head_bytes = 0
        self._head_tail = b""
        self._head_done = False
        self._lines: ChunkLines | None = None
        self._until_close = False
        self._over = False

    # -- request

    def send_request(
        self,
        front: Stream,
        method: bytes,
        target: bytes,
        fields: Fields,
        *,
        length: int,
        end: bool,
        upgrade: bytes = b"",
    ) -> None:
        """Writes a request head and joins `front` to this connection.

        Args:
            front: the stream that gets the answer.
            fields: all headers but content-length, transfer-encoding, connection and upgrade.
            length: of the body in bytes; -1 when unknown.
            end: there is no body.
            upgrade: the protocol to switch to, b"" for none.
        """
        stream = Stream(self, 1, 0, 0)
        join(front, stream)
        self.stream = stream
        self._method = method
        self._upgrade = upgrade
        self._chunked = not end and length < 0 and not upgrade
        lines = [b"%b %b HTTP/1.1" % (method, target), *map(b": ".join, fields), b""]
        self._put(b"\r\n".join(lines) + self._framing(length))
        if end and not upgrade:
            stream.local_closed = True

    def _framing(self, length: int) -> bytes:
        """The end of the head: how the body is framed, and the protocol to switch to."""
        head = b""
        if self._upgrade:
            head = b"Connection: Upgrade\r\nUpgrade: " + self._upgrade + b"\r\n"
        if self._chunked:
            return head + b"Transfer-Encoding: chunked\r\n\r\n"
        if length > 0 or self._method not in _BODILESS:
            head += b"Content-Length: %d\r\n" % max(length, 0)
        return head + b"\r\n"

    def _may_send(self) -> bool:
        return not self._upgrade or self._switched

    def _message_sent(self, stream: Stream) -> None:
        if self._switched:
            self.flush()
            self.transport.close()

    # -- response

    def receive(self, data: bytes) -> None:
        """Takes bytes of the upstream; anything that is not HTTP ends this connection only."""
        if self._switched:
            self._pass_on(data, end=False)
            return
        try:
            self._feed(data)
        except (httptools.HttpParserError, ChunkLineTooLong, UpstreamError) as error:
            self._over = False
            self._fail(f"invalid answer: {error.__context__ or error}")
        if self._over:
            self._offer()

    @property
    def heard(self) -> bool:
        """Whether anything of the answer in progress has come."""
        return self._head_bytes > 0

    def _feed(self, data: bytes) -> None:
        """Gives llhttp one head after another, and then all of the body in one."""
        while data:
            piece = data
            if self._head_done:
                if self._lines is not None:
                    self._lines.feed(data)
            else:
                end = (self._head_tail + data).find(_HEAD_END)
                if end >= 0:
                    piece = data[: end + len(_HEAD_END) - len(self._head_tail)]
                self._head_tail = (self._head_tail + piece)[1 - len(_HEAD_END) :]
                self._head_bytes += len(piece)
            try:
                self._parser.feed_data(piece)
            except httptools.HttpParserUpgrade as switched:
                self._after_switch(data[switched.args[0] :])
                return
            if not self._head_done and self._head_bytes > _HEAD_BYTES:
                raise UpstreamError("the head is too long")
            data = data[len(piece) :]

    def _after_switch(self, data: bytes) -> None:
        """httptools stopped at an upgrade; `data` came behind the head."""
        if self._switched:
            self._pass_on(data, end=False)
        else:
            self._fail("the upstream switched protocols unasked")

    def on_message_begin(self) -> None:
        """httptools: an answer begins; behind a whole one it answers nothing that was asked."""
        if self._over:
            raise UpstreamError("bytes behind the answer")

    def on_header(self, name: bytes, value: bytes) -> None:
        """httptools: one header field."""
        self._fields.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """httptools: the head is complete."""
        if self.stream is None:
            raise UpstreamError("an answer without a request")
        status = self._parser.get_status_code()
        fields, self._fields = self._fields, []
        if status == 101:
            self._switch(fields)
        elif status >= 200:
            self._relay_head(status, fields)

    def _switch(self, fields: Fields) -> None:
        """101: from here on bytes, but only in the protocol that was asked for."""
        answered = [value for name, value in fields if name == b"upgrade"]
        if not self._upgrade or [value.lower() for value in answered] != [self._upgrade.lower()]:
            raise UpstreamError("101 with another protocol than the one asked for")
        stream = self.stream
        assert stream is not None
        self._head_done = True
        self._switched = True
        head = [(b":status", b"200"), (headers.UPGRADE, self._upgrade)]
        self._relay(stream, head, fields, end=False)
        self._send_pending()

    def _relay_head(self, status: int, fields: Fields) -> None:
        if self._upgrade and 300 <= status < 400:
            raise UpstreamError(f"status {status} to an upgrade request")
        stream = self.stream
        assert stream is not None
        self._head_done = True
        names = {name for name, _ in fields}
        bodiless = status in (204, 304) or self._method == b"HEAD"
        if b"transfer-encoding" in names:
            self._lines = ChunkLines()
        framed = b"content-length" in names or b"transfer-encoding" in names
        self._until_close = not bodiless and not framed
        self._relay(stream, [(b":status", b"%d" % status)], fields, end=bodiless)
        if self._method == b"HEAD":
            stream.remote_closed = True
            self._until_close = True  # the parser expects a body: this connection is not used again
            self._finish()

    def _relay(self, stream: Stream, head: Fields, fields: Fields, *, end: bool) -> None:
        kept = head + [
            (name, value)
            for name, value in fields
            if name not in headers.HOP_BY_HOP and not name.startswith(headers.INTERNAL_PREFIX)
        ]
        peer = stream.peer
        if end:
            stream.remote_closed = True
        if peer is not None:
            peer.connection.relay_head(peer, hpack_codec.block(kept), end, kept)

    def on_body(self, data: bytes) -> None:
        """httptools: a piece of the body, already without its framing."""
        self._pass_on(data, end=False)

    def on_message_complete(self) -> None:
        """httptools: the answer is complete."""
        stream = self.stream
        if stream is None or self._switched or not self._head_done:
            return
        if not stream.remote_closed:
            self._pass_on(b"", end=True)
        self._finish()

    def _finish(self) -> None:
        """The exchange is over; the connection is offered for another one if both sides agree."""
        stream = self.stream
        assert stream is not None
        reusable = stream.local_closed and not self._until_close and not self._upgrade
        reusable = reusable and self._parser.should_keep_alive()
        self.stream = None
        part(stream)
        self._drop_pending(stream)
        self._read_again()
        if reusable and not self.closed:
            self._over = True  # offered once what was read with it has been looked at
        else:
            self.flush()
            self.transport.close()

    def _offer(self) -> None:
        self._reset_exchange()
        self._on_idle(self)

    # -- endings

    def reset(self, stream: Stream, code: int) -> None:
        """The peer is gone: an HTTP/1.1 request is cancelled by closing its connection."""
        stream.peer = None
        if stream is self.stream:
            self.stream = None
            self._drop_pending(stream)
            self.transport.abort()

    def _abandon(self, stream: Stream, code: int) -> None:
        peer = part(stream)
        self.reset(stream, code)
        if peer is not None:
            peer.connection.reset(peer, code)

    def _fail(self, reason: str) -> None:
        log.warning("upstream.failed", extra={"reason": reason})
        if self.stream is not None:
            self._abandon(self.stream, ErrorCode.PROTOCOL_ERROR)
        else:
            self.transport.abort()

    def connection_lost(self) -> None:
        """The socket is gone: an unfinished answer must not look complete."""
        if self.closed:
            return
        self.closed = True
        stream, self.stream = self.stream, None
        if stream is not None:
            self._drop_pending(stream)
            peer = part(stream)
            if peer is not None and (self._switched or self._ended_by_close()):
                peer.connection.send_data(peer, b"", 0, True)
            elif peer is not None:
                peer.connection.reset(peer, ErrorCode.INTERNAL_ERROR)
        self._on_lost(self)

    def _ended_by_close(self) -> bool:
        """An answer without a length ends where its server says that it closes (RFC 9112, 6.3).

        kube-apiserver refuses WebSocket upgrades with such answers.
        """
        return self._until_close and self._head_done and self.transport.clean_end
