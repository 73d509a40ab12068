"""SPDY/3.1 framing, the server's half, without I/O; used by `exec`.

Only what kubectl's remote command needs (SPDY Protocol Draft 3.1, as moby/spdystream speaks it):
control frames 0x8003 with type, flags, 24-bit length; header blocks deflated with the draft's
dictionary in one zlib context per direction. Windows are not kept, as spdystream keeps none.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from mk8s_cli.demo_api.spdy_dictionary import DICTIONARY

SYN_STREAM, SYN_REPLY, RST_STREAM, SETTINGS, PING, GOAWAY, HEADERS, WINDOW_UPDATE = (
    1,
    2,
    3,
    4,
    6,
    7,
    8,
    9,
)
FIN = 1
MAX_FRAME_BYTES = 1 << 20
MAX_HEADER_BYTES = 1 << 16


class SpdyError(Exception):
    """The peer broke the protocol; the connection is over."""


@dataclass(frozen=True, slots=True)
class Opened:
    """The client opened a stream."""

    stream: int
    headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class Received:
    """Bytes on a stream; `end` when the client half-closed it."""

    stream: int
    raw: bytes
    end: bool


@dataclass(frozen=True, slots=True)
class Pinged:
    """A PING, to be answered with its own bytes."""

    reply: bytes


@dataclass(frozen=True, slots=True)
class Closed:
    """The stream (or with 0 the connection) was given up."""

    stream: int


Event = Opened | Received | Pinged | Closed


class SpdyServer:
    """Frames in, events out; and the bytes of our own frames."""

    def __init__(self) -> None:
        self._buffer = b""
        self._inflate = zlib.decompressobj(zdict=DICTIONARY)
        self._deflate = zlib.compressobj(zdict=DICTIONARY)

    def feed(self, raw: bytes) -> Iterator[Event]:
        """The events of received bytes; raises SpdyError."""
        self._buffer += raw
        while len(self._buffer) >= 8:
            length = int.from_bytes(self._buffer[5:8], "big")
            if length > MAX_FRAME_BYTES:
                raise SpdyError(f"frame of {length} bytes")
            if len(self._buffer) < 8 + length:
                return
            head, body = self._buffer[:8], self._buffer[8 : 8 + length]
            self._buffer = self._buffer[8 + length :]
            event = self._control(head, body) if head[0] & 128 else self._data(head, body)
            if event is not None:
                yield event

    def _data(self, head: bytes, body: bytes) -> Event | None:
        stream, end = int.from_bytes(head[:4], "big"), bool(head[4] & FIN)
        return Received(stream, body, end) if body or end else None

    def _control(self, head: bytes, body: bytes) -> Event | None:
        version, kind = struct.unpack(">HH", head[:4])
        if version != 0x8003 or len(body) < 4:
            raise SpdyError("not a SPDY/3 control frame")
        stream = int.from_bytes(body[:4], "big") & 0x7FFFFFFF
        if kind == SYN_STREAM:
            return Opened(stream, self._read_headers(body[10:]))
        if kind == HEADERS:
            self._read_headers(body[4:])  # keeps the zlib context in step
        if kind == RST_STREAM:
            return Closed(stream)
        if kind == GOAWAY:
            return Closed(0)
        return Pinged(head + body) if kind == PING else None

    def _read_headers(self, block: bytes) -> dict[str, str]:
        try:
            raw = self._inflate.decompress(block, MAX_HEADER_BYTES)
            (count,), at = struct.unpack_from(">I", raw), 4
            words = []
            for _ in range(min(count, MAX_HEADER_BYTES) * 2):
                (length,) = struct.unpack_from(">I", raw, at)
                words.append(raw[at + 4 : at + 4 + length].decode("latin-1").lower())
                at += 4 + length
        except (zlib.error, struct.error) as error:
            raise SpdyError(f"header block: {error}") from error
        return dict(zip(words[::2], words[1::2], strict=True))

    def accept(self, stream: int) -> bytes:
        """SYN_REPLY without headers."""
        block = self._deflate.compress(struct.pack(">I", 0)) + self._deflate.flush(
            zlib.Z_SYNC_FLUSH
        )
        return self._frame(SYN_REPLY, struct.pack(">I", stream) + block)

    def data(self, stream: int, raw: bytes, *, end: bool = False) -> bytes:
        """DATA."""
        return struct.pack(">IB", stream, FIN if end else 0) + len(raw).to_bytes(3, "big") + raw

    def goaway(self, last: int) -> bytes:
        """GOAWAY with status OK."""
        return self._frame(GOAWAY, struct.pack(">II", last, 0))

    def _frame(self, kind: int, body: bytes) -> bytes:
        return struct.pack(">HHB", 0x8003, kind, 0) + len(body).to_bytes(3, "big") + body
