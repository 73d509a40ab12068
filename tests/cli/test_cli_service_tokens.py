"""Service tokens at the command line: managed, and used by jobs that have nothing else."""

import json
import os
import stat
from pathlib import Path

import pytest
import yaml

from mk8s_cli.central import certificate
from mk8s_cli.login import service_token
from tests.cli.conftest import Result, Run
from tests.cli.fake_central import EMAIL, SERVICE_TOKEN, FakeCentral

DEV = ("get-token", "--cluster", "dev")


@pytest.fixture
def job(central: FakeCentral, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A job: a token and central in the environment, and a home that cannot be made."""
    authority = tmp_path / "ca.pem"
    authority.write_text(central.authority_pem)
    (tmp_path / "no").touch()
    monkeypatch.setenv("HOME", str(tmp_path / "no" / "home"))
    monkeypatch.setenv("MK8S_TOKEN", SERVICE_TOKEN)
    monkeypatch.setenv("MK8S_CENTRAL", central.url)
    monkeypatch.setenv("MK8S_CA_FILE", str(authority))
    return tmp_path


@pytest.fixture
def token_file(job: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = job / "token"
    path.write_text(f"{SERVICE_TOKEN}\n")
    monkeypatch.delenv("MK8S_TOKEN")
    return path


def credential(result: Result) -> str:
    assert result.code == 0, result.err
    return str(json.loads(result.out)["status"]["token"])


@pytest.mark.usefixtures("logged_in")
def test_tokens_are_made_rotated_listed_and_revoked(run: Run, central: FakeCentral) -> None:
    tokens = ("admin", "tokens")
    options = ("--role", "developer", "--role", "viewer", "--cluster", "dev-*", "--for", "30d")
    made = run(*tokens, "create", "ci", *options)
    assert made.out == f"{SERVICE_TOKEN}\n", "alone on stdout, for scripts"
    assert "good until 2026-03-02T03:04:05Z; it is shown this once" in made.err
    assert central.body("POST", "/tokens") == {
        "name": "ci",
        "roles": ["developer", "viewer"],
        "clusters": ["dev-*"],
        "expires_in": 30 * 86400,
    }
    rotated = run(*tokens, "rotate", "ci", "--overlap", "2h", "-o", "json")
    assert json.loads(rotated.out)["token"] == SERVICE_TOKEN
    assert central.body("POST", "/tokens/ci/rotate") == {"overlap": 7200, "expires_in": None}
    central.admin = True
    assert run(*tokens, "revoke", "ci", "--yes").out == "service token ci is revoked\n"
    assert central.count("DELETE", "/tokens/ci") == 1
    assert "add --yes" in run(*tokens, "revoke", "ci").line
    central.tokens = [
        {"name": "cd", "status": "active", "roles": ["a", "b"], "clusters": [], "last_used": None},
        {
            "name": "ci",
            "status": "rotating",
            "clusters": ["x"],
            "last_used": "2020-01-01T00:00:00Z",
        },
    ]
    rows = [line.split() for line in run(*tokens, "list").out.splitlines()]
    assert rows[1][:4] == ["cd", "active", "a,b", "*"]
    assert rows[2][:2] == ["ci", "rotating"]
    assert rows[2][-2] == "ago"
    assert run(*tokens, "list", "-o", "name").out.split() == ["cd", "ci"]


@pytest.mark.usefixtures("logged_in")
@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("create", "CI", "--role", "a"), "no name of a service token"),
        (("create", "ci"), "Missing option"),
        (("create", "ci", "--role", "a", "--for", "soon"), "write 90m, 12h, 30d"),
        (("rotate", "ci", "--overlap", "1y"), "write 90m, 12h, 30d"),
        (("revoke", "a/b"), "no name of a service token"),
    ],
)
def test_mistakes_are_told(run: Run, words: tuple[str, ...], told: str) -> None:
    refused = run("admin", "tokens", *words)
    assert refused.code
    assert told in refused.err


@pytest.mark.usefixtures("job")
def test_a_job_needs_nothing_but_its_token(run: Run, central: FakeCentral) -> None:
    assert credential(run(*DEV)).startswith("access-dev-")
    assert run(*DEV, "-o", "token").out.startswith("access-dev-")
    assert [body for *call, body in central.calls if call == ["POST", "/auth/token"]] == [
        {"cluster": "dev"}
    ] * 2
    assert "dev" in run("clusters", "list").out
    shown = run("status")
    assert "token:ci" in shown.out
    assert "by service token, valid until 2126-01-02T03:04:05Z" in shown.out
    assert "renewed by itself" not in shown.out
    assert central.count("POST", "/auth/refresh") == 0


@pytest.mark.usefixtures("job")
def test_a_job_without_any_home(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere(*_: object) -> Path:
        raise RuntimeError("no home")

    monkeypatch.setattr(Path, "home", nowhere)
    assert credential(run(*DEV)).startswith("access-dev-")
    assert "token:ci" in run("status").out
    monkeypatch.delenv("MK8S_TOKEN")
    assert "no home directory" in run(*DEV).line


@pytest.mark.usefixtures("job")
def test_a_job_is_told_what_is_wrong(
    run: Run, central: FakeCentral, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "cluster other is unknown or not yours" in run("get-token", "--cluster", "other").line
    central.takes_service_token = False
    assert "no token: ask for one" in run(*DEV).line
    assert "no token: ask for one" in run("clusters", "list").line
    monkeypatch.setenv("MK8S_TOKEN", SERVICE_TOKEN[:-1])
    assert "MK8S_TOKEN holds no service token" in run(*DEV).line
    wrong = SERVICE_TOKEN[:-1] + ("a" if SERVICE_TOKEN[-1] != "a" else "b")
    monkeypatch.setenv("MK8S_TOKEN", wrong)
    refused = run(*DEV)
    assert "mistyped or cut" in refused.line
    assert wrong not in refused.err
    monkeypatch.setenv("MK8S_TOKEN_FILE", "/nowhere/token")
    assert "cannot read the service token in /nowhere/token" in run(*DEV).line
    monkeypatch.delenv("MK8S_TOKEN_FILE")
    monkeypatch.delenv("MK8S_CENTRAL")
    assert "set MK8S_CENTRAL=" in run(*DEV).line


def test_attack_a_cached_login_is_not_used_in_place_of_the_token(
    run: Run, logged_in: Result, central: FakeCentral, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what belongs to the login stays as it is."""
    mine = credential(run(*DEV))
    config = Path.home() / ".mk8s" / "config.yaml"
    before = config.read_bytes()
    monkeypatch.setenv("MK8S_TOKEN", SERVICE_TOKEN)
    assert credential(run(*DEV)) != mine
    assert credential(run(*DEV)).startswith("access-dev-")
    assert central.count("POST", "/auth/token") == 2, "nothing is cached"
    assert "token:ci" in run("status").out, "the pinned authority of the login serves"
    assert run("use", "prod").code == 0
    assert run("kubeconfig", "sync", "--exec-version", "v1").code == 0
    assert config.read_bytes() == before
    monkeypatch.delenv("MK8S_TOKEN")
    assert credential(run(*DEV)) == mine


def test_the_file_is_read_each_time(
    run: Run, token_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MK8S_TOKEN_FILE", str(token_file))
    assert credential(run(*DEV))
    token_file.write_text("rotated to nonsense")
    assert "holds no service token" in run(*DEV).line


def test_a_kubeconfig_in_one_step(run: Run, token_file: Path, central: FakeCentral) -> None:
    out = token_file.with_name("kubeconfig")
    command = ("kubeconfig", "sync", "--token-file", str(token_file), "--out", str(out))
    done = run(*command)
    assert done.code == 0, done.err
    document = yaml.safe_load(out.read_text())
    users = {user["name"]: user["user"] for user in document["users"]}
    plugin = users["mk8s-dev"]["exec"]
    assert {it["name"]: it["value"] for it in plugin["env"] if it["name"] != "PYTHONPATH"} == {
        "MK8S_TOKEN_FILE": str(token_file),
        "MK8S_CA_FILE": os.environ["MK8S_CA_FILE"],
    }
    assert SERVICE_TOKEN not in out.read_text()
    cluster = next(it["cluster"] for it in document["clusters"] if it["name"] == "mk8s-dev")
    assert "certificate-authority-data" in cluster
    central.clusters.pop()
    assert "removed: prod" in run(*command).out


def test_a_static_kubeconfig_for_tools_without_plugins(run: Run, token_file: Path) -> None:
    out = token_file.with_name("kubeconfig")
    command = ("kubeconfig", "sync", "--token-file", str(token_file), "--out", str(out))
    assert run(*command).code == 0
    assert run(*command, "--static").code == 0, "ours are known, with and without a plugin"
    users = yaml.safe_load(out.read_text())["users"]
    assert [user["user"]["tokenFile"] for user in users] == [str(token_file)] * 2
    assert not any("exec" in user["user"] for user in users)
    assert SERVICE_TOKEN not in out.read_text()
    assert run(*command).code == 0
    users = yaml.safe_load(out.read_text())["users"]
    assert not any("tokenFile" in user["user"] for user in users)
    assert all(set(user["user"]) == {"exec"} for user in users)


def test_a_static_kubeconfig_with_the_token_itself(run: Run, job: Path) -> None:
    out = job / "kubeconfig"
    assert run("kubeconfig", "sync", "--static", "--out", str(out)).code == 0
    users = yaml.safe_load(out.read_text())["users"]
    assert [user["user"]["token"] for user in users] == [SERVICE_TOKEN] * 2
    assert stat.S_IMODE(out.stat().st_mode) == 0o600


@pytest.mark.usefixtures("logged_in")
def test_static_entries_need_a_service_token(run: Run) -> None:
    assert run("kubeconfig", "sync", "--static").code == 2


def test_a_pin_vouches_for_central_too(
    run: Run, central: FakeCentral, job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MK8S_CA_FILE")
    assert run(*DEV).code == 1
    monkeypatch.setenv("MK8S_CA_PIN", certificate.pin(central.authority_pem))
    assert credential(run(*DEV))
    out = job / "kubeconfig"
    assert run("kubeconfig", "sync", "--out", str(out)).code == 0
    assert "MK8S_CA_PIN" in out.read_text()
    monkeypatch.setenv("MK8S_CA_PIN", "sha256:" + "0" * 64)
    assert "not the one given" in run(*DEV).line


def test_a_login_by_service_token_keeps_it(run: Run, central: FakeCentral) -> None:
    pin = certificate.pin(central.authority_pem)
    command = ("login", central.url, "--ca-pin", pin, "--service-token")
    done = run(*command, stdin=f"{SERVICE_TOKEN}\n")
    assert done.code == 0, done.err
    assert "as token:ci" in done.out
    first = credential(run(*DEV))
    assert credential(run(*DEV)) == first, "cached as any other"
    assert "token:ci" in run("status").out
    assert "only people have passwords" in run("passwd").line
    for cached in (Path.home() / ".mk8s" / "cache").rglob("*.json"):
        cached.unlink()
    assert credential(run(*DEV)) != first
    assert central.count("POST", "/auth/refresh") == 0
    for cached in (Path.home() / ".mk8s" / "cache").rglob("*.json"):
        cached.unlink()
    assert "cluster other is unknown" in run("get-token", "--cluster", "other").line
    central.overrides["POST /auth/token"] = [(503, {})] * 20
    assert "mk8s login" not in run(*DEV).line
    central.overrides.clear()
    central.takes_service_token = False
    told = f"mk8s: no token; run: mk8s login {central.url} --service-token"
    assert run(*DEV).line == told
    central.takes_service_token = True
    again = run("login", stdin=f"{SERVICE_TOKEN}\n")
    assert "as token:ci" in again.out, "by the same as last time"
    central.takes_service_token = True
    out = run("logout")
    assert "stays good elsewhere" in out.err
    assert central.count("POST", "/auth/logout") == 0
    assert SERVICE_TOKEN not in (Path.home() / ".mk8s" / "config.yaml").read_text()


@pytest.mark.usefixtures("job")
def test_a_login_by_the_token_of_the_environment(
    run: Run, central: FakeCentral, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(home))
    pin = certificate.pin(central.authority_pem)
    assert run("login", central.url, "--ca-pin", pin, "--service-token").code == 0
    monkeypatch.delenv("MK8S_TOKEN")
    assert credential(run(*DEV))


def test_what_is_no_service_token_is_not_sent(run: Run, central: FakeCentral) -> None:
    pin = certificate.pin(central.authority_pem)
    command = ("login", central.url, "--ca-pin", pin, "--service-token")
    assert "stdin holds no service token" in run(*command, stdin="hunter2\n").line
    assert central.count("GET", "/auth/whoami") == 0
    stranger = {"user": {"email": EMAIL}}
    central.overrides["GET /auth/whoami"] = [(200, stranger)]
    assert "names no service token" in run(*command, stdin=f"{SERVICE_TOKEN}\n").line


def test_the_checksum_is_central_s() -> None:
    assert service_token.checked(f" {SERVICE_TOKEN}\n", "x") == SERVICE_TOKEN
