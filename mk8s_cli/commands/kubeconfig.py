"""`mk8s kubeconfig sync/path/remove`.

Called through `mk8s_cli.command_table`.
"""

import os
from pathlib import Path

import click

from mk8s_cli.commands.options import (
    chosen_central,
    exec_version_option,
    profile,
    with_exec_version,
)
from mk8s_cli.kubeconfig import contexts
from mk8s_cli.kubeconfig import files as kubeconfig_files
from mk8s_cli.login import access_tokens, config, service_token
from mk8s_cli.terminal.errors import CliError
from mk8s_cli.terminal.progress import waiting
from mk8s_cli.terminal.screen import escape


@click.command(epilog="Example: mk8s kubeconfig sync --out /tmp/mk8s.yaml")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write to this file instead of the files of KUBECONFIG.",
)
@click.option("--merge", is_flag=True, help="With --out: keep what others have in that file.")
@click.option(
    "--token-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Work with the service token in this file, now and in the entries that are written.",
)
@click.option(
    "--static",
    is_flag=True,
    help="Write the service token's file, or the token itself, instead of the plugin: for tools "
    "that run none.",
)
@exec_version_option
def sync(
    out: Path | None,
    merge: bool,
    token_file: Path | None,
    static: bool,
    exec_version: str | None,
) -> None:
    """Write one context per cluster you may use; remove ours for those you lost."""
    if token_file is not None:
        os.environ[service_token.FILE_VARIABLE] = str(token_file)
    credential = _static() if static else None
    known = with_exec_version(profile(), exec_version)
    paths = (out.absolute(),) if out is not None else kubeconfig_files.listed_paths()
    if out is not None and not merge and kubeconfig_files.read(paths).foreign_entries():
        raise CliError(f"{out} holds entries of others; add --merge to keep them")
    with waiting("reading the clusters"):
        clusters = access_tokens.connect(known).clusters()
    if exec_version is not None and not service_token.in_use():
        config.update(lambda stored: stored.with_profile(with_exec_version(known, exec_version)))
    outcome = contexts.sync(known, clusters, paths, credential)
    written = ", ".join(outcome.contexts.values()) or "none"
    click.echo(f"contexts in {kubeconfig_files.target_path(paths)}: {escape(written)}")
    if outcome.removed:
        click.echo(f"removed: {escape(', '.join(outcome.removed))}")


def _static() -> dict[str, str]:
    """Return the credential of entries without a plugin."""
    if not service_token.in_use():
        raise click.UsageError(
            "--static needs a service token: add --token-file, or set MK8S_TOKEN."
        )
    found = service_token.of_environment()
    return {"tokenFile": found.path} if found.path else {"token": found.token}


@click.command(epilog="Example: mk8s kubeconfig path")
def path() -> None:
    """Print the kubeconfig that new contexts are written to."""
    click.echo(kubeconfig_files.target_path(kubeconfig_files.listed_paths()))


@click.command(epilog="Example: mk8s kubeconfig remove --all")
@click.option("--all", "every", is_flag=True, help="Of every central, not only the current one.")
def remove(every: bool) -> None:
    """Remove the contexts, clusters and users that mk8s wrote; those of others stay."""
    if every:
        centrals = [known.central for known in config.load().profiles]
    else:
        centrals = [config.profile_for(chosen_central(), logged_in=False).central]
    with kubeconfig_files.editing() as kubeconfig:
        removed = [name for central in centrals for name in kubeconfig.remove(central)]
    click.echo(f"removed: {escape(', '.join(removed)) or 'nothing'}")
