"""The report: tables as text, everything as JSON. The plots are in `plot`."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tests.bench.relay.figures import Spread, shown
from tests.bench.relay.goals import Verdict, judge
from tests.bench.relay.machine import is_compiled
from tests.bench.relay.results import Results


def text(results: Results, machine: dict[str, str], setting: str) -> str:
    """The whole report."""
    lines = ["mk8s relay benchmark", ""]
    lines += [f"{name + ':':13}{value}" for name, value in machine.items()]
    lines += ["", setting, ""]
    for measure, targets in results.values.items():
        lines += [f"== {measure}", *_measure(results, measure, list(targets)), ""]
    verdicts = judge(results, compiled=is_compiled())
    if any(it.ratio for it in verdicts):
        lines += [*_goals(verdicts), ""]
    lines += [f"note: {note}" for note in results.notes]
    return "\n".join(lines) + "\n"


def _measure(results: Results, measure: str, targets: Sequence[str]) -> list[str]:
    found = dict.fromkeys(name for it in targets for name in results.values[measure][it])
    # what is about the generator and not about the target comes last
    figures = sorted(found, key=lambda name: name.startswith("generator"))
    rows = [["", *figures]]
    for target in targets:
        spreads = [results.spread(measure, target, figure) for figure in figures]
        rows.append([target, *map(_cell, spreads)])
    return columns(rows)


def _goals(verdicts: Iterable[Verdict]) -> list[str]:
    build = "compiled" if is_compiled() else "pure"
    rows = [["metric", "product", "peer", "", "ratio", "", f"target ({build})", "met?"]]
    for verdict in verdicts:
        goal = verdict.goal
        sign = ">=" if goal.at_least else "<="
        value = f"{verdict.ratio.median:.2f}" if verdict.ratio else "-"
        span = f"({verdict.ratio.low:.2f}..{verdict.ratio.high:.2f})" if verdict.ratio else ""
        rows.append(
            [
                goal.title,
                _middle(verdict.product),
                goal.peer,
                _middle(verdict.peer),
                value,
                span,
                f"{sign} {verdict.target:g}",
                verdict.met,
            ]
        )
    return ["== targets: product / peer, medians (least..greatest of a round)", *columns(rows)]


def _middle(found: Spread | None) -> str:
    return shown(found.median) if found else "-"


def _cell(found: Spread | None) -> str:
    if found is None:
        return "-"
    if found.rounds == 1:
        return shown(found.median)
    return f"{shown(found.median)} ({shown(found.low)}..{shown(found.high)})"


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as aligned text."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def write_json(file: Path, results: Results, machine: dict[str, str], setting: str) -> None:
    """Every value of every round, and the verdicts."""
    document = {"machine": machine, "setting": setting, "targets": targets(results)}
    file.write_text(json.dumps(document | results.document(), indent=1) + "\n")


def targets(results: Results) -> list[dict[str, Any]]:
    """The verdicts, in the order of the goals."""
    return [
        {
            "metric": it.goal.title,
            "peer": it.goal.peer,
            "ratio": it.ratio.median if it.ratio else None,
            "target": it.target,
            "met": it.met,
        }
        for it in judge(results, compiled=is_compiled())
    ]
