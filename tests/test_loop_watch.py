"""The watch over the event loops finds what it is for, and blames nobody else."""

import asyncio
import functools
import gc
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from tests.support import loop_watch
from tests.support.loop_watch import LONGEST, LoopWatch, owner_of

CHECKOUT = Path(__file__).parent.parent
OURS = str(CHECKOUT / "mk8s_proxy" / "invented.py")
LONG = 30 * LONGEST

SOURCE = """
import time

def burn(seconds):
    began = time.thread_time()
    while time.thread_time() - began < seconds:
        pass

async def work(seconds):
    burn(seconds)

class Reader:
    def data_received(self, data):
        burn(0.6)
"""
PRODUCT: dict[str, Any] = {"__name__": "invented"}
exec(compile(SOURCE, OURS, "exec"), PRODUCT)
burn: Callable[[float], None] = PRODUCT["burn"]


@pytest.fixture
def watch() -> Iterator[LoopWatch]:
    watching = LoopWatch()
    watching.start()
    yield watching
    watching.stop()


def in_loop(call: Callable[[], object]) -> None:
    """Lets a loop make a call, and ends it."""
    loop = asyncio.new_event_loop()
    loop.call_soon(call)
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()


@pytest.mark.holds_loop("what the watch must find")
def test_a_callback_of_ours_is_found(watch: LoopWatch) -> None:
    in_loop(functools.partial(burn, LONG))
    assert [line.split(":")[0] for line in watch.take()] == ["burn"]
    assert watch.take() == []


def test_a_short_callback_of_ours_is_none(watch: LoopWatch) -> None:
    in_loop(functools.partial(burn, LONGEST / 10))
    assert watch.take() == []


@pytest.mark.holds_loop("what the watch must find")
def test_a_task_of_ours_is_found(watch: LoopWatch) -> None:
    loop = asyncio.new_event_loop()
    loop.run_until_complete(loop.create_task(PRODUCT["work"](LONG)))
    loop.close()
    assert [line.split(":")[0] for line in watch.take()] == ["task work"]


def test_what_tests_do_is_not_counted(watch: LoopWatch) -> None:
    async def own() -> None:
        burn(LONG)

    in_loop(lambda: burn(LONG))
    asyncio.run(own())
    assert watch.take() == []


@pytest.fixture
async def slow_to_set_up() -> AsyncIterator[None]:
    burn(LONG)
    yield
    burn(LONG)


def test_what_fixtures_do_is_not_counted(slow_to_set_up: None) -> None:
    """The watch over all tests would say so."""


def test_time_that_others_take_is_not_counted(watch: LoopWatch) -> None:
    in_loop(functools.partial(time.sleep, LONG))
    assert watch.take() == []


@pytest.mark.holds_loop("another watch does not know of a collector that is played")
def test_the_collector_is_not_counted(watch: LoopWatch, monkeypatch: pytest.MonkeyPatch) -> None:
    def collect() -> None:
        watch._on_collection("start", {})
        burn(LONG)
        watch._on_collection("stop", {})

    monkeypatch.setattr(loop_watch, "_TESTS", "nowhere")
    in_loop(collect)
    assert watch.take() == []
    assert watch._on_collection in gc.callbacks


def test_first_imports_are_not_counted(watch: LoopWatch, monkeypatch: pytest.MonkeyPatch) -> None:
    def load() -> None:
        monkeypatch.setitem(sys.modules, "imported.for.the.first.time", sys)
        burn(LONG)

    monkeypatch.setattr(loop_watch, "_TESTS", "nowhere")
    in_loop(load)
    assert watch.take() == []


def test_tracers_of_tests_are_not_counted(watch: LoopWatch) -> None:
    def ignore(frame: FrameType, event: str, argument: Any) -> None:
        return None

    before = sys.gettrace()
    sys.settrace(ignore)
    try:
        in_loop(functools.partial(burn, LONG))
    finally:
        sys.settrace(before)
    assert watch.take() == []


def test_a_slow_machine_has_more_time(watch: LoopWatch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_watch, "REFERENCE", loop_watch.REFERENCE / 1000)
    in_loop(functools.partial(burn, 2 * LONGEST))
    assert watch.take() == []


async def test_owners() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
    transport, _ = await loop.create_connection(
        asyncio.Protocol, *server.sockets[0].getsockname()[:2]
    )
    name, where = owner_of(transport._read_ready)  # type: ignore[attr-defined]
    assert (name, Path(where).name) == ("Protocol behind a transport", "protocols.py")
    transport.close()
    server.close()
    assert owner_of(burn) == ("burn", OURS)
    assert owner_of(functools.partial(burn, 1))[1] == OURS
    assert Path(owner_of(test_owners)[1]) == Path(__file__)
    assert owner_of(object())[1] == ""
