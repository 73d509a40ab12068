"""One run of kubectl for a caller: a process in a cage, its output as it comes, its certain end.

Called by `exec_runner`. The process has a folder of its own, which is gone afterwards, and a clean
environment. It ends by itself, at its time limit, when it has said too much, or when nobody listens
any more, and everything it started ends with it.
"""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, NamedTuple, Protocol

from mk8s_proxy.api import exec_child

Stream = Literal["stdout", "stderr"]
Ending = Literal["exit", "time_limit", "output_limit"]

TIMED_OUT: Final = 124
"""The exit code of what was ended for its time, as timeout(1) has it."""
KILLED: Final = 128 + signal.SIGKILL
"""That of what was ended for its output, as a shell says it."""
LOOK_SECONDS: Final = 0.25
"""Between two looks whether the caller is still there."""
MIB: Final = 1 << 20
ADDRESS_SPACE: Final = 2048 * MIB
"""Beyond the memory limit: Go reserves far more than it uses."""
TASKS: Final = 512
"""Threads and processes that may come beside those that the system has when it starts."""
FILES: Final = 256
FILE_BYTES: Final = 64 * MIB
"""The largest file it may write: kubectl keeps what it learns about the API in its folder."""
_PIECE_BYTES: Final = 32 * 1024


class Gone(Exception):
    """Nobody wants the output any more."""


class Sink(Protocol):
    """Where output goes."""

    async def take(self, stream: Stream, data: bytes) -> None:
        """Hand on some output; waits where the reader is slow. Raises Gone."""

    async def look(self) -> None:
        """Called often. Raises Gone when the caller is not there any more."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a run may take."""

    seconds: float
    output_bytes: int
    """Of both streams together."""
    memory_bytes: int


class Command(NamedTuple):
    """What is run."""

    arguments: Sequence[str]
    """Behind its name."""
    files: Mapping[str, bytes]
    """The content of its folder by name; `config` is the kubeconfig."""
    stdin: bytes = b""
    """All of its standard input."""


class Ended(NamedTuple):
    """How a run ended."""

    exit_code: int
    ending: Ending
    seconds: float
    output_bytes: int


class _Full(Exception):
    """It has said too much."""


async def run(
    programs: Sequence[Path],
    command: Command,
    sink: Sink,
    limits: Limits,
    *,
    port: int,
    parent: Path,
) -> Ended:
    """Run kubectl to its end.

    Args:
        programs: kubectl, and what it may become.
        command: what it is to do.
        sink: takes the output.
        limits: what it may take.
        port: of 127.0.0.1, the only one it may connect to where the kernel can see to that.
        parent: a private folder for its own one.

    Raises:
        Gone: as `sink` said.
        OSError: it could not be started.
    """
    began = time.monotonic()
    folder = Path(await asyncio.to_thread(_make_folder, parent, command.files))
    try:
        process = await _start(programs, command.arguments, limits, folder, port)
        tap = _Tap(sink, limits.output_bytes)
        ending = await _see_to_its_end(process, tap, command.stdin, limits.seconds)
    finally:
        # Shielded: a cancelled request must not leave a token behind.
        await asyncio.shield(asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True))
    code = {"time_limit": TIMED_OUT, "output_limit": KILLED}.get(ending)
    if code is None:
        assert process.returncode is not None
        code = process.returncode if process.returncode >= 0 else 128 - process.returncode
    return Ended(code, ending, time.monotonic() - began, tap.taken)


def _make_folder(parent: Path, files: Mapping[str, bytes]) -> str:
    folder = tempfile.mkdtemp(prefix="run-", dir=parent)  # mode 0700
    for name, content in files.items():
        with os.fdopen(os.open(f"{folder}/{name}", os.O_CREAT | os.O_WRONLY, 0o600), "wb") as file:
            file.write(content)
    return folder


async def _start(
    programs: Sequence[Path], arguments: Sequence[str], limits: Limits, folder: Path, port: int
) -> asyncio.subprocess.Process:
    cage = {
        "parent": os.getpid(),
        "programs": [str(program) for program in programs],
        "port": port,
        "limits": {
            "RLIMIT_AS": limits.memory_bytes + ADDRESS_SPACE,
            "RLIMIT_DATA": limits.memory_bytes,
            "RLIMIT_NPROC": TASKS,
            "RLIMIT_NOFILE": FILES,
            "RLIMIT_CPU": int(limits.seconds) + 1,
            "RLIMIT_FSIZE": FILE_BYTES,
            "RLIMIT_CORE": 0,
        },
    }
    return await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-S", exec_child.__file__, json.dumps(cage), *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=folder,
        env=_environment(folder, limits),
        start_new_session=True,  # so that all that comes of it ends with it, and it has no terminal
    )  # fmt: skip


def _environment(folder: Path, limits: Limits) -> dict[str, str]:
    """All variables that it gets: of central's own there is none."""
    return {
        "HOME": str(folder),
        "KUBECONFIG": str(folder / "config"),
        "KUBERC": "off",
        "PATH": str(folder / "no-programs"),
        "TMPDIR": str(folder),
        "TZ": "UTC",
        "GOMAXPROCS": "2",
        "GOMEMLIMIT": str(limits.memory_bytes * 3 // 4),
    }


class _Tap:
    """Hands output on, up to the limit."""

    def __init__(self, sink: Sink, most: int) -> None:
        self._sink = sink
        self._most = most
        self.taken = 0

    async def flow(self, stream: Stream, pipe: asyncio.StreamReader | None) -> None:
        """Take all of one pipe. Raises _Full."""
        assert pipe is not None
        while data := await pipe.read(_PIECE_BYTES):
            kept = data[: self._most - self.taken]
            self.taken += len(kept)
            if kept:
                await self._sink.take(stream, kept)
            if len(kept) < len(data):
                raise _Full

    async def watch(self, over: asyncio.Event) -> None:
        """Look after the caller until all is over."""
        while not over.is_set():
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    await over.wait()
            except TimeoutError:
                await self._sink.look()


async def _see_to_its_end(
    process: asyncio.subprocess.Process, tap: _Tap, stdin: bytes, seconds: float
) -> Ending:
    ended = False
    try:
        async with asyncio.timeout(seconds):
            await _flow(process, tap, stdin)
        ended = True
    except TimeoutError:
        return "time_limit"
    except _Full:
        return "output_limit"
    finally:
        if not ended:
            await asyncio.shield(_kill(process))
    return "exit"


async def _flow(process: asyncio.subprocess.Process, tap: _Tap, stdin: bytes) -> None:
    """All pipes at once, until the process has ended. Raises _Full, Gone.

    When one of them fails, the others end with the process, which is killed then.
    """
    over = asyncio.Event()

    async def pipes() -> None:
        try:
            await asyncio.gather(
                tap.flow("stdout", process.stdout),
                tap.flow("stderr", process.stderr),
                _feed(process.stdin, stdin),
            )
            await process.wait()
        finally:
            over.set()

    await asyncio.gather(pipes(), tap.watch(over))


async def _feed(pipe: asyncio.StreamWriter | None, data: bytes) -> None:
    assert pipe is not None
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it need not read
        pipe.write(data)
        await pipe.drain()
    pipe.close()


async def _kill(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    # The wait is for the pipes too, and one whose reader has stopped shows no end.
    process._transport.close()  # type: ignore[attr-defined]  # noqa: SLF001
    await process.wait()
