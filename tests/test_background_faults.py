"""Every task of both programs fails once: the others go on, or the process ends loudly.

The names come from the code itself: a task that is new has no scene here, and fails the first test.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from mk8s_agent import agent as agent_module
from mk8s_agent.agent import Agent
from mk8s_agent.apiserver.own_rights import Rights
from mk8s_agent.settings import Address
from mk8s_agent.tunnel.data_plane import TunnelPlane
from mk8s_agent.tunnel.dialer import Dialer
from mk8s_agent.wire import background as background_module
from mk8s_agent.wire import pki
from mk8s_agent.wire.control import Refused, Renew, Renewed
from mk8s_agent.wire.limits import BufferBudget
from mk8s_proxy.api.exec_runner import CommandRunner, Unavailable
from mk8s_proxy.chain.api_upstream import Management
from mk8s_proxy.db import clusters
from mk8s_proxy.db.agents import Standing
from mk8s_proxy.db.clusters import Sighting
from mk8s_proxy.db.engine import DatabaseUnavailable
from mk8s_proxy.listener.server import Contexts
from mk8s_proxy.process import authority_feed, run
from mk8s_proxy.process.app import Central
from mk8s_proxy.process.certificate_watch import make_contexts
from mk8s_proxy.process.init import AdminChoice, install
from mk8s_proxy.process.worker import FAILED, Worker
from mk8s_proxy.settings.model import ExecSettings, Settings
from mk8s_proxy.tunnel.agent_records import AgentRecords
from tests.agent import test_dialer as dialling
from tests.agent.pki_for_tests import Issuer
from tests.proxy import test_api_upstream as upstream
from tests.proxy import test_tunnel_control as talking
from tests.proxy.test_tunnel_control import scene
from tests.support.agent_side import AgentSide
from tests.support.databases import migrated_sqlite, sqlite_database, sqlite_url
from tests.support.faults import FaultyBackground, FaultyLooseBackground, tasks_of
from tests.support.memory import Frame

__all__ = ["migrated_sqlite", "scene", "sqlite_database", "sqlite_url"]  # fixtures

OF_CENTRAL = {
    "forever": {"policy feed"},
    "every": {
        "audit retention",
        "audit shipping",
        "authorities",
        "certificate files",
        "clock",
        "journal sync",
        "last uses of service tokens",
        "renewals",
        "signing keys",
    },
}
OF_AGENT = {
    "forever": {"dialer", "credentials", "identity store"},
    "every": {"clock", "rights", "version"},
}


def test_each_task_of_the_code_has_its_scene() -> None:
    assert tasks_of("forever") == OF_CENTRAL["forever"] | OF_AGENT["forever"]
    assert tasks_of("every") == OF_CENTRAL["every"] | OF_AGENT["every"]
    assert tasks_of("start", "_start") == set(SHORT)


# -- central


class WatchedCentral(Central):
    """Looks at its readiness when the end begins."""

    faulty = ""
    made: Any = None
    said: tuple[int, str] = (0, "")

    def __init__(self, settings: Settings, worker: Worker | None = None) -> None:
        super().__init__(settings, worker)
        self.background: Any = FaultyBackground(self.faulty)
        self._agents._background = self.background
        WatchedCentral.made = self

    async def readiness(self) -> tuple[int, str]:
        host, port = self._runners[-1].addresses[0]
        url = f"http://{host}:{port}/readyz"
        async with aiohttp.ClientSession() as client, client.get(url) as answer:
            return answer.status, await answer.text()

    async def stop(self, grace: float = 0.0) -> None:
        WatchedCentral.said = await self.readiness()
        await super().stop(0.0)


def settings_in(folder: Path) -> Settings:
    return Settings(
        data_dir=folder,
        public_url="https://central.example.com",
        listen="127.0.0.1:0",
        admin_listen="127.0.0.1:0",
    )


@pytest.fixture
def central(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> type[WatchedCentral]:
    settings = settings_in(tmp_path)
    admin = AdminChoice("admin@example.com", "a very long password", lambda _: "")
    asyncio.run(install(settings, admin, None, lambda _: None))
    monkeypatch.setattr(run, "Central", WatchedCentral)
    monkeypatch.setattr(WatchedCentral, "made", None)
    monkeypatch.setattr(run.gc, "freeze", lambda: None)
    monkeypatch.setattr(run.gc, "set_threshold", lambda *_: None)
    monkeypatch.setattr(run, "keep_heap", lambda: None)
    monkeypatch.setattr(background_module, "FIRST_RETRY", 0.01)
    return WatchedCentral


class Channel:
    """A worker's line to its supervisor."""

    def __init__(self) -> None:
        self.said: list[bytes] = []

    def sendall(self, message: bytes) -> None:
        self.said.append(message)


@pytest.mark.parametrize("name", sorted(OF_CENTRAL["forever"]))
def test_an_endless_task_of_central_that_fails_ends_the_process_loudly(
    name: str,
    central: type[WatchedCentral],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(central, "faulty", name)
    monkeypatch.setattr(run, "_on_stop_signals", lambda *_: None)
    channel: Any = Channel()
    worker = Worker(channel=channel)
    assert asyncio.run(asyncio.wait_for(run._serve(settings_in(tmp_path), worker), 30)) == 1
    [line] = [it for it in caplog.records if it.levelno == logging.CRITICAL]
    assert (line.getMessage(), line.__dict__["task"]) == ("process.ending", name)
    assert "on purpose" in line.__dict__["reason"]
    assert central.said[0] == 503
    assert f"[-]{name}\n" in central.said[1]
    assert channel.said[-1].startswith(FAILED + f"the task {name!r} ended: Fault".encode())


@pytest.mark.parametrize("name", sorted(OF_CENTRAL["every"]))
def test_a_periodic_task_of_central_that_fails_once_goes_on(
    name: str,
    central: type[WatchedCentral],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(central, "faulty", name)

    async def until_all_have_turned() -> None:
        serving = asyncio.create_task(run._serve(settings_in(tmp_path), Worker()))
        await until(lambda: central.made and central.made.background.turns)
        background = central.made.background
        await until(lambda: background.faults and min(background.turns.values()) > 1)
        assert set(background.turns) == OF_CENTRAL["every"]
        background.ask_to_end()
        assert await serving == 0

    asyncio.run(asyncio.wait_for(until_all_have_turned(), 30))
    [line] = [it for it in caplog.records if it.getMessage() == "task.turn_failed"]
    assert line.__dict__["task"] == name
    code, told = central.said
    assert (code, told.partition("[+]audit")[0]) == (200, "[+]database\n[+]journal\n[+]policy\n")
    assert "bytes behind" in told


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not true():  # noqa: ASYNC110  nothing tells
            await asyncio.sleep(0.005)


def test_one_database_error_at_the_hourly_renewal_does_not_end_it(
    central: type[WatchedCentral], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = [DatabaseUnavailable("the database failed: one hiccup")]
    loads: list[str] = []

    async def load(*parts: Any) -> Contexts:
        loads.append("")
        if len(loads) > 1 and failing:  # the first is the start's
            raise failing.pop()
        return await make_contexts(*parts)

    monkeypatch.setattr(authority_feed, "make_contexts", load)

    async def renewed_twice() -> None:
        serving = asyncio.create_task(run._serve(settings_in(tmp_path), Worker()))
        await until(lambda: central.made and central.made.background.turns)
        background = central.made.background
        await until(lambda: background.turns["renewals"] > 1)
        assert background.failures["renewals"] == 1
        background.ask_to_end()
        assert await serving == 0

    asyncio.run(asyncio.wait_for(renewed_twice(), 30))
    assert not failing


# -- the agent


class Credentials:
    host, port, path_prefix, generation = "192.0.2.1", 6443, "", 0

    def refresh(self) -> None:
        pass

    def authorization(self) -> bytes:
        return b""

    async def keep_fresh(self) -> None:
        await asyncio.Event().wait()


class AgentScene:
    """A whole agent; central cannot be reached."""

    def __init__(self, faulty: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.background = FaultyBackground(faulty)
        self.tries = 0
        anything: Any = None
        credentials: Any = Credentials()
        settings: Any = type(
            "Settings",
            (),
            {"tunnels": 1, "drain_seconds": 0, "health": None, "central": Address("x", 1)},
        )

        async def version(_: object) -> str:
            return "v1.31.0"

        async def resources(*_: object) -> tuple[tuple[str, ...], tuple[str, ...]]:
            return (), ()

        async def rights(_: object) -> Rights:
            return Rights("bounded", ())

        monkeypatch.setattr(agent_module, "kubernetes_version", version)
        monkeypatch.setattr(agent_module.OwnResources, "ask", resources)
        monkeypatch.setattr(agent_module, "ask_rights", rights)
        monkeypatch.setattr(agent_module, "freeze_memory", lambda: None)
        monkeypatch.setattr(background_module, "FIRST_RETRY", 0.01)
        made: Any = self.background
        self.credentials, self.settings, self.anything = credentials, settings, anything
        self.made = made

    async def serve(self) -> str:
        async with self.background:
            plane = TunnelPlane(self.credentials, self.made, BufferBudget())
            identity = Issuer().identity("abc123", 0.0, 60.0)
            store = self.anything
            self.agent = Agent(self.settings, self.credentials, store, identity, plane, self.made)
            return await self.agent.serve()


@pytest.mark.parametrize("name", sorted(OF_AGENT["forever"]))
async def test_an_endless_task_of_the_agent_that_fails_ends_the_process_loudly(
    name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    scene = AgentScene(name, monkeypatch)
    reason = await asyncio.wait_for(scene.serve(), 30)
    assert reason == f"the task {name!r} ended: Fault: on purpose"
    assert scene.agent.unready() == f"does not go on: {name}"
    [line] = [it for it in caplog.records if it.levelno == logging.CRITICAL]
    assert line.__dict__["task"] == name


@pytest.mark.parametrize("name", sorted(OF_AGENT["every"]))
async def test_a_periodic_task_of_the_agent_that_fails_once_goes_on(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = AgentScene(name, monkeypatch)
    serving = asyncio.create_task(scene.serve())
    background = scene.background
    await until(lambda: background.faults and min(background.turns.values()) > 1)
    assert set(background.turns) == OF_AGENT["every"]
    assert scene.agent.unready() == "no tunnel to central is open"
    background.ask_to_end()
    assert await serving == ""


# -- short tasks


async def a_registration(_: Path, scene: Any) -> None:
    """The agent is told, and dials again."""
    fail(scene, "tunnel.register")
    [answer] = await scene.send(talking.register())
    assert isinstance(answer, Refused)
    assert "try again" in answer.message


async def a_renewal(_: Path, scene: Any) -> None:
    """The agent asks again."""
    fail(scene, "tunnel.renew")
    await scene.send(talking.register())
    csr = Renew(pki.csr(pki.new_key(), "prod").decode())
    assert await scene.send(csr) == []
    [answer] = await scene.send(csr)
    assert isinstance(answer, Renewed)


def fail(scene: Any, name: str) -> None:
    scene.background = FaultyLooseBackground(name)
    scene.records._background = scene.background
    scene.control = scene.build()


async def a_question(_: Path, scene: Any) -> None:
    """Who asked hears of it; who asks next gets an answer."""
    records = AgentRecords(scene.database, FaultyLooseBackground("agents.standing"))
    with pytest.raises(Exception, match="on purpose"):
        await records.standing("abc123")
    assert await records.standing("abc123") == Standing(scene.cluster_id, "prod", revoked=False)


async def a_note(_: Path, scene: Any) -> None:
    """It is made up for with the next one."""
    background = FaultyLooseBackground("agents.sightings")
    records = AgentRecords(scene.database, background, gather_seconds=0)
    for version in ("1", "2"):
        seen = datetime.now(UTC) - timedelta(seconds=5)
        records.saw(Sighting(scene.cluster_id, version, "v1.31.0", seen))
        await background.idle()
    [cluster] = await clusters.list_clusters(scene.database)
    assert cluster.agent_version == "2"
    assert background.faults == 1


async def a_way_to_the_api(folder: Path, _: Any) -> None:
    """The request gets 502, the next one its answer."""
    folder = folder / "house"
    folder.mkdir()
    house = upstream.House(folder)
    central = house.central
    background = FaultyLooseBackground("management.connect")
    house.management = Management(house.path, central.ticks, central.budget, background)
    central.chain._management = house.management.forward
    runner: web.AppRunner = await house.start()
    person = central.http2()
    assert await house.code(person, person.ask(b"/auth/login")) == 502
    assert await house.code(person, person.ask(b"/auth/login")) == 200
    house.management.close()
    await runner.cleanup()


async def a_dial(_: Path, __: Any) -> None:
    """What waited gets 503, and the next request dials anew."""
    side = agent_side("apiserver.dial")
    assert status_of(await side.ask(3)) == b"503"
    await side.ask(5)
    assert len(side.dialled) == 1


async def an_upgrade(_: Path, __: Any) -> None:
    """The same, for a connection of its own."""
    side = agent_side("apiserver.upgrade")
    upgrade = (b"mk8s-upgrade", b"websocket")
    assert status_of(await side.ask(3, upgrade, end=False)) == b"503"
    await side.ask(5, upgrade, end=False)
    assert len(side.dialled) == 1


def agent_side(name: str) -> AgentSide:
    side = AgentSide().open()
    background: Any = FaultyLooseBackground(name)
    side.apiserver._tasks._background = background
    return side


def status_of(frames: list[Frame]) -> bytes:
    [head] = [dict(it.value) for it in frames if it.kind == "HEADERS" and it.stream == 3]
    status: bytes = head[b":status"]
    return status


async def a_place(_: Path, __: Any) -> None:
    """The place of a tunnel is taken by another one."""
    world = dialling.Central()
    background: Any = FaultyLooseBackground("tunnel.place")
    dialer = Dialer(world.connect, background, 1, draw=dialling.lowest)
    async with dialling.running(dialer):
        await world.until(handles=1)
    assert background.faults == 1


async def a_look_for_kubectl(folder: Path, _: Any) -> None:
    """Commands are answered with the reason, and not by waiting for ever."""
    background: Any = FaultyLooseBackground("exec.look")
    runner = CommandRunner(ExecSettings(), folder, bytes)
    runner.start(background)
    with pytest.raises(Unavailable, match="on purpose"):
        await runner.kubectl()
    assert background.faults == 1


SHORT: dict[str, Callable[[Path, Any], Awaitable[None]]] = {
    "tunnel.register": a_registration,
    "tunnel.renew": a_renewal,
    "agents.standing": a_question,
    "agents.sightings": a_note,
    "management.connect": a_way_to_the_api,
    "apiserver.dial": a_dial,
    "apiserver.upgrade": an_upgrade,
    "tunnel.place": a_place,
    "exec.look": a_look_for_kubectl,
}


@pytest.mark.parametrize("name", SHORT)
async def test_a_short_task_that_fails_is_logged_and_the_next_one_works(
    name: str,
    tmp_path: Path,
    scene: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await SHORT[name](tmp_path, scene)
    # A question's exception goes to those who asked, and is theirs to log.
    assert ("on purpose" in caplog.text) is (name != "agents.standing")
