"""The table of targets in RESULTS.md: from reports of runs, one a column, and of growth.

    python -m tests.bench.relay --publish PURE/report.json COMPILED/report.json GROWTH/report.json

Nothing is measured here. The plots are kept beside this file.
"""

import json
import re
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


def publish(files: Sequence[Path], results: Path, plots: Path = PLOTS) -> None:
    """Writes the table, and keeps the plots of the first run and of the one of growth.

    Args:
        files: report.json of runs of different builds or interpreters, and of one with --growth.
        results: with the two marks.
        plots: the folder to keep plots in.

    Raises:
        ValueError: the file has no place for it, or a file is not such a report.
        OSError: a file cannot be read.
    """
    reports = {file: read_report(file) for file in files}
    builds = [file for file in files if any(it["ratio"] for it in reports[file]["targets"])]
    grown = [file for file in files if file not in builds]
    parts = [table([reports[file] for file in builds])] if builds else []
    parts += ["\n".join(f"- {note}" for note in reports[file]["notes"]) for file in grown]
    replace_between(results, BEGIN, END, "\n".join(parts))
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
    """The targets with their ratios, and how they were measured.

    What a run lacks comes from the next one of the same build and releases.
    """
    alike: dict[str, list[Report]] = {}
    for report in reports:
        alike.setdefault(_column(report), []).append(report)
    head = ["product / peer, medians (target)", "peer", *alike]
    rows = [head, ["---"] * len(head)]
    for place, goal in enumerate(GOALS):
        columns = [[it["targets"][place] for it in runs] for runs in alike.values()]
        rows.append([goal.title, goal.peer, *(_cell(goal, _measured(it)) for it in columns)])
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([*lines, "", *map(_made, reports)])


def _column(report: Report) -> str:
    """What ran: the build, and the releases of interpreter and TLS, on which figures depend."""
    machine = report["machine"]
    releases = [re.sub(r"^(\S+ \d+\.\d+).*", r"\1", machine[name]) for name in ("python", "tls")]
    return ", ".join([machine["build"], *releases])


def _measured(targets: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The first one that has a ratio, or none has any."""
    return next((it for it in targets if it["ratio"] is not None), targets[0])


def _cell(goal: Goal, target: dict[str, Any]) -> str:
    sign = ">=" if goal.at_least else "<="
    ratio = "-" if target["ratio"] is None else f"{target['ratio']:.2f}"
    shown = f"**{ratio}**" if target["met"] == "no" else ratio
    return f"{shown} ({sign} {target['target']:g})"


def _made(report: Report) -> str:
    machine, rounds = report["machine"], report["setting"].split(";", 1)[0]
    return (
        f"- {_column(report)}: {rounds}, commit {machine['commit']}, {machine['cpu']}, "
        f"{machine['date']}."
    )
