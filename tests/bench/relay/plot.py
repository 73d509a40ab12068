"""The plots: bars for CPU and latency by target, ratios against targets, curves of growth.

matplotlib is an extra (`pip install 'mk8s[bench]'`); without it the text and the JSON remain.
"""

import importlib
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from tests.bench.relay.goals import Verdict, judge
from tests.bench.relay.growth import FLAT
from tests.bench.relay.machine import is_compiled
from tests.bench.relay.results import Results

_COLOURS = {"product": "tab:green", "direct": "tab:gray"}
_COST = ("h2 c1", "h2 c32", "h2 c256", "h1 c32", "kube h2 c32")
_GROWTH = "growth: "
Panel = Callable[[Any], None]


class NoPlot(Exception):
    """There is no plot; the text says why."""


def draw(file: Path, results: Results, machine: dict[str, str]) -> None:
    """One PNG with all panels that there are figures for. Raises NoPlot."""
    try:
        importlib.import_module("matplotlib").use("Agg")
        pyplot: Any = importlib.import_module("matplotlib.pyplot")
    except ImportError:
        raise NoPlot("no plot: matplotlib is not installed (extra `bench`)") from None
    panels = _panels(results)
    if not panels:
        raise NoPlot("no plot: nothing was measured that has one")
    wide = min(len(panels), 3)
    high = math.ceil(len(panels) / wide)
    figure, axes = pyplot.subplots(high, wide, figsize=(6 * wide, 4.2 * high), squeeze=False)
    for axis, panel in zip(axes.flat, panels, strict=False):
        panel(axis)
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    words = ("commit", "build", "cpu", "kernel", "date")
    figure.suptitle("mk8s relay: " + ", ".join(machine[word] for word in words), fontsize=9)
    figure.tight_layout()
    figure.savefig(file, dpi=110)
    pyplot.close(figure)


def _panels(results: Results) -> list[Panel]:
    bars = [(measure, "cpu_us") for measure in _COST]
    bars += [("h2 c1", "added_p50_us"), ("bulk", "cpu_s_gb")]
    panels: list[Panel] = [partial(_bars, results, *it) for it in bars if it[0] in results.values]
    measured = [it for it in judge(results, compiled=is_compiled()) if it.ratio is not None]
    if measured:
        panels.append(partial(_ratios, measured))
    grown = [measure for measure in results.values if measure.startswith(_GROWTH)]
    return panels + [partial(_curve, results, measure) for measure in grown]


def _bars(results: Results, measure: str, figure: str, axis: Any) -> None:
    targets = [it for it in results.values[measure] if results.of(measure, it, figure)]
    spreads = [results.spread(measure, target, figure) for target in targets]
    heights = [it.median if it else 0.0 for it in spreads]
    below = [it.median - it.low if it else 0.0 for it in spreads]
    above = [it.high - it.median if it else 0.0 for it in spreads]
    colours = [_COLOURS.get(target, "tab:blue") for target in targets]
    axis.bar(targets, heights, yerr=[below, above], color=colours, capsize=3)
    axis.set_title(f"{measure}: {figure}", fontsize=10)
    axis.tick_params(axis="x", rotation=25, labelsize=8)
    axis.set_ylim(bottom=0)


def _ratios(verdicts: list[Verdict], axis: Any) -> None:
    names = [f"{it.goal.title} / {it.goal.peer}" for it in verdicts]
    shares = [_share(it) for it in verdicts]
    colours = ["tab:green" if it.met == "yes" else "tab:red" for it in verdicts]
    axis.barh(names, shares, color=colours)
    axis.axvline(1.0, color="black", linewidth=1)
    axis.invert_yaxis()
    axis.tick_params(axis="y", labelsize=6)
    axis.set_title("part of the target used up (green: met)", fontsize=10)


def _share(verdict: Verdict) -> float:
    """How much of its target a ratio uses up: over 1 is a miss, whichever side is better."""
    if verdict.ratio is None or not verdict.ratio.median:
        return 0.0
    share = verdict.ratio.median / verdict.target
    return 1 / share if verdict.goal.at_least else share


def _curve(results: Results, measure: str, axis: Any) -> None:
    sizes = sorted(results.values[measure], key=int)
    spreads = [results.spread(measure, size, "ratio") for size in sizes]
    middle = [it.median if it else math.nan for it in spreads]
    low = [it.low if it else math.nan for it in spreads]
    high = [it.high if it else math.nan for it in spreads]
    places = [max(int(size), 0.5) for size in sizes]
    axis.plot(places, middle, marker="o", color="tab:green")
    axis.fill_between(places, low, high, alpha=0.2, color="tab:green")
    axis.axhspan(middle[0] / FLAT, middle[0] * FLAT, alpha=0.1, color="tab:gray")
    axis.set_xscale("log")
    axis.set_ylim(0, max(1.6, *(value * 1.1 for value in high)))
    axis.set_title(f"{measure.removeprefix(_GROWTH)}: CPU per request / small product", fontsize=10)
