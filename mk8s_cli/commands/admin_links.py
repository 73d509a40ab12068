"""`mk8s admin users link/unlink/links`: whom single sign-on means by a user.

Called through `mk8s_cli.command_table`. A person's first login makes a user; where a user of that
name is there already, an administrator says that the two are the same.
"""

from typing import Any
from urllib.parse import urlencode

import click

from mk8s_cli.central.api import Document, segment, text
from mk8s_cli.commands.options import agree, profile, yes_option
from mk8s_cli.login import access_tokens
from mk8s_cli.terminal.errors import CliError
from mk8s_cli.terminal.output import format_option, show
from mk8s_cli.terminal.validation import LABEL

COLUMNS = ("issuer", "subject", "last used")


@click.command(epilog="Example: mk8s admin users links dev@example.com")
@click.argument("user")
@format_option()
def links(user: str, form: str) -> None:
    """List whom single sign-on means by USER."""
    found = access_tokens.connect(profile()).call("GET", _path(user)).get("identities")
    show(form, found if isinstance(found, list) else [], COLUMNS, _row)


def _row(link: dict[str, Any]) -> tuple[str, ...]:
    subject = text(link, "subject")
    used = text(link, "last_used") if subject else ""
    return text(link, "issuer"), subject or "(at the next login)", used


@click.command(epilog="Example: mk8s admin users link dev@example.com --issuer acme")
@click.argument("user")
@click.option("--issuer", required=True, help="The issuer, as central's configuration calls it.")
@click.option(
    "--subject",
    default="",
    help="Their subject (claim sub) there. By default it is whoever proves USER's email address at "
    "the next login there.",
)
def link(user: str, issuer: str, subject: str) -> None:
    """Let a person of an issuer log in as USER, who is there already."""
    body: Document = {"issuer": _issuer(issuer), "subject": subject}
    access_tokens.connect(profile()).call("PUT", _path(user), body)
    click.echo(f"{user} is linked to {subject or 'whoever proves that address'} at {issuer}")


@click.command(epilog="Example: mk8s admin users unlink dev@example.com --issuer acme")
@click.argument("user")
@click.option("--issuer", required=True, help="The issuer, as central's configuration calls it.")
@yes_option
def unlink(user: str, issuer: str, yes: bool) -> None:
    """Let nobody of an issuer log in as USER any more; ends their logins."""
    path = f"{_path(user)}?{urlencode({'issuer': _issuer(issuer)})}"
    agree(f"Take {issuer} from {user}?", yes=yes)
    access_tokens.connect(profile()).call("DELETE", path)
    click.echo(f"{user} is not linked to {issuer} any more; what they opened by it has ended")


def _path(user: str) -> str:
    if not user or not user.isprintable() or " " in user:
        raise CliError(f"{user!a} is not a user")
    return f"/users/{segment(user)}/identities"


def _issuer(name: str) -> str:
    if not LABEL.fullmatch(name):
        raise CliError(f"{name!a} is not an issuer: see mk8s login --help")
    return name
