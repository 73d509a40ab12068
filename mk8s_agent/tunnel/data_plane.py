"""What carries the requests: the tunnels of this process and their way to the API server.

Made once by `mk8s_agent.main`; `mk8s_agent.agent` asks it for one tunnel after another.
"""

import asyncio
import ssl
import time
from collections.abc import Callable
from typing import Final

from mk8s_agent.apiserver.pool import ApiServer
from mk8s_agent.credentials.sources import (
    ApiServerCredentials,
)
from mk8s_agent.identity.store import AgentIdentity
from mk8s_agent.settings import Address
from mk8s_agent.tunnel.control_session import ControlEvents, ControlSession, MakeControl
from mk8s_agent.tunnel.dialer import TunnelRefused
from mk8s_agent.tunnel.metrics import TunnelCounts
from mk8s_agent.tunnel.session import AgentTunnel, answer
from mk8s_agent.wire import tls
from mk8s_agent.wire.background import Background
from mk8s_agent.wire.bulkhead import Bulkhead
from mk8s_agent.wire.control_channel import ControlChannel
from mk8s_agent.wire.dial import dial_tls
from mk8s_agent.wire.egress_proxy import DIRECT, EgressProxies
from mk8s_agent.wire.heap import HeapWatch
from mk8s_agent.wire.http2.frames import ErrorCode
from mk8s_agent.wire.limits import BufferBudget
from mk8s_agent.wire.metrics import Labels, Snapshot, Value, histogram, time_loop
from mk8s_agent.wire.ticks import Ticks
from mk8s_agent.wire.transport import TlsTransport

_REGISTER_SECONDS: Final = 10.0
_SECOND: Final = Bulkhead("tunnels.second")
_STEPS: Final = Bulkhead("agent.second")


class OpenTunnel:
    """One tunnel as the dialer sees it, with the control session that runs on it."""

    def __init__(self, plane: "TunnelPlane", make_control: MakeControl) -> None:
        loop = asyncio.get_running_loop()
        self.closed: asyncio.Future[str] = loop.create_future()
        self.draining: asyncio.Future[None] = loop.create_future()
        self.registered: asyncio.Future[None] = loop.create_future()
        self.session: ControlSession | None = None
        self.tunnel: AgentTunnel | None = None
        self._plane = plane
        self._make_control = make_control

    @property
    def instance(self) -> str:
        """Which process of central is at the other end."""
        return self.session.instance if self.session is not None else ""

    @property
    def instances(self) -> int:
        """How many processes central consists of."""
        return self.session.instances if self.session is not None else 0

    def build(self, transport: TlsTransport) -> AgentTunnel:
        """The connection, once TLS is up."""
        plane = self._plane
        self.tunnel = AgentTunnel(
            transport,
            plane.ticks,
            plane.buffers,
            plane.apiserver,
            on_control=self._begin_control,
            on_closed=self._ended,
        )
        self.tunnel.counts = plane.counts
        plane.open_tunnels.add(self)
        return self.tunnel

    def _begin_control(self, channel: ControlChannel) -> None:
        tunnel = self.tunnel
        assert tunnel is not None
        events = ControlEvents(self._accepted, self._asked_to_drain, self._failed)
        self.session = self._make_control(channel.send, events, lambda: tunnel.requests)
        channel.on_message = self.session.receive
        self.session.start()

    def _accepted(self) -> None:
        if not self.registered.done():
            self.registered.set_result(None)

    def _asked_to_drain(self) -> None:
        if not self.draining.done():
            self.draining.set_result(None)

    def _failed(self, reason: str) -> None:
        if not self.registered.done():
            self.registered.set_exception(TunnelRefused(reason))
        if self.tunnel is not None:
            self.tunnel.fail(ErrorCode.NO_ERROR, reason)

    def _ended(self, reason: str) -> None:
        self._plane.open_tunnels.discard(self)
        if self.session is not None:
            self.session.close(reason)
        if not self.registered.done():  # central went away; a refusal would have said so
            self.registered.set_exception(ConnectionResetError(reason))
        if not self.closed.done():
            self.closed.set_result(reason)

    def second(self, elapsed: float) -> None:
        """Once a second: heartbeats, budgets, stalls."""
        if self.session is not None:
            self.session.tick()
        if self.tunnel is not None:
            self.tunnel.second(elapsed)

    def drain(self) -> None:
        """Sends GOAWAY: no new streams but those on their way, the open ones go on."""
        if self.tunnel is not None:
            self.tunnel.leave()

    def abort(self) -> None:
        """Ends at once, without a last word: something in it is broken."""
        if self.tunnel is not None:
            self.tunnel.transport.abort()
            self.tunnel.connection_lost()

    def close(self) -> None:
        """Ends at once."""
        if self.tunnel is not None:
            self.tunnel.transport.close()
            self.tunnel.connection_lost()


class TunnelPlane:
    """Opens tunnels that share one way to the API server."""

    def __init__(
        self,
        credentials: ApiServerCredentials,
        background: Background,
        buffers: BufferBudget,
        proxies: EgressProxies = DIRECT,
    ) -> None:
        self.ticks = Ticks(asyncio.get_running_loop().call_soon)
        self.buffers = buffers
        self._heap = HeapWatch()
        self.apiserver = ApiServer(credentials, self.ticks, self.buffers, answer, background)
        self.open_tunnels: set[OpenTunnel] = set()
        self.counts = TunnelCounts()
        self._opened = 0
        self._delays = histogram()
        self._proxies = proxies
        self._counted = time.monotonic()
        background.every("clock", 1.0, self._count_second)

    async def open_tunnel(
        self, *, central: Address, identity: AgentIdentity, make_control: MakeControl
    ) -> OpenTunnel:
        """Dials central and returns when it has registered the tunnel.

        Raises:
            DialError: central cannot be reached or is not trusted.
            TunnelRefused: central does not want this tunnel.
        """
        opened = OpenTunnel(self, make_control)
        try:
            await dial_tls(
                central.host,
                central.port,
                self._context(identity),
                opened.build,
                server_name=tls.TUNNEL_SERVER_NAME,
                proxy=self._proxies.to(central.host, central.port),
            )
            async with asyncio.timeout(_REGISTER_SECONDS):
                await opened.registered
        except BaseException:
            if opened.registered.done() and not opened.registered.cancelled():
                opened.registered.exception()  # seen: it may be what is raised, or come second
            opened.close()
            raise
        self._opened += 1
        return opened

    def metrics(self) -> Snapshot:
        """What is known here of `METRICS`."""
        counts = self.counts
        tunnels = [it.tunnel for it in self.open_tunnels if it.tunnel is not None]
        found: dict[str, Value] = {
            "requests_total": counts.requests,
            "open_requests": sum(tunnel.requests for tunnel in tunnels),
            "request_bytes_total": counts.received,
            "response_bytes_total": counts.sent,
            "tunnels": len(tunnels),
            "tunnels_opened_total": self._opened,
            "waiting_requests": len(self.apiserver.waiting),
            "buffered_bytes": self.buffers.used,
            "event_loop_delay_seconds": list(self._delays),
        }
        errors: dict[Labels, Value] = {(f"{it}",): n for it, n in counts.errors.items()}
        shown: Snapshot = {f"mk8s_agent_{name}": {(): value} for name, value in found.items()}
        return shown | {"mk8s_agent_errors_total": errors}

    def _context(self, identity: AgentIdentity) -> ssl.SSLContext:
        return tls.tunnel_client_context(
            identity.authority_pem, identity.certificate_pem, identity.private_key_pem
        )

    async def _count_second(self) -> None:
        """Deadlines. Each step is due, whatever becomes of the others."""
        last, self._counted = self._counted, time.monotonic()
        elapsed = self._counted - last
        steps: tuple[Callable[[], object], ...] = (
            lambda: _SECOND.each(
                list(self.open_tunnels), lambda it: it.second(elapsed), OpenTunnel.abort
            ),
            lambda: self.apiserver.second(elapsed),
            lambda: time_loop(asyncio.get_running_loop(), self._delays),
        )
        _STEPS.each(steps, lambda step: step())
        await asyncio.to_thread(self._heap.second, self.buffers.used)

    def close(self) -> None:
        """Ends the connections to the API server."""
        self.apiserver.close()
