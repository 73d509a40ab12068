"""Logging in at an issuer: which way is taken, in the browser, and by a code."""

import os
import signal
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
import webbrowser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from mk8s_cli.central import certificate
from mk8s_cli.login import browser, methods, single_sign_on
from mk8s_cli.login.methods import Issuer, Methods, Wish
from mk8s_cli.terminal import screen as terminal
from mk8s_cli.terminal.errors import CliError
from tests.cli.conftest import CHECKOUT, Result, Run
from tests.cli.fake_central import EMAIL, PASSWORD, FakeCentral
from tests.cli.fake_sso import ACME, FakeSso, error

OTHER = {"name": "other", "title": "The \x1b[31mOther"}
OFFERED = Methods(True, (Issuer("acme", "Acme"),), device=True)
SlowLog = list[float]


@pytest.fixture
def sso(central: FakeCentral) -> FakeSso:
    central.sso = FakeSso()
    return central.sso


@pytest.fixture
def pin(central: FakeCentral) -> tuple[str, ...]:
    return "login", central.url, "--ca-pin", certificate.pin(central.authority_pem)


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> SlowLog:
    """The waits between polls, which are not waited; the clock goes on by them."""
    slept: SlowLog = []
    clock = SimpleNamespace(sleep=slept.append, monotonic=lambda: sum(slept))
    monkeypatch.setattr(single_sign_on, "time", clock)
    return slept


def visit(central: FakeCentral, url: str) -> bool:
    """Be the browser: follow where one is sent."""
    trust = ssl.create_default_context(cadata=central.authority_pem)
    try:
        with urllib.request.urlopen(url, timeout=20, context=trust) as answer:
            return bool(answer.read())
    except urllib.error.HTTPError:
        return True


@pytest.fixture
def opened(central: FakeCentral, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A desk with a browser; the pages that it showed."""
    shown: list[str] = []

    def show(url: str) -> bool:
        shown.append(url)
        return visit(central, url)

    monkeypatch.setattr(webbrowser, "open", show)
    monkeypatch.setattr(browser, "is_here", lambda: True)
    monkeypatch.setattr(terminal, "is_interactive", lambda: True)
    return shown


# Which way.


@pytest.mark.parametrize(
    ("offered", "wish", "way"),
    [
        (Methods(), Wish(), "password"),
        (Methods(), Wish(can_browse=True), "password"),
        (OFFERED, Wish(can_browse=True), "browser"),
        (OFFERED, Wish(), "device"),
        (Methods(True, OFFERED.issuers), Wish(), "browser"),
        (OFFERED, Wish(is_single_sign_on=False, can_browse=True), "password"),
        (OFFERED, Wish(is_single_sign_on=True, can_browse=True), "browser"),
        (Methods(False, OFFERED.issuers), Wish(is_single_sign_on=False), "browser"),
        (OFFERED, Wish("password", can_browse=True), "password"),
        (OFFERED, Wish("device", can_browse=True, has_person=False), "device"),
        (OFFERED, Wish("browser", has_person=False), "browser"),
    ],
)
def test_the_way_is_what_central_offers_and_the_terminal_can(
    offered: Methods, wish: Wish, way: str
) -> None:
    assert methods.choose(offered, wish) == way


@pytest.mark.parametrize(
    ("offered", "wish", "told"),
    [
        (Methods(False), Wish(), "central takes no passwords"),
        (Methods(False), Wish("password"), "central takes no passwords"),
        (Methods(), Wish("browser"), "no single sign-on: log in with --password"),
        (Methods(), Wish("device"), "no single sign-on"),
        (Methods(True, OFFERED.issuers), Wish("device"), "no login by a code"),
        (OFFERED, Wish(can_browse=True, has_person=False), "there is no terminal to log in at"),
    ],
)
def test_where_there_is_no_way_one_line_says_so(offered: Methods, wish: Wish, told: str) -> None:
    with pytest.raises(CliError, match=told):
        methods.choose(offered, wish)


@pytest.mark.parametrize(
    ("environment", "platform", "is_here"),
    [
        ({}, "linux", False),
        ({"DISPLAY": ":0"}, "linux", True),
        ({"WAYLAND_DISPLAY": "wayland-0"}, "linux", True),
        ({"BROWSER": "firefox"}, "linux", True),
        ({"DISPLAY": ":10", "SSH_CONNECTION": "192.0.2.1 1 192.0.2.2 22"}, "linux", False),
        ({"BROWSER": "lynx", "SSH_TTY": "/dev/pts/1"}, "linux", False),
        ({}, "darwin", True),
        ({}, "win32", True),
        ({"SSH_CLIENT": "192.0.2.1 1 22"}, "darwin", False),
    ],
)
def test_whether_a_browser_is_here(
    environment: dict[str, str], platform: str, is_here: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER", *browser._REMOTE):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(browser.sys, "platform", platform)
    assert browser.is_here() is is_here


def test_an_older_central_is_asked_for_a_password(
    run: Run, central: FakeCentral, pin: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terminal, "is_interactive", lambda: True)
    monkeypatch.setattr(terminal, "ask", lambda _: EMAIL)
    monkeypatch.setattr("getpass.getpass", lambda *_, **__: PASSWORD)
    assert run(*pin).code == 0
    assert (central.count("GET", "/auth/methods"), central.count("POST", "/auth/login")) == (1, 1)
    assert "no single sign-on" in run("login", "--browser").line


def test_a_job_without_a_terminal_is_told_what_it_could_do(
    run: Run, sso: FakeSso, pin: tuple[str, ...], central: FakeCentral
) -> None:
    told = run(*pin).line
    assert "there is no terminal to log in at" in told
    assert "--federated or a service token (MK8S_TOKEN)" in told
    assert central.count("POST", "/auth/device") == 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--browser", "--device"), "--browser and --device exclude each other"),
        (("--password", "--federated"), "--password and --federated exclude each other"),
        (("--device", "--email", EMAIL), "are of no use with --device"),
        (("--issuer", "acme", "--password"), "--issuer is for --browser and --device"),
        (("--issuer", "acme", "--email", EMAIL), "--issuer is for --browser and --device"),
        (("--issuer", "A/B"), "use a-z, 0-9"),
        (("--audience", "x"), "need --federated"),
        (("--token-variable", "X"), "need --federated"),
        (("--federated", "--token-file", "x", "--token-variable", "X"), "exclude each other"),
    ],
)
def test_options_that_do_not_go_together(run: Run, words: tuple[str, ...], told: str) -> None:
    result = run("login", "https://127.0.0.1:1", *words)
    assert (result.code, told in result.err) == (2, True), result.err


# In the browser.


def test_a_login_in_the_browser(
    run: Run,
    central: FakeCentral,
    sso: FakeSso,
    pin: tuple[str, ...],
    opened: list[str],
    home: Path,
) -> None:
    result = run(*pin)
    assert result.code == 0, result.err
    assert f"logged in to {central.url} as {EMAIL}" in result.out
    (page,) = opened
    assert page.startswith(
        f"{central.url}/auth/sso/start?issuer=acme&redirect_uri=http%3A%2F%2F127"
    )
    assert page in result.err.splitlines(), "alone on its line, for copying"
    body = central.body("POST", "/auth/sso/token")
    assert body["redirect_uri"].startswith("http://127.0.0.1:")
    assert 43 <= len(body["code_verifier"]) <= 128
    assert body["code_verifier"] not in page
    stored = yaml.safe_load((home / ".mk8s" / "config.yaml").read_text())["centrals"][0]
    assert (stored["source"], stored["issuer"]) == ("sso", "acme")
    assert central.refresh_token in (home / ".mk8s" / "credentials.json").read_text()
    assert run("get-token", "--cluster", "dev", "-o", "token").out.startswith("access-dev-")


def test_a_login_that_is_over_says_the_command_for_the_same_one(
    run: Run, central: FakeCentral, sso: FakeSso, pin: tuple[str, ...], opened: list[str]
) -> None:
    run(*pin)
    central.refresh_token = ""
    told = f"run: mk8s login {central.url} --issuer acme"
    assert run("get-token", "--cluster", "dev").line.endswith(told)
    assert run("logout").code == 0
    assert run("status").line.endswith(told)
    sso.issuers = [ACME, OTHER]
    assert run("login").code == 0, "the issuer of last time is taken again, nobody is asked"
    assert "issuer=acme" in opened[-1]


def test_a_password_of_last_time_is_asked_for_again(
    run: Run, central: FakeCentral, logged_in: Result, monkeypatch: pytest.MonkeyPatch
) -> None:
    central.sso = FakeSso()
    monkeypatch.setattr(terminal, "is_interactive", lambda: True)
    monkeypatch.setattr(terminal, "ask", lambda _: "")
    monkeypatch.setattr("getpass.getpass", lambda *_, **__: PASSWORD)
    assert run("login").code == 0
    assert central.count("POST", "/auth/login") == 2


def test_who_signs_in_at_an_issuer_has_no_password_here(
    run: Run, sso: FakeSso, pin: tuple[str, ...], opened: list[str]
) -> None:
    run(*pin)
    assert "you sign in at an issuer" in run("passwd").line


def test_of_several_issuers_one_is_chosen(
    run: Run,
    sso: FakeSso,
    pin: tuple[str, ...],
    opened: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sso.issuers = [ACME, OTHER]
    monkeypatch.setattr(terminal, "ask", lambda _: "other")
    result = run(*pin)
    assert result.code == 0
    assert "issuers: acme (Acme), other (The \\x1b[31mOther)" in result.err
    assert "issuer=other" in opened[-1]
    assert run("login", "--issuer", "acme").code == 0
    assert "issuer=acme" in opened[-1]
    assert "has no issuer 'none'; it has: acme" in run("login", "--issuer", "none").line
    monkeypatch.setattr(terminal, "ask", lambda _: "")
    assert run("login").code == 0, "the one of last time"
    monkeypatch.setattr(terminal, "is_interactive", lambda: False)
    assert run("login", "--browser").code == 0


def test_of_several_issuers_none_is_guessed(
    run: Run, sso: FakeSso, pin: tuple[str, ...], opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sso.issuers = [ACME, OTHER]
    monkeypatch.setattr(terminal, "ask", lambda _: "")
    assert run(*pin).err.splitlines()[-1].endswith("no issuer was chosen: add --issuer NAME")
    monkeypatch.setattr(terminal, "is_interactive", lambda: False)
    told = run(*pin, "--browser").line
    assert "add --issuer NAME, one of: acme (Acme), other" in told
    assert opened == []


def test_a_refusal_is_one_line(
    run: Run, central: FakeCentral, sso: FakeSso, pin: tuple[str, ...], opened: list[str]
) -> None:
    sso.refusal = {"error": "access_denied", "error_description": "not\n\x1b[31min the group"}
    last = run(*pin).err.splitlines()[-1]
    assert last == "mk8s: the login was refused: not \\x1b[31min the group"
    sso.refusal = {"error": "server_error"}
    assert run(*pin).err.splitlines()[-1] == "mk8s: the login was refused: server_error"
    sso.refusal = {"code": ""}
    assert run(*pin).err.splitlines()[-1].endswith("it holds no code")
    assert central.count("POST", "/auth/sso/token") == 0


@pytest.mark.parametrize("iss", ["", "https://evil.example", "https://127.0.0.1", "\x1b[2J"])
def test_attack_a_mixed_up_issuer(
    run: Run,
    central: FakeCentral,
    sso: FakeSso,
    pin: tuple[str, ...],
    opened: list[str],
    iss: str,
) -> None:
    sso.iss = iss
    last = run(*pin).err.splitlines()[-1]
    assert "the answer is refused: it is from" in last
    assert "\x1b" not in last
    assert central.count("POST", "/auth/sso/token") == 0


def test_centrals_address_in_another_spelling_is_central(
    run: Run, central: FakeCentral, sso: FakeSso, pin: tuple[str, ...], opened: list[str]
) -> None:
    sso.iss = f"{central.url.upper().replace('HTTPS', 'https')}/"
    assert run(*pin).code == 0


def test_attack_a_code_that_is_none(
    run: Run, central: FakeCentral, sso: FakeSso, pin: tuple[str, ...], opened: list[str]
) -> None:
    for code in ("a b", "c" * 3000):
        sso.refusal = {"code": code}
        assert run(*pin).err.splitlines()[-1].endswith("the code is none")
    assert central.count("POST", "/auth/sso/token") == 0


def test_attack_the_answer_names_nobody(
    run: Run,
    central: FakeCentral,
    sso: FakeSso,
    pin: tuple[str, ...],
    opened: list[str],
    home: Path,
) -> None:
    central.email = "\x1b[2J"
    assert run(*pin).err.splitlines()[-1].endswith("it names nobody")
    assert not (home / ".mk8s" / "config.yaml").exists()


@pytest.mark.parametrize("name", ["", "A", "a/b", "\x1b[2J", None])
def test_attack_an_issuer_whose_name_is_none(
    run: Run, sso: FakeSso, pin: tuple[str, ...], opened: list[str], name: Any
) -> None:
    sso.issuers = [{"name": name, "title": "x"}]
    assert run(*pin).line.endswith("an issuer has no plain name")
    assert opened == []


def test_methods_of_another_shape_offer_nothing(
    run: Run, central: FakeCentral, sso: FakeSso, pin: tuple[str, ...], opened: list[str]
) -> None:
    for strange in ({"issuers": "x"}, {"issuers": ["x"]}, {"issuers": None, "device": "yes"}):
        central.overrides["GET /auth/methods"] = [(200, strange)]
        assert "no single sign-on" in run(*pin, "--device").line


def test_a_central_that_cannot_say_what_it_offers_is_not_taken_for_an_older_one(
    run: Run, central: FakeCentral, sso: FakeSso, pin: tuple[str, ...], opened: list[str]
) -> None:
    central.overrides["GET /auth/methods"] = [error(500, "internal error")]
    assert run(*pin).line == "mk8s: internal error"
    assert (central.count("POST", "/auth/login"), opened) == (0, [])


def test_a_browser_that_cannot_be_opened_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: str) -> bool:
        raise webbrowser.Error("could not locate runnable browser")

    for broken in (lambda _: False, fail):
        monkeypatch.setattr(webbrowser, "open", broken)
        browser._open("https://mk8s.example.com")
        assert "open the page yourself, or log in with --device" in capsys.readouterr().err


def test_over_ssh_nothing_is_opened(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SSH_TTY", "/dev/pts/1")
    monkeypatch.setattr(webbrowser, "open", lambda _: pytest.fail("a browser was opened"))
    browser.show("https://mk8s.example.com/page")
    assert capsys.readouterr().err.splitlines()[1] == "https://mk8s.example.com/page"


BROWSER = """
import os, ssl, sys, urllib.request
trust = ssl.create_default_context(cafile=os.environ["TEST_CA"])
page = urllib.request.urlopen(sys.argv[1], timeout=20, context=trust).read().decode()
open(os.environ["TEST_PAGE"], "w").write(page)
"""


def desk(central: FakeCentral, folder: Path, program: str) -> dict[str, str]:
    """The environment of a desk whose $BROWSER runs `program` with the page."""
    (folder / "browser.py").write_text(program)
    (folder / "ca.pem").write_text(central.authority_pem)
    remote = {"SSH_CONNECTION", "SSH_CLIENT", "SSH_TTY"}
    return {
        **{key: value for key, value in os.environ.items() if key not in remote},
        "BROWSER": f"{sys.executable} {folder / 'browser.py'} %s",
        "TEST_CA": str(folder / "ca.pem"),
        "TEST_PAGE": str(folder / "page.html"),
        "TEST_MARK": str(folder / "mark"),
    }


def command(central: FakeCentral) -> list[str]:
    pin = certificate.pin(central.authority_pem)
    return [sys.executable, "-m", "mk8s_cli", "login", central.url, "--ca-pin", pin, "--browser"]


def test_the_program_runs_the_browser_of_the_environment(
    central: FakeCentral, sso: FakeSso, home: Path
) -> None:
    done = subprocess.run(
        command(central),
        env=desk(central, home, BROWSER),
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert f"as {EMAIL}" in done.stdout
    assert "You may close this window" in (home / "page.html").read_text()


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_ctrl_c_ends_the_waiting_cleanly(central: FakeCentral, sso: FakeSso, home: Path) -> None:
    program = 'import os; open(os.environ["TEST_MARK"], "w").close()'
    with subprocess.Popen(
        command(central),
        env=desk(central, home, program),
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as waiting:
        while not (home / "mark").exists():
            assert waiting.poll() is None
            time.sleep(0.05)
        waiting.send_signal(signal.SIGINT)
        out, err = waiting.communicate(timeout=30)
    assert waiting.returncode == 1
    assert (out, err.splitlines()[-1]) == ("", "mk8s: stopped")
    assert "Traceback" not in err
    assert not (home / ".mk8s" / "config.yaml").exists()


# By a code.


def test_a_login_by_a_code(
    run: Run, central: FakeCentral, sso: FakeSso, pin: tuple[str, ...], slept: SlowLog
) -> None:
    sso.polls = ["authorization_pending", "slow_down", "authorization_pending"]
    result = run(*pin, "--device")
    assert result.code == 0, result.err
    lines = result.err.splitlines()
    assert f"{central.url}/auth/device" in lines
    assert "BCDF-GHJK" in lines
    assert f"{central.url}/auth/device?user_code=BCDF-GHJK" in lines
    assert slept == [5, 5, 10, 10]
    assert central.body("POST", "/auth/device")["issuer"] == "acme"
    assert central.body("POST", "/auth/device")["host"]


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("access_denied", "mk8s: the login was refused in the browser"),
        ("expired_token", "mk8s: nobody confirmed the code in time: log in again"),
        ("invalid_grant", "mk8s: told: invalid_grant"),
    ],
)
def test_a_code_that_is_refused_or_too_old(
    run: Run, sso: FakeSso, pin: tuple[str, ...], slept: SlowLog, word: str, told: str
) -> None:
    sso.polls = ["authorization_pending", word]
    result = run(*pin, "--device")
    assert (result.code, result.err.splitlines()[-1]) == (1, told)


@pytest.mark.parametrize("begun", [{}, {"expires_in": 1e9}, {"expires_in": "x", "interval": 0}])
def test_attack_a_code_that_nobody_ever_confirms(
    run: Run, sso: FakeSso, pin: tuple[str, ...], slept: SlowLog, begun: dict[str, Any]
) -> None:
    sso.begun, sso.polls = begun, ["authorization_pending"] * 1000
    assert "nobody confirmed the code in time" in run(*pin, "--device").err
    assert 500 < sum(slept) <= 900


def test_attack_a_central_that_wants_to_be_asked_without_a_pause(
    run: Run, sso: FakeSso, pin: tuple[str, ...], slept: SlowLog
) -> None:
    sso.begun = {"interval": 0.001}
    sso.polls = ["authorization_pending"] * 5
    assert run(*pin, "--device").code == 0
    assert min(slept) >= 1
    sso.begun, slept[:] = {"interval": 1e9}, []
    assert run(*pin, "--device").code == 0
    assert slept == [60]


def test_a_poll_that_is_one_too_many_waits_as_asked(
    run: Run, central: FakeCentral, sso: FakeSso, pin: tuple[str, ...], slept: SlowLog
) -> None:
    central.headers["Retry-After"] = "30"
    central.overrides["POST /auth/device/token"] = [error(429, "too many")]
    assert run(*pin, "--device").code == 0
    assert slept == [5, 35]


def test_a_central_that_is_away_for_a_moment_is_asked_again(
    run: Run,
    central: FakeCentral,
    sso: FakeSso,
    pin: tuple[str, ...],
    slept: SlowLog,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = single_sign_on.Central.call
    lost = [True]

    def call(self: Any, method: str, path: str, *words: Any, **named: Any) -> Any:
        if path == "/auth/device/token" and lost.pop():
            lost.append(False)
            raise single_sign_on.Unreachable("cannot reach central")
        lost[:] = [False] if path == "/auth/device/token" else lost
        return real(self, method, path, *words, **named)

    monkeypatch.setattr(single_sign_on.Central, "call", call)
    result = run(*pin, "--device")
    assert result.code == 0
    assert "cannot reach central; trying again" in result.err
    assert slept == [5, 10]


@pytest.mark.parametrize(
    "uri",
    [
        "https://evil.example/auth/device",
        "http://127.0.0.1/auth/device",
        "javascript:alert(1)",
        "{url}@evil.example/auth/device",
        "{url}.evil.example/auth/device",
        "{url}/auth/device#\x1b[2J",
        "{url}/auth/device\nhttps://evil.example",
        "{url}/auth/device?next=https://evil.example",
        "{url}\\@evil.example/",
        "",
    ],
)
@pytest.mark.parametrize("key", ["verification_uri", "verification_uri_complete"])
def test_attack_an_open_redirect_in_the_page_for_the_code(
    run: Run,
    central: FakeCentral,
    sso: FakeSso,
    pin: tuple[str, ...],
    slept: SlowLog,
    key: str,
    uri: str,
) -> None:
    sso.begun = {key: uri.format(url=central.url)}
    result = run(*pin, "--device")
    assert "evil" not in result.err
    if key == "verification_uri" or uri:
        assert "the page for the code is not at" in result.err.splitlines()[-1]
        assert (result.code, slept) == (1, [])


@pytest.mark.parametrize(
    "begun",
    [
        {"user_code": "\x1b[2J"},
        {"user_code": "open https://evil.example"},
        {"user_code": ""},
        {"user_code": "A" * 100},
        {"device_code": ""},
        {"device_code": "a b"},
        {"device_code": ["x"]},
    ],
)
def test_attack_terminal_escapes_and_more_in_centrals_codes(
    run: Run, sso: FakeSso, pin: tuple[str, ...], slept: SlowLog, begun: dict[str, Any]
) -> None:
    sso.begun = begun
    result = run(*pin, "--device")
    assert (result.code, slept) == (1, [])
    assert "central's answer is refused" in result.line
    assert "\x1b" not in result.err


def test_attack_terminal_escapes_in_a_refusal_of_centrals(
    run: Run, central: FakeCentral, sso: FakeSso, pin: tuple[str, ...], slept: SlowLog
) -> None:
    central.overrides["POST /auth/device/token"] = [
        (400, {"detail": "\x1b[2Jno\u202e", "code": "\x1b[2J"})
    ]
    result = run(*pin, "--device")
    assert result.err.splitlines()[-1] == "mk8s: \\x1b[2Jno\\u202e"
