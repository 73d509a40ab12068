"""The client role of an HTTP/2 connection: this end opens streams, the peer answers on them.

Central is a client towards agents; an agent is one towards its API server.
"""

from typing import Final

from mk8s_agent.wire.compiled import mypyc_attr
from mk8s_agent.wire.hpack_codec import HpackError, check_block
from mk8s_agent.wire.http2.connection import Http2Connection
from mk8s_agent.wire.http2.frames import (
    DEFAULT_WINDOW,
    ENABLE_PUSH,
    HEADER_TABLE_SIZE,
    INITIAL_WINDOW_SIZE,
    MAX_FRAME_SIZE,
    MAX_HEADER_LIST_SIZE,
    MAX_STREAM_ID,
    MAX_WINDOW,
    PREFACE,
    ErrorCode,
    settings,
    window_update,
)
from mk8s_agent.wire.http2.losses import lose
from mk8s_agent.wire.http2.outbound import Transport
from mk8s_agent.wire.limits import BufferBudget, Limits
from mk8s_agent.wire.stream import AWAITING_HEAD, STAGED, Fields, Stream, forget_pending, part
from mk8s_agent.wire.ticks import Ticks

_LAST_STREAM = MAX_STREAM_ID - 2_000
"""Stream ids are never reused; a connection that ran out of them drains long before the end."""

_INFORMATIONAL: Final = 32
"""Heads of status 1xx before the final one (Go's clients: as many as fit into the size of a head).
A pod may send any number, and each costs work."""

_SILENT_SECONDS = 10.0
"""After so long without a byte the peer is asked for a sign of life."""

_LOST_SECONDS = 25.0
"""After so long without one the connection is taken for dead (Go's clients: 30 + 15 s)."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Http2Client(Http2Connection):
    """Opens streams. Subclasses implement `on_response`."""

    __slots__ = ("longest_head",)

    def __init__(
        self, transport: Transport, ticks: Ticks, limits: Limits, buffers: BufferBudget
    ) -> None:
        super().__init__(transport, ticks, limits, buffers, server=False)
        self.longest_head = MAX_WINDOW
        """Bytes of a request's head that the peer takes, counted as RFC 9113, 6.5.2 says."""
        self.outbound.put(
            PREFACE
            + settings(
                {
                    HEADER_TABLE_SIZE: limits.table_size,
                    ENABLE_PUSH: 0,
                    INITIAL_WINDOW_SIZE: limits.stream_window,
                    MAX_FRAME_SIZE: limits.max_frame,
                    MAX_HEADER_LIST_SIZE: limits.header_list,
                }
            )
            + window_update(0, limits.connection_window - DEFAULT_WINDOW)
        )

    def _apply_setting(self, key: int, value: int) -> None:
        if key == MAX_HEADER_LIST_SIZE:
            self.longest_head = value
        super()._apply_setting(key, value)

    @property
    def available(self) -> bool:
        """Whether a new stream may be opened here."""
        return (
            self.ready
            and not self.draining
            and not self.closed
            and len(self.streams) < self.peer_max_streams
            and self.table.next_own < _LAST_STREAM
        )

    @property
    def starting(self) -> bool:
        """The peer's first SETTINGS have not arrived yet."""
        return not self.ready and not self.closed

    def prepare(self) -> Stream:
        """A stream without an id: its body waits until `open_prepared` sends the head."""
        stream = Stream(self, STAGED, -1, self.limits.stream_window)
        stream.length_left = AWAITING_HEAD
        return stream

    def open_prepared(self, stream: Stream, block: bytes) -> None:
        """Sends the request head of a prepared stream, and the part of the body that waited."""
        stream.stream_id = self.table.next_own
        self.table.next_own += 2
        self.streams[stream.stream_id] = stream
        stream.send_window = self.outbound.initial_window
        end = stream.end_queued and not stream.pending_bytes
        if end:
            stream.pending = None
        self.outbound.send_headers(stream, block, end)
        if stream.pending is not None:
            self.outbound.start_pending(stream)

    def open_joined(self, front: Stream, block: bytes, end: bool) -> None:
        """Opens a stream as the other half of `front`, where nothing has to wait for its head."""
        stream_id = self.table.next_own
        self.table.next_own = stream_id + 2
        outbound = self.outbound
        stream = Stream(self, stream_id, outbound.initial_window, self.limits.stream_window)
        stream.length_left = AWAITING_HEAD
        stream.share = front.share
        self.streams[stream_id] = stream
        front.peer, stream.peer = stream, front
        outbound.send_headers(stream, block, end)

    def adopt(self, stream: Stream) -> None:
        """Takes a prepared stream of another connection with the same limits: `open_prepared`
        then opens it here, with what has waited of its body."""
        stream.connection = self

    def discard_prepared(self, stream: Stream) -> None:
        """Forgets a prepared stream whose head will not be sent."""
        part(stream)
        stream.local_closed = stream.remote_closed = True
        forget_pending(stream, self._buffers)

    def on_block(self, stream_id: int, block: bytes, end: bool) -> None:
        """A response head, or trailers. Blocks of streams that were reset here are dropped."""
        stream = self.streams.get(stream_id)
        answered = stream is not None and stream.head_passed
        if stream is None:
            self.table.check_not_idle(stream_id)
            self.floods.spend()
        elif answered:
            self.end_by_trailers(stream, self._read_trailers(block), end)
        else:
            stream.remote_closed = end
            self.on_response(stream, block, end)
            if stream_id not in self.streams:
                return
            if not stream.head_passed:
                self._on_informational(stream, end)
                return
            if stream.length_left >= AWAITING_HEAD:
                stream.length_left = -1
            if end and stream.local_closed:
                self.drop(stream)

    def on_long_block(self, stream_id: int) -> None:
        """Without a table a block can be dropped unread: that is its own stream's loss only."""
        if self.limits.table_size:
            super().on_long_block(stream_id)
        stream = self.streams.get(stream_id)
        if stream is not None:
            self.refuse_answer(stream, "its head is too large")
        else:
            self.table.check_not_idle(stream_id)
            self.floods.spend()

    def refuse_answer(self, stream: Stream, reason: str) -> None:
        """Ends a stream whose answer cannot be relayed. Subclasses may say why."""
        self.stream_error(stream, ErrorCode.PROTOCOL_ERROR)

    def _read_trailers(self, block: bytes) -> Fields | None:
        """None for what cannot be read: without a table that is its own stream's loss only."""
        try:
            fields = self.decode(block)
            check_block(block, fields)
        except HpackError:
            return None
        return fields

    def _on_informational(self, stream: Stream, end: bool) -> None:
        """A head before the final one: it ends nothing, and there is a limit."""
        stream.length_left += 1
        if end:
            stream.remote_closed = False
            self.stream_error(stream, ErrorCode.PROTOCOL_ERROR)
        elif stream.length_left > AWAITING_HEAD + _INFORMATIONAL:
            self.refuse_answer(stream, "too many heads before the final one")

    def on_response(self, stream: Stream, block: bytes, end: bool) -> None:
        """A response head, possibly an informational one; sets `head_passed` when it is not."""
        raise AssertionError

    def second(self, elapsed: float) -> None:
        """Once a second: notices a server that is gone without a word."""
        super().second(elapsed)
        if self.health.silent_seconds >= _LOST_SECONDS and not self.closed:
            self._abort("no sign of life from the peer")
        elif self.health.silent_seconds >= _SILENT_SECONDS:
            self.ping()

    def on_goaway(self, last_stream_id: int, *, first: bool) -> None:
        """Streams that the peer will not process may be tried again elsewhere."""
        for stream in list(self.streams.values()):
            if stream.stream_id > last_stream_id:
                lose(stream, ErrorCode.REFUSED_STREAM)
