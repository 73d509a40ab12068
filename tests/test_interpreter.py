"""The caller's Python environment has no say in what the three programs run.

The scripts are those that an installer makes of the entry points in pyproject.toml, as processes
of their own. What Python itself does with a PYTHONHOME that holds no Python, before it runs any
script, is out of their reach.
"""

import os
import subprocess
import sys
import tomllib
import types
from pathlib import Path
from types import ModuleType

import pytest

from mk8s_agent.wire import interpreter as of_agent
from mk8s_cli.terminal import interpreter as of_cli
from tests.support.command_lines import CHECKOUT

SCRIPTS = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["scripts"]
SHADOWED = (
    "asyncio", "click", "cryptography", "dataclasses", "json", "keyring", "random", "socket", "ssl",
    "yaml",
)  # fmt: skip
"""Not `pathlib` and the like: the finder of an editable installation reads them before our code."""
SCRIPT = """#!{python}
import sys
from {module} import {function}
sys.exit({function}())
"""


@pytest.fixture(params=[of_agent, of_cli], ids=["agent", "cli"])
def interpreter(request: pytest.FixtureRequest) -> ModuleType:
    found: ModuleType = request.param
    return found


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Another project, with modules that are called like those that we use."""
    return hostile(tmp_path / "project")


def hostile(folder: Path) -> Path:
    folder.mkdir()
    for name in SHADOWED:
        (folder / f"{name}.py").write_text("raise SystemExit('the module of another project')\n")
    return folder


@pytest.fixture
def became(monkeypatch: pytest.MonkeyPatch, interpreter: ModuleType) -> list[list[str]]:
    """The commands that this process was to become."""
    commands: list[list[str]] = []
    monkeypatch.setattr(interpreter, "become", lambda _, command: commands.append(command))
    return commands


def script(name: str, folder: Path) -> Path:
    """The installed script of a program."""
    module, _, function = SCRIPTS[name].partition(":")
    path = folder / name
    path.write_text(SCRIPT.format(python=sys.executable, module=module, function=function))
    path.chmod(0o755)
    return path


def run(*command: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: it for name, it in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(
        command,
        env={**inherited, **environment},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_both_copies_are_equal() -> None:
    agent, cli = (Path(str(one.__file__)).read_bytes() for one in (of_agent, of_cli))
    assert agent == cli


@pytest.mark.parametrize("name", SCRIPTS)
def test_attack_modules_of_another_project_are_not_run(
    name: str, project: Path, tmp_path: Path
) -> None:
    started = str(script(name, tmp_path))
    for environment in (
        {},
        {"PYTHONPATH": str(project)},
        {"PYTHONPATH": f"{os.pathsep}{project}", "PYTHONVERBOSE": ""},
        {"PYTHONPATH": "."},
        {"PYTHONHOME": sys.base_prefix, "PYTHONPATH": f"{project}{os.pathsep}{packages()}"},
        {"PYTHONWARNINGS": "error", "PYTHONDEVMODE": "1"},
    ):
        for words in (("--help",), ("--version",)):
            done = run(started, *words, folder=project, **environment)
            assert (done.returncode, done.stderr) == (0, ""), environment
            assert name.removeprefix("kubectl-") in done.stdout


def packages() -> str:
    """Where the interpreter of a foreign PYTHONHOME still finds the packages, as in a test."""
    return os.pathsep.join((str(CHECKOUT), str(Path(pytest.__file__).parent.parent)))


@pytest.mark.parametrize("name", SCRIPTS)
def test_attack_modules_beside_the_script_are_not_run(name: str, tmp_path: Path) -> None:
    folder = hostile(tmp_path / "bin")
    done = run(str(script(name, folder)), "--help", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_attack_the_folder_of_the_script_is_left(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, interpreter: ModuleType
) -> None:
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "mk8s")])
    monkeypatch.setattr(sys, "path", [str(tmp_path), "/lib"])
    interpreter._leave_folder_of_script()
    interpreter._leave_folder_of_script()
    assert sys.path == ["/lib"]


def test_a_program_that_python_path_finds_keeps_it(
    monkeypatch: pytest.MonkeyPatch, project: Path, interpreter: ModuleType, became: list[list[str]]
) -> None:
    monkeypatch.setattr(interpreter, "_is_installed", lambda _: False)
    monkeypatch.setenv("PYTHONPATH", f"{project}{os.pathsep}{CHECKOUT}")
    interpreter.start_again_alone("mk8s_agent")
    assert became == []


def test_what_is_installed_is_found_without_python_path(interpreter: ModuleType) -> None:
    assert interpreter._is_installed(str(Path(pytest.__file__).parent.parent))


def test_what_nobody_finds_is_not_installed(
    monkeypatch: pytest.MonkeyPatch, interpreter: ModuleType
) -> None:
    monkeypatch.setattr(sys, "meta_path", [it for it in sys.meta_path if "frozen" in repr(it)])
    assert not interpreter._is_installed("/nowhere")


def test_nothing_is_started_again_without_need(
    monkeypatch: pytest.MonkeyPatch, interpreter: ModuleType, became: list[list[str]]
) -> None:
    for name in interpreter._CHANGES_WHAT_RUNS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYTHONUNBUFFERED", "1")
    interpreter.start_again_alone("mk8s_agent")
    monkeypatch.setattr(sys, "executable", "")
    interpreter.start_again_alone("mk8s_agent")
    assert became == []


def test_what_is_started_again_is_the_script_or_where_there_is_none_the_module(
    monkeypatch: pytest.MonkeyPatch,
    project: Path,
    interpreter: ModuleType,
    became: list[list[str]],
) -> None:
    path = script("mk8s-agent", project)
    monkeypatch.setenv("PYTHONPATH", str(project))
    monkeypatch.setattr(sys, "argv", [str(path), "--version"])
    interpreter.start_again_alone("mk8s_agent")
    monkeypatch.setattr(interpreter, "WINDOWS", True)
    interpreter.start_again_alone("mk8s_agent")
    alone = [sys.executable, "-E", "-P"]
    module = ["-m", "mk8s_agent"]
    assert became == [[*alone, str(path), "--version"], [*alone, *module, "--version"]]


@pytest.mark.parametrize(("code", "is_full", "ended_with"), [(0, 0, 0), (0, 1, 1), (3, 1, 3)])
def test_leaving_says_what_was_said_and_does_what_was_registered(
    monkeypatch: pytest.MonkeyPatch,
    interpreter: ModuleType,
    code: int,
    is_full: int,
    ended_with: int,
) -> None:
    done: list[object] = []
    broken = types.SimpleNamespace(flush=lambda: (_ for _ in ()).throw(OSError("full")))
    monkeypatch.setattr("atexit._run_exitfuncs", lambda: done.append("registered"))
    monkeypatch.setattr(os, "_exit", done.append)
    if is_full:
        monkeypatch.setattr(sys, "stdout", broken)
    interpreter.leave(code)
    assert done == ["registered", ended_with]


def test_become_is_exec_and_where_there_is_none_a_child(
    monkeypatch: pytest.MonkeyPatch, interpreter: ModuleType
) -> None:
    called: list[tuple[str, list[str]]] = []
    monkeypatch.setattr(os, "execv", lambda program, command: called.append((program, command)))
    interpreter.become(sys.executable, ["python"])
    assert called == [(sys.executable, ["python"])]
    monkeypatch.setattr(interpreter, "WINDOWS", True)
    with pytest.raises(SystemExit) as ended:
        interpreter.become(sys.executable, ["python", "-c", "raise SystemExit(7)"])
    assert ended.value.code == 7
