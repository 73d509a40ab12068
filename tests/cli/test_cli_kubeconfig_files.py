"""The kubeconfig files on disk: which, under which lock, which mode, and does kubectl agree."""

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from mk8s_cli.kubeconfig import files as kubeconfig_files
from mk8s_cli.kubeconfig.entries import Login, Plugin
from mk8s_cli.terminal import interpreter
from mk8s_cli.terminal.errors import CliError
from tests.cli.conftest import CHECKOUT, Result, Run
from tests.cli.fake_central import FakeCentral, cluster

URL = "https://central.example"
LOGIN = Login(URL, "PEM", Plugin("/usr/local/bin/mk8s"))
SERVERS = {"prod": f"{URL}/k8s/prod"}
KUBECTL = shutil.which("kubectl")


def sync(*paths: Path) -> None:
    with kubeconfig_files.editing(paths or None) as kubeconfig:
        kubeconfig.sync(LOGIN, SERVERS)


def test_default_file_is_made_private(home: Path) -> None:
    sync()
    path = home / ".kube" / "config"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["config"]


def test_mode_of_an_existing_file_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.touch()
    path.chmod(0o640)
    sync(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_linked_file_stays_linked(tmp_path: Path) -> None:
    real, link = tmp_path / "dotfiles", tmp_path / "config"
    real.touch()
    link.symlink_to(real)
    sync(link)
    assert link.is_symlink()
    assert "mk8s-prod" in real.read_text()


def test_unchanged_file_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "config"
    sync(path)
    path.write_text(f"# a comment that a rewrite would lose\n{path.read_text()}")
    sync(path)
    assert "# a comment" in path.read_text()


def test_failure_inside_leaves_file_and_no_lock(tmp_path: Path) -> None:
    path = tmp_path / "config"

    def fails() -> None:
        with kubeconfig_files.editing([path]) as kubeconfig:
            kubeconfig.sync(LOGIN, SERVERS)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    assert list(tmp_path.iterdir()) == []


def test_kubeconfig_list_of_kubectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [tmp_path / name for name in ("absent", "first", "second", "first")]
    for path in names[1:]:
        path.touch()
    monkeypatch.setenv("KUBECONFIG", os.pathsep.join(["", *map(str, names)]))
    paths = kubeconfig_files.listed_paths()
    assert [path.name for path in paths] == ["absent", "first", "second"]
    assert kubeconfig_files.target_path(paths).name == "first"
    sync()
    assert "mk8s-prod" in names[1].read_text()
    assert names[2].read_text() == ""
    assert not names[0].exists()


def test_without_any_file_the_last_one_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path}/a{os.pathsep}{tmp_path}/b")
    sync()
    assert [path.name for path in tmp_path.glob("[ab]")] == ["b"]


def test_every_listed_file_is_locked_as_kubectl_does(tmp_path: Path) -> None:
    paths = [tmp_path / "b", tmp_path / "a"]
    with kubeconfig_files.editing(paths):
        locks = sorted(path.name for path in tmp_path.iterdir())
        assert locks == ["a.lock", "b.lock"]
        assert stat.S_IMODE((tmp_path / "a.lock").stat().st_mode) == 0
    assert list(tmp_path.glob("*.lock")) == []


def test_stale_lock_is_one_line_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kubeconfig_files, "LOCK_SECONDS", 0.0)
    lock = tmp_path / "config.lock"
    lock.touch()
    with pytest.raises(CliError, match=f"rm {lock}"):
        sync(tmp_path / "config")
    assert lock.exists(), "somebody else's lock is theirs"
    assert not (tmp_path / "config").exists()


def test_lock_that_comes_free_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = tmp_path / "config.lock"
    lock.touch()
    monkeypatch.setattr("mk8s_cli.kubeconfig.files.time.sleep", lambda _: lock.unlink())
    sync(tmp_path / "config")
    assert "mk8s-prod" in (tmp_path / "config").read_text()


def test_folder_in_place_of_the_file_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.mkdir()
    with pytest.raises(CliError, match="cannot read the kubeconfig"):
        sync(path)


def test_parent_that_is_a_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CliError, match="set KUBECONFIG to a file that you can write to"):
        sync(tmp_path / "file" / "config")


def test_plugin_is_this_program_by_absolute_path(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONPATH", "/of/another/project")
    words = ("-E", "-P", "-m", "mk8s_cli")
    assert kubeconfig_files.plugin() == Plugin(sys.executable, words)
    monkeypatch.setenv("MK8S_HOME", "relative")
    expected = (("MK8S_HOME", str(Path("relative").absolute())),)
    assert kubeconfig_files.plugin() == Plugin(sys.executable, words, expected)


def test_plugin_that_is_found_by_python_path_only_keeps_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(interpreter, "_is_installed", lambda _: False)
    path = os.pathsep.join(["/elsewhere", str(CHECKOUT)])
    monkeypatch.setenv("PYTHONPATH", path)
    expected = Plugin(sys.executable, ("-P", "-m", "mk8s_cli"), (("PYTHONPATH", path),))
    assert kubeconfig_files.plugin() == expected


def context_of(home: Path, name: str) -> dict[str, str]:
    document = yaml.safe_load((home / ".kube" / "config").read_text())
    return next(entry["context"] for entry in document["contexts"] if entry["name"] == name)


def test_contexts_start_where_their_user_may_look(
    run: Run, log_in: Callable[[], Result], central: FakeCentral, home: Path
) -> None:
    central.clusters = [cluster("prod", namespace="shop"), cluster("dev", namespace="")]
    log_in()
    assert context_of(home, "prod")["namespace"] == "shop"
    assert "namespace" not in context_of(home, "dev")


def test_a_namespace_that_was_chosen_stays(
    run: Run, log_in: Callable[[], Result], central: FakeCentral, home: Path
) -> None:
    central.clusters = [cluster("prod", namespace="shop")]
    log_in()
    assert run("use", "prod", "-n", "web").code == 0
    assert run("kubeconfig", "sync").code == 0
    assert context_of(home, "prod")["namespace"] == "web"


@pytest.mark.parametrize("strange", ["*", "a/b", "x" * 64, 7, None])
def test_a_namespace_that_is_no_name_is_not_written(
    run: Run, log_in: Callable[[], Result], central: FakeCentral, home: Path, strange: object
) -> None:
    central.clusters = [cluster("prod", namespace=strange)]
    log_in()
    assert "namespace" not in context_of(home, "prod")


def test_sync_writes_and_prunes(
    run: Run, logged_in: Result, central: FakeCentral, home: Path
) -> None:
    central.clusters = [cluster("prod"), cluster("new", server="https://new.example/")]
    result = run("kubeconfig", "sync")
    assert "new, prod" in result.out
    assert "removed: dev" in result.out
    document = yaml.safe_load((home / ".kube" / "config").read_text())
    servers = {entry["name"]: entry["cluster"]["server"] for entry in document["clusters"]}
    assert servers == {
        "mk8s-prod": f"{central.url}/k8s/prod",
        "mk8s-new": "https://new.example",
    }


def test_out_writes_a_file_of_its_own(run: Run, logged_in: Result, tmp_path: Path) -> None:
    out = tmp_path / "mk8s.yaml"
    assert run("kubeconfig", "sync", "--out", str(out)).code == 0
    assert run("kubeconfig", "sync", "--out", str(out)).code == 0, "it is ours"
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    foreign = tmp_path / "foreign.yaml"
    foreign.write_text("contexts: [{name: mine, context: {cluster: a, user: b}}]")
    refused = run("kubeconfig", "sync", "--out", str(foreign))
    assert "add --merge" in refused.line
    assert "mk8s-" not in foreign.read_text()
    assert run("kubeconfig", "sync", "--out", str(foreign), "--merge").code == 0
    names = [entry["name"] for entry in yaml.safe_load(foreign.read_text())["contexts"]]
    assert names == ["mine", "dev", "prod"]


def test_path_and_remove(run: Run, logged_in: Result, home: Path) -> None:
    assert run("kubeconfig", "path").out == f"{home}/.kube/config\n"
    assert run("kubeconfig", "remove").out == "removed: dev, prod\n"
    assert run("kubeconfig", "remove", "--all").out == "removed: nothing\n"
    assert yaml.safe_load((home / ".kube" / "config").read_text())["contexts"] == []


@pytest.mark.parametrize(
    "hostile",
    [
        {"name": "x\n  exec: {command: /bin/sh}"},
        {"name": "$(id)"},
        {"name": "../prod"},
        {"name": "x" * (1 << 20)},
        {"name": 7},
        {"name": None},
        {"name": "prod", "server": "http://prod.example"},
        {"name": "prod", "server": "https://prod.example/\nexec:"},
        {"name": "prod", "server": "https://user@prod.example"},
        {"name": "prod", "server": "https://prod.example/../x"},
        {"name": "prod", "server": "https://prod.example/k8s?x=$(id)"},
        {"name": "prod", "server": ["https://prod.example"]},
    ],
    ids=str,
)
def test_answer_that_would_write_an_exec_entry_is_refused(
    run: Run, logged_in: Result, central: FakeCentral, home: Path, hostile: dict[str, object]
) -> None:
    before = (home / ".kube" / "config").read_bytes()
    central.clusters = [cluster("fine"), {**cluster("x"), **hostile}]
    result = run("kubeconfig", "sync")
    assert result.code == 1
    assert "central's answer is refused" in result.line
    assert len(result.line) < 300
    assert (home / ".kube" / "config").read_bytes() == before


@pytest.mark.parametrize(
    "answer",
    [
        "<html>", {"clusters": 7}, {"clusters": [7]}, {"items": 7}, {}, 7,
        {"clusters": [], "next_cursor": 7},
    ],
)  # fmt: skip
def test_list_of_another_shape_is_refused(
    run: Run, logged_in: Result, central: FakeCentral, answer: object
) -> None:
    central.overrides["GET /clusters"] = [(200, answer)]
    assert "central's answer is refused" in run("kubeconfig", "sync").line


@pytest.mark.skipif(KUBECTL is None, reason="kubectl is not on PATH")
def test_stock_kubectl_accepts_what_we_write(
    run: Run, logged_in: Result, central: FakeCentral, home: Path
) -> None:
    def kubectl(*words: str) -> str:
        assert KUBECTL is not None
        done = subprocess.run([KUBECTL, *words], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert kubectl("config", "get-contexts", "-o", "name").split() == ["dev", "prod"]
    kubectl("config", "set-context", "prod", "--namespace=shop")
    kubectl("config", "set-cluster", "mine", "--server=https://127.0.0.1:1")
    kubectl("config", "set-context", "mine", "--cluster=mine")
    assert run("use", "prod").code == 0
    assert kubectl("config", "current-context") == "prod\n"
    view = yaml.safe_load(kubectl("config", "view", "--minify", "--raw", "-o", "json"))
    assert view["contexts"][0]["context"]["namespace"] == "shop"
    assert view["users"][0]["user"]["exec"]["interactiveMode"] == "Never"
    assert "mine" in kubectl("config", "get-contexts", "-o", "name").split()


@pytest.mark.skipif(KUBECTL is None, reason="kubectl is not on PATH")
def test_stock_kubectl_gets_its_token_from_us(
    run: Run, logged_in: Result, central: FakeCentral, home: Path
) -> None:
    central.overrides["GET /k8s/prod/version"] = [(200, {"gitVersion": "v1.32.9"})] * 9
    assert KUBECTL is not None
    done = subprocess.run(
        [KUBECTL, "--context=prod", "version", "-o", "json"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert '"v1.32.9"' in done.stdout, done.stderr
    assert central.body("POST", "/auth/refresh")["cluster"] == "prod"
