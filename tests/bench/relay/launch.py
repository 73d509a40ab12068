"""Starts and ends the processes of the benchmark; each one is ended by its own pid."""

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from tests.bench.relay.load_sockets import LoadError
from tests.support.processes import Program, own_port, private_environment

__all__ = ["FAILURES", "Missing", "Services", "needed", "own_port", "private_environment"]


_START = 120
"""Seconds that a program may take to listen: other people may be using the machine."""


class Missing(Exception):
    """Something that a measure needs is not on this machine; the text says what."""


FAILURES = (LoadError, OSError, AssertionError, Missing, subprocess.SubprocessError)
"""What costs a run one figure and not its life; all others are mistakes in the benchmark."""


def needed(program: str) -> str:
    """The path of a program. Raises Missing."""
    found = shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")
    if found is None:
        raise Missing(f"{program} is not installed")
    return found


class Services:
    """Processes that live until this closes, the last one started ended first."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._stack = ExitStack()

    def start(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        port: int = 0,
        environment: Mapping[str, str] | None = None,
    ) -> Program:
        """Starts a program and waits until it listens on `port`, if one is given.

        Raises:
            AssertionError: with all that it printed, when it ends or never listens.
        """
        program = self._stack.enter_context(Program(name, command, environment or self.plain()))
        if port:
            program.wait_for_port(port, seconds=_START)
        return program

    def plain(self, **extra: str) -> dict[str, str]:
        """An environment without settings of the caller's; Python finds the checkout."""
        checkout = Path(__file__).resolve().parents[3]
        return private_environment(self.folder, PYTHONPATH=str(checkout), **extra)

    def python(self, name: str, module: str, *arguments: str) -> Program:
        """Starts a module of this package."""
        return self.start(name, [sys.executable, "-m", f"tests.bench.relay.{module}", *arguments])

    def close(self) -> None:
        """Ends all."""
        self._stack.close()


def wait_for_socket(path: Path, seconds: float = 20) -> None:
    """Returns once a Unix socket accepts. Raises TimeoutError."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with socket.socket(socket.AF_UNIX) as probe:
            if path.exists() and probe.connect_ex(str(path)) == 0:
                return
        time.sleep(0.02)
    raise TimeoutError(f"nobody listens on {path}")
