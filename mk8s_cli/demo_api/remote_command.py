"""exec and attach: the shell over SPDY/3.1 and over WebSocket; called by `subresources`.

Protocols: k8s.io/apimachinery/pkg/util/remotecommand. The last word of a session is a Status on
the error stream (v4 and later), which carries the exit code.
"""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from typing import cast

from aiohttp import WSMsgType, web
from aiohttp.http import WebSocketReader

from mk8s_cli.demo_api.errors import STATUS, ApiError
from mk8s_cli.demo_api.shell import Shell
from mk8s_cli.demo_api.spdy import SpdyConnection
from mk8s_cli.demo_api.state import Call

PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")
CHANNELS = {"stdin": 0, "stdout": 1, "stderr": 2, "error": 3}
"""Numbers of the streams in WebSocket messages."""
STDIN, CLOSE = 0, 255
"""What a client sends on; CLOSE half-closes (v5) the stream that the next byte names."""
OPEN_SECONDS = 30.0
CLOSE_SECONDS = 5.0
"""How long a client may take to open its streams, and to hang up at the end."""


async def serve(call: Call, command: list[str]) -> web.StreamResponse:
    """Upgrades the request and runs the command; raises 400 when no upgrade was asked."""
    upgrade = call.request.headers.get("Upgrade", "").lower()
    if upgrade == "websocket":
        return await _serve_websocket(call, command)
    if upgrade == "spdy/3.1":
        return await _serve_spdy(call, command)
    raise ApiError(400, "Upgrade request required")


def _protocol(call: Call, header: str) -> str:
    """The first known protocol that the client offers; raises 400."""
    offered = ",".join(call.request.headers.getall(header, []))
    for name in offered.split(","):
        if name.strip() in PROTOCOLS:
            return name.strip()
    raise ApiError(400, f"none of the offered protocols is known: {offered or '(none)'}")


def _shell(call: Call, send: Callable[[str, bytes], Awaitable[None]]) -> Shell:
    environment = {"HOSTNAME": call.name, "HOME": "/root", "MK8S_DEMO": "not a container"}
    shell = Shell(send, environment, call.flag("tty"))
    if not call.flag("stdin"):
        shell.feed(b"")
    return shell


def exit_status(code: int) -> bytes:
    """The Status of an ended command (v4.channel.k8s.io)."""
    if code == 0:
        return json.dumps({**STATUS, "status": "Success"}).encode()
    message = f"command terminated with non-zero exit code: exit status {code}"
    details = {"causes": [{"reason": "ExitCode", "message": str(code)}]}
    failure = {"status": "Failure", "reason": "NonZeroExitCode", "message": message}
    return json.dumps({**STATUS, **failure, "details": details}).encode()


async def _serve_websocket(call: Call, command: list[str]) -> web.StreamResponse:
    _protocol(call, "Sec-WebSocket-Protocol")
    socket = web.WebSocketResponse(protocols=PROTOCOLS, compress=False, timeout=CLOSE_SECONDS)
    await socket.prepare(call.request)

    async def send(name: str, raw: bytes) -> None:
        await socket.send_bytes(bytes([CHANNELS[name]]) + raw)

    shell = _shell(call, send)
    reader = asyncio.create_task(_read_websocket(socket, shell), name="demo-exec-reader")
    try:
        with contextlib.suppress(ConnectionError):  # the client left
            await send("error", exit_status(await shell.run(command)))
            await socket.close()
    finally:
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)
    return socket


async def _read_websocket(socket: web.WebSocketResponse, shell: Shell) -> None:
    async for message in socket:
        if message.type is not WSMsgType.BINARY:
            break
        if message.data[:1] == bytes([STDIN]) and message.data[1:]:
            shell.feed(message.data[1:])
        elif message.data == bytes([CLOSE, STDIN]):
            shell.feed(b"")
    shell.feed(b"")


async def _serve_spdy(call: Call, command: list[str]) -> web.StreamResponse:
    protocol, transport = _protocol(call, "X-Stream-Protocol-Version"), call.request.transport
    assert transport is not None  # it is None only after the end
    response = web.StreamResponse(status=101)
    response.headers["X-Stream-Protocol-Version"] = protocol
    response.headers.update({"Connection": "Upgrade", "Upgrade": "SPDY/3.1"})
    response.force_close()

    async def send(name: str, raw: bytes, *, end: bool = False) -> None:
        if connection.closed.is_set():
            raise ConnectionResetError("the client left")
        await response.write(connection.data(name, raw, end=end))

    shell = _shell(call, send)
    connection = SpdyConnection(transport.write, shell.feed)
    # Before the 101 is sent: all that follows it is SPDY.
    call.request.protocol.set_parser(cast("WebSocketReader", connection))
    await response.prepare(call.request)
    with contextlib.suppress(ConnectionError, TimeoutError):  # it left, or is not what it seemed
        await asyncio.wait_for(_opened(call, connection), OPEN_SECONDS)
        await send("error", exit_status(await shell.run(command)), end=True)
        for name in ("stdout", "stderr"):
            await send(name, b"", end=True)
        await asyncio.wait_for(connection.closed.wait(), CLOSE_SECONDS)
    transport.close()
    return response


async def _opened(call: Call, connection: SpdyConnection) -> None:
    """Returns when all streams are open that the query announces; a terminal has no stderr."""
    wanted = {name for name in ("stdin", "stdout", "stderr") if call.flag(name)} | {"error"}
    wanted -= {"stderr"} if call.flag("tty") else set()
    while not (wanted <= connection.streams.keys() or connection.closed.is_set()):
        connection.changed.clear()
        await connection.changed.wait()
