"""The keeper: a provider is shared while somebody uses it, and never left behind."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.sso import keeper
from tests.support.world import wait_until

PROGRAM = ("sh", "-c", "sleep 600 & echo $$ $! ready; wait")
KILLED = """
import os, signal, sys
from pathlib import Path
from tests.sso import keeper
with keeper.kept(Path(sys.argv[1]), {program!r}, os.environ, "ready"):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def pids(log: Path) -> list[int]:
    return [int(word) for word in log.read_text().split()[:2]]


def gone(found: list[int]) -> None:
    wait_until(lambda: not any(map(is_alive, found)), 30, lambda: f"left behind: {found}")


def test_a_program_is_shared_and_ends_with_its_last_user(tmp_path: Path) -> None:
    log = tmp_path / "program.log"
    with keeper.kept(log, PROGRAM, os.environ, "ready", {"port": 1}) as first:
        found = pids(log)
        with keeper.kept(log, PROGRAM, os.environ, "ready", {"port": 2}) as second:
            assert first == second == {"port": 1}
            assert pids(log) == found
        assert all(map(is_alive, found))
    gone(found)


def test_a_program_starts_anew_after_its_last_user(tmp_path: Path) -> None:
    log = tmp_path / "program.log"
    with keeper.kept(log, PROGRAM, os.environ, "ready"):
        found = pids(log)
    gone(found)
    with keeper.kept(log, PROGRAM, os.environ, "ready"):
        assert all(map(is_alive, pids(log)))


def test_a_program_ends_with_a_user_who_is_killed(tmp_path: Path) -> None:
    log = tmp_path / "program.log"
    words = [sys.executable, "-c", KILLED.format(program=PROGRAM), log]
    done = subprocess.run(words, cwd=Path(__file__).parents[2], timeout=60)
    assert done.returncode == -signal.SIGKILL
    ended = log.with_suffix(".ended")
    wait_until(ended.exists, 30, log.read_text)
    gone(pids(ended))
