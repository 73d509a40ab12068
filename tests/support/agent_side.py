"""An agent's data plane in memory: its tunnel and its pool, with central and the API server played.

Only the dialling is replaced: `dialled` holds the connections that the pool asked for.
"""

import asyncio
import json
from collections.abc import Callable
from typing import Any

from mk8s_agent.apiserver.pool import ApiServer
from mk8s_agent.credentials.token_sources import (
    CredentialsGone,
)
from mk8s_agent.tunnel.session import AgentTunnel, answer
from mk8s_agent.wire.control_channel import ControlChannel
from mk8s_agent.wire.dial import DialError
from mk8s_agent.wire.limits import BufferBudget
from tests.support.memory import Fields, Frame, HandTicks, MemoryTransport, Peer, headers, settings
from tests.support.tasks import LooseBackground

WHO = json.dumps({"user": "dev@example.com", "uid": "u", "groups": ["mk8s:users"]}).encode()
HEAD: Fields = [
    (b":method", b"GET"),
    (b":scheme", b"https"),
    (b":path", b"/api/v1/pods"),
    (b"mk8s-identity", WHO),
]


class Credentials:
    """Who the agent is."""

    host, port, tls_server_name = "192.0.2.1", 6443, ""
    ca_pem, client_certificate, insecure_skip_tls_verify, generation = b"", None, True, 0
    proxy = None

    def __init__(self, path_prefix: str = "") -> None:
        self.path_prefix = path_prefix
        self.token: bytes | None = b"Bearer agent"
        self.rejections = 0
        self.refreshed = 0

    def authorization(self) -> bytes:
        if self.token is None:
            raise CredentialsGone("the token file is empty")
        return self.token

    def rejected(self) -> None:
        self.rejections += 1

    def refresh(self) -> None:
        self.refreshed += 1


class Dialled:
    """A connection that the pool dialled."""

    def __init__(self, connection: Any, transport: MemoryTransport, ticks: HandTicks) -> None:
        self.connection = connection
        self.transport = transport
        self.peer = Peer(connection, transport, ticks, server=True)

    def greet(self, values: dict[int, int] | None = None) -> list[Frame]:
        return self.peer.send(settings({3: 250} | (values or {})))

    def send(self, *frames: bytes) -> list[Frame]:
        return self.peer.send(*frames)

    def requests(self) -> list[tuple[int, dict[bytes, bytes]]]:
        return [(f.stream, dict(f.value)) for f in self.peer.read() if f.kind == "HEADERS"]


class AgentSide:
    def __init__(self, *, protocol: str = "h2", prefix: str = "") -> None:
        self.ticks = HandTicks()
        self.budget = BufferBudget()
        self.credentials: Any = Credentials(prefix)
        self.apiserver = ApiServer(
            self.credentials, self.ticks, self.budget, answer, LooseBackground(), self._dial
        )
        self.protocol = protocol
        self.dialled: list[Dialled] = []
        self.unreachable = ""
        self.gate: asyncio.Event | None = None
        """When set, dials wait for it."""
        self.at_once: Callable[[Dialled], None] | None = None
        """Called when a connection is up, before the pool hears of it."""
        self.transport = MemoryTransport()
        self.controls: list[ControlChannel] = []
        self.closed: list[str] = []
        self.tunnel = AgentTunnel(
            self.transport,
            self.ticks,
            self.budget,
            self.apiserver,
            on_control=self.controls.append,
            on_closed=self.closed.append,
        )
        self.central = Peer(self.tunnel, self.transport, self.ticks)

    async def _dial(self, build: Callable[[Any], Any], *, http2: bool) -> Any:
        await asyncio.sleep(0)
        if self.gate is not None:
            await self.gate.wait()
        if self.unreachable:
            raise DialError(self.unreachable)
        transport: Any = MemoryTransport()
        transport.protocol = self.protocol if http2 else "http/1.1"
        dialled = Dialled(build(transport), transport, self.ticks)
        self.dialled.append(dialled)
        if self.at_once is not None:
            self.at_once(dialled)
        return dialled.connection

    def open(self) -> "AgentSide":
        """Central's first flight, and the control stream."""
        self.central.greet({4: 256 << 10})
        control = [(b":method", b"POST"), (b":scheme", b"https"), (b":path", b"/mk8s.control")]
        self.central.send(headers(1, control))
        return self

    async def settle(self) -> None:
        """Lets the pool's tasks run."""
        for _ in range(6):
            await asyncio.sleep(0)
            self.ticks.turn()

    async def ask(self, number: int, *more: tuple[bytes, bytes], end: bool = True) -> list[Frame]:
        seen = self.central.send(headers(number, [*HEAD, *more], end=end))
        await self.settle()
        return seen + self.central.read()
