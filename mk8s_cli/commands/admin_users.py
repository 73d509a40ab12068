"""`mk8s admin users list/add/set-roles/set-password/disable/enable/remove`.

Called through `mk8s_cli.command_table`. Users are named by email.
"""

from collections.abc import Callable
from typing import Any

import click

from mk8s_cli.central.api import Document, segment, text, texts
from mk8s_cli.commands.options import agree, profile, yes_option
from mk8s_cli.login import access_tokens
from mk8s_cli.terminal import screen as terminal
from mk8s_cli.terminal.errors import CliError
from mk8s_cli.terminal.output import document, format_option, show
from mk8s_cli.terminal.validation import EMAIL

COLUMNS = ("email", "name", "roles", "state")


@click.command("list", epilog="Example: mk8s admin users list -o yaml")
@format_option()
def list_users(form: str) -> None:
    """List users and their roles."""
    users = access_tokens.connect(profile()).items("/users")
    # `-o name` prints what the other commands take: the email, not the person's name.
    if form == "name":
        users = [{"name": text(user, "email")} for user in users]
    show(form, users, COLUMNS, _row)


def _row(user: dict[str, Any]) -> tuple[str, ...]:
    state = "disabled" if user.get("disabled") is True else "active"
    if user.get("has_password") is False:
        state += ", no password"
    if user.get("must_change_password") is True:
        state += ", must change password"
    return text(user, "email"), text(user, "name"), ",".join(texts(user, "roles")), state


def must_change_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add --must-change/--no-must-change."""
    return click.option(
        "--must-change/--no-must-change",
        default=True,
        show_default=True,
        help="Whether the user has to choose another one before anything else.",
    )(function)


@click.command(epilog="Example: mk8s admin users add dev@example.com --role developer")
@click.argument("email")
@click.option("--name", default="", help="The person's name.")
@click.option("--role", "roles", multiple=True, help="May be repeated.")
@click.option("--password-stdin", is_flag=True, help="Read the password from stdin.")
@click.option("--generate-password", is_flag=True, help="Make a first password and print it.")
@click.option("--no-password", is_flag=True, help="Without password login.")
@must_change_option
@format_option("table", "json", "yaml")
def add(
    email: str, name: str, roles: tuple[str, ...], must_change: bool, form: str, **source: bool
) -> None:
    """Create the user EMAIL."""
    if sum(source.values()) > 1:
        raise click.UsageError(
            "--password-stdin, --generate-password and --no-password exclude each other."
        )
    body: Document = {"email": _checked(email), "name": name, "roles": list(roles)}
    if source["generate_password"]:
        body["password"] = _generated()
    elif not source["no_password"]:
        body["password"] = _new_password(email, from_stdin=source["password_stdin"])
    body["must_change_password"] = must_change and "password" in body
    created = access_tokens.connect(profile()).call("POST", "/users", body)
    shown = {"password": body["password"]} if source["generate_password"] else {}
    if form != "table":
        document(form, created | shown)
        return
    click.echo(f"user {email} is created (roles: {', '.join(roles) or 'none'})")
    if shown:
        click.echo(f"first password, shown this once: {shown['password']}")


@click.command("set-roles", epilog="Example: mk8s admin users set-roles dev@example.com viewer")
@click.argument("email")
@click.argument("roles", nargs=-1)
def set_roles(email: str, roles: tuple[str, ...]) -> None:
    """Give the user EMAIL exactly these ROLES; none takes all away."""
    path = f"/users/{segment(_checked(email))}/roles"
    access_tokens.connect(profile()).call("PUT", path, {"roles": list(roles)})
    click.echo(f"roles of {email}: {', '.join(roles) or 'none'}")


@click.command("set-password", epilog="Example: mk8s admin users set-password dev@example.com")
@click.argument("email")
@click.option("--password-stdin", is_flag=True, help="Read the password from stdin.")
@must_change_option
def set_password(email: str, password_stdin: bool, must_change: bool) -> None:
    """Set the password of the user EMAIL; ends their logins."""
    path = f"/users/{segment(_checked(email))}/password"
    password = _new_password(email, from_stdin=password_stdin)
    known = profile()
    body: Document = {
        "password": password,
        "must_change_password": must_change and email.lower() != known.email,
    }
    access_tokens.connect(known).call("PUT", path, body)
    click.echo(f"the password of {email} is set; their logins have ended")


@click.command(epilog="Example: mk8s admin users disable dev@example.com")
@click.argument("email")
@click.option(
    "--revoke-tokens", is_flag=True, help="Revoke the service tokens that they have made, too."
)
def disable(email: str, revoke_tokens: bool) -> None:
    """Lock the user EMAIL out; what they have open ends within two seconds."""
    body: Document = {"disabled": True, "revoke_tokens": revoke_tokens}
    access_tokens.connect(profile()).call("PUT", _disabled_path(email), body)
    tokens = " and their service tokens are revoked" if revoke_tokens else ""
    click.echo(f"user {email} is disabled{tokens}")


@click.command(epilog="Example: mk8s admin users enable dev@example.com")
@click.argument("email")
def enable(email: str) -> None:
    """Let the user EMAIL in again; they have to log in anew."""
    access_tokens.connect(profile()).call("PUT", _disabled_path(email), {"disabled": False})
    click.echo(f"user {email} is enabled")


def _disabled_path(email: str) -> str:
    return f"/users/{segment(_checked(email))}/disabled"


@click.command(epilog="Example: mk8s admin users remove dev@example.com")
@click.argument("email")
@yes_option
def remove(email: str, yes: bool) -> None:
    """Delete the user EMAIL."""
    path = f"/users/{segment(_checked(email))}"
    agree(f"Delete user {email}?", yes=yes)
    access_tokens.connect(profile()).call("DELETE", path)
    click.echo(f"user {email} is deleted")


def _checked(email: str) -> str:
    if not EMAIL.fullmatch(email):
        raise CliError(f"{email!a} is not an email address")
    return email


def _generated() -> str:
    import secrets

    return secrets.token_urlsafe(15)


def _new_password(email: str, *, from_stdin: bool) -> str:
    return terminal.read_password(f"new password of {email}", from_stdin=from_stdin, twice=True)
