"""`mk8s admin apply -f rbac.yaml`: roles and users of one file, with a look before the leap.

Called through `mk8s_cli.command_table`.
"""

from pathlib import Path

import click

from mk8s_cli.central import policy_file
from mk8s_cli.commands.options import profile
from mk8s_cli.login import access_tokens
from mk8s_cli.terminal.screen import escape


@click.command(epilog="Example: mk8s admin apply -f rbac.yaml --dry-run")
@click.option(
    "-f",
    "--file",
    "path",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Roles and users, in the format of mk8s-central init.",
)
@click.option("--dry-run", is_flag=True, help="Only show what would change.")
def apply(path: Path, dry_run: bool) -> None:
    """Make central hold the roles and users of a file; what the file does not name stays."""
    wanted = policy_file.load(path)
    central = access_tokens.connect(profile())
    changes = policy_file.differences(wanted, central.items("/roles"), central.items("/users"))
    if not changes:
        click.echo("nothing to change")
    for change in changes:
        if not dry_run:
            central.call(change.method, change.path, change.payload)
        click.echo(f"{change.sign} {escape(change.line)}{' (dry run)' if dry_run else ''}")
