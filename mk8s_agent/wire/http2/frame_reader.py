"""Bytes in, frames out: what RFC 9113 says of frames, whatever streams they are for.

Fed by `connection`, which is also its `FrameSink`. DATA is cut through: the part of a frame that
has arrived is handed on at once. All other frames, and header blocks with all their CONTINUATION
frames, are handed on when they are whole.
"""

from typing import Final

from mk8s_agent.wire.compiled import mypyc_attr
from mk8s_agent.wire.http2.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    FRAME_HEADER_BYTES,
    HEADERS,
    MAX_STREAM_ID,
    PADDED,
    PREFACE,
    SETTINGS,
    WITH_PRIORITY,
    ErrorCode,
    RemoteProtocolError,
    check_dependency,
    check_shape,
    strip_padding,
    unpack_header,
)
from mk8s_agent.wire.limits import Limits
from mk8s_agent.wire.stream import Bytes, Stream

_SKIPPED_BYTES: Final = 16 << 20
"""Of one header block that is dropped: kube-apiserver passes on heads of 10 MiB, if a pod has them.
While it comes, nothing else does."""

_LEAST_SKIPPED: Final = 1024
"""What a frame of it counts at least: empty ones cost work, too."""

_HEAD: Final = END_HEADERS | PADDED | WITH_PRIORITY
"""The flags by which a plain whole block differs from others."""

_COPY_BELOW: Final = 4096
"""A copy of so few bytes costs less than a view, which would keep the whole read alive, too."""


@mypyc_attr(allow_interpreted_subclasses=True)
class FrameSink:
    """What gets the frames. Each method may raise `RemoteProtocolError`, which ends the reading.

    No protocol: a compiled reader calls it twice for each DATA frame, at a third of the price.
    """

    __slots__ = ()

    def begin_data(self, stream_id: int, length: int, flags: int) -> Stream | None:
        """The header of a DATA frame came; the stream that takes it, None where it is dropped."""
        raise AssertionError

    def deliver(self, stream: Stream, data: Bytes, size: int, end: bool) -> None:
        """`size` bytes of a DATA frame's body, the last of its stream when `end`."""
        raise AssertionError

    def drop_padding(self, stream: Stream | None, size: int, empty: bool) -> None:
        """`size` bytes of a DATA frame were padding, all of it when `empty`."""
        raise AssertionError

    def on_block(self, stream_id: int, block: bytes, end: bool) -> None:
        """A whole header block; `end` when its stream has no body."""
        raise AssertionError

    def on_long_block(self, stream_id: int) -> None:
        """A header block is over the limits. It is dropped to its end, if this does not raise.

        Raises:
            RemoteProtocolError: with a dynamic table, the blocks behind it could not be read.
        """
        raise RemoteProtocolError(ErrorCode.ENHANCE_YOUR_CALM, "the header block is too long")

    def on_long_part(self, size: int) -> None:
        """So many bytes of one header block have come in several frames, and there will be more.

        Raises:
            RemoteProtocolError: this costs more than its sender may.
        """

    def on_frame(self, kind: int, stream_id: int, flags: int, payload: bytes) -> None:
        """Any other frame of the right shape, or of an unknown kind."""
        raise AssertionError


class _Nobody(FrameSink):
    __slots__ = ()


_NOBODY: Final[FrameSink] = _Nobody()
"""The sink of a closed reader, which gives it nothing."""


class FrameReader:
    """Reads the frames of one connection.

    Args:
        sink: gets the frames.
        preface: the peer is a client, which sends it.
    """

    __slots__ = (
        "_block", "_block_end", "_block_stream", "_data_end", "_data_left", "_data_stream",
        "_limits", "_max_frame", "_preface_missing", "_sink", "_skip_left", "_started", "_tail",
        "closed",
    )  # fmt: skip

    def __init__(self, sink: FrameSink, limits: Limits, *, preface: bool) -> None:
        self.closed = False
        """Nothing is read any more."""
        self._sink = sink
        self._limits = limits
        self._max_frame = limits.max_frame
        self._preface_missing = PREFACE if preface else b""
        """The part of it that is still to come."""
        self._started = False
        self._tail = b""
        # the DATA frame that is still arriving
        self._data_left = 0
        self._data_stream: Stream | None = None
        self._data_end = False
        # the header block that CONTINUATION frames still add to
        self._block_stream = 0
        self._block_end = False
        self._block: list[bytes] = []
        self._skip_left = 0
        """Bytes of it that may still be dropped; 0 while it is kept."""

    @property
    def incomplete(self) -> bool:
        """Something has begun to arrive and is awaited: a preface, a frame, a header block."""
        return self._preface_missing != b"" or self._block_stream != 0 or self._tail != b""

    def close(self) -> None:
        """Reads nothing more, and lets go of the sink: they would wait for the collector."""
        self.closed = True
        self._sink = _NOBODY

    def receive(self, data: bytes) -> None:
        """Takes what the socket delivered.

        Raises:
            RemoteProtocolError: this cannot be read, or the sink said so.
        """
        position = 0
        if self._data_left or self._tail or self._preface_missing:
            data, position = self._go_on(data)
        sink, size = self._sink, len(data)
        while size - position >= FRAME_HEADER_BYTES and not self.closed:
            high, low, kind, flags, stream_id = unpack_header(data, position)
            stream_id &= MAX_STREAM_ID
            length: int = high << 8 | low
            start = position + FRAME_HEADER_BYTES
            end = start + length
            if self._block_stream or length > self._max_frame or not self._started:
                self._check_frame(kind, length, flags, stream_id)
            if kind == DATA and not flags & PADDED:
                stream = sink.begin_data(stream_id, length, flags)
                if end > size:
                    self._begin_data(stream, data, start, end, flags)
                    return
                if stream is not None and length < _COPY_BELOW:
                    sink.deliver(stream, data[start:end], length, flags & END_STREAM != 0)
                elif stream is not None:
                    end = self._deliver_run(stream, data, start, end, flags)
            elif end > size:
                break
            elif kind == HEADERS and flags & _HEAD == END_HEADERS and stream_id:
                sink.on_block(stream_id, data[start:end], flags & END_STREAM != 0)
            else:
                self._take_frame(kind, stream_id, flags, data[start:end])
            position = end
        self._tail = b"" if self.closed else data[position:]

    def _go_on(self, data: bytes) -> tuple[bytes, int]:
        """Goes on with what had begun to arrive; returns what to read then, and from where."""
        if self._preface_missing:
            size = min(len(data), len(self._preface_missing))
            if data[:size] != self._preface_missing[:size]:
                raise RemoteProtocolError(ErrorCode.PROTOCOL_ERROR, "no HTTP/2 preface")
            self._preface_missing = self._preface_missing[size:]
            return data, size
        if self._data_left:
            return data, self._continue_data(data)
        tail, self._tail = self._tail, b""
        return tail + data, 0

    def _take_frame(self, kind: int, stream_id: int, flags: int, payload: bytes) -> None:
        """Takes a frame that is neither a plain head nor unpadded DATA."""
        if kind == HEADERS:
            self._on_headers(stream_id, flags, payload)
        elif kind == CONTINUATION:
            self._on_continuation(stream_id, flags, payload)
        elif kind == DATA:
            self._on_padded_data(stream_id, flags, payload)
        else:
            check_shape(kind, flags, stream_id, payload)
            self._sink.on_frame(kind, stream_id, flags, payload)

    def _check_frame(self, kind: int, length: int, flags: int, stream_id: int) -> None:
        if length > self._max_frame:
            raise RemoteProtocolError(ErrorCode.FRAME_SIZE_ERROR, f"a frame of {length} bytes")
        if self._block_stream and (kind != CONTINUATION or stream_id != self._block_stream):
            raise RemoteProtocolError(ErrorCode.PROTOCOL_ERROR, "a header block was interrupted")
        if not self._started and (kind != SETTINGS or flags & ACK):
            raise RemoteProtocolError(ErrorCode.PROTOCOL_ERROR, "the first frame is not SETTINGS")
        self._started = True

    # -- DATA

    def _deliver_run(self, stream: Stream, data: bytes, start: int, end: int, flags: int) -> int:
        """Hands on a frame with those of the same stream right behind it, as one piece: to copy
        them costs less than to relay one after the other. Returns where they end."""
        sink = self._sink
        view = memoryview(data)
        parts = [view[start:end]]
        alike = data[start - 6 : start]  # kind, flags and stream
        while not flags and data[end + 3 : end + FRAME_HEADER_BYTES] == alike:
            length = int.from_bytes(data[end : end + 3], "big")
            start = end + FRAME_HEADER_BYTES
            if start + length > len(data) or length > self._max_frame:
                break
            sink.begin_data(stream.stream_id, length, flags)
            end = start + length
            parts.append(view[start:end])
        part: Bytes = parts[0] if len(parts) == 1 else b"".join(parts)
        sink.deliver(stream, part, len(part), flags & END_STREAM != 0)
        return end

    def _begin_data(
        self, stream: Stream | None, data: bytes, start: int, end: int, flags: int
    ) -> None:
        """Hands on the first part of a DATA frame that is still arriving."""
        available = len(data) - start
        self._data_left = end - len(data)
        self._data_stream = stream
        self._data_end = flags & END_STREAM != 0
        if available and stream is not None:
            self._sink.deliver(stream, memoryview(data)[start:], available, False)

    def _continue_data(self, data: bytes) -> int:
        """The next part of a DATA frame whose header came before; returns where it ends."""
        size = min(len(data), self._data_left)
        self._data_left -= size
        stream = self._data_stream
        if stream is not None:
            part: Bytes = data if size == len(data) else memoryview(data)[:size]
            end = self._data_end and not self._data_left
            if not self._data_left:
                self._data_stream = None
            self._sink.deliver(stream, part, size, end)
        return size

    def _on_padded_data(self, stream_id: int, flags: int, payload: bytes) -> None:
        stream = self._sink.begin_data(stream_id, len(payload), flags)
        data = strip_padding(payload, flags & ~WITH_PRIORITY)
        size, end = len(data), flags & END_STREAM != 0
        self._sink.drop_padding(stream, len(payload) - size, not data and not end)
        if stream is not None:
            self._sink.deliver(stream, data, size, end)

    # -- header blocks

    def _on_headers(self, stream_id: int, flags: int, payload: bytes) -> None:
        if stream_id == 0:
            raise RemoteProtocolError(ErrorCode.PROTOCOL_ERROR, "HEADERS on stream 0")
        block = payload
        if flags & (PADDED | WITH_PRIORITY):
            block = strip_padding(payload, flags)
            if flags & WITH_PRIORITY:
                check_dependency(stream_id, payload[1:] if flags & PADDED else payload)
        if flags & END_HEADERS:
            self._sink.on_block(stream_id, block, flags & END_STREAM != 0)
            return
        self._block_stream = stream_id
        self._block_end = flags & END_STREAM != 0
        self._block = [block]

    def _on_continuation(self, stream_id: int, flags: int, payload: bytes) -> None:
        if not self._block_stream:
            raise RemoteProtocolError(ErrorCode.PROTOCOL_ERROR, "CONTINUATION out of place")
        if self._skip_left:
            self._skip(flags, len(payload))
            return
        self._block.append(payload)
        size = sum(map(len, self._block))
        if len(self._block) > self._limits.continuations + 1 or size > self._limits.header_block:
            self._sink.on_long_block(stream_id)
            self._block = []
            self._skip_left = _SKIPPED_BYTES
            self._skip(flags, len(payload))
        elif flags & END_HEADERS:
            block = b"".join(self._block)
            self._block_stream = 0
            self._block = []
            self._sink.on_block(stream_id, block, self._block_end)
        else:
            self._sink.on_long_part(size)

    def _skip(self, flags: int, size: int) -> None:
        """Drops a frame of a block that is too long for its stream, but not for the connection."""
        self._skip_left -= max(size, _LEAST_SKIPPED)
        if self._skip_left <= 0:
            raise RemoteProtocolError(ErrorCode.ENHANCE_YOUR_CALM, "a header block without end")
        if flags & END_HEADERS:
            self._block_stream = 0
            self._skip_left = 0
