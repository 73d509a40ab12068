"""exec and attach: the shell over SPDY/3.1 and over WebSocket; called by `pods`.

Protocols: k8s.io/apimachinery/pkg/util/remotecommand. The last word of a session is a Status on
the error stream (v4 and later), which carries the exit code.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import cast

from aiohttp import WSMsgType, web
from aiohttp.http import WebSocketReader

from mk8s_cli.demo_api import spdy
from mk8s_cli.demo_api.catalogue import Document
from mk8s_cli.demo_api.shell import Shell
from mk8s_cli.demo_api.state import Call
from mk8s_cli.demo_api.status import ApiError

SPDY_PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")
STDIN, STDOUT, STDERR, ERROR, RESIZE, CLOSE = 0, 1, 2, 3, 4, 255
NAMES = {"stdin": STDIN, "stdout": STDOUT, "stderr": STDERR, "error": ERROR, "resize": RESIZE}
OPEN_SECONDS = 30.0
CLOSE_SECONDS = 5.0
"""How long a client may take to open its streams, and to hang up at the end."""
Send = Callable[[int, bytes, bool], Awaitable[None]]


def exit_status(code: int) -> Document:
    """The Status of an ended command (v4.channel.k8s.io)."""
    head: Document = {"kind": "Status", "apiVersion": "v1", "metadata": {}}
    if code == 0:
        return {**head, "status": "Success"}
    message = f"command terminated with non-zero exit code: exit status {code}"
    causes = [{"reason": "ExitCode", "message": str(code)}]
    return {
        **head,
        "status": "Failure",
        "reason": "NonZeroExitCode",
        "message": message,
        "details": {"causes": causes},
    }


class Session:
    """The streams of one command by channel number, whatever carries them."""

    def __init__(self, send: Send, *, stdin: bool, tty: bool) -> None:
        self._send = send
        self._tty = tty
        self._input: asyncio.Queue[bytes] = asyncio.Queue()
        if not stdin:
            self.end_input()

    def feed(self, raw: bytes) -> None:
        """Bytes that the client sent on stdin."""
        if raw:
            self._input.put_nowait(raw)

    def end_input(self) -> None:
        """The client closed stdin, or all."""
        self._input.put_nowait(b"")

    async def read(self) -> bytes:
        """See `shell.Streams`."""
        raw = await self._input.get()
        if not raw:
            self.end_input()  # the end stays the end
        return raw

    async def write(self, raw: bytes) -> None:
        """See `shell.Streams`."""
        if raw:
            await self._send(STDOUT, raw, False)

    async def error(self, raw: bytes) -> None:
        """See `shell.Streams`; a terminal has only one output."""
        await self._send(STDOUT if self._tty else STDERR, raw, False)

    async def run(self, call: Call, command: list[str]) -> None:
        """Runs the shell and sends its Status."""
        environment = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOSTNAME": call.name,
            "HOME": "/root",
            "MK8S_DEMO": "in-memory API, not a container",
        }
        code = await Shell(self, environment, self._tty).run(command)
        await self._send(ERROR, json.dumps(exit_status(code)).encode(), True)


async def serve(call: Call, command: list[str]) -> web.StreamResponse:
    """Upgrades the request and runs the command; raises 400 when no upgrade was asked."""
    upgrade = call.request.headers.get("Upgrade", "").lower()
    if upgrade == "websocket":
        return await _serve_websocket(call, command)
    if upgrade == "spdy/3.1":
        return await _serve_spdy(call, command)
    raise ApiError(400, "Upgrade request required")


async def _serve_websocket(call: Call, command: list[str]) -> web.StreamResponse:
    offered = call.request.headers.get("Sec-WebSocket-Protocol", "")
    if not {name.strip() for name in offered.split(",")} & set(SPDY_PROTOCOLS):
        raise ApiError(400, f"none of the offered protocols is known: {offered or '(none)'}")
    socket = web.WebSocketResponse(protocols=SPDY_PROTOCOLS, compress=False, timeout=CLOSE_SECONDS)
    await socket.prepare(call.request)

    async def send(channel: int, raw: bytes, _end: bool) -> None:
        await socket.send_bytes(bytes([channel]) + raw)

    session = Session(send, stdin=call.flag("stdin"), tty=call.flag("tty"))
    reader = asyncio.create_task(_read_websocket(socket, session), name="demo-exec-reader")
    try:
        await session.run(call, command)
        await socket.close()
    except ConnectionError:
        pass  # the client left
    finally:
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)
    return socket


async def _read_websocket(socket: web.WebSocketResponse, session: Session) -> None:
    async for message in socket:
        if message.type is not WSMsgType.BINARY or not message.data:
            break
        channel, raw = message.data[0], message.data[1:]
        if channel == STDIN:
            session.feed(raw)
        elif channel == CLOSE and raw == bytes([STDIN]):  # v5: half-close
            session.end_input()
    session.end_input()


class _SpdyReader:
    """The parser that aiohttp feeds after the switch (as it does for WebSockets)."""

    def __init__(self, call: Call) -> None:
        self.server = spdy.SpdyServer()
        self.streams: dict[int, int] = {}
        """Channel to SPDY stream id."""
        self.opened: asyncio.Queue[int] = asyncio.Queue()
        self.closed = asyncio.Event()
        self._transport = call.request.transport
        self.session = Session(self._send, stdin=call.flag("stdin"), tty=call.flag("tty"))
        self.response = web.StreamResponse(status=101)

    def feed_data(self, raw: bytes) -> tuple[bool, bytes]:
        """Received bytes; (True, ...) ends the connection."""
        try:
            for event in self.server.feed(raw):
                self._handle(event)
        except spdy.SpdyError:
            self.feed_eof()
            return True, b""
        return False, b""

    def feed_eof(self) -> None:
        """The connection is gone."""
        self.closed.set()
        self.session.end_input()

    def _handle(self, event: spdy.Event) -> None:
        stdin = self.streams.get(STDIN)
        if isinstance(event, spdy.Opened):
            channel = NAMES.get(event.headers.get("streamtype", ""), CLOSE)
            self.streams[channel] = event.stream
            self._write(self.server.accept(event.stream))
            self.opened.put_nowait(channel)
        elif isinstance(event, spdy.Received) and event.stream == stdin:
            self.session.feed(event.raw)
            if event.end:
                self.session.end_input()
        elif isinstance(event, spdy.Pinged):
            self._write(event.reply)
        elif isinstance(event, spdy.Closed) and event.stream == 0:
            self.feed_eof()

    def _write(self, raw: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(raw)

    async def _send(self, channel: int, raw: bytes, end: bool) -> None:
        if self.closed.is_set():
            raise ConnectionResetError("the client left")
        if channel in self.streams:
            await self.response.write(self.server.data(self.streams[channel], raw, end=end))

    async def finish(self) -> None:
        """Half-closes what is open; the client hangs up when it has read all."""
        for channel in (STDOUT, STDERR):
            await self._send(channel, b"", True)
        await asyncio.wait_for(self.closed.wait(), CLOSE_SECONDS)


def _wanted(call: Call) -> set[int]:
    """The streams that the client will open."""
    wanted = {ERROR} | {NAMES[name] for name in ("stdin", "stdout", "stderr") if call.flag(name)}
    return wanted - {STDERR} if call.flag("tty") else wanted


async def _serve_spdy(call: Call, command: list[str]) -> web.StreamResponse:
    offered = ",".join(call.request.headers.getall("X-Stream-Protocol-Version", []))
    known = [name.strip() for name in offered.split(",") if name.strip() in SPDY_PROTOCOLS]
    if not known:
        raise ApiError(403, f"none of the offered protocols is known: {offered or '(none)'}")
    reader = _SpdyReader(call)
    response = reader.response
    response.headers.update(
        {"Connection": "Upgrade", "Upgrade": "SPDY/3.1", "X-Stream-Protocol-Version": known[0]}
    )
    response.force_close()
    call.request.protocol.set_parser(
        cast("WebSocketReader", reader)
    )  # before the 101: all that follows it is SPDY
    await response.prepare(call.request)
    try:
        missing = _wanted(call)
        async with asyncio.timeout(OPEN_SECONDS):
            while missing:
                missing.discard(await reader.opened.get())
        await reader.session.run(call, command)
        await reader.finish()
    except (ConnectionError, TimeoutError):
        pass  # the client left, or never opened its streams
    if call.request.transport is not None:
        call.request.transport.close()
    return response
