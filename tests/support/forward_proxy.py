"""A forward proxy on loopback, of HTTP, of HTTP inside TLS, or of SOCKS 5."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator


class ForwardProxy:
    """Connects to loopback, whatever name it is asked for; the port is the one asked for."""

    def __init__(self, *, socks: bool = False, answer: bytes = b"") -> None:
        self.heads: list[bytes] = []
        """Of the requests, or of SOCKS the names."""
        self.port = 0
        self._serve_one = self._socks if socks else self._http
        self._answer = answer
        """What is said instead of connecting."""
        self._open: set[asyncio.StreamWriter] = set()

    @contextlib.asynccontextmanager
    async def serve(self, context: ssl.SSLContext | None = None) -> AsyncIterator["ForwardProxy"]:
        server = await asyncio.start_server(self._guarded, "127.0.0.1", 0, ssl=context)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for writer in self._open:
                writer.transport.abort()
            await asyncio.sleep(0.01)

    async def _guarded(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            await self._serve_one(reader, writer)
        writer.transport.abort()

    async def _http(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        if self._answer:
            writer.write(self._answer)
            await writer.drain()
            return
        port = int(head.split()[1].rpartition(b":")[2])
        await self._relay(reader, writer, port, b"HTTP/1.1 200 OK\r\n\r\n")

    async def _socks(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(3)
        writer.write(b"\x05\x00")
        asked = await reader.readexactly(5)
        name = await reader.readexactly(asked[4])
        self.heads.append(name)
        port = int.from_bytes(await reader.readexactly(2), "big")
        await self._relay(reader, writer, port, b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x50")

    async def _relay(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        port: int,
        connected: bytes,
    ) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", port)
        self._open.add(back)
        writer.write(connected)
        async with asyncio.TaskGroup() as group:
            group.create_task(_pump(reader, back))
            group.create_task(_pump(there, writer))


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()
        sink.close()
