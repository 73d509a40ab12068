"""`mk8s admin clusters add/join-token/labels/remove`.

Called through `mk8s_cli.command_table`.
"""

from collections.abc import Sequence
from typing import Any

import click

from mk8s_cli.central.api import Document, segment, text
from mk8s_cli.commands import cluster_install
from mk8s_cli.commands.options import agree, cluster_argument, profile, yes_option
from mk8s_cli.login import access_tokens
from mk8s_cli.terminal.errors import Refused
from mk8s_cli.terminal.output import document, format_option, moment
from mk8s_cli.terminal.screen import escape
from mk8s_cli.terminal.validation import cluster_name

FORMATS = ("table", "json", "yaml")


@click.command(epilog="Example: mk8s admin clusters add prod --install --kube-context prod-admin")
@click.argument("name")
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="May be repeated.")
@format_option(*FORMATS)
@cluster_install.install_options
def add(name: str, labels: tuple[str, ...], form: str, **options: Any) -> None:
    """Register cluster NAME and print what its agent needs to join; the token is shown once.

    With --install, the agent is put into the cluster of a context of your kubeconfig.
    """
    body = {"name": cluster_name(name), "labels": _parsed(labels)[0]}
    plan = cluster_install.Plan(**options)
    plan.check()
    central = access_tokens.connect(profile())
    if plan.is_wanted:
        cluster_install.add(central, body, plan)
        return
    created = central.call("POST", "/clusters", body)
    _show_joining(form, created, f"cluster {name} is registered")


@click.command("join-token", epilog="Example: mk8s admin clusters join-token prod")
@cluster_argument
@format_option(*FORMATS)
def join_token(name: str, form: str) -> None:
    """Issue a new join token for cluster NAME; it is good for one agent."""
    path = f"/clusters/{segment(cluster_name(name))}/join-token"
    issued = access_tokens.connect(profile()).call("POST", path)
    _show_joining(form, issued, f"a new join token for {name}")


@click.command(epilog="Example: mk8s admin clusters labels prod env=prod old-")
@cluster_argument
@click.argument("changes", nargs=-1, required=True, metavar="KEY=VALUE|KEY- ...")
def labels(name: str, changes: tuple[str, ...]) -> None:
    """Set labels of cluster NAME with KEY=VALUE, remove them with KEY-."""
    added, dropped = _parsed(changes)
    central = access_tokens.connect(profile())
    known = [item for item in central.items("/clusters") if item.get("name") == name]
    before = known[0].get("labels") if known else None
    kept = dict(before) if isinstance(before, dict) else {}
    wanted = {key: value for key, value in {**kept, **added}.items() if key not in dropped}
    path = f"/clusters/{segment(cluster_name(name))}/labels"
    central.call("PUT", path, {"labels": wanted})
    shown = ", ".join(f"{key}={value}" for key, value in sorted(wanted.items()))
    click.echo(f"labels of {name}: {escape(shown) or 'none'}")


@click.command(
    epilog="Example: mk8s admin clusters remove prod --uninstall --kube-context prod-admin"
)
@cluster_argument
@yes_option
@click.option("--uninstall", is_flag=True, help="Take the agent out of the cluster, too.")
@cluster_install.context_option
@cluster_install.namespace_option
def remove(name: str, yes: bool, uninstall: bool, kube_context: str, namespace: str) -> None:
    """Remove cluster NAME: its agent is cut off, nobody reaches it through mk8s any more."""
    path = f"/clusters/{segment(cluster_name(name))}"
    if uninstall != bool(kube_context):
        raise click.UsageError("--uninstall and --kube-context CONTEXT need each other")
    take_away = cluster_install.uninstall(kube_context, namespace, name) if uninstall else None
    agree(f"Remove cluster {name} and cut its agent off?", yes=yes)
    try:
        access_tokens.connect(profile()).call("DELETE", path)
    except Refused as refusal:
        # Removed before, by somebody who could not uninstall: the rest is still to be done.
        if take_away is None or refusal.code != cluster_install.NOT_FOUND:
            raise
    if take_away is not None:
        take_away()
    click.echo(f"cluster {name} is removed")


def _parsed(changes: Sequence[str]) -> tuple[dict[str, str], set[str]]:
    """Return labels to set and keys to remove."""
    added: dict[str, str] = {}
    dropped: set[str] = set()
    for change in changes:
        key, equals, value = change.partition("=")
        if key and equals:
            added[key] = value
        elif len(key) > 1 and key.endswith("-"):
            dropped.add(key[:-1])
        else:
            raise click.UsageError(f"{change!a} is neither KEY=VALUE nor KEY-")
    return added, dropped


def _show_joining(form: str, facts: Document, headline: str) -> None:
    if form != "table":
        document(form, facts)
        return
    click.echo(headline)
    lines = (
        ("join token", f"{text(facts, 'join_token')} (one agent, shown once)"),
        ("valid until", moment(text(facts, "join_expires_at"))),
        ("ca pin", text(facts, "ca_pin")),
        ("central", text(facts, "central_url")),
    )
    for name, value in lines:
        click.echo(f"  {name + ':':<13}{escape(value)}")
    command = text(facts, "command")
    if command:
        click.echo("start the agent where the cluster can be reached:")
        for line in command.splitlines():
            click.echo(f"  {escape(line)}")
        click.echo("with --context NAME for a context of your kubeconfig that reaches the cluster,")
        click.echo("or in a pod: mk8s admin clusters add NAME --install --kube-context CONTEXT")
