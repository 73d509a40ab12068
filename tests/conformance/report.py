"""The matrix as text, JSON and the table of RESULTS.md."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.conformance.operations import CHAPTERS, NO_OPERATION, USES
from tests.conformance.outcome import Cell, Matrix, Verdict
from tests.support.marked_text import replace_between

BEGIN = "<!-- Kubernetes {}: written by `python -m tests.conformance --publish` -->"
END = "<!-- Kubernetes {}: end -->"
NOTE = 260
"""Characters of a note in RESULTS.md; --json has all."""
MARKS = {Verdict.SAME: "same", Verdict.DIFFERS: "**differs**", Verdict.UNAVAILABLE: "-"}


def as_json(matrix: Matrix) -> str:
    """Everything, for machines."""
    cells: list[dict[str, Any]] = [
        {
            "operation": key,
            "client": client,
            "verdict": str(cell.verdict),
            "reason": cell.reason,
            "steps": cell.steps,
            "seconds": round(cell.seconds, 1),
        }
        for key, row in matrix.cells.items()
        for client, cell in row.items()
    ]
    counts = {str(verdict): matrix.count(verdict) for verdict in Verdict}
    head = {"server": matrix.server, "clients": matrix.clients, "counts": counts,
            "left_out": matrix.left_out}  # fmt: skip
    return json.dumps({**head, "cells": cells}, indent=1)


def in_order(clients: list[str], titles: Sequence[str] = ()) -> list[str]:
    """Columns: each kubectl, oldest first, then the others as in `titles`, then as they came."""

    def place(name: str) -> tuple[bool, int]:
        if found := re.fullmatch(r"kubectl \d+\.(\d+)", name):
            return (False, int(found[1]))
        known = [at for at, title in enumerate(titles) if name.startswith(title)]
        return (True, max(known, default=len(titles)))

    return sorted(clients, key=place)


def from_json(text: str) -> Matrix:
    """The matrix that `as_json` wrote."""
    document = json.loads(text)
    matrix = Matrix(in_order(document["clients"]), server=document["server"])
    matrix.left_out = document["left_out"]
    for entry in document["cells"]:
        verdict = Verdict(entry["verdict"])
        cell = Cell(verdict, entry["reason"], entry["steps"], entry["seconds"])
        matrix.put(entry["operation"], entry["client"], cell)
    return matrix


def uses(matrix: Matrix, notes: dict[str, int]) -> list[str]:
    """The short table: a line for each client, with what programs are made of."""
    rows = [key for key in USES if key in matrix.cells]
    lines = ["| client | " + " | ".join(USES[key] for key in rows) + " |"]
    lines.append("|---" * (len(rows) + 1) + "|")
    for name in in_order(matrix.clients):
        cells = [_mark(matrix.cells[key].get(name), notes) for key in rows]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def as_markdown(matrix: Matrix) -> str:
    """A short and a long table with notes on each cell that is not "same"."""
    clients = in_order(matrix.clients)
    notes: dict[str, int] = {}
    lines = [*uses(matrix, notes), "", "| operation | " + " | ".join(clients) + " |"]
    lines.append("|---" * (len(clients) + 1) + "|")
    for chapter in CHAPTERS:
        rows = [key for key in chapter.rows if key in matrix.cells]
        if rows:
            lines.append(f"| **{chapter.title}** " + "| " * len(clients) + "|")
        for key in rows:
            cells = [_mark(matrix.cells[key].get(name), notes) for name in clients]
            lines.append(f"| {chapter.rows[key]} | " + " | ".join(cells) + " |")
    told = [f"{number}. {_plain(reason[:NOTE])}" for reason, number in notes.items()]
    left_out = [f"- {_plain(reason[:NOTE])}" for reason in matrix.left_out.values()]
    return "\n".join([*lines, "", *told, "", *left_out])


def _mark(cell: Cell | None, notes: dict[str, int]) -> str:
    if cell is None:
        return ""
    mark = MARKS[cell.verdict]
    if cell.verdict is Verdict.SAME:
        return mark
    if cell.reason == NO_OPERATION:
        return ""
    number = notes.setdefault(f"{cell.verdict}: {cell.reason}", len(notes) + 1)
    return f"{mark} {number}"


def _plain(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    return re.sub(r"([<>*_`|\[\]])", r"\\\1", " ".join(text.split()))


def as_text(matrix: Matrix) -> str:
    """A table for a terminal, each difference in full below it."""
    width = max((len(title) for chapter in CHAPTERS for title in chapter.rows.values()), default=0)
    lines = []
    for chapter in CHAPTERS:
        rows = [key for key in chapter.rows if key in matrix.cells]
        if rows:
            lines.append(f"\n{chapter.title}")
        lines += [f"  {chapter.rows[key]:<{width}}  {_summary(matrix, key)}" for key in rows]
    told = [
        f"{client}: {key}: {cell.verdict}: {cell.reason}"
        for key, row in matrix.cells.items()
        for client, cell in row.items()
        if cell.verdict is Verdict.DIFFERS
    ]
    counts = ", ".join(f"{matrix.count(verdict)} {verdict}" for verdict in Verdict)
    return "\n".join([*lines, "", *told, "", *matrix.left_out.values(), "", counts])


def _summary(matrix: Matrix, key: str) -> str:
    """Clients by verdict."""
    row = matrix.cells[key]
    parts = []
    for verdict in Verdict:
        names = [name for name in matrix.clients if name in row and row[name].verdict is verdict]
        if names:
            all_of = len(names) == len(matrix.clients) and len(names) > 1
            parts.append(f"{verdict}: {'all' if all_of else ', '.join(names)}")
    return "; ".join(parts)


def publish(matrix: Matrix, results: Path, made_by: str) -> None:
    """Replace what stands between the two marks of the API server's minor version.

    Raises:
        ValueError: the file has no such place.
    """
    minor = ".".join(matrix.server.split(".")[:2])
    counts = ", ".join(f"{count} {verdict}" for verdict, count in told_counts(matrix).items())
    text = f"{as_markdown(matrix)}\n\n{counts}; {made_by}."
    replace_between(results, BEGIN.format(minor), END.format(minor), text)


def told_counts(matrix: Matrix) -> dict[Verdict, int]:
    """How many cells of each kind the table shows."""
    shown = [cell for row in matrix.cells.values() for cell in row.values()
             if cell.reason != NO_OPERATION]  # fmt: skip
    return {verdict: sum(cell.verdict is verdict for cell in shown) for verdict in Verdict}
