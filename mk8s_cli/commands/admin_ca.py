"""`mk8s admin ca show/rotate/retire`.

Called through `mk8s_cli.command_table`.
"""

from typing import Any

import click

from mk8s_cli.central.api import Document, listed, text
from mk8s_cli.commands.options import agree, profile, yes_option
from mk8s_cli.login import access_tokens
from mk8s_cli.terminal.output import document, format_option, moment, show
from mk8s_cli.terminal.screen import escape

FORMATS = ("table", "json", "yaml")
COLUMNS = ("purpose", "status", "expires", "pin")
WAITING = ("cluster", "agent", "expires", "why")


@click.command("show", epilog="Example: mk8s admin ca show")
@format_option(*FORMATS)
def show_authorities(form: str) -> None:
    """Show the certificate authorities, and which agents a rotation waits for."""
    _told(form, access_tokens.connect(profile()).call("GET", "/ca"))


@click.command(epilog="Example: mk8s admin ca rotate --yes")
@yes_option
@format_option(*FORMATS)
def rotate(yes: bool, form: str) -> None:
    """Publish new certificate authorities beside the old ones; agents move by themselves."""
    agree("Publish new certificate authorities? Agents and people's CLIs move to them.", yes=yes)
    _told(form, access_tokens.connect(profile()).call("POST", "/ca/rotate"))


@click.command(epilog="Example: mk8s admin ca retire --yes")
@click.option("--force", is_flag=True, help="Also while agents have not moved: they join again.")
@yes_option
@format_option(*FORMATS)
def retire(force: bool, yes: bool, form: str) -> None:
    """Trust the old certificate authorities no more; refused while agents have not moved."""
    agree("Retire the old certificate authorities? Who has not moved has to log in again.", yes=yes)
    _told(form, access_tokens.connect(profile()).call("POST", "/ca/retire", {"force": force}))


def _told(form: str, answer: Document) -> None:
    if form != "table":
        document(form, answer)
        return
    show(form, listed(answer, "authorities", "/ca"), COLUMNS, _row)
    rotation = answer.get("rotation")
    if not isinstance(rotation, dict):
        return
    since = escape(moment(text(rotation, "signs_from")))
    click.echo(f"\na rotation is under way; the new agent authority signs from {since}")
    waiting = listed(rotation, "waiting_agents", "/ca")
    if not waiting:
        click.echo("no agent is left that needs the old one; it ends with: mk8s admin ca retire")
        return
    click.echo(f"agents that have not moved: {_count(rotation, len(waiting))}\n")
    show(form, waiting, WAITING, _waiting_row)


def _count(rotation: Document, shown: int) -> int:
    told = rotation.get("waiting")
    return told if isinstance(told, int) else shown


def _row(authority: dict[str, Any]) -> tuple[str, ...]:
    expires = moment(text(authority, "expires_at"))
    return (text(authority, "purpose"), text(authority, "status"), expires, text(authority, "pin"))


def _waiting_row(agent: dict[str, Any]) -> tuple[str, ...]:
    expires = moment(text(agent, "expires_at"))
    return (text(agent, "cluster"), text(agent, "id"), expires, text(agent, "reason"))
