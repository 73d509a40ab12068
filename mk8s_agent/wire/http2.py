"""The receiving half of an HTTP/2 connection: frames in, relayed or answered, never awaited.

The same class serves every HTTP/2 leg of a request: `http2_server` makes it a server (central
towards kubectl, an agent towards central), `http2_client` a client (central towards an
agent, an agent towards its API server). Neither knows sockets: bytes come by `receive`, leave by
`Outbound.flush`.

DATA is cut through: the part of a frame that has arrived is handed to the peer at once.
Everything a hostile peer could do in excess has a limit in `Limits`; exceeding it, or breaking the
protocol, costs the peer its connection and nobody else anything.
"""

from mk8s_agent.wire.compiled import mypyc_attr
from mk8s_agent.wire.frames import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    FRAME_HEADER_BYTES,
    GOAWAY,
    HEADERS,
    MAX_STREAM_ID,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    WITH_PRIORITY,
    ErrorCode,
    RemoteProtocolError,
    strip_padding,
    unpack_header,
    window_update,
)
from mk8s_agent.wire.hpack_codec import Decoder, HpackError
from mk8s_agent.wire.http2_control import ConnectionControl
from mk8s_agent.wire.limits import BufferBudget, Limits
from mk8s_agent.wire.outbound import Transport
from mk8s_agent.wire.stream import LONGEST_BODY, Bytes, Fields, Stream
from mk8s_agent.wire.ticks import Ticks

_COPY_BELOW = 4096
"""A copy of so few bytes costs less than a view, which would keep the whole read alive, too."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Http2Connection(ConnectionControl):
    """One HTTP/2 connection, either role.

    Args:
        transport: the socket.
        ticks: flushes this connection at the end of each tick in which it has output.
        limits: what is advertised and enforced.
        buffers: the process-wide cap on what waits for slow readers.
    """

    __slots__ = (
        "_block", "_block_end", "_block_stream", "_data_end", "_data_left", "_data_stream",
        "_decoder", "_least_window", "_preface_missing", "_receive_window", "_tail",
    )  # fmt: skip

    def __init__(
        self, transport: Transport, ticks: Ticks, limits: Limits, buffers: BufferBudget
    ) -> None:
        super().__init__(transport, ticks, limits, buffers)
        self._decoder = Decoder(limits.table_size, limits.header_list)
        self._receive_window = limits.connection_window
        self._least_window = limits.connection_window >> 1
        self._tail = b""
        self._preface_missing = False
        # the DATA frame that is still arriving
        self._data_left = 0
        self._data_stream = 0
        self._data_end = False
        # the header block that CONTINUATION frames still add to
        self._block_stream = 0
        self._block_end = False
        self._block: list[bytes] = []

    # -- bytes in

    def receive(self, data: bytes) -> None:
        """Takes what the socket delivered. Never raises: a protocol error ends the connection."""
        if self.closed:
            return
        self._heard = True
        try:
            position = 0
            if self._data_left:
                position = self._continue_data(data)
            elif self._tail:
                data = self._tail + data
                self._tail = b""
            if self._preface_missing:
                position = self._check_preface(data)
            position = self._read_frames(data, position)
            if position < len(data) and not self.closed:
                self._tail = data[position:]
        except RemoteProtocolError as error:
            self.fail(error.code, str(error))
        except HpackError as unreadable:
            self.fail(ErrorCode.COMPRESSION_ERROR, str(unreadable))

    def _read_frames(self, data: bytes, position: int) -> int:
        """Takes the frames from `position` on; returns where an incomplete one starts."""
        size = len(data) if not self._preface_missing else 0
        max_frame = self.limits.max_frame
        while size - position >= FRAME_HEADER_BYTES and not self.closed:
            high, low, kind, flags, stream_id = unpack_header(data, position)
            stream_id &= MAX_STREAM_ID
            length: int = high << 8 | low
            start = position + FRAME_HEADER_BYTES
            end = start + length
            if self._block_stream or length > max_frame or not self._settings_seen:
                self._check_frame(kind, length, stream_id)
            if kind == DATA and not flags & PADDED:
                stream = self._count_data(stream_id, length, flags)
                if end > size:
                    self._begin_data(stream, stream_id, data, start, end, flags)
                    return size
                if stream is not None and length < _COPY_BELOW:
                    self._deliver(stream, data[start:end], length, flags & END_STREAM != 0)
                elif stream is not None:
                    end = self._deliver_run(stream, data, start, end, flags)
            elif end > size:
                return position
            elif kind == HEADERS:
                self._on_headers(stream_id, flags, data[start:end])
            else:
                self._take_frame(kind, stream_id, flags, data[start:end])
            position = end
        return position

    def _take_frame(self, kind: int, stream_id: int, flags: int, payload: bytes) -> None:
        """Takes a frame that is neither HEADERS nor unpadded DATA."""
        if kind == WINDOW_UPDATE:
            self._on_window_update(stream_id, payload)
        elif kind == RST_STREAM:
            self._on_rst_stream(stream_id, payload)
        elif kind == PING:
            self._on_ping(stream_id, flags, payload)
        elif kind == SETTINGS:
            self._on_settings(stream_id, flags, payload)
        elif kind == DATA:
            self._on_padded_data(stream_id, flags, payload)
        elif kind == CONTINUATION:
            self._on_continuation(stream_id, flags, payload)
        elif kind == PRIORITY:
            self._on_priority(stream_id, payload)
        elif kind == GOAWAY:
            self._on_goaway(stream_id, payload)
        elif kind == PUSH_PROMISE:
            raise RemoteProtocolError(ErrorCode.PROTOCOL_ERROR, "PUSH_PROMISE was not enabled")
        else:
            self._spend()  # unknown kinds are ignored (RFC 9113, 5.5), but not for ever

    def _check_frame(self, kind: int, length: int, stream_id: int) -> None:
        if length > self.limits.max_frame:
            raise RemoteProtocolError(ErrorCode.FRAME_SIZE_ERROR, f"a frame of {length} bytes")
        if self._block_stream and (kind != CONTINUATION or stream_id != self._block_stream):
            raise RemoteProtocolError(ErrorCode.PROTOCOL_ERROR, "a header block was interrupted")
        if not self._settings_seen and kind != SETTINGS:
            raise RemoteProtocolError(ErrorCode.PROTOCOL_ERROR, "the first frame is not SETTINGS")

    def _check_preface(self, data: bytes) -> int:
        if not PREFACE.startswith(data[: len(PREFACE)]):
            raise RemoteProtocolError(ErrorCode.PROTOCOL_ERROR, "no HTTP/2 preface")
        if len(data) < len(PREFACE):
            return 0
        self._preface_missing = False
        return len(PREFACE)

    # -- DATA

    def _count_data(self, stream_id: int, length: int, flags: int) -> Stream | None:
        """Accounts for a whole DATA frame when its header is read; the stream that it is for."""
        if length == 0 and not flags & END_STREAM:
            self._spend()
        window = self._receive_window = self._receive_window - length
        if window < 0:
            raise RemoteProtocolError(ErrorCode.FLOW_CONTROL_ERROR, "connection window exceeded")
        if window <= self._least_window:  # half of it is used up: give all back
            self._put(window_update(0, self.limits.connection_window - window))
            self._receive_window = self.limits.connection_window
        stream = self.streams.get(stream_id)
        if stream is None:
            self._count_stray(stream_id)
            return None
        if stream.remote_closed:
            raise RemoteProtocolError(ErrorCode.STREAM_CLOSED, "DATA after END_STREAM")
        window = stream.receive_window = stream.receive_window - length
        if window < 0:
            raise RemoteProtocolError(ErrorCode.FLOW_CONTROL_ERROR, "stream window exceeded")
        return stream

    def _count_stray(self, stream_id: int) -> None:
        """DATA of a stream that is not open: fine only where this end has just reset it."""
        if stream_id == 0:
            raise RemoteProtocolError(ErrorCode.PROTOCOL_ERROR, "DATA on stream 0")
        self._check_not_idle(stream_id)
        if stream_id not in self._reset_here:
            raise RemoteProtocolError(ErrorCode.STREAM_CLOSED, "DATA on a closed stream")
        self._spend()

    def _deliver(self, stream: Stream, data: Bytes, size: int, end: bool) -> None:
        """Hands body bytes to the peer of their stream."""
        stream.received += size
        if stream.length_left >= 0 and not self._keeps_promise(stream, size, end):
            return
        if end:
            stream.remote_closed = True
        peer = stream.peer
        if peer is not None:
            peer.connection.send_data(peer, data, size, end)
        elif size:
            self.grant(stream, size)
        if end and stream.local_closed:
            self._drop(stream)

    def _keeps_promise(self, stream: Stream, size: int, end: bool) -> bool:
        """Counts body bytes against the promised length; a stream that breaks it ends here."""
        stream.length_left -= size
        left = stream.length_left
        if 0 <= left <= LONGEST_BODY and not (end and left):
            return True
        self._stream_error(stream, ErrorCode.PROTOCOL_ERROR)
        return False

    def _deliver_run(self, stream: Stream, data: bytes, start: int, end: int, flags: int) -> int:
        """Hands on a frame with those of the same stream right behind it, as one piece: to copy
        them costs less than to relay one after the other. Returns where they end."""
        view = memoryview(data)
        parts = [view[start:end]]
        alike = data[start - 6 : start]  # kind, flags and stream
        while not flags and data[end + 3 : end + FRAME_HEADER_BYTES] == alike:
            length = int.from_bytes(data[end : end + 3], "big")
            start = end + FRAME_HEADER_BYTES
            if start + length > len(data) or length > self.limits.max_frame:
                break
            self._count_data(stream.stream_id, length, flags)
            end = start + length
            parts.append(view[start:end])
        part: Bytes = parts[0] if len(parts) == 1 else b"".join(parts)
        self._deliver(stream, part, len(part), flags & END_STREAM != 0)
        return end

    def _begin_data(
        self, stream: Stream | None, stream_id: int, data: bytes, start: int, end: int, flags: int
    ) -> None:
        """Hands on the first part of a DATA frame that is still arriving."""
        available = len(data) - start
        self._data_left = end - len(data)
        self._data_stream = stream_id
        self._data_end = flags & END_STREAM != 0
        if available and stream is not None:
            self._deliver(stream, memoryview(data)[start:], available, False)

    def _continue_data(self, data: bytes) -> int:
        """The next part of a DATA frame whose header came before; returns where it ends."""
        size = min(len(data), self._data_left)
        self._data_left -= size
        stream = self.streams.get(self._data_stream)
        if stream is not None:
            part: Bytes = data if size == len(data) else memoryview(data)[:size]
            self._deliver(stream, part, size, self._data_end and not self._data_left)
        return size

    def _on_padded_data(self, stream_id: int, flags: int, payload: bytes) -> None:
        stream = self._count_data(stream_id, len(payload), flags)
        data = strip_padding(payload, flags & ~WITH_PRIORITY)
        if not data and not flags & END_STREAM:
            self._spend()
        if stream is not None:
            self.grant(stream, len(payload) - len(data))
            self._deliver(stream, data, len(data), flags & END_STREAM != 0)

    # -- header blocks

    def _on_headers(self, stream_id: int, flags: int, payload: bytes) -> None:
        if stream_id == 0:
            raise RemoteProtocolError(ErrorCode.PROTOCOL_ERROR, "HEADERS on stream 0")
        if flags & WITH_PRIORITY:
            self._check_dependency(stream_id, payload[1:] if flags & PADDED else payload)
        block = strip_padding(payload, flags) if flags & (PADDED | WITH_PRIORITY) else payload
        if flags & END_HEADERS:
            self.on_block(stream_id, block, flags & END_STREAM != 0)
            return
        self._block_stream = stream_id
        self._block_end = flags & END_STREAM != 0
        self._block = [block]

    def _on_continuation(self, stream_id: int, flags: int, payload: bytes) -> None:
        if not self._block_stream:
            raise RemoteProtocolError(ErrorCode.PROTOCOL_ERROR, "CONTINUATION out of place")
        self._block.append(payload)
        if (
            len(self._block) > self.limits.continuations + 1
            or sum(map(len, self._block)) > self.limits.header_block
        ):
            raise RemoteProtocolError(ErrorCode.ENHANCE_YOUR_CALM, "the header block is too long")
        if flags & END_HEADERS:
            block = b"".join(self._block)
            self._block_stream = 0
            self._block = []
            self.on_block(stream_id, block, self._block_end)

    def on_block(self, stream_id: int, block: bytes, end: bool) -> None:
        """A whole header block; the two roles differ here."""
        raise AssertionError

    def decode(self, block: bytes) -> Fields:
        """The fields of a block. Every block of a connection with a dynamic table passes here."""
        return self._decoder.decode(block)
