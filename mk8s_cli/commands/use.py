"""`mk8s use NAME`: the one command that changes kubectl's current context.

Called through `mk8s_cli.command_table`.
"""

from typing import TYPE_CHECKING

import click

from mk8s_cli.commands.options import chosen_central, cluster_argument, label_type
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
    """Make cluster NAME the current one for kubectl; '-' goes back to the one before.

    NAME is looked for at the central of the current cluster, then among the contexts of all
    centrals that you are logged in to.
    """
    if name == "-":
        context = _go_back(namespace)
    else:
        known, cluster = _found(name)
        context = _choose(known, cluster, namespace)
    where = f", namespace {namespace}" if namespace else ""
    click.echo(f"current context: {terminal.escape(context)}{where}{_at()}")


def _at() -> str:
    """Say which central the current one is, where there are several."""
    stored = config.load()
    others = [known for known in stored.profiles if known.email and known.central != stored.current]
    return f" (at {stored.current})" if others else ""


def _found(name: str) -> tuple[Profile, str]:
    """Return the login and the cluster that NAME means; one that nobody knows is asked about."""
    central = chosen_central()
    known = contexts.profile_in_use(central)
    places = contexts.places(kubeconfig_files.read(), config.load())
    here = [it for it in places if it.profile.central == known.central]
    if any(name == it.cluster for it in here):
        return known, name
    if central:
        return known, next((it.cluster for it in here if name == it.context), name)
    of_context = [it for it in places if name == it.context and it.profile.email]
    elsewhere = of_context or [it for it in places if name == it.cluster and it.profile.email]
    if len({it.profile.central for it in elsewhere}) > 1:
        names = terminal.escape(", ".join(it.context for it in elsewhere))
        raise CliError(f"several centrals have a cluster {name}; say which: {names}")
    return (elsewhere[0].profile, elsewhere[0].cluster) if elsewhere else (known, name)


def _go_back(namespace: str) -> str:
    stored = config.load()
    previous = stored.previous_context
    if not previous:
        raise CliError("there is no context to go back to; run: mk8s use NAME")
    with kubeconfig_files.editing() as kubeconfig:
        if not kubeconfig.has_context(previous):
            raise CliError(f"the context {previous} is gone; run: mk8s use NAME")
        left = _switch(kubeconfig, previous, namespace)
        ours = contexts.places(kubeconfig, stored)
    place = next((it for it in ours if it.context == previous), None)
    if place is None:  # somebody else's
        contexts.remember("", "", left)
    else:
        contexts.remember(place.profile.central, place.cluster, left)
    return previous


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
