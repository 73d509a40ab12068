"""Many agents in one light process: tunnels with real certificates that never get a request.

Run by `tunnels` with a JSON file of identities; prints "ready" once central has registered all of
them, then keeps them alive by heartbeats until it is ended.
"""

import asyncio
import json
import os
import ssl
import sys
import time
from pathlib import Path
from typing import Any

import uvloop

from mk8s_agent.apiserver.pool import ApiServer
from mk8s_agent.credentials.sources import (
    ApiServerCredentials,
)
from mk8s_agent.credentials.token_sources import (
    StaticSource,
)
from mk8s_agent.tunnel.session import AgentTunnel
from mk8s_agent.wire import control, tls
from mk8s_agent.wire.background import Background
from mk8s_agent.wire.control_channel import ControlChannel
from mk8s_agent.wire.dial import dial_tls
from mk8s_agent.wire.limits import BufferBudget
from mk8s_agent.wire.ticks import Ticks

_AT_ONCE = 20
_HEARTBEAT = 10.0


def give_up(reason: str) -> None:
    """Ends at once: an exception would be lost in a callback of the loop."""
    print(reason, flush=True)
    os._exit(1)


def nowhere(ticks: Ticks, buffers: BufferBudget) -> ApiServer:
    """The API server of tunnels that never get a request."""
    credentials = ApiServerCredentials(
        "nowhere", "localhost", 1, "", "localhost", b"", False, StaticSource(""), None
    )
    return ApiServer(credentials, ticks, buffers, lambda *_told: None, Background())


class Fleet:
    """All tunnels of the process."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self._plan = plan
        self._ticks = Ticks(asyncio.get_running_loop().call_soon)
        self._buffers = BufferBudget()
        self._apiserver = nowhere(self._ticks, self._buffers)
        self._channels: list[ControlChannel] = []
        self._gate = asyncio.Semaphore(_AT_ONCE)

    async def connect_all(self) -> None:
        """Dials every tunnel, a few at a time."""
        await asyncio.gather(*map(self._connect, self._plan["certificates"]))

    def _context(self, certificate: str) -> ssl.SSLContext:
        plan = self._plan
        return tls.tunnel_client_context(
            plan["authority"].encode(), certificate.encode(), plan["key"].encode()
        )

    async def _connect(self, certificate: str) -> None:
        accepted = asyncio.get_running_loop().create_future()

        def register(channel: ControlChannel) -> None:
            channel.on_message = lambda message: self._heard(message, accepted)
            channel.send(control.Register("bench", "bench", "v1.30.0", (), time.time()))
            self._channels.append(channel)

        async with self._gate:
            await dial_tls(
                "127.0.0.1",
                self._plan["port"],
                self._context(certificate),
                lambda transport: AgentTunnel(
                    transport,
                    self._ticks,
                    self._buffers,
                    self._apiserver,
                    on_control=register,
                    on_closed=lambda reason: give_up(f"a tunnel ended: {reason}"),
                ),
                server_name=tls.TUNNEL_SERVER_NAME,
            )
            await accepted

    def _heard(self, message: control.Message, accepted: "asyncio.Future[None]") -> None:
        if isinstance(message, control.Refused):
            give_up(f"refused: {message.message}")
        if isinstance(message, control.Registered) and not accepted.done():
            accepted.set_result(None)

    async def beat(self) -> None:
        """Heartbeats for ever, spread over their period as those of separate agents are."""
        while True:
            for channel in self._channels:
                channel.send(control.Heartbeat(time.time(), 0))
                await asyncio.sleep(_HEARTBEAT / len(self._channels))


async def sail(file: str) -> None:
    """Connects, says so, stays."""
    fleet = Fleet(json.loads(Path(file).read_text()))
    await fleet.connect_all()
    print("ready", flush=True)
    await fleet.beat()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(sail(sys.argv[1]))
