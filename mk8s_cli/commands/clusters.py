"""`mk8s clusters list`, also as `mk8s admin clusters list`.

Called through `mk8s_cli.command_table`.
"""

import time
from typing import Any

import click

from mk8s_cli.central.api import text, texts
from mk8s_cli.commands.options import profile
from mk8s_cli.login import access_tokens
from mk8s_cli.terminal.output import age, format_option, show
from mk8s_cli.terminal.progress import waiting
from mk8s_cli.terminal.screen import escape

COLUMNS = ("name", "status", "agent", "kubernetes", "last seen", "labels", "you may")


@click.command("list", epilog="Example: mk8s clusters list -o json")
@format_option()
def list_clusters(form: str) -> None:
    """List the clusters you may use."""
    _list(form, "no cluster is yours yet: ask an administrator for a role")


@click.command("list", epilog="Example: mk8s admin clusters list -o json")
@format_option()
def list_all(form: str) -> None:
    """List all clusters."""
    _list(form, "there is no cluster yet; run: mk8s admin clusters add NAME")


def _list(form: str, when_none: str) -> None:
    with waiting("reading the clusters"):
        central = access_tokens.connect(profile())
        clusters = central.clusters()
    if not clusters and form == "table":
        click.echo(when_none, err=True)
        return
    now = time.time() - central.transport.clock_skew  # by central's clock, as what it says is
    documents = [cluster.document for cluster in clusters]
    show(form, documents, COLUMNS, lambda cluster: _row(cluster, now))
    for cluster in clusters:  # on stderr: what reads the table reads clusters only
        if alert := text(cluster.document, "alert"):
            click.echo(f"{cluster.name}: {escape(alert)}", err=True)


def _row(cluster: dict[str, Any], now: float) -> tuple[str, ...]:
    return (
        text(cluster, "name"),
        text(cluster, "status"),
        text(cluster, "agent_version"),
        text(cluster, "kubernetes_version"),
        age(text(cluster, "last_seen"), now),
        labels_of(cluster),
        ",".join(texts(cluster, "verbs")),
    )


def labels_of(cluster: dict[str, Any]) -> str:
    """Return the labels as k=v,k=v."""
    labels = cluster.get("labels")
    if not isinstance(labels, dict):
        return ""
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items()))
