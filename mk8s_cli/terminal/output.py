"""Lists on the terminal: a table for people, JSON, YAML or names for programs.

Called by every command that lists. JSON and YAML are written in ASCII with escapes, cells of the
table are escaped, so that text from the network cannot drive the terminal. NO_COLOR is honoured by
rich, which is imported only when a table is printed.
"""

import json
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any

import click

from mk8s_cli.terminal.screen import escape

FORMATS = ("table", "json", "yaml", "name")
STYLES = {
    "connected": "green",
    "signing": "green",
    "disconnected": "red",
    "revoked": "red",
    "pending": "yellow",
}
WIDE = 100_000
"""Columns where nobody looks at a screen: a row is then always one line."""

Row = Sequence[str]


def moment(when: str) -> str:
    """Return a time of central (RFC 3339) for people: without fractions of a second."""
    return re.sub(r"(?<=:[0-9]{2})\.[0-9]+", "", when)


def format_option(*formats: str) -> Callable[[Any], Any]:
    """Return the -o option with the given formats, all of them by default."""
    return click.option(
        "-o",
        "--output",
        "form",
        type=click.Choice(formats or FORMATS),
        default="table",
        show_default=True,
        help="How to print.",
    )


def show(
    form: str, items: Sequence[dict[str, Any]], columns: Row, row: Callable[[dict[str, Any]], Row]
) -> None:
    """Print `items`: whole for json and yaml, their names for name, one `row` each for table."""
    if form == "name":
        for item in items:
            click.echo(escape(str(item.get("name") or item.get("email") or item.get("id") or "")))
    elif form == "table":
        table(columns, [row(item) for item in items])
    else:
        document(form, list(items))


def document(form: str, content: object) -> None:
    """Print `content` as json or yaml, in printable ASCII."""
    if form == "json":
        # json escapes everything but DEL.
        click.echo(json.dumps(content, indent=2).replace("\x7f", "\\u007f"))
        return
    import yaml

    click.echo(yaml.safe_dump(content, sort_keys=False, allow_unicode=False), nl=False)


def table(columns: Row, rows: Sequence[Row]) -> None:
    """Print rows under upper-case headings, aligned, in colour only where a person looks."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    terminal = sys.stdout.isatty()
    grid = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
    for column in columns:
        grid.add_column(
            column.upper(), overflow="fold" if terminal else "ignore", no_wrap=not terminal
        )
    for row in rows:
        grid.add_row(*(Text(escape(cell) or "-", style=STYLES.get(cell, "")) for cell in row))
    console = Console(file=sys.stdout, width=None if terminal else WIDE, highlight=False)
    if terminal:
        console.print(grid)
        return
    with console.capture() as captured:
        console.print(grid)
    for line in captured.get().splitlines():
        click.echo(line.rstrip())
