"""Bodies of requests that drip, over both protocols: they end, slow ones of people do not."""

from pathlib import Path

import pytest

from mk8s_proxy.listener.body_pace import BodyPace
from tests.support.front_door import (
    PODS,
    Agent,
    Central,
    Deadlines,
    Http1Person,
    Http2Person,
    refusal_of,
    request,
)
from tests.support.memory import CANCEL, Frame, data, headers, kinds, ping

PATH = b"/k8s/prod" + PODS
LENGTH = b"Content-Length: 1000000"
CHUNKED = b"Transfer-Encoding: chunked"
HEAD = [
    (b":method", b"POST"),
    (b":scheme", b"https"),
    (b":authority", b"central.example.com"),
    (b":path", PATH),
    (b"authorization", b"Bearer dev"),
    (b"content-type", b"application/json"),
]
OK = [(b":status", b"200")]


@pytest.fixture
def central(tmp_path: Path) -> Central:
    return Central(tmp_path)


@pytest.fixture
def agent(central: Central) -> Agent:
    return central.agent()


def upload_http1(central: Central, *lines: bytes, path: bytes = PATH) -> Http1Person:
    person = central.http1()
    person.send(request(path, *(lines or (LENGTH,)), method=b"POST"))
    return person


def upload_http2(central: Central, path: bytes = PATH) -> Http2Person:
    person = central.http2()
    fields = [(name, path if name == b":path" else value) for name, value in HEAD]
    person.send(headers(1, fields))
    return person


def drip(person: Http1Person | Http2Person, seconds: int, piece: bytes) -> bytes:
    """So many seconds with a piece of the body in each; what came back, of HTTP/1.1."""
    seen = b""
    for _ in range(seconds):
        if person.transport.gone:
            break
        if isinstance(person, Http2Person):
            person.send(data(1, piece) if piece else ping(bytes(8)))
            person.connection.second(1.0)
            person.read()
        else:
            person.connection.second(1.0)
            seen += person.send(piece) if piece else person.read()
    return seen


def check_cancelled(agent: Agent) -> None:
    """The API server never sees a whole body."""
    seen = agent.requests()
    assert seen[-1] == Frame("RST_STREAM", seen[0].stream, CANCEL)
    assert not any(frame.end for frame in seen)


@pytest.mark.parametrize("line", [LENGTH, CHUNKED])
@pytest.mark.parametrize("piece", [b"", b"1\r\nx\r\n"], ids=["nothing", "little"])
def test_attack_a_dripping_body_ends_its_request_on_http1(
    central: Central, agent: Agent, line: bytes, piece: bytes
) -> None:
    person = upload_http1(central, line)
    assert drip(person, 30, piece) == b""
    told = drip(person, 2, piece)
    assert told.startswith(b"HTTP/1.1 408 ")
    assert b"limits.body_bytes" in told
    assert person.transport.closed
    check_cancelled(agent)
    [row] = central.outcomes()
    assert (refusal_of(row), row["responseStatus"]["code"]) == ("SLOW_BODY", 408)


@pytest.mark.parametrize("piece", [b"", b"x"], ids=["nothing", "little"])
def test_attack_a_dripping_body_ends_its_stream_on_http2(
    central: Central, agent: Agent, piece: bytes
) -> None:
    person = upload_http2(central)
    drip(person, 30, piece)
    assert person.connection.streams
    drip(person, 1, piece)
    assert person.answers[1].code == 408
    assert not person.connection.streams
    assert not person.transport.gone  # the other streams go on
    check_cancelled(agent)
    [row] = central.outcomes()
    assert refusal_of(row) == "SLOW_BODY"


def test_attack_a_dripping_body_behind_a_refusal(central: Central) -> None:
    """The answer has left; the stream would stay open for ever."""
    person = upload_http2(central, b"/k8s/prod/api/v1/namespaces/shop/secrets")
    assert person.answers[1].code == 403
    assert person.connection.streams
    drip(person, 31, b"x")
    assert not person.connection.streams


@pytest.mark.parametrize("upload", [upload_http1, upload_http2])
def test_attack_a_dripping_body_behind_an_answer_that_has_begun(
    central: Central, agent: Agent, upload: type[Http1Person]
) -> None:
    person = upload(central)  # type: ignore[arg-type, call-arg]
    stream, _ = agent.request()
    agent.send(headers(stream, OK), data(stream, b"{"))
    person.read()
    drip(person, 31, b"x")
    assert kinds(agent.requests())[-1] == "RST_STREAM"
    assert person.transport.aborted or not person.connection.streams  # type: ignore[attr-defined]


@pytest.mark.parametrize("upload", [upload_http1, upload_http2])
def test_a_slow_link_is_no_attack(
    central: Central, agent: Agent, upload: type[Http1Person]
) -> None:
    person = upload(central)  # type: ignore[arg-type, call-arg]
    assert drip(person, 200, b"x" * 300) == b""
    assert agent.request()
    assert central.outcomes() == []
    assert not person.transport.gone


@pytest.mark.parametrize("upload", [upload_http1, upload_http2])
def test_who_waits_for_a_slow_api_server_does_not_drip(
    central: Central, agent: Agent, upload: type[Http1Person]
) -> None:
    """The agent takes nothing: the client must not send."""
    person = upload(central)  # type: ignore[arg-type, call-arg]
    for _ in range(40):
        full = (
            person.connection.streams[1].receive_window < 16_384
            if isinstance(person, Http2Person)
            else not person.transport.reading
        )
        if full:
            break
        drip(person, 1, b"x" * 16_000)
    drip(person, 100, b"")
    assert agent.request()
    assert not person.transport.gone
    assert central.outcomes() == []


@pytest.mark.parametrize("upload", [upload_http1, upload_http2])
def test_a_proxied_upload_may_pause(
    central: Central, agent: Agent, upload: type[Http1Person]
) -> None:
    path = b"/k8s/prod/api/v1/namespaces/shop/services/web/proxy/"
    person = upload(central, path=path)  # type: ignore[call-arg, arg-type]
    drip(person, 100, b"")
    assert agent.request()
    assert not person.transport.gone
    assert central.outcomes() == []


def test_the_rule_can_be_switched_off(central: Central, agent: Agent) -> None:
    central.deadlines.body_bytes = 0
    person = upload_http2(central)
    drip(person, 100, b"")
    assert agent.request()
    assert central.outcomes() == []


def test_a_machine_that_slept_did_not_wait_for_its_clients(central: Central, agent: Agent) -> None:
    person = upload_http2(central)
    person.connection.second(500.0)
    assert agent.request()
    assert central.outcomes() == []


def test_what_is_over_is_forgotten(central: Central, agent: Agent) -> None:
    person = upload_http2(central)
    person.send(data(1, b"{}", end=True))
    stream, _ = agent.request()
    agent.send(headers(stream, OK, end=True))
    person.read()
    assert person.connection.streams == {}
    assert len(BodyPace(Deadlines())) == 0
