"""`mk8s logins list/end`, and the same for administrators: `mk8s admin logins list/end`.

Called through `mk8s_cli.command_table`. A login is named by its id, or by as much of its beginning
as names one only.
"""

import re
import time
from typing import Any

import click

from mk8s_cli.central.api import Central, segment, text
from mk8s_cli.commands.options import profile
from mk8s_cli.login import access_tokens
from mk8s_cli.terminal.errors import CliError
from mk8s_cli.terminal.output import age, format_option, left, show

OWN_COLUMNS = ("id", "source", "address", "client", "opened", "last seen", "ends in", "current")
COLUMNS = ("id", "user", *OWN_COLUMNS[1:])
SHOWN = 8
"""Characters of an id in the table: its first part."""
_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_BEGINNING = re.compile(r"[0-9a-f][0-9a-f-]{3,35}")


@click.command("list", epilog="Example: mk8s logins list")
@click.option("--ended", is_flag=True, help="Also those that have ended, which are kept some days.")
@format_option()
def list_own(ended: bool, form: str) -> None:
    """List your logins: by what, from where, with which client, and when they were used last."""
    _show(form, access_tokens.connect(profile()), _filters(ended=ended), OWN_COLUMNS)


@click.command("list", epilog="Example: mk8s admin logins list --user dev@example.com")
@click.option("--user", default="", help="Only of this user, or of the service token token:NAME.")
@click.option("--ended", is_flag=True, help="Also those that have ended, which are kept some days.")
@format_option()
def list_all(user: str, ended: bool, form: str) -> None:
    """List everybody's logins, or those of one user."""
    _show(form, access_tokens.connect(profile()), _filters(user or None, ended=ended), COLUMNS)


@click.command("end", epilog="Example: mk8s logins end --all")
@click.argument("login", metavar="[ID]", default="")
@click.option("--all", "everything", is_flag=True, help="All but this one, which mk8s logout ends.")
def end_own(login: str, everything: bool) -> None:
    """End the login ID of yours; what is open with it ends within two seconds."""
    if bool(login) == everything:
        raise click.UsageError("Which one? Give an ID of mk8s logins list, or --all.")
    central = access_tokens.connect(profile())
    if everything:
        _tell(central.call("DELETE", "/logins"), "your other logins have ended, this one goes on")
        return
    _end(central, login, _filters())


@click.command("end", epilog="Example: mk8s admin logins end --user dev@example.com")
@click.argument("login", metavar="[ID]", default="")
@click.option("--user", default="", help="All logins of this user, who may log in again.")
def end_any(login: str, user: str) -> None:
    """End the login ID, or all of a user; what is open with it ends within two seconds."""
    if bool(login) == bool(user):
        raise click.UsageError("Which one? Give an ID of mk8s admin logins list, or --user EMAIL.")
    central = access_tokens.connect(profile())
    if user:
        ended = central.call("DELETE", f"/users/{segment(user)}/logins")
        _tell(ended, f"the logins of {user} have ended")
        return
    _end(central, login, _filters(None))


def _filters(user: str | None = "", *, ended: bool = False) -> dict[str, str]:
    """What is asked for: one's own with "", everybody's with None."""
    whose = {"all": "true"} if user is None else {"user": user} if user else {}
    return whose if ended else {**whose, "status": "active"}


def _show(form: str, central: Central, filters: dict[str, str], columns: tuple[str, ...]) -> None:
    now = time.time()

    def row(login: dict[str, Any]) -> tuple[str, ...]:
        cells = _row(login, now)
        return tuple(cells[name] for name in columns)

    show(form, central.items("/logins", filters), columns, row)


def _row(login: dict[str, Any], now: float) -> dict[str, str]:
    over = text(login, "ended_why") or ("expired" if text(login, "status") == "ended" else "")
    opened, seen = (text(login, key) for key in ("opened_at", "last_seen"))
    return {
        "id": text(login, "id")[:SHOWN],
        "user": text(login, "user"),
        "source": _source(login),
        "address": text(login, "address"),
        "client": text(login, "client"),
        "opened": f"{age(opened, now)} ago",
        "last seen": f"{age(seen, now)} ago",
        "ends in": over or left(text(login, "ends_at"), now),
        "current": "*" if login.get("current") is True else "",
    }


def _source(login: dict[str, Any]) -> str:
    by = text(login, "issuer") or text(login, "label")
    return text(login, "source").replace("_", " ") + (f" ({by})" if by else "")


def _end(central: Central, wanted: str, filters: dict[str, str]) -> None:
    login = _named(central, wanted, filters)
    central.call("DELETE", f"/logins/{login}", repeatable=True)
    click.echo(f"login {login} has ended")


def _named(central: Central, wanted: str, filters: dict[str, str]) -> str:
    """Return the whole id of a login; what is no id is the beginning of one."""
    if _ID.fullmatch(wanted):
        return wanted
    if not _BEGINNING.fullmatch(wanted):
        raise CliError(f"{wanted!a} is no id of a login: give its first 8 characters")
    ids = [text(it, "id") for it in central.items("/logins", filters)]
    found = [it for it in ids if it.startswith(wanted) and _ID.fullmatch(it)]
    if len(found) != 1:
        count = f"{len(found)} logins begin" if found else "no login that is good begins"
        raise CliError(f"{count} with {wanted}: see the ids with -o name")
    return found[0]


def _tell(answer: dict[str, Any], done: str) -> None:
    ended = answer.get("ended")
    click.echo(f"{done} ({ended if isinstance(ended, int) else 'all'})")
