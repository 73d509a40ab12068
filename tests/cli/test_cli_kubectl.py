"""`mk8s k` and kubectl: arguments, plugins, `kubectl config`, completion. Real kubectls if any."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from click.shell_completion import CompletionItem

from mk8s_cli.command_table import mk8s
from mk8s_cli.commands import kubectl as kubectl_command
from mk8s_cli.commands import kubectl_completion
from mk8s_cli.kubeconfig import files as kubeconfig_files
from mk8s_cli.terminal.errors import Unwritable
from tests.cli.conftest import Result, Run
from tests.cli.fake_central import FakeCentral
from tests.support import kubectl as kubectls

PLUGIN = """#!/bin/sh
for word; do printf '[%s]' "$word"; done
kubectl config current-context
"""
OTHER = {"name": "other", "context": {"cluster": "x", "user": "x"}}


@pytest.fixture(autouse=True)
def _logged_in(logged_in: Result, run: Run) -> None:
    run("use", "prod")


@pytest.fixture
def elsewhere(home: Path) -> Path:
    """kubectl's current context is somebody else's."""
    path = home / ".kube" / "config"
    document = yaml.safe_load(path.read_text())
    document["contexts"].append(OTHER)
    path.write_text(yaml.safe_dump({**document, "current-context": "other"}))
    return path


@pytest.fixture(params=kubectls.few() or [None], ids=lambda it: it and kubectls.name_of(it))
def real(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stock kubectl as `kubectl` on PATH."""
    if request.param is None:
        pytest.skip("no kubectl here")
    folder = tmp_path / "path"
    folder.mkdir()
    (folder / "kubectl").symlink_to(request.param)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder


def k(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mk8s_cli", "k", *words],
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )


def asked(monkeypatch: pytest.MonkeyPatch, shell: str, *words: str) -> str | None:
    """What the shell gets for `mk8s WORDS` with the cursor behind the last word."""
    monkeypatch.setenv("COMP_WORDS", " ".join(("mk8s", *words)))
    monkeypatch.setenv("COMP_CWORD", words[-1] if shell == "fish" else str(len(words)))
    return kubectl_completion.answer_shell(mk8s, f"{shell}_complete")


def test_a_plugin_gets_its_words_and_the_cluster(real: Path, elsewhere: Path) -> None:
    (real / "kubectl-show").write_text(PLUGIN)
    (real / "kubectl-show").chmod(0o755)
    done = k("show", "--context-of", "-n", "x", "--", "--help", "a b")
    assert (done.returncode, done.stdout) == (0, "[--context-of][-n][x][--][--help][a b]prod\n")


def test_kubectl_config_shows_and_changes_what_is_the_persons(real: Path, elsewhere: Path) -> None:
    assert k("config", "current-context").stdout == "prod\n"
    assert k("config", "set-context", "--current", "--namespace=shop").returncode == 0
    assert k("config", "set-context", "new", "--cluster=x").returncode == 0
    contexts = {
        it["name"]: it["context"] for it in yaml.safe_load(elsewhere.read_text())["contexts"]
    }
    assert contexts["prod"]["namespace"] == "shop"
    assert "namespace" not in contexts["other"]
    assert "new" in contexts
    assert k("config", "use-context", "dev").returncode == 0
    assert yaml.safe_load(elsewhere.read_text())["current-context"] == "dev"


def test_kubectl_config_works_where_no_cluster_is_chosen(run: Run, real: Path, home: Path) -> None:
    run("logout")
    (home / ".kube" / "config").write_text(yaml.safe_dump({"current-context": "mine"}))
    assert k("config", "current-context").stdout == "mine\n"
    assert "not logged in" in k("get", "pods").stderr


def test_the_small_kubeconfig_is_shared_and_made_again(home: Path, elsewhere: Path) -> None:
    variable = kubeconfig_files.with_current("prod")
    first, *others = variable.split(os.pathsep)
    assert others == [str(home / ".kube" / "config")]
    assert Path(first).stat().st_mode & 0o777 == 0o400
    changed = Path(first).stat().st_mtime_ns
    assert kubeconfig_files.with_current("prod") == variable
    assert Path(first).stat().st_mtime_ns == changed
    Path(first).unlink()
    Path(first).write_text("current-context: elsewhere")
    Path(first).chmod(0o600)
    assert kubeconfig_files.with_current("prod") == variable
    assert yaml.safe_load(Path(first).read_text())["current-context"] == "prod"
    assert kubeconfig_files.with_current("dev") != variable


def test_where_nothing_can_be_written_the_context_is_a_flag(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: str) -> str:
        raise Unwritable("no room")

    monkeypatch.setattr(kubeconfig_files, "with_current", full)
    assert kubectl_command.prepared(["get", "pods"], "") == (["get", "--context=prod", "pods"], "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_kubectl_completes_its_commands_and_flags(
    shell: str, real: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = asked(monkeypatch, shell, "k", "rollo")
    assert answer is not None
    assert "rollout" in answer
    assert ("Manage the rollout" in answer) is (shell != "bash")
    flags = asked(monkeypatch, shell, "kubectl", "get", "--all-n")
    assert flags is not None
    assert "--all-namespaces" in flags


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_kubectl_completes_from_the_cluster_that_is_meant(
    shell: str,
    real: Path,
    elsewhere: Path,
    central: FakeCentral,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`--context` is completed from the kubeconfig: it shows that ours is read."""
    if kubectls.version_of((real / "kubectl").resolve()) < (1, 27):
        return  # completes no context
    words = ("k", "--context", "=", "pr") if shell == "bash" else ("k", "--context=pr")
    prefix = "" if shell == "bash" else "--context="
    answer = asked(monkeypatch, shell, *words)
    assert answer is not None
    assert f"{prefix}prod" in answer.split("\n")[1 if shell == "zsh" else 0]
    central.calls.clear()
    asked(monkeypatch, shell, "--central", central.url, "k", "get", "po")
    assert any(path.startswith("/k8s/prod/api") for _, path, _ in central.calls)


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("a\tone\nb\n:4\n", [("a", "one", "plain"), ("b", None, "plain")]),
        ("begun-a\n:36\n", [("begun-a", None, "plain")]),
        (":0\n", [("begun", None, "file")]),
        ("json\n:8\n", [("begun", None, "file")]),
        (":16\n", [("begun", None, "dir")]),
        ("a\n:1\n", []),
        (":4\n", []),
        ("", []),
        ("no directive\n", []),
        (":x\n", []),
    ],
)
def test_what_kubectl_tells_is_read(told: str, expected: list[tuple[str, str | None, str]]) -> None:
    begun = "" if told.startswith("a\tone") else "begun"
    items: list[CompletionItem[str]] = kubectl_completion._items(told, begun)
    assert [(it.value, it.help, it.type) for it in items] == expected


@pytest.mark.parametrize("words", [("use", "k"), ("status", "k"), ("--central", "k", "use", "x")])
def test_other_commands_are_not_kubectls(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert asked(monkeypatch, "bash", *words) is None
    assert kubectl_completion.answer_shell(mk8s, "bash_source") is None
    assert kubectl_completion.answer_shell(mk8s, "nushell_complete") is None


def test_without_a_kubectl_or_an_answer_nothing_is_suggested(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(home))
    assert asked(monkeypatch, "bash", "k", "get") == ""
    stuck = home / "kubectl"
    stuck.write_text("#!/bin/sh\nexec /bin/sleep 60\n")
    stuck.chmod(0o755)
    monkeypatch.setattr(kubectl_completion, "SECONDS", 0.1)
    assert asked(monkeypatch, "bash", "k", "get") == ""


def test_kubectl_mk8s_is_a_plugin(real: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    script = real / "kubectl-mk8s"
    script.write_text(
        f"#!{sys.executable}\nimport sys\nfrom mk8s_cli.main import main\nsys.exit(main())\n"
    )
    script.chmod(0o755)
    done = subprocess.run(
        [real / "kubectl", "mk8s", "clusters", "list", "-o", "name"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, ["dev", "prod"], "")
