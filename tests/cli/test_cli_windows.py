"""What the CLI needs of its system: nothing that Windows lacks. Run here, with all of that hidden.

`os.name` itself cannot be faked (pathlib chooses its class by it): what depends on it reads
`interpreter.WINDOWS`, which the tests of those places set.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from click.shell_completion import CompletionItem

from mk8s_cli.commands import demo
from mk8s_cli.kubeconfig import files as kubeconfig_files
from mk8s_cli.kubeconfig.entries import Login
from mk8s_cli.terminal import interpreter, powershell, private_files
from mk8s_cli.terminal.errors import Unwritable
from tests.cli.conftest import Result, Run
from tests.cli.fake_central import EMAIL, PASSWORD, FakeCentral
from tests.cli.test_cli_login import pin_of

HIDE = """
import os, sys
for name in ("fcntl", "pwd", "grp", "termios", "tty", "resource", "syslog"):
    sys.modules[name] = None
for name in ("geteuid", "getuid", "fork", "setsid", "O_NOFOLLOW", "O_CLOEXEC", "O_NONBLOCK"):
    delattr(os, name)

def fchmod(descriptor, mode, real=os.fchmod):
    # filelock knows that this is no Windows, and may have it.
    if sys._getframe(1).f_globals["__name__"].startswith("mk8s_cli"):
        raise AttributeError("os.fchmod")
    real(descriptor, mode)

os.fchmod = fchmod
import warnings
warnings.filterwarnings("ignore", "only soft file lock")  # what filelock has left here, not there
"""
IMPORT_ALL = """
import importlib, pkgutil, mk8s_cli
for found in pkgutil.walk_packages(mk8s_cli.__path__, "mk8s_cli."):
    if not found.name.endswith("__main__"):
        importlib.import_module(found.name)
        print(found.name)
"""
RUN = "from mk8s_cli.main import main; raise SystemExit(main(sys.argv[1:]))"


def without_posix(program: str, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", HIDE + program, *words],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=100,
    )


def test_every_module_is_imported_without_posix() -> None:
    done = without_posix(IMPORT_ALL)
    assert (done.returncode, done.stderr) == (0, "")
    assert {"mk8s_cli.main", "mk8s_cli.commands.login", "mk8s_cli.kubeconfig.files"} <= set(
        done.stdout.split()
    )


def test_what_is_hidden_is_missed() -> None:
    """The proof that the other tests here can fail."""
    for word in ("import fcntl", "import pwd", "os.geteuid()", "os.O_NOFOLLOW"):
        assert without_posix(word).returncode == 1


def test_a_day_of_work_without_posix(central: FakeCentral, home: Path) -> None:
    words = ("login", central.url, "--email", EMAIL, "--password-stdin", "--ca-pin")
    done = without_posix(RUN, *words, pin_of(central), stdin=f"{PASSWORD}\n")
    assert done.returncode == 0, done.stderr
    for command in (
        ("use", "prod", "-n", "shop"),
        ("status",),
        ("clusters", "list", "-o", "json"),
        ("get-token", "--cluster", "prod", "--central", central.url),
        ("get-token", "--cluster", "prod", "--central", central.url),
        ("kubeconfig", "sync"),
        ("completion", "powershell"),
        ("logout",),
    ):
        done = without_posix(RUN, *command)
        assert (done.returncode, done.stderr) == (0, ""), command


def test_a_lock_keeps_others_out_without_posix(home: Path) -> None:
    program = """
from pathlib import Path
from mk8s_cli.terminal.errors import CliError
from mk8s_cli.terminal.private_files import locked
with locked(Path(sys.argv[1]), 1):
    try:
        with locked(Path(sys.argv[1]), 0.1):
            print("both")
    except CliError as error:
        print(error)
"""
    assert "has held" in without_posix(program, str(home / ".lock")).stdout


def test_the_lock_of_a_kubeconfig_can_be_removed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows removes no file that nobody may write."""
    monkeypatch.setattr(kubeconfig_files, "_LOCK_MODE", 0o600)
    path = tmp_path / "config"
    with kubeconfig_files.editing((path,)):
        assert (tmp_path / "config.lock").stat().st_mode & 0o200
    assert not (tmp_path / "config.lock").exists()


@pytest.mark.parametrize(
    ("in_use", "expected"),
    [((), "home"), (("profile",), "profile"), (("drive", "profile"), "drive")],
)
def test_home_is_where_kubectl_looks_on_windows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_use: tuple[str, ...], expected: str
) -> None:
    monkeypatch.setattr(kubeconfig_files, "WINDOWS", True)
    for name in ("home", "profile", "drive"):
        (tmp_path / name / ".kube").mkdir(parents=True)
    for name in in_use:
        (tmp_path / name / ".kube" / "config").touch()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "profile"))
    monkeypatch.setenv("HOMEDRIVE", str(tmp_path))
    monkeypatch.setenv("HOMEPATH", f"{os.sep}drive")
    assert kubeconfig_files.listed_paths() == (tmp_path / expected / ".kube" / "config",)


def test_files_of_kubeconfig_are_split_as_the_system_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "pathsep", ";")
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path}/a b/config;{tmp_path}/c")
    assert kubeconfig_files.listed_paths() == (tmp_path / "a b" / "config", tmp_path / "c")


def test_paths_with_blanks_survive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "Program Files" / "python.exe"
    monkeypatch.setattr(sys, "executable", str(program))
    monkeypatch.setenv("MK8S_HOME", str(tmp_path / "my home"))
    path = tmp_path / "my kube" / "config"
    login = Login("https://central.example", "", kubeconfig_files.plugin())
    with kubeconfig_files.editing((path,)) as kubeconfig:
        kubeconfig.sync(login, {"prod": "https://central.example/k8s/prod"})
    entry = yaml.safe_load(path.read_text())["users"][0]["user"]["exec"]
    assert entry["command"] == str(program)
    assert entry["env"][0] == {"name": "MK8S_HOME", "value": str(tmp_path / "my home")}


def test_a_file_that_is_read_at_this_moment_is_replaced_a_little_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(private_files, "WINDOWS", True)
    monkeypatch.setattr("mk8s_cli.terminal.private_files.POLL_SECONDS", 0.0)
    busy = [2]
    real = Path.replace

    def replace(self: Path, target: Path) -> Path:
        if busy[0]:
            busy[0] -= 1
            raise PermissionError(13, "in use")
        return real(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    private_files.write_private(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"new"
    busy[0] = 1000
    with pytest.raises(Unwritable, match="in use"):
        private_files.write_private(tmp_path / "file", b"newer")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_kubectl_is_waited_for_on_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interpreter, "WINDOWS", True)
    with pytest.raises(SystemExit) as ended:
        interpreter.become(sys.executable, ["python", "-c", "raise SystemExit(7)"])
    assert ended.value.code == 7


def test_the_demo_says_where_it_runs(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "WINDOWS", True)
    assert "run it in WSL" in run("demo").line


@pytest.mark.parametrize(
    ("typed", "word", "expected"),
    [
        ("mk8s kubeco", "kubeco", ["kubeconfig"]),
        ("mk8s kubeconfig ", "", ["path", "remove", "sync"]),
        ("mk8s clusters list -o js", "js", ["json"]),
        ("mk8s use pr", "pr", ["prod"]),
    ],
)
def test_powershell_completes(
    logged_in: Result, home: Path, typed: str, word: str, expected: list[str]
) -> None:
    """By the protocol of the script: words by line feeds, tab-separated suggestions."""
    asked = {
        "_MK8S_COMPLETE": "powershell_complete",
        "COMP_WORDS": "\n".join(typed.split()),
        "COMP_CWORD": word,
    }
    done = subprocess.run(
        [sys.executable, "-c", "from mk8s_cli.main import main; main(['x'])"],
        env={**os.environ, **asked},
        capture_output=True,
        text=True,
        timeout=60,
    )
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert sorted(value for kind, value, _ in lines if kind == "plain") == expected


def test_powershell_gets_its_script_and_help_on_one_line(run: Run) -> None:
    script = run("completion", "powershell").out
    assert "Register-ArgumentCompleter -Native -CommandName mk8s" in script
    assert '$env:_MK8S_COMPLETE = "powershell_complete"' in script
    complete = powershell.PowerShellComplete(None, {}, "mk8s", "_MK8S_COMPLETE")  # type: ignore[arg-type]
    assert complete.format_completion(CompletionItem("a", help="b\n c")) == "plain\ta\tb c"
