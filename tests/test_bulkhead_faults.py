"""One item of every loop over things of many owners fails once: the others get their turn.

The names come from the code itself: a loop that is new has no scene here, and fails the first test.
"""

import asyncio
import inspect
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import pytest

from mk8s_agent.tunnel.data_plane import OpenTunnel, TunnelPlane
from mk8s_agent.tunnel.dialer import Dialer
from mk8s_agent.wire.bulkhead import BULKHEADS, Bulkhead
from mk8s_agent.wire.heap import HeapWatch
from mk8s_agent.wire.limits import BufferBudget, Limits
from mk8s_agent.wire.metrics import histogram
from mk8s_agent.wire.stream import Stream
from mk8s_agent.wire.ticks import Ticks
from mk8s_proxy.chain import long_running as long_running_module
from mk8s_proxy.chain.api_upstream import Management
from mk8s_proxy.chain.farewell import last_words
from mk8s_proxy.chain.long_running import LongRunning
from mk8s_proxy.db import roles
from mk8s_proxy.db.announcements import Announcements
from mk8s_proxy.db.engine import Database
from mk8s_proxy.kube.request_info import RequestInfo
from mk8s_proxy.listener.connection_limits import ConnectionLimits
from mk8s_proxy.listener.http2 import ClientHttp2
from mk8s_proxy.listener.server import Listener, ListenerTransport
from mk8s_proxy.process.app import Central as Process
from mk8s_proxy.process.policy_feed import PolicyFeed
from mk8s_proxy.settings.model import PolicySettings
from mk8s_proxy.tunnel.session import TunnelSession
from tests.agent.test_wire_flow_control import answering, send
from tests.agent.test_wire_http2_server import GET, NotingServer
from tests.proxy.test_policy_feed import RULES
from tests.support.agent_side import AgentSide
from tests.support.databases import migrated_sqlite, sqlite_database, sqlite_url
from tests.support.faults import Once, bulkheads
from tests.support.front_door import Central
from tests.support.memory import Peer, headers
from tests.support.tasks import LooseBackground

__all__ = ["migrated_sqlite", "sqlite_database", "sqlite_url"]  # fixtures


class Parts:
    """What a scene may need."""

    def __init__(self, folder: Path, database: Database) -> None:
        self.folder, self.database = folder, database


class Noted:
    """An item that notes what is done with it; what is named in `failing` fails the first time."""

    def __init__(self, *failing: str) -> None:
        self.done: list[str] = []
        self.failing = set(failing)

    def __getattr__(self, name: str) -> Callable[..., None]:
        def note(*_: Any, **__: Any) -> None:
            self.done.append(name)
            if name in self.failing:
                self.failing.discard(name)
                raise ValueError(f"{name} on purpose")

        return note


@contextmanager
def failing_once(kind: type, method: str) -> Iterator[None]:
    """The first call of a method, of whatever instance, raises."""
    once = Once(getattr(kind, method))

    def failing(*arguments: Any) -> Any:  # a function, so that it is given the instance
        return once(*arguments)

    with mock.patch.object(kind, method, failing):
        yield


def pair(what: str) -> tuple[Any, Any]:
    return Noted(what), Noted()


# -- ticks


def ticks_hooks(_: Parts) -> None:
    queued: list[Callable[[], None]] = []
    ticks = Ticks(queued.append)
    bad, good = pair("commit")
    ticks.before_flush += [bad.commit, good.commit]
    ticks.run()
    assert good.done == ["commit"]


def ticks_flush(_: Parts) -> None:
    queued: list[Callable[[], None]] = []
    ticks = Ticks(queued.append)
    bad, good = pair("flush")
    bad.transport, good.transport = Noted(), Noted()
    ticks.mark(bad)
    ticks.mark(good)
    ticks.run()
    assert good.done == ["flush"]
    assert bad.transport.done == ["abort"]
    assert good.transport.done == []


# -- the listener


def listening(what: str) -> tuple[Listener, Any, Any]:
    nothing: Any = None
    listener = Listener(nothing, nothing, limits=ConnectionLimits(9, 9), handshake_seconds=1)
    made = []
    for served in pair(what):
        transport = ListenerTransport(listener)
        transport.served, transport._socket = served, Noted(what)
        listener.transports.add(transport)
        made.append(transport)
    return listener, *made


def listener_second(_: Parts) -> None:
    listener, bad, good = listening("second")
    listener.second(1.0)
    assert good.served.done == ["second"]
    assert bad._socket.done == ["abort"]
    assert good._socket.done == []


def listener_drain(_: Parts) -> None:
    listener, bad, good = listening("drain")
    listener.drain()
    assert good.served.done == ["drain"]
    assert bad._socket.done == ["abort"]
    assert good._socket.done == []


def listener_abort(_: Parts) -> None:
    listener, bad, good = listening("abort")
    good._socket.failing.clear()
    listener.abort()
    assert bad._socket.done == good._socket.done == ["abort"]


def central_second(_: Parts) -> None:
    """The listener's clock fails as a whole; tokens and logouts are looked at all the same."""
    listener, revoked, long_running, metrics = Noted("second"), Noted(), Noted(), Noted()
    central: Any = types.SimpleNamespace(
        listener=listener,
        _end_and_forget=revoked.recheck,
        ticks=types.SimpleNamespace(schedule=lambda: None),
        chain=types.SimpleNamespace(long_running=long_running),
        _counted=0.0,
        metrics=metrics,
        _heap=HeapWatch(),
        buffers=BufferBudget(),
    )
    asyncio.run(Process._count_second(central))
    assert (listener.done, revoked.done, long_running.done) == (["second"], ["recheck"], ["second"])
    assert metrics.done == ["second"]


# -- the chain


class Head(NamedTuple):
    upgrade: bytes = b""
    authorization: bytes = b""
    forwarded: tuple[()] = ()
    target: bytes = b""


class Watch:
    """An open watch whose answer has not begun."""

    closing_event = b""
    subprotocol = b""

    def __init__(self, *failing: str) -> None:
        self.connection = Noted(*failing)
        self.connection.transport = Noted()  # type: ignore[attr-defined]
        self.front = Stream(self.connection, 1, 0, 0)
        self.back = None
        self.head = Head()
        self.entry = types.SimpleNamespace(audit_id="a", refusal="", facts=Head())
        self.info = RequestInfo(True, "watch", "/api/v1/pods")


def watched(recheck: Callable[[Any], str], *failing: str) -> tuple[LongRunning, Any, Any]:
    long_running = LongRunning(recheck, recheck, lambda _: 1e12)
    first, second = Watch(*failing), Watch(*failing)
    for watch in (first, second):
        made: Any = watch
        long_running.add(made, 0.0)
    return long_running, first, second


def long_running_checked(_: Parts) -> None:
    """Nobody knows whether it may go on: it is ended; the other one goes on."""
    recheck = Once(lambda _: "")
    long_running, first, second = watched(recheck)
    long_running.recheck_all()
    assert sorted([first.connection.done, second.connection.done]) == [[], ["reset"]]
    assert {first.entry.refusal, second.entry.refusal} == {"", "INTERNAL"}


def long_running_drained(_: Parts) -> None:
    """One whose end cannot be prepared, nor its stream reset, is aborted; the other one drains."""
    long_running, first, second = watched(lambda _: "")
    first.connection.failing.add("reset")
    with mock.patch.object(long_running_module, "last_words", Once(last_words)):
        long_running.drain("central stops")
    assert first.connection.done == ["reset"]
    assert first.connection.transport.done == ["abort"]
    assert list(long_running.exchanges()) == list(long_running._ending) == [second]
    assert second.connection.done == []  # its answer has not begun, and is waited for


def long_running_ending(_: Parts) -> None:
    """Both wait for a moment between two events; the first one's connection fails, for good."""
    long_running, first, second = watched(lambda _: "")
    for watch in (first, second):
        watch.front.head_passed = True
    long_running.drain("central stops")
    assert len(long_running._ending) == 2
    first.connection.failing |= {"send_data", "reset"}
    long_running.second(-1.0)  # they are watched for a whole second
    long_running.second(-1.0)
    assert first.connection.done == ["send_data", "reset"]
    assert first.connection.transport.done == ["abort"]
    assert second.connection.done == ["send_data"]
    assert not long_running._ending


def chain_release(parts: Parts) -> None:
    """Two requests of one tick go to two clusters; the first tunnel cannot take one."""
    central = Central(parts.folder)
    agents = [central.agent(name) for name in ("prod", "staging")]
    people = [central.http2(), central.http2()]
    turn, held = central.ticks.turn, central.ticks
    held.turn = lambda: None  # both requests come within one tick
    numbers = [
        person.ask(f"/k8s/{name}/api/v1/namespaces/default/pods".encode(), token=b"dev")
        for person, name in zip(people, ("prod", "staging"), strict=True)
    ]
    held.turn = turn
    with failing_once(TunnelSession, "open_prepared"):
        turn()
    answers = [person.answer(it) for person, it in zip(people, numbers, strict=True)]
    assert [answer.code for answer in answers] == [502, 0]
    assert agents[1].request()[1][b":method"] == b"GET"
    assert [row["responseStatus"]["code"] for row in central.outcomes()] == [502]


def streams_lost(parts: Parts) -> None:
    """A tunnel is lost; one of the two clients on it cannot be told."""
    central = Central(parts.folder)
    agent = central.agent()
    people = [central.http2(), central.http2()]
    numbers = [person.ask() for person in people]
    with failing_once(ClientHttp2, "reset"):
        agent.session.connection_lost()
    assert people[0].transport.aborted
    assert people[1].answer(numbers[1]).code == 502
    assert central.closed == [agent.session]


def streams_stalled(_: Parts) -> None:
    """Two readers take nothing while memory is scarce; the first cannot be ended."""
    server, peer = answering(1, 3)
    for number in (1, 3):
        send(server, number, bytes(100_000))
    server.budget.limit = 1
    held: Any = server.hand
    peer.read()
    server._cut_stalled(1.0)
    held.mark = Once(held.mark)
    server._cut_stalled(1000.0)
    assert held.mark.calls > 0
    assert 3 not in server.streams


def tunnels_unwanted(parts: Parts) -> None:
    central = Central(parts.folder)
    bad, good = central.agent(), central.agent()
    transport: Any = bad.transport
    transport.abort = Once(transport.abort)
    central.registry.follow({}, frozenset())
    assert good.transport.aborted
    assert central.closed == [good.session]
    assert central.registry.pick("prod") is None


def management_close(parts: Parts) -> None:
    ticks: Any = None
    management = Management(parts.folder, ticks, BufferBudget(), LooseBackground())
    bad, good = (types.SimpleNamespace(transport=it) for it in pair("close"))
    idle: list[Any] = [bad, good]
    management._idle = idle
    management.close()
    assert good.transport.done == ["close"]


# -- the database's news


async def announcements_heard(parts: Parts) -> None:
    members = [Announcements(parts.folder, number, 2) for number in (1, 2)]
    heard: list[int] = []
    members[1].on("count", Once(heard.append))
    for member in members:
        member.start()
    members[0].tell("count", 1)
    members[0].tell("count", 2)
    members[1]._hear()
    for member in members:
        member.close()
    assert heard == [2]


async def announcements_sent(parts: Parts) -> None:
    member = Announcements(parts.folder, 1, 3)
    told = Noted("sendto")
    socket: Any = told
    member._socket = socket
    member.tell("count", 1)
    assert told.done == ["sendto", "sendto"]
    assert not member._waiting


async def policy_listeners(parts: Parts) -> None:
    """Who failed is told again, and until then the lease is not renewed."""
    now = [1000.0]
    settings = PolicySettings(lease_seconds=60)
    feed = PolicyFeed(parts.database, settings, clock=lambda: now[0])
    await feed.start()
    bad, good = pair("changed")
    feed._listeners += [bad.changed, good.changed]
    await roles.put_role(parts.database, "viewer", RULES)
    now[0] += 50.0
    await feed.refresh()
    assert (bad.done, good.done) == (["changed"], ["changed"])
    assert not feed.fresh(now[0] + 20.0)
    await feed.refresh()
    assert (bad.done, good.done) == (["changed", "changed"], ["changed"])
    assert feed.fresh(now[0] + 20.0)


# -- the agent


def plane_with(*items: Any) -> TunnelPlane:
    plane = TunnelPlane.__new__(TunnelPlane)
    plane.open_tunnels = set(items)
    plane._counted = 0.0
    plane._delays = histogram()
    apiserver: Any = Noted()
    plane.apiserver = apiserver
    plane._heap, plane.buffers = HeapWatch(), BufferBudget()
    return plane


async def tunnels_second(_: Parts) -> None:
    """Heartbeats of the other tunnels go on, and the broken one is dialled anew."""
    nothing: Any = None
    tunnels: list[Any] = [OpenTunnel(nothing, nothing), OpenTunnel(nothing, nothing)]
    plane = plane_with(*tunnels)
    for opened, tunnel in zip(tunnels, pair("second"), strict=True):
        tunnel.transport = Noted()
        opened.tunnel = tunnel
    await plane._count_second()
    bad, good = tunnels
    assert bad.tunnel.done == ["second", "connection_lost"]
    assert bad.tunnel.transport.done == ["abort"]
    assert good.tunnel.done == ["second"]
    apiserver: Any = plane.apiserver
    assert apiserver.done == ["second"]


async def agent_second(_: Parts) -> None:
    plane = plane_with()
    apiserver: Any = Noted("second")
    plane.apiserver = apiserver
    await plane._count_second()  # and no exception, which would count as a failed turn
    assert apiserver.done == ["second"]


async def dialer_with(what: str) -> tuple[Dialer, Any, Any]:
    nothing: Any = None
    dialer = Dialer(nothing, LooseBackground())
    bad, good = pair(what)
    for handle in (bad, good):
        handle.closed = asyncio.get_running_loop().create_future()
        dialer._live[handle] = 0
    return dialer, bad, good


async def dialer_drain(_: Parts) -> None:
    dialer, bad, good = await dialer_with("drain")
    await dialer.drain(0.0)
    assert bad.done == ["drain", "close", "close"]
    assert good.done == ["drain", "close"]


async def dialer_cut(_: Parts) -> None:
    dialer, _bad, good = await dialer_with("close")
    assert dialer.cut() == 2
    assert good.done == ["close"]


async def apiserver_second(_: Parts) -> None:
    """One connection to the API server fails at its deadlines; the other one has them, too."""
    side = AgentSide().open()
    await side.ask(3)
    first = side.dialled[0]
    first.greet()
    await side.apiserver._dial_for_waiting()
    second = side.dialled[1]
    second.greet()
    side.apiserver.second(0.0)  # what was heard of them is past
    held: Any = side.ticks
    held.mark = Once(held.mark)
    side.apiserver.second(12.0)  # each is asked for a sign of life
    assert first.transport.aborted
    assert not second.transport.aborted
    assert held.mark.calls > 1


async def apiserver_forward_waiting(_: Parts) -> None:
    """Two requests wait for the connection; the first cannot be forwarded."""
    side = AgentSide().open()
    await side.ask(3)
    await side.ask(5)
    side.credentials.authorization = Once(side.credentials.authorization)
    [dialled] = side.dialled
    forwarded = [it for it in dialled.greet() if it.kind == "HEADERS"]
    [head] = [it for it in side.central.read() if it.kind == "HEADERS"]
    assert (head.stream, dict(head.value)[b":status"]) == (3, b"502")
    assert len(forwarded) == 1


async def apiserver_turn_away(_: Parts) -> None:
    side = AgentSide().open()
    side.unreachable = "nobody is there"
    side.apiserver._answer = Once(side.apiserver._answer)
    side.gate = asyncio.Event()
    await side.ask(3)
    await side.ask(5)
    side.gate.set()
    await side.settle()
    heads = {it.stream: dict(it.value) for it in side.central.read() if it.kind == "HEADERS"}
    assert heads[3][b":status"] == b"502"
    assert heads[5][b":status"] == b"503"


async def apiserver_close(_: Parts) -> None:
    side = AgentSide().open()
    await side.ask(3)
    side.dialled[0].greet()
    await side.apiserver._dial_for_waiting()
    bad, good = (it.transport for it in side.dialled)
    broken: Any = bad
    broken.close = Once(bad.close)
    side.apiserver.close()
    assert good.closed


SCENES: dict[str, Callable[[Parts], Any]] = {
    "ticks.hooks": ticks_hooks,
    "ticks.flush": ticks_flush,
    "listener.second": listener_second,
    "listener.drain": listener_drain,
    "listener.abort": listener_abort,
    "central.second": central_second,
    "long_running.checked": long_running_checked,
    "long_running.drained": long_running_drained,
    "long_running.ending": long_running_ending,
    "chain.release": chain_release,
    "streams.lost": streams_lost,
    "streams.stalled": streams_stalled,
    "tunnels.unwanted": tunnels_unwanted,
    "management.close": management_close,
    "announcements.heard": announcements_heard,
    "announcements.sent": announcements_sent,
    "policy.listeners": policy_listeners,
    "tunnels.second": tunnels_second,
    "agent.second": agent_second,
    "dialer.drain": dialer_drain,
    "dialer.cut": dialer_cut,
    "apiserver.second": apiserver_second,
    "apiserver.forward_waiting": apiserver_forward_waiting,
    "apiserver.turn_away": apiserver_turn_away,
    "apiserver.close": apiserver_close,
}


def test_each_loop_of_the_code_has_its_scene() -> None:
    assert bulkheads() == set(SCENES)


@pytest.mark.parametrize("name", SCENES)
def test_one_item_that_fails_costs_itself_only(
    name: str, tmp_path: Path, sqlite_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    before = BULKHEADS[name].failures

    async def play() -> None:
        database = Database(sqlite_url)
        await database.start()
        try:
            await SCENES[name](Parts(tmp_path, database))
        finally:
            await database.close()

    if inspect.iscoroutinefunction(SCENES[name]):
        asyncio.run(play())
    else:
        nothing: Any = None
        SCENES[name](Parts(tmp_path, nothing))
    assert BULKHEADS[name].failures == before + 1
    [line] = [it for it in caplog.records if it.__dict__.get("loop") == name][:1]
    assert line.getMessage() == "item.failed"
    assert line.__dict__["failures"] == before + 1
    assert line.exc_info is not None


# -- a bulkhead by itself


def test_one_exception_in_one_connections_second_leaves_the_others_their_deadlines() -> None:
    """Token expiry, idle and write deadlines of all others hang on this loop."""
    listener, _bad, good = listening("second")
    for _ in range(3):
        listener.second(1.0)
    assert good.served.done == ["second"] * 3


class Forgetful(NotingServer):
    """Fails once when it is to forget a stream."""

    faults = 1

    def on_stream_closed(self, stream: Stream) -> None:
        super().on_stream_closed(stream)
        if self.faults:
            self.faults -= 1
            raise ValueError("on purpose")


def test_a_stream_that_cannot_be_forgotten_ends_like_the_others_of_a_lost_connection() -> None:
    server = Forgetful(Limits())
    peer = Peer(server, server.socket, server.hand)
    peer.greet()
    for number in (1, 3):
        peer.send(headers(number, GET))
    server.connection_lost()
    assert [len(leg.resets) for leg in server.legs.values()] == [1, 1]
    assert server.streams == {}
    assert server.lost == 1


def test_a_stream_that_another_one_took_along_is_not_ended_twice() -> None:
    """They share a connection, which goes with the first of them."""
    long_running, first, second = watched(lambda _: "")
    for watch, other in ((first, second), (second, first)):
        watch.front.head_passed = True
        watch.connection.send_data = lambda *_, gone=other: long_running.remove(gone)
    long_running.drain("central stops")
    long_running.second(-1.0)
    long_running.second(-1.0)
    assert len(long_running) == 1


def test_an_item_that_cannot_even_be_given_up_stops_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bad, good = pair("work")
    bad.failing.add("give_up")
    bulkhead = BULKHEADS["ticks.flush"]
    bulkhead.each([bad, good], lambda it: it.work(), lambda it: it.give_up())
    assert good.done == ["work"]
    assert [it.getMessage() for it in caplog.records] == ["item.failed", "item.not_given_up"]


def test_a_name_stands_for_one_loop() -> None:
    with pytest.raises(AssertionError):
        Bulkhead("ticks.flush")
