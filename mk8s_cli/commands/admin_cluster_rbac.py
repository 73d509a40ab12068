"""`mk8s admin cluster-rbac`: the upper bounds of the roles as RBAC of a cluster.

Called through `mk8s_cli.command_table`. The objects go to standard output, ready for `kubectl
apply`; what RBAC says otherwise than a role goes to standard error, and stands in the YAML as
comments.
"""

from typing import Any

import click

from mk8s_cli.central.api import Central, Document, segment, text
from mk8s_cli.commands.options import complete_cluster, profile
from mk8s_cli.login import access_tokens
from mk8s_cli.terminal import output
from mk8s_cli.terminal.errors import CliError
from mk8s_cli.terminal.screen import escape
from mk8s_cli.terminal.validation import LABEL, cluster_name, shown

API_VERSION = "rbac.authorization.k8s.io/v1"
KINDS = frozenset({"ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"})
"""Nothing else is handed to a kubectl that may do everything."""


@click.command(epilog="Example: mk8s admin cluster-rbac --cluster prod > cluster-rbac.yaml")
@click.option(
    "--cluster", required=True, metavar="NAME", shell_complete=complete_cluster,
    help="The cluster whose RBAC it will be.",
)  # fmt: skip
@click.option(
    "--agent", default="mk8s:mk8s-agent", show_default=True, metavar="NAMESPACE:NAME",
    help="ServiceAccount of the agent, which must be allowed to act with the roles' groups.",
)  # fmt: skip
@output.format_option("yaml", "json")
def cluster_rbac(cluster: str, agent: str, form: str) -> None:
    """Print RBAC that holds the upper bounds of the roles on a cluster."""
    items, notes = fetch(access_tokens.connect(profile()), cluster, agent)
    if form == "json":
        output.document(form, {"apiVersion": "v1", "kind": "List", "items": items})
    else:
        click.echo(as_yaml(items, notes), nl=False)
    for note in notes:
        click.echo(f"note: {note}", err=True)


def fetch(central: Central, cluster: str, agent: str) -> tuple[list[Document], list[str]]:
    """Ask central for the objects and the notes about them.

    Args:
        central: asked as an administrator.
        cluster: its name.
        agent: the ServiceAccount of its agent as NAMESPACE:NAME.

    Raises:
        CliError: a name is none, or the answer holds something else than RBAC.
    """
    namespace, _, name = agent.partition(":")
    if not (LABEL.fullmatch(namespace) and all(map(LABEL.fullmatch, name.split(".")))):
        raise CliError(f"--agent {shown(agent)} is no ServiceAccount: write NAMESPACE:NAME")
    path = f"/clusters/{segment(cluster_name(cluster))}/rbac"
    query = f"?agent_namespace={namespace}&agent_name={name}"
    answer = central.call("GET", path + query)
    items, notes = answer.get("items"), answer.get("notes")
    if not (isinstance(items, list) and all(map(_is_rbac, items)) and isinstance(notes, list)):
        raise CliError("central's answer is refused: it holds something else than RBAC")
    return items, [_sentence(note) for note in notes if isinstance(note, dict)]


def as_yaml(items: list[Document], notes: list[str]) -> str:
    """Write the objects as documents of YAML, the notes before them as comments."""
    import yaml

    comments = "".join(f"# {note}\n" for note in notes)
    return comments + yaml.safe_dump_all(
        items, sort_keys=False, allow_unicode=False, explicit_start=True
    )


def _is_rbac(item: Any) -> bool:
    return (
        isinstance(item, dict)
        and item.get("apiVersion") == API_VERSION
        and item.get("kind") in KINDS
    )


def _sentence(note: Document) -> str:
    return escape(f"{text(note, 'rule')}: {text(note, 'text')}")
