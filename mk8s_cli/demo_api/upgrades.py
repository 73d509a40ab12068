"""Connections that leave HTTP, for `remote_command` and `port_forward`: WebSocket and SPDY/3.1."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, cast

from aiohttp import WSMsgType, web
from aiohttp.http import WebSocketReader

from mk8s_cli.demo_api.call import Call
from mk8s_cli.demo_api.inlet import CHUNK_BYTES
from mk8s_cli.demo_api.objects import ApiError

WEBSOCKET, SPDY = "websocket", "spdy/3.1"
OFFERS = {WEBSOCKET: "Sec-WebSocket-Protocol", SPDY: "X-Stream-Protocol-Version"}
"""The header in which a client offers protocols."""


@dataclass(frozen=True, slots=True)
class Upgraded:
    """An upgraded connection: messages or, over SPDY, pieces of the byte stream, both ways."""

    response: web.StreamResponse
    received: AsyncIterator[bytes]
    send: Callable[[bytes], Awaitable[None]]


@contextlib.asynccontextmanager
async def upgraded(call: Call, known: Mapping[str, tuple[str, ...]]) -> AsyncIterator[Upgraded]:
    """The connection until the end of the block; raises 400 unless a protocol is known.

    A block that ends because the client left, or took too long, ends well.
    """
    upgrade = call.request.headers.get("Upgrade", "").lower()
    if upgrade not in known:
        raise ApiError(400, "Upgrade request required")
    offered = ",".join(call.request.headers.getall(OFFERS[upgrade], []))
    protocols = [name.strip() for name in offered.split(",") if name.strip() in known[upgrade]]
    if not protocols:
        words = f"{offered or '(none)'}; known are {', '.join(known[upgrade])}"
        raise ApiError(400, f"none of the offered protocols is known: {words}")
    over = _websocket if upgrade == WEBSOCKET else _spdy
    with contextlib.suppress(ConnectionError, TimeoutError):
        async with over(call, protocols[0]) as connection:
            yield connection


@contextlib.asynccontextmanager
async def _websocket(call: Call, protocol: str) -> AsyncIterator[Upgraded]:
    socket = web.WebSocketResponse(protocols=[protocol], compress=False)
    await socket.prepare(call.request)

    async def messages() -> AsyncIterator[bytes]:
        async for message in socket:
            if message.type is not WSMsgType.BINARY:
                await socket.close(code=1003, message=b"only binary messages are expected")
                break
            yield message.data

    yield Upgraded(socket, messages(), socket.send_bytes)
    await socket.close()


class _Bytes:
    """A parser of aiohttp's kind, of no form at all: what follows the 101 is in `reader`."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self.reader = asyncio.StreamReader(CHUNK_BYTES)
        self.reader.set_transport(transport)

    def feed_data(self, raw: bytes) -> tuple[bool, bytes]:
        self.reader.feed_data(raw)
        return False, b""

    def feed_eof(self) -> None:
        self.reader.feed_eof()


@contextlib.asynccontextmanager
async def _spdy(call: Call, protocol: str) -> AsyncIterator[Upgraded]:
    transport = call.request.transport
    assert transport is not None  # it is None only after the end
    response = web.StreamResponse(status=101)
    response.headers["X-Stream-Protocol-Version"] = protocol
    response.headers.update({"Connection": "Upgrade", "Upgrade": "SPDY/3.1"})
    response.force_close()
    after = _Bytes(transport)
    # Before the 101 is sent: all that follows it is SPDY.
    call.request.protocol.set_parser(cast("WebSocketReader", after))
    await response.prepare(call.request)

    async def pieces() -> AsyncIterator[bytes]:
        while piece := await after.reader.read(CHUNK_BYTES):
            yield piece

    try:
        yield Upgraded(response, pieces(), response.write)
    finally:
        transport.close()


async def until_one_ends(*work: Coroutine[Any, Any, None]) -> None:
    """Runs all of it until one part ends, well or not; the others are cancelled."""
    tasks = [asyncio.create_task(part, name="demo-stream") for part in work]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()
