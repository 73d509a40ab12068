"""Lists on the terminal: a table for people, JSON, YAML or names for programs.

Called by every command that lists. JSON and YAML are written in ASCII with escapes, cells of the
table are escaped, so that text from the network cannot drive the terminal.
"""

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

import click

from mk8s_cli.terminal.screen import escape
from mk8s_cli.terminal.table import Row, table

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "y": 365 * 86400}
_AGE_STEPS = (
    (120, "s", ""),
    (600, "m", "s"),
    (3 * 3600, "m", ""),
    (8 * 3600, "h", "m"),
    (2 * 86400, "h", ""),
    (8 * 86400, "d", "h"),
    (2 * 365 * 86400, "d", ""),
    (8 * 365 * 86400, "y", "d"),
)
"""Ages below so many seconds are told in this unit, and the rest in that one."""

FORMATS = ("table", "json", "yaml", "name")


def moment(when: str) -> str:
    """Return a time of central (RFC 3339) for people: without fractions of a second."""
    return re.sub(r"(?<=:[0-9]{2})\.[0-9]+", "", when)


def age(when: str, now: float) -> str:
    """Return how long ago `when` (RFC 3339) was at `now` (epoch seconds), as kubectl's AGE says it.

    "" stays "", and what is no time is shown as it is. The steps are those of apimachinery's
    util/duration, HumanDuration: two units where one would be too rough.
    """
    from datetime import datetime

    try:
        return _rough(max(0, int(now - datetime.fromisoformat(when).timestamp())))
    except (ValueError, OverflowError):
        return when


def left(when: str, now: float) -> str:
    """Return how long it is until `when`, told as an age is; "" for what is no time."""
    from datetime import datetime

    try:
        return _rough(max(0, int(datetime.fromisoformat(when).timestamp() - now)))
    except (ValueError, OverflowError):
        return ""


def _rough(seconds: int) -> str:
    for below, unit, rest in _AGE_STEPS:
        if seconds < below:
            big, small = divmod(seconds, _UNITS[unit])
            small = small // _UNITS[rest] if rest else 0
            return f"{big}{unit}" + (f"{small}{rest}" if small else "")
    return f"{seconds // _UNITS['y']}y"


def format_option(*formats: str) -> Callable[[Any], Any]:
    """Return the -o option with the given formats, of which the first one is the default."""
    return click.option(
        "-o",
        "--output",
        "form",
        type=click.Choice(formats or FORMATS),
        default=(formats or FORMATS)[0],
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
