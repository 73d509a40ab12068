"""kubectl on central: which one, for whom how many at once, against which address.

Made by `app`, used by `exec`. One belongs to one process of central. What it runs connects to a
port of 127.0.0.1 that the same process listens on, where it walks the handler chain like everybody
else, with a token of the caller that is good for one cluster and no longer than the run.
"""

import asyncio
import base64
import contextlib
import json
import logging
import re
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mk8s_agent.wire.background import Background
from mk8s_proxy.api import exec_child
from mk8s_proxy.api.errors import ApiError
from mk8s_proxy.api.exec_process import Command, Ended, Limits, Sink, Stream, run
from mk8s_proxy.kubectl import table
from mk8s_proxy.kubectl.check import Checked
from mk8s_proxy.settings.model import ExecSettings

log = logging.getLogger(__name__)

RETRY_SECONDS: Final = 5
"""What a caller with too many commands is told to wait."""
PROBE_SECONDS: Final = 30.0
LEFTOVER_SECONDS: Final = 2 * 3600.0
"""Folders of runs older than this belong to a central that was killed: no run takes so long."""
_VERSION: Final = re.compile(r"v(\d+)\.(\d+)\.[\w.+-]*")


class Unavailable(Exception):
    """This central runs no commands; the message says what to install or set."""


@dataclass(frozen=True, slots=True)
class Kubectl:
    """The kubectl of this central."""

    programs: tuple[Path, ...]
    """The program, and those beside it that it may become: some distributions ship one that calls
    the one of the cluster's version."""
    version: str
    """As in v1.33.1."""


class CommandRunner:
    """Runs kubectl for callers.

    Args:
        settings: what an operator chose.
        folder: a private one for what runs need.
        ca_pem: gives what vouches for the certificate that is shown there.
    """

    def __init__(self, settings: ExecSettings, folder: Path, ca_pem: Callable[[], bytes]) -> None:
        self.port = 0
        """Of 127.0.0.1; known before the first run."""
        self._settings = settings
        self._folder = folder
        self._ca_pem = ca_pem
        self._running: Counter[str] = Counter()
        self._found: asyncio.Future[Kubectl | str] = asyncio.get_running_loop().create_future()

    @property
    def seconds(self) -> int:
        """The time limit of a run."""
        return self._settings.seconds

    def start(self, background: Background) -> None:
        """Look for kubectl, beside whatever else there is to start."""
        background.start("exec.look", self._look(), failed=lambda error: self._say(str(error)))

    async def _look(self) -> None:
        await asyncio.to_thread(_prepare, self._folder)
        await asyncio.to_thread(table.load)  # it takes a few milliseconds, once
        try:
            kubectl = await self._probe()
        except Unavailable as missing:
            self._say(str(missing))
            return
        landlock = exec_child.landlock_version()
        log.info(
            "exec.ready",
            extra={
                "kubectl": str(kubectl.programs[0]),
                "version": kubectl.version,
                "landlock": landlock,
            },
        )
        self._found.set_result(kubectl)

    def _say(self, reason: str) -> None:
        log.warning("exec.unavailable", extra={"reason": reason})
        if not self._found.done():
            self._found.set_result(reason)

    async def _probe(self) -> Kubectl:
        programs = find_programs(self._settings.kubectl)
        said = _Kept()
        limits = Limits(PROBE_SECONDS, 1 << 20, self._settings.memory_bytes)
        command = Command(["version", "--client", "--output=json"], {})
        try:
            await run(programs, command, said, limits, port=self.port, parent=self._folder)
        except OSError as error:
            raise Unavailable(f"cannot run {programs[0]}: {error.strerror}") from error
        return Kubectl(programs, check_version(bytes(said.output), programs[0]))

    async def kubectl(self) -> Kubectl:
        """The kubectl that commands run with.

        Raises:
            Unavailable: there is none.
        """
        found = await asyncio.shield(self._found)
        if isinstance(found, str):
            raise Unavailable(found)
        return found

    @contextlib.contextmanager
    def place(self, caller: str) -> Iterator[None]:
        """Take one of the places of a caller, and give it back.

        Raises:
            ApiError: 429, all are taken.
        """
        settings, why = self._settings, ""
        if self._running[caller] >= settings.per_caller:
            why = f"you have {settings.per_caller} commands running: wait for one to end"
        elif self._running.total() >= settings.total:
            why = "too many commands are running on this central: try again"
        if why:
            raise ApiError(429, why, retry_after=RETRY_SECONDS)
        self._running[caller] += 1
        try:
            yield
        finally:
            self._running[caller] -= 1
            if not self._running[caller]:
                del self._running[caller]

    async def run(
        self, checked: Checked, sink: Sink, *, cluster: str, token: str, stdin: bytes
    ) -> Ended:
        """Run one command to its end.

        Raises:
            Unavailable, Gone, OSError: it was not run, or not to its end.
        """
        kubectl, settings, port = await self.kubectl(), self._settings, self.port
        limits = Limits(settings.seconds, settings.output_bytes, settings.memory_bytes)
        path = "" if checked.is_raw else f"/k8s/{cluster}"
        config = kubeconfig(f"https://127.0.0.1:{port}{path}", self._ca_pem(), token)
        command = Command(checked.arguments, {"config": config}, stdin)
        return await run(kubectl.programs, command, sink, limits, port=port, parent=self._folder)


class _Kept:
    """A sink for what central itself wants to know."""

    def __init__(self) -> None:
        self.output = bytearray()

    async def take(self, stream: Stream, data: bytes) -> None:
        """Keep standard output."""
        if stream == "stdout":
            self.output += data

    async def look(self) -> None:
        """Nobody can go away."""


def find_programs(chosen: Path | None) -> tuple[Path, ...]:
    """kubectl and its siblings.

    Args:
        chosen: the operator's, None for the one on PATH.

    Raises:
        Unavailable: there is none, or the system is not Linux.
    """
    if sys.platform != "linux":
        raise Unavailable("central runs kubectl for callers on Linux only")
    versions = table.load().versions
    wanted = f"kubectl {versions[0]} to {versions[-1]}"
    found = shutil.which(str(chosen) if chosen else "kubectl")
    if found is None:
        where = f"there is no program {chosen}" if chosen else "there is no kubectl on its PATH"
        raise Unavailable(
            f"this central cannot run commands: {where}; ask your admin to install {wanted} there, "
            "or to name it in exec.kubectl"
        )
    program = Path(found).resolve()
    return (program, *sorted(program.parent.glob("kubectl.[0-9]*")))


def check_version(output: bytes, program: Path) -> str:
    """The version in what `kubectl version --client -o json` said.

    Raises:
        Unavailable: it is no kubectl, or an older one than those that were looked at. A newer one
            is as good: its new flags are not let through.
    """
    try:
        said = json.loads(output)["clientVersion"]["gitVersion"]
        match = _VERSION.fullmatch(said)
    except (ValueError, KeyError, TypeError):
        match = None
    if match is None:
        raise Unavailable(f"{program} does not say its version as kubectl does: is it one?")
    oldest = table.load().versions[0]
    if (int(match[1]), int(match[2])) < tuple(map(int, oldest.split("."))):
        raise Unavailable(f"{program} is {match[0]}: install kubectl {oldest} or newer")
    return match[0]


def kubeconfig(server: str, ca_pem: bytes, token: str) -> bytes:
    """The kubeconfig of one run."""
    cluster = {"server": server, "certificate-authority-data": base64.b64encode(ca_pem).decode()}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "cluster", "cluster": cluster}],
        "users": [{"name": "caller", "user": {"token": token}}],
        "contexts": [{"name": "only", "context": {"cluster": "cluster", "user": "caller"}}],
        "current-context": "only",
    }
    return json.dumps(document).encode()


def _prepare(folder: Path) -> None:
    """Make the folder of all runs, and remove what a killed central left in it."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    for left in folder.glob("run-*"):
        if time.time() - left.stat().st_mtime > LEFTOVER_SECONDS:
            shutil.rmtree(left, ignore_errors=True)
