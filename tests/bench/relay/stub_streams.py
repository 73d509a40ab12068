"""The part of the API server stub that nginx cannot play: watches and upgrades, on a Unix socket.

Run by `stub` as a process of its own; nginx, which does TLS and HTTP/2, passes these requests on.
A watch gets one event and then nothing. An upgrade becomes what `command` says: "echo" gives every
byte back, "source-N" sends N bytes, "sink-N" takes N bytes and then says "done".
"""

import asyncio
import re
import sys

_EVENT = b'{"type":"BOOKMARK","object":{"kind":"Pod","apiVersion":"v1","metadata":{}}}\n'
_WATCH = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    + f"{len(_EVENT):x}\r\n".encode()
    + _EVENT
    + b"\r\n"
)
_SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n"
_COMMAND = re.compile(rb"command=(echo|source|sink)(?:-([0-9]+))?")
_CHUNK = bytes(64 * 1024)


class Visitor(asyncio.Protocol):
    """One connection of nginx."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport
        self._head = b""
        self._mode = b""
        self._left = 0
        self._paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if self._mode == b"echo":
            self._transport.write(data)
        elif self._mode == b"sink":
            self._take(len(data))
        elif not self._mode:
            self._head += data
            head, blank, rest = self._head.partition(b"\r\n\r\n")
            if blank:
                self._begin(head)
                if rest:
                    self.data_received(rest)

    def _begin(self, head: bytes) -> None:
        found = _COMMAND.search(head.partition(b"\r\n")[0])
        if found is None:
            self._mode = b"watch"
            self._transport.write(_WATCH)
            return
        self._mode, self._left = found[1], int(found[2] or 0)
        self._transport.write(_SWITCH)
        if self._mode == b"source":
            self._give()

    def _take(self, size: int) -> None:
        self._left -= size
        if self._left <= 0:
            self._transport.write(b"done")

    def _give(self) -> None:
        while self._left > 0 and not self._paused:
            size = min(self._left, len(_CHUNK))
            self._left -= size
            self._transport.write(_CHUNK[:size])

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        if self._mode == b"source":
            self._give()


async def serve(path: str) -> None:
    """Serves until the process is ended."""
    server = await asyncio.get_running_loop().create_unix_server(Visitor, path, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
