"""Health checks of balancers on the public port: no token, and no row in the audit."""

from pathlib import Path

import pytest

from tests.support.front_door import Central


@pytest.fixture
def central(tmp_path: Path) -> Central:
    central = Central(tmp_path)
    central.chain.health = lambda: True
    return central


def answer(central: Central, line: bytes, *lines: bytes) -> bytes:
    person = central.http1()
    return person.send(b"\r\n".join([line, *lines, b"", b""]))


HOST = b"Host: central.example.com"


@pytest.mark.parametrize("path", [b"/livez", b"/readyz", b"/readyz?verbose"])
def test_a_balancer_needs_no_token(central: Central, path: bytes) -> None:
    seen = answer(central, b"GET " + path + b" HTTP/1.1", HOST)
    assert seen.startswith(b"HTTP/1.1 200 ")
    assert seen.endswith(b"\r\n\r\nok\n")
    assert central.rows() == []


@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
@pytest.mark.parametrize("lines", [(), (b"Host: 10.0.0.1",), (b"User-Agent: lb", b"X_Odd: 1")])
def test_a_health_check_in_http_1_0(
    central: Central, method: bytes, lines: tuple[bytes, ...]
) -> None:
    seen = answer(central, method + b" /readyz HTTP/1.0", *lines)
    assert seen.startswith(b"HTTP/1.0 200 ")
    assert b"connection: close\r\n" in seen
    assert seen.endswith(b"ok\n") is (method == b"GET")
    assert central.rows() == []


def test_attack_more_than_a_health_check_in_http_1_0(central: Central) -> None:
    answer(central, b"GET /readyz HTTP/1.0")
    for line in (b"GET /api HTTP/1.0", b"POST /readyz HTTP/1.0", b"GET /readyz/x HTTP/1.0"):
        assert answer(central, line).startswith(b"HTTP/1.0 401 ")


def test_a_central_that_cannot_serve_says_so(central: Central) -> None:
    central.chain.health = lambda: False
    assert answer(central, b"GET /readyz HTTP/1.1", HOST).startswith(b"HTTP/1.1 503 ")
    assert answer(central, b"GET /livez HTTP/1.1", HOST).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "line",
    [b"POST /readyz HTTP/1.1", b"GET /k8s/prod/readyz HTTP/1.1", b"GET /readyz/etcd HTTP/1.1"],
)
def test_everything_else_still_needs_a_token(central: Central, line: bytes) -> None:
    assert answer(central, line, HOST, b"Content-Length: 0").startswith(b"HTTP/1.1 401 ")
    assert len(central.outcomes()) == 1


def test_with_a_token_it_is_the_clusters(central: Central) -> None:
    seen = answer(central, b"GET /readyz HTTP/1.1", HOST, b"Authorization: Bearer x")
    assert not seen.startswith(b"HTTP/1.1 200 ")
    assert len(central.outcomes()) == 1


def test_it_can_be_turned_off(central: Central) -> None:
    central.chain.health = None
    assert answer(central, b"GET /readyz HTTP/1.1", HOST).startswith(b"HTTP/1.1 401 ")
    assert answer(central, b"GET /readyz HTTP/1.0").startswith(b"HTTP/1.0 401 ")
