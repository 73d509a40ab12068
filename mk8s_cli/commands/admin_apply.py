"""`mk8s admin apply -f rbac.yaml`: roles, users and groups of a file, with a look before the leap.

Called through `mk8s_cli.command_table`.
"""

from pathlib import Path

import click

from mk8s_cli.central import policy_file
from mk8s_cli.central.api import Document, text
from mk8s_cli.commands.options import profile
from mk8s_cli.login import access_tokens
from mk8s_cli.terminal.screen import escape

SIGNS = {"created": "+", "changed": "~"}


@click.command(epilog="Example: mk8s admin apply -f rbac.yaml --dry-run")
@click.option(
    "-f",
    "--file",
    "path",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Roles, users and groups, in the format of mk8s-central init.",
)
@click.option("--dry-run", is_flag=True, help="Only show what would change, or be refused.")
def apply(path: Path, dry_run: bool) -> None:
    """Make central hold the roles, users and groups of a file; what the file does not name stays.

    All of it or nothing. A dry run is tried by central and undone: it is refused if this would be.
    """
    asked = {**policy_file.load(path).document(), "dry_run": dry_run}
    answer = access_tokens.connect(profile()).call("POST", "/rbac", asked)
    items = answer.get("changes", answer.get("items"))  # so called by older centrals
    changes = [it for it in items if isinstance(it, dict)] if isinstance(items, list) else []
    shown = [it for it in changes if it.get("action") in SIGNS]
    if not shown:
        click.echo("nothing to change")
    for change in shown:
        click.echo(f"{_line(change)}{' (dry run)' if dry_run else ''}")


def _line(change: Document) -> str:
    kind, action, detail = (text(change, key) for key in ("kind", "action", "detail"))
    if (kind, action) == ("user", "created"):
        detail += "; no password"
    line = f"{SIGNS[action]} {kind} {text(change, 'name')}{f' ({detail})' if detail else ''}"
    return escape(line)
