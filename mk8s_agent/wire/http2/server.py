"""The server role of an HTTP/2 connection: the peer opens streams, each with a request head.

Central is a server towards kubectl; an agent is one towards central, although the agent dialled.
"""

from typing import Final

from mk8s_agent.wire.compiled import mypyc_attr
from mk8s_agent.wire.hpack_codec import check_block
from mk8s_agent.wire.http2.connection import Http2Connection
from mk8s_agent.wire.http2.frames import (
    ACK,
    DEFAULT_WINDOW,
    HEADER_TABLE_SIZE,
    INITIAL_WINDOW_SIZE,
    MAX_CONCURRENT_STREAMS,
    MAX_FRAME_SIZE,
    MAX_HEADER_LIST_SIZE,
    MAX_STREAM_ID,
    PING,
    ErrorCode,
    frame,
    goaway,
    rst_stream,
    settings,
    window_update,
)
from mk8s_agent.wire.http2.outbound import Transport
from mk8s_agent.wire.limits import BufferBudget, Limits
from mk8s_agent.wire.stream import Fields, Stream
from mk8s_agent.wire.ticks import Ticks

LEAVE_SECONDS: Final = 10.0
"""How long a peer may take to answer that it has read of our leaving."""
_LEAVING: Final = b"leaving?"
"""What the PING says that asks for it."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Http2Server(Http2Connection):
    """Takes requests. Subclasses implement `on_request`."""

    __slots__ = ("_leaving",)

    def __init__(
        self, transport: Transport, ticks: Ticks, limits: Limits, buffers: BufferBudget
    ) -> None:
        super().__init__(transport, ticks, limits, buffers, server=True)
        self._leaving = -1.0
        """Seconds since `leave`; negative before."""
        self.outbound.put(
            settings(
                {
                    HEADER_TABLE_SIZE: limits.table_size,
                    MAX_CONCURRENT_STREAMS: limits.max_streams,
                    INITIAL_WINDOW_SIZE: limits.stream_window,
                    MAX_FRAME_SIZE: limits.max_frame,
                    MAX_HEADER_LIST_SIZE: limits.header_list_told or limits.header_list,
                }
            )
            + window_update(0, limits.connection_window - DEFAULT_WINDOW)
        )

    def on_block(self, stream_id: int, block: bytes, end: bool) -> None:
        """A request head, or trailers."""
        fields = self.decode(block)  # even a refused block: the decoder's table must follow
        check_block(block, fields)
        stream = self.accept(stream_id, fields, end)
        if stream is not None:
            self.on_request(stream, fields, end)

    def accept(self, stream_id: int, fields: Fields | None, end: bool) -> Stream | None:
        """The new stream of a head; None for trailers, and for a stream that is not taken.

        Args:
            fields: what the block says, or None where it is known to be a request head.
        """
        stream = self.streams.get(stream_id)
        if stream is not None:
            self.end_by_trailers(stream, fields, end)
            return None
        table = self.table
        if stream_id & 1 and stream_id > table.last_peer:
            table.last_peer = stream_id
        else:
            table.peer_opens(stream_id)  # raises, unless it crossed our reset
            return None
        if self.draining or len(self.streams) >= self.limits.max_streams:
            self.floods.spend_reset()
            table.expect_strays(stream_id)
            self.outbound.put(rst_stream(stream_id, ErrorCode.REFUSED_STREAM))
            return None
        window = self.outbound.initial_window
        stream = Stream(self, stream_id, window, self.limits.stream_window)
        stream.remote_closed = end
        self.streams[stream_id] = stream
        return stream

    def leave(self) -> None:
        """Drains in two steps, so that no stream is lost that crosses the news (RFC 9113, 6.8).

        The first GOAWAY refuses nothing. Once the peer has answered the PING behind it, all that it
        had sent before has come and was taken, and the last stream of the second one is true.
        """
        if self._leaving < 0.0 and not self.draining and not self.closed:
            self._leaving = 0.0
            self.outbound.put(goaway(MAX_STREAM_ID, ErrorCode.NO_ERROR))
            self.outbound.put(frame(PING, 0, 0, _LEAVING))

    def _on_ping(self, flags: int, payload: bytes) -> None:
        """The answer that `leave` waits for, or any other PING."""
        if flags & ACK and payload == _LEAVING and self._leaving >= 0.0:
            self.drain()
        else:
            super()._on_ping(flags, payload)

    def second(self, elapsed: float) -> None:
        """Once a second: a peer that does not answer is not waited for."""
        super().second(elapsed)
        if self._leaving >= 0.0:
            self._leaving += elapsed
            if self._leaving >= LEAVE_SECONDS:
                self.drain()

    def refuse_malformed(self, stream: Stream) -> None:
        """A malformed head, answered in words, is a stream error too (RFC 9113, 8.1.1)."""
        self.floods.spend_reset()
        if stream.local_closed and stream.remote_closed:
            self.outbound.put(rst_stream(stream.stream_id, ErrorCode.PROTOCOL_ERROR))
        else:
            self._cut(stream, ErrorCode.PROTOCOL_ERROR)

    def on_request(self, stream: Stream, fields: Fields, end: bool) -> None:
        """A new stream with its request head; `end` when it has no body."""
        raise AssertionError

    def relay_head(
        self, stream: Stream, block: bytes, end: bool, fields: Fields | None = None
    ) -> None:
        """Sends a response head as it is (see `Leg.relay_head`)."""
        if not stream.local_closed:
            stream.head_passed = True
            self.outbound.send_headers(stream, block, end)
