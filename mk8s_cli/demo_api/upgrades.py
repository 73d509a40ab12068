"""Connections that leave HTTP: WebSocket and SPDY/3.1.

Used by `watches`, `remote_command` and `port_forward`. Source for channels in WebSocket messages:
`httpstream/wsstream` of k8s.io/streaming, which answers a client that names no protocol, too.
"""

import asyncio
import base64
import binascii
import contextlib
import re
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
ORIGIN = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:|/")
BEARER = "base64url.bearer.authorization.k8s.io."
"""What a browser offers instead of a header: the prefix of its bearer token, in base64url."""


@dataclass(frozen=True, slots=True)
class Upgraded:
    """An upgraded connection: messages or, over SPDY, pieces of the byte stream, both ways."""

    response: web.StreamResponse
    protocol: str
    """"" where the client named none."""
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
    names = offered(call.request, upgrade) or [""]
    protocol = next((name for name in names if name in known[upgrade]), None)
    if protocol is None:
        words = f"{', '.join(names) or '(none)'}; known are {', '.join(known[upgrade])}"
        raise ApiError(400, f"none of the offered protocols is known: {words}")
    over = _websocket if upgrade == WEBSOCKET else _spdy
    with contextlib.suppress(ConnectionError, TimeoutError):
        async with over(call, protocol) as connection:
            yield connection


def offered(request: web.Request, upgrade: str) -> list[str]:
    """The protocols that a client offers, without the one that is its credential."""
    names = ",".join(request.headers.getall(OFFERS[upgrade], [])).split(",")
    return [name.strip() for name in names if name.strip() and not is_bearer(name)]


def is_bearer(name: str) -> bool:
    """Whether an offered protocol is a credential."""
    return name.strip().startswith(BEARER)


@contextlib.asynccontextmanager
async def message_socket(call: Call) -> AsyncIterator[web.WebSocketResponse]:
    """A WebSocket whose protocol means nothing: the one that is offered, if it is, is agreed on.

    Raises 400 for several, and 403 without an Origin, as golang.org/x/net/websocket does, by which
    kube-apiserver serves watches.
    """
    names = offered(call.request, WEBSOCKET)
    if not ORIGIN.match(call.request.headers.get("Origin", "")):
        raise ApiError(403, "a WebSocket without an Origin")
    if len(names) > 1:
        raise ApiError(400, "one protocol at most can be agreed on")
    socket = web.WebSocketResponse(protocols=names, compress=False)
    await socket.prepare(call.request)
    with contextlib.suppress(ConnectionError):
        yield socket
        await socket.close()


@contextlib.asynccontextmanager
async def _websocket(call: Call, protocol: str) -> AsyncIterator[Upgraded]:
    socket = web.WebSocketResponse(protocols=[protocol] if protocol else [], compress=False)
    await socket.prepare(call.request)
    is_text = "base64." in protocol

    async def messages() -> AsyncIterator[bytes]:
        async for message in socket:
            raw = message.data.encode() if message.type is WSMsgType.TEXT else message.data
            if message.type is WSMsgType.TEXT and protocol.startswith("SPDY"):
                await socket.close(code=1003, message=b"only binary messages are expected")
                break
            if found := _from_text(raw) if is_text else raw:
                yield found

    async def send(raw: bytes) -> None:
        if is_text:
            await socket.send_str(chr(48 + raw[0]) + base64.b64encode(raw[1:]).decode())
        else:
            await socket.send_bytes(raw)

    yield Upgraded(socket, protocol, messages(), send)
    await socket.close()


def _from_text(raw: bytes) -> bytes:
    """A message of the base64 protocols as the others have it; empty for one that is none."""
    try:
        return bytes([raw[0] - 48]) + base64.b64decode(raw[1:], validate=True)
    except (IndexError, ValueError, binascii.Error):
        return b""


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
        yield Upgraded(response, protocol, pieces(), response.write)
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
