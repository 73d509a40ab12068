"""Programs of ours as real processes: started, waited for, read and ended by the kube tests.

A started program's output is collected line by line; whatever waits in vain or dies early shows
all of it. Each program is a child that ends with its test: by SIGTERM first, so that draining is
exercised, then by force.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

GRACE_SECONDS = 15


_HELD: list[socket.socket] = []


def own_port() -> int:
    """A TCP port of 127.0.0.1 that no other program gets as long as this process lives.

    A port that was free a moment ago may be anybody's when our program binds it, and then the
    test talks to a stranger. So a socket stays bound to it; since it does not listen and both it
    and our programs set SO_REUSEADDR, they can bind the same port, again and again (socket(7)).
    """
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("127.0.0.1", 0))
    _HELD.append(held)
    return int(held.getsockname()[1])


def private_environment(home: Path, **extra: str) -> dict[str, str]:
    """What a test's program sees: a home of its own and no setting of the caller's.

    The keyring is the null one: the fallback file is what a machine without a desktop uses.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("MK8S_", "KUBE", "XDG_", "COV_", "PYTEST_"))
    }
    return kept | {
        "HOME": str(home),
        "PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring",
        "PYTHONUNBUFFERED": "1",
        "NO_COLOR": "1",
        "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", ""))),
        **extra,
    }


class Program:
    """One running program and what it has printed so far."""

    def __init__(self, name: str, command: Sequence[str | Path], environment: Mapping[str, str]):
        self.name = name
        self._lines: list[str] = []
        self._news = threading.Condition()
        self._ended = False
        self._process = subprocess.Popen(
            [str(word) for word in command],
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        self._reader = threading.Thread(target=self._collect, name=f"log of {name}", daemon=True)
        self._reader.start()

    def _collect(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._news:
                self._lines.append(line)
                self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()

    @property
    def output(self) -> str:
        """Everything printed up to now."""
        with self._news:
            return "".join(self._lines)

    @property
    def running(self) -> bool:
        """Whether the process is alive."""
        return self._process.poll() is None

    def wait_for_line(self, pattern: str, *, seconds: float = 30, after: int = 0) -> re.Match[str]:
        """The first line from index `after` on that matches; AssertionError with the log."""
        sought = re.compile(pattern)
        deadline = time.monotonic() + seconds
        seen = after
        with self._news:
            while True:
                for line in self._lines[seen:]:
                    if found := sought.search(line):
                        return found
                seen = len(self._lines)
                left = deadline - time.monotonic()
                if self._ended or left <= 0:
                    break
                self._news.wait(left)
        reason = "ended" if self._ended else f"took over {seconds} s"
        raise AssertionError(f"{self.name} {reason} without {pattern!r}:\n{self.output}")

    def lines_printed(self) -> int:
        """How many lines there are now: the `after` for waiting on news only."""
        with self._news:
            return len(self._lines)

    def wait_for_port(self, port: int, *, seconds: float = 30) -> None:
        """Return once 127.0.0.1:`port` accepts; AssertionError with the log when it never does."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self.running:
            with socket.socket() as probe:
                probe.settimeout(1)
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            time.sleep(0.02)
        raise AssertionError(f"{self.name} does not listen on port {port}:\n{self.output}")

    def signal(self, number: signal.Signals) -> None:
        """Send one signal to this process only."""
        self._process.send_signal(number)

    def wait(self, *, seconds: float = GRACE_SECONDS) -> int:
        """The exit code, once it ends."""
        code = self._process.wait(seconds)
        self._reader.join(seconds)
        return code

    def stop(self) -> int:
        """End it; its exit code. AssertionError with the log if SIGTERM was not enough."""
        if self.running:
            self._process.terminate()
        try:
            return self.wait()
        except subprocess.TimeoutExpired:
            self._process.kill()
            self.wait()
            raise AssertionError(f"{self.name} ignored SIGTERM:\n{self.output}") from None
        finally:
            assert self._process.stdout is not None
            self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            error.add_note(f"--- {self.name} printed:\n{self.output}")
        self.stop()


def with_clock(module: str, *, ahead: float) -> tuple[str, ...]:
    """The command that runs a module of ours with its clock `ahead` seconds (or behind).

    TLS is left alone: OpenSSL asks the machine itself.
    """
    code = (
        "import runpy, time; true = time.time; "
        f"time.time = lambda: true() + {ahead}; "
        f"runpy.run_module({module!r}, run_name='__main__', alter_sys=True)"
    )
    return sys.executable, "-c", code


def run(
    command: Sequence[str | Path],
    environment: Mapping[str, str],
    *,
    stdin: str = "",
    seconds: float = 60,
    code: int | None = 0,
) -> subprocess.CompletedProcess[str]:
    """Run one command to its end; AssertionError with its output unless it exits with `code`.

    `code=None` accepts any exit code.
    """
    done = subprocess.run(
        [str(word) for word in command],
        env=dict(environment),
        input=stdin,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=seconds,
    )
    if code is not None and done.returncode != code:
        shown = " ".join(str(word) for word in command)
        raise AssertionError(
            f"{shown}: exit code {done.returncode}, not {code}\n{done.stdout}{done.stderr}"
        )
    return done
