"""The listener that a browser comes back to: what it takes, and what it lets pass by."""

import http.client
import socket
import threading
from collections.abc import Iterator

import pytest

from mk8s_cli.login import loopback
from mk8s_cli.login.loopback import Callback, Loopback
from mk8s_cli.terminal.errors import CliError

STATE = "the-state-of-this-login"
RIGHT = f"/callback?code=c1&state={STATE}&iss=https%3A%2F%2Fmk8s.example.com"


@pytest.fixture
def listener() -> Iterator[Loopback]:
    with Loopback(STATE) as listening:
        yield listening


def get(
    listener: Loopback, path: str, *, host: str = "", method: str = "GET"
) -> tuple[int, str, http.client.HTTPMessage]:
    connection = http.client.HTTPConnection(listener.host, timeout=10)
    connection.request(method, path, headers={"Host": host} if host else {})
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    return answer.status, body, answer.headers


def is_waiting(listener: Loopback) -> bool:
    """Whether nothing has been taken yet: the right answer still is."""
    with pytest.raises(CliError):
        listener.wait(0)
    return True


def test_the_right_answer_is_taken_and_the_page_says_so(listener: Loopback) -> None:
    status, body, headers = get(listener, RIGHT)
    assert (status, "You may close this window" in body) == (200, True)
    assert listener.wait(5) == Callback("c1", "", "", "https://mk8s.example.com")
    assert headers["Cache-Control"] == "no-store"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert "default-src 'none'" in headers["Content-Security-Policy"]


def test_it_listens_on_this_machine_only_on_a_free_port(listener: Loopback) -> None:
    host, port = listener.host.split(":")
    assert host == "127.0.0.1"
    assert listener.redirect_uri == f"http://127.0.0.1:{port}/callback"
    with Loopback("other") as other:
        assert other.host != listener.host


@pytest.mark.parametrize(
    "path",
    [
        "/callback",
        "/callback?code=c1",
        "/callback?code=c1&state=",
        "/callback?code=c1&state=another",
        f"/callback?code=c1&state={STATE}x",
        f"/callback?code=c1&state={STATE}&state={STATE}",
        f"/callback?code=c1&code=c2&state={STATE}",
        f"/callback?state={STATE}&code={'c' * 5000}",
        f"/callback?state={STATE}&" + "&".join(f"x{number}=1" for number in range(20)),
        "/callback?error=access_denied&state=another",
    ],
)
def test_attack_a_foreign_code_or_a_wrong_state(listener: Loopback, path: str) -> None:
    status, body, _ = get(listener, path)
    assert (status, "belongs to no login" in body) == (400, True)
    assert is_waiting(listener)
    assert get(listener, RIGHT)[0] == 200
    assert listener.wait(5).code == "c1"


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost:{port}", "127.0.0.1", "127.0.0.1:1", "[::1]:{port}"]
)
def test_attack_dns_rebinding(listener: Loopback, host: str) -> None:
    port = listener.host.rpartition(":")[2]
    status, _, _ = get(listener, RIGHT, host=host.format(port=port))
    assert status == 421
    assert is_waiting(listener)


@pytest.mark.parametrize(
    "path",
    [
        "/", "/favicon.ico", "/callback/", "/Callback", "/x/../callback", "/callback%2F",
        f"//evil.example{RIGHT}",
    ],
)  # fmt: skip
def test_only_the_one_path_counts(listener: Loopback, path: str) -> None:
    query = RIGHT.partition("?")[2]
    where = path if "?" in path else f"{path}?{query}"
    assert get(listener, where)[0] == 404
    assert is_waiting(listener)


def test_attack_the_answer_of_a_form_of_another_page(listener: Loopback) -> None:
    for method in ("POST", "PUT", "OPTIONS", "HEAD"):
        assert get(listener, RIGHT, method=method)[0] == 501
    assert is_waiting(listener)


def test_attack_a_second_request_after_success(listener: Loopback) -> None:
    assert get(listener, RIGHT)[0] == 200
    status, body, _ = get(listener, RIGHT.replace("c1", "c2"))
    assert (status, "This login is over" in body) == (410, True)
    assert listener.wait(5).code == "c1"
    listener.close()
    with pytest.raises(OSError, match="refused"):
        get(listener, RIGHT)


def test_attack_markup_in_what_the_browser_brings(listener: Loopback) -> None:
    path = f"/callback?error=%3Cscript%3E&error_description=%3Cscript%3E&state={STATE}"
    status, body, _ = get(listener, path)
    assert (status, "script" in body) == (400, False)
    assert "You may close this window" in body
    assert listener.wait(5).error == "<script>"


def test_attack_connections_that_say_nothing(listener: Loopback) -> None:
    """Browsers open some in advance; a program that opens more keeps nobody else out for long."""
    port = int(listener.host.rpartition(":")[2])
    silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(3)]
    assert get(listener, RIGHT)[0] == 200
    for connection in silent:
        connection.close()


def test_attack_more_connections_than_there_are_places(
    listener: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = int(listener.host.rpartition(":")[2])
    silent = [
        socket.create_connection(("127.0.0.1", port)) for _ in range(loopback.MOST_CONNECTIONS)
    ]
    refused = socket.create_connection(("127.0.0.1", port))
    refused.settimeout(10)
    assert refused.recv(1) == b"", "closed at once"
    refused.close()
    for connection in silent:
        connection.close()
    taken = threading.Event()

    def knock() -> None:
        while not taken.is_set():
            try:
                if get(listener, RIGHT)[0] in {200, 410}:
                    taken.set()
            except (OSError, http.client.HTTPException):
                continue  # their places are given back in a moment

    thread = threading.Thread(target=knock)
    thread.start()
    assert listener.wait(30).code == "c1"
    taken.set()
    thread.join()


def test_a_browser_that_leaves_before_its_page_is_no_loss(listener: Loopback) -> None:
    port = int(listener.host.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port)) as gone:
        gone.sendall(f"GET {RIGHT} HTTP/1.1\r\nHost: {listener.host}\r\n\r\n".encode())
    assert listener.wait(10).code == "c1"


def test_nobody_comes(listener: Loopback) -> None:
    with pytest.raises(CliError, match=r"nobody came back from the page .* --device"):
        listener.wait(0)


def test_no_port_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(loopback._Server, "server_bind", fail)
    with pytest.raises(CliError, match=r"Permission denied\): log in with --device"):
        Loopback(STATE)
