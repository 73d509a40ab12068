"""Where the frames of an upgraded answer end, in SPDY and in WebSocket; pure.

mk8s may say something in such a session only where it is between two messages. Every byte is
walked over, none is changed: payloads are skipped by the length that their frame's header gives.
A pod may send empty frames without end, so whole frames are skipped in one tight loop: 32,000 of
them, as many as a piece of 64 KiB has, in less than 10 ms.
"""

from typing import Final, NamedTuple

from mk8s_agent.wire.stream import Bytes

_SPDY_HEADER: Final = 8
_SHORT_HEADER: Final = 2
_LENGTH_16: Final = 126
_LENGTH_64: Final = 127
_LONGEST_16: Final = 0xFFFF
_MASKED: Final = 0x80
_NEVER: Final = 1 << 63
"""Bytes behind a header that no server writes: such a session has no place for words."""
_FINAL: Final = 0x80
_CONTROL: Final = 0x8
"""Opcodes from here on are control frames: they may stand between the frames of one message."""


class FrameHeader(NamedTuple):
    """The header of a frame, as far as it has come."""

    missing: int
    """Bytes of it that must come before more is known; 0 for a whole one."""
    payload: int = 0
    """Bytes behind it."""
    unfinished: bool | None = False
    """Whether its message goes on in another frame; None for one that belongs to no message."""


class FrameTracker:
    """Follows one direction of a session from its first byte; a subclass knows the protocol."""

    __slots__ = ("_header", "_left", "_unfinished")

    def __init__(self) -> None:
        self._header = b""
        """The beginning of a frame, as far as it has come."""
        self._left = 0
        """Bytes of the frame under way that are still to come."""
        self._unfinished = False
        """A message goes on in another frame."""

    @property
    def between(self) -> bool:
        """Whether the last byte ended a message, or there was none."""
        return not (self._left or self._header or self._unfinished)

    def walk(self, data: Bytes, size: int) -> int:
        """Follows a piece; where in it the first message ends, -1 where none does."""
        place = min(self._left, size)
        self._left -= place
        first = place if place and self.between else -1
        while place < size:
            if not self._header:
                place, first = self._skip(data, place, size, first)
            place = self._read_header(data, place)
            taken = min(self._left, size - place)
            self._left -= taken
            place += taken
            if first < 0 and self.between:
                first = place
        return first

    def _read_header(self, data: Bytes, place: int) -> int:
        """Reads on in a header; the place behind it, or the end of the piece."""
        header = self._header
        found = self.read_header(header)
        while found.missing:
            piece = bytes(data[place : place + found.missing])
            if not piece:
                self._header = header
                return place
            header += piece
            place += len(piece)
            found = self.read_header(header)
        self._header = b""
        self._left = found.payload
        if found.unfinished is not None:
            self._unfinished = found.unfinished
        return place

    def _skip(self, data: Bytes, place: int, size: int, first: int) -> tuple[int, int]:
        """Skips whole frames: behind them, and where the first message ended, as in `walk`."""
        raise NotImplementedError

    def read_header(self, header: bytes) -> FrameHeader:
        """Reads the beginning of a frame."""
        raise NotImplementedError


class SpdyTracker(FrameTracker):
    """SPDY Protocol Draft 3.1, 2.2: a frame's length is in the last three bytes of its header."""

    __slots__ = ()

    def _skip(self, data: Bytes, place: int, size: int, first: int) -> tuple[int, int]:
        while place + _SPDY_HEADER <= size:
            length = data[place + 5] << 16 | data[place + 6] << 8 | data[place + 7]
            if place + _SPDY_HEADER + length > size:
                break
            place += _SPDY_HEADER + length
            if first < 0:
                first = place
        return place, first

    def read_header(self, header: bytes) -> FrameHeader:
        """Reads the beginning of a frame."""
        if len(header) < _SPDY_HEADER:
            return FrameHeader(_SPDY_HEADER - len(header))
        return FrameHeader(0, int.from_bytes(header[5:], "big"))


class WebSocketTracker(FrameTracker):
    """RFC 6455, 5.2. What a server must not write ends the following: masks, and 64 bits for a
    length that needs less."""

    __slots__ = ()

    def _skip(self, data: Bytes, place: int, size: int, first: int) -> tuple[int, int]:
        unfinished = self._unfinished
        while place + _SHORT_HEADER <= size:
            opcode, length, end = data[place], data[place + 1], place + _SHORT_HEADER
            if length == _LENGTH_16 and end + 2 <= size:
                length, end = data[end] << 8 | data[end + 1], end + 2
            elif length >= _LENGTH_16:
                break
            end += length
            if end > size:
                break
            place = end
            if not opcode & _CONTROL:
                unfinished = opcode < _FINAL
            if first < 0 and not unfinished:
                first = place
        self._unfinished = unfinished
        return place, first

    def read_header(self, header: bytes) -> FrameHeader:
        """Reads the beginning of a frame."""
        if len(header) < _SHORT_HEADER:
            return FrameHeader(_SHORT_HEADER - len(header))
        length, whole = header[1], _SHORT_HEADER
        if length & _MASKED:
            return FrameHeader(0, _NEVER)
        if length >= _LENGTH_16:
            whole += 2 if length == _LENGTH_16 else 8
        if len(header) < whole:
            return FrameHeader(whole - len(header))
        if whole > _SHORT_HEADER:
            is_long = length == _LENGTH_64
            length = int.from_bytes(header[_SHORT_HEADER:whole], "big")
            if is_long and not _LONGEST_16 < length < _NEVER:
                length = _NEVER
        unfinished = None if header[0] & _CONTROL else header[0] < _FINAL
        return FrameHeader(0, length, unfinished)
