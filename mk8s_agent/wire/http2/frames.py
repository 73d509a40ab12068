"""HTTP/2 frames as bytes: constants, packing, and the two kinds of protocol error.

Called by all other parts of a connection. Nothing here keeps state.
Source of every number: RFC 9113, sections 4.1, 6 and 7.
"""

import struct
from enum import IntEnum
from typing import Final

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
FRAME_HEADER_BYTES: Final = 9
MAX_WINDOW: Final = (1 << 31) - 1
MAX_STREAM_ID: Final = (1 << 31) - 1
DEFAULT_WINDOW: Final = 65_535
DEFAULT_MAX_FRAME: Final = 16_384

DATA: Final = 0
HEADERS: Final = 1
PRIORITY: Final = 2
RST_STREAM: Final = 3
SETTINGS: Final = 4
PUSH_PROMISE: Final = 5
PING: Final = 6
GOAWAY: Final = 7
WINDOW_UPDATE: Final = 8
CONTINUATION: Final = 9

END_STREAM: Final = 0x1
ACK: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
WITH_PRIORITY: Final = 0x20

HEADER_TABLE_SIZE: Final = 1
ENABLE_PUSH: Final = 2
MAX_CONCURRENT_STREAMS: Final = 3
INITIAL_WINDOW_SIZE: Final = 4
MAX_FRAME_SIZE: Final = 5
MAX_HEADER_LIST_SIZE: Final = 6

_HEADER = struct.Struct(">HBBBI")
_SETTING = struct.Struct(">HI")
_U32 = struct.Struct(">I")
_GOAWAY = struct.Struct(">II")

_ABOUT_CONNECTION: Final = frozenset((SETTINGS, PING, GOAWAY))
_ABOUT_STREAM: Final = frozenset((PRIORITY, RST_STREAM))
_LENGTHS: Final = {PRIORITY: 5, RST_STREAM: 4, PING: 8, WINDOW_UPDATE: 4}

pack_header = _HEADER.pack
"""The nine bytes of (length >> 8, length & 255, kind, flags, stream id)."""

unpack_header = _HEADER.unpack_from
"""(length >> 8, length & 255, kind, flags, stream id with the reserved bit) at an offset."""


class ErrorCode(IntEnum):
    """Why a stream or a connection ended (RFC 9113, section 7)."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    SETTINGS_TIMEOUT = 4
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    CONNECT_ERROR = 10
    ENHANCE_YOUR_CALM = 11


class RemoteProtocolError(Exception):
    """The peer broke the protocol: its connection ends with GOAWAY and `code`."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(f"{code.name}: {message}")
        self.code = code


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    """One whole frame."""
    size = len(payload)
    return _HEADER.pack(size >> 8, size & 255, kind, flags, stream_id) + payload


def window_update(stream_id: int, increment: int) -> bytes:
    """Gives `increment` bytes of window back on a stream, or on the connection (id 0)."""
    return _HEADER.pack(0, 4, WINDOW_UPDATE, 0, stream_id) + _U32.pack(increment)


def rst_stream(stream_id: int, code: int) -> bytes:
    """Ends one stream at once."""
    return _HEADER.pack(0, 4, RST_STREAM, 0, stream_id) + _U32.pack(code)


def goaway(last_stream_id: int, code: int, debug: str = "") -> bytes:
    """Ends a connection for streams above `last_stream_id`; `debug` is read by humans only."""
    return frame(GOAWAY, 0, 0, _GOAWAY.pack(last_stream_id, code) + debug.encode()[:256])


def settings(values: dict[int, int]) -> bytes:
    """A SETTINGS frame with these identifiers and values, in the given order."""
    return frame(SETTINGS, 0, 0, b"".join(_SETTING.pack(*item) for item in values.items()))


def read_settings(payload: bytes) -> list[tuple[int, int]]:
    """(identifier, value) pairs of a SETTINGS payload.

    Raises:
        RemoteProtocolError: a length that is not a multiple of six, or a value out of range.
    """
    if len(payload) % 6:
        raise RemoteProtocolError(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS length")
    pairs = [(key, value) for key, value in _SETTING.iter_unpack(payload)]
    for key, value in pairs:
        if key == INITIAL_WINDOW_SIZE and value > MAX_WINDOW:
            raise RemoteProtocolError(ErrorCode.FLOW_CONTROL_ERROR, "INITIAL_WINDOW_SIZE")
        if key == MAX_FRAME_SIZE and not DEFAULT_MAX_FRAME <= value < 1 << 24:
            raise RemoteProtocolError(ErrorCode.PROTOCOL_ERROR, "MAX_FRAME_SIZE")
        if key == ENABLE_PUSH and value > 1:
            raise RemoteProtocolError(ErrorCode.PROTOCOL_ERROR, "ENABLE_PUSH")
    return pairs


def check_shape(kind: int, flags: int, stream_id: int, payload: bytes) -> None:
    """What section 6 says of a control frame's place and length, whatever it means.

    Raises:
        RemoteProtocolError: it is on a stream but about the connection, or the other way round; it
            has another length than its kind; a stream depends on itself.
    """
    if (kind in _ABOUT_CONNECTION and stream_id) or (kind in _ABOUT_STREAM and not stream_id):
        raise RemoteProtocolError(ErrorCode.PROTOCOL_ERROR, f"frame {kind} on stream {stream_id}")
    size = len(payload)
    if size != _LENGTHS.get(kind, size) or (kind == GOAWAY and size < _GOAWAY.size):
        raise RemoteProtocolError(ErrorCode.FRAME_SIZE_ERROR, f"frame {kind} of {size} bytes")
    if kind == SETTINGS and flags & ACK and payload:
        raise RemoteProtocolError(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS acknowledgement")
    if kind == PRIORITY:
        check_dependency(stream_id, payload)


def check_dependency(stream_id: int, payload: bytes) -> None:
    """Looks at the priority fields of PRIORITY or HEADERS; nothing else is done with them.

    Raises:
        RemoteProtocolError: the stream depends on itself (RFC 7540, 5.3.1, which RFC 9113 keeps).
    """
    if int.from_bytes(payload[:4], "big") & MAX_STREAM_ID == stream_id:
        raise RemoteProtocolError(ErrorCode.PROTOCOL_ERROR, "a stream depends on itself")


def strip_padding(payload: bytes, flags: int) -> bytes:
    """A HEADERS or DATA payload without padding and without the priority fields.

    Raises:
        RemoteProtocolError: padding that is longer than the payload, or fields that do not fit.
    """
    size = len(payload)
    start, end = 0, size
    if flags & PADDED:
        if not payload:
            raise RemoteProtocolError(ErrorCode.FRAME_SIZE_ERROR, "no pad length")
        start, end = 1, size - payload[0]
    if flags & WITH_PRIORITY:
        start += 5
        if size < start:
            raise RemoteProtocolError(ErrorCode.FRAME_SIZE_ERROR, "no room for the priority")
    if end < start:
        raise RemoteProtocolError(ErrorCode.PROTOCOL_ERROR, "padding exceeds the payload")
    return payload[start:end]
