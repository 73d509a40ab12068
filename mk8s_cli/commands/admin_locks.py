"""`mk8s admin lock`, `mk8s admin unlock`, `mk8s admin locks list`.

Called through `mk8s_cli.command_table`. A lock refuses whoever it means, also what is open, until
it is removed or ends; it ends no login.
"""

from typing import Any

import click

from mk8s_cli.central.api import Document, segment, text
from mk8s_cli.commands.options import profile, span_type
from mk8s_cli.login import access_tokens
from mk8s_cli.terminal.errors import CliError
from mk8s_cli.terminal.output import document, format_option, moment, show
from mk8s_cli.terminal.screen import escape

KINDS = ("user", "group", "role", "cluster", "login", "token")
COLUMNS = ("kind", "name", "reason", "until", "by", "id")
_FOR_GOOD = "unlocked"


@click.command("list", epilog="Example: mk8s admin locks list")
@format_option()
def list_locks(form: str) -> None:
    """List what is locked, why, by whom, and until when."""
    show(form, access_tokens.connect(profile()).items("/locks"), COLUMNS, _row)


def _row(lock: dict[str, Any]) -> tuple[str, ...]:
    return (
        text(lock, "kind"),
        text(lock, "target"),
        text(lock, "reason"),
        moment(text(lock, "expires_at")) or _FOR_GOOD,
        text(lock, "created_by"),
        text(lock, "id"),
    )


@click.command(
    epilog="Example: mk8s admin lock user dev@example.com --reason 'laptop lost' --for 12h"
)
@click.argument("kind", type=click.Choice(KINDS))
@click.argument("name")
@click.option("--reason", required=True, help="Whoever meets the lock reads it, too.")
@click.option(
    "--for",
    "life",
    default=None,
    callback=span_type,
    metavar="SPAN",
    help="Open again by itself after 90m, 12h, 30d (default: not before an unlock).",
)
@format_option()
def lock(kind: str, name: str, reason: str, life: int | None, form: str) -> None:
    """Lock the KIND called NAME; what it has open ends within two seconds.

    A login is named by its id, a service token by its name, an access token by its id (jti).
    """
    body: Document = {"kind": kind, "target": name, "reason": reason, "expires_in": life}
    made = access_tokens.connect(profile()).call("POST", "/locks", body)
    if form == "table":
        until = moment(text(made, "expires_at")) or _FOR_GOOD
        click.echo(escape(f"{kind} {text(made, 'target')} is locked until {until}"))
    elif form == "name":
        show(form, [made], COLUMNS, _row)
    else:
        document(form, made)


@click.command(epilog="Example: mk8s admin unlock user dev@example.com")
@click.argument("kind", type=click.Choice(KINDS))
@click.argument("name")
def unlock(kind: str, name: str) -> None:
    """Remove all locks of the KIND called NAME, as `mk8s admin locks list` shows it."""
    connection = access_tokens.connect(profile())
    target = name.lower() if kind == "user" else name
    locks = connection.items("/locks")
    found = [it for it in locks if (it.get("kind"), it.get("target")) == (kind, target)]
    if not found:
        raise CliError(f"no lock of {kind} {name!a}; see: mk8s admin locks list")
    for one in found:
        connection.call("DELETE", f"/locks/{segment(text(one, 'id'))}")
    click.echo(escape(f"{kind} {name} is unlocked"))
