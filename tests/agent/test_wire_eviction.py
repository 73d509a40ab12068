"""Where memory is short: who ends, who goes on, and that nothing stays counted."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mk8s_agent.wire.eviction import make_room
from mk8s_agent.wire.limits import KIB, BufferBudget, Share
from mk8s_agent.wire.stream import Stream, count_pending, forget_pending, keep_pending

LIMIT = 100 * KIB


class Holders:
    """A connection on whose streams bytes wait."""

    def __init__(self) -> None:
        self.budget = BufferBudget(LIMIT)
        self.ended: list[int] = []
        self.on_end: Any = None

    def hold(
        self, number: int, size: int, share: Share | None = None, *, stalled: float = 0.0
    ) -> Stream:
        """A stream on which `size` bytes wait; it moved lately, if it did not stand still."""
        stream = Stream(self, number, 0, 0)
        stream.share = share
        stream.sent, stream.stalled_seconds = int(not stalled), stalled
        keep_pending(stream, self.budget, bytes(size), size, end=False)
        return stream

    def end_both(self, stream: Stream, code: int) -> None:
        if self.on_end is not None:
            self.on_end()
        self.ended.append(stream.stream_id)
        stream.local_closed = True
        forget_pending(stream, self.budget)


def test_attack_who_stands_still_makes_room_and_not_who_comes_next() -> None:
    holders = Holders()
    holders.hold(1, 40 * KIB)
    holders.hold(2, 25 * KIB, stalled=10.0)
    holders.hold(3, 25 * KIB, stalled=20.0)
    assert make_room(holders.budget, holders.hold(4, 5 * KIB), 10 * KIB)
    assert holders.ended == [3]


def test_attack_of_those_that_move_a_little_the_largest_goes_first() -> None:
    holders = Holders()
    holders.hold(1, 10 * KIB)
    holders.hold(2, 60 * KIB)
    holders.hold(3, 20 * KIB)
    assert make_room(holders.budget, holders.hold(4, 0), 20 * KIB)
    assert holders.ended == [2]


def test_attack_the_owner_that_holds_most_pays() -> None:
    holders = Holders()
    greedy, modest = Share(("a", "prod"), LIMIT), Share(("b", "prod"), LIMIT)
    holders.hold(1, 30 * KIB, modest, stalled=60.0)
    for number in range(2, 8):
        holders.hold(number, 10 * KIB, greedy)
    assert make_room(holders.budget, holders.hold(9, 0, modest), 20 * KIB)
    assert 1 not in holders.ended
    assert (greedy.used, modest.used) == (40 * KIB, 30 * KIB)


def test_attack_who_is_over_its_own_share_pays_alone() -> None:
    holders = Holders()
    mine, other = Share(("a", "prod"), 32 * KIB), Share(("b", "prod"), LIMIT)
    holders.hold(1, 60 * KIB, other, stalled=60.0)
    holders.hold(2, 20 * KIB, mine)
    next_one = holders.hold(3, 10 * KIB, mine)
    assert make_room(holders.budget, next_one, 10 * KIB)
    assert holders.ended == [2]
    assert mine.used == 10 * KIB


def test_who_comes_next_may_be_the_one_that_ends() -> None:
    holders = Holders()
    mine = Share(("a", "prod"), 32 * KIB)
    largest = holders.hold(1, 30 * KIB, mine)
    assert not make_room(holders.budget, largest, 10 * KIB)
    assert holders.ended == [1]


def test_when_the_owner_of_most_is_not_enough_others_follow() -> None:
    holders = Holders()
    holders.hold(1, 90 * KIB)
    holders.hold(2, 8 * KIB, Share(("a", "prod"), LIMIT))
    assert make_room(holders.budget, holders.hold(3, 0), 20 * KIB)
    assert holders.ended == [2, 1]


def test_streams_that_hold_next_to_nothing_are_left_alone() -> None:
    holders = Holders()
    for number in range(50):
        holders.hold(number, 2 * KIB, stalled=60.0)
    assert not make_room(holders.budget, holders.hold(99, 0), KIB)
    assert holders.ended == []


def test_what_an_end_sends_makes_nobody_else_end() -> None:
    holders = Holders()
    holders.hold(1, 90 * KIB, stalled=60.0)
    holders.hold(2, 10 * KIB)
    holders.on_end = lambda: told.append(make_room(holders.budget, last, 20 * KIB))
    told: list[bool] = []
    last = holders.hold(3, 0)
    assert make_room(holders.budget, last, 20 * KIB)
    assert (told, holders.ended) == ([False], [1])
    assert not holders.budget.evicting


def test_an_end_that_fails_is_not_the_end_of_it() -> None:
    holders = Holders()
    holders.hold(1, 50 * KIB, stalled=60.0)
    holders.hold(2, 50 * KIB)
    failures = iter([RuntimeError("broken")])

    def fail_once() -> None:
        for error in failures:
            raise error

    holders.on_end = fail_once
    assert make_room(holders.budget, holders.hold(3, 0), 20 * KIB)
    assert holders.ended == [2]


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from("ksf"), st.integers(0, 9000))))
def test_all_that_waits_is_counted_for_all_who_pay(steps: list[tuple[int, str, int]]) -> None:
    holders = Holders()
    shares = [Share(("a", "x"), LIMIT), Share(("b", "x"), LIMIT), None]
    streams = [holders.hold(number, 0, shares[number % 3]) for number in range(6)]
    for number, step, size in steps:
        stream = streams[number]
        if step == "k":
            keep_pending(stream, holders.budget, bytes(size), size, end=False)
        elif step == "f":
            forget_pending(stream, holders.budget)
        else:
            count_pending(stream, holders.budget, -min(size, stream.pending_bytes))
        assert holders.budget.used == sum(it.pending_bytes for it in streams)
        assert set(holders.budget.holders) == {it for it in streams if it.pending_bytes}
        for share in shares[:2]:
            assert share is not None
            assert share.used == sum(it.pending_bytes for it in streams if it.share is share)


@pytest.mark.parametrize(("size", "has"), [(10, True), (11, False)])
def test_room_for_all_and_for_the_owner(size: int, has: bool) -> None:
    budget, stream = BufferBudget(10), Stream(None, 1, 0, 0)
    assert budget.has_room(stream, size) is has
    budget.limit, stream.share = 1000, Share(("a", "x"), 10)
    assert budget.has_room(stream, size) is has
