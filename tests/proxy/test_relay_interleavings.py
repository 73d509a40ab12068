"""Any interleaving of requests through all four connections keeps every promise of the relay.

Bodies arrive intact and in order, no byte reaches another stream, no window is exceeded, what was
cut short never looks complete, and in the end nothing is left behind.
"""

import collections
import gc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mk8s_agent.wire.stream import Stream
from tests.support.relay import Relay, canary


def check(relay: Relay) -> None:
    """What must hold once everything has ended."""
    api = {half.number: half for half in relay.api.halves.values()}
    for number, half in relay.client.halves.items():
        request_size, answer_size = relay.sizes[number]
        there = api.get(number)
        expected = canary(number, "answer", answer_size)
        by_central = half.head is not None and half.head[0] != (b":status", b"201")
        if not by_central:
            assert expected.startswith(half.got), number
        if there is not None:
            assert canary(number, "request", request_size).startswith(there.got)
            assert not there.ended or len(there.got) == request_size
        if half.ended and not by_central:
            assert half.got == expected, "a truncated answer looks complete"
        if there is None or there.reset or half.reset or by_central:
            continue
        assert half.ended
        assert there.ended


def check_nothing_is_left(relay: Relay) -> None:
    assert relay.central.budget.used == 0
    assert relay.agent_budget.used == 0
    assert relay.front.streams == {}
    assert relay.session.streams.keys() == {1}
    assert relay.tunnel.streams.keys() == {1}
    assert relay.upstream.streams == {}
    assert not relay.apiserver.waiting
    stages = collections.Counter(row["stage"] for row in relay.central.rows())
    opened = len(relay.client.halves)
    assert stages["ResponseComplete"] == opened
    assert stages["RequestReceived"] == opened
    relay.central.journal.close()


def count_streams() -> int:
    return sum(isinstance(it, Stream) for it in gc.get_objects())


@given(st.integers(0, 1 << 32), st.integers(20, 400))
def test_any_interleaving(tmp_path_factory: pytest.TempPathFactory, seed: int, steps: int) -> None:
    relay = Relay(tmp_path_factory.mktemp("relay"), seed)
    for _ in range(steps):
        relay.step()
    relay.finish()
    check(relay)
    check_nothing_is_left(relay)


@pytest.mark.parametrize("there", [0, 7, 200, 2_000, None])
@pytest.mark.parametrize("told", [False, True])
def test_an_agent_that_leaves_serves_what_was_on_its_way(
    tmp_path: Path, there: int | None, told: bool
) -> None:
    """However much of the requests had come when it left, and whichever way arrives first."""
    relay = Relay(tmp_path, 1)
    for request_size in (0, 5_000, 0):
        relay.open_request(request_size, 300)
    relay.ticks.turn()
    relay.down.move(there)
    relay.tunnel.leave()
    relay.ticks.turn()
    if told:
        relay.up.move()
    relay.finish()
    check(relay)
    heads = [half.head for half in relay.client.halves.values()]
    assert heads == [[(b":status", b"201")]] * 3
    assert relay.tunnel.draining
    assert relay.transports[0].closed
    check_nothing_is_left(relay)


def test_what_a_request_leaves_needs_no_collector(tmp_path_factory: pytest.TempPathFactory) -> None:
    relay = Relay(tmp_path_factory.mktemp("relay"), 4)
    relay.open_request(300, 300)
    relay.finish()
    gc.collect()
    gc.disable()
    try:
        before = count_streams()
        for _ in range(3):
            relay.open_request(300, 300)
            relay.open_request(0, 40_000)
            relay.finish()
        assert count_streams() == before
    finally:
        gc.enable()


def test_many_large_bodies_at_once(tmp_path_factory: pytest.TempPathFactory) -> None:
    relay = Relay(tmp_path_factory.mktemp("relay"), 1)
    for _ in range(20):
        relay.open_request(200_000, 200_000)
    relay.finish()
    for number, half in relay.client.halves.items():
        assert half.got == canary(number, "answer", 200_000)
        assert half.ended
    check(relay)
    check_nothing_is_left(relay)


def test_b10_canaries_with_cancels_everywhere(tmp_path_factory: pytest.TempPathFactory) -> None:
    relay = Relay(tmp_path_factory.mktemp("relay"), 2)
    for number in range(20):
        relay.open_request(5000, 40_000)
        relay.settle()
        for stream in relay.unanswered():
            relay.begin_answer(stream)
            relay.api.send_body(stream, 16_000)
        relay.ticks.turn()
        if number % 2:
            relay.client.send_reset(relay.next - 2, 8)
    relay.finish()
    check(relay)
    check_nothing_is_left(relay)


def test_an_api_server_that_dies_never_completes_an_answer(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    relay = Relay(tmp_path_factory.mktemp("relay"), 3)
    for _ in range(10):
        relay.open_request(0, 40_000)
    relay.settle()
    for stream in relay.unanswered()[:5]:
        relay.begin_answer(stream)
        relay.api.send_body(stream, 10_000)
    relay.settle()
    relay.upstream.connection_lost()
    relay.settle()
    begun = [half for half in relay.client.halves.values() if half.got and not half.ended]
    assert len(begun) == 5
    assert all(half.reset for half in begun)
    told = [half for half in relay.client.halves.values() if half.ended]
    # they are sent once more, and turned away where nothing can be dialled
    assert [dict(half.head or [])[b":status"] for half in told] == [b"503"] * 5
    check_nothing_is_left(relay)
