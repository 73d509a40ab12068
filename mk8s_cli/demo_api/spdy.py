"""SPDY/3.1, the server's half of one connection; used by `remote_command` and `port_forward`.

Only what kubectl needs (SPDY Protocol Draft 3.1, as moby/spdystream speaks it): control frames
0x8003 with type, flags, 24-bit length; header blocks deflated with the draft's dictionary in one
zlib context per direction. Windows are not kept, as spdystream keeps none: a stream that nobody
reads holds up its whole connection, and no other.
"""

import functools
import struct
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable

from mk8s_cli.demo_api.catalogue import data
from mk8s_cli.demo_api.inlet import Inlet

SYN_STREAM, SYN_REPLY, RST_STREAM, PING, GOAWAY = 1, 2, 3, 6, 7
FIN = 1
CANCEL, PROTOCOL_ERROR = 5, 1
"""Reasons of RST_STREAM and GOAWAY."""
MAX_BYTES = 1 << 20
"""Of a frame, and of a header block when inflated."""
MAX_STREAMS = 4096


@functools.cache
def dictionary() -> bytes:
    """The zlib dictionary of header blocks."""
    found = data("spdy")
    words = (struct.pack(">I", len(word)) + word.encode() for word in found["words"])
    return b"".join(words) + "".join(found["text"]).encode()


def control(kind: int, body: bytes) -> bytes:
    """A control frame without flags."""
    return struct.pack(">HHI", 0x8003, kind, len(body)) + body


async def frames(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The frames that the chunks hold; ValueError for a large one."""
    buffer = bytearray()
    async for chunk in chunks:
        buffer += chunk
        while len(buffer) >= (size := 8 + int.from_bytes(buffer[5:8], "big")):
            yield bytes(buffer[:size])
            del buffer[:size]
        if size > MAX_BYTES:
            raise ValueError("a frame that is too large")


class SpdyStream:
    """A stream that the client opened with these headers; what it sends is in `inlet`."""

    def __init__(self, connection: "SpdyConnection", number: int, headers: dict[str, str]) -> None:
        self.headers = headers
        self.inlet = Inlet()
        self._connection = connection
        self._number = number

    async def send(self, raw: bytes, *, end: bool = False) -> None:
        """Send to the client; `end` ends both directions. ConnectionResetError if it is gone."""
        if self._number not in self._connection.streams:
            raise ConnectionResetError("the client left the stream")
        if end:
            self._connection.forget(self._number)
        flags = FIN if end else 0
        await self._connection.send(struct.pack(">II", self._number, flags << 24 | len(raw)) + raw)


class SpdyConnection:
    """One connection: `send` carries frames away, `opened` gets each stream or refuses it."""

    def __init__(
        self, send: Callable[[bytes], Awaitable[None]], opened: Callable[[SpdyStream], None]
    ) -> None:
        self.streams: dict[int, SpdyStream] = {}
        self.send = send
        self._opened = opened
        self._inflate = zlib.decompressobj(zdict=dictionary())
        self._deflate = zlib.compressobj(zdict=dictionary())

    async def receive(self, chunks: AsyncIterator[bytes]) -> None:
        """Handles what arrives until its end, GOAWAY, or a violation, which the client is told."""
        try:
            async for frame in frames(chunks):
                if frame[:4] == control(GOAWAY, b"")[:4]:
                    break
                await self._handle(frame)
        except (ValueError, struct.error, zlib.error):
            await self.send(control(GOAWAY, struct.pack(">II", 0, PROTOCOL_ERROR)))
        finally:
            for number in [*self.streams]:
                self.forget(number)

    def forget(self, number: int) -> None:
        """A stream has ended."""
        if stream := self.streams.pop(number, None):
            stream.inlet.end()

    async def _handle(self, frame: bytes) -> None:
        version, kind, flags = struct.unpack_from(">HHB", frame)
        if version < 0x8000:
            await self._data(int.from_bytes(frame[:4], "big"), flags, frame[8:])
            return
        (number,) = struct.unpack_from(">I", frame, 8)
        if version != 0x8003:
            raise ValueError("not a SPDY/3 control frame")
        if kind == SYN_STREAM:
            await self._open(number, self._headers(frame[18:]))
            await self._data(number, flags, b"")
        elif kind == RST_STREAM:
            self.forget(number)
        elif kind == PING:
            await self.send(frame)

    async def _data(self, number: int, flags: int, body: bytes) -> None:
        if stream := self.streams.get(number):  # otherwise it has just ended
            await stream.inlet.feed(body)
            if flags & FIN:
                stream.inlet.end()

    async def _open(self, number: int, headers: dict[str, str]) -> None:
        """A stream is answered without headers, or reset when nobody wants it."""
        if number in self.streams or len(self.streams) >= MAX_STREAMS:
            raise ValueError("a stream twice, or too many")
        stream = SpdyStream(self, number, headers)
        block = self._deflate.compress(bytes(4)) + self._deflate.flush(zlib.Z_SYNC_FLUSH)
        self.streams[number] = stream
        await self.send(control(SYN_REPLY, struct.pack(">I", number) + block))
        try:
            self._opened(stream)
        except ValueError:
            self.forget(number)
            await self.send(control(RST_STREAM, struct.pack(">II", number, CANCEL)))

    def _headers(self, block: bytes) -> dict[str, str]:
        raw = self._inflate.decompress(block, MAX_BYTES)
        (count,), at, words = struct.unpack_from(">I", raw), 4, list[str]()
        while at < len(raw):
            (length,) = struct.unpack_from(">I", raw, at)
            words.append(raw[at + 4 : at + 4 + length].decode("latin-1").lower())
            at += 4 + length
        if self._inflate.unconsumed_tail or len(words) != 2 * count:
            raise ValueError("a header block that is none")
        return dict(zip(words[::2], words[1::2], strict=True))
