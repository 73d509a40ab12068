"""The calls themselves: what is tried again, what is not, and how failures are told."""

import http.client
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from mk8s_cli.central import connection, transport
from mk8s_cli.central.connection import Deadline
from mk8s_cli.central.transport import Transport, trusting
from mk8s_cli.terminal.errors import CliError, Refused, Unreachable, UntrustedCertificate
from tests.cli.fake_central import FakeCentral


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long it would have slept."""
    slept: list[float] = []
    monkeypatch.setattr("mk8s_cli.central.transport.time.sleep", slept.append)
    return slept


@pytest.fixture
def caller(central: FakeCentral) -> Transport:
    return Transport(central.url, trusting(central.authority_pem))


def test_get_is_tried_again_after_a_passing_failure(
    caller: Transport, central: FakeCentral, pauses: list[float]
) -> None:
    central.overrides["GET /x"] = [(503, ""), (502, ""), (200, {"a": 1})]
    assert caller.call("GET", "/x").body == b'{"a": 1}'
    assert len(pauses) == 2
    assert all(0 <= pause <= 0.8 for pause in pauses)


def test_get_gives_up_with_the_last_answer(caller: Transport, central: FakeCentral) -> None:
    status = {"kind": "Status", "message": "not now\nplease", "code": 503}
    central.overrides["GET /x"] = [(503, status)] * 9
    with pytest.raises(Refused, match=r"^not now please$") as refused:
        caller.call("GET", "/x")
    assert refused.value.code == 503
    assert central.count("GET", "/x") == 3


@pytest.mark.parametrize("code", [400, 401, 403, 404, 409, 422, 500])
def test_get_is_not_repeated_for_a_final_answer(
    caller: Transport, central: FakeCentral, code: int
) -> None:
    central.overrides["GET /x"] = [(code, "<html>")]
    with pytest.raises(Refused, match=f"central answered {code}"):
        caller.call("GET", "/x")
    assert central.count("GET", "/x") == 1


def test_post_that_was_answered_is_never_repeated(caller: Transport, central: FakeCentral) -> None:
    central.overrides["POST /x"] = [(503, "")]
    with pytest.raises(Refused):
        caller.call("POST", "/x", payload={})
    assert central.count("POST", "/x") == 1


def refusing(count: int, monkeypatch: pytest.MonkeyPatch, error: OSError) -> list[int]:
    """Let the first `count` connections fail."""
    tried: list[int] = []
    real = Transport._exchange

    def exchange(self: Transport, *words: object) -> transport.Answer:
        tried.append(1)
        if len(tried) <= count:
            raise error
        return real(self, *words)  # type: ignore[arg-type]

    monkeypatch.setattr(Transport, "_exchange", exchange)
    return tried


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    "error", [ConnectionRefusedError(111, "refused"), socket.gaierror(-3, "x")]
)
def test_connection_that_was_never_made_is_tried_again(
    caller: Transport,
    central: FakeCentral,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    error: OSError,
) -> None:
    central.overrides[f"{method} /x"] = [(200, {})]
    tried = refusing(2, monkeypatch, error)
    assert caller.call(method, "/x").code == 200
    assert len(tried) == 3


def test_post_whose_connection_broke_is_not_repeated(
    caller: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = refusing(1, monkeypatch, ConnectionResetError(104, "Connection reset by peer"))
    with pytest.raises(Unreachable, match="connection reset by peer; check the address"):
        caller.call("POST", "/x")
    assert len(tried) == 1


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (TimeoutError("timed out"), "no answer within 15 s"),
        (socket.gaierror(-2, "Name or service not known"), "the name is not known"),
        (ssl.SSLError(1, "[SSL] wrong version"), "TLS failed"),
    ],
)
def test_cause_is_told(
    caller: Transport, monkeypatch: pytest.MonkeyPatch, error: OSError, told: str
) -> None:
    refusing(9, monkeypatch, error)
    with pytest.raises(Unreachable, match=told):
        caller.call("GET", "/x")


def verification(code: int) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_code = code
    error.verify_message = "some reason\n"
    return error


@pytest.mark.parametrize(
    ("code", "told", "kind"),
    [
        (9, "not valid yet by this machine's clock", Unreachable),
        (10, "expired by this machine's clock", Unreachable),
        (62, "is for other names", Unreachable),
        (64, "is for other names", Unreachable),
        (19, "not signed by an authority trusted here", UntrustedCertificate),
        (24, "is refused: some reason", Unreachable),
    ],
)
def test_certificate_that_does_not_verify_is_told_apart(
    caller: Transport,
    monkeypatch: pytest.MonkeyPatch,
    code: int,
    told: str,
    kind: type[Unreachable],
) -> None:
    tried = refusing(9, monkeypatch, verification(code))
    with pytest.raises(kind, match=told) as refused:
        caller.call("GET", "/x")
    assert type(refused.value) is kind
    assert len(tried) == 1


def test_authority_of_another_is_not_trusted(central: FakeCentral) -> None:
    other = FakeCentral().authority_pem
    for authority in (other, ""):
        with pytest.raises(UntrustedCertificate):
            Transport(central.url, trusting(authority)).call("GET", "/ca.pem")


def test_redirect_is_not_followed(caller: Transport, central: FakeCentral) -> None:
    central.overrides["GET /x"] = [(302, "")]
    with pytest.raises(Refused, match="302"):
        caller.call("GET", "/x", token="secret")
    assert len(central.calls) == 1


def test_endless_answer_is_cut(
    caller: Transport, central: FakeCentral, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "MAX_ANSWER_BYTES", 10)
    central.overrides["GET /x"] = [(200, "x" * 11)] * 3
    with pytest.raises(Unreachable, match="more than 10 bytes"):
        caller.call("GET", "/x")


def test_retry_after_is_heard_but_bounded(pauses: list[float]) -> None:
    def after(value: str) -> float | None:
        return transport._retry_after(transport.Answer(503, {"retry-after": value}, b""))

    assert after("3") == 3.0
    for value in ("", "soon", "-1", "9" * 9, "\N{SUPERSCRIPT TWO}"):
        assert after(value) is None


def test_a_wait_beyond_our_own_is_told_instead_of_waited(
    caller: Transport, central: FakeCentral, pauses: list[float]
) -> None:
    central.headers["Retry-After"] = "60"
    central.overrides["GET /x"] = [(503, "")] * 3
    with pytest.raises(Refused) as refused:
        caller.call("GET", "/x")
    assert (refused.value.retry_after, pauses) == (60.0, [])
    assert central.count("GET", "/x") == 1
    central.headers["Retry-After"] = "3"
    with pytest.raises(Refused):
        caller.call("GET", "/x")
    assert pauses == [3.0, 3.0]


def test_all_tries_share_one_deadline(
    caller: Transport, monkeypatch: pytest.MonkeyPatch, pauses: list[float]
) -> None:
    """A peer that takes the connection and says nothing: one limit, not one per try."""
    now = [1000.0]
    monkeypatch.setattr("mk8s_cli.central.connection.time.monotonic", lambda: now[0])
    tried: list[float] = []

    def silent(self: Transport, *words: object) -> transport.Answer:
        deadline = words[-1]
        assert isinstance(deadline, Deadline)
        tried.append(deadline.left())
        now[0] += deadline.left()
        raise TimeoutError("timed out")

    monkeypatch.setattr(Transport, "_exchange", silent)
    with pytest.raises(Unreachable, match="no answer within 15 s"):
        caller.call("GET", "/x")
    assert tried == [15.0]
    assert pauses == []


def test_addresses_share_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name with a dead address first is reached by its second one, within the same time."""
    now, given = [0.0], list[float]()
    monkeypatch.setattr("mk8s_cli.central.connection.time.monotonic", lambda: now[0])

    def connect(address: connection.Address, seconds: float) -> socket.socket:
        given.append(seconds)
        now[0] += seconds
        raise TimeoutError(f"{address[4][0]} is silent")

    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (f"192.0.2.{n}", 1)) for n in (1, 2, 3)]
    monkeypatch.setattr(connection, "_resolve", lambda *_: found)
    monkeypatch.setattr(connection, "_connect", connect)
    with pytest.raises(TimeoutError):
        connection._dial("central.example", 1, Deadline(15.0))
    assert given == [5.0, 5.0, 5.0]


def test_a_name_server_that_is_silent_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: over.wait(30))
    try:
        with pytest.raises(TimeoutError, match="not resolved in time"):
            connection._resolve("central.example", 1, Deadline(0.05))
    finally:
        over.set()


def test_a_name_that_is_none_is_one_line() -> None:
    with pytest.raises(Unreachable, match="the name is not known"):
        Transport(f"https://{'a' * 64}.example", trusting(), tries=1).call("GET", "/x")


def test_an_answer_that_drips_is_cut_at_the_deadline() -> None:
    """Each byte comes in time, all of them do not."""
    sender, receiver = socket.socketpair()
    with closing(sender), closing(receiver):
        reader = connection._TimedSocket(receiver, Deadline(0.2)).makefile("rb")
        over = threading.Event()

        def drip() -> None:
            while not over.wait(0.02):
                sender.sendall(b"x")

        thread = threading.Thread(target=drip)
        thread.start()
        try:
            with pytest.raises(TimeoutError):
                reader.read(1000)
        finally:
            over.set()
            thread.join(10)
            reader.close()


def test_repeatable_post_is_tried_again_like_a_get(caller: Transport, central: FakeCentral) -> None:
    central.overrides["POST /x"] = [(503, ""), (200, {"a": 1})]
    assert caller.call("POST", "/x", payload={}, repeatable=True).body == b'{"a": 1}'


@contextmanager
def listening(answer: bytes, heard: list[bytes]) -> Iterator[int]:
    """A plain TCP server that hears one request line and answers."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                heard.append(connection.recv(4096))
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        thread.join(10)


def test_something_that_speaks_no_tls_is_one_line() -> None:
    with listening(b"SSH-2.0-OpenSSH\r\n", []) as port, pytest.raises(Unreachable, match="TLS"):
        Transport(f"https://127.0.0.1:{port}", trusting(), tries=1).call("GET", "/x")


def test_egress_proxy_is_used_where_go_would(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[bytes] = []
    with listening(b"HTTP/1.1 403 no\r\n\r\n", heard) as port:
        monkeypatch.setenv("HTTPS_PROXY", f"127.0.0.1:{port}")
        with pytest.raises(Unreachable, match="403"):
            Transport("https://central.example:8443", trusting(), tries=1).call("GET", "/x")
    assert heard[0].startswith(b"CONNECT central.example:8443 HTTP/1.")
    assert b"Proxy-Authorization" not in heard[0]
    assert transport._egress_proxy("127.0.0.1", 443) is None
    assert transport._egress_proxy("localhost", 443) is None
    monkeypatch.setenv("NO_PROXY", ".example,10.0.0.0/8")
    assert transport._egress_proxy("central.example", 443) is None
    assert transport._egress_proxy("10.1.2.3", 443) is None
    assert transport._egress_proxy("11.1.2.3", 443) is not None


def test_credentials_of_the_proxy_go_to_the_proxy_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[bytes] = []
    with listening(b"HTTP/1.1 407 who are you\r\n\r\n", heard) as port:
        monkeypatch.setenv("HTTPS_PROXY", f"http://u:p%40@127.0.0.1:{port}")
        with pytest.raises(Unreachable, match="407 who are you") as caught:
            Transport("https://central.example:8443", trusting(), tries=1).call("GET", "/x")
    assert b"\r\nProxy-Authorization: Basic dTpwQA==\r\n" in heard[0]
    assert "p@" not in str(caught.value)


def test_a_proxy_that_is_none_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://u:secret@p:x")
    with pytest.raises(CliError, match="HTTPS_PROXY must look like") as caught:
        Transport("https://central.example", trusting()).call("GET", "/x")
    assert "secret" not in str(caught.value)


def test_proxy_of_another_kind_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "socks5://127.0.0.1:1")
    with pytest.raises(CliError, match="HTTPS_PROXY must look like"):
        Transport("https://central.example", trusting()).call("GET", "/x")


def test_answer_that_is_no_http(central: FakeCentral, monkeypatch: pytest.MonkeyPatch) -> None:
    def strange(*_: object) -> None:
        raise http.client.BadStatusLine("x")

    monkeypatch.setattr("http.client.HTTPSConnection.getresponse", strange)
    with pytest.raises(Unreachable, match="not http"):
        Transport(central.url, trusting(central.authority_pem)).call("POST", "/x")
