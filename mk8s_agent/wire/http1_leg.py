"""What the two ends of HTTP/1.1 share: one message at a time, framed, with backpressure.

`http1_upstream` (towards an API server or the management API) and central's client connection
build on it. A body is framed by its length, by chunks, or, once a protocol was switched, not at
all.
"""

# compiled: every byte of an HTTP/1.1 answer

from typing import Protocol

from mk8s_agent.wire.eviction import make_room
from mk8s_agent.wire.http2.frames import ErrorCode
from mk8s_agent.wire.http2.outbound import Transport
from mk8s_agent.wire.limits import FRONT, HIGH_WATER, BufferBudget
from mk8s_agent.wire.stream import Bytes, Stream, count_pending, forget_pending, keep_pending
from mk8s_agent.wire.ticks import Ticks


class PausableTransport(Transport, Protocol):
    """A socket that can also stop reading."""

    @property
    def clean_end(self) -> bool:
        """Whether the peer said that it has sent everything before it closed."""

    def pause_reading(self) -> None:
        """Leaves what arrives in the kernel."""

    def resume_reading(self) -> None:
        """Reads again."""


class Http1Leg:
    """Sends framed bodies on one connection, and passes received ones to the peer."""

    def __init__(self, transport: PausableTransport, ticks: Ticks, buffers: BufferBudget) -> None:
        self.transport = transport
        self.closed = False
        self.stream: Stream | None = None
        """The request in progress; an HTTP/1.1 connection has one at a time."""
        self._ticks = ticks
        self._buffers = buffers
        self._chunked = False
        self._out: list[Bytes] = []
        self._out_bytes = 0
        self._marked = False
        self._blocked = False
        self._reading_paused = False

    # -- out

    def _put(self, data: Bytes) -> None:
        self._out.append(data)
        self._out_bytes += len(data)
        if not self._marked:
            self._marked = True
            self._ticks.mark(self)

    def flush(self) -> None:
        """Writes all that was queued in this tick; called by `Ticks`."""
        self._marked = False
        out = self._out
        if not out or self.closed:
            return
        self._out = []
        self._out_bytes = 0
        self._blocked = self.transport.write(b"".join(out))
        if not self._blocked:
            self._send_pending()

    def writable(self) -> None:
        """The socket's buffer has drained; called by the transport."""
        self._blocked = False
        self._send_pending()

    def send_data(self, stream: Stream, data: Bytes, size: int, end: bool) -> None:
        """Sends or queues `size` bytes of a body (see `Leg.send_data`)."""
        if stream.local_closed or stream.end_queued:
            return
        if not self._blocked and stream.pending is None and self._may_send():
            self._send(stream, data, size, end)
            return
        buffers = self._buffers
        if not buffers.has_room(stream, size) and not make_room(buffers, stream, size):
            self._abandon(stream, ErrorCode.ENHANCE_YOUR_CALM)
            return
        keep_pending(stream, buffers, data, size, end=end)

    def _may_send(self) -> bool:
        """False while a body has to wait for something else than the socket."""
        return True

    def _send_pending(self) -> None:
        stream = self.stream
        while (
            stream is not None
            and stream.pending is not None
            and not self._blocked
            and self._may_send()
        ):
            if not stream.pending:
                stream.pending = None
                if stream.end_queued and not stream.local_closed:
                    self._send(stream, b"", 0, True)
                return
            data = stream.pending.popleft()
            size = len(data)
            count_pending(stream, self._buffers, -size)
            self._send(stream, data, size, stream.end_queued and not stream.pending)

    def _send(self, stream: Stream, data: Bytes, size: int, end: bool) -> None:
        stream.sent += size
        if size:
            if self._chunked:
                self._put(b"%x\r\n" % size)
                self._put(data)
                self._put(b"\r\n")
            else:
                self._put(data)
            if stream.peer is not None:
                stream.peer.connection.grant(stream.peer, size)
        if self._out_bytes > HIGH_WATER:
            self._blocked = True
        if end:
            if self._chunked:
                self._put(b"0\r\n\r\n")
            stream.local_closed = True
            self._message_sent(stream)

    def _stalls(self, stream: Stream, elapsed: float) -> bool:
        """Whether nobody reads what waits here while others need the memory; once a second."""
        stalled = stream.stalled_for(elapsed)
        return self._buffers.scarce and stalled >= FRONT.write_seconds

    def _drop_pending(self, stream: Stream) -> None:
        forget_pending(stream, self._buffers)

    # -- in

    def _pass_on(self, data: bytes, end: bool) -> None:
        """Hands received body bytes to the peer; stops reading while the peer cannot keep up."""
        stream = self.stream
        if stream is None or stream.remote_closed:
            return
        size = len(data)
        stream.received += size
        stream.remote_closed = end
        peer = stream.peer
        if peer is None:
            return
        peer.connection.send_data(peer, data, size, end)
        if peer.pending_bytes > HIGH_WATER and not self._reading_paused:
            self._reading_paused = True
            self.transport.pause_reading()

    def grant(self, stream: Stream, size: int) -> None:
        """The peer handed bytes on: read again once little waits there (see `Leg.grant`)."""
        if self._reading_paused and (
            stream.peer is None or stream.peer.pending_bytes <= HIGH_WATER // 4
        ):
            self._read_again()

    def _read_again(self) -> None:
        if self._reading_paused and not self.closed:
            self._reading_paused = False
            self.transport.resume_reading()

    # -- the two ends differ here

    def _message_sent(self, stream: Stream) -> None:
        raise AssertionError

    def _abandon(self, stream: Stream, code: int) -> None:
        raise AssertionError

    def end_both(self, stream: Stream, code: int) -> None:
        """Ends `stream` and its peer because this end cannot go on with it."""
        self._abandon(stream, code)
