"""One request over a client end of mk8s, for each of h2specd's cases."""

import asyncio
import re
from pathlib import Path
from typing import Any

from mk8s_agent.apiserver.pool import ApiServer, ApiServerHttp2
from mk8s_agent.tunnel.session import AgentTunnel, answer
from mk8s_agent.wire.control_channel import ControlChannel
from mk8s_agent.wire.limits import BufferBudget
from mk8s_agent.wire.stream import Stream
from mk8s_agent.wire.ticks import Ticks
from mk8s_agent.wire.transport import SocketTransport
from mk8s_proxy.tunnel.session import TunnelEvents, TunnelSession
from tests.support.agent_side import HEAD, Credentials
from tests.support.front_door import Central
from tests.support.memory import PREFACE, MemoryTransport, headers, settings
from tests.support.tasks import LooseBackground

SECONDS = 0.5
"""How long the connection stays when h2specd leaves it open; it waits three for its client."""


PING = re.compile(rb"\0\0\x08\x06\0{5}.{8}", re.DOTALL)


class Unmeasured(SocketTransport):
    """Lets no PING of ours out: h2specd takes any for the answer to its own."""

    def write(self, data: bytes) -> bool:
        return super().write(PING.sub(b"", data))


class Tunnel:
    """Central's end of a tunnel, asked by a person."""

    def __init__(self, folder: Path) -> None:
        self.central = Central(folder)
        self.central.ticks._call_soon = asyncio.get_running_loop().call_soon

    def make(self, transport: Any) -> TunnelSession:
        central = self.central
        events = TunnelEvents(central.chain.refuse, lambda _: None, lambda _: None)
        session = TunnelSession(
            transport, central.ticks, central.budget, cluster_id="id-prod", events=events
        )
        # h2specd answers on stream 1: the control stream has to make room for the request
        session.control = ControlChannel(Stream(session, 0, 0, 0))
        session.streams.clear()
        session.table.next_own = 1
        del session.outbound._out[1:]
        session.cluster, session.registered = "prod", True
        central.registry.add(session, "1.0", "v1.31.0")
        return session

    def ask(self) -> None:
        self.central.http2().ask()

    def close(self) -> None:
        self.central.journal.close()


class Cluster:
    """The agent's end of a connection to its API server, asked by central."""

    def __init__(self, _folder: Path) -> None:
        credentials: Any = Credentials()
        self.ticks, self.budget = Ticks(asyncio.get_running_loop().call_soon), BufferBudget()
        self.apiserver = ApiServer(credentials, self.ticks, self.budget, answer, LooseBackground())

    def make(self, transport: Any) -> ApiServerHttp2:
        connection = ApiServerHttp2(transport, self.apiserver)
        self.apiserver._connections.append(connection)
        return connection

    def ask(self) -> None:
        nothing: Any = lambda _: None  # noqa: E731
        tunnel = AgentTunnel(
            MemoryTransport(),
            self.ticks,
            self.budget,
            self.apiserver,
            on_control=nothing,
            on_closed=nothing,
        )
        control = [(b":method", b"POST"), (b":scheme", b"https"), (b":path", b"/mk8s.control")]
        tunnel.receive(PREFACE + settings() + headers(1, control) + headers(3, HEAD, end=True))

    def close(self) -> None: ...


ENDS = {"tunnel": Tunnel, "cluster": Cluster}


async def request(end: str, port: int, folder: Path) -> None:
    """Asks once, and stays until the server has done its worst."""
    side = ENDS[end](folder)
    loop = asyncio.get_running_loop()
    _, transport = await loop.create_connection(lambda: Unmeasured(side.make), "127.0.0.1", port)
    connection = transport.connection
    deadline = loop.time() + SECONDS
    while loop.time() < deadline and not (connection.ready or connection.closed):  # noqa: ASYNC110
        await asyncio.sleep(0.002)
    side.ask()
    while loop.time() < deadline and not connection.closed:  # noqa: ASYNC110  they know no asyncio
        await asyncio.sleep(0.01)
    transport.abort()
    side.close()
    await asyncio.sleep(0)
