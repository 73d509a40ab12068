"""`mk8s demo`: the whole product started by one command, used, and gone without a trace."""

import importlib.util
import json
import os
import signal
import socket
import sys
import time
import types
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from mk8s_cli.commands import demo as demo_module
from mk8s_cli.commands import demo_programs
from mk8s_cli.commands.demo_programs import Programs
from mk8s_cli.terminal.errors import CliError
from tests.support import kubectl as kubectls
from tests.support.kubectl import Kubectl
from tests.support.processes import Program, private_environment, run

CHECKOUT = str(Path(__file__).parents[2])


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return private_environment(tmp_path, PYTHONPATH=CHECKOUT, TMPDIR=str(tmp_path))


@pytest.fixture
def running(environment: dict[str, str]) -> Iterator[Program]:
    with Program("mk8s demo", [sys.executable, "-m", "mk8s_cli", "demo"], environment) as program:
        program.wait_for_line("Ctrl-C ends it", seconds=90)
        yield program


def central_of(program: Program) -> int:
    return int(program.wait_for_line(r"central at https://127\.0\.0\.1:(\d+)")[1])


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.skipif(not kubectls.binaries(), reason="no kubectl: set MK8S_TEST_KUBECTLS")
def test_it_works(
    environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this process: the person types while the demo sleeps between two looks."""
    directory = tmp_path / "data"
    journal = directory / "central" / "audit" / "journal.jsonl"
    used = {"MK8S_HOME": str(directory / "home"), "KUBECONFIG": str(directory / "kubeconfig")}
    newest = max(kubectls.binaries(), key=kubectls.version_of)
    kubectl = Kubectl(newest, environment | used)

    def type_commands() -> Iterator[None]:
        assert kubectl("get", "pods").stdout.count("Running") == 3
        assert kubectl("exec", "deployment/web", "--", "echo", "hi").stdout == "hi\n"
        assert "scaled" in kubectl("scale", "deployment/web", "--replicas=2").stdout
        refused = kubectl("get", "secrets", code=1).stderr
        assert 'cannot list resource "secrets"' in refused
        while b'"forbid"' not in journal.read_bytes():  # rows come a moment after the answer
            time.sleep(0.01)
        yield
        raise KeyboardInterrupt

    typing = type_commands()
    clock = types.SimpleNamespace(sleep=lambda _seconds: next(typing))
    monkeypatch.setattr(demo_module, "time", clock)
    monkeypatch.setenv("HOME", str(tmp_path))
    script = tmp_path / "not on PATH" / "mk8s"
    monkeypatch.setattr(demo_module, "_folder_to_add", lambda: str(script.parent))
    result = CliRunner().invoke(demo_module.demo, ["--data-dir", str(directory)])
    assert result.exit_code == 0, result.output
    assert f"export KUBECONFIG={directory}/kubeconfig" in result.output
    assert f"export PATH='{script.parent}':$PATH" in result.output
    assert "dev@example.com  list pods shop  200" in result.output
    assert "dev@example.com  list secrets shop  403 refused" in result.output
    assert f"{directory} is kept" in result.output
    assert (directory / "passwords").stat().st_mode & 0o777 == 0o600


def test_ctrl_c_leaves_nothing(running: Program, tmp_path: Path) -> None:
    port = central_of(running)
    running.signal(signal.SIGINT)
    assert running.wait() == 0
    assert "nothing is left of it" in running.output
    assert not listens(port)
    assert list(tmp_path.glob("mk8s-demo-*")) == []
    assert not (tmp_path / ".kube").exists()
    assert not (tmp_path / ".mk8s").exists()


def test_a_killed_demo_takes_its_children_along(running: Program) -> None:
    port = central_of(running)
    assert listens(port)
    running.signal(signal.SIGKILL)
    running.wait()
    while listens(port):
        pass  # the kernel is at it; the test's own time limit ends this otherwise


def test_a_directory_in_use_is_refused(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine").touch()
    command = [sys.executable, "-m", "mk8s_cli", "demo", "--data-dir", tmp_path / "data"]
    done = run(command, environment, code=1)
    assert done.stderr.startswith(f"mk8s: {tmp_path / 'data'} is not empty")


def test_a_port_in_use_is_refused(environment: dict[str, str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = run([sys.executable, "-m", "mk8s_cli", "demo", "--port", port], environment, code=1)
    assert done.stderr.count("\n") == 1
    assert f"port {port} cannot be used" in done.stderr


def test_a_context_that_is_not_there_is_told_before_anything_starts(
    environment: dict[str, str], tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "mk8s_cli", "demo", "--context", "typo"]
    done = run(command, environment, code=1)
    assert done.stderr == 'mk8s: the kubeconfig has no context "typo"; the contexts are: (none)\n'
    contexts = [{"name": name, "context": {}} for name in ("kind", "prod")]
    path = tmp_path / "kubeconfig"
    path.write_text(json.dumps({"kind": "Config", "apiVersion": "v1", "contexts": contexts}))
    done = run(command, environment | {"KUBECONFIG": str(path)}, code=1)
    assert done.stderr.endswith("the contexts are: kind, prod\n")
    assert done.stdout == ""


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    result = CliRunner().invoke(demo_module.demo)
    assert isinstance(result.exception, CliError)
    assert "pip install 'mk8s[demo]'" in str(result.exception)


class TestPrograms:
    def test_one_that_ends_is_reported_with_its_last_line(self, tmp_path: Path) -> None:
        with Programs(tmp_path) as programs:
            programs.start("speaker", [sys.executable, "-c", "print('why')"], os.environ)
            with pytest.raises(CliError, match="speaker ended: why"):
                programs.wait_until(lambda: False, "nothing")

    def test_waiting_has_an_end(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(demo_programs, "START_SECONDS", -1.0)
        with pytest.raises(CliError, match="the thing took over"):
            Programs(tmp_path).wait_until(lambda: False, "the thing")

    def test_one_that_ignores_sigterm_is_killed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(demo_programs, "GRACE_SECONDS", 0.1)
        script = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True)"
        with Programs(tmp_path) as programs:
            command = [sys.executable, "-c", f"{script}; time.sleep(600)"]
            programs.start("deaf", command, os.environ)
            (program,) = programs.running
            programs.wait_until(lambda: program.log.stat().st_size > 0, "the deaf one")
        assert program.process.returncode == -signal.SIGKILL

    def test_a_failed_command_says_its_last_line(self) -> None:
        with pytest.raises(CliError, match=r"^no luck$"):
            demo_programs.run([sys.executable, "-c", "exit('first\\nno luck')"], os.environ)
        with pytest.raises(CliError, match="ended with 3"):
            demo_programs.run([sys.executable, "-c", "exit(3)"], os.environ)

    def test_settings_of_the_caller_do_not_reach_the_children(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("MK8S_LISTEN", "0.0.0.0:1")
        monkeypatch.setenv("AGENT_TOKEN", "other")
        found = demo_programs.environment(MK8S_HOME="x")
        assert "MK8S_LISTEN" not in found
        assert "AGENT_TOKEN" not in found
        assert found["MK8S_HOME"] == "x"
        assert found["PYTHONPATH"].split(os.pathsep)[0] == CHECKOUT


@pytest.mark.parametrize("line", [b"", b"[]", b"{", b'{"stage": "ResponseComplete"}', b"7"])
def test_strange_rows_of_the_journal_are_left_out(
    line: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    demo_module._show(line)
    assert capsys.readouterr().out == ""


def test_rows_are_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    row = {
        "stage": "ResponseComplete",
        "verb": "get",
        "requestURI": "/\x1b[2J",
        "responseStatus": {"code": 404},
        "annotations": {"authorization.k8s.io/decision": "forbid"},
        "user": {"username": "dev@example.com"},
    }
    demo_module._show(json.dumps(row).encode())
    assert capsys.readouterr().out == "  dev@example.com  get /\\x1b[2J  404 refused\n"


@pytest.mark.parametrize(
    ("command", "found", "folder"),
    [
        ("/venv/bin/mk8s", None, "/venv/bin"),
        ("/venv/bin/mk8s", "/usr/bin/mk8s", "/venv/bin"),
        ("/venv/bin/mk8s", "/venv/bin/mk8s", ""),
        ("/venv/bin/python", None, ""),
    ],
)
def test_the_folder_of_mk8s_is_told_where_path_has_another(
    monkeypatch: pytest.MonkeyPatch, command: str, found: str | None, folder: str
) -> None:
    monkeypatch.setattr(demo_module, "mk8s_command", lambda: [command])
    monkeypatch.setattr("shutil.which", lambda _name: found)
    assert demo_module._folder_to_add() == folder
