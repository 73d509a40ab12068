"""The child programs of `mk8s demo`: started, watched, ended with it.

Called by `mk8s_cli.commands.demo`. The children run in a session of their own, so that Ctrl-C
reaches only the demo, which ends them in order; on Linux the kernel ends them too if the demo
itself is killed (prctl(2), PR_SET_PDEATHSIG; elsewhere nothing does). Their output goes to
files in the demo's directory.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import mk8s_cli
from mk8s_cli.terminal.errors import CliError
from mk8s_cli.terminal.screen import one_line

PR_SET_PDEATHSIG = 1
GRACE_SECONDS = 5.0
POLL_SECONDS = 0.05
START_SECONDS = 60.0
FOREIGN = ("MK8S_", "CENTRAL_URL", "CLUSTER_NAME", "AGENT_TOKEN", "CA_PIN")
"""Settings of the caller that would change what the demo's programs do."""


def environment(**extra: str) -> dict[str, str]:
    """The environment of a child: the caller's, without mk8s settings, with `extra`.

    PYTHONPATH names the folder that this very mk8s was imported from: a checkout works, and a
    folder of the same name in the current directory is not run by mistake (see `module`).
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    here = str(Path(mk8s_cli.__file__).resolve().parent.parent)
    paths = [here, *filter(None, [os.environ.get("PYTHONPATH", "")])]
    return {**kept, "PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1", **extra}


def module(name: str) -> list[str]:
    """The command that runs one of our modules; -P leaves the current directory out."""
    return [sys.executable, "-P", "-m", name]


def mk8s_command() -> list[str]:
    """The command that runs the CLI: the installed script, if that is what runs now."""
    script = Path(sys.argv[0]).absolute()
    is_script = script.name == "mk8s" and os.access(script, os.X_OK)
    return [str(script)] if is_script else module("mk8s_cli")


def run(command: Sequence[str], variables: Mapping[str, str], *, stdin: str = "") -> str:
    """Run a command to its end and return its output; raise `CliError` with its last line."""
    try:
        done = subprocess.run(
            list(command),
            env=dict(variables),
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=START_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise CliError(f"{command[-1]} took over {START_SECONDS:.0f} s") from error
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise CliError(said[-1] if said else f"{command[-1]} ended with {done.returncode}")
    return done.stdout


def _parent_watch() -> Callable[[], None] | None:
    """What a new child does first on Linux: ask to be killed when its parent is gone."""
    if sys.platform != "linux":
        return None
    libc, parent = ctypes.CDLL(None), os.getpid()  # loaded here: after fork, only the call is made

    def watch() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it went before the call
            os._exit(1)

    return watch


@dataclass(frozen=True, slots=True)
class Program:
    """One running child."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def last_line(self) -> str:
        """The last thing it printed."""
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return one_line(lines[-1]) if lines else "it printed nothing"

    def end(self) -> None:
        """SIGTERM, and after a grace period SIGKILL."""
        with suppress(ProcessLookupError):
            self.process.terminate()
        try:
            self.process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@dataclass(slots=True)
class Programs:
    """All children of one demo; leaving the context ends them, the last one first."""

    directory: Path
    running: list[Program] = field(default_factory=list)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        while self.running:
            self.running.pop().end()

    def start(
        self, name: str, command: Sequence[str], variables: Mapping[str, str], *inherited: int
    ) -> None:
        """Start a child, which gets the `inherited` descriptors under the same numbers."""
        log = self.directory / f"{name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                list(command),
                env=dict(variables),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=inherited,
                preexec_fn=_parent_watch(),  # noqa: PLW1509 - it only makes two system calls
            )
        self.running.append(Program(name, process, log))

    def check(self) -> None:
        """Raise `CliError` if a child has ended."""
        for program in self.running:
            if program.process.poll() is not None:
                raise CliError(f"{program.name} ended: {program.last_line()}")

    def wait_until(self, ready: Callable[[], bool], what: str) -> None:
        """Return once `ready` holds; raise `CliError` when a child ends or it takes too long."""
        deadline = time.monotonic() + START_SECONDS
        while not ready():
            self.check()
            if time.monotonic() > deadline:
                raise CliError(f"{what} took over {START_SECONDS:.0f} s; see {self.directory}")
            time.sleep(POLL_SECONDS)
