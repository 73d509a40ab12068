"""The metrics of all processes of one machine, whichever of them is asked.

Each worker leaves its values in a file of the workers' private folder once a second and whenever it
answers a scrape, and reads those of the others there. So a worker that is busy, being restarted or
dead is in the answer with what it last said, and no counter goes back. Who takes a dead worker's
place goes on from its counters; what it had open counts for some seconds only.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson

from mk8s_agent.wire.metrics import (
    Labels,
    Snapshot,
    Value,
    counters_only,
    histogram,
    joined,
    time_loop,
)
from mk8s_proxy.process.metrics import METRICS, collect
from mk8s_proxy.process.worker import Worker

if TYPE_CHECKING:
    from mk8s_proxy.process.app import Central

log = logging.getLogger(__name__)

FRESH_SECONDS: Final = 10.0
"""What a worker has open is not believed for longer."""
_PATIENCE: Final = 50
"""Of its time, a process spends one part in so many on telling the others, however much it is."""


class MetricsFiles:
    """One worker's part in the metrics of all.

    Args:
        worker: which one it is; one that is alone has no file.
        collect: gives its values; it is handed how late the event loop was.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        worker: Worker,
        collect: Callable[[list[float]], Snapshot],
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._collect = collect
        self._clock = clock
        self._monotonic = monotonic
        self._delays = histogram()
        self._due = 0.0
        self._own: Path | None = None
        self._others: list[Path] = []
        if worker.folder is not None:
            paths = [_path(worker.folder, number + 1) for number in range(worker.count)]
            self._own = paths.pop(worker.number - 1)
            self._others = paths
        before = _read(self._own) if self._own is not None else None
        self._before = counters_only(METRICS, before[1]) if before else {}
        """The counters of those who had this place before."""

    def second(self) -> None:
        """Once a second: sees how late a timer comes, and leaves the values for the others."""
        time_loop(asyncio.get_running_loop(), self._delays)
        began = self._monotonic()
        if self._own is not None and began >= self._due:
            self.write()
            now = self._monotonic()
            self._due = now + (now - began) * _PATIENCE

    def all(self) -> Snapshot:
        """The values of all workers, those of this one as of now."""
        own = self.write()
        found = [_read(path) for path in self._others]
        now = self._clock()
        others = [
            values if now - written < FRESH_SECONDS else counters_only(METRICS, values)
            for written, values in filter(None, found)
        ]
        return joined(METRICS, [own, *others])

    def write(self) -> Snapshot:
        """Let the others know; never fails. Returns what they know now."""
        own = self._collect(self._delays)
        if self._before:
            own = joined(METRICS, [own, self._before])
        if self._own is not None:
            try:
                _write(self._own, self._clock(), own)
            except OSError as error:
                log.warning("metrics.not_written", extra={"reason": str(error)})
        return own


def metrics_of(central: "Central") -> MetricsFiles:
    """Those of a central that is being composed."""
    return MetricsFiles(central.worker, lambda delays: collect(central, delays))


def _path(folder: Path, number: int) -> Path:
    return folder / f"metrics-{number}.json"


def _write(path: Path, now: float, snapshot: Snapshot) -> None:
    values = {name: [[*it] for it in values.items()] for name, values in snapshot.items()}
    part = path.with_suffix(".part")
    part.write_bytes(orjson.dumps([now, values]))
    part.replace(path)


def _read(path: Path) -> tuple[float, Snapshot] | None:
    """When a file was written, and its values; None where there is none that can be read."""
    try:
        written, values = orjson.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        log.warning("metrics.not_read", extra={"reason": str(error)})
        return None
    return written, {name: dict(map(_sample, samples)) for name, samples in values.items()}


def _sample(pair: Any) -> tuple[Labels, Value]:
    labels, value = pair
    return tuple(labels), value
