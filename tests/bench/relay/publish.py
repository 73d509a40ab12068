"""The README's table of targets: from the reports of runs, one of each build, and of growth.

    python -m tests.bench.relay --publish PURE/report.json COMPILED/report.json GROWTH/report.json

Nothing is measured here. The plots are kept beside this file.
"""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.bench.relay.goals import GOALS, Goal
from tests.support.marked_text import replace_between

BEGIN = "<!-- speed: written by `python -m tests.bench.relay --publish` -->"
END = "<!-- speed: end -->"
PLOTS = Path(__file__).parent
Report = dict[str, Any]


def publish(files: Sequence[Path], readme: Path, plots: Path = PLOTS) -> None:
    """Writes the table, and keeps the plots of the first run and of the one of growth.

    Args:
        files: report.json of a run of each build, and of one with --growth.
        readme: with the two marks.
        plots: the folder to keep plots in.

    Raises:
        ValueError: the README has no place for it, or a file is not such a report.
        OSError: a file cannot be read.
    """
    reports = {file: read_report(file) for file in files}
    builds = [file for file in files if any(it["ratio"] for it in reports[file]["targets"])]
    grown = [file for file in files if file not in builds]
    parts = [table([reports[file] for file in builds])] if builds else []
    parts += ["\n".join(f"- {note}" for note in reports[file]["notes"]) for file in grown]
    replace_between(readme, BEGIN, END, "\n".join(parts))
    for name, kept in (("targets.png", builds), ("growth.png", grown)):
        for drawn in (file.with_name("report.png") for file in kept[:1]):
            shutil.copyfile(drawn, plots / name)


def read_report(file: Path) -> Report:
    """A report as `report.write_json` wrote it."""
    report = json.loads(file.read_text())
    if (
        not isinstance(report, dict)
        or not {"machine", "setting", "targets", "notes"} <= report.keys()
    ):
        raise ValueError(f"{file} is no report of the relay benchmark")
    return report


def table(reports: Sequence[Report]) -> str:
    """The targets with their ratios, and how they were measured."""
    builds = [report["machine"]["build"] for report in reports]
    head = ["product / peer, medians", "peer", *(it for name in builds for it in (name, "target"))]
    rows = [head, ["---"] * len(head)]
    for place, goal in enumerate(GOALS):
        cells = [cell for it in reports for cell in _cells(goal, it["targets"][place])]
        rows.append([goal.title, goal.peer, *cells])
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([*lines, "", *map(_made, reports)])


def _cells(goal: Goal, target: dict[str, Any]) -> tuple[str, str]:
    sign = ">=" if goal.at_least else "<="
    ratio = "-" if target["ratio"] is None else f"{target['ratio']:.2f}"
    shown = f"**{ratio}**" if target["met"] == "no" else ratio
    return shown, f"{sign} {target['target']:g}"


def _made(report: Report) -> str:
    machine, rounds = report["machine"], report["setting"].split(";", 1)[0]
    return (
        f"- {machine['build']}: {rounds}, commit {machine['commit']}, {machine['python']}, "
        f"{machine['cpu']}, {machine['date']}."
    )
