"""Opening tunnels: dialled, registered, lost, drained, with central played by the test."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from mk8s_agent.settings import Address
from mk8s_agent.tunnel import data_plane
from mk8s_agent.tunnel.control_session import ControlEvents
from mk8s_agent.tunnel.data_plane import OpenTunnel, TunnelPlane
from mk8s_agent.tunnel.dialer import TunnelRefused
from mk8s_agent.wire.dial import DialError
from mk8s_agent.wire.limits import BufferBudget
from tests.support.agent_side import Credentials
from tests.support.memory import (
    PREFACE,
    FrameReader,
    MemoryTransport,
    data,
    headers,
    settings,
)
from tests.support.tasks import LooseBackground

CONTROL = [(b":method", b"POST"), (b":scheme", b"https"), (b":path", b"/mk8s.control")]


class Session:
    """Stands for the control session."""

    def __init__(self, send: Any, events: ControlEvents, requests: Callable[[], int]) -> None:
        self.events, self.requests = events, requests
        self.log: list[str] = []

    def start(self) -> None:
        self.log.append("start")

    def receive(self, message: object) -> None:
        self.log.append(type(message).__name__)

    def tick(self) -> None:
        self.log.append("tick")

    def close(self, reason: str) -> None:
        self.log.append(f"close: {reason}")


class Scene:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        credentials: Any = Credentials()
        self.background = LooseBackground()
        self.plane = TunnelPlane(credentials, self.background, BufferBudget())
        self.transport = MemoryTransport()
        self.reader = FrameReader()
        self.session: Session | None = None
        self.names: list[str] = []
        self.error: Exception | None = None
        monkeypatch.setattr(data_plane, "dial_tls", self._dial)
        monkeypatch.setattr(TunnelPlane, "_context", lambda *_: None)

    async def _dial(self, host: str, port: int, context: Any, build: Any, **options: Any) -> Any:
        self.names.append(options["server_name"])
        if self.error is not None:
            raise self.error
        return build(self.transport)

    def make_control(self, send: Any, events: ControlEvents, requests: Any) -> Any:
        self.session = Session(send, events, requests)
        return self.session

    def open(self) -> "asyncio.Task[OpenTunnel]":
        identity: Any = None
        return asyncio.create_task(
            self.plane.open_tunnel(
                central=Address("central.example.com", 8443),
                identity=identity,
                make_control=self.make_control,
            )
        )

    async def greet(self) -> Session:
        """Central's first flight; the control session it starts."""
        await asyncio.sleep(0)
        [opened] = self.plane.open_tunnels
        assert opened.tunnel is not None
        opened.tunnel.receive(PREFACE + settings({1: 0}) + headers(1, CONTROL))
        assert self.session is not None
        return self.session


@pytest.fixture
async def scene(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    scene = Scene(monkeypatch)
    yield scene
    scene.plane.close()
    await scene.background.close()


async def test_a_tunnel_is_open_once_it_is_registered(scene: Scene) -> None:
    task = scene.open()
    session = await scene.greet()
    await asyncio.sleep(0)
    assert not task.done()
    session.events.registered()
    session.events.registered()
    opened = await task
    assert scene.names == ["tunnel.mk8s.internal"]
    assert session.requests() == 0
    opened.second(1.0)
    assert session.log == ["start", "tick"]
    session.events.draining()
    session.events.draining()
    assert opened.draining.done()
    opened.drain()
    await asyncio.sleep(0)
    left = scene.reader.feed(scene.transport.take())
    assert [seen.stream for seen in left if seen.kind == "GOAWAY"] == [(1 << 31) - 1]
    opened.close()
    assert await opened.closed == "central closed the connection"
    assert session.log[-1] == "close: central closed the connection"
    assert scene.plane.open_tunnels == set()
    opened.close()


async def test_messages_reach_the_session(scene: Scene) -> None:
    task = scene.open()
    session = await scene.greet()
    [opened] = scene.plane.open_tunnels
    assert opened.tunnel is not None
    opened.tunnel.receive(data(1, b'\0\0\0\x10{"type":"drain"}'))
    assert session.log == ["start", "Drain"]
    session.events.registered()
    (await task).close()


async def test_a_tunnel_that_is_refused(scene: Scene) -> None:
    task = scene.open()
    session = await scene.greet()
    session.events.failed("the certificate was revoked")
    with pytest.raises(TunnelRefused, match="revoked"):
        await task
    assert scene.transport.closed
    session.events.failed("again")


async def test_a_tunnel_that_is_lost_before_it_was_registered(scene: Scene) -> None:
    task = scene.open()
    await scene.greet()
    [opened] = scene.plane.open_tunnels
    assert opened.tunnel is not None
    opened.tunnel.connection_lost()
    with pytest.raises(ConnectionResetError):
        await task
    assert scene.plane.open_tunnels == set()


async def test_a_central_that_cannot_be_reached(scene: Scene) -> None:
    scene.error = DialError("refused")
    with pytest.raises(DialError, match="refused"):
        await scene.open()
    assert scene.plane.open_tunnels == set()


async def test_a_central_that_never_registers(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_plane, "_REGISTER_SECONDS", 0.05)
    task = scene.open()
    await scene.greet()
    with pytest.raises(TimeoutError):
        await task
    assert scene.transport.closed
    assert scene.plane.open_tunnels == set()


async def test_the_clock_reaches_every_tunnel(scene: Scene) -> None:
    task = scene.open()
    session = await scene.greet()
    session.events.registered()
    opened = await task
    for _ in range(3):
        await scene.plane._count_second()
    assert session.log.count("tick") == 3
    opened.close()
