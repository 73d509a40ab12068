"""Tunnels are dialled, replaced and drained: against a connect that the test holds in its hand."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from typing import Any

import pytest

from mk8s_agent.tunnel import dialer as dialer_module
from mk8s_agent.tunnel.dialer import ABSENT_PAUSE, Backoff, Dialer, TunnelRefused, is_absence
from tests.agent.pki_for_tests import Clock
from tests.support.tasks import LooseBackground


class Handle:
    """A tunnel that ends when the test says so, or when it is drained without requests."""

    def __init__(self, *, busy: bool = False, instance: str = "", instances: int = 0) -> None:
        loop = asyncio.get_running_loop()
        self.instance = instance
        self.instances = instances
        self.closed: asyncio.Future[str] = loop.create_future()
        self.draining: asyncio.Future[None] = loop.create_future()
        self.busy = busy
        self.drained = False

    def drain(self) -> None:
        self.drained = True
        if not self.busy:
            self.end("drained")

    def close(self) -> None:
        self.end("cut")

    def end(self, reason: str) -> None:
        if not self.closed.done():
            self.closed.set_result(reason)


class Central:
    """Connects one tunnel for each permit; fails while there is an error."""

    def __init__(self) -> None:
        self.handles: list[Handle] = []
        self.error: Exception | None = None
        self.tries = 0
        self.busy = False
        self.answering = [""]
        """Which process answers each dial, in order; the last one goes on."""
        self.instances = 0
        self.news = asyncio.Condition()

    async def connect(self) -> Handle:
        async with self.news:
            self.tries += 1
            self.news.notify_all()
            if self.error is not None:
                raise self.error
            instance = self.answering[min(len(self.handles), len(self.answering) - 1)]
            handle = Handle(busy=self.busy, instance=instance, instances=self.instances)
            self.handles.append(handle)
        return handle

    async def until(self, *, handles: int = 0, tries: int = 0) -> None:
        async with asyncio.timeout(20), self.news:
            await self.news.wait_for(lambda: self.tries >= tries and len(self.handles) >= handles)
        for _ in range(3):  # let the dialer take up what connect returned
            await asyncio.sleep(0)


@pytest.fixture
def central() -> Central:
    return Central()


def lowest(low: float, _: float) -> float:
    return low


@contextlib.asynccontextmanager
async def running(dialer: Dialer) -> AsyncIterator[None]:
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        task = group.create_task(dialer.run())
        yield
        await dialer.drain(5.0)
        await task


async def test_keeps_as_many_tunnels_as_asked(central: Central) -> None:
    dialer = Dialer(central.connect, LooseBackground(), 3)
    async with running(dialer):
        await central.until(handles=3)
        assert dialer.connected == 3
    assert all(handle.drained for handle in central.handles)
    assert dialer.connected == 0
    assert central.tries == 3


async def test_a_tunnel_that_ends_is_dialled_again(central: Central) -> None:
    dialer = Dialer(central.connect, LooseBackground(), 1, draw=lowest)
    async with running(dialer):
        await central.until(handles=1)
        central.handles[0].end("central closed the connection")
        await central.until(handles=2)
        assert dialer.connected == 1


async def test_central_that_is_down_is_tried_until_it_is_back(
    central: Central, caplog: pytest.LogCaptureFixture
) -> None:
    central.error = ConnectionRefusedError(111, "Connection refused")
    dialer = Dialer(central.connect, LooseBackground(), 1, draw=lowest)
    async with running(dialer):
        await central.until(tries=5)
        assert dialer.connected == 0
        central.error = None
        await central.until(handles=1)
        assert dialer.connected == 1
    assert caplog.text.count("tunnel.not_opened") == 1  # the same reason is told once


async def test_a_connect_that_hangs_is_given_up(
    central: Central, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dialer_module, "CONNECT_SECONDS", 0.01)

    async def hang_once() -> Handle:
        if not central.tries:
            central.tries += 1
            await asyncio.Event().wait()
        return await central.connect()

    async with running(Dialer(hang_once, LooseBackground(), 1, draw=lowest)):
        await central.until(handles=1)


async def test_drain_by_central_replaces_first_and_ends_the_old_one_after(central: Central) -> None:
    central.busy = True
    dialer = Dialer(central.connect, LooseBackground(), 1, draw=lowest)
    async with running(dialer):
        await central.until(handles=1)
        old = central.handles[0]
        old.draining.set_result(None)
        await central.until(handles=2)
        assert old.drained
        assert not old.closed.done()  # its requests go on
        assert dialer.connected == 1
        for handle in central.handles:
            handle.busy = False
            handle.end("done")


async def test_a_new_identity_replaces_all_tunnels(central: Central) -> None:
    dialer = Dialer(central.connect, LooseBackground(), 2, draw=lowest, monotonic=Clock(0.0))
    async with running(dialer):
        await central.until(handles=2)
        dialer.replace()
        await central.until(handles=4)
        assert [handle.drained for handle in central.handles] == [True, True, False, False]
        assert dialer.connected == 2


async def test_replacing_keeps_the_old_tunnel_while_central_is_down(central: Central) -> None:
    dialer = Dialer(central.connect, LooseBackground(), 1, draw=lowest)
    async with running(dialer):
        await central.until(handles=1)
        central.error = ConnectionRefusedError()
        dialer.replace()
        await central.until(tries=4)
        assert not central.handles[0].drained
        assert dialer.connected == 1
        central.handles[0].end("lost")
        central.error = None
        await central.until(handles=2)
        assert not central.handles[0].drained


async def test_drain_cuts_what_does_not_end(central: Central) -> None:
    central.busy = True
    dialer = Dialer(central.connect, LooseBackground(), 2)
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        group.create_task(dialer.run())
        await central.until(handles=2)
        assert await dialer.drain(0.0) == 2
    assert [handle.closed.result() for handle in central.handles] == ["cut", "cut"]


async def test_impatience_cuts_a_drain_short(central: Central) -> None:
    central.busy = True
    dialer = Dialer(central.connect, LooseBackground(), 1)
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        group.create_task(dialer.run())
        await central.until(handles=1)
        draining = group.create_task(dialer.drain(600.0))
        await asyncio.sleep(0)
        assert dialer.cut() == 1
        assert await draining == 0


async def test_drain_while_dialling_leaves_no_tunnel(central: Central) -> None:
    gate = asyncio.Event()

    async def slow() -> Handle:
        handle = await central.connect()
        await gate.wait()
        return handle

    dialer = Dialer(slow, LooseBackground(), 1)
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        group.create_task(dialer.run())
        await central.until(handles=1)
        assert await dialer.drain(5.0) == 0
        gate.set()
    assert central.handles[0].closed.result() == "cut"


async def test_drain_before_any_tunnel(central: Central) -> None:
    central.error = ConnectionRefusedError()
    async with running(Dialer(central.connect, LooseBackground(), 2)):
        await central.until(tries=1)
    assert central.handles == []


def open_to(central: Central) -> list[str]:
    """The processes at the other ends of the tunnels that are neither closed nor drained."""
    left = (it for it in central.handles if not (it.closed.done() or it.drained))
    return sorted(it.instance for it in left)


async def test_every_process_of_central_is_reached(central: Central) -> None:
    central.answering, central.instances = ["a", "a", "a", "b"], 2
    dialer = Dialer(central.connect, LooseBackground(), 2, draw=lowest)
    async with running(dialer):
        await central.until(handles=4)
        assert open_to(central) == ["a", "b"]
        assert not central.handles[0].drained  # the first one stays: its requests go on
        assert dialer.connected == 2
    assert central.tries == 4  # all are reached: nobody looked any further


async def test_two_tunnels_to_the_only_process_are_both_kept(central: Central) -> None:
    central.answering, central.instances = ["a"], 1
    dialer = Dialer(central.connect, LooseBackground(), 2, draw=lowest)
    async with running(dialer):
        await central.until(handles=2)
        assert open_to(central) == ["a", "a"]
    assert central.tries == 2


async def test_more_processes_than_tunnels_get_more_tunnels(central: Central) -> None:
    central.answering, central.instances = ["a", "b", "c", "d"], 4
    dialer = Dialer(central.connect, LooseBackground(), 2, draw=lowest)
    async with running(dialer):
        await central.until(handles=4)
        assert open_to(central) == ["a", "b", "c", "d"]
    assert central.tries == 4


async def test_a_boast_of_a_million_processes_gets_a_bounded_number_of_tunnels(
    central: Central, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dialer_module, "MOST_TUNNELS", 3)
    central.answering, central.instances = ["a", "b", "c", "d"], 1_000_000
    dialer = Dialer(central.connect, LooseBackground(), 1, draw=lowest)
    async with running(dialer):
        await central.until(handles=3)
        assert dialer.connected == 3
    assert central.tries == 3


async def test_places_beyond_the_wish_end_with_the_processes(central: Central) -> None:
    central.answering, central.instances = ["a", "b", "c"], 3
    dialer = Dialer(central.connect, LooseBackground(), 1, draw=lowest)
    async with running(dialer):
        await central.until(handles=3)
        central.answering, central.instances = ["x"], 1
        for handle in central.handles[:3]:
            handle.end("central restarts")
        await central.until(handles=4)
        assert dialer.connected == 1
    assert central.tries == 4


async def test_a_process_that_died_is_looked_for_until_it_is_back(central: Central) -> None:
    central.answering, central.instances = ["a", "b", "a", "a", "a", "b2"], 2
    dialer = Dialer(central.connect, LooseBackground(), 2, draw=lowest)
    async with running(dialer):
        await central.until(handles=2)
        central.handles[1].end("killed")
        await central.until(handles=6)
        assert open_to(central) == ["a", "b2"]
    assert central.tries == 6


async def test_the_search_is_slower_and_slower(central: Central) -> None:
    ceilings: list[float] = []

    def draw(_: float, high: float) -> float:
        ceilings.append(high)
        return 0.0

    central.answering, central.instances = ["a"], 2
    async with running(Dialer(central.connect, LooseBackground(), 2, draw=draw)):
        await central.until(handles=14)
    assert ceilings[:4] == [0.1, 0.2, 0.4, 0.8]
    assert max(ceilings) == 30.0


async def test_replacing_while_searching_drains_the_old_identity(
    central: Central, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dialer_module, "STEADY_SECONDS", 0.0)  # no pause before the replacement
    central.answering, central.instances = ["a"], 2
    central.busy = True
    dialer = Dialer(central.connect, LooseBackground(), 2, draw=lambda _low, _high: 600.0)
    async with running(dialer):
        await central.until(handles=2)
        dialer.replace()
        await central.until(handles=4)
        assert [it.drained for it in central.handles] == [True, True, False, False]
        for handle in central.handles:
            handle.busy = False
            handle.end("done")


@pytest.mark.parametrize("told", [2, 1])
async def test_the_last_tunnel_to_a_process_goes_when_another_one_is_there(
    central: Central, told: int
) -> None:
    """Between the two, that process would answer 503 to everybody; a replica says it is one."""
    central.answering, central.instances = ["a", "b", "a", "a", "b"], told
    dialer = Dialer(central.connect, LooseBackground(), 2, draw=lowest)
    async with running(dialer):
        await central.until(handles=2)
        dialer.replace()
        await central.until(handles=4)
        assert [it.drained for it in central.handles] == [True, False, False, False]
        assert open_to(central) == ["a", "a", "b"]
        await central.until(handles=5)
        assert central.handles[1].drained
        assert open_to(central) == ["a", "b"]
    assert central.tries == 5


async def test_places_may_swap_their_processes(central: Central) -> None:
    central.answering, central.instances = ["a", "b", "b", "a"], 2
    dialer = Dialer(central.connect, LooseBackground(), 2, draw=lowest)
    async with running(dialer):
        await central.until(handles=2)
        dialer.replace()
        await central.until(handles=4)
        assert [it.drained for it in central.handles] == [True, True, False, False]
    assert central.tries == 4


async def test_a_process_that_no_dial_reaches_keeps_no_old_tunnel_for_ever(
    central: Central, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its certificate is of an authority that is to go."""
    monkeypatch.setattr(dialer_module, "LINGER_SECONDS", 0.0)
    central.answering, central.instances = ["a", "b", "a"], 2
    dialer = Dialer(central.connect, LooseBackground(), 2, draw=lowest)
    async with running(dialer):
        await central.until(handles=2)
        dialer.replace()
        await central.until(handles=4)
        assert central.handles[1].drained


async def test_a_process_that_leaves_by_itself_keeps_no_tunnel(central: Central) -> None:
    central.answering, central.instances = ["a", "b", "a"], 2
    dialer = Dialer(central.connect, LooseBackground(), 2, draw=lowest)
    async with running(dialer):
        await central.until(handles=2)
        central.handles[1].draining.set_result(None)
        await central.until(handles=3)
        assert central.handles[1].drained


async def test_an_identity_that_changes_during_a_dial_is_used_by_the_next(central: Central) -> None:
    gate = asyncio.Event()

    async def slow() -> Handle:
        handle = await central.connect()
        await gate.wait()
        return handle

    dialer = Dialer(slow, LooseBackground(), 1, draw=lowest)
    async with running(dialer):
        await central.until(handles=1)
        dialer.replace()
        gate.set()
        await central.until(handles=2)
        assert central.handles[0].drained
        assert not central.handles[1].drained


def highest(_: float, high: float) -> float:
    return high


def test_absence_is_asked_again_within_a_second() -> None:
    backoff = Backoff(highest)
    pauses = [backoff.pause(ConnectionRefusedError()) for _ in range(30)]
    assert pauses[:4] == [0.1, 0.2, 0.4, 0.8]
    assert max(pauses) == ABSENT_PAUSE


def test_refusals_are_asked_less_and_less_often() -> None:
    backoff = Backoff(highest)
    pauses = [backoff.pause(TunnelRefused("revoked")) for _ in range(12)]
    assert pauses[-1] == 30.0
    assert pauses == sorted(pauses)
    assert backoff.pause(ConnectionRefusedError()) == ABSENT_PAUSE
    backoff.reset()
    assert backoff.pause(None) == 0.1


def test_pauses_are_drawn_below_the_ceiling_and_never_zero() -> None:
    drawn: list[tuple[float, float]] = []

    def draw(low: float, high: float) -> float:
        drawn.append((low, high))
        return low

    Backoff(draw).pause(None)
    assert drawn == [(0.05, 0.1)]


async def test_a_tunnel_that_lived_long_begins_anew(central: Central) -> None:
    clock = Clock(0.0)
    ceilings: list[float] = []

    def draw(low: float, high: float) -> float:
        ceilings.append(high)
        return 0.0

    async with running(Dialer(central.connect, LooseBackground(), 1, draw=draw, monotonic=clock)):
        for number in range(1, 4):
            await central.until(handles=number)
            central.handles[-1].end("short")
        await central.until(handles=4)
        clock.now += 60
        central.handles[-1].end("long")
        await central.until(handles=5)
        central.handles[-1].end("short")
        await central.until(handles=6)
    assert ceilings[:4] == [0.1, 0.2, 0.4, 0.1]


def chained(error: Exception, cause: Exception, *, shown: bool) -> Exception:
    error.__context__ = cause
    error.__cause__ = cause if shown else None  # "from cause", or "from None"
    return error


@pytest.mark.parametrize(
    ("error", "absent"),
    [
        (ConnectionRefusedError(), True),
        (TimeoutError(), True),
        (OSError("name lookup"), True),
        (ssl.SSLEOFError(), True),
        (ssl.SSLZeroReturnError(), True),
        (ssl.SSLCertVerificationError(), False),
        (ssl.SSLError(), False),
        (TunnelRefused("x"), False),
        (ValueError("a bug"), False),
        (chained(Exception("dial"), ConnectionResetError(), shown=True), True),
        (chained(Exception("dial"), TimeoutError(), shown=False), True),
        (chained(Exception("dial"), ssl.SSLCertVerificationError(), shown=True), False),
    ],
)
def test_what_counts_as_absence(error: Exception, absent: bool) -> None:
    assert is_absence(error) is absent


async def test_a_place_that_fails_leaves_its_tunnel_and_dials_another_one(
    central: Central, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    dialer = Dialer(central.connect, LooseBackground(), 1, draw=lowest)
    choose, failing = dialer._choose, [ValueError("on purpose")]

    def once(old: Any, fresh: Any) -> Any:
        if failing:
            raise failing.pop()
        return choose(old, fresh)

    monkeypatch.setattr(dialer, "_choose", once)
    async with running(dialer):
        await central.until(handles=2)
        assert central.handles[0].drained
        assert dialer.connected == 1
    assert "tunnel.turn_failed" in caplog.text
