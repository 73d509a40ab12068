"""What an HTTP/2 connection sends: the peer's windows, waiting streams, one write per tick.

Called by `connection` and its roles, and by `ticks`. Data is never copied here: a relayed body
leaves as the slices in which it arrived, behind new nine-byte headers, and neighbours of one stream
grow into one frame.
"""

import logging
from collections import deque
from collections.abc import Iterable
from typing import Final, Protocol

from mk8s_agent.wire.eviction import make_room
from mk8s_agent.wire.http2.frames import (
    CONTINUATION,
    DATA,
    DEFAULT_MAX_FRAME,
    DEFAULT_WINDOW,
    END_HEADERS,
    END_STREAM,
    FRAME_HEADER_BYTES,
    HEADERS,
    MAX_WINDOW,
    ErrorCode,
    RemoteProtocolError,
    frame,
    pack_header,
)
from mk8s_agent.wire.http2.health import FloodBudget
from mk8s_agent.wire.limits import EARLY, HIGH_WATER, QUANTUM, SMALL, BufferBudget, Limits
from mk8s_agent.wire.stream import STAGED, Bytes, Stream, count_pending, keep_pending
from mk8s_agent.wire.ticks import Ticks

log = logging.getLogger(__name__)

_PEER_MAX_FRAME: Final = 256 * 1024
"""Larger frames are never sent, whatever the peer allows: they delay what comes behind them."""

_DEFAULT_TABLE: Final = 4096
_EMPTY_TABLE: Final = b"\x20"
"""Owed to a peer whose table is smaller than the default (RFC 7541, 4.2); ours is never used."""


class Transport(Protocol):
    """The socket of a connection, as `wire.transport` implements it."""

    def write(self, data: bytes) -> bool:
        """Queues bytes for the socket; True when so many wait that the writer should pause."""

    def close(self) -> None:
        """Closes once everything written has left."""

    def abort(self) -> None:
        """Closes at once."""


class Outbound:
    """What an HTTP/2 connection sends.

    A stream whose bytes do not fit its window, the connection's window or the socket's buffer
    waits in a round robin. What waits is bounded by the windows its sender was given and, over
    all connections, by the `BufferBudget`. What it means that a stream has sent its last byte
    (`drop`), or that its bytes cannot be kept (`end_both`), is up to the stream's connection.

    Args:
        floods: what is sent earns the peer frames there, since it has to answer for it.
    """

    __slots__ = (
        "_block_prefix", "_buffers", "_floods", "_limits", "_marked", "_open_index", "_open_size",
        "_open_stream", "_out", "_out_bytes", "_peer_max_frame", "_progress",
        "_stalled_seconds", "_ticks", "_waiting", "blocked", "closed", "initial_window",
        "transport", "window",
    )  # fmt: skip

    def __init__(
        self,
        transport: Transport,
        ticks: Ticks,
        limits: Limits,
        buffers: BufferBudget,
        floods: FloodBudget,
    ) -> None:
        self.transport = transport
        self.closed = False
        """Nothing is written any more."""
        self.blocked = False
        """The socket takes no more for now."""
        self.window = DEFAULT_WINDOW
        """Bytes of DATA that the peer takes on the whole connection."""
        self.initial_window = DEFAULT_WINDOW
        """Bytes of DATA that it takes on a new stream."""
        self._limits = limits
        self._ticks = ticks
        self._buffers = buffers
        self._floods = floods
        self._out: list[Bytes] = []
        self._out_bytes = 0
        self._marked = False
        self._progress = True
        self._stalled_seconds = 0.0
        self._peer_max_frame = DEFAULT_MAX_FRAME
        self._waiting: deque[Stream] | None = None
        """There while somebody waits: an empty one would take more than all else here."""
        self._block_prefix = b""
        # the DATA frame at the end of _out that may still grow: its stream, index and size
        self._open_stream = 0
        self._open_index = 0
        self._open_size = 0

    def __repr__(self) -> str:
        return f"<Outbound {self.transport!r} waiting={len(self._waiting or ())}>"

    # -- what the tick writes

    def flush(self) -> None:
        """Writes all queued frames at once; called by `Ticks` at the end of a tick."""
        self._marked = False
        if not self._out or self.closed:
            return
        out, self._out = self._out, []
        self._out_bytes = 0
        self._open_stream = 0
        self.blocked = self.transport.write(b"".join(out))
        if not self.blocked:
            self._progress = True  # not before: answers to PINGs leave although nobody reads
        if self._waiting:
            self.resume()

    def _write_early(self) -> None:
        """As `flush`, but in the turn of the connection that the bytes came from."""
        try:
            self.flush()
        except Exception:  # costs this connection, not the other one
            log.exception("connection.crashed", extra={"peer": repr(self)})
            self.transport.abort()

    def writable(self) -> None:
        """The socket's buffer has drained; called by the transport."""
        self.blocked = False
        self._progress = True
        self.resume()

    def put(self, data: bytes) -> None:
        """Queues whole frames for the end of the tick."""
        self._out.append(data)
        self._out_bytes += len(data)
        self._open_stream = 0
        if not self._marked:
            self._marked = True
            self._ticks.mark(self)

    def stalled(self, elapsed: float) -> bool:
        """Once a second: whether the peer has read nothing for `Limits.write_seconds`."""
        if self._progress or not self.blocked:
            self._progress = False
            self._stalled_seconds = 0.0
            return False
        self._stalled_seconds += elapsed
        return self._stalled_seconds > self._limits.write_seconds

    # -- what the peer allows

    def allow_frames(self, size: int) -> None:
        """The peer takes frames of at most `size` bytes."""
        self._peer_max_frame = min(size, _PEER_MAX_FRAME)

    def allow_table(self, size: int) -> None:
        """The peer keeps `size` bytes of dynamic table; owed an answer, though none is used."""
        if size < _DEFAULT_TABLE:
            self._block_prefix = _EMPTY_TABLE

    def allow_window(self, size: int, streams: Iterable[Stream]) -> None:
        """The peer takes `size` bytes on new streams, and as many more or less on the open ones.

        Raises:
            RemoteProtocolError: more than there can be on one of `streams`.
        """
        change, self.initial_window = size - self.initial_window, size
        for stream in streams:
            self.widen(stream, change)

    def widen_all(self, increment: int) -> None:
        """The peer takes `increment` more bytes on the connection.

        Raises:
            RemoteProtocolError: none, or more than there can be.
        """
        self.window += increment
        if increment == 0 or self.window > MAX_WINDOW:
            code = ErrorCode.FLOW_CONTROL_ERROR if increment else ErrorCode.PROTOCOL_ERROR
            raise RemoteProtocolError(code, "connection WINDOW_UPDATE")

    def widen(self, stream: Stream, change: int) -> None:
        """The peer takes `change` more bytes (less, when negative) on `stream`.

        Raises:
            RemoteProtocolError: more than there can be.
        """
        stream.send_window += change
        if stream.send_window > MAX_WINDOW:
            raise RemoteProtocolError(ErrorCode.FLOW_CONTROL_ERROR, "stream window overflow")
        if stream.pending is not None:
            self._wait(stream)

    # -- heads

    def send_headers(self, stream: Stream, block: bytes, end: bool) -> None:
        """Sends a header block on an open stream, in CONTINUATION frames where it is long."""
        if self._block_prefix:
            block, self._block_prefix = self._block_prefix + block, b""
        size = len(block)
        if size <= self._peer_max_frame:
            flags = END_HEADERS | END_STREAM if end else END_HEADERS
            header = pack_header(size >> 8, size & 255, HEADERS, flags, stream.stream_id)
            self._out += (header, block)  # as `put` does, without a copy
            self._out_bytes += FRAME_HEADER_BYTES + size
            self._open_stream = 0
            if not self._marked:
                self._marked = True
                self._ticks.dirty.append(self)
                if not self._ticks.scheduled:
                    self._ticks.schedule()
        else:
            self._put_in_frames(stream.stream_id, block, END_STREAM if end else 0)
        if end:
            stream.local_closed = True
            if stream.remote_closed:
                stream.connection.drop(stream)

    def _put_in_frames(self, stream_id: int, block: bytes, closing: int) -> None:
        most = self._peer_max_frame
        self.put(frame(HEADERS, closing, stream_id, block[:most]))
        for start in range(most, len(block), most):
            flags = END_HEADERS if start + most >= len(block) else 0
            self.put(frame(CONTINUATION, flags, stream_id, block[start : start + most]))

    # -- bodies

    def send_data(self, stream: Stream, data: Bytes, size: int, end: bool) -> None:
        """Sends or queues `size` bytes of a body (see `Leg.send_data`)."""
        if stream.local_closed or stream.end_queued:
            return
        if (
            stream.pending is None
            and size <= stream.send_window
            and size <= self.window
            and not self.blocked
        ):
            self._emit(stream, data, size, end)
            if self._out_bytes >= EARLY:
                self._write_early()
            return
        self._queue(stream, data, size, end)

    def _queue(self, stream: Stream, data: Bytes, size: int, end: bool) -> None:
        buffers = self._buffers
        if not buffers.has_room(stream, size) and not make_room(buffers, stream, size):
            stream.connection.end_both(stream, ErrorCode.ENHANCE_YOUR_CALM)
            return
        keep_pending(stream, buffers, data, size, end=end)
        if stream.stream_id == STAGED:
            return
        self.start_pending(stream)

    def start_pending(self, stream: Stream) -> None:
        """Sends what waited for the head of a stream that is open now."""
        self._wait(stream)
        self.resume()

    def resume(self) -> None:
        """Lets waiting streams send what they may: a window or the socket has opened."""
        if self._waiting and not self.blocked:
            self._pump(self._waiting)

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

    def _pump(self, waiting: deque[Stream]) -> None:
        """Lets waiting streams send in turn while the windows and the socket take it."""
        turns = len(waiting)
        while turns and not self.blocked:
            turns -= 1
            stream = waiting.popleft()
            stream.waiting = False
            if stream.pending is None:
                continue
            if self._send_pending(stream, stream.pending):
                waiting.append(stream)
                stream.waiting = True
                turns += self.window > 0
            if self._out_bytes > HIGH_WATER:
                self.blocked = True
        if not waiting:
            self._waiting = None

    def _send_pending(self, stream: Stream, pending: deque[Bytes]) -> bool:
        """One stream's turn. True when it has more to send and its own window allows it."""
        quota = QUANTUM
        while pending and quota > 0:
            window = min(stream.send_window, self.window)
            if window <= 0:
                return stream.send_window > 0
            data = pending.popleft()
            size = len(data)
            if size > window:
                view = memoryview(data)
                pending.appendleft(view[window:])
                data, size = view[:window], window
            count_pending(stream, self._buffers, -size)
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
        self.window -= size
        stream.sent += size
        self._floods.frames += 1 + (size >> 10)
        stream_id, closing, rest = stream.stream_id, END_STREAM if end else 0, size
        if self._open_stream != stream_id or not self._grow(stream_id, size, closing):
            if size > self._peer_max_frame:
                data = self._add_full_frames(stream_id, memoryview(data), size)
                rest = len(data)
            self._open_stream, self._open_index, self._open_size = stream_id, len(self._out), rest
            self._out_bytes += rest + FRAME_HEADER_BYTES
            self._out.append(pack_header(rest >> 8, rest & 255, DATA, closing, stream_id))
        if size:
            self._out.append(data)
        if not self._marked:
            self._marked = True
            self._ticks.mark(self)
        if size and stream.peer is not None:
            stream.peer.connection.grant(stream.peer, size)
        if end:
            stream.local_closed = True
            if stream.remote_closed:
                stream.connection.drop(stream)

    def _grow(self, stream_id: int, size: int, closing: int) -> bool:
        """Makes room for more in the stream's frame that came just before; whether there is."""
        whole = self._open_size + size
        if whole > self._peer_max_frame:
            return False
        header = pack_header(whole >> 8, whole & 255, DATA, closing, stream_id)
        self._out[self._open_index] = header
        self._open_size = whole
        self._out_bytes += size
        return True

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
