"""Two centrals on one machine: which one is meant, and how their contexts are told apart."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from mk8s_cli.central import certificate
from mk8s_cli.commands.centrals import complete_central
from mk8s_cli.commands.kubectl import current_context
from mk8s_cli.commands.options import complete_cluster
from mk8s_cli.login import config
from tests.cli.conftest import Result, Run
from tests.cli.fake_central import EMAIL, PASSWORD, FakeCentral, cluster

LogIn = Callable[..., Result]


@pytest.fixture
def second() -> Iterator[FakeCentral]:
    with FakeCentral(clusters=[cluster("prod"), cluster("stage")]).running() as running:
        yield running


@pytest.fixture
def log_in_at(run: Run) -> LogIn:
    def log_in(central: FakeCentral, *words: str) -> Result:
        pin = certificate.pin(central.authority_pem)
        words = ("login", central.url, "--email", EMAIL, "--ca-pin", pin, *words)
        result = run(*words, "--password-stdin", stdin=f"{PASSWORD}\n")
        assert result.code == 0, result.err
        return result

    return log_in


@pytest.fixture
def both(log_in_at: LogIn, central: FakeCentral, second: FakeCentral) -> None:
    """Logged in at both; the second one has a suffix."""
    log_in_at(central)
    log_in_at(second, "--suffix", "eu")


def kubeconfig(home: Path) -> dict[str, object]:
    document: dict[str, object] = yaml.safe_load((home / ".kube" / "config").read_text())
    return document


def contexts(home: Path) -> list[str]:
    listed = kubeconfig(home)["contexts"]
    assert isinstance(listed, list)
    return [entry["name"] for entry in listed]


def use_context(home: Path, name: str) -> None:
    """What `kubectl config use-context` does."""
    document = kubeconfig(home) | {"current-context": name}
    (home / ".kube" / "config").write_text(yaml.safe_dump(document))


def told(run: Run) -> tuple[str, str]:
    """The central and the cluster that `status` speaks of."""
    facts = json.loads(run("status", "-o", "json").out)
    return facts["central"], (facts["cluster"] or {}).get("name", "")


@pytest.mark.usefixtures("both")
def test_a_suffix_tells_contexts_apart(home: Path) -> None:
    assert contexts(home) == ["dev", "prod", "prod-eu", "stage-eu"]


@pytest.mark.usefixtures("both")
def test_everything_speaks_of_kubectls_current_context(
    run: Run, home: Path, central: FakeCentral, second: FakeCentral
) -> None:
    for context, expected in (
        ("prod-eu", (second.url, "prod")),
        ("dev", (central.url, "dev")),
        ("stage-eu", (second.url, "stage")),
        ("prod", (central.url, "prod")),
    ):
        use_context(home, context)
        assert told(run) == expected
        assert current_context() == context
        assert run("use", "prod").out.startswith(
            "current context: " + ("prod-eu" if expected[0] == second.url else "prod")
        )
    assert complete_cluster(None, None, "") == ["dev", "prod", "prod-eu", "stage", "stage-eu"]  # type: ignore[arg-type]


@pytest.mark.usefixtures("both")
def test_use_finds_a_name_at_the_other_central(
    run: Run, home: Path, central: FakeCentral, second: FakeCentral
) -> None:
    run("use", "dev")
    assert run("use", "prod-eu").out == f"current context: prod-eu (at {second.url})\n"
    assert config.load().current == second.url
    assert run("use", "dev").out == f"current context: dev (at {central.url})\n"
    assert run("use", "stage").out == f"current context: stage-eu (at {second.url})\n"
    assert run("use", "-").out == f"current context: dev (at {central.url})\n"
    assert run("--central", second.url, "use", "prod").out.startswith("current context: prod-eu")
    assert run("--central", second.url, "use", "stage-eu").code == 0
    assert "unknown or not yours" in run("--central", second.url, "use", "dev").line
    assert "unknown or not yours" in run("use", "absent").line
    assert kubeconfig(home)["current-context"] == "stage-eu"


def test_a_name_of_several_other_centrals_is_asked_about(
    run: Run, log_in_at: LogIn, central: FakeCentral, second: FakeCentral
) -> None:
    with FakeCentral(clusters=[cluster("only")]).running() as third:
        log_in_at(central, "--suffix", "us")
        log_in_at(second, "--suffix", "eu")
        log_in_at(third)
        run("use", "only")
        line = run("use", "prod").line
        assert "several centrals have a cluster prod; say which: prod-us, prod-eu" in line


@pytest.mark.usefixtures("both")
def test_centrals_are_listed_and_chosen(
    run: Run, home: Path, central: FakeCentral, second: FakeCentral
) -> None:
    listed = json.loads(run("centrals", "list", "-o", "json").out)
    assert [(it["name"], it["suffix"]) for it in listed] == [(central.url, ""), (second.url, "eu")]
    assert run("centrals", "list").out.splitlines()[2].split()[:2] == ["*", second.url]
    assert run("centrals", "list", "-o", "name").out.split() == [central.url, second.url]
    assert complete_central(None, None, "https://") == [central.url, second.url]  # type: ignore[arg-type]
    run("use", "dev")
    run("use", "prod-eu")
    shown = run("centrals", "use", central.url).out
    assert shown == f"current central: {central.url} (current context: dev)\n"
    assert kubeconfig(home)["current-context"] == "dev"
    assert told(run) == (central.url, "dev")
    assert run("centrals", "use", "eu").out.endswith("(current context: prod-eu)\n")
    assert run("use", "-").out.startswith("current context: dev")


@pytest.mark.usefixtures("both")
def test_attack_kubectl_is_not_left_at_a_cluster_of_another_central(
    run: Run, home: Path, second: FakeCentral
) -> None:
    run("use", "dev")
    assert run("centrals", "use", "eu").out.endswith("(next: mk8s use NAME)\n")
    assert kubeconfig(home)["current-context"] == ""
    assert told(run) == (second.url, "")
    use_context(home, "dev")
    (home / ".kube" / "config").write_text(
        yaml.safe_dump({**kubeconfig(home), "current-context": "somebody-elses"})
    )
    run("centrals", "use", "eu")
    assert kubeconfig(home)["current-context"] == "somebody-elses"


@pytest.mark.usefixtures("both")
def test_a_suffix_can_be_changed_and_taken_away(run: Run, home: Path, second: FakeCentral) -> None:
    run("use", "prod-eu")
    run("use", "stage")
    document = kubeconfig(home)
    named = [
        {**entry, "name": "mine"} if entry["name"] == "prod" else entry
        for entry in document["contexts"]  # type: ignore[attr-defined]
    ]
    (home / ".kube" / "config").write_text(yaml.safe_dump({**document, "contexts": named}))
    assert run("centrals", "suffix", "eu", "west").out == "contexts: prod-west, stage-west\n"
    assert kubeconfig(home)["current-context"] == "stage-west"
    assert run("use", "-").out.startswith("current context: prod-west")
    assert run("kubeconfig", "sync").code == 0
    assert contexts(home) == ["dev", "mine", "prod-west", "stage-west"]
    first = config.load().profiles[0].central
    assert run("centrals", "suffix", first, "us").out == "contexts: dev-us, mine\n"
    assert run("centrals", "suffix", second.url, "").out == "contexts: prod, stage\n"
    assert run("centrals", "suffix", "us", "No Suffix").code == 2


@pytest.mark.usefixtures("both")
def test_a_central_is_removed_with_all_that_is_of_it(
    run: Run, home: Path, central: FakeCentral, second: FakeCentral
) -> None:
    run("use", "prod-eu")
    told_so = run("centrals", "remove", "eu")
    assert told_so.code == 0
    assert f"forgotten: {second.url}" in told_so.out
    assert f"current central: {central.url}" in told_so.out
    assert second.count("POST", "/auth/logout") == 1
    assert contexts(home) == ["dev", "prod"]
    assert [it.central for it in config.load().profiles] == [central.url]
    assert f"{second.url} {EMAIL}" not in (home / ".mk8s" / "credentials.json").read_text()
    run("logout")
    assert run("centrals", "remove", central.url).out == f"forgotten: {central.url}\n"
    assert config.load() == config.Config(previous_context=config.load().previous_context)
    assert "no central is known" in run("centrals", "list").line
    assert "is not known here" in run("centrals", "use", central.url).line


def test_a_central_one_is_logged_out_of_is_not_used(
    run: Run, logged_in: Result, central: FakeCentral
) -> None:
    run("logout")
    assert run("centrals", "use", central.url).line == (
        f"mk8s: not logged in; run: mk8s login {central.url}"
    )
    assert "(logged out)" in run("centrals", "list").out


def test_a_login_says_at_which_central_to_go_on(
    log_in_at: LogIn, central: FakeCentral, second: FakeCentral
) -> None:
    assert "next: mk8s use dev &&" in log_in_at(central).out
    assert f"next: mk8s --central {second.url} use prod &&" in log_in_at(second).out


def test_damaged_suffix_is_one_line(run: Run, home: Path) -> None:
    path = home / ".mk8s" / "config.yaml"
    path.parent.mkdir(mode=0o700)
    path.write_text("centrals: [{url: 'https://c', suffix: 'A B'}]")
    path.chmod(0o600)
    assert "suffix holds more than" in run("centrals", "list").line
    assert complete_central(None, None, "") == []  # type: ignore[arg-type]
