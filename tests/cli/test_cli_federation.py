"""Jobs that log in by the token of their issuer: found, exchanged, used until it ends."""

import base64
import json
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml

from mk8s_cli.central import certificate
from mk8s_cli.login import config, job_token, token_cache
from mk8s_cli.terminal.errors import CliError, Unwritable
from tests.cli.conftest import Run
from tests.cli.fake_central import FakeCentral, cluster
from tests.cli.fake_sso import FakeSso

CENTRAL = "https://mk8s.example.com:8443"
JOB = "federated:deploy"
DEV = ("get-token", "--cluster", "dev", "-o", "token")
NAMES = (job_token.GITHUB_URL, job_token.GITHUB_SECRET, job_token.GITLAB_VARIABLE, "OTHER")


def jwt(name: str, ends: float | None = 4e9) -> str:
    """A token as an issuer makes it; nobody here looks at its signature."""
    claims = {"sub": name} | ({} if ends is None else {"exp": ends})
    parts = [json.dumps(it).encode() for it in ({"alg": "RS256"}, claims)]
    parts.append(b"signature")
    return ".".join(base64.urlsafe_b64encode(it).decode().rstrip("=") for it in parts)


@pytest.fixture(autouse=True)
def no_job(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(job_token, "POD_FILE", tmp_path / "pod" / "mk8s")


@pytest.fixture
def sso(central: FakeCentral) -> FakeSso:
    central.email = JOB
    central.sso = FakeSso(federation=[{"name": "ci", "audience": "mk8s"}])
    return central.sso


@pytest.fixture
def login(central: FakeCentral) -> tuple[str, ...]:
    pin = certificate.pin(central.authority_pem)
    return "login", central.url, "--ca-pin", pin, "--federated"


@pytest.fixture
def file(sso: FakeSso, tmp_path: Path) -> Path:
    """A file with a token that central takes."""
    path = tmp_path / "token"
    give(sso, path)
    return path


def give(sso: FakeSso, path: Path, name: str = "first") -> None:
    token = jwt(name)
    sso.job_tokens.add(token)
    path.write_text(f"{token}\n")


class GitHub:
    """The endpoint of GitHub Actions that makes a job's tokens."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.answer: Any = {"value": jwt("repo")}
        self.status = 200
        self.authority = trustme.CA()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(handler: Any) -> None:  # noqa: N805
                self.asked.append((handler.path, handler.headers["Authorization"]))
                body = json.dumps(self.answer).encode()
                handler.send_response(self.status)
                handler.send_header("Content-Length", str(len(body)))
                handler.end_headers()
                handler.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        trust = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.authority.issue_cert("127.0.0.1").configure_cert(trust)
        self.server.socket = trust.wrap_socket(self.server.socket, server_side=True)
        self.url = f"https://127.0.0.1:{self.server.server_port}/token?api-version=2.0"


@pytest.fixture
def github(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[GitHub]:
    github = GitHub()
    thread = threading.Thread(target=github.server.serve_forever, args=(0.05,))
    thread.start()
    authority = tmp_path / "github.pem"
    authority.write_bytes(github.authority.cert_pem.bytes())
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    monkeypatch.setenv(job_token.GITHUB_URL, github.url)
    monkeypatch.setenv(job_token.GITHUB_SECRET, "the-runners-secret")
    yield github
    github.server.shutdown()
    github.server.server_close()
    thread.join()


def test_a_job_logs_in_by_the_token_in_a_file(
    run: Run, central: FakeCentral, login: tuple[str, ...], file: Path, home: Path
) -> None:
    result = run(*login, "--token-file", str(file))
    assert result.code == 0, result.err
    assert f"logged in to {central.url} as {JOB}" in result.out
    assert result.err == "", "nothing is kept that needs a keyring"
    sent = central.body("POST", "/auth/token")
    assert sent["subject_token"] == file.read_text().strip()
    stored = yaml.safe_load((home / ".mk8s" / "config.yaml").read_text())["centrals"][0]
    assert (stored["source"], stored["job_token"]) == ("job", f"file:{file}")
    assert not (home / ".mk8s" / "credentials.json").exists()
    for path in (home / ".mk8s").rglob("*"):
        assert path.is_dir() or sent["subject_token"] not in path.read_text()
    first = run(*DEV).out
    assert first.startswith("access-dev-")
    assert run(*DEV).out == first, "cached as any other"
    assert central.count("POST", "/auth/refresh") == 0
    assert JOB in run("status").out


@pytest.mark.parametrize("variable", ["MK8S_ID_TOKEN", "OTHER"])
def test_gitlab_puts_the_token_into_a_variable(
    run: Run,
    sso: FakeSso,
    login: tuple[str, ...],
    variable: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    token = jwt("project")
    sso.job_tokens.add(token)
    monkeypatch.setenv(variable, token)
    words = ("--token-variable", variable) if variable == "OTHER" else ()
    assert run(*login, *words).code == 0
    monkeypatch.delenv(variable)
    assert f"{variable} holds no token" in run(*login, "--token-variable", variable).line


def test_a_pod_has_it_in_its_usual_place(run: Run, sso: FakeSso, login: tuple[str, ...]) -> None:
    job_token.POD_FILE.parent.mkdir()
    give(sso, job_token.POD_FILE)
    assert run(*login).code == 0


def test_github_is_asked_with_the_audience_that_central_names(
    run: Run, sso: FakeSso, login: tuple[str, ...], github: GitHub
) -> None:
    sso.job_tokens.add(github.answer["value"])
    result = run(*login)
    assert result.code == 0, result.err
    assert github.asked == [("/token?api-version=2.0&audience=mk8s", "Bearer the-runners-secret")]
    assert run(*login, "--audience", "https://a b/&x=1").code == 0
    assert github.asked[-1][0].endswith("&audience=https%3A%2F%2Fa%20b%2F%26x%3D1")


@pytest.mark.parametrize(
    ("federation", "told"),
    [
        ([], "central trusts no issuer of jobs"),
        ([{"name": "a", "audience": "x"}, {"name": "b", "audience": "y"}], "--audience (a, b)"),
        ([{"name": "a"}], "central trusts no issuer of jobs"),
    ],
)
def test_an_audience_is_not_guessed(
    run: Run,
    sso: FakeSso,
    login: tuple[str, ...],
    github: GitHub,
    federation: list[dict[str, str]],
    told: str,
) -> None:
    sso.federation = federation
    assert told in run(*login).line
    assert github.asked == []


def test_of_several_audiences_that_named_github_is_githubs() -> None:
    several = {"gitlab": "mk8s", "github": "mk8s-github"}
    assert job_token.audience_of(several, CENTRAL) == "mk8s-github"
    assert job_token.audience_of({"one": "mk8s", "two": "mk8s"}, CENTRAL) == "mk8s"


@pytest.mark.parametrize(
    "audience", ["mk8s", "mk8s:prod", CENTRAL, "mk8s.example.com:8443", "mk8s.example.com"]
)
def test_audiences_that_are_plainly_centrals(audience: str) -> None:
    assert job_token.audience_of({"github": audience}, CENTRAL) == audience


@pytest.mark.parametrize(
    "audience",
    [
        "sts.amazonaws.com",
        "https://mk8s.example.com.evil.example",
        "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/mk8s",
        "mk8sts",
        "api://AzureADTokenExchange",
    ],
)
def test_attack_a_central_that_asks_for_a_token_of_a_cloud(
    run: Run, sso: FakeSso, login: tuple[str, ...], github: GitHub, audience: str
) -> None:
    sso.federation = [{"name": "github", "audience": audience}]
    assert "--audience" in run(*login).line
    assert github.asked == []


@pytest.mark.parametrize(
    ("status", "answer", "told"),
    [
        (403, {"message": "\x1b[2Jno"}, "GitHub gives this job no token: \\x1b[2Jno"),
        (200, {"value": 7}, "GitHub's answer holds no token"),
        (200, {"value": "x" * 50000}, "holds no token of an issuer"),
        (200, {}, "GitHub's answer holds no token"),
        (200, [], "GitHub's answer holds no token"),
        (200, "x", "GitHub's answer is refused"),
    ],
)
def test_attack_an_answer_of_github_that_is_no_token(
    run: Run,
    sso: FakeSso,
    login: tuple[str, ...],
    github: GitHub,
    status: int,
    answer: Any,
    told: str,
) -> None:
    github.status, github.answer = status, answer
    line = run(*login).line
    assert told in line
    assert "the-runners-secret" not in line


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1/token", "https://u:p@127.0.0.1/token", "token", "https:///token"]
)
def test_attack_the_runners_secret_goes_nowhere_in_the_clear(
    run: Run, sso: FakeSso, login: tuple[str, ...], url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(job_token.GITHUB_URL, url)
    monkeypatch.setenv(job_token.GITHUB_SECRET, "secret")
    assert "GitHub offers this job no token" in run(*login).line


def test_a_github_that_is_away_is_one_line(
    run: Run, sso: FakeSso, login: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(job_token.GITHUB_URL, "https://127.0.0.1:1/token")
    monkeypatch.setenv(job_token.GITHUB_SECRET, "secret")
    assert "GitHub gives this job no token: cannot reach GitHub at" in run(*login).line


def test_where_there_is_no_token_it_is_said_where_one_could_be(
    run: Run, sso: FakeSso, login: tuple[str, ...]
) -> None:
    line = run(*login).line
    for place in ("id-token: write", "MK8S_ID_TOKEN", "projected token", "--token-file"):
        assert place in line


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "holds no token"),
        ("not a token", "holds no token of an issuer (a JWT)"),
        ("mk8s_st_" + "a" * 46, "holds no token of an issuer"),
        ("a.b." + "c" * 20000, "holds no token of an issuer"),
        ("\N{SNOWMAN}.b.c", "holds no token of an issuer"),
        (jwt("x", 1), "has ended: the job needs a new one"),
    ],
)
def test_attack_a_file_that_holds_no_token_of_a_job(
    run: Run, central: FakeCentral, login: tuple[str, ...], file: Path, content: str, told: str
) -> None:
    file.write_text(content)
    line = run(*login, "--token-file", str(file)).line
    assert told in line
    assert not content or content not in line
    assert central.count("POST", "/auth/token") == 0
    file.unlink()
    assert "cannot read the job's token" in run(*login, "--token-file", str(file)).line


@pytest.mark.parametrize("token", ["a.b.c", "a.e30.c", "a.bnVsbA.c", jwt("x", None)])
def test_a_token_that_says_no_end_is_centrals_to_judge(
    token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTHER", token)
    assert job_token.read("env:OTHER", "") == token


def test_a_token_that_central_does_not_trust_is_one_line(
    run: Run, central: FakeCentral, sso: FakeSso, login: tuple[str, ...], file: Path, home: Path
) -> None:
    sso.job_tokens.clear()
    assert run(*login, "--token-file", str(file)).line == "mk8s: this token is not trusted here"
    central.sso = None
    assert run(*login, "--token-file", str(file)).code == 1, "an older central"
    assert not (home / ".mk8s" / "config.yaml").exists()


def test_attack_a_name_that_is_none(
    run: Run, central: FakeCentral, login: tuple[str, ...], file: Path
) -> None:
    central.email = "\x1b[2J"
    assert "it names nobody" in run(*login, "--token-file", str(file)).line


def test_when_it_ends_the_jobs_next_token_opens_the_next_login(
    run: Run, central: FakeCentral, sso: FakeSso, login: tuple[str, ...], file: Path
) -> None:
    run(*login, "--token-file", str(file))
    first = run(*DEV).out
    token_cache.clear(central.url)
    give(sso, file, "second")
    assert run(*DEV).out != first
    assert central.body("POST", "/auth/token") == {"cluster": "dev"}
    exchanged = [
        body["subject_token"]
        for *call, body in central.calls
        if call == ["POST", "/auth/token"] and "subject_token" in body
    ]
    assert exchanged[-1] == file.read_text().strip()
    assert len(exchanged) == 2


def test_a_login_that_was_ended_is_opened_again_once(
    run: Run, central: FakeCentral, login: tuple[str, ...], file: Path
) -> None:
    run(*login, "--token-file", str(file))
    ended = (401, {"detail": "the login was ended: run mk8s login"})
    central.overrides["POST /auth/token"] = [ended]
    assert run(*DEV).out.startswith("access-")
    token_cache.clear(central.url)
    central.clusters = [cluster("prod")]
    unknown = run("get-token", "--cluster", "dev")
    assert "cluster dev is unknown or not yours" in unknown.line
    central.overrides["POST /auth/token"] = [(503, {"detail": "busy"})] * 9
    assert run(*DEV).line == "mk8s: busy"


def test_when_the_job_is_over_a_clear_line_says_so(
    run: Run, central: FakeCentral, sso: FakeSso, login: tuple[str, ...], file: Path
) -> None:
    run(*login, "--token-file", str(file))
    again = f"run: mk8s login {central.url} --federated"
    token_cache.clear(central.url)
    file.write_text(jwt("old", 1))
    line = run(*DEV).line
    assert "the login of the job is over, and the token in" in line
    assert line.endswith(again)
    sso.job_tokens.clear()
    file.write_text(jwt("unknown"))
    line = run(*DEV).line
    assert "the job's token is refused: this token is not trusted here" in line
    assert line.endswith(again)
    file.unlink()
    assert "cannot read the job's token" in run("status").line


def test_a_login_that_central_ends_again_and_again_is_given_up(
    run: Run, central: FakeCentral, sso: FakeSso, login: tuple[str, ...], file: Path
) -> None:
    run(*login, "--token-file", str(file))
    fresh = (200, {"access_token": "access-any-1", "expires_in": 900})
    ended = (401, {"detail": "the login is locked: run mk8s login"})
    central.overrides["POST /auth/token"] = [ended, fresh, ended]
    line = run(*DEV).line
    assert line == f"mk8s: the login is locked; run: mk8s login {central.url} --federated"


def test_the_next_login_is_as_the_last_one(
    run: Run, central: FakeCentral, sso: FakeSso, login: tuple[str, ...], file: Path
) -> None:
    run(*login, "--token-file", str(file))
    run("logout")
    give(sso, file, "second")
    result = run("login")
    assert (result.code, result.err) == (0, "")
    assert central.count("POST", "/auth/login") == 0, "nobody is asked for a password"
    assert run(*DEV).out.startswith("access-dev-")
    job_token.POD_FILE.parent.mkdir()
    give(sso, job_token.POD_FILE, "of the pod")
    assert run("login", "--federated").code == 0
    assert f"file:{job_token.POD_FILE}" in config.load().profiles[0].job_token


def test_a_logout_ends_the_login_of_the_job(
    run: Run, central: FakeCentral, login: tuple[str, ...], file: Path, home: Path
) -> None:
    run(*login, "--token-file", str(file))
    assert run("logout").code == 0
    assert central.count("DELETE", "/logins/login-1") == 1
    assert not list((home / ".mk8s" / "cache").rglob("*.json"))
    run(*login, "--token-file", str(file))
    token_cache.clear(central.url)
    calls = len(central.calls)
    assert run("logout").code == 0, "a login that is over is not opened again to be ended"
    assert len(central.calls) == calls


@pytest.mark.usefixtures("logged_in")
def test_a_persons_login_gives_way_to_the_jobs(
    run: Run, central: FakeCentral, login: tuple[str, ...], tmp_path: Path, home: Path
) -> None:
    central.sso = FakeSso()
    path = tmp_path / "job"
    give(central.sso, path)
    central.email = JOB
    assert run(*login, "--token-file", str(path)).code == 0
    assert not (home / ".mk8s" / "credentials.json").exists()
    assert "only people have passwords" in run("passwd").line


def test_a_full_disk_keeps_no_job_from_its_token(
    run: Run, login: tuple[str, ...], file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(*login, "--token-file", str(file))

    def full(*_: object) -> None:
        raise Unwritable("no room", is_full=True)

    monkeypatch.setattr(token_cache, "load", lambda *_: None)
    monkeypatch.setattr(token_cache, "save", full)
    assert run(*DEV).out.startswith("access-")


def test_the_words_of_a_source_are_paths_and_names(tmp_path: Path) -> None:
    assert job_token.find(tmp_path / "x", "") == f"file:{tmp_path / 'x'}"
    assert job_token.find(None, "NAME") == "env:NAME"
    with pytest.raises(CliError, match="no token of a job is here"):
        job_token.find(None, "")


RULES = ("admin", "federation")


@pytest.mark.usefixtures("logged_in")
def test_rules_are_listed_set_and_removed(run: Run, central: FakeCentral) -> None:
    central.admin = True
    rule = {
        "name": "deploy",
        "issuer": "github",
        "claims": {"repository": ["acme/*", "\x1b[2J"], "ref": ["refs/heads/main"]},
        "roles": ["a", "b"],
        "seconds": 3600,
    }
    central.overrides["GET /federation/rules"] = [
        (200, {"rules": [rule, {"name": "odd", "claims": 7}]}),
        (200, {"rules": [rule]}),
        (200, {}),
    ]
    shown = run(*RULES, "list").out
    assert "repository=acme/*,repository=\\x1b[2J,ref=refs/heads/main" in shown
    assert "3600 s" in shown
    assert run(*RULES, "list", "-o", "name").out == "deploy\n"
    assert "holds no list of rules" in run(*RULES, "list").line
    claims = ("--claim", "repository=acme/*", "--claim", "repository=b/c", "--claim", "ref=x=y")
    words = ("--issuer", "github", *claims, "--role", "a", "--role", "b", "--for", "30m")
    told = run(*RULES, "set", "deploy", *words).out
    assert told == "rule deploy lets in jobs of github (roles: a, b)\n"
    assert central.body("PUT", "/federation/rules/deploy") == {
        "issuer": "github",
        "claims": {"repository": ["acme/*", "b/c"], "ref": ["x=y"]},
        "roles": ["a", "b"],
        "seconds": 1800,
    }
    assert run(*RULES, "remove", "deploy", "--yes").out == "rule deploy is deleted\n"
    assert central.count("DELETE", "/federation/rules/deploy") == 1


@pytest.mark.usefixtures("logged_in")
@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("x/y", "--issuer", "a", "--claim", "a=b"), "is no name of a rule"),
        (("x", "--issuer", "A B", "--claim", "a=b"), "is no name of an issuer"),
        (("x", "--issuer", "a", "--claim", "a"), "write NAME=GLOB"),
        (("x", "--issuer", "a", "--claim", "=b"), "write NAME=GLOB"),
        (("x", "--issuer", "a", "--claim", "a="), "write NAME=GLOB"),
        (("x", "--issuer", "a", "--claim", "a=b", "--for", "soon"), "write 10m, 30m or 1h"),
    ],
)
def test_rules_that_are_none(
    run: Run, central: FakeCentral, words: tuple[str, ...], told: str
) -> None:
    result = run(*RULES, "set", *words, "--role", "r")
    assert result.code
    assert told in result.err
    assert not [call for call in central.calls if call[0] == "PUT"]
