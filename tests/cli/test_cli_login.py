"""Logging in and out: what is trusted, what is stored, what is said when it fails."""

import json
import stat
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import trustme
import yaml

from mk8s_cli.central import certificate
from mk8s_cli.login import config
from mk8s_cli.terminal import screen as terminal
from tests.cli.conftest import Result, Run
from tests.cli.fake_central import EMAIL, PASSWORD, FakeCentral, cluster, error

WORDS = ("--email", EMAIL, "--password-stdin")


def pin_of(central: FakeCentral) -> str:
    return certificate.pin(central.authority_pem)


def test_login_stores_tokens_and_writes_contexts(
    log_in: Callable[[], Result], central: FakeCentral, home: Path
) -> None:
    result = log_in()
    assert f"logged in to {central.url} as {EMAIL}" in result.out
    assert "clusters: dev, prod" in result.out
    assert "keyring" in result.line
    secrets = home / ".mk8s" / "credentials.json"
    stored = json.loads(secrets.read_text())
    assert list(stored) == [f"{central.url} {EMAIL}"]
    token, attempt = stored[f"{central.url} {EMAIL}"].split(" ")
    assert (token, len(attempt)) == (central.refresh_token, 43)
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o600
    kubeconfig = yaml.safe_load((home / ".kube" / "config").read_text())
    assert [context["name"] for context in kubeconfig["contexts"]] == ["dev", "prod"]
    assert "current-context" not in kubeconfig


def test_no_secret_is_in_kubeconfig_or_config(
    logged_in: Result, central: FakeCentral, home: Path
) -> None:
    for path in (home / ".kube" / "config", home / ".mk8s" / "config.yaml"):
        text = path.read_text()
        assert "access-" not in text
        assert "refresh-" not in text
        assert PASSWORD not in text


def test_the_only_cluster_becomes_current_where_nothing_was(
    log_in: Callable[[], Result], central: FakeCentral, home: Path
) -> None:
    central.clusters = [cluster("prod")]
    log_in()
    kubeconfig = yaml.safe_load((home / ".kube" / "config").read_text())
    assert kubeconfig["current-context"] == "prod"


def test_login_without_clusters_says_whom_to_ask(
    log_in: Callable[[], Result], central: FakeCentral, home: Path
) -> None:
    central.clusters = []
    assert "ask an administrator" in log_in().out
    assert not (home / ".kube" / "config").exists()


def throttled(seconds: int) -> tuple[int, object]:
    return error(429, f"too many attempts: try again in {seconds} s")


def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits of a second and more, which are not waited; what polls goes on polling."""
    slept: list[float] = []
    real = time.sleep

    def sleep(seconds: float) -> None:
        slept.append(seconds) if seconds >= 1 else real(seconds)

    monkeypatch.setattr("mk8s_cli.commands.login_ways.time.sleep", sleep)
    return slept


def test_a_short_wait_is_waited_and_said(
    run: Run, central: FakeCentral, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept = waits(monkeypatch)
    central.headers["Retry-After"] = "4"
    central.overrides["POST /auth/login"] = [throttled(4), throttled(4)]
    result = run("login", central.url, *WORDS, "--ca-pin", pin_of(central), stdin=f"{PASSWORD}\n")
    assert result.code == 0
    assert slept == [4.0, 4.0]
    told = "mk8s: central asks to wait 4 s before the next try: waiting"
    assert result.err.splitlines()[:2] == [told, told]


@pytest.mark.parametrize("asked", [("31",), ("20", "20")])
def test_a_long_wait_is_centrals_line(
    run: Run, central: FakeCentral, monkeypatch: pytest.MonkeyPatch, asked: tuple[str, ...]
) -> None:
    slept = waits(monkeypatch)
    central.headers["Retry-After"] = asked[0]
    central.overrides["POST /auth/login"] = [throttled(31)] * 3
    result = run("login", central.url, *WORDS, "--ca-pin", pin_of(central), stdin=f"{PASSWORD}\n")
    assert result.code == 1
    assert result.err.splitlines()[-1] == "mk8s: too many attempts: try again in 31 s"
    assert len(slept) == len(asked) - 1


def test_a_home_that_cannot_be_written_is_told_before_the_password_is_sent(
    run: Run, central: FakeCentral, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mk8s_cli.terminal.private_files.os.access", lambda *_: False)
    result = run("login", central.url, *WORDS, "--ca-pin", pin_of(central), stdin=f"{PASSWORD}\n")
    assert result.line == (
        f"mk8s: {home / '.mk8s'} cannot be written; set MK8S_HOME to a folder that you can write to"
    )
    assert central.calls == []


def test_a_user_without_a_home_is_told_what_to_set(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    assert run("status").line == "mk8s: this user has no home directory; set HOME or MK8S_HOME"
    monkeypatch.setenv("MK8S_HOME", "/nonexistent")
    assert run("kubeconfig", "path").line.endswith("set HOME or KUBECONFIG")


def test_wrong_password_is_one_line_and_stores_nothing(
    run: Run, central: FakeCentral, home: Path
) -> None:
    result = run("login", central.url, *WORDS, "--ca-pin", pin_of(central), stdin="no\n")
    assert (result.code, result.line) == (1, "mk8s: wrong email or password")
    assert not (home / ".kube").exists()
    assert not (home / ".mk8s").exists()


def test_empty_password_is_refused_before_it_is_sent(run: Run, central: FakeCentral) -> None:
    result = run("login", central.url, *WORDS, "--ca-pin", pin_of(central), stdin="\n")
    assert result.line == "mk8s: the password is empty"
    assert central.count("POST", "/auth/login") == 0


def test_unknown_authority_is_not_trusted_without_a_person_or_a_pin(
    run: Run, central: FakeCentral
) -> None:
    result = run("login", central.url, *WORDS, stdin=f"{PASSWORD}\n")
    assert result.code == 1
    assert pin_of(central) in result.line
    assert "--ca-pin" in result.line
    assert central.count("POST", "/auth/login") == 0


def test_wrong_pin_sends_no_password(run: Run, central: FakeCentral) -> None:
    wrong = "sha256:" + "0" * 64
    result = run("login", central.url, *WORDS, "--ca-pin", wrong, stdin=f"{PASSWORD}\n")
    assert "not the one given" in result.line
    assert central.count("POST", "/auth/login") == 0


def test_pin_of_another_shape_is_explained(run: Run, central: FakeCentral) -> None:
    assert "64 hex digits" in run("login", central.url, *WORDS, "--ca-pin", "abc").line


def test_stolen_pin_with_another_key_does_not_verify(run: Run, central: FakeCentral) -> None:
    """An attacker may present the right authority's certificate but cannot sign by its key."""
    real = trustme.CA()
    central.overrides["GET /ca.pem"] = [(200, real.cert_pem.bytes().decode())] * 9
    pin = certificate.pin(real.cert_pem.bytes().decode())
    result = run("login", central.url, *WORDS, "--ca-pin", pin, stdin=f"{PASSWORD}\n")
    assert "not signed by an authority trusted here" in result.line
    assert central.count("POST", "/auth/login") == 0


def test_a_person_who_compares_the_pin_is_believed(
    run: Run, central: FakeCentral, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr("mk8s_cli.central.trust.is_interactive", lambda: True)
    monkeypatch.setattr("mk8s_cli.central.trust.confirm", lambda text: asked.append(text) or True)
    assert run("login", central.url, *WORDS, stdin=f"{PASSWORD}\n").code == 0
    assert pin_of(central) in asked[0]


def test_a_person_who_does_not_know_the_pin_sends_no_password(
    run: Run, central: FakeCentral, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mk8s_cli.central.trust.is_interactive", lambda: True)
    monkeypatch.setattr("mk8s_cli.central.trust.confirm", lambda _: False)
    result = run("login", central.url, *WORDS, stdin=f"{PASSWORD}\n")
    assert result.line == "mk8s: the authority was not trusted; no password was sent"
    assert central.count("POST", "/auth/login") == 0


def test_of_several_authorities_a_person_is_shown_the_one_in_use(
    run: Run, central: FakeCentral, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mk8s_cli.central.trust.is_interactive", lambda: True)
    both = trustme.CA().cert_pem.bytes().decode() + central.authority_pem
    central.overrides["GET /ca.pem"] = [(200, both)]
    assert pin_of(central) in run("login", central.url, *WORDS, stdin="x\n").line
    central.overrides["GET /ca.pem"] = [(200, both)]
    words = ("login", central.url, *WORDS, "--ca-pin", pin_of(central))
    assert run(*words, stdin=f"{PASSWORD}\n").code == 0


def test_ca_file_is_trusted_and_remembered(run: Run, central: FakeCentral, tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    path.write_text(central.authority_pem)
    words = ("login", central.url, *WORDS, "--ca-file", str(path))
    assert run(*words, stdin=f"{PASSWORD}\n").code == 0
    path.unlink()
    assert run("status").code == 0


@pytest.mark.parametrize("content", ["", "-----BEGIN CERTIFICATE-----\nAAAA\n", "\N{SNOWMAN}"])
def test_ca_file_without_certificate_is_one_line(
    run: Run, central: FakeCentral, tmp_path: Path, content: str
) -> None:
    path = tmp_path / "ca.pem"
    path.write_text(content)
    result = run("login", central.url, *WORDS, "--ca-file", str(path))
    assert result.code == 1
    assert "certificates" in result.line


def test_replaced_authority_is_refused_until_a_pin_vouches_for_it(
    run: Run, logged_in: Result, central: FakeCentral
) -> None:
    pinned = replace(
        config.profile_for(), certificate_authority=trustme.CA().cert_pem.bytes().decode()
    )
    config.update(lambda stored: stored.with_profile(pinned))
    before = central.count("POST", "/auth/login")
    result = run("login", "--email", EMAIL, "--password-stdin", stdin=f"{PASSWORD}\n")
    assert "pinned at the last login" in result.line
    assert central.count("POST", "/auth/login") == before


def test_certificate_for_another_name_is_refused(run: Run) -> None:
    with FakeCentral(names=("other.example",)).running() as central:
        words = ("login", central.url, *WORDS, "--ca-pin", pin_of(central))
        assert "is for other names" in run(*words, stdin="x\n").line


def test_central_that_is_down_is_one_line(run: Run, central: FakeCentral) -> None:
    result = run("login", "https://127.0.0.1:1", *WORDS, stdin="x\n")
    assert result.code == 1
    assert "cannot reach central at https://127.0.0.1:1: connection refused" in result.line


@pytest.mark.parametrize(
    "url", ["http://x", "https://x/path", "https://u@x", "ftp://x", "https://"]
)
def test_address_that_is_no_central_is_one_line(run: Run, url: str) -> None:
    result = run("login", url, *WORDS, stdin="x\n")
    assert "https://host:8443" in result.line


def test_login_without_address_is_wrong_usage(run: Run) -> None:
    result = run("login")
    assert result.code == 2
    assert "Which central?" in result.err


def test_login_without_email_or_terminal_says_how(run: Run, central: FakeCentral) -> None:
    result = run("login", central.url, "--ca-pin", pin_of(central), "--password-stdin", stdin="x\n")
    assert "--email" in result.line


def test_login_without_terminal_says_password_stdin(run: Run, central: FakeCentral) -> None:
    result = run("login", central.url, "--email", EMAIL, "--ca-pin", pin_of(central))
    assert "--password-stdin" in result.line


def test_prompts_take_the_default_email_and_a_hidden_password(
    run: Run, logged_in: Result, central: FakeCentral, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terminal, "is_interactive", lambda: True)
    monkeypatch.setattr(terminal, "ask", lambda question: "")
    monkeypatch.setattr("getpass.getpass", lambda *_, **__: PASSWORD)
    assert run("login").code == 0


def test_clock_that_is_off_is_named(run: Run, central: FakeCentral) -> None:
    central.clock_offset = 600
    words = ("login", central.url, *WORDS, "--ca-pin", pin_of(central))
    good = run(*words, stdin=f"{PASSWORD}\n")
    assert good.code == 0
    assert "s behind central's: set the clock right" in good.err
    central.clock_offset = -600
    assert "s ahead of central's" in run(*words, stdin="wrong\n").err.splitlines()[-1]


def test_malformed_kubeconfig_is_named_and_left_alone(
    run: Run, central: FakeCentral, home: Path
) -> None:
    path = home / ".kube" / "config"
    path.parent.mkdir()
    path.write_text("clusters: {a: [")
    words = ("login", central.url, *WORDS, "--ca-pin", pin_of(central))
    result = run(*words, stdin=f"{PASSWORD}\n")
    assert result.code == 1
    assert f"the kubeconfig {path} is not valid YAML in line" in result.err
    assert path.read_text() == "clusters: {a: ["
    status = run("status")
    assert "dev@example.com" in status.out, "the state of the login does not depend on it"
    assert f"the kubeconfig {path} is not valid YAML" in status.err
    assert status.code == 1
    path.unlink()
    assert run("kubeconfig", "sync").code == 0, "the login itself was kept"


def test_logout_revokes_and_forgets(
    run: Run, logged_in: Result, central: FakeCentral, home: Path
) -> None:
    refresh_token = central.refresh_token
    result = run("logout")
    assert (result.code, result.err) == (0, "")
    assert "contexts removed: dev, prod" in result.out
    assert central.body("POST", "/auth/logout") == {"refresh_token": refresh_token}
    assert not (home / ".mk8s" / "credentials.json").exists()
    assert list((home / ".mk8s" / "cache").rglob("*.json")) == []
    assert f"run: mk8s login {central.url}" in run("status").line


def test_logout_tells_whose_current_context_is_gone(
    run: Run, logged_in: Result, home: Path
) -> None:
    path = home / ".kube" / "config"
    assert "use-context" not in run("logout").out, "there is nothing else to choose"
    assert run("login", "--email", EMAIL, "--password-stdin", stdin=f"{PASSWORD}\n").code == 0
    run("use", "prod")
    document = yaml.safe_load(path.read_text())
    document["contexts"].append({"name": "mine", "context": {"cluster": "c", "user": "u"}})
    path.write_text(yaml.safe_dump(document))
    assert "kubectl config use-context NAME" in run("logout").out


def test_logout_works_while_central_is_down(
    run: Run, log_in: Callable[[], Result], home: Path, central: FakeCentral
) -> None:
    log_in()
    central.overrides["POST /auth/logout"] = [(503, "")]
    result = run("logout")
    assert result.code == 0
    assert "could not be revoked" in result.line
    assert not (home / ".mk8s" / "credentials.json").exists()


def test_logout_twice_says_so(run: Run, logged_in: Result) -> None:
    run("logout")
    assert run("logout").line.startswith("mk8s: not logged in; run: mk8s login https://")


def test_login_as_somebody_else_forgets_the_first(
    run: Run, logged_in: Result, central: FakeCentral, home: Path
) -> None:
    someone = replace(config.profile_for(), email="other@example.com")
    config.update(lambda stored: stored.with_profile(someone))
    (home / ".mk8s" / "credentials.json").write_text(
        json.dumps({f"{central.url} other@example.com": "old"})
    )
    assert run("login", "--email", EMAIL, "--password-stdin", stdin=f"{PASSWORD}\n").code == 0
    stored = json.loads((home / ".mk8s" / "credentials.json").read_text())
    assert list(stored) == [f"{central.url} {EMAIL}"]


def test_two_centrals_live_side_by_side(
    run: Run, logged_in: Result, central: FakeCentral, home: Path
) -> None:
    with FakeCentral().running() as second:
        words = ("login", second.url, *WORDS, "--ca-pin", pin_of(second))
        assert run(*words, stdin=f"{PASSWORD}\n").code == 0
        kubeconfig = yaml.safe_load((home / ".kube" / "config").read_text())
        assert len(kubeconfig["contexts"]) == 4
        assert [name["name"] for name in kubeconfig["contexts"]][:3] == ["dev", "prod", "mk8s-dev"]
        assert json.loads(run("status", "-o", "json").out)["central"] == second.url
        shown = run("--central", central.url, "status", "-o", "json").out
        assert json.loads(shown)["central"] == central.url
        assert run("logout").code == 0
        left = yaml.safe_load((home / ".kube" / "config").read_text())
        assert [context["name"] for context in left["contexts"]] == ["dev", "prod"]
