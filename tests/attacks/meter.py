"""What is measured: the neighbour's latencies by time, and memory and CPU of processes."""

import json
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from tests.bench.relay.accounting import cpu_seconds, family
from tests.bench.relay.figures import percentile
from tests.support.processes import Program

_TICK = 0.2
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Window:
    """The neighbour's answers of some seconds, in milliseconds."""

    count: int = 0
    p50: float = 0.0
    p99: float = 0.0
    longest: float = 0.0
    fresh: float = 0.0
    """The longest with a new connection."""
    errors: Counter[str] = field(default_factory=Counter)


class Watched:
    """A neighbour's process, read while it runs."""

    def __init__(self, program: Program) -> None:
        self.program = program

    def window(self, start: float, end: float) -> Window:
        """What was answered between two moments of the monotonic clock."""
        kept, fresh, errors = [], [], Counter[str]()
        for line in self.program.output.splitlines():
            if not line.startswith("["):
                continue
            at, took, error, is_fresh = json.loads(line)
            if not start <= at <= end:
                continue
            if error:
                errors[error] += 1
            else:
                (fresh if is_fresh else kept).append(took * 1000)
        kept.sort()
        return Window(
            len(kept), percentile(kept, 50), percentile(kept, 99),
            max(kept, default=0.0), max(fresh, default=0.0), errors,
        )  # fmt: skip

    def wait_for(self, count: int, seconds: float = 30.0) -> None:
        """Returns once so many more answers have come, or the time is over."""
        before, deadline = self.program.lines_printed(), time.monotonic() + seconds
        while self.program.lines_printed() < before + count and time.monotonic() < deadline:
            time.sleep(0.05)


def resident(pid: int) -> int:
    """Bytes in memory of a process and its children; 0 when it is gone."""
    total = 0
    for member in family(pid):
        try:
            status = Path(f"/proc/{member}/status").read_text()
        except OSError:
            continue
        total += sum(
            int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS")
        )
    return total


def cpu_of(pid: int) -> float:
    """CPU seconds of a process and its children."""
    try:
        return cpu_seconds(family(pid))
    except OSError:
        return 0.0


class Peaks:
    """The most that each process has in memory, looked at a few times a second."""

    def __init__(self, pids: dict[str, int]) -> None:
        self._pids = pids
        self.most = {name: resident(pid) for name, pid in pids.items()}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def _look(self) -> None:
        while not self._over.wait(_TICK):
            for name, pid in self._pids.items():
                self.most[name] = max(self.most[name], resident(pid))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._over.set()
        self._thread.join()


def seconds_till_back(
    pids: dict[str, int], before: dict[str, int], share: float, patience: float
) -> tuple[float, dict[str, int]]:
    """How long until every process is within `share` of what it had, and what each has then.

    `patience` seconds are the most; they come back when it never was.
    """
    start = time.monotonic()
    while True:
        now = {name: resident(pid) for name, pid in pids.items()}
        waited = time.monotonic() - start
        if all(now[name] <= before[name] * (1 + share) for name in pids) or waited >= patience:
            return waited, now
        time.sleep(0.5)
