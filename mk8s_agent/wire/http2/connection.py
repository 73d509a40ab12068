"""One HTTP/2 connection: its parts put together, control frames, and how streams end.

Neither role knows sockets: bytes come by `receive`, leave by `Outbound.flush`. Bodies are relayed,
never awaited. Everything a hostile peer could do in excess has a limit in `Limits`; exceeding it,
or breaking the protocol, costs the peer its connection and nobody else anything.
"""

import logging

from mk8s_agent.wire.compiled import mypyc_attr
from mk8s_agent.wire.hpack_codec import Decoder, HpackError
from mk8s_agent.wire.http2.flow_control import ReceiveWindows
from mk8s_agent.wire.http2.frame_reader import FrameReader, FrameSink
from mk8s_agent.wire.http2.frames import (
    ACK,
    END_STREAM,
    GOAWAY,
    HEADER_TABLE_SIZE,
    INITIAL_WINDOW_SIZE,
    MAX_CONCURRENT_STREAMS,
    MAX_FRAME_SIZE,
    MAX_STREAM_ID,
    MAX_WINDOW,
    PING,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    ErrorCode,
    RemoteProtocolError,
    frame,
    goaway,
    read_settings,
    rst_stream,
    window_update,
)
from mk8s_agent.wire.http2.health import FloodBudget, Health
from mk8s_agent.wire.http2.losses import end_stalled, lose
from mk8s_agent.wire.http2.outbound import Outbound, Transport
from mk8s_agent.wire.http2.stream_table import StreamTable
from mk8s_agent.wire.http2.trailers import well_formed
from mk8s_agent.wire.limits import BufferBudget, Limits
from mk8s_agent.wire.stream import LONGEST_BODY, Bytes, Fields, Stream, forget_pending, part
from mk8s_agent.wire.ticks import Ticks

log = logging.getLogger(__name__)


@mypyc_attr(allow_interpreted_subclasses=True)
class Http2Connection(FrameSink):
    """One HTTP/2 connection; `Http2Server` and `Http2Client` are its roles.

    Args:
        ticks: flushes what is sent at the end of each tick.
        limits: what is advertised and enforced.
        buffers: the process-wide cap on what waits for slow readers.
        server: the peer is the client: it sends the preface, and its stream ids are odd.
    """

    __slots__ = (
        "_buffers", "close_reason", "closed", "decode", "draining", "floods", "health", "limits",
        "outbound", "peer_max_streams", "reader", "ready", "streams", "table", "transport",
        "windows",
    )  # fmt: skip

    def __init__(
        self,
        transport: Transport,
        ticks: Ticks,
        limits: Limits,
        buffers: BufferBudget,
        *,
        server: bool,
    ) -> None:
        self.transport = transport
        self.limits = limits
        self.closed = False
        self.draining = False
        """No new streams: a GOAWAY was sent or received."""
        self.ready = False
        """The peer's first SETTINGS arrived."""
        self.peer_max_streams = MAX_STREAM_ID
        self.close_reason = ""
        self.table = StreamTable(2 if server else 1)
        self.streams = self.table.streams
        """The open ones by id; the table's own, without a step between."""
        self.windows = ReceiveWindows(limits)
        self.floods = FloodBudget(limits)
        self.health = Health(limits)
        self.reader = FrameReader(self, limits, preface=server)
        self.outbound = Outbound(transport, ticks, limits, buffers, self.floods)
        self._buffers = buffers
        self.decode = Decoder(limits.table_size, limits.header_list).decode
        """The fields of a block. Every block of a connection with a dynamic table passes here."""

    # -- the socket's side

    def receive(self, data: bytes) -> None:
        """Takes what the socket delivered. Never raises: a protocol error ends the connection."""
        if self.closed:
            return
        self.health.heard = True
        try:
            self.reader.receive(data)
        except RemoteProtocolError as error:
            self.fail(error.code, str(error))
        except HpackError as unreadable:
            self.fail(ErrorCode.COMPRESSION_ERROR, str(unreadable))

    def writable(self) -> None:
        """The socket's buffer has drained; called by the transport."""
        self.outbound.writable()

    def flush(self) -> None:
        """Writes all queued frames without waiting for the end of the tick."""
        self.outbound.flush()

    # -- the other halves' side (see `Leg`)

    def send_data(self, stream: Stream, data: Bytes, size: int, end: bool) -> None:
        """Sends or queues `size` bytes of a body (see `Leg.send_data`)."""
        self.outbound.send_data(stream, data, size, end)

    def grant(self, stream: Stream, size: int) -> None:
        """Gives window back on `stream` in large steps (see `Leg.grant`)."""
        stream.credit += size
        if stream.credit >= stream.window >> 1 and not stream.remote_closed:
            self.outbound.put(window_update(stream.stream_id, self.windows.give_back(stream)))

    def reset(self, stream: Stream, code: int) -> None:
        """Ends `stream` on this connection (see `Leg.reset`); subclasses may answer first."""
        self._cut(stream, code)

    # -- DATA and header blocks

    def begin_data(self, stream_id: int, length: int, flags: int) -> Stream | None:
        """Accounts for a whole DATA frame when its header is read; the stream that it is for."""
        if length == 0 and not flags & END_STREAM:
            self.floods.spend()
        stream = self.streams.get(stream_id)
        if stream is not None and stream.remote_closed:
            raise RemoteProtocolError(ErrorCode.STREAM_CLOSED, "DATA after END_STREAM")
        used = self.windows.take(stream, length)
        if used:
            self.outbound.put(window_update(0, used))
        if stream is None:
            self.table.check_stray(stream_id)
            self.floods.spend()
        return stream

    def deliver(self, stream: Stream, data: Bytes, size: int, end: bool) -> None:
        """Hands body bytes to the peer of their stream."""
        if stream.remote_closed:  # it was reset while its frame arrived in parts
            return
        stream.received += size
        if stream.length_left >= 0:
            left = stream.length_left = stream.length_left - size
            if not 0 <= left <= LONGEST_BODY or (end and left):
                self.stream_error(stream, ErrorCode.PROTOCOL_ERROR)
                return
        if end:
            stream.remote_closed = True
        peer = stream.peer
        if peer is not None:
            peer.connection.send_data(peer, data, size, end)
        elif size:
            self.grant(stream, size)
        if end and stream.local_closed:
            self.drop(stream)

    def drop_padding(self, stream: Stream | None, size: int, empty: bool) -> None:
        """Padding is given back at once; a frame of nothing else is as good as an empty one."""
        if empty:
            self.floods.spend()
        if stream is not None:
            self.grant(stream, size)

    def on_block(self, stream_id: int, block: bytes, end: bool) -> None:
        """A whole header block; the two roles differ here."""
        raise AssertionError

    def end_by_trailers(self, stream: Stream, fields: Fields | None, end: bool) -> None:
        """A block behind the first one: it must end the message, and nothing in it is used.

        Args:
            fields: None for a block that cannot be trailers: a known request head, or unreadable.
        """
        if stream.remote_closed:
            raise RemoteProtocolError(ErrorCode.STREAM_CLOSED, "HEADERS after END_STREAM")
        if end and fields is not None and well_formed(fields):
            self.deliver(stream, b"", 0, True)
        else:
            self.stream_error(stream, ErrorCode.PROTOCOL_ERROR)

    # -- control frames

    def on_frame(self, kind: int, stream_id: int, flags: int, payload: bytes) -> None:
        """A frame that is neither DATA nor part of a header block."""
        if kind == WINDOW_UPDATE:
            self._on_window_update(stream_id, int.from_bytes(payload, "big") & MAX_WINDOW)
        elif kind == RST_STREAM:
            self._on_rst_stream(stream_id, int.from_bytes(payload, "big"))
        elif kind == PING:
            self._on_ping(flags, payload)
        elif kind == SETTINGS:
            if not flags & ACK:  # ours hold from the first byte on, acknowledged or not
                self._on_settings(payload)
        elif kind == GOAWAY:
            self._on_goaway(int.from_bytes(payload[:4], "big") & MAX_STREAM_ID)
        elif kind == PUSH_PROMISE:
            raise RemoteProtocolError(ErrorCode.PROTOCOL_ERROR, "PUSH_PROMISE was not enabled")
        else:
            self.floods.spend()  # PRIORITY and unknown kinds mean nothing, but not for ever

    def _on_rst_stream(self, stream_id: int, code: int) -> None:
        self.table.check_not_idle(stream_id)
        self.floods.spend_reset()
        stream = self.streams.get(stream_id)
        if stream is None:
            return
        answered = stream.remote_closed and self.table.is_own(stream_id)
        stream.local_closed = stream.remote_closed = True
        peer = part(stream)
        self.drop(stream)
        # after a complete answer a reset only says "send me no more": the peer goes on reading it
        if peer is not None and not (answered and code == ErrorCode.NO_ERROR):
            peer.connection.reset(peer, code)

    def _on_settings(self, payload: bytes) -> None:
        self.floods.spend()
        for key, value in read_settings(payload):
            self._apply_setting(key, value)
        self.outbound.put(frame(SETTINGS, ACK, 0))
        first, self.ready = not self.ready, True
        self.outbound.resume()
        if first:
            self.on_ready()

    def _apply_setting(self, key: int, value: int) -> None:
        if key == MAX_FRAME_SIZE:
            self.outbound.allow_frames(value)
        elif key == MAX_CONCURRENT_STREAMS:
            self.peer_max_streams = value
        elif key == HEADER_TABLE_SIZE:
            self.outbound.allow_table(value)
        elif key == INITIAL_WINDOW_SIZE:
            self.floods.spend(len(self.streams))  # each stream's window is another one then
            self.outbound.allow_window(value, self.streams.values())

    def _on_ping(self, flags: int, payload: bytes) -> None:
        if not flags & ACK:
            self.floods.spend()
            self.outbound.put(frame(PING, ACK, 0, payload))
        elif round_trip := self.health.on_pong(payload):
            self.windows.round_trip = round_trip
            if self.health.near_start:
                self.ping()

    def _on_goaway(self, last_stream_id: int) -> None:
        self.floods.spend()
        first, self.draining = not self.draining, True
        self.on_goaway(last_stream_id, first=first)
        self.close_when_idle()

    def _on_window_update(self, stream_id: int, increment: int) -> None:
        self.floods.spend()
        if stream_id == 0:
            self.outbound.widen_all(increment)
            self.outbound.resume()
            return
        stream = self.streams.get(stream_id)
        if stream is None:
            self.table.check_not_idle(stream_id)
        elif increment == 0:
            self.stream_error(stream, ErrorCode.PROTOCOL_ERROR)
        elif stream.send_window + increment > MAX_WINDOW:
            self.stream_error(stream, ErrorCode.FLOW_CONTROL_ERROR)
        else:
            self.outbound.widen(stream, increment)
            self.outbound.resume()

    # -- endings

    def drop(self, stream: Stream) -> None:
        """Forgets a stream whose both directions are closed."""
        if self.streams.pop(stream.stream_id, None) is not None:
            if stream.pending is not None:
                forget_pending(stream, self._buffers)
            self.on_stream_closed(stream)
            stream.peer = None  # two halves that know each other would wait for the collector
            if self.draining:
                self.close_when_idle()

    def _cut(self, stream: Stream, code: int) -> None:
        if stream.local_closed and stream.remote_closed:
            return
        if not stream.remote_closed:
            self.table.expect_strays(stream.stream_id)
        stream.local_closed = stream.remote_closed = True
        stream.peer = None
        if stream.stream_id:
            self.outbound.put(rst_stream(stream.stream_id, code))
        forget_pending(stream, self._buffers)
        self.drop(stream)

    def end_both(self, stream: Stream, code: int) -> None:
        """Ends `stream` and its peer because this end cannot go on with it."""
        peer = part(stream)
        self._cut(stream, code)
        if peer is not None:
            peer.connection.reset(peer, code)

    def stream_error(self, stream: Stream, code: int) -> None:
        """Ends a stream that the peer misused; no cheaper for it than a reset (CVE-2025-8671)."""
        self.end_both(stream, code)
        self.floods.spend_reset()

    def drain(self, code: ErrorCode = ErrorCode.NO_ERROR, message: str = "") -> None:
        """Says GOAWAY with the true last stream: open streams go on, new ones go elsewhere."""
        if not self.draining and not self.closed:
            self.draining = True
            self.outbound.put(goaway(self.table.last_peer, code, message))
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
        self.outbound.put(goaway(self.table.last_peer, code, message))
        self.flush()
        self.transport.close()
        self.connection_lost()

    def connection_lost(self) -> None:
        """The socket is gone: every stream ends, and so does its peer. Called by the transport."""
        if self.closed:
            return
        self.closed = self.outbound.closed = True
        self.reader.close()
        for stream in list(self.streams.values()):
            lose(stream, ErrorCode.INTERNAL_ERROR)
        self.on_lost()

    def _abort(self, reason: str) -> None:
        """Ends the connection to a peer that would not even read a GOAWAY."""
        self.close_reason = reason
        self.transport.abort()
        self.connection_lost()

    # -- the clock

    def second(self, elapsed: float) -> None:
        """Called about once a second: refills budgets, notices a peer that stopped reading."""
        period = self.health.second(elapsed)
        if period:
            self._cut_stalled(period)
            if self.limits.widest_window:
                self.ping()
            self.floods.refill()
        if self.outbound.stalled(elapsed):
            self._abort("the peer stopped reading")

    def _cut_stalled(self, elapsed: float) -> None:
        """Ends streams whose reader takes nothing, once others need the memory that they hold.

        A reader may pause as long as it likes otherwise: `kubectl logs -f | less`.
        """
        needed = self._buffers.scarce
        for stream in list(self.streams.values()):
            if stream.stalled_for(elapsed) >= self.limits.write_seconds and needed:
                end_stalled(stream)

    def ping(self) -> None:
        """Asks the peer for a sign of life, and measures how far away it is."""
        self.outbound.put(self.health.ping())

    # -- hooks of the roles

    def on_ready(self) -> None:
        """The peer's first SETTINGS arrived."""

    def on_goaway(self, last_stream_id: int, *, first: bool) -> None:
        """The peer takes no stream above `last_stream_id`; some say so twice, lower each time."""

    def on_stream_closed(self, stream: Stream) -> None:
        """A stream ended in both directions, in whatever way."""

    def on_lost(self) -> None:
        """The connection is gone; all its streams have ended."""
