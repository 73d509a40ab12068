"""`mk8s admin tokens list/create/rotate/revoke`.

Called through `mk8s_cli.command_table`. A service token is shown when it is made, and never again.
"""

import time
from typing import Any

import click

from mk8s_cli.central.api import Document, segment, text, texts
from mk8s_cli.commands.options import agree, profile, span_type, yes_option
from mk8s_cli.login import access_tokens, service_token
from mk8s_cli.terminal.errors import CliError
from mk8s_cli.terminal.output import age, document, format_option, moment, show
from mk8s_cli.terminal.screen import escape, note
from mk8s_cli.terminal.validation import SERVICE_TOKEN_NAME

COLUMNS = ("name", "status", "roles", "clusters", "expires", "last used", "created by")
MADE = ("token", "json", "yaml")
LIFE = "90d"
OVERLAP = "1h"


@click.command("list", epilog="Example: mk8s admin tokens list")
@format_option()
def list_tokens(form: str) -> None:
    """List service tokens, what they may do, and when they were used last."""
    show(form, access_tokens.connect(profile()).items("/tokens"), COLUMNS, _row)


def _row(token: dict[str, Any]) -> tuple[str, ...]:
    used = text(token, "last_used")
    return (
        text(token, "name"),
        text(token, "status"),
        ",".join(texts(token, "roles")),
        ",".join(texts(token, "clusters")) or "*",
        moment(text(token, "expires_at")),
        f"{age(used, time.time())} ago" if used else "",
        text(token, "created_by"),
    )


@click.command(epilog="Example: mk8s admin tokens create ci --role developer --cluster 'dev-*'")
@click.argument("name")
@click.option("--role", "roles", multiple=True, required=True, help="May be repeated.")
@click.option(
    "--cluster",
    "clusters",
    multiple=True,
    metavar="GLOB",
    help="Only where a cluster's name matches; may be repeated.",
)
@click.option("--for", "life", default=LIFE, show_default=True, callback=span_type, metavar="SPAN",
              help="How long it is good.")  # fmt: skip
@format_option(*MADE)
def create(
    name: str, roles: tuple[str, ...], clusters: tuple[str, ...], life: int, form: str
) -> None:
    """Make the service token NAME and print it, this once."""
    body: Document = {
        "name": _checked(name),
        "roles": list(roles),
        "clusters": list(clusters),
        "expires_in": life,
    }
    _print(form, access_tokens.connect(profile()).call("POST", "/tokens", body))


@click.command(epilog="Example: mk8s admin tokens rotate ci --overlap 1d")
@click.argument("name")
@click.option("--overlap", default=OVERLAP, show_default=True, callback=span_type, metavar="SPAN",
              help="How long the one before stays good; 0s ends it at once.")  # fmt: skip
@click.option("--for", "life", default=None, callback=span_type, metavar="SPAN",
              help="How long it is good (default: as long as the one before).")  # fmt: skip
@format_option(*MADE)
def rotate(name: str, overlap: int, life: int | None, form: str) -> None:
    """Give the service token NAME its next secret and print it, this once."""
    body: Document = {"overlap": overlap, "expires_in": life}
    path = f"/tokens/{segment(_checked(name))}/rotate"
    _print(form, access_tokens.connect(profile()).call("POST", path, body))


@click.command(epilog="Example: mk8s admin tokens revoke ci")
@click.argument("name")
@yes_option
def revoke(name: str, yes: bool) -> None:
    """Revoke the service token NAME; what it has open ends within two seconds."""
    path = f"/tokens/{segment(_checked(name))}"
    agree(f"Revoke service token {name}?", yes=yes)
    access_tokens.connect(profile()).call("DELETE", path)
    click.echo(f"service token {name} is revoked")


def _print(form: str, made: Document) -> None:
    if form != "token":
        document(form, made)
        return
    until = moment(text(made, "expires_at"))
    note(f"service token {text(made, 'name')}, good until {until}; it is shown this once:")
    click.echo(escape(service_token.checked(text(made, "token"), "central's answer")))


def _checked(name: str) -> str:
    if not SERVICE_TOKEN_NAME.fullmatch(name):
        raise CliError(f"{name!a} is no name of a service token (a-z, 0-9, '.', '_', '-')")
    return name
