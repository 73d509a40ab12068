"""`mk8s audit list/tail/show`.

Called through `mk8s_cli.command_table`. Everybody finds the requests of their own, administrators
all. What a request says of itself (names, commands, programs) was written by strangers: cells are
escaped, and a spreadsheet takes none of them for a formula.
"""

import csv
import io
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

from mk8s_cli.central import audit
from mk8s_cli.central.api import Central, Document, text
from mk8s_cli.commands.options import profile
from mk8s_cli.login import access_tokens
from mk8s_cli.terminal.errors import Refused, Unreachable
from mk8s_cli.terminal.output import document, format_option, moment, show
from mk8s_cli.terminal.progress import waiting
from mk8s_cli.terminal.screen import escape, warn

COLUMNS = ("time", "user", "cluster", "command", "status", "code", "took", "id")
CSV_COLUMNS = (
    "created_at", "user", "cluster", "command", "status", "code", "duration_ms", "verb",
    "api_group", "resource", "subresource", "namespace", "name", "denied", "source_ip", "user_id",
    "delegate", "id",
)  # fmt: skip
POLL_SECONDS = 1.0
LONGEST_POLL = 30.0
FRESH_SECONDS = 60.0
"""So long one connection's settings and token are used for following."""
_CLASSES = frozenset({"1xx", "2xx", "3xx", "4xx", "5xx"})
_FORMULAS = frozenset("=+-@\t\r\uff1d\uff0b\uff0d\uff20")
"""What spreadsheets begin a formula with, full-width forms too."""


class CodeOrClass(click.ParamType[str]):
    """An HTTP status, or a class of them such as 4xx."""

    name = "CODE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the text that GET /audit takes."""
        text = str(value).lower()
        is_code = text.isascii() and text.isdigit() and len(text) <= 3
        if not is_code and text not in _CLASSES:
            self.fail(f"{value!a} is neither an HTTP status nor a class: 403 or 4xx", param, ctx)
        return text


def filter_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that choose requests."""
    for option in reversed(_FILTERS):
        function = option(function)
    return function


_FILTERS = (
    click.option("--since", default="", metavar="TIME",
                 help="Begun since then: 90m, 12h, 2d, 2026-01-31 or 2026-01-31T08:00:00Z."),
    click.option("--until", default="", metavar="TIME", help="Begun before then."),
    click.option("--user", default="", metavar="EMAIL", help="Of this user."),
    click.option("--cluster", default="", metavar="NAME", help="On this cluster."),
    click.option("--verb", default="", metavar="VERB",
                 help="Kubernetes's verb, or exec, logs, portforward, proxy."),
    click.option("--resource", default="", metavar="RESOURCE",
                 help="As in pods, deployments.apps, pods/log."),
    click.option("-n", "--namespace", default="", metavar="NAME", help="In this namespace."),
    click.option("--code", type=CodeOrClass(), help="Answered with this HTTP status, or 4xx."),
    click.option("--denied", is_flag=True, help="Only what was refused."),
)  # fmt: skip


@click.command("list", epilog="Example: mk8s audit list --since 2h --denied")
@filter_options
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True,
              help="At most so many, the newest ones.")  # fmt: skip
@format_option("table", "json", "csv", "k8s")
def list_audit(form: str, limit: int, **filters: Any) -> None:
    """List requests, the newest first: yours, for administrators everybody's.

    -o k8s prints lines of JSON, each an audit.k8s.io/v1 Event.
    """
    asked = _asked(filters, form)
    central = access_tokens.connect(profile())
    pages = audit.newest_first(central, asked, limit)
    if form in {"csv", "k8s"}:  # as they come: an export may be long
        for number, page in enumerate(pages):
            _write(form, page.items, is_first=number == 0)
        return
    with waiting("reading the audit"):
        items = [item for page in pages for item in page.items]
    if form == "table" and not items:
        click.echo("the audit has nothing of that", err=True)
        return
    show(form, items, COLUMNS, _row)


@click.command(epilog="Example: mk8s audit tail -f --cluster prod")
@filter_options
@click.option("-f", "--follow", is_flag=True, help="Go on, as requests come, until Ctrl-C.")
@click.option("--lines", type=click.IntRange(0, audit.PAGE_ROWS), default=10, show_default=True,
              help="Begin with so many.")  # fmt: skip
@format_option("table", "json", "csv", "k8s")
def tail(form: str, follow: bool, lines: int, **filters: Any) -> None:
    """Print the newest requests, the latest at the end, one line each.

    With -f, a request that takes long is printed twice: as it begins, and at its end.
    """
    asked = _asked(filters, form)
    central = access_tokens.connect(profile())
    first = audit.page(central, asked | {"limit": str(max(lines, 1))})
    items = first.items[:lines]
    _lines(form, items[::-1], is_first=True)
    if follow:
        _follow(form, asked, first.newest)


@click.command("show", epilog="Example: mk8s audit show 019b2c4e-7a10-7cc1-8a3f-5d2f6a1b0c9d")
@click.argument("audit_id", metavar="ID")
@format_option("yaml", "json", "k8s")
def show_entry(audit_id: str, form: str) -> None:
    """Show the request ID (an Audit-ID) with its whole row."""
    entry = audit.entry(access_tokens.connect(profile()), audit_id)
    if form == "k8s":
        _write(form, [entry], is_first=True)
        return
    document(form, entry)


def _asked(filters: Mapping[str, Any], form: str) -> dict[str, str]:
    """The parameters of GET /audit."""
    asked = {
        key: str(value).lower() if value is True else str(value)
        for key, value in filters.items()
        if value is not None and value is not False and value != ""
    }
    for key in ("since", "until"):
        if key in asked:
            asked[key] = audit.moment(asked[key])
    if form == "k8s":
        asked["events"] = "true"
    return asked


def _follow(form: str, asked: Mapping[str, str], after: int) -> None:
    """Print what is written after a number, for ever; a central that is away comes back."""
    pause, connected = POLL_SECONDS, 0.0
    central: Central | None = None
    while True:
        time.sleep(pause)
        try:
            if central is None or time.monotonic() - connected > FRESH_SECONDS:
                central, connected = access_tokens.connect(profile()), time.monotonic()
            limits = {"after": str(after), "limit": str(audit.PAGE_ROWS)}
            page = audit.page(central, dict(asked) | limits)
        except (Unreachable, Refused) as error:
            if isinstance(error, Refused) and error.code not in {429, 502, 503, 504}:
                raise
            warn(f"{error}; trying again")
            central, pause = None, min(pause * 2, LONGEST_POLL)
            continue
        _lines(form, page.items, is_first=False)
        after = page.newest
        pause = 0.0 if len(page.items) == audit.PAGE_ROWS else POLL_SECONDS


def _lines(form: str, items: Sequence[Document], *, is_first: bool) -> None:
    """Print requests so that whoever follows has them at once."""
    if form == "table":
        for item in items:
            click.echo("  ".join(escape(cell) or "-" for cell in _row(item)))
        return
    _write(form, items, is_first=is_first)


def _write(form: str, items: Sequence[Document], *, is_first: bool) -> None:
    """Print requests as lines of JSON or CSV; the first time, CSV has its headings."""
    import json

    if form == "csv":
        if is_first:
            click.echo(_csv_line(CSV_COLUMNS))
        for item in items:
            click.echo(_csv_line([_cell(item.get(column)) for column in CSV_COLUMNS]))
        return
    for item in items:
        shown = audit.event(item) if form == "k8s" else item
        # json escapes everything but DEL.
        click.echo(json.dumps(shown, separators=(",", ":")).replace("\x7f", "\\u007f"))


def _csv_line(cells: Sequence[str]) -> str:
    line = io.StringIO()
    csv.writer(line, quoting=csv.QUOTE_ALL, lineterminator="").writerow(map(_harmless, cells))
    return line.getvalue()


def _harmless(cell: str) -> str:
    """A cell that spreadsheets take for text (OWASP, "CSV injection")."""
    begin = cell.lstrip()[:1] or cell[:1]
    return escape(f"'{cell}" if begin in _FORMULAS or cell[:1] in _FORMULAS else cell)


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


def _row(item: Document) -> tuple[str, ...]:
    code = item.get("code")
    return (
        moment(text(item, "created_at")),
        _who(item),
        text(item, "cluster"),
        text(item, "command"),
        text(item, "status"),
        str(code) if code else "",
        _took(item),
        text(item, "id"),
    )


def _who(item: Document) -> str:
    """The user; where it was a delegation of theirs, that as well."""
    user, delegate = text(item, "user"), text(item, "delegate")
    return f"{user} ({delegate})" if delegate else user


def _took(item: Document) -> str:
    """How long a request took, for people."""
    spent = item.get("duration_ms")
    if item.get("status") in {"running", "unknown"} or not isinstance(spent, (int, float)):
        return ""
    if spent < 1000:
        return f"{spent:.0f}ms"
    return f"{spent / 1000:.1f}s" if spent < 60_000 else f"{spent / 60_000:.1f}m"
