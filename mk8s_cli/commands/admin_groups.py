"""`mk8s admin groups list/set-roles/set-members/remove`.

Called through `mk8s_cli.command_table`.
"""

from typing import Any

import click

from mk8s_cli.central.api import segment, text, texts
from mk8s_cli.commands.options import agree, profile, yes_option
from mk8s_cli.login import access_tokens
from mk8s_cli.terminal.errors import CliError
from mk8s_cli.terminal.output import format_option, show
from mk8s_cli.terminal.validation import EMAIL, GROUP_NAME

COLUMNS = ("name", "roles", "members")


@click.command("list", epilog="Example: mk8s admin groups list -o yaml")
@format_option()
def list_groups(form: str) -> None:
    """List groups with their roles and members."""
    show(form, access_tokens.connect(profile()).items("/groups"), COLUMNS, _row)


def _row(group: dict[str, Any]) -> tuple[str, ...]:
    name = text(group, "name")
    members = "(the issuer's)" if ":" in name else ",".join(texts(group, "members"))
    return name, ",".join(texts(group, "roles")), members


@click.command("set-roles", epilog="Example: mk8s admin groups set-roles acme:devs developer")
@click.argument("name")
@click.argument("roles", nargs=-1)
def set_roles(name: str, roles: tuple[str, ...]) -> None:
    """Give the group NAME exactly these ROLES; none takes all away.

    NAME is one of mk8s, or ISSUER:GROUP. It is made if there is none.
    """
    path = f"/groups/{_segments(name)}/roles"
    access_tokens.connect(profile()).call("PUT", path, {"roles": list(roles)})
    click.echo(f"roles of the group {name}: {', '.join(roles) or 'none'}")


@click.command("set-members", epilog="Example: mk8s admin groups set-members devs dev@example.com")
@click.argument("name")
@click.argument("emails", nargs=-1)
def set_members(name: str, emails: tuple[str, ...]) -> None:
    """Let exactly the users EMAILS be in the group NAME, which is made if there is none."""
    for email in emails:
        if not EMAIL.fullmatch(email):
            raise CliError(f"{email!a} is not an email address")
    path = f"/groups/{_segments(name)}/members"
    access_tokens.connect(profile()).call("PUT", path, {"members": list(emails)})
    click.echo(f"members of the group {name}: {', '.join(emails) or 'none'}")


@click.command(epilog="Example: mk8s admin groups remove devs")
@click.argument("name")
@yes_option
def remove(name: str, yes: bool) -> None:
    """Delete the group NAME; who was in it loses the roles that it gave, at once."""
    path = f"/groups/{_segments(name)}"
    agree(f"Delete group {name}?", yes=yes)
    access_tokens.connect(profile()).call("DELETE", path)
    click.echo(f"group {name} is deleted")


def _segments(name: str) -> str:
    """A name as a part of a path: central takes slashes in it as they are."""
    if not GROUP_NAME.fullmatch(name):
        raise CliError(f"{name!a} is not a group's name")
    return "/".join(map(segment, name.split("/")))
