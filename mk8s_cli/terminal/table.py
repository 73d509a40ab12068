"""Tables for people: aligned, in colour and as wide as the screen where somebody looks at one.

Called by `output.py`. A program that reads a table (`| awk`) gets one line for each row. On a
screen that is too narrow, cells go on in the next line, behind a blank or a comma and never inside
a word; where not even the longest words fit, rows are longer than the screen. Not rich's tables:
they break words, and importing them takes longer than everything else that a list does.
"""

import os
import re
import shutil
import sys
from collections.abc import Sequence

import click

from mk8s_cli.terminal.screen import escape

GAP = "   "
COLOURS = {
    "connected": "green",
    "signing": "green",
    "disconnected": "red",
    "revoked": "red",
    "pending": "yellow",
}
_WORDS = re.compile(r"[^ ,]*,+|[^ ,]+")

Row = Sequence[str]


def table(columns: Row, rows: Sequence[Row]) -> None:
    """Print rows under upper-case headings; what a cell holds is escaped, an empty one is "-"."""
    is_screen = sys.stdout.isatty()
    titles = [column.upper() for column in columns]
    cells = [[escape(cell) or "-" for cell in row] for row in rows]
    widths = _widths([titles, *cells], shutil.get_terminal_size().columns if is_screen else 0)
    is_coloured = is_screen and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    for line in _lines(titles, widths):
        click.echo(click.style(line, bold=True) if is_coloured else line)
    for row in cells:
        for line in _lines(row, widths, is_coloured=is_coloured):
            click.echo(line)


def width(text: str) -> int:
    """Return how many places of a screen `text` takes; it holds no control characters."""
    if text.isascii():
        return len(text)
    import unicodedata

    wide = sum(unicodedata.east_asian_width(it) in "WF" for it in text)
    return len(text) + wide - sum(unicodedata.combining(it) > 0 for it in text)


def _widths(rows: Sequence[Row], screen: int) -> list[int]:
    """Return the width of each column, narrowed as far as words allow; `screen` 0 is any width."""
    columns = list(zip(*rows, strict=True))
    wanted = [max(map(width, column)) for column in columns]
    too_much = sum(wanted) + len(GAP) * (len(wanted) - 1) - screen if screen else 0
    if too_much <= 0:
        return wanted
    least = [max(width(word) for cell in column for word in _words(cell)) for column in columns]
    while too_much > 0:
        spare = [have - need for have, need in zip(wanted, least, strict=True)]
        if not any(spare):
            break
        # The widest of those that can give way is the one that hurts least.
        widest = max((at for at, left in enumerate(spare) if left), key=wanted.__getitem__)
        wanted[widest] -= 1
        too_much -= 1
    return [
        max(width(part) for cell in column for part in _fold(cell, most))
        for column, most in zip(columns, wanted, strict=True)
    ]


def _lines(row: Row, widths: Sequence[int], *, is_coloured: bool = False) -> list[str]:
    """Return the lines of one row, without blanks at their ends."""
    folded = [_fold(cell, most) for cell, most in zip(row, widths, strict=True)]
    lines = []
    for number in range(max(map(len, folded))):
        line = ""
        for cell, parts, most in zip(row, folded, widths, strict=True):
            part = parts[number] if number < len(parts) else ""
            colour = COLOURS.get(cell) if is_coloured else None
            line += click.style(part, fg=colour) if colour else part
            line += " " * (most - width(part)) + GAP
        lines.append(line.rstrip())
    return lines


def _fold(cell: str, most: int) -> list[str]:
    """Return `cell` in parts of at most `most` places, or one word where that is longer."""
    if width(cell) <= most:
        return [cell]
    parts = [""]
    for word in _words(cell):
        joint = "" if not parts[-1] or parts[-1].endswith(",") else " "
        if parts[-1] and width(parts[-1]) + len(joint) + width(word) > most:
            parts.append(word)
        else:
            parts[-1] += joint + word
    return parts


def _words(cell: str) -> list[str]:
    """Return what a cell may be folded between: words, each with the comma behind it."""
    return _WORDS.findall(cell) or [cell]
