"""Clients of HTTP/1.0 (curl -0, ab, health checkers): no chunks, and the end may be a close."""

from pathlib import Path

import pytest

from mk8s_proxy.listener.http2 import UNAUTHENTICATED_REQUESTS
from tests.support.front_door import PODS, Agent, Central, refusal_of, request
from tests.support.memory import CANCEL, data, headers, rst_stream

PATH = b"/k8s/prod" + PODS
OK = [(b":status", b"200"), (b"content-type", b"text/plain")]
KEEP = b"Connection: Keep-Alive"


@pytest.fixture
def central(tmp_path: Path) -> Central:
    return Central(tmp_path)


def old(*lines: bytes, path: bytes = PATH, method: bytes = b"GET", token: bytes = b"dev") -> bytes:
    return request(path, *lines, method=method, token=token).replace(b"HTTP/1.1", b"HTTP/1.0")


def reply(agent: Agent, body: bytes, *, length: bool = True, end: bool = True) -> int:
    stream, _ = agent.request()
    fields = [*OK, (b"content-length", b"%d" % len(body))] if length else OK
    agent.send(headers(stream, fields), data(stream, body, end=end))
    return stream


def test_an_answer_of_known_length_and_the_connection_ends(central: Central) -> None:
    agent, person = central.agent(), central.http1()
    person.send(old())
    reply(agent, b"hello")
    assert person.read() == (
        b"HTTP/1.0 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 5\r\n"
        b"connection: close\r\n\r\nhello"
    )
    assert person.transport.closed
    assert not person.transport.aborted


def test_keep_alive_where_the_client_asks_for_it(central: Central) -> None:
    agent, person = central.agent(), central.http1()
    for _ in range(3):
        person.send(old(KEEP))
        reply(agent, b"hello")
        assert b"\r\nconnection: keep-alive\r\n\r\nhello" in person.read()
    assert not person.transport.gone
    person.ask()  # nobody does that, but what it says holds for each request
    reply(agent, b"hello")
    assert person.read().startswith(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n")
    person.ask()
    reply(agent, b"hello")
    assert b"connection" not in person.read()


@pytest.mark.parametrize("lines", [(), (KEEP,)])
def test_an_answer_of_unknown_length_ends_with_the_connection(
    central: Central, lines: tuple[bytes, ...]
) -> None:
    agent, person = central.agent(), central.http1()
    person.send(old(*lines))
    stream = reply(agent, b"one", length=False, end=False)
    assert person.read() == (
        b"HTTP/1.0 200 OK\r\ncontent-type: text/plain\r\nconnection: close\r\n\r\none"
    )
    assert not person.transport.gone
    agent.send(data(stream, b"two", end=True))
    assert person.read() == b"two"
    assert person.transport.closed
    assert not person.transport.aborted


def test_a_truncated_answer_never_looks_complete(central: Central) -> None:
    """A clean end of the connection would be the end of the answer: it is broken off."""
    agent, person = central.agent(), central.http1()
    person.send(old())
    stream = reply(agent, b"one", length=False, end=False)
    person.read()
    agent.send(rst_stream(stream, CANCEL))
    person.read()
    assert person.transport.aborted


def test_an_answer_without_a_body(central: Central) -> None:
    agent, person = central.agent(), central.http1()
    person.send(old(KEEP))
    stream, _ = agent.request()
    agent.send(headers(stream, [(b":status", b"204")], end=True))
    assert person.read() == b"HTTP/1.0 204 No Content\r\nconnection: keep-alive\r\n\r\n"
    person.send(old(method=b"HEAD"))
    stream, _ = agent.request()
    agent.send(headers(stream, OK, end=True))
    assert b"transfer-encoding" not in person.read()


def test_nobody_is_told_to_continue(central: Central) -> None:
    agent, person = central.agent(), central.http1()
    head = old(b"Expect: 100-continue", b"Content-Length: 2", method=b"POST")
    assert person.send(head) == b""
    person.send(b"{}")
    reply(agent, b"done")
    assert person.read().startswith(b"HTTP/1.0 200 OK")


def test_no_host_is_needed_where_the_token_names_the_cluster(central: Central) -> None:
    agent, person = central.agent(), central.http1()
    for _ in range(2):  # the second time it is a known head
        person.send(
            b"GET " + PODS + b" HTTP/1.0\r\nAuthorization: Bearer dev.prod\r\n" + KEEP + b"\r\n\r\n"
        )
        assert agent.request()[1][b":path"] == PODS
        agent.send(
            headers(agent.session.table.next_own - 2, [*OK, (b"content-length", b"0")], end=True)
        )
        assert person.read().startswith(b"HTTP/1.0 200 OK")


def test_attack_no_host_of_a_stranger_is_a_cluster(tmp_path: Path) -> None:
    central = Central(tmp_path, domain="invalid")
    answer = central.http1().send(b"GET /api HTTP/1.0\r\nAuthorization: Bearer dev.prod\r\n\r\n")
    assert answer.startswith(b"HTTP/1.0 401 ")  # bound to another cluster than "host"


def test_a_refusal_is_worded_in_the_clients_version(central: Central) -> None:
    answer = central.http1().send(old(token=b""))
    assert answer.startswith(b"HTTP/1.0 401 Unauthorized\r\n")
    assert b"\r\nconnection: close\r\n" in answer
    [row] = central.outcomes()
    assert refusal_of(row) == "NO_CREDENTIAL"


def test_attack_a_connection_that_only_gets_refusals_is_closed(central: Central) -> None:
    person = central.http1()
    for _ in range(UNAUTHENTICATED_REQUESTS - 1):
        assert b"keep-alive" in person.send(old(KEEP, token=b"bad"))
    assert b"\r\nconnection: close\r\n" in person.send(old(KEEP, token=b"bad"))
    assert person.transport.closed
