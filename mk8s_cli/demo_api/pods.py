"""What runs in pods: logs, and exec and attach over SPDY/3.1 and WebSocket; called by `server`.

Protocols: k8s.io/apimachinery/pkg/util/remotecommand. The last word of a session is a Status on
the error stream (v4 and later), which carries the exit code.
"""

import asyncio
import contextlib
import itertools
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import cast

from aiohttp import web
from aiohttp.http import WebSocketReader

from mk8s_cli.demo_api.call import Call
from mk8s_cli.demo_api.objects import STATUS, ApiError
from mk8s_cli.demo_api.shell import Shell
from mk8s_cli.demo_api.spdy import SpdyConnection

LOG_SECONDS: web.AppKey[float] = web.AppKey("log_seconds", float)
"""The pace of followed logs."""
PAST_LINES = 20
"""Lines that every container has already written."""
PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")
CHANNELS = {"stdin": 0, "stdout": 1, "stderr": 2, "error": 3}
"""Numbers of the streams in WebSocket messages."""
CLOSE = 255
"""The channel on which a client half-closes (v5) the stream that the next byte names."""
WAIT_SECONDS = 30.0
"""How long a client may take to open its streams, and to hang up at the end."""


def _check_container(call: Call) -> None:
    """Raises 400 unless the query names a container of the pod, or there is only one."""
    names = [entry["name"] for entry in call.current()["spec"]["containers"]]
    wanted = call.request.query.get("container", "")
    if not wanted and len(names) > 1:
        choices = f"choose one of: [{' '.join(names)}]"
        raise ApiError(400, f"a container name must be specified for pod {call.name}, {choices}")
    if wanted and wanted not in names:
        raise ApiError(400, f"container {wanted} is not valid for pod {call.name}")


async def log(call: Call) -> web.StreamResponse:
    """The lines of a container; with follow one more each second until the client leaves."""
    _check_container(call)

    def line(number: int, moment: datetime) -> bytes:
        stamp = f"{moment:%Y-%m-%dT%H:%M:%S.%f}000Z " if call.flag("timestamps") else ""
        return f'{stamp}{call.name} demo[{number}]: "GET /healthz HTTP/1.1" 200\n'.encode()

    start = datetime.now(UTC) - timedelta(seconds=PAST_LINES)
    lines = [line(at, start + timedelta(seconds=at)) for at in range(1, PAST_LINES + 1)]
    for limit in ("sinceSeconds", "tailLines"):
        if call.request.query.get(limit):
            lines = lines[max(0, len(lines) - call.number(limit)) :]
    text = b"".join(lines)[: call.number("limitBytes") or None]
    response = web.StreamResponse(headers={"Content-Type": "text/plain"})
    await response.prepare(call.request)
    await response.write(text)
    for number in itertools.count(PAST_LINES + 1) if call.flag("follow") else ():
        await asyncio.sleep(call.request.app[LOG_SECONDS])
        await response.write(line(number, datetime.now(UTC)))
    return response


async def execute(call: Call) -> web.StreamResponse:
    """exec: runs the shell's idea of the command; attach: a shell."""
    _check_container(call)
    is_attach = call.subresource == "attach"
    command = ["sh"] if is_attach else call.request.query.getall("command", [])
    upgrade = call.request.headers.get("Upgrade", "").lower()
    serve = {"websocket": _serve_websocket, "spdy/3.1": _serve_spdy}.get(upgrade)
    if not command:
        raise ApiError(400, "you must specify at least one command for the container")
    if serve is None:
        raise ApiError(400, "Upgrade request required")
    return await serve(call, command)


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
        shell.stdin.feed_eof()
    return shell


def _exit_status(code: int) -> bytes:
    """The Status of an ended command (v4.channel.k8s.io)."""
    causes = [{"reason": "ExitCode", "message": str(code)}]
    message = f"command terminated with non-zero exit code: exit status {code}"
    failure = ApiError(500, message, "NonZeroExitCode", causes=causes)
    return json.dumps(failure.status if code else {**STATUS, "status": "Success"}).encode()


async def _serve_websocket(call: Call, command: list[str]) -> web.StreamResponse:
    _protocol(call, "Sec-WebSocket-Protocol")
    socket = web.WebSocketResponse(protocols=PROTOCOLS, compress=False)
    await socket.prepare(call.request)

    async def send(name: str, raw: bytes) -> None:
        await socket.send_bytes(bytes([CHANNELS[name]]) + raw)

    async def read() -> None:
        async for message in socket:
            if message.data[:1] == bytes([CHANNELS["stdin"]]):
                shell.stdin.feed_data(message.data[1:])
            elif message.data == bytes([CLOSE, CHANNELS["stdin"]]):
                break
        shell.stdin.feed_eof()

    shell = _shell(call, send)
    reader = asyncio.create_task(read(), name="demo-exec-reader")
    try:
        with contextlib.suppress(ConnectionError):  # the client left
            await send("error", _exit_status(await shell.run(command)))
            await socket.close()
    finally:
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)
    return socket


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
    wanted = {name for name in ("stdin", "stdout", "stderr") if call.flag(name)} | {"error"}
    wanted -= {"stderr"} if shell.tty else set()  # a terminal has one output
    connection = SpdyConnection(transport.write, shell.stdin, wanted)
    # Before the 101 is sent: all that follows it is SPDY.
    call.request.protocol.set_parser(cast("WebSocketReader", connection))
    await response.prepare(call.request)
    with contextlib.suppress(ConnectionError, TimeoutError):  # it left, or is not what it seemed
        async with asyncio.timeout(WAIT_SECONDS):
            await connection.opened.wait()
        await send("error", _exit_status(await shell.run(command)), end=True)
        for name in ("stdout", "stderr"):
            await send(name, b"", end=True)
        async with asyncio.timeout(WAIT_SECONDS):
            await connection.closed.wait()
    transport.close()
    return response
