"""Keeps a program for as long as somebody holds its lock: providers are shared by test workers.

Each user holds the lock file with others (`fcntl.LOCK_SH`); the keeper starts the program in a
process group of its own, waits for the lock alone, which it gets when the last user has let go or
has died, and ends the whole group. Nothing is left behind by a run that was killed.

    python tests/sso/keeper.py LOCK COMMAND [WORD...]
"""

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

GRACE_SECONDS = 15
LONGEST_SECONDS = 3600
"""A user that hangs does not keep a program for ever."""


@contextmanager
def kept(
    log: Path,
    command: Sequence[str | Path],
    environment: Mapping[str, str],
    ready: str,
    facts: Any = None,
    *,
    seconds: float = 240,
) -> Iterator[Any]:
    """The program, running and ready; the facts of whoever started it.

    Args:
        log: where its output goes; beside it lie its locks.
        command: what to run, unless it runs already.
        environment: of the program.
        ready: what its output holds once it serves.
        facts: what its users must know of it, as JSON: where it listens, say.
        seconds: how long it may take until then.
    """
    told = log.with_suffix(".json")
    with log.with_suffix(".lock").open("w") as held:
        with log.with_suffix(".turn").open("w") as turn:
            fcntl.flock(turn, fcntl.LOCK_EX)
            fcntl.flock(held, fcntl.LOCK_SH)
            if not log.exists():
                told.write_text(json.dumps(facts))
                _start(log, held.name, command, environment)
            _wait(log, ready, seconds)
        yield json.loads(told.read_text())


def _start(
    log: Path, lock: str, command: Sequence[str | Path], environment: Mapping[str, str]
) -> None:
    words = [sys.executable, __file__, lock, *map(str, command)]
    with log.open("wb") as output:
        subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            start_new_session=True,
            # It outlives the worker that started it where others still use it.
            close_fds=True,
        ).returncode = 0  # so that nobody warns of a child that was left to itself


def _wait(log: Path, ready: str, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while ready not in (said := log.read_text(errors="replace")):
        assert ENDED not in said, f"{log.stem} ended:\n{said}"
        assert time.monotonic() < deadline, f"{log.stem} took over {seconds} s:\n{said}"
        time.sleep(0.1)


ENDED = "-- it ended by itself, status"


def keep(lock: str, command: Sequence[str]) -> None:
    """Run the program until nobody holds the lock any more."""
    with Path(lock).open("r+") as held, subprocess.Popen(command, start_new_session=True) as child:
        try:
            threading.Thread(target=_tell, args=(child,), daemon=True).start()
            signal.alarm(LONGEST_SECONDS)
            fcntl.flock(held, fcntl.LOCK_EX)
        finally:
            signal.alarm(0)
            _end(child)
            # Whoever comes now starts it anew.
            log = Path(lock).with_suffix(".log")
            log.replace(log.with_suffix(".ended"))


def _tell(child: "subprocess.Popen[bytes]") -> None:
    print(ENDED, child.wait(), flush=True)


def _end(child: "subprocess.Popen[bytes]") -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(child.pid, number)
        except ProcessLookupError:
            return
        try:
            child.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            continue


if __name__ == "__main__":
    keep(sys.argv[1], sys.argv[2:])
