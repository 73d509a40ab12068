"""What is said to a proxy, and each answer that it may give."""

import pytest

from mk8s_agent.tunnel.dialer import is_absence
from mk8s_agent.wire.egress_proxy import Proxy, parse_proxy
from mk8s_agent.wire.proxy_handshake import (
    MAX_CONNECT_HEAD,
    Handshake,
    ProxyRefused,
    TargetAbsent,
    handshake,
)


def begun(url: str, host: str = "central.example", port: int = 8443) -> Handshake:
    proxy = parse_proxy(url, "HTTPS_PROXY")
    assert proxy is not None
    return handshake(proxy, host, port)


@pytest.mark.parametrize(
    ("host", "authority"),
    [
        ("central.example", b"central.example:8443"),
        ("fd00::1", b"[fd00::1]:8443"),
        ("bücher.example", b"xn--bcher-kva.example:8443"),
    ],
)
def test_connect_names_the_address_twice(host: str, authority: bytes) -> None:
    said = begun("http://p", host).begin()
    assert said.startswith(b"CONNECT " + authority + b" HTTP/1.1\r\nHost: " + authority + b"\r\n")
    assert said.endswith(b"\r\n\r\n")
    assert b"Proxy-Authorization" not in said


def test_connect_with_credentials() -> None:
    assert b"\r\nProxy-Authorization: Basic dTpwQA==\r\n" in begun("http://u:p%40@p").begin()


@pytest.mark.parametrize("pieces", [1, 7, 1000])
@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 Connection established\r\n\r\n",
        b"HTTP/1.0 200\r\nVia: x\r\n\r\n",
        b"HTTP/1.1 204 \n\n",
    ],
)
def test_any_2xx_connects(answer: bytes, pieces: int) -> None:
    talk = begun("http://p")
    parts = [answer[at : at + pieces] for at in range(0, len(answer), pieces)]
    assert [talk.receive(part) for part in parts] == [b""] * (len(parts) - 1) + [None]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            b"HTTP/1.1 407 Who\x1bare you\r\nProxy-Authenticate: Basic\r\n\r\n<html>",
            "answered 407 Who are you for central.example:8443; give user and password in",
        ),
        (b"HTTP/1.1 403\r\n\r\n", "the proxy http://p:80 answered 403 for central.example:8443"),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", "answered 502 Bad Gateway"),
        (b"SSH-2.0-x\r\n", "does not answer like an HTTP proxy"),
        (b"HTTP/1.1 2000 x\r\n\r\n", "does not answer like an HTTP proxy"),
        (b"HTTP/1.1 200 x\r\n" + b"a" * MAX_CONNECT_HEAD, "does not answer like an HTTP proxy"),
        (b"HTTP/1.1 200 x\r\n\r\n\x16", "sent bytes that nobody asked for"),
    ],
)
def test_a_proxy_that_says_no(answer: bytes, words: str) -> None:
    with pytest.raises(ProxyRefused) as caught:
        begun("http://user:secret@p").receive(answer)
    assert words in str(caught.value)
    assert "secret" not in str(caught.value)
    assert str(caught.value).isprintable()


def test_central_that_is_down_behind_a_proxy_is_dialled_again_soon() -> None:
    with pytest.raises(TargetAbsent) as caught:
        begun("http://p").receive(b"HTTP/1.1 503 x\r\n\r\n")
    assert is_absence(caught.value)
    with pytest.raises(ProxyRefused) as refused:
        begun("http://p").receive(b"HTTP/1.1 407 x\r\n\r\n")
    assert not is_absence(refused.value)


def test_a_name_that_dns_cannot_know() -> None:
    with pytest.raises(ProxyRefused, match="is no name"):
        begun("http://p", "ü" * 70)


IPV4_BOUND = b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x50"


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("central.example", b"\x03\x0fcentral.example"),
        ("192.0.2.1", b"\x01\xc0\x00\x02\x01"),
        ("::1", b"\x04" + b"\x00" * 15 + b"\x01"),
    ],
)
@pytest.mark.parametrize(
    "bound",
    [IPV4_BOUND, b"\x05\x00\x00\x03\x01a\x00\x50", b"\x05\x00\x00\x04" + b"\x00" * 18],
)
def test_socks_connects_by_name_or_address(host: str, address: bytes, bound: bytes) -> None:
    talk = begun("socks5://p", host)
    assert talk.begin() == b"\x05\x01\x00"
    assert talk.receive(b"\x05") == b""
    assert talk.receive(b"\x00") == b"\x05\x01\x00" + address + b"\x20\xfb"
    assert talk.receive(bound[:4]) == b""
    assert talk.receive(bound[4:-1]) == b""
    assert talk.receive(bound[-1:]) is None


def test_socks_with_a_password() -> None:
    talk = begun("socks5h://u:p%40@p")
    assert talk.begin() == b"\x05\x01\x02"
    assert talk.receive(b"\x05\x02") == b"\x01\x01u\x02p@"
    assert talk.receive(b"\x01") == b""
    assert (talk.receive(b"\x00") or b"").startswith(b"\x05\x01\x00\x03")
    assert talk.receive(IPV4_BOUND) is None


@pytest.mark.parametrize(
    ("url", "answers", "words"),
    [
        ("socks5://p", [b"HT"], "does not answer like a SOCKS 5 proxy"),
        ("socks5://p", [b"\x05\xff"], "wants another authentication"),
        ("socks5://p", [b"\x05\x02"], "wants another authentication"),
        ("socks5://u:secret@p", [b"\x05\x00"], "wants another authentication"),
        ("socks5://u:secret@p", [b"\x05\x02", b"\x01\x01"], "refused user and password"),
        ("socks5://p", [b"\x05\x00", b"\x05\x02\x00\x01\x00"], "answered 'not allowed'"),
        ("socks5://p", [b"\x05\x00", b"\x05\x63\x00\x01\x00"], "answered 'error 99'"),
        ("socks5://p", [b"\x05\x00", IPV4_BOUND + b"x"], "sent bytes that nobody asked for"),
    ],
)
def test_a_socks_proxy_that_says_no(url: str, answers: list[bytes], words: str) -> None:
    talk = begun(url)
    with pytest.raises(ProxyRefused) as caught:  # noqa: PT012
        for answer in answers:
            talk.receive(answer)
    assert words in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_refused_connection_behind_socks_is_absence() -> None:
    talk = begun("socks5://p")
    talk.receive(b"\x05\x00")
    with pytest.raises(TargetAbsent, match="connection refused"):
        talk.receive(b"\x05\x05\x00\x01\x00")


def test_a_name_that_socks_cannot_carry() -> None:
    with pytest.raises(ProxyRefused, match="is no name"):
        handshake(Proxy("socks5", "p", 1), "a" * 300, 1).receive(b"\x05\x00")
