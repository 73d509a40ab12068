"""Port-forward: what listens in a pod, over SPDY/3.1, SPDY in WebSocket and WebSocket channels.

Called by `server`. SPDY (client-go/tools/portforward): each forwarded connection is a pair of
streams with the same `requestid`: data, and error, on which the server says why there is none.
Channels (cri/streaming/portforward/websocket.go, which the Python, JavaScript and Java clients
speak): one connection for each of the query's `ports`, the n-th with the channels 2n for data and
2n+1 for what goes wrong, both of which begin with the port in two bytes, little-endian.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from aiohttp import web

from mk8s_cli.demo_api.call import Call
from mk8s_cli.demo_api.inlet import CHUNK_BYTES, Inlet
from mk8s_cli.demo_api.objects import ApiError, Document, dig
from mk8s_cli.demo_api.spdy import SpdyConnection, SpdyStream
from mk8s_cli.demo_api.upgrades import (
    SPDY,
    WEBSOCKET,
    Upgraded,
    offered,
    until_one_ends,
    upgraded,
)

PROTOCOL = "portforward.k8s.io"
TUNNEL = f"SPDY/3.1+{PROTOCOL}"
CHANNELS = ("v4.channel.k8s.io", "v4.base64.channel.k8s.io", "")
KNOWN = {WEBSOCKET: (TUNNEL, *CHANNELS), SPDY: (PROTOCOL,)}
MAX_PORTS = 127
"""As many pairs as one byte can number."""
ECHO_PORT = 7
"""Open in every pod (RFC 862), beside the ports that its containers declare."""
REFUSED = (
    "error forwarding port {port} to pod {pod}, uid : failed to connect to localhost:{port}: "
    "dial tcp4 127.0.0.1:{port}: connect: connection refused"
)
"""The kubelet's words."""
PAGE = "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n{text}\n"
HEADERS = ("streamtype", "port", "requestid")
KINDS = {"data", "error"}
Send = Callable[[bytes], Awaitable[None]]
Service = Callable[[str, asyncio.StreamReader, Send], Awaitable[None]]


async def forward(call: Call) -> web.StreamResponse:
    """Serves forwarded connections until the client leaves."""
    pod, ports = Listeners(call.current()), _ports(call)
    async with upgraded(call, KNOWN) as connection:
        if connection.protocol in CHANNELS:
            await until_one_ends(*_over_channels(connection, pod, ports))
        else:
            await _over_spdy(connection, pod)
    return connection.response


def _ports(call: Call) -> list[int]:
    """The ports that the query names, in order; raises 400."""
    if call.request.headers.get("Upgrade", "").lower() != WEBSOCKET:
        return []
    names = offered(call.request, WEBSOCKET) or [""]
    if next((name for name in names if name in KNOWN[WEBSOCKET]), TUNNEL) == TUNNEL:
        return []
    texts = ",".join(call.request.query.getall("ports", [])).split(",")
    if not all(text.isdecimal() and len(text) < 6 for text in texts):
        raise ApiError(400, 'query parameter "ports" is required: numbers')
    ports = [int(text) for text in texts]
    if not all(0 < port < 1 << 16 for port in ports) or len(ports) > MAX_PORTS:
        raise ApiError(400, f"up to {MAX_PORTS} ports from 1 to 65535 are forwarded")
    return ports


class Listeners:
    """What listens on the ports of a pod."""

    def __init__(self, pod: Document) -> None:
        self.pod = pod["metadata"]["name"]
        lists = dig(pod, "spec.containers.ports", [])
        declared = [port.get("containerPort") for ports in lists for port in ports or ()]
        self._services: dict[int, Service] = {**dict.fromkeys(declared, _greet), ECHO_PORT: _echo}

    async def serve(self, port: int, reader: asyncio.StreamReader, send: Send) -> str:
        """Serves one connection; why there is none, if nobody listens."""
        if service := self._services.get(port):
            await service(self.pod, reader, send)
            return ""
        return REFUSED.format(port=port, pod=self.pod)


def _over_channels(
    connection: Upgraded, pod: Listeners, ports: list[int]
) -> tuple[Coroutine[Any, Any, None], Coroutine[Any, Any, None]]:
    """What is to run: the client's messages on their way, and all the connections."""
    inlets = [Inlet() for _ in ports]

    async def receive() -> None:
        async for message in connection.received:
            pair, is_error = divmod(message[0], 2)
            if pair < len(inlets) and not is_error:
                await inlets[pair].feed(message[1:])

    async def serve(pair: int, port: int) -> None:
        data, error = bytes([2 * pair]), bytes([2 * pair + 1])
        for channel in (data, error):
            await connection.send(channel + port.to_bytes(2, "little"))
        reader = inlets[pair].reader
        problem = await pod.serve(port, reader, lambda raw: connection.send(data + raw))
        inlets[pair].end()
        if problem:
            await connection.send(error + problem.encode())

    async def serve_all() -> None:
        await asyncio.gather(*(serve(pair, port) for pair, port in enumerate(ports)))

    return receive(), serve_all()


async def _over_spdy(connection: Upgraded, pod: Listeners) -> None:
    pairs = _Pairs(pod)
    try:
        await SpdyConnection(connection.send, pairs.opened).receive(connection.received)
    finally:
        await pairs.close()


class _Pairs:
    """The forwarded connections of one client over SPDY."""

    def __init__(self, pod: Listeners) -> None:
        self._pod = pod
        self._halves: dict[str, SpdyStream] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def opened(self, stream: SpdyStream) -> None:
        """A stream, served once its other half is there; ValueError for one of another kind."""
        kind, port, request = (stream.headers.get(key, "") for key in HEADERS)
        other = self._halves.pop(request, None)
        pair = {kind: stream} | ({other.headers["streamtype"]: other} if other else {})
        if not pair.keys() <= KINDS or not 0 < int(port) < 1 << 16 or (other and len(pair) == 1):
            raise ValueError(f"no half of a forwarded connection: {stream.headers}")
        if other:
            serving = self._serve(int(port), pair["data"], pair["error"])
            task = asyncio.create_task(serving, name="demo-forwarded")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            self._halves[request] = stream

    async def _serve(self, port: int, data: SpdyStream, error: SpdyStream) -> None:
        with contextlib.suppress(ConnectionError):
            if problem := await self._pod.serve(port, data.inlet.reader, data.send):
                await error.send(problem.encode())
        for stream in (error, data):  # kubectl waits for the end of both
            with contextlib.suppress(ConnectionError):
                await stream.send(b"", end=True)

    async def close(self) -> None:
        """The client has left."""
        tasks = [*self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _echo(_: str, reader: asyncio.StreamReader, send: Send) -> None:
    while chunk := await reader.read(CHUNK_BYTES):
        await send(chunk)


async def _greet(pod: str, reader: asyncio.StreamReader, send: Send) -> None:
    """One HTTP answer, whatever is asked."""
    status, text = "200 OK", f"hello from {pod}"
    try:
        await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        status, text = "400 Bad Request", "this is no HTTP request"
    await send(PAGE.format(status=status, text=text).encode())
