"""A client's HTTP/2 connection: malformed heads, bodies, resets, deadlines."""

from pathlib import Path
from typing import Any

import hpack
import pytest

from mk8s_agent.wire import hpack_codec
from mk8s_proxy.listener.http2 import UNAUTHENTICATED_REQUESTS
from tests.support.front_door import PODS, Central, Http2Person, refusal_of
from tests.support.memory import (
    CANCEL,
    ENHANCE_YOUR_CALM,
    INTERNAL_ERROR,
    NO_ERROR,
    PROTOCOL_ERROR,
    Fields,
    Frame,
    bodies,
    data,
    ended,
    frame,
    goaway_code,
    head,
    headers,
    kinds,
    ping,
    rst_stream,
    settings,
    window_update,
)
from tests.support.work import lines_run

OK = [(b":status", b"200")]
PATH = b"/k8s/prod" + PODS
HEAD: Fields = [
    (b":method", b"GET"),
    (b":scheme", b"https"),
    (b":authority", b"central.example.com"),
    (b":path", PATH),
    (b"authorization", b"Bearer dev"),
]


@pytest.fixture
def central(tmp_path: Path) -> Central:
    return Central(tmp_path)


def having(*more: tuple[bytes, bytes], **pseudo: bytes) -> Fields:
    return [(name, pseudo.get(name.lstrip(b":").decode(), value)) for name, value in HEAD] + [*more]


# the rows of h2_cases in tests/data/requestinfo-cases.json that one head decides
def without(fields: Fields, name: bytes) -> Fields:
    return [field for field in fields if field[0] != name]


MALFORMED: dict[str, tuple[Fields, str]] = {
    "CR/LF in a value": (having((b"x", b"a\r\nb")), "BAD_HEADER_VALUE"),
    "NUL in a value": (having((b"x", b"\0")), "BAD_HEADER_VALUE"),
    "an upper-case name": (having((b"X", b"y")), "BAD_HEADER_NAME"),
    "a space in a name": (having((b"x y", b"z")), "BAD_HEADER_NAME"),
    "an empty name": (having((b"", b"z")), "BAD_HEADER_NAME"),
    "space round a value": (having((b"x", b" y")), "BAD_HEADER_VALUE"),
    "a connection header": (having((b"connection", b"close")), "CONNECTION_HEADER"),
    "transfer-encoding": (having((b"transfer-encoding", b"chunked")), "CONNECTION_HEADER"),
    "an upgrade": (having((b"upgrade", b"websocket")), "CONNECTION_HEADER"),
    "te other than trailers": (having((b"te", b"gzip")), "CONNECTION_HEADER"),
    "a duplicate pseudo header": ([HEAD[0], *HEAD], "PSEUDO_HEADER"),
    "a misplaced pseudo header": ([*HEAD, HEAD[0]], "PSEUDO_HEADER"),
    "an unknown pseudo header": ([(b":x", b"y"), *HEAD], "PSEUDO_HEADER"),
    "a missing path": (without(HEAD, b":path"), "PSEUDO_HEADER"),
    "an empty path": (having(path=b""), "PSEUDO_HEADER"),
    "no fields at all": ([], "BAD_HEADER"),
    "a path without a slash": (having(path=b"api"), "TARGET_FORM"),
    "a space in the path": (having(path=b"/ HTTP/1.1"), "RAW_ILLEGAL"),
    "bytes over 127 in the path": (having(path=b"/\xff"), "RAW_ILLEGAL"),
    "a method with a path": (having(method=b"GET /x"), "METHOD"),
    "an empty method": (having(method=b""), "METHOD"),
    "CONNECT": (having(method=b"CONNECT"), "METHOD"),
    "extended CONNECT": ([(b":protocol", b"websocket"), *HEAD], "METHOD"),
    "user information": (having(authority=b"a@b"), "HOST"),
    "another host": (having((b"host", b"other")), "HOST"),
    "content-length with the end": (having((b"content-length", b"5")), "CL"),
    "a strange content-length": (having((b"content-length", b"+3")), "CL"),
    "two content-lengths": (
        having((b"content-length", b"0"), (b"content-length", b"0")), "CL",
    ),
    "two credentials": (having((b"authorization", b"Bearer x")), "DUP_AUTHORIZATION"),
    "an underscore": (having((b"impersonate_user", b"admin")), "UNDERSCORE_HEADER"),
    "a header of mk8s": (having((b"mk8s-identity", b"{}")), "RESERVED_HEADER"),
    "a web page": (
        [*without(HEAD, b"authorization"), (b"origin", b"https://evil")], "BROWSER_ORIGIN",
    ),
    "very many fields": (having(*[(b"x", b"y")] * 200), "HEADER_TOO_LARGE"),
    "a long field": (having((b"x", b"v" * 70_000)), "HEADER_TOO_LARGE"),
}  # fmt: skip


@pytest.mark.parametrize(("fields", "reason"), MALFORMED.values(), ids=list(MALFORMED))
def test_a_malformed_head_is_answered_and_audited(
    central: Central, fields: Fields, reason: str
) -> None:
    agent, person = central.agent(), central.http2()
    person.send(headers(1, fields, end=True, pieces=1 if len(fields) < 9 else 6)[:0])
    seen = person.send(headers(1, fields, end=True, pieces=8))
    answer = person.answers[1]
    assert answer.code in (400, 401, 403, 405, 431)
    assert answer.code == answer.status["code"]
    resets = [frame for frame in seen if frame.kind == "RST_STREAM"]
    # malformed is a stream error too (RFC 9113, 8.1.1)
    assert resets == ([Frame("RST_STREAM", 1, PROTOCOL_ERROR)] if answer.code == 400 else [])
    assert agent.requests() == []
    assert person.connection.streams == {}
    [row] = central.rows()
    assert refusal_of(row) == reason
    assert row["responseStatus"]["code"] == answer.code
    person.send(headers(3, HEAD, end=True))
    assert bool(agent.requests()) is (answer.code != 431)  # which ends a stranger's connection


def test_a_malformed_head_with_a_body_to_come(central: Central) -> None:
    person = central.http2()
    seen = person.send(headers(1, having((b"x", b"\0"))))
    assert kinds(seen) == ["HEADERS", "DATA", "RST_STREAM"]
    person.send(data(1, b"on its way", end=True))
    assert person.connection.streams == {}
    assert not person.connection.closed


def test_malformed_heads_are_made_resets_cve_2025_8671(central: Central) -> None:
    person = central.http2()
    assert person.get().code == 503  # somebody known: strangers are told to go long before
    for number in range(3, 2000, 2):
        seen = person.send(headers(number, having((b"x", b"\0")), end=True))
        if person.connection.closed:
            break
    assert goaway_code(seen) == ENHANCE_YOUR_CALM
    assert number == 403
    assert len(central.outcomes()) == 202


@pytest.mark.parametrize(
    "more",
    [
        [(b"x%d" % number, b"y" * 400) for number in range(160)],
        [(b"x%d" % number, b"y") for number in range(300)],
    ],
    ids=["bytes", "fields"],
)
def test_attack_heads_over_the_limit_are_refused_unread(
    central: Central, more: list[tuple[bytes, bytes]]
) -> None:
    """A refusal looks at the lengths of its fields (half a microsecond each), and at no more."""
    person = central.http2()
    assert person.get().code == 503
    wire = headers(3, having(*more), end=True, pieces=5)
    fields = len(HEAD) + len(more)
    assert lines_run(lambda: person.connection.receive(wire)) < 700 + 40 * fields
    assert person.answer(3).code == 431
    person.next = 5
    assert person.get().code == 503  # the decoder's table followed


TOO_LARGE: dict[str, Fields] = {
    "encoded": having((b"x", b"v" * 70_000)),
    "decoded": having(*[(b"x%d" % number, b"y" * 900) for number in range(75)]),
    "fields of a byte": HEAD + [(b"accept-encoding", b"gzip, deflate")] * 30_000,
}


@pytest.mark.parametrize("fields", TOO_LARGE.values(), ids=list(TOO_LARGE))
def test_attack_a_strangers_head_over_the_limit_ends_the_connection(
    central: Central, fields: Fields
) -> None:
    """It costs central less than it costs the stranger, who has to connect anew."""
    person = central.http2()
    block = bytes(hpack.Encoder().encode(fields, huffman=fields is not TOO_LARGE["encoded"]))
    wire = head(1, block, pieces=1 + len(block) // 16000)
    assert lines_run(lambda: person.connection.receive(wire)) < 9000
    seen = person.read()
    assert person.answers[1].code == 431
    assert goaway_code(seen) == NO_ERROR
    # nothing behind it is read: neither trailers nor another head
    person.send(headers(1, [(b"a", b"b")], end=True), headers(3, HEAD, end=True))
    assert person.transport.closed
    assert 3 not in person.answers
    [row] = central.rows()
    assert refusal_of(row) == "HEADER_TOO_LARGE"


def test_attack_large_heads_use_up_a_strangers_connection_sooner(central: Central) -> None:
    person = central.http2()
    fields = [*without(HEAD, b"authorization"), (b"x", b"y" * 4000)]
    for number in range(1, 201, 2):
        person.send(headers(number, fields, end=True))
        if person.transport.gone:
            break
    assert number == 49


LARGE: dict[str, tuple[Fields, bool, str]] = {
    "no credential": (without(HEAD, b"authorization"), True, "NO_CREDENTIAL"),
    "a bad one": (having(authorization=b"Bearer bad"), True, "TOKEN_SIGNATURE"),
    "a bad one, not coded": (having(authorization=b"Bearer bad"), False, "TOKEN_SIGNATURE"),
    "another scheme": (
        [*without(HEAD, b"authorization"), (b"authorization", b"Basic x")], True,
        "BAD_AUTHORIZATION",
    ),
    "one that is too long": (
        having(authorization=b"Bearer " + b"X" * 13_000), True, "BAD_AUTHORIZATION",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("fields", "coded", "reason"), LARGE.values(), ids=list(LARGE))
@pytest.mark.pure
def test_attack_a_large_head_of_nobody_is_not_even_decoded(
    central: Central, fields: Fields, coded: bool, reason: str
) -> None:
    person = central.http2()
    many = [*fields, *[(b"x-%d" % number, b"a" * 200) for number in range(90)]]
    block = bytes(hpack.Encoder().encode(many, huffman=coded))
    wire = head(1, block, end=True, pieces=2)
    assert lines_run(lambda: person.connection.receive(wire)) < 9000
    seen = person.read()
    assert person.answers[1].code == 401
    assert goaway_code(seen) == NO_ERROR
    [row] = central.rows()
    assert (refusal_of(row), row["requestURI"]) == (reason, "")  # nothing of it was read


@pytest.mark.parametrize("coded", [True, False])
@pytest.mark.parametrize("listed", [True, False], ids=["by number", "spelled out"])
def test_a_large_first_head_of_somebody_gets_through(
    central: Central, *, coded: bool, listed: bool
) -> None:
    """Whatever way its credential is encoded."""
    agent, person = central.agent(), central.http2()
    long = having((b"x", b"v" * 9000), path=b"/k8s/prod" + PODS)
    block = bytes(hpack.Encoder().encode(long, huffman=coded))
    if not listed:
        name = b"\x89\x1d\xa9\x9c\xf6\x1b\xd8\xd2c\xd5" if coded else b"\x0dauthorization"
        block = bytes(hpack.Encoder().encode(without(long, b"authorization"), huffman=coded))
        block += b"\x00" + name + b"\x0aBearer dev"
    person.send(head(1, block, end=True))
    assert agent.request()[1][b":path"] == PODS


REFUSALS: dict[str, Fields] = {
    "no credential": [one for one in HEAD if one[0] != b"authorization"],
    "a bad credential": having(authorization=b"Bearer bad"),
    "a bad target": having(path=b"/k8s/prod/%2e%2e/api"),
    "no HTTP": having((b"x", b"\0")),
    "the management API, unauthenticated": [
        one for one in having(path=b"/auth/login") if one[0] != b"authorization"
    ],
    "the management API, a bad credential": having(
        path=b"/auth/whoami", authorization=b"Bearer bad"
    ),
}


@pytest.mark.parametrize("head", REFUSALS.values(), ids=list(REFUSALS))
def test_attack_a_connection_that_only_gets_refusals_is_told_to_go(
    central: Central, head: Fields
) -> None:
    person = central.http2()
    for number in range(1, 2 * UNAUTHENTICATED_REQUESTS, 2):
        assert not person.connection.draining
        seen = person.send(headers(number, head, end=True, pieces=5))
        for exchange in central.managed:
            person.connection.answer(exchange.front, 401, [], b"no")
    assert goaway_code(seen + person.read()) == NO_ERROR
    assert person.transport.closed


def test_refusals_of_somebody_known_end_no_connection(central: Central) -> None:
    """kubectl with a token that has expired meanwhile, a watch beside it on the same connection."""
    central.agent()
    person = central.http2()
    person.ask(PATH + b"?watch=1")
    for _ in range(2 * UNAUTHENTICATED_REQUESTS):
        assert person.get(token=b"bad").code == 401
    assert not person.connection.draining


def test_administration_is_somebody_known_too(central: Central) -> None:
    person = central.http2()
    person.ask(b"/auth/whoami")
    assert person.connection.authenticated


def test_a_refusal_before_the_body_waits_for_no_body(central: Central) -> None:
    person = central.http2()
    number = person.ask(token=b"", method=b"POST", end=False)
    assert person.answer(number).ended
    person.send(data(number, bytes(5000)), data(number, b"", end=True))
    assert person.connection.streams == {}
    assert refusal_of(central.rows()[0]) == "NO_CREDENTIAL"


def test_head_requests_get_no_body(central: Central) -> None:
    person = central.http2()
    answer = person.get(method=b"HEAD", token=b"")
    assert (answer.code, answer.body, answer.ended) == (401, b"", True)


@pytest.mark.parametrize("sent", [b"12345678901", b"123"])
def test_a_body_of_another_length_reaches_no_cluster_whole(central: Central, sent: bytes) -> None:
    agent, person = central.agent(), central.http2()
    number = person.ask(PATH, (b"content-length", b"10"), method=b"POST", end=False)
    stream, head = agent.request()
    assert head[b"mk8s-content-length"] == b"10"
    seen = person.send(data(number, sent, end=True))
    assert Frame("RST_STREAM", number, PROTOCOL_ERROR) in seen
    later = agent.requests()
    assert ended(later) == set()
    assert [(f.kind, f.stream) for f in later if f.kind == "RST_STREAM"] == [("RST_STREAM", stream)]
    assert person.connection.streams == {}
    assert len(central.outcomes()) == 1


def test_a_cancelled_request_is_cancelled_in_the_cluster(central: Central) -> None:
    agent, person = central.agent(), central.http2()
    number = person.ask(PATH + b"?watch=1")
    agent.send(headers(agent.request()[0], OK), data(3, b"event"))
    person.send(rst_stream(number, CANCEL))
    assert agent.requests() == [Frame("RST_STREAM", 3, CANCEL)]
    agent.send(data(3, b"on its way"))
    [row] = central.outcomes()
    assert row["annotations"]["mk8s.io/bytes-out"] == "5"
    assert agent.session.streams.keys() == {1}
    assert person.answers[number].body == b"event"


def test_a_lost_client_is_cancelled_in_the_cluster(central: Central) -> None:
    agent, person = central.agent(), central.http2()
    for _ in range(3):
        person.ask(PATH + b"?watch=1")
    agent.requests()
    person.connection.connection_lost()
    assert [f.kind for f in agent.requests()] == ["RST_STREAM"] * 3
    assert len(central.outcomes()) == 3
    assert agent.session.streams.keys() == {1}


def test_an_answer_before_the_whole_request(central: Central) -> None:
    agent, person = central.agent(), central.http2()
    number = person.ask(method=b"POST", end=False)
    agent.send(headers(agent.request()[0], [(b":status", b"413")]), data(3, b"no", end=True))
    assert person.answer(number).ended
    agent.send(rst_stream(3, NO_ERROR))
    assert person.read() == []
    person.send(data(number, b"the rest", end=True))
    assert person.connection.streams == {}


def test_an_upload_to_a_tunnel_that_is_lost_after_the_answer(central: Central) -> None:
    agent, person = central.agent(), central.http2()
    number = person.ask(method=b"POST", end=False)
    agent.send(headers(agent.request()[0], OK, end=True))
    agent.session.connection_lost()
    assert Frame("RST_STREAM", number, NO_ERROR) in person.read() + person.frames
    assert person.answers[number].code == 200


def test_an_answer_is_reset_when_it_cannot_go_on(central: Central) -> None:
    agent, person = central.agent(), central.http2()
    number = person.ask()
    agent.send(headers(agent.request()[0], OK), data(3, b"half"))
    agent.session.connection_lost()
    answer = person.answer(number)
    assert (answer.body, answer.ended, answer.reset) == (b"half", False, INTERNAL_ERROR)
    assert len(central.outcomes()) == 1


def test_no_words_fit_behind_a_head(central: Central) -> None:
    agent, person = central.agent(), central.http2()
    number = person.ask()
    agent.send(headers(agent.request()[0], OK))
    stream = person.connection.streams[number]
    person.connection.answer(stream, 503, [], b"too late")
    assert person.answer(number).reset == INTERNAL_ERROR
    person.connection.answer(stream, 503, [], b"later still")
    person.connection.reset(stream, CANCEL)
    assert kinds(person.read()) == []
    assert "192.0.2.7" in repr(person.connection)


def test_an_empty_answer_ends_with_its_head(central: Central) -> None:
    person = central.http2()
    number = person.ask(b"/auth/logout", method=b"POST", end=False)
    person.connection.answer(person.connection.streams[number], 204, [], b"")
    assert kinds(person.read()) == ["HEADERS"]


def test_management_requests_wait_for_the_api(central: Central) -> None:
    person = central.http2()
    number = person.ask(b"/auth/login", (b"content-length", b"2"), method=b"POST", end=False)
    [exchange] = central.managed
    stream = person.connection.streams[number]
    stream.exchange = None
    person.connection.reset(stream, CANCEL)  # an exchange that is nobody's any more
    assert person.answer(number).reset == INTERNAL_ERROR
    assert exchange.settled is False


# -- deadlines


def late(person: Http2Person, wire: bytes, seconds: float) -> list[Frame]:
    if wire:
        person.send(wire)
    for _ in range(int(seconds)):
        person.connection.second(1.0)
    return person.read()


@pytest.mark.parametrize("wire", [frame(1, 0, 1, b"\x82"), headers(1, HEAD)[:30], settings()[:4]])
def test_slowloris_a_head_that_drips(central: Central, wire: bytes) -> None:
    person = central.http2()
    assert late(person, wire, 15) == []
    assert goaway_code(late(person, b"", 1)) == ENHANCE_YOUR_CALM
    person.connection.second(1.0)
    assert person.transport.closed


def test_a_client_that_vanishes_with_a_stream_open_is_asked_and_then_given_up(
    central: Central,
) -> None:
    """An exec, a watch or a log that nobody reads any more."""
    agent = central.agent()
    person = central.http2()
    person.ask()
    [number] = [it.stream for it in agent.requests()]
    assert late(person, b"", 15) == []
    assert kinds(late(person, b"", 1)) == ["PING"]
    person.send(ping(ack=True))
    assert late(person, b"", 15) == []
    late(person, b"", 30)
    assert not person.transport.aborted
    late(person, b"", 1)
    assert person.transport.aborted
    assert number not in agent.session.streams


def test_a_slow_body_is_not_a_slow_head(central: Central) -> None:
    central.deadlines.body_bytes = 0
    central.agent()
    person = central.http2()
    number = person.ask(method=b"POST", end=False)
    body = data(number, bytes(100))
    assert late(person, body[:50], 14) == []
    for at in range(50, 55):
        assert late(person, body[at : at + 1], 14) == []
    assert not person.connection.closed


def test_an_idle_connection_is_ended_politely(central: Central) -> None:
    person = central.http2()
    assert person.get().code == 503
    assert late(person, b"", 300) == []
    assert goaway_code(late(person, b"", 2)) == NO_ERROR
    assert person.transport.closed


PING = frame(6, 0, 0, bytes(8))


def test_attack_idle_strangers_have_the_time_of_one_head(central: Central) -> None:
    person = central.http2()
    late(person, PING, 15)
    assert not person.connection.draining
    assert goaway_code(late(person, PING, 1)) == NO_ERROR
    assert person.transport.closed


def test_attack_pings_do_not_keep_a_stranger(central: Central) -> None:
    person = central.http2()
    assert person.get(token=b"").code == 401
    for _ in range(300):
        late(person, PING, 1)
        assert not person.connection.draining
    assert goaway_code(late(person, PING, 1)) == NO_ERROR
    assert person.transport.closed


def test_a_quiet_watch_is_not_idle(central: Central) -> None:
    central.agent()
    person = central.http2()
    person.ask(PATH + b"?watch=1")
    assert late(person, b"", 400) == []
    assert not person.connection.draining


def test_large_heads_below_the_limit_pass_both_hops(central: Central) -> None:
    """D7: what the front door takes never breaks a tunnel."""
    agent, person = central.agent(), central.http2()
    fields: Any = [(b"x-%d" % n, b"v" * 4000) for n in range(15)]
    person.send(headers(1, [*HEAD, *fields], end=True, pieces=6))
    assert agent.request()[1][b"x-14"] == b"v" * 4000
    assert not agent.session.closed


def test_a_body_goes_frame_by_frame(central: Central) -> None:
    agent, person = central.agent(), central.http2()
    number = person.ask(method=b"POST", end=False)
    agent.request()
    person.send(data(number, b"one"))
    assert bodies(agent.requests()) == {3: b"one"}
    person.send(data(number, b"two", end=True))
    assert agent.requests() == [Frame("DATA", 3, b"two", end=True)]
    person.send(window_update(0, 1))


def test_attack_an_agents_head_with_huffman_padding_that_other_decoders_refuse(
    central: Central,
) -> None:
    """An agent's blocks are decoded, not checked for their padding: nothing of them travels on. The
    client's connection, which others' requests share, gets what central composes."""
    agent, person = central.agent(), central.http2()
    number = person.ask()
    stream, _ = agent.request()
    padded_with_zeros = b"\x00\x01x\x81\x18"  # "a" is 00011: 0x1f with its padding
    agent.send(head(stream, b"\x88" + padded_with_zeros, end=True))
    person.connection.flush()
    wire = person.transport.written
    answer = wire[wire.index(b"\x88") :]
    assert answer == b"\x88" + hpack_codec.literal(b"x", b"a")
    assert b"\x81\x18" not in wire
    person.read()
    assert person.answers[number].code == 200
