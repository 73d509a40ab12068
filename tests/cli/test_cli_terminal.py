"""What a person sees and types, on a real pseudo-terminal where it matters."""

import io
import os
import pty
import select
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mk8s_cli.terminal import progress
from mk8s_cli.terminal import screen as terminal
from mk8s_cli.terminal.errors import CliError, UnsafeFile
from mk8s_cli.terminal.private_files import ensure_directory, locked, write_private
from tests.cli.fake_central import EMAIL, PASSWORD, FakeCentral


@given(st.text())
def test_escaped_text_holds_nothing_that_moves_the_cursor(text: str) -> None:
    assert terminal.escape(text).isprintable()
    line = terminal.one_line(text)
    assert line.isprintable()
    assert len(line) <= terminal.MAX_LINE


@given(st.text(st.characters(categories=["L", "N", "P"])))
def test_readable_text_stays(text: str) -> None:
    assert terminal.escape(text) == text


def talk(command: list[str], answers: list[tuple[bytes, bytes]]) -> tuple[int, bytes]:
    """Run a command on a terminal; type each answer once its question is seen."""
    pid, terminal_end = pty.fork()
    if pid == 0:
        os.execv(command[0], command)
    seen = b""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        select.select([terminal_end], [], [], 60)
        try:
            chunk = os.read(terminal_end, 4096)
        except OSError:
            break
        if not chunk:
            break
        seen += chunk
        if answers and answers[0][0] in seen:
            os.write(terminal_end, answers.pop(0)[1])
    os.close(terminal_end)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status), seen


def test_login_at_a_terminal_shows_the_pin_and_hides_the_password(central: FakeCentral) -> None:
    answers = [
        (b"[y/N]", b"y\n"),
        (b"email", f"{EMAIL}\n".encode()),
        (b"password of", f"{PASSWORD}\n".encode()),
    ]
    command = [sys.executable, "-m", "mk8s_cli", "login", central.url]
    code, seen = talk(command, answers)
    assert code == 0, seen
    assert answers == []
    assert b"sha256:" in seen
    assert PASSWORD.encode() not in seen
    assert f"logged in to {central.url} as {EMAIL}".encode() in seen


def test_no_is_the_default_at_a_terminal(central: FakeCentral) -> None:
    command = [sys.executable, "-m", "mk8s_cli", "login", central.url]
    code, seen = talk(command, [(b"[y/N]", b"\n")])
    assert code == 1
    assert b"no password was sent" in seen
    assert central.count("POST", "/auth/login") == 0


def test_question_without_a_terminal_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "is_interactive", lambda: False)
    with pytest.raises(CliError, match="no terminal"):
        terminal.ask("anything")


WAIT = """
import sys, threading
from mk8s_cli.terminal import progress
progress.AFTER_SECONDS = {after}
with progress.waiting("asking central"):
    # Ends when the timer has fired, or at once where it must not.
    [timer] = [t for t in threading.enumerate() if isinstance(t, threading.Timer)] or [None]
    if timer and {after} == 0:
        timer.join()
print("done")
"""


@pytest.mark.parametrize(("after", "shown"), [(0, True), (3600, False)])
def test_progress_is_shown_on_a_terminal_after_a_while(after: int, shown: bool) -> None:
    code, seen = talk([sys.executable, "-c", WAIT.format(after=after)], [])
    assert code == 0, seen
    assert (b"asking central ..." in seen) is shown
    assert (b"\x1b[2K" in seen) is shown


class Screen(io.StringIO):
    """A terminal that says when something was written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.written = threading.Event()

    def isatty(self) -> bool:
        return True

    def flush(self) -> None:
        self.written.set()


def test_progress_is_wiped_when_the_answer_came(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(progress, "AFTER_SECONDS", 0.0)
    with progress.waiting("asking central"):
        assert screen.written.wait(10)
        assert screen.getvalue() == "asking central ..."
    assert screen.getvalue().endswith("\r\x1b[2K")


def test_questions_and_answers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(terminal, "is_interactive", lambda: True)
    monkeypatch.setattr(sys, "stdin", io.StringIO("Yes\nno\n\n name \n"))
    assert [terminal.confirm("sure?") for _ in range(3)] == [True, False, False]
    assert terminal.ask("who") == "name"
    assert capsys.readouterr().err.endswith("who: ")


def test_progress_is_silent_in_scripts(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.waiting("asking central"):
        pass
    assert capsys.readouterr().err == ""


def test_table_on_a_terminal_is_coloured_unless_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    program = "from mk8s_cli.terminal import output; output.table(['status'], [['connected']])"
    monkeypatch.setenv("TERM", "xterm")
    command = [sys.executable, "-c", program]
    assert b"\x1b[" not in talk(command, [])[1].replace(b"\x1b[1m", b"").replace(b"\x1b[0m", b"")
    monkeypatch.delenv("NO_COLOR")
    assert b"\x1b[32mconnected" in talk(command, [])[1]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stdout == "STATUS\nconnected\n"


def test_write_replaces_a_planted_link(tmp_path: Path) -> None:
    victim, link = tmp_path / "victim", tmp_path / "file"
    victim.write_text("theirs")
    link.symlink_to(victim)
    write_private(link, b"ours")
    assert victim.read_text() == "theirs"
    assert link.read_bytes() == b"ours"
    assert not link.is_symlink()


def test_write_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    target = tmp_path / "directory"
    target.mkdir()
    (target / "full").touch()
    with pytest.raises(CliError, match="cannot write"):
        write_private(target, b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["directory"]


def test_directory_of_everybody_is_refused(tmp_path: Path) -> None:
    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    with pytest.raises(UnsafeFile, match="chmod 700"):
        ensure_directory(open_to_all)


def test_lock_excludes_and_comes_free(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with locked(path, 1), pytest.raises(CliError, match="has held"), locked(path, 0):
        raise AssertionError("two had the lock")
    with locked(path, 0):
        assert path.exists()
