"""Start-up: what is imported when, and how the program as a whole answers wrong usage."""

import errno
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from mk8s_cli import command_table
from mk8s_cli.central.access_token import AccessToken
from mk8s_cli.commands.options import complete_cluster
from mk8s_cli.login import config, token_cache
from mk8s_cli.terminal import output
from tests.cli.conftest import Result, Run

HEAVY = {
    "hashlib",
    "httpx",
    "pydantic",
    "rich",
    "socket",
    "subprocess",
    "yaml",
    "aiohttp",
    "filelock",
    "keyring",
    "kubernetes",
    "asyncio",
    "ssl",
    "http",
    "urllib.request",
}
FOREIGN = {"click", "yaml", *HEAVY}
EDITABLE = {"collections", "pathlib", "re"}
"""Read by the finder of an editable installation, before any code of ours."""

PROBE = """
import sys
from mk8s_cli.main import main
try:
    code = main(sys.argv[1:])
except SystemExit as ended:
    code = ended.code
print(code, *sorted(sys.modules), file=sys.stderr)
"""


def modules_of(*words: str) -> tuple[str, set[str]]:
    """Run the program in a process of its own; its exit code and what it imported."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE, *words], capture_output=True, text=True, timeout=60
    )
    code, *modules = done.stderr.splitlines()[-1].split()
    return code, set(modules)


def test_cached_token_needs_nothing_but_the_standard_library() -> None:
    now = time.time()
    token_cache.save("https://central.example", "prod", AccessToken("t", now, now + 900))
    words = ("get-token", "--cluster", "prod", "--central", "https://central.example")
    code, modules = modules_of(*words)
    assert code == "0"
    assert modules & (FOREIGN | {"collections", "json", "pathlib", "re", "typing"}) <= EDITABLE
    assert {name for name in modules if name.startswith("mk8s_cli.")} <= {
        "mk8s_cli.central",
        "mk8s_cli.central.access_token",
        "mk8s_cli.login.asked",
        "mk8s_cli.login",
        "mk8s_cli.login.cached_token",
        "mk8s_cli.login.exec_credential",
        "mk8s_cli.main",
        "mk8s_cli.terminal",
        "mk8s_cli.terminal.derived",
        "mk8s_cli.terminal.errors",
        "mk8s_cli.terminal.interpreter",
        "mk8s_cli.terminal.private_files",
    }


def test_version_imports_nothing_heavy() -> None:
    code, modules = modules_of("--version")
    assert (code, modules & (HEAVY - {"socket"})) == ("0", set())  # importlib.metadata's email


def test_a_list_imports_what_it_needs_and_no_more(log_in: Callable[[], Result]) -> None:
    log_in()
    modules_of("clusters", "list")  # reads the configuration once for all that follow
    code, modules = modules_of("clusters", "list")
    assert code == "0"
    assert modules & HEAVY == {"http", "socket", "ssl"}


@pytest.mark.parametrize("line", ["mk8s cl", "mk8s clusters l", "mk8s clusters list -"])
def test_tab_imports_nothing_heavy(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_MK8S_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(line.count(" ")))
    code, modules = modules_of()
    assert (code, modules & HEAVY) == ("0", set())
    commands = {name for name in modules if name.startswith("mk8s_cli.commands.")}
    assert commands <= {"mk8s_cli.commands.clusters", "mk8s_cli.commands.options"}


def test_tab_behind_use_imports_no_click(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_MK8S_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "mk8s use ")
    monkeypatch.setenv("COMP_CWORD", "2")
    modules_of()
    code, modules = modules_of()
    assert (code, modules & FOREIGN) == ("0", set())


def test_the_probe_sees_what_is_imported() -> None:
    _, modules = modules_of("--help")
    assert "click" in modules


def leaves(table: dict[str, command_table.Entry], *path: str) -> list[tuple[str, ...]]:
    found = []
    for name, entry in table.items():
        inner = getattr(command_table, entry.attribute, None)
        if isinstance(inner, command_table.LazyGroup):
            found += leaves(inner.table, *path, name)
        elif name not in {"kubectl", "k", "demo"}:
            found.append((*path, name))
    return found


@pytest.mark.parametrize("words", [(), *leaves(command_table.COMMANDS)], ids=" ".join)
def test_help_imports_nothing_heavy(words: tuple[str, ...]) -> None:
    code, modules = modules_of(*words, "--help")
    assert (code, modules & HEAVY) == ("0", set())


@pytest.mark.parametrize("words", leaves(command_table.COMMANDS), ids=" ".join)
def test_every_command_has_help_with_an_example(run: Run, words: tuple[str, ...]) -> None:
    result = run(*words, "--help")
    assert result.code == 0
    assert "Example: " in result.out
    assert f"Usage: mk8s {' '.join(words)}" in result.out


def test_help_and_version_of_the_whole(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = run("--help").out
    for name, entry in command_table.COMMANDS.items():
        assert f"\n  {name} " in shown
        assert entry.help.split()[0] in shown
    assert run("--version").out.startswith("mk8s ")

    def absent(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("importlib.metadata.version", absent)
    assert run("--version").out == "mk8s (not installed)\n"


def test_entry_that_is_no_command_is_a_bug(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = command_table.Entry("login.config", "load", "No command.")
    monkeypatch.setitem(command_table.COMMANDS, "strange", entry)
    with pytest.raises(TypeError, match="no click command"):
        run("strange")


@pytest.mark.parametrize("port", ["0", "65536", "99999"])
def test_port_that_cannot_be_is_one_line(run: Run, port: str) -> None:
    assert "no valid port" in run("login", f"https://central.example:{port}").line


def test_surrogates_and_odd_scalars_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    for form in ("json", "yaml"):
        output.document(form, {"a": "\ud800", "b": 1e400, "c": None})
        shown = capsys.readouterr().out
        assert shown.isascii()
        assert "ud800" in shown.lower()


def test_missing_extra_is_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = command_table.Entry("commands.absent", "absent", "Absent.", extra="demo")
    monkeypatch.setitem(command_table.COMMANDS, "absent", entry)
    assert "not part of this installation" in run("absent").line
    third = command_table._missing("demo", command_table.COMMANDS["demo"], "jsonpatch")
    assert third == "'demo' needs the Python module jsonpatch; run: pip install 'mk8s[demo]'"


def test_wrong_usage_is_2_and_names_the_near_command(run: Run) -> None:
    result = run("kubeconf")
    assert result.code == 2
    assert "Did you mean 'kubeconfig'?" in result.err
    assert run("zzz").code == 2
    assert run("get-token").code == 2
    assert run("clusters", "list", "-o", "xml").code == 2


def test_a_bug_keeps_its_traceback(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("mk8s_cli.login.config.load", broken)
    with pytest.raises(ZeroDivisionError):
        run("status")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_disk_that_refuses_is_one_line(
    run: Run, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refused(*_: object) -> None:
        raise OSError(number, os.strerror(number), "/some/file")

    monkeypatch.setattr("mk8s_cli.login.config.load", refused)
    result = run("status")
    assert result.code == 1
    assert result.line.startswith(f"mk8s: /some/file: {os.strerror(number)}; check its permissions")


def test_another_failure_of_the_system_is_a_bug(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def strange(*_: object) -> None:
        raise OSError(errno.EBADF, "bad file descriptor")

    monkeypatch.setattr("mk8s_cli.login.config.load", strange)
    with pytest.raises(OSError, match="bad file descriptor"):
        run("status")


def test_ctrl_c_is_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mk8s_cli.login.config.load", stopped)
    result = run("status")
    assert (result.code, result.err.strip()) == (1, "mk8s: stopped")


def test_reader_that_goes_away_is_no_traceback(tmp_path: Path) -> None:
    done = subprocess.run(
        [f"{sys.executable} -m mk8s_cli completion bash | true"],
        shell=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("centrals: [", "is damaged"),
        ("- a", "not a mk8s configuration"),
        ("centrals: [a]", "not a mapping"),
        ("centrals: [{url: 1}]", "url is not text"),
        ("centrals: [{url: 'http://x'}]", "https://host:8443"),
        ("\x80", "is damaged"),
    ],
)
def test_damaged_configuration_is_one_line(run: Run, home: Path, content: str, reason: str) -> None:
    path = home / ".mk8s" / "config.yaml"
    path.parent.mkdir(mode=0o700)
    path.write_bytes(content.encode("latin-1"))
    path.chmod(0o600)
    result = run("status")
    assert result.code == 1
    assert reason in result.line
    assert str(path) in result.line


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("current_cluster: prod", "current_cluster needs central_url"),
        ("central_url: http://x", "https://host:8443"),
        ("central_url: https://x\ncurrent_cluster: A B", "not a cluster's name"),
        ("central_url: [x]", "central_url is not text"),
    ],
)
def test_damaged_choices_are_one_line(run: Run, home: Path, content: str, reason: str) -> None:
    test_damaged_configuration_is_one_line(run, home, content, reason)


def test_a_configuration_written_by_hand(home: Path) -> None:
    path = home / ".mk8s" / "config.yaml"
    path.parent.mkdir(mode=0o700)
    path.write_text("central_url: https://MK8S.example.com/\ncurrent_cluster: prod\n")
    path.chmod(0o600)
    profile = config.Profile("https://mk8s.example.com", cluster="prod")
    expected = config.Config("https://mk8s.example.com", profiles=(profile,))
    assert config.load() == config.load() == expected
    config.update(lambda stored: stored)
    assert "current_cluster: prod\n" in path.read_text()
    assert config.load() == expected
    path.write_text(path.read_text().replace("current_cluster: prod", "current_cluster: dev"))
    (chosen,) = config.load().profiles
    assert chosen.cluster == "dev", "it goes over what is noted beside the central"


def test_empty_configuration_is_no_login(run: Run, home: Path) -> None:
    path = home / ".mk8s" / "config.yaml"
    path.parent.mkdir(mode=0o700)
    path.touch(0o600)
    assert run("status").line == "mk8s: not logged in; run: mk8s login URL"


def test_completion_of_cluster_names_needs_no_network(run: Run, home: Path) -> None:
    path = home / ".mk8s" / "config.yaml"
    path.parent.mkdir(mode=0o700)
    path.write_text("current: https://c\ncentrals: [{url: 'https://c', email: a@b}]\n")
    path.chmod(0o600)
    kubeconfig = home / ".kube" / "config"
    kubeconfig.parent.mkdir()
    users = [
        {
            "name": f"mk8s-{name}",
            "user": {"exec": {"args": ["get-token", "--cluster", name, "--central", "https://c"]}},
        }
        for name in ("prod", "dev")
    ]
    contexts = [
        {"name": name, "context": {"cluster": f"mk8s-{name}", "user": f"mk8s-{name}"}}
        for name in ("prod", "dev")
    ]
    kubeconfig.write_text(json.dumps({"users": users, "contexts": contexts}))
    assert complete_cluster(None, None, "") == ["dev", "prod"]  # type: ignore[arg-type]
    assert complete_cluster(None, None, "p") == ["prod"]  # type: ignore[arg-type]
    kubeconfig.write_text("[")
    assert complete_cluster(None, None, "") == []  # type: ignore[arg-type]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script(run: Run, shell: str) -> None:
    assert "_MK8S_COMPLETE" in run("completion", shell).out
