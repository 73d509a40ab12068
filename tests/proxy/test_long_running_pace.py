"""Thousands of open streams: looked at and ended some at a time, and still within a second."""

from collections.abc import Callable
from typing import Any

import pytest
from chain_for_tests import UNREAD

from mk8s_agent.wire.http2.frames import ErrorCode
from mk8s_agent.wire.stream import Stream
from mk8s_proxy.answers.upgraded_session import UpgradedSession
from mk8s_proxy.chain.long_running import AT_ONCE, PACE_SECONDS, LongRunning
from mk8s_proxy.kube.request_info import parse_request_info
from mk8s_proxy.kube.request_target import parse_target
from mk8s_proxy.listener.exchange import Exchange, new_entry
from tests.support.legs import NotingLeg

WATCH = b"/api/v1/pods?watch=1"
LOG = b"/api/v1/namespaces/shop/pods/web/log?follow=true"


class Loop:
    """An event loop whose time passes when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0
        self.due: list[tuple[float, Callable[[], None]]] = []

    def call_later(self, seconds: float, call: Callable[[], None]) -> None:
        self.due.append((self.now + seconds, call))

    def turn(self) -> None:
        """One turn of the loop: whatever is due by now."""
        due = [call for when, call in self.due if when <= self.now]
        self.due = [(when, call) for when, call in self.due if when > self.now]
        for call in due:
            call()

    def pass_seconds(self, seconds: float) -> None:
        until = self.now + seconds
        while self.due and min(when for when, _ in self.due) <= until:
            self.now = max(self.now, min(when for when, _ in self.due))
            self.turn()
        self.now = until


class Scene:
    """Many open streams, and whom the doors would let go on."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.refused: set[Exchange] = set()
        self.asked: list[Exchange] = []
        self.open = LongRunning(self.why, self.why, lambda _: 1e12, self.loop.call_later)
        self.all: list[Exchange] = []

    def why(self, exchange: Exchange) -> str:
        self.asked.append(exchange)
        return "locked" if exchange in self.refused else ""

    def add(self, count: int, target: bytes = WATCH, credential: str = "") -> list[Exchange]:
        info = parse_request_info(b"GET", parse_target(b"GET", target))
        made = []
        for _ in range(count):
            client, tunnel = NotingLeg(), NotingLeg()
            front = Stream(client, 1, 0, 0)
            exchange = Exchange(front, UNREAD._replace(target=target), new_entry("192.0.2.1"))
            exchange.info, exchange.back = info, tunnel.beside(front)
            front.head_passed = True
            self.open.add(exchange, 1e12, (credential,) if credential else ())
            made.append(exchange)
        self.all += made
        return made

    @property
    def ended(self) -> int:
        legs = [exchange.front.connection for exchange in self.all]
        return sum(isinstance(leg, NotingLeg) and bool(leg.ended or leg.resets) for leg in legs)


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_the_loop_gets_its_turn_between_some_of_many(scene: Scene) -> None:
    scene.refused |= set(scene.add(10 * AT_ONCE, LOG))
    scene.open.recheck_all()
    assert (len(scene.asked), scene.ended) == (AT_ONCE, AT_ONCE)
    for turn in range(2, 11):
        scene.loop.turn()
        assert scene.ended == turn * AT_ONCE
    scene.loop.turn()
    assert len(scene.asked) == 10 * AT_ONCE


def test_thousands_of_watches_end_within_a_second(scene: Scene) -> None:
    scene.refused |= set(scene.add(50 * AT_ONCE))
    scene.open.recheck_all()
    scene.loop.pass_seconds(1.0)
    assert scene.ended == 50 * AT_ONCE
    assert scene.loop.due == [], "and then nothing ticks any more"


def test_attack_policy_changes_in_a_row_let_some_streams_go_on(scene: Scene) -> None:
    """Whoever changes something all the time must not keep the last ones from their turn."""
    scene.add(3 * AT_ONCE)
    last = scene.add(1)[0]
    scene.refused.add(last)
    for _ in range(5):
        scene.open.recheck_all()
        scene.loop.turn()
    assert last in scene.asked


def test_what_ends_by_itself_meanwhile_is_not_asked_about(scene: Scene) -> None:
    many = scene.add(2 * AT_ONCE)
    scene.open.recheck_all()
    scene.open.remove(many[-1])
    scene.loop.turn()
    assert many[-1] not in scene.asked


def test_a_login_with_many_streams(scene: Scene) -> None:
    mine = scene.add(2 * AT_ONCE + 1, LOG, "laptop")
    scene.add(1, LOG, "desk")
    scene.refused |= set(scene.all)
    scene.open.recheck("laptop")
    gone = next(it for it in mine if it not in scene.asked)
    scene.open.remove(gone)
    scene.loop.pass_seconds(0.1)
    assert scene.ended == 2 * AT_ONCE
    assert gone not in scene.asked


def test_expiries_come_in_turns_too(scene: Scene) -> None:
    scene.refused |= set(scene.add(3 * AT_ONCE, LOG))
    scene.open.second(1e12)
    gone = scene.all[-1]
    scene.open.remove(gone)
    scene.loop.pass_seconds(0.1)
    assert scene.ended == 3 * AT_ONCE - 1
    assert gone not in scene.asked


def test_a_watch_rests_from_one_look_to_the_next(scene: Scene) -> None:
    first, second = scene.add(2)
    scene.refused.add(first)
    scene.open.recheck_all()
    scene.loop.pass_seconds(PACE_SECONDS * 0.9)
    scene.refused.add(second)
    scene.open.recheck_all()
    scene.loop.pass_seconds(PACE_SECONDS * 0.2)
    assert scene.ended == 1, "the second one has been watched for a moment only"
    scene.loop.pass_seconds(PACE_SECONDS)
    assert scene.ended == 2


def test_a_watch_that_never_rests_is_cut_within_a_second(scene: Scene) -> None:
    [exchange] = scene.add(1)
    scene.refused.add(exchange)
    scene.open.recheck_all()
    for _ in range(10):
        exchange.front.sent += 1
        scene.loop.pass_seconds(0.1)
    leg = exchange.front.connection
    assert isinstance(leg, NotingLeg)
    assert leg.resets == [ErrorCode.INTERNAL_ERROR]


def test_a_watch_that_drains_rests_for_a_second_or_is_cut_after_ten(scene: Scene) -> None:
    quiet, busy = scene.add(2)
    scene.open.drain("central stops")
    scene.loop.pass_seconds(0.9)
    assert scene.ended == 0
    scene.loop.pass_seconds(0.2)
    assert scene.ended == 1
    scene.open.remove(quiet)
    for _ in range(99):
        busy.front.sent += 1
        scene.loop.pass_seconds(0.1)
    leg = busy.front.connection
    assert isinstance(leg, NotingLeg)
    assert leg.resets == [ErrorCode.INTERNAL_ERROR]


def test_a_watch_without_an_answer_yet_drains_once_it_has_begun(scene: Scene) -> None:
    begun, unanswered = scene.add(2)
    for exchange in (begun, unanswered):
        exchange.front.head_passed = False
    scene.open.drain("the agent drains")
    scene.loop.pass_seconds(3.0)
    assert scene.ended == 0
    begun.front.head_passed = True
    scene.loop.pass_seconds(1.0)
    assert scene.ended == 1
    scene.open.remove(begun)
    scene.loop.pass_seconds(7.0)
    leg = unanswered.front.connection
    assert isinstance(leg, NotingLeg)
    assert leg.resets == [ErrorCode.INTERNAL_ERROR]


def test_attack_a_watch_that_drains_is_locked_and_goes_on_for_ten_seconds(scene: Scene) -> None:
    [exchange] = scene.add(1)
    scene.open.drain("the agent drains")
    scene.refused.add(exchange)
    scene.open.recheck_all()
    scene.open.recheck_all()
    for _ in range(10):
        exchange.front.sent += 1
        scene.loop.pass_seconds(0.1)
    leg = exchange.front.connection
    assert isinstance(leg, NotingLeg)
    assert leg.resets == [ErrorCode.INTERNAL_ERROR]


def test_without_a_loop_all_of_them_have_their_turn_at_once(scene: Scene) -> None:
    scene.open = LongRunning(scene.why, scene.why, lambda _: 1e12)
    scene.refused |= set(scene.add(3 * AT_ONCE, LOG))
    scene.open.recheck_all()
    assert scene.ended == 3 * AT_ONCE


def test_a_shell_that_ends_by_its_last_words_needs_no_second_look(scene: Scene) -> None:
    [exchange] = scene.add(1, b"/api/v1/namespaces/shop/pods/web/exec?command=sh")
    exchange.head = exchange.head._replace(upgrade=b"websocket")
    exchange.entry.code = 101
    assert exchange.back is not None
    UpgradedSession(exchange).insert(exchange.back)
    leg = exchange.front.connection
    assert isinstance(leg, NotingLeg)
    send = leg.send_data

    def finish(*sent: Any) -> None:
        send(*sent)
        scene.open.remove(exchange)

    leg.send_data = finish  # type: ignore[method-assign]
    scene.refused.add(exchange)
    scene.open.recheck_all()
    assert (scene.ended, scene.loop.due) == (1, [])
