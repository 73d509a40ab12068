"""Logins that come at once: who waits for whom, how long, and how many."""

import asyncio

import pytest

from mk8s_proxy.identity import login_queue
from mk8s_proxy.identity.login_queue import LoginQueue
from mk8s_proxy.identity.throttle import PER_ACCOUNT, PER_PAIR, LoginThrottle, Throttled

DEV, HOME = "dev@example.com", "192.0.2.1"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Scene:
    """A queue whose attempts the test lets end."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.told: list[tuple[str, str, str]] = []
        self.known = False
        self.asked = 0
        self.throttle = LoginThrottle(self.clock)
        self.queue = LoginQueue(self.throttle, lambda *it: self.told.append(it), self.clock)

    async def is_known(self) -> bool:
        self.asked += 1
        return self.known

    async def log_in(self, right: asyncio.Future[bool], source: str = HOME) -> bool:
        async with self.queue.attempt(DEV, source, self.is_known):
            if await right:
                self.throttle.succeeded(DEV, source)
                return True
        return False

    def start(self, source: str = HOME) -> tuple["asyncio.Task[bool]", "asyncio.Future[bool]"]:
        right: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        return asyncio.create_task(self.log_in(right, source)), right


@pytest.fixture
async def scene() -> Scene:
    return Scene()


async def turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_the_sixth_of_a_pair_waits_for_the_first_and_gets_in(scene: Scene) -> None:
    started = [scene.start() for _ in range(PER_PAIR.free + 1)]
    await turns()
    assert not any(task.done() for task, _ in started)
    for _, right in started:
        right.set_result(True)
    assert all(await asyncio.gather(*(task for task, _ in started)))
    assert [event for event, _, _ in scene.told].count("begin") == PER_PAIR.free + 1
    assert scene.queue._open == {}


async def test_who_waited_for_wrong_ones_is_refused(scene: Scene) -> None:
    started = [scene.start() for _ in range(PER_PAIR.free + 3)]
    await turns()
    for _, right in started:
        right.set_result(False)
    results = await asyncio.gather(*(task for task, _ in started), return_exceptions=True)
    assert [type(it) for it in results] == [bool] * PER_PAIR.free + [Throttled] * 3


async def test_nobody_waits_when_nothing_is_under_way(scene: Scene) -> None:
    for _ in range(PER_PAIR.free):
        scene.throttle.admit(DEV, HOME)
    with pytest.raises(Throttled):
        await scene.start()[0]


async def test_a_known_source_passes_the_delay_of_the_account_and_is_asked_for_once(
    scene: Scene,
) -> None:
    for number in range(PER_ACCOUNT.free):
        scene.throttle.admit(DEV, f"198.51.100.{number}")
    with pytest.raises(Throttled):
        await scene.start()[0]
    assert scene.asked == 1
    scene.known = True
    task, right = scene.start()
    right.set_result(True)
    assert await task
    assert scene.asked == 2


async def test_attack_waiting_is_bounded_for_a_source(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(login_queue, "WAITING_OF_SOURCE", 2)
    started = [scene.start() for _ in range(PER_PAIR.free + 5)]
    await turns()
    refused = [task for task, _ in started if task.done()]
    assert len(refused) == 3
    for _, right in started:
        right.set_result(True)
    results = await asyncio.gather(*(task for task, _ in started), return_exceptions=True)
    assert results.count(True) == PER_PAIR.free + 2


async def test_waiting_ends(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(login_queue, "PATIENCE_SECONDS", 0.01)
    started = [scene.start() for _ in range(PER_PAIR.free + 1)]
    with pytest.raises(Throttled):
        await started[-1][0]
    for _, right in started:
        right.set_result(True)
    await asyncio.gather(*(task for task, _ in started[:-1]))


async def test_what_another_worker_looks_at_is_waited_for_until_it_counts_as_lost(
    scene: Scene,
) -> None:
    for _ in range(PER_PAIR.free):
        scene.throttle.admit(DEV, HOME)
    keys = ("192.0.2.1", login_queue.account_key(DEV))
    scene.queue.note("begin", *keys)
    task, right = scene.start()
    await turns()
    assert not task.done()
    for throttle in scene.throttle.throttles:
        for key in list(throttle._attempts):
            throttle.note("forget", key)
    scene.queue.note("end", *keys)
    right.set_result(True)
    assert await task
    for _ in range(PER_PAIR.free):
        scene.throttle.admit(DEV, HOME)
    scene.queue.note("begin", *keys)
    scene.clock.now += 31  # the other worker has died
    scene.throttle.admit(DEV, HOME)
    with pytest.raises(Throttled):
        await scene.start()[0]


async def test_what_was_lost_does_not_stay_in_memory(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(login_queue, "_MANY", 4)
    for number in range(4):
        scene.queue.note("begin", f"source {number}", f"account {number}")
        scene.clock.now += 31
    assert len(scene.queue._open) <= 4
