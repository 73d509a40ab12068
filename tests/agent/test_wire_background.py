"""Tasks that run for ever, again and again, or once: what each does when it fails."""

import asyncio
import logging
import math
from collections.abc import AsyncIterator
from typing import Any

import pytest

from mk8s_agent.wire import background as background_module
from mk8s_agent.wire.background import FIRST_RETRY, LONGEST_RETRY, Background, OwnedTasks, Periodic


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def background(clock: Clock) -> AsyncIterator[Background]:
    async with Background(monotonic=clock, draw=lambda _, high: high) as opened:
        yield opened


async def for_ever() -> None:
    await asyncio.Event().wait()


async def returns() -> None: ...


async def raises() -> None:
    raise OSError("the disk is gone")


async def waits_in_vain() -> None:
    gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    gone.cancel()
    await gone


def fields_of(caplog: pytest.LogCaptureFixture, event: str) -> list[dict[str, Any]]:
    return [record.__dict__ for record in caplog.records if record.getMessage() == event]


@pytest.mark.parametrize(
    ("work", "reason"),
    [
        (returns, "it returned"),
        (raises, "OSError: the disk is gone"),
        (waits_in_vain, "what it waited for was cancelled"),
    ],
)
async def test_an_endless_task_that_ends_unasked_ends_the_process(
    background: Background, caplog: pytest.LogCaptureFixture, work: Any, reason: str
) -> None:
    background.forever("other", for_ever())
    background.forever("feed", work())
    assert await background.until_end() == f"the task 'feed' ended: {reason}"
    assert background.unready() == ["feed"]
    [line] = fields_of(caplog, "process.ending")
    assert (line["levelno"], line["task"], line["reason"]) == (logging.CRITICAL, "feed", reason)


async def test_what_ends_while_the_process_drains_for_another_reason_is_no_reason(
    background: Background, caplog: pytest.LogCaptureFixture
) -> None:
    background.forever("first", raises())
    background.forever("second", returns())
    background.forever("third", raises())
    await asyncio.sleep(0.01)
    assert background.reason.startswith("the task 'first'")
    assert background.unready() == ["first"]
    assert len(fields_of(caplog, "process.ending")) == 1
    assert [it["task"] for it in fields_of(caplog, "task.failed")] == ["first", "third"]


async def test_endless_tasks_may_end_once_the_process_is_to_end(background: Background) -> None:
    background.forever("dialer", returns())
    background.ask_to_end()
    assert background.asked_to_end
    assert await background.until_end() == ""
    await asyncio.sleep(0.01)
    assert background.unready() == []


async def test_the_end_cancels_all_and_begins_nothing_any_more() -> None:
    ended: list[str] = []

    async def work(name: str) -> None:
        try:
            await for_ever()
        finally:
            ended.append(name)

    background = Background()
    await background.open()
    owned = OwnedTasks(background)
    background.forever("a", work("a"))
    owned.start("b", work("b"))
    await asyncio.sleep(0)
    brief = OwnedTasks(background)
    brief.start("never begun", work("c"))
    brief.cancel()  # and its coroutine is not left un-awaited
    await background.close()
    await background.close()
    assert sorted(ended) == ["a", "b"]
    assert background.start("late", work("d")) is None
    owned.start("late", work("e"))
    await owned.ended()
    assert background.reason == ""


async def test_a_background_that_was_never_opened_can_be_closed() -> None:
    await Background().close()


# -- again and again


async def turned(background: Background, name: str, outcomes: list[Exception | None]) -> None:
    """Runs so many turns, each with its outcome, and waits for the last."""
    done = asyncio.Event()

    async def turn() -> None:
        outcome = outcomes.pop(0) if outcomes else None
        if not outcomes:
            done.set()
        if outcome is not None:
            raise outcome

    background.every(name, 0.0, turn, overdue=10.0)
    await done.wait()
    await asyncio.sleep(0)


async def test_a_turn_that_fails_is_logged_and_the_next_one_comes(
    background: Background, caplog: pytest.LogCaptureFixture
) -> None:
    hiccups = [ValueError("one"), ValueError("two"), asyncio.CancelledError(), None, KeyError("x")]
    outcomes: Any = [*hiccups]
    await turned(background, "renewals", outcomes)
    lines = fields_of(caplog, "task.turn_failed")
    assert [(it["in_a_row"], it["failures"]) for it in lines] == [(1, 1), (2, 2), (3, 3), (1, 4)]
    assert [it["exc_info"] is not None for it in lines] == [True, False, False, True]
    assert lines[0]["reason"] == "ValueError: one"
    assert background.failures["renewals"] == 4
    assert background.reason == ""


async def test_readiness_names_what_is_overdue_until_it_succeeds(
    background: Background, clock: Clock
) -> None:
    gate = asyncio.Semaphore(0)
    failing = [True]

    async def turn() -> None:
        await gate.acquire()
        if failing[0]:
            raise OSError

    background.every("renewals", 0.0, turn, overdue=10.0)
    clock.now += 10.0
    assert background.unready() == []
    clock.now += 1.0
    assert background.unready() == ["renewals"]  # also when a turn does not come back
    gate.release()
    await asyncio.sleep(0.01)
    assert background.unready() == ["renewals"]
    failing[0] = False
    gate.release()
    await asyncio.sleep(0.01)
    assert background.unready() == []


def test_tries_after_a_failure_come_soon_and_then_less_often() -> None:
    hourly = Periodic("renewals", 3600.0, 7200.0, 0.0)
    drawn: list[tuple[float, float]] = []

    def draw(low: float, high: float) -> float:
        drawn.append((low, high))
        return high

    assert hourly.pause(draw) == 3600.0
    pauses = []
    for failed in range(1, 12):
        hourly.failed = failed
        pauses.append(hourly.pause(draw))
    assert pauses[:4] == [FIRST_RETRY, 2.0, 4.0, 8.0]
    assert pauses[-1] == LONGEST_RETRY
    assert all(low == high / 2 for low, high in drawn)
    hourly.failed = 10_000
    assert hourly.pause(draw) == LONGEST_RETRY
    each_second = Periodic("clock", 1.0, 12.0, 0.0)
    each_second.failed = 10
    assert each_second.pause(draw) == 1.0, "deadlines are not put off"


# -- once


async def test_a_short_task_that_fails_is_logged_with_its_fields_and_told(
    background: Background, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[BaseException] = []
    owned = OwnedTasks(background)
    owned.start("tunnel.renew", raises(), failed=told.append, fields={"cluster": "prod"})
    owned.start("tunnel.slow", for_ever(), failed=told.append, seconds=0.0)
    owned.start("tunnel.vain", waits_in_vain(), failed=told.append)
    owned.start("tunnel.untold", raises())
    await owned.ended()
    lines = {it["task"]: it for it in fields_of(caplog, "task.failed")}
    assert set(lines) == {"tunnel.renew", "tunnel.slow", "tunnel.vain", "tunnel.untold"}
    assert lines["tunnel.renew"]["cluster"] == "prod"
    assert lines["tunnel.renew"]["reason"] == "OSError: the disk is gone"
    assert {type(it) for it in told} == {OSError, TimeoutError, asyncio.CancelledError}
    assert background.reason == ""


async def test_who_is_told_may_fail_too(
    background: Background, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: BaseException) -> None:
        raise KeyError("no such stream")

    owned = OwnedTasks(background)
    owned.start("dial", raises(), failed=fail)
    await owned.ended()
    assert "no such stream" in caplog.text


async def test_an_owner_cancels_its_own_tasks_and_no_others(background: Background) -> None:
    first, second = OwnedTasks(background), OwnedTasks(background)
    told: list[BaseException] = []
    first.start("a", for_ever(), failed=told.append)
    second.start("b", for_ever())
    await asyncio.sleep(0)
    first.cancel()
    await first.ended()
    assert told == []
    assert len(second._tasks) == 1


# -- callbacks


async def test_an_exception_in_a_callback_of_the_loop_is_logged_and_counted(
    background: Background, caplog: pytest.LogCaptureFixture
) -> None:
    def callback() -> None:
        raise ValueError("in a callback")

    loop = asyncio.get_running_loop()
    loop.call_soon(callback)
    loop.call_later(0, callback)
    await asyncio.sleep(0.01)
    lines = fields_of(caplog, "loop.callback_failed")
    assert [it["failures"] for it in lines] == [1, 2]
    assert lines[0]["reason"] == "ValueError: in a callback"
    loop.call_exception_handler({"message": "something without an exception"})
    assert fields_of(caplog, "loop.callback_failed")[-1]["what"] == "something without an exception"
    assert background.failures["loop"] == 3


async def test_the_loop_has_its_own_handler_back_afterwards() -> None:
    loop = asyncio.get_running_loop()
    before = loop.get_exception_handler()
    async with Background():
        assert loop.get_exception_handler() != before
    assert loop.get_exception_handler() == before


async def test_by_default_a_task_is_overdue_after_two_turns_and_some_grace(
    background: Background, clock: Clock
) -> None:
    background.every("renewals", 3600.0, returns)
    background.every("version", 30.0, returns, overdue=math.inf)
    clock.now += 7200.0 + background_module.GRACE
    assert background.unready() == []
    clock.now += 0.1
    assert background.unready() == ["renewals"]
