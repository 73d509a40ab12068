"""`mk8s admin federation list/set/remove`: which jobs get in by a token of their own issuer.

Called through `mk8s_cli.command_table`. The issuers are central's settings (`login.federation`).
"""

import re
from typing import Any

import click

from mk8s_cli.central.api import Document, listed, segment, text, texts
from mk8s_cli.commands.options import agree, profile, yes_option
from mk8s_cli.login import access_tokens
from mk8s_cli.terminal.errors import CliError
from mk8s_cli.terminal.output import format_option, show
from mk8s_cli.terminal.validation import LABEL, span

PATH = "/federation/rules"
COLUMNS = ("name", "issuer", "claims", "roles", "at most")
LIFE = "1h"
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")


def _span(_: click.Context, parameter: click.Parameter, value: str) -> int:
    """Check a span of time (a click callback)."""
    seconds = span(value)
    if seconds is None:
        raise click.BadParameter("write 10m, 30m or 1h", param=parameter)
    return seconds


@click.command("list", epilog="Example: mk8s admin federation list")
@format_option()
def list_rules(form: str) -> None:
    """List the rules by which jobs are let in, and with what roles."""
    page = access_tokens.connect(profile()).call("GET", PATH)
    show(form, listed(page, "rules", f"GET {PATH}"), COLUMNS, _row)


def _row(rule: dict[str, Any]) -> tuple[str, ...]:
    given = rule.get("claims")
    claims = given if isinstance(given, dict) else {}
    told = [f"{name}={glob}" for name in claims for glob in texts(claims, name)]
    seconds = rule.get("seconds")
    return (
        text(rule, "name"),
        text(rule, "issuer"),
        ",".join(told),
        ",".join(texts(rule, "roles")),
        f"{seconds} s" if isinstance(seconds, int) else "",
    )


@click.command(
    "set",
    epilog="Example: mk8s admin federation set deploy --issuer github "
    "--claim 'repository=acme/*' --claim ref=refs/heads/main --role deployer",
)
@click.argument("name")
@click.option("--issuer", required=True, help="Of login.federation in central's settings.")
@click.option(
    "--claim",
    "claims",
    multiple=True,
    required=True,
    metavar="NAME=GLOB",
    help="What the token must say, one of them whose job it is; of a name given twice either.",
)
@click.option("--role", "roles", multiple=True, required=True, help="May be repeated.")
@click.option("--for", "life", default=LIFE, show_default=True, callback=_span, metavar="SPAN",
              help="How long a login lasts at most.")  # fmt: skip
def set_rule(
    name: str, issuer: str, claims: tuple[str, ...], roles: tuple[str, ...], life: int
) -> None:
    """Make the rule NAME or replace it: jobs whose token matches get these roles."""
    if not LABEL.fullmatch(issuer):
        raise CliError(f"{issuer!a} is no name of an issuer (a-z, 0-9 and '-')")
    body: Document = {
        "issuer": issuer,
        "claims": _claims(claims),
        "roles": list(roles),
        "seconds": life,
    }
    access_tokens.connect(profile()).call("PUT", f"{PATH}/{_checked(name)}", body)
    click.echo(f"rule {name} lets in jobs of {issuer} (roles: {', '.join(roles)})")


@click.command(epilog="Example: mk8s admin federation remove deploy")
@click.argument("name")
@yes_option
def remove(name: str, yes: bool) -> None:
    """Delete the rule NAME; the logins by it end within two seconds."""
    path = f"{PATH}/{_checked(name)}"
    agree(f"Delete rule {name}?", yes=yes)
    access_tokens.connect(profile()).call("DELETE", path)
    click.echo(f"rule {name} is deleted")


def _claims(given: tuple[str, ...]) -> dict[str, list[str]]:
    claims: dict[str, list[str]] = {}
    for one in given:
        name, equals, glob = one.partition("=")
        if not name or not equals or not glob:
            raise CliError(f"{one!a} is no claim: write NAME=GLOB, as in repository=acme/*")
        claims.setdefault(name, []).append(glob)
    return claims


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise CliError(f"{name!a} is no name of a rule (letters, digits, '.', '_', '-')")
    return segment(name)
