"""`mk8s admin roles list/get/apply/remove`.

Called through `mk8s_cli.command_table`.
"""

from pathlib import Path
from typing import Any

import click

from mk8s_cli.central import policy_file
from mk8s_cli.central.api import Document, segment, text
from mk8s_cli.commands.options import agree, profile, yes_option
from mk8s_cli.login import access_tokens
from mk8s_cli.terminal.errors import CliError
from mk8s_cli.terminal.output import document, format_option, show
from mk8s_cli.terminal.validation import ROLE_NAME

COLUMNS = ("name", "clusters", "limits", "built in")


@click.command("list", epilog="Example: mk8s admin roles list")
@format_option()
def list_roles(form: str) -> None:
    """List roles."""
    show(form, access_tokens.connect(profile()).items("/roles"), COLUMNS, _row)


def _row(role: Document) -> tuple[str, ...]:
    rules = role.get("clusters")
    selectors = [_selector(rule) for rule in rules] if isinstance(rules, list) else []
    built_in = "yes" if role.get("built_in") is True else "no"
    limits = " ".join(f"{key}={value}" for key, value in policy_file.limits_of(role).items())
    return text(role, "name"), ",".join(dict.fromkeys(selectors)), limits, built_in


def _selector(rule: Any) -> str:
    if not isinstance(rule, dict):
        return "?"
    labels = rule.get("labels")
    if isinstance(labels, dict):
        return "+".join(f"{key}={value}" for key, value in sorted(labels.items()))
    return str(rule.get("name", "*"))


@click.command(epilog="Example: mk8s admin roles get developer > developer.yaml")
@click.argument("name")
def get(name: str) -> None:
    """Print role NAME as YAML, ready for `roles apply`."""
    roles = access_tokens.connect(profile()).items("/roles")
    found = next((role for role in roles if role.get("name") == name), None)
    if found is None:
        raise CliError(f"there is no role {name!a}; run: mk8s admin roles list")
    role = {"name": found.get("name"), "clusters": found.get("clusters")}
    limits = policy_file.limits_of(found)
    document("yaml", role | {"limits": limits} if limits else role)


@click.command(epilog="Example: mk8s admin roles apply -f developer.yaml")
@click.option(
    "-f",
    "--file",
    "path",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="One role, or a file with roles.",
)
def apply(path: Path) -> None:
    """Create or replace the roles of a YAML file."""
    wanted = policy_file.load(path).roles
    if not wanted:
        raise CliError(f"{path} holds no role")
    central = access_tokens.connect(profile())
    for name, role in wanted.items():
        central.call("PUT", f"/roles/{segment(name)}", role)
        click.echo(f"role {name} is applied")


@click.command(epilog="Example: mk8s admin roles remove developer")
@click.argument("name")
@yes_option
def remove(name: str, yes: bool) -> None:
    """Delete role NAME; central refuses while somebody has it."""
    if not ROLE_NAME.fullmatch(name):
        raise CliError(f"{name!a} is not a role name")
    agree(f"Delete role {name}?", yes=yes)
    access_tokens.connect(profile()).call("DELETE", f"/roles/{segment(name)}")
    click.echo(f"role {name} is deleted")
