"""`mk8s get-token`: the exec credential plugin, when the cache has no answer (see `main.py`).

Called through `mk8s_cli.command_table`. It never prompts, prints nothing but the credential on
stdout, and one line on stderr when there is none.
"""

import os

import click

from mk8s_cli.commands.options import chosen_central
from mk8s_cli.login import access_tokens, config, exec_credential, exec_versions
from mk8s_cli.terminal.validation import cluster_name


@click.command(epilog="Example: mk8s get-token --cluster prod --central https://mk8s.example.com")
@click.option("--cluster", required=True, help="The cluster that the token is bound to.")
@click.option(
    "--central", default="", help="The central that issues it (default: the current one)."
)
@click.option(
    "-o",
    "--output",
    "form",
    type=click.Choice(["credential", "token"]),
    default="credential",
    show_default=True,
    help="What to print: kubectl's ExecCredential, or the token alone for other tools.",
)
def get_token(cluster: str, central: str, form: str) -> None:
    """Print a credential for one cluster, as kubectl and others run it, or its token alone."""
    info = os.environ.get("KUBERNETES_EXEC_INFO", "")
    version = exec_credential.api_version(info) if info and form == "credential" else ""
    profile = config.profile_for(central or chosen_central())
    if form == "token":
        click.echo(access_tokens.access_token(profile, cluster_name(cluster)).token)
        return
    token = access_tokens.credential(profile, cluster_name(cluster), os.getppid())
    version = version or exec_versions.named_for(profile.central, cluster)
    click.echo(exec_credential.answer(version, token.token, token.expires))
