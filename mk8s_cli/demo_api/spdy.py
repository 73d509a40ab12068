"""SPDY/3.1, the server's half of one connection; used by `pods`.

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

SYN_STREAM, SYN_REPLY, PING, GOAWAY = 1, 2, 6, 7
FIN = 1


@functools.cache
def dictionary() -> bytes:
    """The zlib dictionary of header blocks."""
    found = data("spdy")
    words = (struct.pack(">I", len(word)) + word.encode() for word in found["words"])
    return b"".join(words) + "".join(found["text"]).encode()


class SpdyConnection:
    """A parser of aiohttp's kind: fed with received bytes, it feeds `stdin` and calls `write`."""

    def __init__(
        self, write: Callable[[bytes], None], stdin: asyncio.StreamReader, wanted: set[str]
    ) -> None:
        self.streams: dict[str, int] = {}
        """Ids of the streams that the client opened, by their `streamtype`."""
        self.opened = asyncio.Event()
        """Set when the client has opened all wanted streams."""
        self.closed = asyncio.Event()
        self._write = write
        self._stdin = stdin
        self._wanted = wanted
        self._buffer = b""
        self._inflate = zlib.decompressobj(zdict=dictionary())
        self._deflate = zlib.compressobj(zdict=dictionary())

    def feed_data(self, raw: bytes) -> tuple[bool, bytes]:
        """Received bytes; (True, ...) when they break the protocol, which ends the connection."""
        self._buffer += raw
        try:
            while len(self._buffer) >= (size := 8 + int.from_bytes(self._buffer[5:8], "big")):
                frame, self._buffer = self._buffer[:size], self._buffer[size:]
                self._handle(frame, frame[8:])
        except (ValueError, struct.error, zlib.error):
            self.feed_eof()
            return True, b""
        return False, b""

    def feed_eof(self) -> None:
        """The connection is gone."""
        self.streams.clear()
        self.closed.set()
        self.opened.set()
        self._stdin.feed_eof()

    def _handle(self, frame: bytes, body: bytes) -> None:
        version, kind, flags = struct.unpack_from(">HHB", frame)
        if version < 0x8000:
            if int.from_bytes(frame[:4], "big") == self.streams.get("stdin"):
                self._stdin.feed_data(body)
                if flags & FIN:
                    del self.streams["stdin"]
                    self._stdin.feed_eof()
        elif version != 0x8003:
            raise ValueError("not a SPDY/3 control frame")
        elif kind == SYN_STREAM:
            (stream,) = struct.unpack_from(">I", body)
            self._open(stream, self._inflate.decompress(body[10:]))
        elif kind == PING:
            self._write(frame)
        elif kind == GOAWAY:
            self.feed_eof()

    def _open(self, stream: int, headers: bytes) -> None:
        """A stream is opened, and answered without headers."""
        (count,), at, words = struct.unpack_from(">I", headers), 4, []
        while at < len(headers):
            (length,) = struct.unpack_from(">I", headers, at)
            words.append(headers[at + 4 : at + 4 + length].decode("latin-1").lower())
            at += 4 + length
        if len(words) != 2 * count:
            raise ValueError("a header block that is none")
        self.streams[dict(zip(words[::2], words[1::2], strict=True)).get("streamtype", "")] = stream
        block = self._deflate.compress(bytes(4)) + self._deflate.flush(zlib.Z_SYNC_FLUSH)
        self._write(struct.pack(">HHII", 0x8003, SYN_REPLY, 4 + len(block), stream) + block)
        if self._wanted <= self.streams.keys():
            self.opened.set()

    def data(self, name: str, raw: bytes, *, end: bool = False) -> bytes:
        """A DATA frame for a stream, nothing if the client has not opened it."""
        if name not in self.streams:
            return b""
        return struct.pack(">II", self.streams[name], (FIN if end else 0) << 24 | len(raw)) + raw
