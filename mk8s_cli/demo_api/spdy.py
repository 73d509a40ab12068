"""SPDY/3.1, the server's half of one connection; used by `remote_command`.

Only what kubectl's remote command needs (SPDY Protocol Draft 3.1, as moby/spdystream speaks it):
control frames 0x8003 with type, flags, 24-bit length; header blocks deflated with the draft's
dictionary in one zlib context per direction. Windows are not kept, as spdystream keeps none.
"""

import asyncio
import functools
import struct
import zlib
from collections.abc import Callable

from mk8s_cli.demo_api.catalogue import data

SYN_STREAM, SYN_REPLY, PING, GOAWAY, HEADERS = 1, 2, 6, 7, 8
FIN = 1
MAX_FRAME_BYTES = 1 << 20
MAX_HEADER_BYTES = 1 << 16


@functools.cache
def dictionary() -> bytes:
    """The zlib dictionary of header blocks."""
    found = data("spdy")
    words = (struct.pack(">I", len(word)) + word.encode() for word in found["words"])
    return b"".join(words) + "".join(found["text"]).encode()


class SpdyConnection:
    """A parser of aiohttp's kind: fed with received bytes, it calls `write` and `stdin`."""

    def __init__(self, write: Callable[[bytes], None], stdin: Callable[[bytes], None]) -> None:
        self.streams: dict[str, int] = {}
        """Ids of the streams that the client opened, by their `streamtype`."""
        self.changed = asyncio.Event()
        """Set when a stream is opened, or the connection ends."""
        self.closed = asyncio.Event()
        self._write = write
        self._stdin = stdin
        self._buffer = b""
        self._inflate = zlib.decompressobj(zdict=dictionary())
        self._deflate = zlib.compressobj(zdict=dictionary())

    def feed_data(self, raw: bytes) -> tuple[bool, bytes]:
        """Received bytes; (True, ...) when they break the protocol, which ends the connection."""
        self._buffer += raw
        try:
            while len(self._buffer) >= 8:
                length = int.from_bytes(self._buffer[5:8], "big")
                if len(self._buffer) < 8 + length:
                    break
                frame, self._buffer = self._buffer[: 8 + length], self._buffer[8 + length :]
                self._handle(frame, frame[8:])
        except (ValueError, struct.error, zlib.error):
            self._buffer = bytes(MAX_FRAME_BYTES + 1)
        if len(self._buffer) > MAX_FRAME_BYTES:
            self.feed_eof()
            return True, b""
        return False, b""

    def feed_eof(self) -> None:
        """The connection is gone."""
        self.closed.set()
        self.changed.set()
        self._stdin(b"")

    def _handle(self, frame: bytes, body: bytes) -> None:
        version, kind, stream = struct.unpack(">HHxxxxI", (frame + bytes(4))[:12])
        if not frame[0] & 128:
            if int.from_bytes(frame[:4], "big") == self.streams.get("stdin"):
                self._data(body, end=bool(frame[4] & FIN))
        elif version != 0x8003:
            raise ValueError("not a SPDY/3 control frame")
        elif kind == SYN_STREAM:
            headers = self._read_headers(body[10:])
            self.streams[headers.get("streamtype", "")] = stream
            self._accept(stream)
            self.changed.set()
        elif kind == HEADERS:
            self._read_headers(body[4:])  # keeps the zlib context in step
        elif kind == PING:
            self._write(frame)
        elif kind == GOAWAY:
            self.feed_eof()

    def _data(self, raw: bytes, *, end: bool) -> None:
        if raw:
            self._stdin(raw)
        if end:
            self._stdin(b"")

    def _read_headers(self, block: bytes) -> dict[str, str]:
        raw = self._inflate.decompress(block, MAX_HEADER_BYTES)
        (count,), at, words = struct.unpack_from(">I", raw), 4, []
        for _ in range(min(count, MAX_HEADER_BYTES) * 2):
            (length,) = struct.unpack_from(">I", raw, at)
            words.append(raw[at + 4 : at + 4 + length].decode("latin-1").lower())
            at += 4 + length
        return dict(zip(words[::2], words[1::2], strict=True))

    def _accept(self, stream: int) -> None:
        """SYN_REPLY without headers."""
        block = self._deflate.compress(bytes(4)) + self._deflate.flush(zlib.Z_SYNC_FLUSH)
        body = struct.pack(">I", stream) + block
        self._write(struct.pack(">HHI", 0x8003, SYN_REPLY, len(body)) + body)

    def data(self, name: str, raw: bytes, *, end: bool = False) -> bytes:
        """A DATA frame for a stream, nothing if the client has not opened it."""
        if name not in self.streams:
            return b""
        return struct.pack(">II", self.streams[name], (FIN if end else 0) << 24 | len(raw)) + raw
