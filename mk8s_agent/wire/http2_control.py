"""What surrounds the streams of an HTTP/2 connection: control frames, budgets, endings.

The middle storey of three: `outbound` sends, this one keeps the connection healthy, `http2` reads
frames and passes bodies on.
"""

import logging
import struct
import time
from typing import Final

from mk8s_agent.wire.bulkhead import Bulkhead
from mk8s_agent.wire.compiled import mypyc_attr
from mk8s_agent.wire.frames import (
    ACK,
    HEADER_TABLE_SIZE,
    INITIAL_WINDOW_SIZE,
    MAX_CONCURRENT_STREAMS,
    MAX_FRAME_SIZE,
    MAX_STREAM_ID,
    MAX_WINDOW,
    PING,
    SETTINGS,
    ErrorCode,
    RemoteProtocolError,
    frame,
    goaway,
    read_settings,
    read_u32,
    rst_stream,
)
from mk8s_agent.wire.limits import BUDGET_SECONDS, BufferBudget, Limits
from mk8s_agent.wire.outbound import Outbound, Transport
from mk8s_agent.wire.stream import Stream, abort_connection, part
from mk8s_agent.wire.ticks import Ticks

log = logging.getLogger(__name__)

_LOST: Final = Bulkhead("streams.lost")
_STALLED: Final = Bulkhead("streams.stalled")

_PEER_MAX_FRAME = 256 * 1024
"""Larger frames are never sent, whatever the peer allows: they delay what comes behind them."""

_STRAYS = 4096
"""Streams reset by this end that are remembered, since the peer may not know yet."""

_ROUND_TRIPS = 8
"""The least of so many measured ones counts: a busy process makes each single one longer."""
_FIRST_PINGS = 4
"""So many are measured at once in the beginning, where windows may grow."""

_DEFAULT_TABLE = 4096
_EMPTY_TABLE = b"\x20"
"""Owed to a peer whose table is smaller than the default (RFC 7541, 4.2); ours is never used."""

_KEPT_BUDGETS = 16
"""A peer that was sent much owes many WINDOW_UPDATEs, but not for ever."""


@mypyc_attr(allow_interpreted_subclasses=True)
class ConnectionControl(Outbound):
    """Control frames, budgets against floods, and how streams and the connection end."""

    __slots__ = (
        "_heard", "_last_peer_stream", "_next_stream", "_ping_payload", "_ping_sent",
        "_reset_budget", "_reset_here", "_round_trips", "_seconds", "_settings_seen",
        "_silent_seconds", "_stalled_seconds", "close_reason", "draining", "peer_max_streams",
    )  # fmt: skip

    def __init__(
        self, transport: Transport, ticks: Ticks, limits: Limits, buffers: BufferBudget
    ) -> None:
        super().__init__(transport, ticks, limits, buffers)
        self.draining = False
        """No new streams: a GOAWAY was sent or received."""
        self.peer_max_streams = MAX_STREAM_ID
        self.close_reason = ""
        self._settings_seen = False
        self._last_peer_stream = 0
        self._next_stream = 1
        self._reset_here: dict[int, None] = {}
        self._reset_budget = limits.resets
        self._ping_sent = 0.0
        self._ping_payload = b""
        self._round_trips: tuple[float, ...] = ()
        self._seconds = 0.0
        self._heard = False
        self._silent_seconds = 0.0
        self._stalled_seconds = 0.0

    # -- control frames

    def _on_priority(self, stream_id: int, payload: bytes) -> None:
        if stream_id == 0:
            raise RemoteProtocolError(ErrorCode.PROTOCOL_ERROR, "PRIORITY on stream 0")
        if len(payload) != 5:
            raise RemoteProtocolError(ErrorCode.FRAME_SIZE_ERROR, "PRIORITY length")
        self._check_dependency(stream_id, payload)
        self._spend()

    def _check_dependency(self, stream_id: int, payload: bytes) -> None:
        if int.from_bytes(payload[:4], "big") & MAX_STREAM_ID == stream_id:
            raise RemoteProtocolError(ErrorCode.PROTOCOL_ERROR, "a stream depends on itself")

    def _on_rst_stream(self, stream_id: int, payload: bytes) -> None:
        code = read_u32(payload)
        if stream_id == 0:
            raise RemoteProtocolError(ErrorCode.PROTOCOL_ERROR, "RST_STREAM on stream 0")
        self._check_not_idle(stream_id)
        self._spend_reset()
        stream = self.streams.get(stream_id)
        if stream is None:
            return
        answered = stream.remote_closed and self._is_ours(stream_id)
        stream.local_closed = stream.remote_closed = True
        peer = part(stream)
        self._drop(stream)
        # after a complete answer a reset only says "send me no more": the peer goes on reading it
        if peer is not None and not (answered and code == ErrorCode.NO_ERROR):
            peer.connection.reset(peer, code)

    def _on_settings(self, stream_id: int, flags: int, payload: bytes) -> None:
        if stream_id:
            raise RemoteProtocolError(ErrorCode.PROTOCOL_ERROR, "SETTINGS on a stream")
        if flags & ACK:
            if payload:
                raise RemoteProtocolError(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS acknowledgement")
            return
        self._spend()
        for key, value in read_settings(payload):
            self._apply_setting(key, value)
        self._put(frame(SETTINGS, ACK, 0))
        first, self._settings_seen = not self._settings_seen, True
        if self._waiting and not self._blocked:
            self._pump()
        if first:
            self.on_ready()

    def _apply_setting(self, key: int, value: int) -> None:
        if key == MAX_FRAME_SIZE:
            self._peer_max_frame = min(value, _PEER_MAX_FRAME)
        elif key == MAX_CONCURRENT_STREAMS:
            self.peer_max_streams = value
        elif key == HEADER_TABLE_SIZE and value < _DEFAULT_TABLE:
            self._block_prefix = _EMPTY_TABLE
        elif key == INITIAL_WINDOW_SIZE:
            change = value - self._initial_window
            self._initial_window = value
            for stream in self.streams.values():
                self._widen(stream, change)

    def _on_ping(self, stream_id: int, flags: int, payload: bytes) -> None:
        if stream_id:
            raise RemoteProtocolError(ErrorCode.PROTOCOL_ERROR, "PING on a stream")
        if len(payload) != 8:
            raise RemoteProtocolError(ErrorCode.FRAME_SIZE_ERROR, "PING length")
        if flags & ACK:
            self._on_pong(payload)
            return
        self._spend()
        self._put(frame(PING, ACK, 0, payload))

    def _on_pong(self, payload: bytes) -> None:
        """Measures the round trip; an answer to a PING that was never sent says nothing."""
        if payload != self._ping_payload:
            return
        self._ping_payload = b""
        self._round_trips = (
            *self._round_trips[1 - _ROUND_TRIPS :],
            time.monotonic() - self._ping_sent,
        )
        self.round_trip = min(self._round_trips)
        if self.limits.widest_window and len(self._round_trips) < _FIRST_PINGS:
            self.ping()

    def _on_goaway(self, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise RemoteProtocolError(ErrorCode.PROTOCOL_ERROR, "GOAWAY on a stream")
        if len(payload) < 8:
            raise RemoteProtocolError(ErrorCode.FRAME_SIZE_ERROR, "GOAWAY length")
        self._spend()
        self.draining = True
        self.on_goaway(int.from_bytes(payload[:4], "big") & MAX_STREAM_ID)
        self.close_when_idle()

    def _on_window_update(self, stream_id: int, payload: bytes) -> None:
        increment = read_u32(payload) & MAX_WINDOW
        self._spend()
        if stream_id == 0:
            self._send_window += increment
            if increment == 0 or self._send_window > MAX_WINDOW:
                raise RemoteProtocolError(ErrorCode.FLOW_CONTROL_ERROR, "connection WINDOW_UPDATE")
        else:
            stream = self.streams.get(stream_id)
            if stream is None:
                self._check_not_idle(stream_id)
                return
            if increment == 0 or stream.send_window + increment > MAX_WINDOW:
                zero = increment == 0
                code = ErrorCode.PROTOCOL_ERROR if zero else ErrorCode.FLOW_CONTROL_ERROR
                self._stream_error(stream, code)
                return
            self._widen(stream, increment)
        if self._waiting and not self._blocked:
            self._pump()

    def _widen(self, stream: Stream, change: int) -> None:
        """The peer takes `change` more bytes (less, when negative) on `stream`."""
        stream.send_window += change
        if stream.send_window > MAX_WINDOW:
            raise RemoteProtocolError(ErrorCode.FLOW_CONTROL_ERROR, "stream window overflow")
        if stream.pending is not None:
            self._wait(stream)

    # -- budgets

    def _spend(self) -> None:
        """Counts a frame that costs us work and the peer nothing."""
        self._control_budget -= 1
        if self._control_budget < 0:
            raise RemoteProtocolError(ErrorCode.ENHANCE_YOUR_CALM, "too many control frames")

    def _spend_reset(self) -> None:
        """Counts a stream that was reset, by the peer or because of the peer."""
        self._reset_budget -= 1
        if self._reset_budget < 0:
            raise RemoteProtocolError(ErrorCode.ENHANCE_YOUR_CALM, "too many streams were reset")

    def _check_not_idle(self, stream_id: int) -> None:
        """A frame for a stream that was never opened is a protocol error; a closed one is not."""
        ours = self._is_ours(stream_id)
        if stream_id >= self._next_stream if ours else stream_id > self._last_peer_stream:
            raise RemoteProtocolError(ErrorCode.PROTOCOL_ERROR, f"stream {stream_id} is idle")

    def _is_ours(self, stream_id: int) -> bool:
        """Whether this end opens streams of such ids."""
        return stream_id & 1 == self._next_stream & 1

    # -- endings

    def _drop(self, stream: Stream) -> None:
        """Forgets a stream whose both directions are closed."""
        if self.streams.pop(stream.stream_id, None) is not None:
            if stream.pending is not None:
                self._drop_pending(stream)
            self.on_stream_closed(stream)
            stream.peer = None  # two halves that know each other would wait for the collector
            if self.draining:
                self.close_when_idle()

    def reset(self, stream: Stream, code: int) -> None:
        """Ends `stream` on this connection (see `Leg.reset`); subclasses may answer first."""
        self._cut(stream, code)

    def _cut(self, stream: Stream, code: int) -> None:
        if stream.local_closed and stream.remote_closed:
            return
        if not stream.remote_closed:
            self._expect_strays(stream.stream_id)
        stream.local_closed = stream.remote_closed = True
        stream.peer = None
        if stream.stream_id:
            self._put(rst_stream(stream.stream_id, code))
        self._drop_pending(stream)
        self._drop(stream)

    def _expect_strays(self, stream_id: int) -> None:
        """Frames of a stream that this end resets may still be on their way."""
        if len(self._reset_here) >= _STRAYS:
            del self._reset_here[next(iter(self._reset_here))]
        self._reset_here[stream_id] = None

    def end_both(self, stream: Stream, code: int) -> None:
        """Ends `stream` and its peer because this end cannot go on with it."""
        peer = part(stream)
        self._cut(stream, code)
        if peer is not None:
            peer.connection.reset(peer, code)

    def _stream_error(self, stream: Stream, code: int) -> None:
        """Ends a stream that the peer misused; no cheaper for it than a reset (CVE-2025-8671)."""
        self.end_both(stream, code)
        self._spend_reset()

    def drain(self, code: ErrorCode = ErrorCode.NO_ERROR, message: str = "") -> None:
        """Says GOAWAY with the true last stream: open streams go on, new ones go elsewhere."""
        if not self.draining and not self.closed:
            self.draining = True
            self._put(goaway(self._last_peer_stream, code, message))
            self.close_when_idle()

    def close_when_idle(self) -> None:
        """Closes a draining connection once its last stream has ended."""
        if self.draining and not self.streams and not self.closed:
            self.flush()
            self.transport.close()

    def fail(self, code: ErrorCode, message: str) -> None:
        """Ends the connection because its peer broke the protocol or a limit."""
        if self.closed:
            return
        told = {"peer": repr(self), "code": code.name, "reason": message}
        log.info("connection.failed", extra=told)
        self.close_reason = message
        self._put(goaway(self._last_peer_stream, code, message))
        self.flush()
        self.transport.close()
        self.connection_lost()

    def connection_lost(self) -> None:
        """The socket is gone: every stream ends, and so does its peer. Called by the transport."""
        if self.closed:
            return
        self.closed = True
        for stream in list(self.streams.values()):
            self._lose(stream, ErrorCode.INTERNAL_ERROR)
        self.on_lost()

    def _lose(self, stream: Stream, code: ErrorCode) -> None:
        """Ends a stream that this connection carries no more; the others end, too, if it fails."""
        stream.local_closed = stream.remote_closed = True
        peer = part(stream)
        try:
            self._drop(stream)
        except Exception:  # noqa: BLE001  logged by `failed`
            _LOST.failed(stream)
        if peer is None:
            return
        try:
            peer.connection.reset(peer, code)
        except Exception:  # noqa: BLE001  logged by `failed`
            _LOST.failed(peer, abort_connection)

    # -- the clock

    def second(self, elapsed: float) -> None:
        """Called about once a second: refills budgets, notices a peer that stopped reading."""
        self._seconds += elapsed
        if self._seconds >= BUDGET_SECONDS:
            self._cut_stalled(self._seconds)
            self._seconds = 0.0
            if self.limits.widest_window:
                self.ping()
            self._reset_budget = self.limits.resets
            least = self.limits.control_frames
            self._control_budget = min(max(self._control_budget, least), least * _KEPT_BUDGETS)
        self._silent_seconds = 0.0 if self._heard else self._silent_seconds + elapsed
        self._heard = False
        self._check_stall(elapsed)

    def _check_stall(self, elapsed: float) -> None:
        if self._progress or not self._blocked:
            self._progress = False
            self._stalled_seconds = 0.0
            return
        self._stalled_seconds += elapsed
        if self._stalled_seconds > self.limits.write_seconds:
            self.close_reason = "the peer stopped reading"
            self.transport.abort()
            self.connection_lost()

    def _cut_stalled(self, elapsed: float) -> None:
        """Ends streams whose reader takes nothing, once others need the memory that they hold.

        A reader may pause as long as it likes otherwise: `kubectl logs -f | less`.
        """
        needed = self._buffers.scarce
        for stream in list(self.streams.values()):
            if stream.pending is None or stream.sent != stream.sent_before:
                stream.sent_before = stream.sent
                stream.stalled_seconds = 0.0
                continue
            stream.stalled_seconds += elapsed
            if needed and stream.stalled_seconds >= self.limits.write_seconds:
                _STALLED.each((stream,), self._end_stalled)

    def _end_stalled(self, stream: Stream) -> None:
        self.end_both(stream, ErrorCode.ENHANCE_YOUR_CALM)

    def ping(self) -> None:
        """Asks the peer for a sign of life, and measures how far away it is."""
        self._ping_sent = time.monotonic()
        self._ping_payload = struct.pack(">d", self._ping_sent)
        self._put(frame(PING, 0, 0, self._ping_payload))

    # -- hooks of the roles

    def on_ready(self) -> None:
        """The peer's first SETTINGS arrived."""

    def on_goaway(self, last_stream_id: int) -> None:
        """The peer takes no stream above `last_stream_id`."""

    def on_stream_closed(self, stream: Stream) -> None:
        """A stream ended in both directions, in whatever way."""

    def on_lost(self) -> None:
        """The connection is gone; all its streams have ended."""
