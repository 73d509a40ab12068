"""Metrics: what they are called, and their values at one moment. Pure.

Central and the agent each have a table of `Metric`; their parts count in plain attributes, and only
a scrape makes a `Snapshot` of these. No sample has a label whose value a request could choose: what
is unknown has been counted as "other" before it comes here.

`exposition` writes the text.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol, TypeAlias

Labels: TypeAlias = tuple[str, ...]
Value: TypeAlias = float | list[float]
"""A number; of a histogram how many values each bound holds, how many are above, and their sum."""
Snapshot: TypeAlias = dict[str, dict[Labels, Value]]
"""By the name of the metric, then by its labels' values."""

SECONDS: Final = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
)  # fmt: skip
"""Bounds of every histogram."""
_TIMER_SECONDS: Final = 0.1


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric of a program."""

    name: str
    """As Prometheus wants it: base units; a counter ends with "_total"."""
    kind: Literal["counter", "gauge", "histogram"]
    meaning: str
    """The HELP line."""
    labels: Labels = ()
    joined_by: Literal["sum", "most"] = "sum"
    """What the values of several processes are together."""


def histogram() -> list[float]:
    """An empty one, as a snapshot has it."""
    return [0] * (len(SECONDS) + 1) + [0.0]


def note(counted: list[float], seconds: float) -> None:
    """One more value of a histogram. Where each request comes by, this stands written out."""
    counted[bisect_left(SECONDS, seconds)] += 1
    counted[-1] += seconds


class Loop(Protocol):
    """An event loop's clock."""

    def time(self) -> float:
        """Seconds."""

    def call_at(self, when: float, callback: Callable[[], object]) -> object:
        """Call back at that time, or as soon as it can."""


def time_loop(loop: Loop, delays: list[float]) -> None:
    """Note soon how late a timer came: how long whatever holds the loop up makes others wait."""
    due = loop.time() + _TIMER_SECONDS
    loop.call_at(due, lambda: note(delays, max(loop.time() - due, 0.0)))


def joined(metrics: Iterable[Metric], parts: Sequence[Snapshot]) -> Snapshot:
    """One snapshot of those of several processes."""
    found: Snapshot = {}
    for metric in metrics:
        values: dict[Labels, Value] = {}
        for part in parts:
            for labels, value in part.get(metric.name, {}).items():
                known = values.get(labels)
                values[labels] = value if known is None else _join(metric, known, value)
        if values:
            found[metric.name] = values
    return found


def _join(metric: Metric, one: Value, other: Value) -> Value:
    if isinstance(one, list) and isinstance(other, list):
        return [it + more for it, more in zip(one, other, strict=True)]
    assert not isinstance(one, list)
    assert not isinstance(other, list)
    return one + other if metric.joined_by == "sum" else max(one, other)


def counters_only(metrics: Iterable[Metric], snapshot: Snapshot) -> Snapshot:
    """What still counts of a process that is gone."""
    return {
        metric.name: snapshot[metric.name]
        for metric in metrics
        if metric.kind != "gauge" and metric.name in snapshot
    }
