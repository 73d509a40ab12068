"""Whoever holds most of an agent's memory makes room there, and nobody who reads beside them."""

import json

import pytest

from mk8s_agent.apiserver import owners as owners_module
from mk8s_agent.apiserver.owners import Owners
from mk8s_agent.wire.limits import BufferBudget
from tests.support.agent_side import HEAD, AgentSide
from tests.support.memory import Frame, bodies, data, headers, rst_stream, settings, window_update

OK = [(b":status", b"200")]
BODY = 60_000


def head_of(user: str) -> list[tuple[bytes, bytes]]:
    who = {"user": user, "uid": user, "groups": ["mk8s:users"]}
    return [*HEAD[:-1], (b"mk8s-identity", json.dumps(who).encode())]


class Crowd:
    """Answers of 60,000 bytes that wait at an agent, with room for four of them."""

    def __init__(self) -> None:
        self.side = AgentSide().open()
        self.side.budget.limit = 256 << 10
        self.side.at_once = lambda dialled: dialled.greet() and None
        self.side.central.send(settings({4: 0}))
        self.number = 1
        self.seen: list[Frame] = []

    async def answered(self, user: str) -> int:
        """The stream of somebody's request, whose whole answer has arrived."""
        self.number += 2
        self.seen += self.side.central.send(headers(self.number, head_of(user), end=True))
        await self.side.settle()
        dialled = self.side.dialled[0]
        stream = dialled.requests()[-1][0]
        dialled.send(headers(stream, OK), data(stream, bytes(BODY), end=True))
        self.seen += self.side.central.read()
        return self.number

    def ended(self) -> set[int]:
        """The streams that were reset."""
        self.seen += self.side.central.read()
        return {it.stream for it in self.seen if it.kind == "RST_STREAM"}


async def test_attack_stalled_readers_at_the_agent_end_their_own_answers() -> None:
    crowd = Crowd()
    mine = await crowd.answered("ops@example.com")
    greedy = {await crowd.answered("dev@example.com") for _ in range(8)}
    assert crowd.side.budget.used <= 256 << 10
    ended = crowd.ended()
    assert len(ended) >= 5
    assert ended <= greedy
    crowd.seen += crowd.side.central.send(window_update(mine, BODY))
    assert len(bodies(crowd.seen)[mine]) == BODY
    for stream in greedy - ended:
        crowd.side.central.send(rst_stream(stream, 8))
    assert crowd.side.budget.used == 0
    assert len(crowd.side.apiserver.owners) == 0


async def test_a_share_is_that_of_the_identity_whichever_way_its_head_is_read() -> None:
    """The second head of a kind is recognised and not read."""
    side = AgentSide().open()
    for number in (3, 5, 7):
        await side.ask(number)
    assert len(side.apiserver.owners) == 1
    share = side.tunnel.streams[3].share
    assert share is not None
    assert {side.tunnel.streams[it].share for it in (3, 5, 7)} == {share}
    assert share.streams == 3
    side.tunnel.connection_lost()
    assert len(side.apiserver.owners) == 0


@pytest.mark.parametrize("identity", [b"", b'{"user":"a"}', bytes(range(256))])
def test_shares_last_as_long_as_requests(identity: bytes) -> None:
    owners = Owners(BufferBudget(1000))
    first, second = owners.take(identity), owners.take(identity)
    assert first is second
    assert first.limit == 1000
    owners.give_back(first)
    assert len(owners) == 1
    owners.give_back(first)
    assert len(owners) == 0
    assert owners.take(identity) is first


@pytest.mark.pure
def test_idle_owners_are_kept_up_to_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owners_module, "IDLE_SHARES", 2)
    owners = Owners(BufferBudget(1000))
    shares = {name: owners.take(name) for name in (b"a", b"b", b"c")}
    for share in shares.values():
        owners.give_back(share)
    assert len(owners) == 0
    kept = [name for name, share in shares.items() if owners.take(name) is share]
    assert kept == [b"b", b"c"]
