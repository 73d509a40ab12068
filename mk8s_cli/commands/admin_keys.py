"""`mk8s admin keys list/rotate/retire`.

Called through `mk8s_cli.command_table`.
"""

from typing import Any

import click

from mk8s_cli.central.api import Document, segment, text
from mk8s_cli.commands.options import agree, profile, yes_option
from mk8s_cli.login import access_tokens
from mk8s_cli.terminal.errors import CliError
from mk8s_cli.terminal.output import document, format_option, moment, show
from mk8s_cli.terminal.screen import escape
from mk8s_cli.terminal.validation import KEY_ID

COLUMNS = ("key", "status", "created", "signs from", "verifies until", "retired")


@click.command("list", epilog="Example: mk8s admin keys list")
@format_option()
def list_keys(form: str) -> None:
    """List the keys that access tokens are signed with."""
    show(form, access_tokens.connect(profile()).items("/keys"), COLUMNS, _row)


def _row(key: dict[str, Any]) -> tuple[str, ...]:
    times = ("created_at", "signs_from", "verifies_until", "retired_at")
    return (text(key, "id"), text(key, "status"), *(moment(text(key, name)) for name in times))


@click.command(epilog="Example: mk8s admin keys rotate --yes")
@yes_option
@format_option()
def rotate(yes: bool, form: str) -> None:
    """Publish a new signing key; it signs once every replica knows it. Nobody is logged out."""
    agree("Publish a new signing key? It replaces the one that signs now.", yes=yes)
    key = access_tokens.connect(profile()).call("POST", "/keys")
    when = escape(moment(text(key, "signs_from")))
    _told(form, key, f"signing key {escape(text(key, 'id'))} is published and signs from {when}")


@click.command(epilog="Example: mk8s admin keys retire N2hD1b7mYQ8XnWc0")
@click.argument("key")
@yes_option
@format_option()
def retire(key: str, yes: bool, form: str) -> None:
    """Refuse all access tokens that KEY has signed, at once; mk8s then fetches new ones."""
    if not KEY_ID.fullmatch(key):
        raise CliError(f"{key!a} is no signing key; see: mk8s admin keys list")
    agree(f"Retire signing key {key} and refuse every access token that it signed?", yes=yes)
    retired = access_tokens.connect(profile()).call("POST", f"/keys/{segment(key)}/retire")
    _told(form, retired, f"signing key {key} is retired")


def _told(form: str, key: Document, line: str) -> None:
    if form == "table":
        click.echo(line)
    elif form == "name":
        show(form, [key], COLUMNS, _row)
    else:
        document(form, key)
