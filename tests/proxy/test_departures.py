"""Requests whose tunnel has begun to drain between their admission and the end of the tick.

Nothing of them was sent, so another tunnel of the cluster takes them: with one row, and once.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from mk8s_proxy.process.clients import front_limits
from mk8s_proxy.settings.model import LimitSettings
from tests.support.front_door import PODS, Agent, Central, Http2Person
from tests.support.memory import data, goaway, headers, rst_stream, settings

OK = [(b":status", b"200")]
DRAINS = goaway((1 << 31) - 1)
WATCH = b"/k8s/prod" + PODS + b"?watch=1"


@pytest.fixture
def central(tmp_path: Path) -> Central:
    return Central(tmp_path)


@contextlib.contextmanager
def one_tick(person: Http2Person) -> Iterator[None]:
    """What is sent within arrives before the tick ends."""
    real, person.read = person.read, list  # type: ignore[method-assign]
    yield
    person.read = real  # type: ignore[method-assign]
    person.read()


def drain(agent: Agent) -> None:
    """The agent's GOAWAY arrives; the tick goes on."""
    agent.session.receive(DRAINS)


def test_a_head_whose_tunnel_drains_takes_another_one(central: Central) -> None:
    first, second, person = central.agent(), central.agent(), central.http2()
    with one_tick(person):
        number = person.ask()
        drain(first)
    assert first.transport.closed
    assert first.requests() == []
    stream, head = second.request()
    assert head[b":path"] == PODS
    second.send(headers(stream, OK), data(stream, b"{}", end=True))
    answer = person.answer(number)
    assert (answer.code, answer.body, answer.ended) == (200, b"{}", True)
    assert [row["stage"] for row in central.rows()] == ["RequestReceived", "ResponseComplete"]


def test_a_body_goes_with_its_head(central: Central) -> None:
    first, second, person = central.agent(), central.agent(), central.http2()
    with one_tick(person):
        number = person.ask(end=False, method=b"POST")
        person.send(data(number, b"one "))
        drain(first)
        person.send(data(number, b"two "))
    person.send(data(number, b"three", end=True))
    assert first.requests() == []
    seen = second.requests()
    assert b"".join(it.value for it in seen if it.kind == "DATA") == b"one two three"
    assert seen[-1].end
    second.send(headers(seen[0].stream, OK, end=True))
    assert person.answer(number).code == 200
    assert central.budget.used == 0


def test_a_head_whose_tunnel_is_lost_takes_another_one(central: Central) -> None:
    first, second, person = central.agent(), central.agent(), central.http2()
    with one_tick(person):
        person.ask()
        first.session.connection_lost()
    assert len(second.requests()) == 1


def test_more_heads_in_a_tick_than_a_tunnel_takes_go_to_the_next_one(central: Central) -> None:
    first, second, person = central.agent(), central.agent(), central.http2()
    first.send(settings({3: 2}))
    with one_tick(person):
        for _ in range(3):
            person.ask()
    assert len(first.requests()) == 1  # the control stream is the other one
    assert len(second.requests()) == 2


def test_without_another_tunnel_the_client_may_try_again(central: Central) -> None:
    first, person = central.agent(), central.http2()
    central.agent("staging")
    with one_tick(person):
        number = person.ask()
        drain(first)
    answer = person.answer(number)
    assert (answer.code, answer.fields[b"retry-after"]) == (503, b"1")
    assert "just disconnected" in answer.status["message"]


def test_attack_a_head_does_not_go_to_another_cluster_that_has_its_name_now(
    central: Central,
) -> None:
    """Removed and added again within the tick: the policy that let it in meant the old one."""
    person = central.http2()
    central.agent()
    with one_tick(person):
        number = person.ask()
        central.registry.follow({"id-staging": "prod"}, frozenset())
        other = central.agent("staging")
        assert central.registry.pick("prod") is other.session
    assert other.requests() == []
    assert person.answer(number).code == 503


def test_a_client_that_has_gone_sends_nothing_by_the_other_one(central: Central) -> None:
    first, second, person = central.agent(), central.agent(), central.http2()
    with one_tick(person):
        person.send(rst_stream(person.ask()))
        drain(first)
    assert second.requests() == []
    assert [row["stage"] for row in central.rows()] == ["RequestReceived", "ResponseComplete"]


def test_a_watch_does_not_take_the_reserve_of_the_other_one(central: Central) -> None:
    first, second, person = central.agent(), central.agent(), central.http2()
    second.send(settings({3: 8}))
    for _ in range(6):
        second.session.open_prepared(second.session.prepare(), b"\x82")
    second.requests()
    assert second.session.crowded
    with one_tick(person):
        watch, get = person.ask(WATCH), person.ask()
        drain(first)
    assert person.answer(watch).code == 503
    stream, _ = second.request()
    second.send(headers(stream, OK, end=True))
    assert person.answer(get).code == 200


@pytest.mark.parametrize(("takes", "code"), [(16_384, 503), (32_768, 200)])
def test_a_long_head_takes_no_tunnel_that_it_would_end(
    central: Central, takes: int, code: int
) -> None:
    """As in `test_long_heads`, of an agent that is older than the one that drains."""
    first, second = central.agent(), central.agent()
    person = central.http2(front_limits(LimitSettings()))
    second.send(settings({6: takes}))
    head = [
        (b":method", b"GET"),
        (b":scheme", b"https"),
        (b":authority", b"central.example.com"),
        (b":path", b"/k8s/prod" + PODS + b"?labelSelector=" + b"x" * 20_000),
        (b"authorization", b"Bearer dev"),
    ]
    with one_tick(person):
        person.send(headers(1, head, end=True, pieces=3))
        drain(first)
    for seen in second.requests():
        second.send(headers(seen.stream, OK, end=True))
    assert person.answer(1).code == code
