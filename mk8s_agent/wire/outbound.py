"""The sending half of an HTTP/2 connection: windows, waiting streams, one write per tick.

`http2.Http2Connection` adds the receiving half. Data is never copied here: a relayed body leaves
as the slices in which it arrived, behind new nine-byte headers, and neighbours of one stream
grow into one frame.
"""

import logging
import time
from collections import deque
from typing import Protocol

from mk8s_agent.wire.compiled import mypyc_attr
from mk8s_agent.wire.frames import (
    CONTINUATION,
    DATA,
    DEFAULT_MAX_FRAME,
    DEFAULT_WINDOW,
    END_HEADERS,
    END_STREAM,
    FRAME_HEADER_BYTES,
    HEADERS,
    ErrorCode,
    frame,
    pack_header,
    window_update,
)
from mk8s_agent.wire.limits import (
    EARLY,
    FAR_SECONDS,
    HIGH_WATER,
    QUANTUM,
    SMALL,
    WIDER,
    BufferBudget,
    Limits,
)
from mk8s_agent.wire.stream import STAGED, Bytes, Stream, forget_pending, keep_pending
from mk8s_agent.wire.ticks import Ticks

log = logging.getLogger(__name__)


class Transport(Protocol):
    """The socket of a connection, as `wire.transport` implements it."""

    def write(self, data: bytes) -> bool:
        """Queues bytes for the socket; True when so many wait that the writer should pause."""

    def close(self) -> None:
        """Closes once everything written has left."""

    def abort(self) -> None:
        """Closes at once."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Outbound:
    """What an HTTP/2 connection sends.

    A stream whose bytes do not fit its window, the connection's window or the socket's buffer
    waits in a round robin. What waits is bounded by the windows its sender was given and, over
    all connections, by the `BufferBudget`.
    """

    __slots__ = (
        "_block_prefix", "_blocked", "_buffers", "_control_budget", "_initial_window", "_learned",
        "_marked", "_open_index", "_open_size", "_open_stream", "_out", "_out_bytes",
        "_peer_max_frame", "_progress", "_send_window", "_ticks", "_waiting", "closed", "limits",
        "round_trip", "streams", "transport",
    )  # fmt: skip

    def __init__(
        self, transport: Transport, ticks: Ticks, limits: Limits, buffers: BufferBudget
    ) -> None:
        self.transport = transport
        self.limits = limits
        self.streams: dict[int, Stream] = {}
        self.closed = False
        self.round_trip = 0.0
        """Seconds to the peer and back, by PING; 0 while unknown."""
        self._learned = 0
        """The window that a stream to this peer has needed: the next one need not find it out."""
        self._ticks = ticks
        self._buffers = buffers
        self._out: list[Bytes] = []
        self._out_bytes = 0
        self._marked = False
        self._blocked = False
        self._progress = True
        self._send_window = DEFAULT_WINDOW
        self._initial_window = DEFAULT_WINDOW
        self._peer_max_frame = DEFAULT_MAX_FRAME
        self._waiting: deque[Stream] | None = None
        """There while somebody waits: an empty one would take more than all else here."""
        self._control_budget = limits.control_frames
        self._block_prefix = b""
        # the DATA frame at the end of _out that may still grow: its stream, index and size
        self._open_stream = 0
        self._open_index = 0
        self._open_size = 0

    # -- what the tick writes

    def flush(self) -> None:
        """Writes all queued frames at once; called by `Ticks` at the end of a tick."""
        self._marked = False
        out = self._out
        if not out or self.closed:
            return
        self._write_out()
        if self._waiting and not self._blocked:
            self._pump()

    def _write_out(self) -> None:
        """Hands all that is queued to the socket."""
        out = self._out
        self._out = []
        self._out_bytes = 0
        self._open_stream = 0
        self._blocked = self.transport.write(b"".join(out))
        if not self._blocked:
            self._progress = True  # not before: answers to PINGs leave although nobody reads

    def _write_early(self) -> None:
        """As `flush`, but in the turn of the connection that the bytes came from."""
        try:
            self._write_out()
        except Exception:  # costs this connection, not the other one
            log.exception("connection.crashed", extra={"peer": repr(self)})
            self.transport.abort()

    def writable(self) -> None:
        """The socket's buffer has drained; called by the transport."""
        self._blocked = False
        self._progress = True
        if self._waiting:
            self._pump()

    def _put(self, data: bytes) -> None:
        self._out.append(data)
        self._out_bytes += len(data)
        self._open_stream = 0
        if not self._marked:
            self._mark()

    def _mark(self) -> None:
        self._marked = True
        self._ticks.mark(self)

    # -- heads

    def send_headers(self, stream: Stream, block: bytes, end: bool) -> None:
        """Sends a header block on an open stream, in CONTINUATION frames where it is long."""
        if self._block_prefix:
            block, self._block_prefix = self._block_prefix + block, b""
        size = len(block)
        if size <= self._peer_max_frame:
            flags = END_HEADERS | END_STREAM if end else END_HEADERS
            self._put(pack_header(size >> 8, size & 255, HEADERS, flags, stream.stream_id) + block)
        else:
            self._put_in_frames(stream.stream_id, block, END_STREAM if end else 0)
        if end:
            stream.local_closed = True
            if stream.remote_closed:
                self._drop(stream)

    def _put_in_frames(self, stream_id: int, block: bytes, closing: int) -> None:
        most = self._peer_max_frame
        self._put(frame(HEADERS, closing, stream_id, block[:most]))
        for start in range(most, len(block), most):
            flags = END_HEADERS if start + most >= len(block) else 0
            self._put(frame(CONTINUATION, flags, stream_id, block[start : start + most]))

    # -- bodies

    def send_data(self, stream: Stream, data: Bytes, size: int, end: bool) -> None:
        """Sends or queues `size` bytes of a body (see `Leg.send_data`)."""
        if stream.local_closed or stream.end_queued:
            return
        if (
            stream.pending is None
            and size <= stream.send_window
            and size <= self._send_window
            and not self._blocked
        ):
            self._emit(stream, data, size, end)
            if self._out_bytes >= EARLY:
                self._write_early()
            return
        self._queue(stream, data, size, end)

    def _queue(self, stream: Stream, data: Bytes, size: int, end: bool) -> None:
        if self._buffers.used + size > self._buffers.limit:
            self.end_both(stream, ErrorCode.ENHANCE_YOUR_CALM)
            return
        keep_pending(stream, self._buffers, data, size, end=end)
        if stream.stream_id == STAGED:
            return
        self._wait(stream)
        if not self._blocked:
            self._pump()

    def _wait(self, stream: Stream) -> None:
        """Gives the stream a place in the round robin; a short first answer goes in front."""
        if stream.waiting:
            return
        stream.waiting = True
        if self._waiting is None:
            self._waiting = deque((stream,))
        elif stream.sent == 0 and stream.pending_bytes <= SMALL:
            self._waiting.appendleft(stream)
        else:
            self._waiting.append(stream)

    def _pump(self) -> None:
        """Lets waiting streams send in turn while the windows and the socket take it."""
        waiting = self._waiting
        if waiting is None:
            return
        turns = len(waiting)
        while turns and not self._blocked:
            turns -= 1
            stream = waiting.popleft()
            stream.waiting = False
            if stream.pending is None:
                continue
            if self._send_pending(stream, stream.pending):
                waiting.append(stream)
                stream.waiting = True
                turns += self._send_window > 0
            if self._out_bytes > HIGH_WATER:
                self._blocked = True
        if not waiting:
            self._waiting = None

    def _send_pending(self, stream: Stream, pending: deque[Bytes]) -> bool:
        """One stream's turn. True when it has more to send and its own window allows it."""
        quota = QUANTUM
        while pending and quota > 0:
            window = min(stream.send_window, self._send_window)
            if window <= 0:
                return stream.send_window > 0
            data = pending.popleft()
            size = len(data)
            if size > window:
                view = memoryview(data)
                pending.appendleft(view[window:])
                data, size = view[:window], window
            stream.pending_bytes -= size
            self._buffers.used -= size
            quota -= size
            self._emit(stream, data, size, stream.end_queued and not pending)
        if pending:
            return True
        stream.pending = None
        if stream.end_queued and not stream.local_closed:
            self._emit(stream, b"", 0, True)
        return False

    def _emit(self, stream: Stream, data: Bytes, size: int, end: bool) -> None:
        """Puts DATA out. The windows were checked; the sender gets its credit back."""
        stream.send_window -= size
        self._send_window -= size
        stream.sent += size
        self._control_budget += 1 + (size >> 10)
        self._add_frame(stream.stream_id, data, size, END_STREAM if end else 0)
        if not self._marked:
            self._mark()
        if size and stream.peer is not None:
            stream.peer.connection.grant(stream.peer, size)
        if end:
            stream.local_closed = True
            if stream.remote_closed:
                self._drop(stream)

    def _add_frame(self, stream_id: int, data: Bytes, size: int, closing: int) -> None:
        """One frame of DATA, or some more in the stream's frame that came just before."""
        out = self._out
        whole = self._open_size + size
        if self._open_stream == stream_id and whole <= self._peer_max_frame:
            out[self._open_index] = pack_header(whole >> 8, whole & 255, DATA, closing, stream_id)
            self._out_bytes += size
        else:
            if size > self._peer_max_frame:
                data = self._add_full_frames(stream_id, memoryview(data), size)
                size = len(data)
            whole = size
            self._open_stream = stream_id
            self._open_index = len(out)
            self._out_bytes += size + FRAME_HEADER_BYTES
            out.append(pack_header(size >> 8, size & 255, DATA, closing, stream_id))
        self._open_size = whole
        if size:
            out.append(data)

    def _add_full_frames(self, stream_id: int, view: memoryview, size: int) -> memoryview:
        """As many of the largest frames as there are; returns what goes into the last one."""
        most = self._peer_max_frame
        last = (size - 1) // most * most
        header = pack_header(most >> 8, most & 255, DATA, 0, stream_id)
        for start in range(0, last, most):
            self._out.append(header)
            self._out.append(view[start : start + most])
        self._out_bytes += last + FRAME_HEADER_BYTES * (last // most)
        return view[last:]

    def _drop_pending(self, stream: Stream) -> None:
        forget_pending(stream, self._buffers)

    # -- credit

    def grant(self, stream: Stream, size: int) -> None:
        """Gives window back on `stream` in large steps (see `Leg.grant`)."""
        stream.credit += size
        if stream.credit >= stream.window >> 1 and not stream.remote_closed:
            increment = stream.credit
            if self.round_trip > FAR_SECONDS:
                increment += self._wider(stream)
            self._put(window_update(stream.stream_id, increment))
            stream.receive_window += increment
            stream.credit = 0

    def _wider(self, stream: Stream) -> int:
        """How much wider the window gets: half of it was used up within two round trips, so it,
        and not the sender or the next hop, is what limits the stream."""
        now = time.monotonic()
        limited = now - stream.granted_at < 2 * self.round_trip
        stream.granted_at = now
        wider = min(max(WIDER * stream.window, self._learned), self.limits.widest_window)
        if not limited or wider <= stream.window:
            return 0
        extra = wider - stream.window
        stream.window = self._learned = wider
        return extra

    # -- the receiving half implements these

    def _drop(self, stream: Stream) -> None:
        raise AssertionError

    def end_both(self, stream: Stream, code: int) -> None:
        """Ends a stream and its peer because this end cannot go on with it."""
        raise AssertionError
