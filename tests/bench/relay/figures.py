"""The benchmark's arithmetic: percentiles, medians with their spread, ratios. Pure."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile of ascending values; 0 when there are none."""
    if not ordered:
        return 0.0
    rank = -(-len(ordered) * percent // 100)  # ceiling
    return ordered[max(int(rank), 1) - 1]


@dataclass(frozen=True, slots=True)
class Spread:
    """What a value was over the rounds."""

    median: float
    low: float
    high: float
    rounds: int


def spread(values: Sequence[float]) -> Spread | None:
    """Median, least and greatest; None without values."""
    if not values:
        return None
    return Spread(statistics.median(values), min(values), max(values), len(values))


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> Spread | None:
    """The medians' ratio, with the least and greatest ratio within one round.

    The rounds are interleaved, so values of the same round met the same weather.
    """
    pairs = [own / other for own, other in zip(ours, theirs, strict=False) if other > 0]
    middle_own, middle_other = spread(ours), spread(theirs)
    if not pairs or middle_own is None or middle_other is None or middle_other.median <= 0:
        return None
    return Spread(middle_own.median / middle_other.median, min(pairs), max(pairs), len(pairs))


def meets(ratio: float, target: float, *, at_least: bool) -> bool:
    """Whether a ratio is on the right side of its target."""
    return ratio >= target if at_least else ratio <= target


def shown(value: float) -> str:
    """A number with three significant digits, never in powers of ten."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    if abs(value) >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if abs(value) >= 1 else f"{value:.3f}"
