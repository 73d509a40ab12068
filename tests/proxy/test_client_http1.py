"""A client's HTTP/1.1 connection, byte by byte: bodies, pipelining, upgrades, slow clients."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from mk8s_agent.wire.limits import HIGH_WATER
from mk8s_proxy.listener.head_limits import HEAD_BYTES
from mk8s_proxy.listener.http2 import UNAUTHENTICATED_REQUESTS
from tests.support.front_door import PODS, Agent, Central, Http1Person, refusal_of, request
from tests.support.memory import (
    CANCEL,
    NO_ERROR,
    Frame,
    bodies,
    data,
    ended,
    headers,
    kinds,
    rst_stream,
    window_update,
)

OK = [(b":status", b"200"), (b"content-type", b"text/plain")]
PATH = b"/k8s/prod" + PODS
EXEC = PATH + b"/web/exec?command=sh"
SPDY = (b"Connection: Upgrade", b"Upgrade: SPDY/3.1")
SWITCHED = [(b":status", b"200"), (b"mk8s-upgrade", b"SPDY/3.1"), (b"x", b"y")]


@pytest.fixture
def central(tmp_path: Path) -> Central:
    return Central(tmp_path)


def reply(agent: Agent, body: bytes, *, length: bool = False) -> None:
    stream, _ = agent.request()
    fields = [*OK, (b"content-length", b"%d" % len(body))] if length else OK
    agent.send(headers(stream, fields), data(stream, body, end=True))


def test_an_answer_of_known_length(central: Central) -> None:
    agent, person = central.agent(), central.http1()
    assert person.ask() == b""
    reply(agent, b"hello", length=True)
    assert person.read() == (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 5\r\n\r\nhello"
    )
    assert not person.transport.gone
    assert central.outcomes()[0]["sourceIPs"] == ["192.0.2.8"]


def test_an_answer_of_unknown_length_is_chunked(central: Central) -> None:
    agent, person = central.agent(), central.http1()
    person.ask()
    stream, _ = agent.request()
    agent.send(headers(stream, OK), data(stream, b"one"), data(stream, b"two!"))
    assert person.read() == (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n"
        b"3\r\none\r\n4\r\ntwo!\r\n"
    )
    agent.send(data(stream, b"", end=True))
    assert person.read() == b"0\r\n\r\n"


def test_keep_alive(central: Central) -> None:
    agent, person = central.agent(), central.http1()
    for _ in range(3):
        person.ask()
        reply(agent, b"x", length=True)
        assert person.read().endswith(b"\r\n\r\nx")
    assert not person.transport.gone


def test_a_request_that_is_over_holds_no_other_half(central: Central) -> None:
    """Two streams that hold each other are freed late, by the garbage collector."""
    agent, person = central.agent(), central.http1()
    person.ask()
    stream = person.connection.stream
    assert stream is not None
    back = stream.peer
    assert back is not None
    reply(agent, b"x", length=True)
    assert stream.peer is None
    assert back.peer is None


@pytest.mark.parametrize("status", [b"204", b"304"])
def test_answers_without_a_body(central: Central, status: bytes) -> None:
    agent, person = central.agent(), central.http1()
    person.ask()
    agent.send(headers(agent.request()[0], [(b":status", status)], end=True))
    answer = person.read()
    assert answer.startswith(b"HTTP/1.1 " + status)
    assert b"content-length" not in answer
    assert b"chunked" not in answer


def test_an_empty_answer_says_so(central: Central) -> None:
    agent, person = central.agent(), central.http1()
    person.ask()
    agent.send(headers(agent.request()[0], OK, end=True))
    assert person.read().endswith(b"content-length: 0\r\n\r\n")


def test_a_status_without_a_name(central: Central) -> None:
    agent, person = central.agent(), central.http1()
    person.ask()
    agent.send(headers(agent.request()[0], [(b":status", b"299")], end=True))
    assert person.read().startswith(b"HTTP/1.1 299 \r\n")


def test_head(central: Central) -> None:
    agent, person = central.agent(), central.http1()
    person.ask(method=b"HEAD")
    agent.send(headers(agent.request()[0], [*OK, (b"content-length", b"5")], end=True))
    assert person.read().endswith(b"content-length: 5\r\n\r\n")
    person.ask(method=b"HEAD", token=b"")
    assert not person.transport.gone


@pytest.mark.parametrize("head", [b"HEAD", b"GET"])
def test_response_splitting_a_body_that_is_not_to_come(central: Central, head: bytes) -> None:
    """A hostile cluster's bytes would be read as the answer to the next request."""
    agent, person = central.agent(), central.http1()
    person.ask(method=head)
    stream, _ = agent.request()
    forged = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
    length = b"5" if head == b"HEAD" else b"1"
    agent.send(headers(stream, [*OK, (b"content-length", length)]), data(stream, b"x" + forged))
    assert forged not in person.read()
    assert person.transport.aborted


# -- bodies of requests


def test_a_body_of_known_length(central: Central) -> None:
    agent, person = central.agent(), central.http1()
    person.send(request(PATH, b"Content-Length: 11", method=b"POST") + b"hello")
    assert agent.requests()[1:] == [Frame("DATA", 3, b"hello")]
    person.send(b" world")
    assert agent.requests() == [Frame("DATA", 3, b" world", end=True)]


@given(st.integers(1, 200))
@examples(max_examples=40)
def test_a_chunked_body_is_unframed_however_it_is_cut(
    tmp_path_factory: pytest.TempPathFactory, step: int
) -> None:
    central = Central(tmp_path_factory.mktemp("central"))
    agent, person = central.agent(), central.http1()
    wire = request(PATH, b"Transfer-Encoding: chunked", method=b"POST")
    wire += b"5\r\nhello\r\n1;x=y\r\n \r\n5\r\nworld\r\n0\r\nx-trailer: 1\r\n\r\n"
    for start in range(0, len(wire), step):
        person.send(wire[start : start + step])
    seen = agent.requests()
    assert bodies(seen) == {3: b"hello world"}
    assert ended(seen) == {3}
    assert b"mk8s-content-length" not in dict(seen[0].value)
    agent.send(headers(3, OK, end=True))
    assert person.read().startswith(b"HTTP/1.1 200 ")
    central.journal.close()


@pytest.mark.parametrize(
    "chunks",
    [
        b"5;" + b"x" * 300 + b"\r\nhello\r\n",
        b"5;" + b"x" * 300,
        b"zz\r\n",
        b"5\r\nhelloXX",
        b"-1\r\n",
        b"5\nhello\n",
        b"fffffffffffffffff\r\n",
    ],
)
def test_cve_2025_22871_a_broken_chunk_ends_the_connection(central: Central, chunks: bytes) -> None:
    agent, person = central.agent(), central.http1()
    person.send(request(PATH, b"Transfer-Encoding: chunked", method=b"POST") + chunks)
    person.send(b"0\r\n\r\n")
    assert person.transport.aborted
    assert ended(agent.requests()) == set()
    assert agent.session.streams.keys() == {1}


def test_expect_continue(central: Central) -> None:
    agent, person = central.agent(), central.http1()
    head = request(PATH, b"Content-Length: 2", b"Expect: 100-continue", method=b"POST")
    assert person.send(head) == b"HTTP/1.1 100 Continue\r\n\r\n"
    person.send(b"ok")
    assert bodies(agent.requests()) == {3: b"ok"}


def test_a_refused_request_is_not_asked_for_its_body(central: Central) -> None:
    person = central.http1()
    lines = (b"Content-Length: 1000000", b"Expect: 100-continue")
    answer = person.ask(PATH, *lines, method=b"POST", token=b"")
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert b"connection: close\r\n" in answer
    assert person.transport.closed
    assert person.send(b"x" * 1000 + request()) == b""
    assert len(central.outcomes()) == 1


def test_an_answer_before_the_whole_request_ends_the_connection(central: Central) -> None:
    agent, person = central.agent(), central.http1()
    person.send(request(PATH, b"Content-Length: 10", method=b"POST") + b"half ")
    agent.send(headers(3, [(b":status", b"413"), (b"content-length", b"2")]))
    agent.send(data(3, b"no", end=True))
    assert b"connection: close\r\n" in person.read()
    assert person.transport.closed
    assert agent.requests()[-1] == Frame("RST_STREAM", 3, NO_ERROR)
    assert agent.session.streams.keys() == {1}


# -- pipelining and smuggling


def test_pipelined_requests_are_answered_in_order(central: Central) -> None:
    agent, person = central.agent(), central.http1()
    person.send(b"".join(request(PATH + b"/p%d" % n) for n in range(3)))
    for number in range(3):
        [seen] = agent.requests()
        assert dict(seen.value)[b":path"] == PODS + b"/p%d" % number
        agent.send(headers(seen.stream, OK, end=True))
    assert person.read().count(b"HTTP/1.1 200 OK") == 3


def test_a_request_behind_a_body_waits_for_its_turn(central: Central) -> None:
    agent, person = central.agent(), central.http1()
    first = request(PATH, b"Content-Length: 2", method=b"POST")
    person.send(first + b"ok" + request(PATH + b"/second"))
    assert bodies(agent.requests()) == {3: b"ok"}
    agent.send(headers(3, OK, end=True))
    assert dict(agent.requests()[0].value)[b":path"] == PODS + b"/second"


def test_request_smuggling_behind_a_chunked_body(central: Central) -> None:
    """What comes in one piece with the last chunk is nobody's request."""
    agent, person = central.agent(), central.http1()
    first = request(PATH, b"Transfer-Encoding: chunked", method=b"POST")
    person.send(first + b"2\r\nok\r\n0\r\n\r\n" + request(PATH + b"/smuggled"))
    assert bodies(agent.requests()) == {3: b"ok"}
    agent.send(headers(3, OK, end=True))
    assert b"connection: close\r\n" in person.read()
    assert person.transport.closed
    assert agent.requests() == []


def test_a_thousand_pipelined_refusals_are_no_recursion(central: Central) -> None:
    person = central.http1()
    assert person.ask().startswith(b"HTTP/1.1 503 ")  # somebody known
    answer = person.send(request(token=b"") * 1000)
    assert answer.count(b"HTTP/1.1 401 ") == 1000
    assert len(central.outcomes()) == 1001
    assert not person.transport.gone


@pytest.mark.parametrize("token", [b"", b"bad"])
def test_attack_a_connection_that_only_gets_refusals_is_closed(
    central: Central, token: bytes
) -> None:
    person = central.http1()
    answer = person.send(request(token=token) * (UNAUTHENTICATED_REQUESTS + 5))
    assert answer.count(b"HTTP/1.1 401 ") == UNAUTHENTICATED_REQUESTS
    assert answer.count(b"connection: close\r\n") == 1
    assert person.transport.closed


def test_what_is_pipelined_is_bounded(central: Central) -> None:
    agent, person = central.agent(), central.http1()
    person.ask()
    person.send(b"x" * 70_000)
    assert not person.transport.reading
    reply(agent, b"")
    person.read()
    assert person.transport.reading


SMUGGLED = {
    "CL.TE": (b"Content-Length: 5", b"Transfer-Encoding: chunked"),
    "TE.TE": (b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity"),
    "TE: xchunked": (b"Transfer-Encoding: xchunked",),
    "CL: +5": (b"Content-Length: +5",),
    "CL: 5, 5": (b"Content-Length: 5, 5",),
    "two CL": (b"Content-Length: 5", b"Content-Length: 6"),
    "CL over 64 bits": (b"Content-Length: 99999999999999999999",),
    "obs-fold": (b"X: y\r\n z",),
    "a bare LF": (b"X: y\nTransfer-Encoding: chunked",),
    "a bare CR": (b"X: y\rZ: w",),
    "a space before the colon": (b"Transfer-Encoding : chunked",),
    "NUL": (b"X: \0",),
}


SMUGGLED_REASONS = {
    "CL.TE": "CL_TE",
    "TE.TE": "TE",
    "TE: xchunked": "TE",
    "CL: +5": "CL",
    "CL: 5, 5": "CL",
    "two CL": "CL",
    "CL over 64 bits": "CL",
}


@pytest.mark.parametrize(("attempt", "reason"), SMUGGLED_REASONS.items())
def test_attack_smuggling_has_a_reason_of_its_own(
    central: Central, attempt: str, reason: str
) -> None:
    central.agent()
    central.http1().send(request(PATH, *SMUGGLED[attempt], method=b"POST") + b"0\r\n\r\n")
    assert [refusal_of(row) for row in central.outcomes()] == [reason]


@pytest.mark.parametrize("lines", SMUGGLED.values(), ids=list(SMUGGLED))
def test_smuggling(central: Central, lines: tuple[bytes, ...]) -> None:
    agent, person = central.agent(), central.http1()
    answer = person.send(request(PATH, *lines, method=b"POST") + b"0\r\n\r\n" + request())
    assert answer.count(b"HTTP/1.1 400 ") == 1
    assert b"connection: close" in answer
    assert person.transport.closed
    assert agent.requests() == []
    assert len(central.outcomes()) == 1


@pytest.mark.parametrize(
    ("head", "code", "reason"),
    [
        (b"GET / HTTP/0.9\r\n\r\n", 400, "HTTP_VERSION"),
        (b"GET / HTTP/1.0\r\nUpgrade: websocket\r\n\r\n", 400, "UPGRADE_TOKEN"),
        (b"GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400, "TE"),
        (b"GET / HTTP/1.2\r\nHost: x\r\n\r\n", 400, "HTTP_VERSION"),
        (b"PRI * HTTP/2.0\r\n\r\n", 400, "HTTP_VERSION"),
        (b"CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n", 405, "METHOD"),
        (b"\x16\x03\x01\r\n\r\n", 400, "REQUEST_LINE"),
        (b"GET http://x/ HTTP/1.1\r\nHost: x\r\n\r\n", 400, "TARGET_FORM"),
        (b"GET / HTTP/1.1\r\n\r\n", 400, "HOST"),
        (b"GET / HTTP/1.1\r\nX: " + b"v" * 70_000 + b"\r\n\r\n", 431, "HEADER_TOO_LARGE"),
        (b"GET / HTTP/1.1\r\nX: " + b"v" * 200_000, 431, "HEADER_TOO_LARGE"),
    ],
)  # fmt: skip
def test_heads_that_are_refused(central: Central, head: bytes, code: int, reason: str) -> None:
    person = central.http1()
    answer = person.send(head)
    assert answer.startswith(b"HTTP/1.1 %d " % code)
    assert person.transport.closed
    assert refusal_of(central.rows()[0]) == reason


@given(st.binary(max_size=80))
@examples(max_examples=100)
def test_any_bytes_are_refused_or_waited_for(
    tmp_path_factory: pytest.TempPathFactory, wire: bytes
) -> None:
    central = Central(tmp_path_factory.mktemp("central"))
    agent, person = central.agent(), central.http1()
    person.send(wire)
    person.send(b"\r\n\r\n")
    assert agent.requests() == []
    central.journal.close()


def test_a_parser_that_disagrees_refuses(central: Central, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both readers must take a head: ours and llhttp."""
    monkeypatch.setattr("mk8s_proxy.listener.http1_reader.check_http1_head", lambda *_, **__: None)
    person = central.http1()
    assert person.send(b"GET / HTTP/1.1\r\nBad Name: x\r\n\r\n").startswith(b"HTTP/1.1 400 ")


# -- upgrades


def switch(central: Central, early: bytes = b"") -> tuple[Agent, Http1Person]:
    agent, person = central.agent(), central.http1()
    assert person.send(request(EXEC, *SPDY, method=b"POST") + early) == b""
    assert agent.request()[1][b"mk8s-upgrade"] == b"SPDY/3.1"
    return agent, person


def test_after_the_switch_both_directions_are_bytes(central: Central) -> None:
    agent, person = switch(central)
    agent.send(headers(3, SWITCHED), data(3, b"server first"))
    assert person.read() == (
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n"
        b"x: y\r\n\r\nserver first"
    )
    person.send(b"\x80\x03\x00\x01 not HTTP")
    assert bodies(agent.requests()) == {3: b"\x80\x03\x00\x01 not HTTP"}
    agent.send(data(3, b"GET / HTTP/1.1\r\n\r\n"))
    assert person.read() == b"GET / HTTP/1.1\r\n\r\n"
    assert central.rows()[0]["verb"] == "create"
    assert "upgraded" in repr(person.connection)


def test_early_data_waits_for_the_switch_and_is_bounded(central: Central) -> None:
    """B8: what a client sends before the 101 is held, at most 64 KiB and one read."""
    agent, person = switch(central, early=b"early ")
    person.send(b"x" * 70_000)
    assert not person.transport.reading
    assert bodies(agent.requests()) == {}
    agent.send(window_update(0, 1 << 20), headers(3, SWITCHED))
    assert bodies(agent.requests()) == {3: b"early " + b"x" * 70_000}
    assert person.transport.reading


def test_the_end_of_an_upgraded_stream_leaves_nothing(central: Central) -> None:
    """The stream stayed on the tunnel, on both its ends, for each exec that ever ended."""
    agent, person = switch(central)
    agent.send(headers(3, SWITCHED), data(3, b"bye", end=True))
    assert person.read().endswith(b"bye")
    assert person.transport.closed
    assert agent.requests() == [Frame("RST_STREAM", 3, NO_ERROR)]
    assert agent.session.streams.keys() == {1}
    assert central.outcomes()[0]["responseStatus"]["code"] == 101


def test_a_client_that_leaves_an_upgraded_stream(central: Central) -> None:
    agent, person = switch(central)
    agent.send(headers(3, SWITCHED))
    person.connection.connection_lost()
    person.connection.connection_lost()
    assert agent.requests() == [Frame("RST_STREAM", 3, CANCEL)]
    assert len(central.outcomes()) == 1


def test_a_refused_upgrade_is_an_ordinary_answer_and_the_last(central: Central) -> None:
    agent, person = switch(central, early=b"GET /smuggled HTTP/1.1\r\n\r\n")
    agent.send(headers(3, [(b":status", b"403"), (b"content-length", b"2")]))
    agent.send(data(3, b"no", end=True))
    answer = person.read()
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert b"connection: close" in answer
    assert person.transport.closed
    assert kinds(agent.requests()) == ["RST_STREAM"]


def test_a_reset_of_an_upgraded_stream_breaks_off(central: Central) -> None:
    agent, person = switch(central)
    agent.send(headers(3, SWITCHED), rst_stream(3))
    assert person.transport.aborted
    assert len(central.outcomes()) == 1


# -- backpressure


def test_a_client_that_does_not_read_slows_its_stream(central: Central) -> None:
    agent, person = central.agent(), central.http1()
    person.ask()
    agent.request()
    agent.send(headers(3, OK))
    person.transport.full = True
    agent.send(data(3, bytes(HIGH_WATER // 4)))
    for _ in range(8):
        agent.send(data(3, bytes(16_000)))
    assert central.budget.used == 8 * 16_000
    assert len(person.read()) < HIGH_WATER
    person.transport.full = False
    person.connection.writable()
    assert len(person.read()) >= 8 * 16_000
    assert central.budget.used == 0
    agent.send(data(3, b"", end=True))
    assert person.read() == b"0\r\n\r\n"


def test_an_end_that_waits_for_the_socket(central: Central) -> None:
    agent, person = central.agent(), central.http1()
    person.ask()
    agent.request()
    person.transport.full = True
    agent.send(headers(3, OK))
    agent.send(data(3, b"", end=True))
    agent.send(b"")
    assert b"0\r\n\r\n" not in person.read()
    person.transport.full = False
    person.connection.writable()
    assert person.read() == b"0\r\n\r\n"


def test_a_large_answer_in_one_tick(central: Central) -> None:
    agent, person = central.agent(), central.http1()
    person.ask()
    agent.request()
    agent.send(headers(3, OK), *[data(3, bytes(16_000))] * 16, data(3, b"end", end=True))
    answer = person.read()
    assert answer.count(bytes(16_000)) == 16
    assert answer.endswith(b"3\r\nend\r\n0\r\n\r\n")
    assert central.budget.used == 0


def test_a_tunnel_that_does_not_read_slows_the_client(central: Central) -> None:
    agent, person = central.agent(), central.http1()
    person.send(request(PATH, b"Content-Length: 1000000", method=b"POST"))
    agent.request()
    agent.session.outbound.window = 0
    person.send(bytes(HIGH_WATER + 1))
    assert not person.transport.reading
    agent.send(b"\0\0\4\x08\0\0\0\0\0" + (1 << 20).to_bytes(4, "big"))
    assert person.transport.reading
    assert len(bodies(agent.peer.read()).get(3, b"")) in (0, HIGH_WATER + 1)
    assert central.budget.used == 0


def test_the_budget_breaks_a_client_off(central: Central) -> None:
    agent, person = central.agent(), central.http1()
    person.ask()
    agent.request()
    agent.send(headers(3, OK))
    person.transport.full = True
    agent.send(data(3, b"x"))
    central.budget.limit = 100
    agent.send(data(3, bytes(101)))
    assert person.transport.aborted
    assert agent.requests()[-1].kind == "RST_STREAM"
    assert central.budget.used == 0


def test_zero_window_reader_on_http1(central: Central) -> None:
    """Cut only when others need the memory, and only if it took nothing for a minute."""
    agent, person = central.agent(), central.http1()
    person.ask()
    agent.request()
    person.transport.full = True
    agent.send(headers(3, OK), data(3, b"x"))
    agent.send(data(3, bytes(1000)))
    for _ in range(100):
        person.connection.second(1.0)
    assert not person.transport.aborted
    central.budget.limit = 1500
    person.connection.second(1.0)
    assert person.transport.aborted
    assert central.budget.used == 0


# -- endings and deadlines


def test_a_cluster_that_breaks_off_before_the_answer(central: Central) -> None:
    agent, person = central.agent(), central.http1()
    person.ask()
    agent.request()
    agent.send(rst_stream(3))
    assert person.read().startswith(b"HTTP/1.1 502 ")
    assert not person.transport.gone


def test_a_truncated_answer_never_looks_complete(central: Central) -> None:
    agent, person = central.agent(), central.http1()
    person.ask()
    agent.request()
    agent.send(headers(3, OK), data(3, b"half"), rst_stream(3))
    assert b"0\r\n\r\n" not in person.read()
    assert person.transport.aborted
    assert len(central.outcomes()) == 1


def test_connection_close_is_honoured(central: Central) -> None:
    agent, person = central.agent(), central.http1()
    person.ask(PATH, b"Connection: close")
    reply(agent, b"bye", length=True)
    assert b"connection: close\r\n" in person.read()
    assert person.transport.closed


def test_a_drain_lets_the_request_end(central: Central) -> None:
    agent, person, idle = central.agent(), central.http1(), central.http1()
    person.ask()
    person.connection.drain()
    idle.connection.drain()
    assert idle.transport.closed
    assert not person.transport.closed
    reply(agent, b"bye", length=True)
    assert b"connection: close\r\n" in person.read()
    assert person.transport.closed


def test_slowloris_a_head_that_drips(central: Central) -> None:
    person = central.http1()
    wire = request()
    for byte in wire[:15]:
        person.send(bytes((byte,)))
        person.connection.second(1.0)
    assert not person.transport.aborted
    person.connection.second(1.0)
    assert person.transport.aborted
    assert person.send(b"more") == b""


class Watched(bytearray):
    """Bytes that count how many of them are searched."""

    searched = 0

    def find(self, sought: bytes, start: int = 0, end: int = 1 << 30) -> int:  # type: ignore[override]
        Watched.searched += min(len(self), end) - start
        return super().find(sought, start, end)


def test_attack_a_head_byte_by_byte_is_searched_once(central: Central) -> None:
    """Else each byte costs as much as the whole head so far: a cheap way to fill a core."""
    agent, person = central.agent(), central.http1()
    head = request(PATH, b"X: " + b"v" * 3000)
    person.connection._early, Watched.searched = Watched(), 0
    for byte in head:
        person.send(bytes((byte,)))
    assert agent.request()[1][b"x"] == b"v" * 3000
    assert len(head) <= Watched.searched <= 4 * len(head)


def test_attack_a_head_over_the_limit_is_refused_where_that_is_known(central: Central) -> None:
    person, piece = central.http1(), b"x: y\r\n" * 1000
    person.send(b"GET /api HTTP/1.1\r\n")
    for _ in range(HEAD_BYTES // len(piece)):
        assert person.send(piece) == b""
    assert person.send(piece).startswith(b"HTTP/1.1 431 ")
    [row] = central.outcomes()
    assert (row["requestURI"], refusal_of(row)) == ("/api", "HEADER_TOO_LARGE")


@pytest.mark.parametrize("behind", [b"", b"GET "])
def test_the_largest_head_is_taken_in_two_pieces(central: Central, behind: bytes) -> None:
    agent, person = central.agent(), central.http1()
    short = request(PATH, b"X: ")
    head = request(PATH, b"X: " + b"v" * (HEAD_BYTES - len(short) - 200))
    person.send(head[:-2])
    assert person.send(head[-2:] + behind) == b""
    assert agent.request()


def test_an_idle_connection_has_its_whole_time_for_the_next_head(central: Central) -> None:
    agent, person = central.agent(), central.http1()
    person.ask(token=b"")
    for _ in range(200):
        person.connection.second(1.0)
    person.send(request()[:20])
    person.connection.second(1.0)
    assert not person.transport.aborted
    person.send(request()[20:])
    assert agent.request()
    for _ in range(100):
        person.connection.second(1.0)
    assert not person.transport.gone


def test_an_idle_connection_ends(central: Central) -> None:
    person = central.http1()
    person.ask()
    for _ in range(300):
        person.connection.second(1.0)
    assert not person.transport.aborted
    person.connection.second(1.0)
    assert person.transport.aborted
    person.connection.drain()


@pytest.mark.parametrize("begun", [b"", b"GET "])
def test_attack_idle_strangers_have_the_time_of_one_head(central: Central, begun: bytes) -> None:
    person = central.http1()
    for _ in range(15):
        person.connection.second(1.0)
        assert not person.transport.aborted
    person.send(begun)  # too late to begin: the time is that of a whole head
    person.connection.second(1.0)
    assert person.transport.aborted


def test_words_that_come_too_late_break_off(central: Central) -> None:
    agent, person = central.agent(), central.http1()
    person.ask()
    agent.request()
    agent.send(headers(3, OK))
    stream = person.connection.stream
    assert stream is not None
    person.connection.answer(stream, 503, [], b"late")
    assert person.transport.aborted
    person.connection.reset(stream, CANCEL)
    stream.local_closed = True
    person.connection.answer(stream, 503, [], b"later")
    person.connection.relay_head(stream, b"", True, OK)
    assert b"503" not in person.read()
