"""exec and attach: the small shell, over SPDY/3.1 and WebSocket; called by `server`.

Protocols: k8s.io/apimachinery/pkg/util/remotecommand. The last word of a session is a Status on
the error stream (v4 and later), which carries the exit code; before v4 it is what went wrong.
"""

import asyncio
import json

from aiohttp import web

from mk8s_cli.demo_api.call import Call
from mk8s_cli.demo_api.inlet import Inlet
from mk8s_cli.demo_api.objects import STATUS, ApiError, Document
from mk8s_cli.demo_api.pods import check_container
from mk8s_cli.demo_api.shell import Send, Shell
from mk8s_cli.demo_api.spdy import SpdyConnection, SpdyStream
from mk8s_cli.demo_api.upgrades import SPDY, WEBSOCKET, Upgraded, until_one_ends, upgraded

CHANNEL, BASE64 = "channel.k8s.io", "base64.channel.k8s.io"
OVER_SPDY = (f"v5.{CHANNEL}", f"v4.{CHANNEL}")
OVER_WEBSOCKET = (*OVER_SPDY, f"v4.{BASE64}", CHANNEL, BASE64, "")
CHANNELS = {"stdin": 0, "stdout": 1, "stderr": 2, "error": 3}
"""Numbers of the streams in WebSocket messages."""
CLOSE = 255
"""The channel on which a client half-closes (v5) the stream that the next byte names."""
WAIT_SECONDS = 30.0
"""How long a client may take to open its streams, and to hang up at the end."""


async def execute(call: Call) -> web.StreamResponse:
    """exec: runs the shell's idea of the command; attach: a shell."""
    check_container(call)
    is_attach = call.subresource == "attach"
    command = ["sh"] if is_attach else call.request.query.getall("command", [])
    if not command:
        raise ApiError(400, "you must specify at least one command for the container")
    async with upgraded(call, {WEBSOCKET: OVER_WEBSOCKET, SPDY: OVER_SPDY}) as connection:
        is_websocket = isinstance(connection.response, web.WebSocketResponse)
        serve = _over_websocket if is_websocket else _over_spdy
        await serve(call, connection, command)
    return connection.response


async def _run(call: Call, command: list[str], send: Send, stdin: Inlet) -> Document:
    """Runs the command; the Status of its end."""
    environment = {"HOSTNAME": call.name, "HOME": "/root", "MK8S_DEMO": "not a container"}
    files = call.store.files[call.current()["metadata"]["uid"]]
    if not call.flag("stdin"):
        stdin.end()
    code = await Shell(send, environment, call.flag("tty"), stdin.reader, files).run(command)
    stdin.end()
    causes = [{"reason": "ExitCode", "message": str(code)}]
    message = f"command terminated with non-zero exit code: exit status {code}"
    failure = ApiError(500, message, "NonZeroExitCode", causes=causes)
    return failure.status if code else {**STATUS, "status": "Success"}


async def _over_websocket(call: Call, connection: Upgraded, command: list[str]) -> None:
    stdin = Inlet()

    async def send(name: str, raw: bytes) -> None:
        await connection.send(bytes([CHANNELS[name]]) + raw)

    async def receive() -> None:
        async for message in connection.received:
            if message[:1] == bytes([CHANNELS["stdin"]]):
                await stdin.feed(message[1:])
            elif message == bytes([CLOSE, CHANNELS["stdin"]]):
                stdin.end()

    async def session() -> None:
        # The real ones say by an empty message that they are ready.
        await send(next((it for it in ("stdout", "stderr") if call.flag(it)), "error"), b"")
        status = await _run(call, command, send, stdin)
        is_versioned = connection.protocol.startswith("v")
        if is_versioned or status["status"] != "Success":
            told = json.dumps(status) if is_versioned else status["message"]
            await send("error", told.encode())

    await until_one_ends(receive(), session())


async def _over_spdy(call: Call, connection: Upgraded, command: list[str]) -> None:
    wanted = {name for name in ("stdin", "stdout", "stderr") if call.flag(name)} | {"error"}
    wanted -= {"stderr"} if call.flag("tty") else set()  # a terminal has one output
    streams: dict[str, SpdyStream] = {}
    is_complete = asyncio.Event()

    def opened(stream: SpdyStream) -> None:
        name = stream.headers.get("streamtype", "")
        streams[name] = stream
        if name != "stdin":  # nobody reads, say, the sizes of the window
            stream.inlet.end()
        if wanted <= streams.keys():
            is_complete.set()

    async def send(name: str, raw: bytes, *, end: bool = False) -> None:
        if name in streams:
            await streams[name].send(raw, end=end)

    async def session() -> None:
        async with asyncio.timeout(WAIT_SECONDS):
            await is_complete.wait()
        stdin = streams["stdin"].inlet if "stdin" in wanted else Inlet()
        status = await _run(call, command, send, stdin)
        await send("error", json.dumps(status).encode(), end=True)
        for name in ("stdout", "stderr"):
            await send(name, b"", end=True)
        await asyncio.sleep(WAIT_SECONDS)  # the client hangs up, which ends `receive`

    spdy = SpdyConnection(connection.send, opened)
    await until_one_ends(spdy.receive(connection.received), session())
