"""`mk8s admin agents list/revoke`.

Called through `mk8s_cli.command_table`. Agents are named by the serial of their first certificate,
or of any later one.
"""

from typing import Any

import click

from mk8s_cli.central.api import segment, text
from mk8s_cli.commands.options import agree, profile, yes_option
from mk8s_cli.login import access_tokens
from mk8s_cli.terminal.errors import CliError
from mk8s_cli.terminal.output import document, format_option, moment, show
from mk8s_cli.terminal.validation import SERIAL, cluster_name

COLUMNS = ("agent", "cluster", "status", "tunnels", "joined", "certificate until", "why")


@click.command("list", epilog="Example: mk8s admin agents list --cluster prod")
@click.option("--cluster", default="", metavar="NAME", help="Only the agents of this cluster.")
@format_option()
def list_agents(cluster: str, form: str) -> None:
    """List agents, their certificates and whether they are connected."""
    only = cluster_name(cluster) if cluster else ""
    agents = access_tokens.connect(profile()).items("/agents")
    show(form, [it for it in agents if not only or it.get("cluster") == only], COLUMNS, _row)


def _row(agent: dict[str, Any]) -> tuple[str, ...]:
    return (
        text(agent, "id"),
        text(agent, "cluster"),
        text(agent, "status"),
        str(agent.get("tunnels", "")),
        moment(text(agent, "joined_at")),
        moment(text(agent, "expires_at")),
        text(agent, "reason"),
    )


@click.command(epilog="Example: mk8s admin agents revoke 6f1d0c")
@click.argument("agent")
@yes_option
@format_option("table", "json", "yaml", "name")
def revoke(agent: str, yes: bool, form: str) -> None:
    """Revoke the certificates of AGENT: its tunnels end, it needs a new join token."""
    if not SERIAL.fullmatch(agent):
        raise CliError(f"{agent!a} is no agent; see: mk8s admin agents list")
    agree(f"Revoke agent {agent} and cut it off?", yes=yes)
    path = f"/agents/{segment(agent)}/revoke"
    revoked = access_tokens.connect(profile()).call("POST", path)
    cluster = text(revoked, "cluster")
    if form == "name":
        show(form, [revoked], COLUMNS, _row)
    elif form != "table":
        document(form, revoked)
    else:
        click.echo(f"agent {agent} of cluster {cluster} is revoked; to let it join again:")
        click.echo(f"  mk8s admin clusters join-token {cluster}")
