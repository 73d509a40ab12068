"""Port-forward: what listens in a pod, over SPDY/3.1 and SPDY in WebSocket; called by `server`.

Protocol: client-go/tools/portforward. Each forwarded connection is a pair of streams with the same
`requestid`: data, and error, on which the server says why there is no connection.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from aiohttp import web

from mk8s_cli.demo_api.call import Call
from mk8s_cli.demo_api.inlet import CHUNK_BYTES
from mk8s_cli.demo_api.objects import Document, dig
from mk8s_cli.demo_api.spdy import SpdyConnection, SpdyStream
from mk8s_cli.demo_api.upgrades import SPDY, WEBSOCKET, upgraded

PROTOCOL = "portforward.k8s.io"
KNOWN = {WEBSOCKET: (f"SPDY/3.1+{PROTOCOL}",), SPDY: (PROTOCOL,)}
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
Service = Callable[[str, SpdyStream], Awaitable[None]]


async def forward(call: Call) -> web.StreamResponse:
    """Serves forwarded connections until the client leaves."""
    pod = call.current()
    async with upgraded(call, KNOWN) as connection:
        pairs = _Pairs(pod)
        try:
            await SpdyConnection(connection.send, pairs.opened).receive(connection.received)
        finally:
            await pairs.close()
    return connection.response


class _Pairs:
    """The forwarded connections of one client."""

    def __init__(self, pod: Document) -> None:
        self._pod = pod["metadata"]["name"]
        lists = dig(pod, "spec.containers.ports", [])
        declared = [port.get("containerPort") for ports in lists for port in ports or ()]
        self._services: dict[int, Service] = {**dict.fromkeys(declared, _greet), ECHO_PORT: _echo}
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
            if service := self._services.get(port):
                await service(self._pod, data)
            else:
                await error.send(REFUSED.format(port=port, pod=self._pod).encode())
        for stream in (error, data):  # kubectl waits for the end of both
            with contextlib.suppress(ConnectionError):
                await stream.send(b"", end=True)

    async def close(self) -> None:
        """The client has left."""
        tasks = [*self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _echo(_: str, stream: SpdyStream) -> None:
    while chunk := await stream.inlet.reader.read(CHUNK_BYTES):
        await stream.send(chunk)


async def _greet(pod: str, stream: SpdyStream) -> None:
    """One HTTP answer, whatever is asked."""
    status, text = "200 OK", f"hello from {pod}"
    try:
        await stream.inlet.reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        status, text = "400 Bad Request", "this is no HTTP request"
    await stream.send(PAGE.format(status=status, text=text).encode())
