"""Heads with 256 KiB of path and query: people get them through, strangers cost little by them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mk8s_proxy.audit.rows import MAX_URI
from mk8s_proxy.chain import addresses
from mk8s_proxy.chain.departures import Shares
from mk8s_proxy.listener.head_limits import HEAD_BYTES, TARGET_BYTES, HeadLimits
from mk8s_proxy.listener.http1_head import HeadSearch
from mk8s_proxy.listener.long_heads import LongHeads
from mk8s_proxy.process.clients import front_limits
from mk8s_proxy.settings.model import LimitSettings
from tests.support.front_door import PODS, Central, Http2Person, refusal_of, request
from tests.support.memory import ENHANCE_YOUR_CALM, headers, rst_stream, settings
from tests.support.work import lines_run

FRONT = front_limits(LimitSettings())
EXEC = b"/k8s/prod" + PODS + b"/web/exec?command="
UPGRADE = (b"Connection: Upgrade", b"Upgrade: SPDY/3.1", b"Content-Length: 0")
LIST = b"/k8s/prod" + PODS + b"?labelSelector="
CONTINUATION = 9


@pytest.fixture
def central(tmp_path: Path) -> Central:
    return Central(tmp_path)


def filled(path: bytes, size: int = TARGET_BYTES) -> bytes:
    """A target of that many bytes."""
    return path + b"x" * (size - len(path))


def seen_by(agent: Any) -> bytes:
    """The target that arrived at the agent."""
    return agent.request()[1][b":path"]  # type: ignore[no-any-return]


def http2(central: Central) -> Http2Person:
    return central.http2(FRONT)


def long_get(number: int, target: bytes, token: bytes = b"dev", pieces: int = 17) -> bytes:
    head = [
        (b":method", b"GET"),
        (b":scheme", b"https"),
        (b":authority", b"central.example.com"),
        (b":path", target),
        (b"authorization", b"Bearer " + token),
    ]
    return headers(number, head, end=True, pieces=pieces)


# -- people


@pytest.mark.parametrize("piece", [TARGET_BYTES * 2, 16384, 7777])
def test_a_command_of_256_kib_gets_through_on_http1(central: Central, piece: int) -> None:
    agent, person = central.agent(), central.http1()
    head = request(filled(EXEC), *UPGRADE, method=b"POST")
    for start in range(0, len(head), piece):
        assert person.send(head[start : start + piece]) == b""
    assert seen_by(agent) == filled(EXEC)[len(b"/k8s/prod") :]
    assert len(central.config.long_heads) == 0


def test_a_selector_of_256_kib_gets_through_on_http2(central: Central) -> None:
    agent, person = central.agent(), http2(central)
    person.send(long_get(1, filled(LIST)))
    assert seen_by(agent) == filled(LIST)[len(b"/k8s/prod") :]
    assert len(central.config.long_heads) == 0


def test_one_byte_more_is_refused_on_both(central: Central) -> None:
    person = http2(central)
    assert person.get().code == 503  # somebody known, whose connection goes on
    person.send(long_get(3, filled(LIST, TARGET_BYTES + 1)))
    assert person.answer(3).code == 431
    person.next = 5
    assert person.get().code == 503
    one = central.http1().send(request(filled(EXEC, TARGET_BYTES + 1), method=b"POST"))
    assert one.startswith(b"HTTP/1.1 431 ")
    reasons = [refusal_of(row) for row in central.outcomes()]
    assert reasons.count("HEADER_TOO_LARGE") == 2


def test_the_rest_of_a_head_may_be_no_longer_than_before(central: Central) -> None:
    more = b"X: " + b"v" * HEAD_BYTES
    answer = central.http1().send(request(filled(LIST), more))
    assert answer.startswith(b"HTTP/1.1 431 ")


def test_a_row_keeps_a_bounded_part_and_says_so(central: Central) -> None:
    agent, person = central.agent(), http2(central)
    person.send(long_get(1, filled(LIST)))
    [row] = central.rows()
    assert len(row["requestURI"]) == MAX_URI
    assert row["annotations"]["mk8s.io/truncated"] == "requestURI"
    assert agent.request()


def test_who_sends_long_targets_pays_for_them_until_they_end(central: Central) -> None:
    central.chain.departures.shares = Shares(100, buffered=2 * TARGET_BYTES)
    agent, person = central.agent(), http2(central)
    for number in (1, 3, 5):
        person.send(long_get(number, filled(LIST)))
    refused = person.answer(5)
    assert (refused.code, refused.fields[b"retry-after"]) == (429, b"1")
    assert "limits.buffered_per_identity" in refused.status["message"]
    person.next = 7
    assert person.get().code == 0  # a short one is under way
    person.send(rst_stream(1, 8))
    person.send(long_get(9, filled(LIST)))
    assert person.answer(9).code == 0
    for stream in (3, 7, 9):
        person.send(rst_stream(stream, 8))
    assert len(central.chain.departures.shares) == 0
    assert agent.requests()


def test_a_first_long_target_is_taken_however_small_the_share(central: Central) -> None:
    central.chain.departures.shares = Shares(100, buffered=10)
    agent, person = central.agent(), http2(central)
    person.send(long_get(1, filled(LIST)))
    assert agent.request()


def test_an_older_agent_keeps_its_tunnel(central: Central) -> None:
    """It takes heads of 192 KiB; a longer one would end the tunnel for everybody."""
    agent, person = central.agent(), http2(central)
    agent.send(settings({6: 192 << 10}))
    person.send(long_get(1, filled(LIST)))
    refused = person.answer(1)
    assert refused.code == 431
    assert "takes no head as long as this: update it" in refused.status["message"]
    person.send(long_get(3, filled(LIST, 100_000)))
    assert len(seen_by(agent)) == 100_000 - len(b"/k8s/prod")


# -- strangers


@pytest.mark.pure
def test_attack_a_long_target_is_not_read_before_its_token_is(
    central: Central, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[bytes] = []
    monkeypatch.setattr(addresses, "parse_target", lambda *key: read.append(key[1]))
    for target in (filled(LIST), filled(LIST, 20_000), filled(b"/auth/login?")):
        person = http2(central)
        person.send(long_get(1, target, token=b"bad"))
        assert person.answer(1).code == 401
        nobody = central.http1().send(request(target, token=b""))
        assert nobody.startswith(b"HTTP/1.1 401 ")
    assert read == []
    assert {refusal_of(row) for row in central.outcomes()} == {"TOKEN_SIGNATURE", "NO_CREDENTIAL"}


@pytest.mark.parametrize(
    "begin",
    [
        b"GET " + b"/a" * 40_000,
        b"GET /" + b"a" * 80_000 + b"?",
        b"\x16" * 70_000,
        b"GET /a HTTP/1.1\r\nX: " + b"y" * 70_000,
        b"GET /a?" + b"b" * 60_000 + b" HTTP/1.1\r\n" + b"X: y\r\n" * 12_000,
        b"GET /a?" + b"b" * (TARGET_BYTES + 100),
    ],
    ids=["path", "long path", "garbage", "field", "fields", "target"],
)
def test_attack_what_becomes_no_long_target_is_refused_at_once(
    central: Central, begin: bytes
) -> None:
    person = central.http1()
    assert person.send(begin).startswith(b"HTTP/1.1 431 ")
    assert person.transport.closed
    assert len(central.config.long_heads) == 0


def test_attack_a_long_head_byte_by_byte_costs_the_same_for_each() -> None:
    """Else each byte costs as much as the whole head so far."""
    limits, head = HeadLimits(1000, 6000), bytearray()
    search = HeadSearch(limits)
    costs = []
    for byte in request(filled(b"/a?", 5000), b"X: y"):
        head.append(byte)
        costs.append(lines_run(lambda: search.end(head)))
    assert search.end(bytearray(b"GET")) == 0  # it has begun anew
    assert max(costs[1200:-1]) <= max(costs[:900]) + 15


class Watched(bytearray):
    """Counts the bytes that are searched."""

    searched = 0

    def find(self, sub: Any, start: Any = None, end: Any = None) -> int:
        Watched.searched += len(self) - (start or 0)
        return super().find(sub, start, end)


def test_attack_a_long_head_in_pieces_is_searched_once() -> None:
    search, head = HeadSearch(HeadLimits()), Watched()
    whole = request(filled(b"/a?", 250_000))
    for start in range(0, len(whole), 100):
        head += whole[start : start + 100]
        end = search.end(head)
    assert end == len(whole)
    assert Watched.searched <= 4 * len(whole)


def test_a_long_head_may_end_long_after_its_request_line(central: Central) -> None:
    agent, person = central.agent(), central.http1()
    head = request(filled(LIST, 100_000), b"X: " + b"y" * 40_000)
    for start in range(0, len(head), 10_000):
        person.send(head[start : start + 10_000])
    assert len(seen_by(agent)) == 100_000 - len(b"/k8s/prod")


def held(central: Central, number: int, size: int = 200_000) -> list[Any]:
    """Connections with the beginning of a long head."""
    people = [central.http1() for _ in range(number)]
    for person in people:
        person.send(request(filled(EXEC))[:size])
    return people


def small(central: Central, most: int, of_source: int) -> None:
    central.config = replace(central.config, long_heads=LongHeads(most, of_source))


def test_attack_one_address_gives_up_its_own_long_heads(central: Central) -> None:
    small(central, 10_000_000, 500_000)
    other = http2(central)  # of another address
    other.send(long_get(1, filled(LIST))[: 9 * 16_000])
    first, second, third = held(central, 3)
    assert first.transport.closed
    assert not second.transport.closed
    assert not third.transport.closed
    assert central.config.long_heads.size <= 500_000 + TARGET_BYTES
    agent = central.agent()
    other.send(long_get(1, filled(LIST))[9 * 16_000 :])
    assert agent.request()
    [row] = central.outcomes()
    assert (row["responseStatus"]["code"], refusal_of(row)) == (429, "LONG_HEADS")


def test_attack_all_addresses_together_have_a_bound_and_the_oldest_goes(central: Central) -> None:
    small(central, 500_000, 10_000_000)
    other = http2(central)
    other.send(long_get(1, filled(LIST))[: 9 * 16_000])
    first, second = held(central, 2)
    other.read()
    [last] = [frame for frame in other.frames if frame.kind == "GOAWAY"]
    assert last.value == ENHANCE_YOUR_CALM
    assert other.transport.closed
    assert not first.transport.closed
    assert not second.transport.closed


def test_a_proxy_that_is_listed_brings_the_heads_of_many(central: Central) -> None:
    heads = LongHeads(10_000_000, 500_000)
    for number in range(10):
        heads.hold(Holder(number), "", 200_000)
    assert len(heads) == 10


class Holder:
    """A connection."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.gave_up = False

    def give_up_head(self) -> None:
        self.gave_up = True


def test_the_newcomer_itself_may_have_to_go() -> None:
    heads = LongHeads(1000, 100)
    alone = Holder(1)
    heads.hold(alone, "192.0.2.1", 101)
    assert alone.gave_up
    heads.leave(alone)  # more than once is no mistake
    assert (len(heads), heads.size) == (0, 0)


def test_age_is_that_of_the_first_piece() -> None:
    heads = LongHeads(100, 1000)
    first, second = Holder(1), Holder(2)
    heads.hold(first, "a", 10)
    heads.hold(second, "a", 10)
    heads.hold(first, "a", 95)
    assert (first.gave_up, second.gave_up) == (True, False)
    assert heads.size == 10


@pytest.mark.parametrize("version", [1, 2])
def test_a_connection_that_ends_gives_its_bytes_back(central: Central, version: int) -> None:
    person: Any = central.http1() if version == 1 else http2(central)
    wire = request(filled(EXEC)) if version == 1 else long_get(1, filled(LIST))
    person.send(wire[:100_000])
    assert len(central.config.long_heads) == 1
    person.connection.connection_lost()
    assert len(central.config.long_heads) == 0


def test_attack_frames_without_end_are_not_gathered(central: Central) -> None:
    """More CONTINUATION frames than the longest head needs end the connection."""
    person = http2(central)
    person.send(long_get(1, filled(LIST), pieces=40))
    assert person.transport.closed


def test_a_long_head_that_drips_has_the_time_of_any_other(central: Central) -> None:
    [person] = held(central, 1)
    for _ in range(20):
        person.connection.second(1.0)
    assert person.transport.aborted
    assert len(central.config.long_heads) == 0


def test_what_clients_are_told_is_what_they_may_send() -> None:
    limits = LimitSettings(header_list_bytes=8192, target_bytes=10_000)
    told = front_limits(limits)
    assert told.header_list_told == 18_192
    assert front_limits(LimitSettings()).header_list_told == HEAD_BYTES + TARGET_BYTES
