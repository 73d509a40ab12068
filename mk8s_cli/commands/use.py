"""`mk8s use NAME`: the one command that changes kubectl's current context.

Called through `mk8s_cli.command_table`.
"""

from typing import TYPE_CHECKING

import click

from mk8s_cli.commands.options import cluster_argument, label_type, profile
from mk8s_cli.kubeconfig import contexts
from mk8s_cli.kubeconfig import files as kubeconfig_files
from mk8s_cli.login import access_tokens, config
from mk8s_cli.login.config import Profile
from mk8s_cli.terminal import screen as terminal
from mk8s_cli.terminal.errors import CliError, Unreachable
from mk8s_cli.terminal.progress import waiting
from mk8s_cli.terminal.validation import cluster_name

if TYPE_CHECKING:
    from mk8s_cli.kubeconfig.entries import Kubeconfig


@click.command(epilog="Example: mk8s use prod -n shop")
@cluster_argument
@click.option("-n", "--namespace", default="", callback=label_type, help="Its default namespace.")
def use(name: str, namespace: str) -> None:
    """Make cluster NAME the current one for kubectl; '-' goes back to the one before."""
    context = _go_back(namespace) if name == "-" else _choose(profile(), name, namespace)
    where = f", namespace {namespace}" if namespace else ""
    click.echo(f"current context: {terminal.escape(context)}{where}")


def _go_back(namespace: str) -> str:
    stored = config.load()
    previous = stored.previous_context
    if not previous:
        raise CliError("there is no context to go back to; run: mk8s use NAME")
    with kubeconfig_files.editing() as kubeconfig:
        if not kubeconfig.has_context(previous):
            raise CliError(f"the context {previous} is gone; run: mk8s use NAME")
        left = _switch(kubeconfig, previous, namespace)
        central, cluster = _owner(kubeconfig, stored, previous)
    contexts.remember(central, cluster, left)
    return previous


def _owner(kubeconfig: "Kubeconfig", stored: config.Config, context: str) -> tuple[str, str]:
    """Return central and cluster of a context, ("", "") when it is somebody else's."""
    for known in stored.profiles:
        for cluster, name in kubeconfig.contexts_of(known.central).items():
            if name == context:
                return known.central, cluster
    return "", ""


def _choose(known: Profile, name: str, namespace: str) -> str:
    cluster_name(name)
    try:
        with waiting("reading the clusters"):
            clusters = access_tokens.connect(known).clusters()
    except Unreachable as error:
        return _choose_offline(known, name, namespace, error)
    names = [cluster.name for cluster in clusters]
    if name not in names:
        raise _unknown(name, names)
    versions = contexts.exec_versions_for(known, clusters)
    with kubeconfig_files.editing() as kubeconfig:
        before = kubeconfig.current_context
        context = contexts.sync_into(kubeconfig, known, clusters, versions).contexts[name]
        _switch(kubeconfig, context, namespace)
    contexts.remember(known.central, name, before)
    status = next(cluster.status for cluster in clusters if cluster.name == name)
    if status not in {"", "connected"}:
        terminal.warn(f"cluster {name} has no agent now ({status}): kubectl works once it has")
    return context


def _choose_offline(known: Profile, name: str, namespace: str, error: Unreachable) -> str:
    """Use the context that was written before; what it may do is decided at central anyway."""
    with kubeconfig_files.editing() as kubeconfig:
        context = kubeconfig.contexts_of(known.central).get(name, "")
        if not context:
            raise error
        left = _switch(kubeconfig, context, namespace)
    terminal.warn(f"{error}; the context written before is used")
    contexts.remember(known.central, name, left)
    return context


def _switch(kubeconfig: "Kubeconfig", context: str, namespace: str) -> str:
    """Make `context` the current one and return the one that was."""
    left = kubeconfig.current_context
    kubeconfig.use_context(context)
    if namespace:
        kubeconfig.set_namespace(context, namespace)
    return left


def _unknown(name: str, names: list[str]) -> CliError:
    import difflib

    near = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]}?" if near else "run: mk8s clusters list"
    return CliError(f"cluster {name} is unknown or not yours; {hint}")
