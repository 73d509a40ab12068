"""Choosing a cluster, and stock kubectl on the chosen one."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from mk8s_cli.commands.kubectl import chooses_itself, with_context
from mk8s_cli.login import config
from tests.cli.conftest import Result, Run
from tests.cli.fake_central import FakeCentral, cluster

KUBECTL = """#!/bin/sh
echo "$KUBECONFIG" > "$0.seen"
for word; do echo "$word" >> "$0.seen"; done
cat
exit 7
"""


@pytest.fixture(autouse=True)
def _logged_in(logged_in: Result) -> None:
    """Every test here starts logged in."""


def kubeconfig(home: Path) -> dict[str, object]:
    document: dict[str, object] = yaml.safe_load((home / ".kube" / "config").read_text())
    return document


def test_use_sets_the_current_context(run: Run, home: Path) -> None:
    result = run("use", "prod")
    assert (result.code, result.out) == (0, "current context: prod\n")
    assert kubeconfig(home)["current-context"] == "prod"
    assert run("clusters", "use", "dev").code == 0
    assert kubeconfig(home)["current-context"] == "dev"


def test_use_sets_the_namespace(run: Run, home: Path) -> None:
    assert run("use", "prod", "-n", "shop").out == "current context: prod, namespace shop\n"
    contexts = kubeconfig(home)["contexts"]
    assert isinstance(contexts, list)
    assert contexts[1]["context"]["namespace"] == "shop"
    assert run("use", "prod", "-n", "No Namespace").code == 2


def test_use_dash_goes_back_and_forth(run: Run, home: Path) -> None:
    assert "nothing" not in run("use", "-").line
    run("use", "dev")
    run("use", "prod")
    assert run("use", "-").out == "current context: dev\n"
    assert config.load().profiles[0].cluster == "dev"
    assert run("use", "-", "-n", "shop").out == "current context: prod, namespace shop\n"


def test_use_dash_goes_back_to_a_context_of_others(run: Run, home: Path) -> None:
    path = home / ".kube" / "config"
    document = kubeconfig(home)
    contexts = document["contexts"]
    assert isinstance(contexts, list)
    contexts.append({"name": "mine", "context": {"cluster": "a", "user": "b"}})
    path.write_text(yaml.safe_dump({**document, "current-context": "mine"}))
    run("use", "prod")
    assert run("use", "-").out == "current context: mine\n"
    assert config.load().profiles[0].cluster == "prod"


def test_use_dash_to_a_context_that_is_gone(run: Run, home: Path, central: FakeCentral) -> None:
    run("use", "dev")
    run("use", "prod")
    central.clusters = [cluster("prod")]
    run("kubeconfig", "sync")
    assert "the context dev is gone" in run("use", "-").line


def test_cluster_unknown_or_not_yours_is_one_line(run: Run, home: Path) -> None:
    result = run("use", "prd")
    assert result.line == "mk8s: cluster prd is unknown or not yours; did you mean prod?"
    assert "mk8s clusters list" in run("use", "zzzzzz").line
    assert "is not a valid name" in run("use", "../x").line
    assert "current-context" not in kubeconfig(home)


def test_cluster_that_is_new_gets_its_context(run: Run, home: Path, central: FakeCentral) -> None:
    central.clusters.append(cluster("new"))
    assert run("use", "new").code == 0
    assert kubeconfig(home)["current-context"] == "new"


def test_use_works_while_central_is_down(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mk8s_cli.central.transport.FIRST_PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(
        "mk8s_cli.central.transport.Transport._exchange",
        lambda *_: (_ for _ in ()).throw(ConnectionRefusedError("connection refused")),
    )
    result = run("use", "prod")
    assert result.code == 0
    assert "the context written before is used" in result.line
    assert kubeconfig(home)["current-context"] == "prod"
    assert "cannot reach central" in run("use", "never-seen").line


def test_use_of_a_cluster_without_an_agent_warns(run: Run, central: FakeCentral) -> None:
    central.clusters = [cluster("prod", status="disconnected")]
    result = run("use", "prod")
    assert (result.code, result.out) == (0, "current context: prod\n")
    assert "cluster prod has no agent now (disconnected)" in result.err


def fake_kubectl(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    program = home / "bin" / "kubectl"
    program.parent.mkdir()
    program.write_text(KUBECTL)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    return program


def variable(program: Path) -> str:
    """The KUBECONFIG that kubectl ran with."""
    return program.with_name("kubectl.seen").read_text().splitlines()[0]


def seen(program: Path) -> list[str]:
    return program.with_name("kubectl.seen").read_text().splitlines()[1:]


@pytest.mark.parametrize("word", ["kubectl", "k"])
def test_kubectl_gets_words_stdin_and_exit_code_untouched(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    run("use", "prod")
    program = fake_kubectl(home, monkeypatch)
    words = ["-it", "pod", "-n=x", "--", "sh", "-c", "echo --help", "--context", "--", ""]
    done = subprocess.run(
        [sys.executable, "-m", "mk8s_cli", word, "exec", *words],
        input="through\n",
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (7, "through\n", "")
    assert seen(program) == ["exec", *words]
    assert variable(program) == "", "kubectl's own current context is the one that is meant"


class Became(Exception):
    pass


@pytest.fixture
def becomes(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Command lines of the kubectl that this process would have become."""
    started: list[list[str]] = []
    monkeypatch.setattr("os.environ", dict(os.environ))

    def execv(_: str, words: list[str]) -> None:
        started.append(words)
        raise Became

    monkeypatch.setattr("os.execv", execv)
    return started


def test_which_context_is_meant(run: Run, home: Path, becomes: list[list[str]]) -> None:
    path = home / ".kube" / "config"
    assert "mk8s use NAME" in run("kubectl", "get", "pods").line
    run("use", "prod")
    chosen = path.read_text()
    for text in (chosen, chosen.replace("current-context: prod", "current-context: other")):
        path.write_text(text)
        with pytest.raises(Became):
            run("kubectl", "get", "pods")
        assert becomes.pop() == ["kubectl", "get", "pods"]
        assert named(os.environ.get("KUBECONFIG", "")) == ("" if text == chosen else "prod")


def named(variable: str) -> str:
    """The current context that the first file of a KUBECONFIG names."""
    first = variable.split(os.pathsep, maxsplit=1)[0]
    return str(yaml.safe_load(Path(first).read_text())["current-context"]) if first else ""


def test_the_only_cluster_needs_no_choice(
    run: Run, central: FakeCentral, becomes: list[list[str]]
) -> None:
    central.clusters = [cluster("prod")]
    run("kubeconfig", "sync")
    with pytest.raises(Became):
        run("--central", central.url, "kubectl", "get", "pods")
    assert becomes == [["kubectl", "get", "pods"]]


@pytest.mark.parametrize(
    "words",
    [
        ["--context", "x", "get"],
        ["get", "--context=x"],
        ["get", "--kubeconfig", "f"],
        ["--kubeconfig=f"],
    ],
)
def test_own_choice_of_context_is_left_alone(
    run: Run, becomes: list[list[str]], words: list[str]
) -> None:
    with pytest.raises(Became):
        run("kubectl", *words)
    assert becomes == [["kubectl", *words]]


@pytest.mark.parametrize("words", [[], ["-h"], ["--help"], ["help", "get"], ["get", "--help"]])
def test_kubectl_explains_itself_to_everybody(
    run: Run, becomes: list[list[str]], words: list[str]
) -> None:
    run("logout")
    with pytest.raises(Became):
        run("kubectl", *words)
    assert becomes == [["kubectl", *words]]


def test_help_behind_two_dashes_is_another_programs(run: Run, becomes: list[list[str]]) -> None:
    run("use", "prod")
    with pytest.raises(Became):
        run("kubectl", "exec", "x", "--", "ls", "--help")
    assert becomes == [["kubectl", "exec", "x", "--", "ls", "--help"]]


def test_words_behind_two_dashes_choose_nothing() -> None:
    assert not chooses_itself(["exec", "pod", "--", "kubectl", "--context", "x"])
    assert not chooses_itself(["get", "--contextual"])


def test_where_the_context_goes() -> None:
    assert with_context([], "c") == ["--context=c"]
    assert with_context(["-n", "x", "get"], "c") == ["--context=c", "-n", "x", "get"]
    assert with_context(["get", "--", "x"], "c") == ["get", "--context=c", "--", "x"]


def test_missing_kubectl_is_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert "kubectl is not on PATH; install it" in run("kubectl", "get", "pods").line


def test_when_an_agent_was_seen_is_an_age_by_centrals_clock(run: Run, central: FakeCentral) -> None:
    central.clock_offset = 30 * 86400.0
    seen = datetime.fromtimestamp(central._now() - 3 * 86400 - 60, UTC)
    central.clusters = [cluster("prod", last_seen=seen.isoformat().replace("+00:00", "Z"))]
    row = run("clusters", "list").out.splitlines()[1]
    assert " 3d " in row
    run("use", "prod")
    assert "seen 3d ago" in run("status").out
    listed = json.loads(run("clusters", "list", "-o", "json").out)
    assert listed == central.clusters, "programs get the time"


def test_clusters_list_in_every_form(run: Run, central: FakeCentral) -> None:
    names = run("clusters", "list", "-o", "name").out
    assert names.split() == ["dev", "prod"]
    table = run("clusters", "ls").out.splitlines()
    assert table[0].split()[:3] == ["NAME", "STATUS", "AGENT"]
    assert table[1].split()[:2] == ["dev", "connected"]
    assert "env=dev" in table[1]
    assert "get,list" in table[1]
    listed = json.loads(run("clusters", "list", "-o", "json").out)
    assert listed == central.clusters
    assert yaml.safe_load(run("clusters", "list", "-o", "yaml").out) == listed


def test_labels_of_another_shape_show_nothing(run: Run, central: FakeCentral) -> None:
    central.clusters = [cluster("prod", labels=["a"], verbs=None, last_seen=7)]
    assert run("clusters", "list").out.splitlines()[1].split()[-3:] == ["-", "-", "-"]


def test_no_cluster_is_said(run: Run, central: FakeCentral) -> None:
    central.clusters = []
    assert "ask an administrator" in run("clusters", "list").line
    assert run("clusters", "list", "-o", "json").out == "[]\n"


def test_hostile_text_cannot_drive_the_terminal(run: Run, central: FakeCentral) -> None:
    hostile = "\x1b[2J\r\n\x7f\x9b\u202e[red]x[/red]"
    central.clusters = [
        cluster("prod", agent_version=hostile, status=hostile, labels={"a": hostile})
    ]
    for form in ("table", "json", "yaml"):
        out = run("clusters", "list", "-o", form).out
        assert out.replace("\n", "").isprintable(), form
        assert out.isascii(), form
        assert "[red]x" in out, "and nothing of it is taken for markup"
    assert json.loads(run("clusters", "list", "-o", "json").out)[0]["agent_version"] == hostile


def test_status_tells_everything(run: Run, central: FakeCentral) -> None:
    assert "none chosen: mk8s use NAME" in run("status").out
    run("use", "prod")
    central.admin = True
    central.permissions = [
        {"role": "developer", "namespaces": ["*"], "verbs": ["get"], "resources": ["pods"]},
        {"role": "no", "deny": True, "verbs": ["*"], "nonResourceURLs": ["/metrics"]},
    ]
    out = run("status").out
    for fact in ("dev@example.com (administrator)", "developer", "s left", "prod (context prod)",
                 "connected, agents 2, version 0.1.0", "v1.32.4", "deny", "/metrics"):  # fmt: skip
        assert fact in out
    told = json.loads(run("status", "-o", "json").out)
    assert told["cluster"]["permissions"] == central.permissions
    assert 0 < told["token_seconds"] <= 900
    assert yaml.safe_load(run("status", "-o", "yaml").out)["user"] == "dev@example.com"


def test_status_of_a_cluster_that_was_lost(run: Run, central: FakeCentral) -> None:
    run("use", "prod")
    central.clusters = [cluster("dev")]
    assert "not yours (any more)" in run("status").out


def test_status_names_a_clock_that_is_off(run: Run, central: FakeCentral) -> None:
    central.clock_offset = -3600
    result = run("status")
    assert "set the clock right" in result.out
    assert "s ahead of central's" in result.line
