"""Budgets against floods, signs of life and round trips, without a connection."""

import pytest

from mk8s_agent.wire.http2 import health
from mk8s_agent.wire.http2.frames import ErrorCode, RemoteProtocolError
from mk8s_agent.wire.http2.health import FloodBudget, Health
from mk8s_agent.wire.limits import BUDGET_SECONDS, Limits
from tests.support.memory import ping


def test_attack_floods_end_at_their_budget() -> None:
    floods = FloodBudget(Limits(control_frames=3, resets=2))
    for spend, times in ((floods.spend, 3), (floods.spend_reset, 2)):
        for _ in range(times):
            spend()
        with pytest.raises(RemoteProtocolError) as refusal:
            spend()
        assert refusal.value.code is ErrorCode.ENHANCE_YOUR_CALM


def test_budgets_are_filled_again_and_what_was_earned_is_kept_for_a_while() -> None:
    floods = FloodBudget(Limits(control_frames=3, resets=1))
    floods.spend()
    floods.spend_reset()
    floods.refill()
    floods.spend_reset()
    assert floods.frames == 3
    floods.frames += 10
    floods.refill()
    assert floods.frames == 13
    floods.frames = 1 << 40
    floods.refill()
    assert floods.frames == 3 * 16


def test_silence_is_counted_until_something_is_heard() -> None:
    signs = Health(Limits())
    for _ in range(3):
        signs.second(1.0)
    assert signs.silent_seconds == 3.0
    signs.heard = True
    signs.second(1.0)
    assert signs.silent_seconds == 0.0
    signs.second(1.5)
    assert signs.silent_seconds == 1.5


def test_a_period_says_how_long_it_was() -> None:
    signs = Health(Limits())
    assert [signs.second(BUDGET_SECONDS / 2 - 1) for _ in range(2)] == [0.0, 0.0]
    assert signs.second(3.0) == BUDGET_SECONDS + 1
    assert signs.second(1.0) == 0.0


def test_the_least_of_the_last_eight_round_trips(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [10.0]
    monkeypatch.setattr(health.time, "monotonic", lambda: now[0])
    signs = Health(Limits(widest_window=1))

    def measured(seconds: float) -> float:
        asked = signs.ping()
        assert asked == ping(asked[9:])
        now[0] += seconds
        return signs.on_pong(asked[9:])

    assert measured(0.25) == 0.25
    assert signs.near_start
    assert measured(0.5) == 0.25
    for _ in range(6):
        assert measured(0.5) == 0.25
    assert not signs.near_start
    assert measured(1.0) == 0.5  # the quarter is forgotten


def test_an_answer_to_a_ping_that_was_never_sent_says_nothing() -> None:
    signs = Health(Limits())
    assert not signs.on_pong(bytes(8))
    asked = signs.ping()
    assert not signs.on_pong(bytes(8))
    assert signs.on_pong(asked[9:]) >= 0
    assert not signs.on_pong(asked[9:])
    assert not signs.near_start  # no window may grow here
