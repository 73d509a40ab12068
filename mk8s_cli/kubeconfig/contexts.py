"""From central's list of clusters to contexts in the kubeconfig.

Called by login, use and `kubeconfig sync`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mk8s_cli.central.api import Cluster, text
from mk8s_cli.kubeconfig import files as kubeconfig_files
from mk8s_cli.login import config, exec_versions, service_token, token_cache, trusted
from mk8s_cli.login.config import Config, Profile
from mk8s_cli.terminal.errors import CliError
from mk8s_cli.terminal.screen import escape

if TYPE_CHECKING:
    from mk8s_cli.kubeconfig.entries import Kubeconfig, Outcome


def sync(
    profile: Profile,
    clusters: Iterable[Cluster],
    paths: Sequence[Path] | None = None,
    static: Mapping[str, str] | None = None,
) -> "Outcome":
    """Write one context per cluster into the kubeconfig and remove ours for clusters that are lost.

    The current context stays; where the file has none and there is one cluster only, it is chosen.
    A new context starts in the namespace that central names, if it names one. `static` holds the
    fields of a credential to be written instead of the plugin.
    """
    clusters = tuple(clusters)
    versions = exec_versions_for(profile, clusters)
    with kubeconfig_files.editing(paths) as kubeconfig:
        return sync_into(kubeconfig, profile, clusters, versions, static)


def sync_into(
    kubeconfig: "Kubeconfig",
    profile: Profile,
    clusters: Sequence[Cluster],
    versions: Mapping[str, str],
    static: Mapping[str, str] | None = None,
) -> "Outcome":
    """Do the work of `sync` on an open kubeconfig, and drop tokens of what is no more."""
    from mk8s_cli.kubeconfig.entries import Login

    is_job = profile.secrets == service_token.ENVIRONMENT
    if not is_job:
        ids = {cluster.name: text(cluster.document, "id") for cluster in clusters}
        token_cache.forget_former(profile.central, ids)
    plugin = kubeconfig_files.plugin()
    login = Login(
        profile.central,
        profile.certificate_authority,
        plugin,
        profile.suffix,
        versions,
        static or {},
    )
    outcome = kubeconfig.sync(
        login,
        {cluster.name: cluster.server for cluster in clusters},
        {cluster.name: cluster.namespace for cluster in clusters},
    )
    if not is_job:
        exec_versions.note(profile.central, versions)
    if not kubeconfig.current_context and len(outcome.contexts) == 1:
        kubeconfig.use_context(next(iter(outcome.contexts.values())))
    return outcome


def renew_trust() -> None:
    """Keep pins that have moved in this process: in the kubeconfig, for kubectl's next start."""
    try:
        with kubeconfig_files.editing() as kubeconfig:
            for central, authority in trusted.moved.items():
                kubeconfig.renew_trust(central, authority)
        trusted.keep()
    except CliError:
        return  # what is pinned serves on, and the next command tries again


def exec_versions_for(profile: Profile, clusters: Iterable[Cluster]) -> dict[str, str]:
    """Return the apiVersion for each cluster's entry. It asks kubectl, so take no lock before."""
    from mk8s_cli.kubeconfig import exec_version

    is_job = profile.secrets == service_token.ENVIRONMENT
    # A job keeps nothing by which to know later what was written: the version that all understand.
    kubectl = "" if profile.exec_version or is_job else exec_version.kubectl_version()
    return {
        cluster.name: exec_version.choose(
            profile.exec_version, text(cluster.document, "kubernetes_version"), kubectl
        )
        for cluster in clusters
    }


class Place(NamedTuple):
    """One context of ours: where it leads."""

    profile: Profile
    cluster: str
    context: str


def places(kubeconfig: "Kubeconfig", stored: Config, central: str = "") -> list[Place]:
    """Return our contexts, of all centrals in their order or of `central` alone."""
    profiles = [it for it in stored.profiles if not central or it.central == central]
    return [
        Place(known, cluster, context)
        for known in profiles
        for cluster, context in kubeconfig.contexts_of(known.central).items()
    ]


def current(kubeconfig: "Kubeconfig", stored: Config, central: str = "") -> Place | None:
    """Return the cluster that everything speaks of; `central` looks at the one of that alone.

    It is the one of kubectl's current context if that is ours, else the one chosen last on the
    current central, or its only one. None: no cluster is chosen.
    """
    ours = places(kubeconfig, stored, central)
    for place in ours:
        if place.context == kubeconfig.current_context:
            return place
    mine = [it for it in ours if it.profile.central == (central or stored.current)]
    chosen = [it for it in mine if it.cluster == it.profile.cluster]
    if not chosen and len(mine) == 1:
        chosen = mine
    return chosen[0] if chosen else None


def profile_in_use(central: str = "") -> Profile:
    """Return who works with the current cluster: the login at the central that it is of.

    Raises:
        NotLoggedIn: nobody is logged in there, nor at the current central.
    """
    if central or service_token.in_use():
        return config.profile_for(central)
    stored = config.load()
    place = current(kubeconfig_files.read(), stored) if stored.profiles else None
    return place.profile if place is not None and place.profile.email else config.profile_for()


def set_suffix(profile: Profile, suffix: str) -> Profile:
    """Let the contexts of a central end with `suffix`, those that are there too."""
    changed = replace(profile, suffix=suffix)
    with kubeconfig_files.editing() as kubeconfig:
        renamed = kubeconfig.rename_contexts(profile.central, profile.suffix, suffix)

    def change(stored: Config) -> Config:
        before = stored.previous_context
        moved = replace(stored, previous_context=renamed.get(before, before))
        return moved.with_profile(changed)

    config.update(change)
    return changed


def remember(central: str, cluster: str, left: str) -> None:
    """Note the cluster chosen at `central`, and the context that was left, for `mk8s use -`."""

    def change(stored: Config) -> Config:
        known = stored.profile(central)
        changed = replace(stored, previous_context=left)
        if known is None:
            return changed
        return replace(changed.with_profile(replace(known, cluster=cluster)), current=central)

    if not service_token.in_use():  # a job keeps nothing but its kubeconfig
        config.update(change)


def names(clusters: Iterable[Cluster]) -> str:
    """Return the names for a sentence."""
    return escape(", ".join(cluster.name for cluster in clusters)) or "none"
