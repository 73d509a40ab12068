"""Streams that stay open: looked at again in time, and ended so that their clients resume."""

import pytest
from chain_for_tests import UNREAD

from mk8s_agent.wire.http2.frames import ErrorCode
from mk8s_agent.wire.stream import Stream
from mk8s_proxy.chain.long_running import LongRunning
from mk8s_proxy.listener.exchange import Exchange, new_entry
from tests.support.legs import NotingLeg


class Scene:
    """Open exchanges, and what the doors say of them."""

    def __init__(self) -> None:
        self.reasons: dict[Exchange, str] = {}
        self.open = LongRunning(lambda exchange: self.reasons.get(exchange, ""))

    def add(self, expires: float = 100.0, *, upgrade: bytes = b"", passed: bool = True) -> Exchange:
        client, tunnel = NotingLeg(), NotingLeg()
        front = Stream(client, 1, 0, 0)
        exchange = Exchange(front, UNREAD._replace(upgrade=upgrade), new_entry("192.0.2.1"))
        exchange.back = tunnel.beside(front)
        front.head_passed = passed
        self.open.add(exchange, expires)
        return exchange


def client_of(exchange: Exchange) -> NotingLeg:
    found = exchange.front.connection
    assert isinstance(found, NotingLeg)
    return found


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_nothing_is_asked_before_its_time(scene: Scene) -> None:
    exchange = scene.add(100.0)
    scene.reasons[exchange] = "expired"
    scene.open.second(99.0)
    assert len(scene.open) == 1
    assert not client_of(exchange).ended


def test_what_may_go_on_goes_on(scene: Scene) -> None:
    exchange = scene.add(100.0)
    scene.open.second(101.0)
    assert not client_of(exchange).ended
    assert client_of(exchange).resets == []


def test_a_quiet_watch_ends_cleanly_with_its_closing_event(scene: Scene) -> None:
    exchange = scene.add(100.0)
    exchange.closing_event = b"{}\n"
    scene.reasons[exchange] = "expired"
    scene.open.second(101.0)  # it may be in the middle of an event
    assert not client_of(exchange).ended
    scene.open.second(102.0)
    assert (client_of(exchange).body, client_of(exchange).ended) == (b"{}\n", True)
    assert exchange.entry.refusal == "ENDED"
    assert exchange.entry.facts.reason == "expired"


def test_a_watch_that_is_rechecked_just_before_the_second_gets_a_whole_one(scene: Scene) -> None:
    exchange = scene.add(1e12)
    scene.reasons[exchange] = "disabled"
    scene.open.recheck_all()
    scene.open.second(1.0)
    assert not client_of(exchange).ended
    scene.open.second(2.0)
    assert client_of(exchange).ended


def test_an_event_that_waits_for_a_slow_client_is_not_cut(scene: Scene) -> None:
    exchange = scene.add(100.0)
    scene.reasons[exchange] = "expired"
    scene.open.second(101.0)
    exchange.front.sent += 7  # half an event
    scene.open.second(102.0)
    assert not client_of(exchange).ended
    scene.open.second(103.0)
    assert client_of(exchange).ended


def test_a_watch_whose_tunnel_is_gone_still_ends(scene: Scene) -> None:
    exchange = scene.add(100.0, upgrade=b"websocket")
    exchange.front.peer = None
    scene.reasons[exchange] = "expired"
    scene.open.second(101.0)
    assert client_of(exchange).resets == [ErrorCode.INTERNAL_ERROR]


def test_a_watch_that_never_rests_is_reset(scene: Scene) -> None:
    exchange = scene.add(100.0)
    scene.reasons[exchange] = "expired"
    for second in range(101, 140):
        exchange.front.sent += 1
        scene.open.second(float(second))
    assert client_of(exchange).resets == [ErrorCode.INTERNAL_ERROR]


def test_an_upgraded_stream_is_cut_at_once(scene: Scene) -> None:
    exchange = scene.add(100.0, upgrade=b"websocket")
    scene.reasons[exchange] = "expired"
    scene.open.second(101.0)
    assert client_of(exchange).resets == [ErrorCode.INTERNAL_ERROR]


def test_before_an_answer_began_there_is_nothing_to_resume(scene: Scene) -> None:
    exchange = scene.add(100.0, passed=False)
    scene.reasons[exchange] = "expired"
    scene.open.recheck_all()
    assert client_of(exchange).resets == [ErrorCode.INTERNAL_ERROR]


def test_one_that_ended_by_itself_is_forgotten(scene: Scene) -> None:
    exchange = scene.add(100.0)
    scene.reasons[exchange] = "expired"
    scene.open.remove(exchange)
    scene.open.second(101.0)
    assert len(scene.open) == 0
    assert client_of(exchange).resets == []


def test_ended_ones_do_not_pile_up_until_their_time(scene: Scene) -> None:
    for _ in range(1000):
        scene.open.remove(scene.add(1e12))
    assert len(scene.open._expiries) <= 65


def test_a_drain_ends_the_watches_of_one_tunnel_and_no_upgraded_stream(scene: Scene) -> None:
    mine, other, shell = scene.add(), scene.add(), scene.add(upgrade=b"websocket")
    assert mine.back is not None
    assert shell.back is not None
    shell.back.connection = mine.back.connection
    scene.open.drain("the agent drains", mine.back.connection)
    scene.open.drain("the agent drains", mine.back.connection)  # once more changes nothing
    scene.open.second(1.0)
    scene.open.second(2.0)
    assert client_of(mine).ended
    assert not client_of(other).ended
    assert client_of(shell).resets == []


def test_a_drain_of_central_ends_all_watches(scene: Scene) -> None:
    exchanges = [scene.add(), scene.add()]
    exchanges[1].back = None
    scene.open.drain("central stops")
    scene.open.second(1.0)
    scene.open.second(2.0)
    assert all(client_of(exchange).ended for exchange in exchanges)


def test_an_exchange_shows_what_it_is(scene: Scene) -> None:
    assert repr(scene.add()) == "<Exchange b'' b'' cluster=''>"
