"""A fair share of each cluster: who takes more is told so, and nobody else notices."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mk8s_proxy.chain import departures
from mk8s_proxy.chain.departures import Shares
from tests.support.front_door import PODS, RBAC, Central, refusal_of, request
from tests.support.memory import (
    CANCEL,
    ENHANCE_YOUR_CALM,
    REFUSED_STREAM,
    data,
    goaway,
    headers,
    rst_stream,
    settings,
    window_update,
)

OK = [(b":status", b"200")]
WATCH = b"/k8s/prod" + PODS + b"?watch=true"
SHELL = b"/k8s/prod" + PODS + b"/web/exec?command=sh"
STAGING = b"/k8s/staging" + PODS
EXEC = (b"Connection: Upgrade", b"Upgrade: SPDY/3.1", b"Content-Length: 0")


def central_with(folder: Path, streams: int) -> Central:
    central = Central(folder)
    central.chain.departures.shares = Shares(streams)
    return central


def test_attack_one_person_s_watches_leave_others_their_cluster(tmp_path: Path) -> None:
    central = central_with(tmp_path, 5)
    agent = central.agent()
    central.agent("staging")
    first, second = central.http2(), central.http2()
    watches = [person.ask(WATCH) for person in (first, second) for _ in range(3)]
    assert len(agent.session.streams) == 1 + 5
    refused = second.answer(watches[-1])
    assert refused.code == 429
    assert refused.fields[b"retry-after"] == b"1"
    assert refused.status["reason"] == "TooManyRequests"
    assert 'you have 5 requests open on cluster "prod"' in refused.status["message"]
    assert first.get(token=b"dev.prod").code == 429  # another token of the same person
    assert first.get(STAGING).code == 0  # under way
    agent.requests()
    other = first.ask(token=b"other")
    assert first.answer(other).code == 403  # its own refusal, and not for what others have
    first.send(rst_stream(watches[0], CANCEL))
    assert first.get().code == 0
    assert [refusal_of(row) for row in central.outcomes()].count("TooManyRequests") == 2


def test_a_controller_with_300_watches_is_left_alone(tmp_path: Path) -> None:
    central = Central(tmp_path)
    agent = central.agent()
    people = [central.http2() for _ in range(4)]
    for number in range(300):
        people[number % 4].ask(WATCH)
    assert len(agent.session.streams) == 301
    assert central.outcomes() == []
    assert people[0].get().code == 0


def test_attack_a_tunnel_full_of_watches_takes_short_requests(tmp_path: Path) -> None:
    central = Central(tmp_path)
    agent = central.agent()
    agent.send(settings({3: 16}))
    person = central.http2()
    watches = [person.ask(WATCH) for _ in range(14)]
    assert person.answer(watches[12]).code == 0
    refused = person.answer(watches[13])
    assert (refused.code, refused.fields[b"retry-after"]) == (503, b"1")
    assert "carry as many requests as they can" in refused.status["message"]
    for _ in range(2):
        assert person.get().code == 0
    full = person.get()
    assert full.code == 503
    assert "carry as many requests as they can" in full.status["message"]
    assert len(central.chain.departures.shares) == 1


def test_a_tunnel_that_fills_up_within_a_tick(tmp_path: Path) -> None:
    central = Central(tmp_path)
    agent = central.agent()
    agent.send(settings({3: 2}))
    first, second = central.http1(), central.http1()
    for person in (first, second):
        person.connection.receive(request())
    central.ticks.turn()
    answers = first.read() + second.read()
    assert answers.count(b"503") > 0
    assert b"carry as many requests as they can" in answers


def test_no_agent_is_still_called_so(tmp_path: Path) -> None:
    central = Central(tmp_path)
    person = central.http2()
    assert "no agent" in person.get().status["message"]
    agent = central.agent()
    agent.send(goaway((1 << 31) - 1))
    assert "no agent" in person.get().status["message"]


def test_an_upgrade_counts_until_it_ends(tmp_path: Path) -> None:
    central = central_with(tmp_path, 10)
    central.agent()
    person = central.http1()
    person.ask(SHELL, *EXEC, method=b"POST")
    assert len(central.chain.departures.shares) == 1
    person.connection.connection_lost()
    assert len(central.chain.departures.shares) == 0


@pytest.mark.pure
def test_shares_that_nobody_uses_are_kept_up_to_a_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(departures, "IDLE_SHARES", 1)
    central = central_with(tmp_path, 10)
    central.agent()
    central.agent("staging")
    people = central.http2(), central.http2()
    people[0].ask()
    people[1].ask(STAGING)
    shares: Any = central.chain.departures.shares
    assert len(shares) == 2
    for person in people:
        person.connection.connection_lost()
    assert len(shares) == 0
    assert list(shares._taken) == [("id-dev", "staging")]


STEPS = ("open", "watch", "upload", "exec", "answer", "end", "agent resets", "refuses", "reset",
         "leave", "no journal", "journal", "agent goes", "agent comes", "deny",
         "finish")  # fmt: skip


@given(st.lists(st.sampled_from(STEPS), max_size=40), st.integers(1, 4))
def test_whatever_happens_each_request_is_counted_once(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str], most: int
) -> None:
    """A count that leaks would lock a person out for ever; one too few lets them take all."""
    central = central_with(tmp_path_factory.mktemp("shares"), most)
    play = Play(central)
    for step in steps:
        play.step(step)
        play.check()
    play.leave()
    play.check()
    assert len(central.chain.departures.shares) == 0
    central.journal.close()


class Play:
    """One person on two connections, and an agent that comes and goes."""

    def __init__(self, central: Central) -> None:
        self.central = central
        self.commit = central.journal.real.commit
        self.agent = central.agent()
        self.person = central.http2()
        self.others = [central.http1()]
        self.asked: list[int] = []

    def step(self, step: str) -> None:
        if step in ("open", "watch", "upload", "deny"):
            path = {"watch": WATCH, "deny": b"/k8s/prod/api/v1/secrets"}.get(step)
            self.asked.append(self.person.ask(path or b"/k8s/prod" + PODS, end=step != "upload"))
        elif step == "exec":
            self.others.append(self.central.http1())
            self.others[-1].ask(SHELL, *EXEC, method=b"POST")
        elif step == "reset" and self.asked:
            self.person.send(rst_stream(self.asked.pop(0), CANCEL))
        elif step == "leave":
            self.leave()
            self.person = self.central.http2()
        elif step.endswith("journal"):
            self.central.journal.commit = (lambda: False) if step == "no journal" else self.commit
        elif step == "agent goes":
            self.agent.session.connection_lost()
        elif step == "agent comes":
            self.agent = self.central.agent()
        elif step == "finish":
            for stream in self.person.connection.streams.values():
                self.central.chain.finish(stream.exchange)
                self.central.chain.finish(stream.exchange)
        else:
            self.play_agent(step)

    def play_agent(self, step: str) -> None:
        session = self.agent.session
        mine = [number for number in session.streams if number > 1]
        if session.closed or not mine:
            return
        number = mine[0]
        self.agent.send(
            {
                "answer": headers(number, OK),
                "end": data(number, b"x", end=True),
                "agent resets": rst_stream(number, CANCEL),
                "refuses": rst_stream(number, REFUSED_STREAM),
                "reset": window_update(number, 1),
            }[step]
        )

    def leave(self) -> None:
        self.person.connection.connection_lost()
        self.asked = []
        for other in self.others:
            other.connection.connection_lost()
        self.others = []
        self.central.ticks.turn()

    def check(self) -> None:
        shares: Any = self.central.chain.departures.shares
        counted = sum(share.streams for share in shares._taken.values())
        exchanges = {
            id(stream.exchange): stream.exchange
            for stream in [
                *self.person.connection.streams.values(),
                *(it.connection.stream for it in self.others if it.connection.stream),
            ]
        }
        open_ones = [it for it in exchanges.values() if it and it.front.share and not it.settled]
        assert counted == len(open_ones) <= shares._streams
        assert all(share.streams >= 0 for share in shares._taken.values())


TWO: dict[str, Any] = {
    "roles": RBAC["roles"],
    "users": [
        {"email": "dev@example.com", "roles": ["developer"]},
        {"email": "ops@example.com", "roles": ["developer"]},
    ],
}


def test_attack_stalled_readers_end_their_own_answers_only(tmp_path: Path) -> None:
    central = Central(tmp_path, rbac=TWO)
    central.chain.departures.shares = Shares(100, 256 << 10)
    agent, greedy, other = central.agent(), central.http2(), central.http2()
    greedy.send(settings({4: 0}))
    other.send(window_update(0, 1 << 24))
    held = [greedy.ask() for _ in range(8)]
    for number in (seen.stream for seen in agent.requests()):
        agent.send(headers(number, OK), data(number, bytes(60_000)))
        assert central.budget.used <= 256 << 10
    wanted = other.ask(token=b"ops")
    number = agent.request()[0]
    agent.send(headers(number, OK), data(number, b"x" * 60_000), data(number, b"y", end=True))
    answer = other.answer(wanted)
    assert (answer.code, len(answer.body), answer.ended) == (200, 60_001, True)
    ended = [greedy.answer(it).reset for it in held]
    assert ended.count(None) >= 3
    assert ended.count(ENHANCE_YOUR_CALM) == 8 - ended.count(None) > 0
    assert len([row for row in central.outcomes() if row["user"]["username"][:3] == "dev"]) > 0
    greedy.connection.connection_lost()
    assert central.budget.used == 0
    assert not central.budget.holders
    assert len(central.chain.departures.shares) == 0


def test_attack_an_upload_that_nobody_takes_is_the_uploader_s(tmp_path: Path) -> None:
    central = Central(tmp_path, rbac=TWO)
    central.chain.departures.shares = Shares(100, 100_000)
    agent, greedy = central.agent(), central.http2()
    agent.send(settings({4: 0}))
    uploads = [greedy.ask(method=b"POST", end=False) for _ in range(3)]
    for number in uploads:
        greedy.send(data(number, bytes(16_000)), data(number, bytes(16_000)))
        greedy.send(data(number, bytes(16_000)))
    assert 0 < central.budget.used <= 100_000
    assert [greedy.answer(number).code for number in uploads].count(502) == 1
    greedy.connection.connection_lost()
    assert central.budget.used == 0
