"""From central's list of clusters to contexts in the kubeconfig.

Called by login, use and `kubeconfig sync`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mk8s_cli.central.api import Cluster, text
from mk8s_cli.kubeconfig import files as kubeconfig_files
from mk8s_cli.login import config, exec_versions, token_cache
from mk8s_cli.login.config import Config, Profile
from mk8s_cli.terminal.screen import escape

if TYPE_CHECKING:
    from mk8s_cli.kubeconfig.entries import Kubeconfig, Outcome


def sync(
    profile: Profile, clusters: Iterable[Cluster], paths: Sequence[Path] | None = None
) -> "Outcome":
    """Write one context per cluster into the kubeconfig and remove ours for clusters that are lost.

    The current context stays; where the file has none and there is one cluster only, it is chosen.
    A new context starts in the namespace that central names, if it names one.
    """
    clusters = tuple(clusters)
    versions = exec_versions_for(profile, clusters)
    with kubeconfig_files.editing(paths) as kubeconfig:
        return sync_into(kubeconfig, profile, clusters, versions)


def sync_into(
    kubeconfig: "Kubeconfig",
    profile: Profile,
    clusters: Sequence[Cluster],
    versions: Mapping[str, str],
) -> "Outcome":
    """Do the work of `sync` on an open kubeconfig, and drop tokens of what is no more."""
    from mk8s_cli.kubeconfig.entries import Login

    ids = {cluster.name: text(cluster.document, "id") for cluster in clusters}
    token_cache.forget_former(profile.central, ids)
    plugin = kubeconfig_files.plugin()
    login = Login(profile.central, profile.certificate_authority, plugin, versions)
    outcome = kubeconfig.sync(
        login,
        {cluster.name: cluster.server for cluster in clusters},
        {cluster.name: cluster.namespace for cluster in clusters},
    )
    exec_versions.note(profile.central, versions)
    if not kubeconfig.current_context and len(outcome.contexts) == 1:
        kubeconfig.use_context(next(iter(outcome.contexts.values())))
    return outcome


def exec_versions_for(profile: Profile, clusters: Iterable[Cluster]) -> dict[str, str]:
    """Return the apiVersion for each cluster's entry. It asks kubectl, so take no lock before."""
    from mk8s_cli.kubeconfig import exec_version

    kubectl = "" if profile.exec_version else exec_version.kubectl_version()
    return {
        cluster.name: exec_version.choose(
            profile.exec_version, text(cluster.document, "kubernetes_version"), kubectl
        )
        for cluster in clusters
    }


def remember(central: str, cluster: str, left: str) -> None:
    """Note the cluster chosen for `central`, and the context that was left, for `mk8s use -`."""

    def change(stored: Config) -> Config:
        known = stored.profile(central)
        changed = replace(stored, previous_context=left)
        return changed.with_profile(replace(known, cluster=cluster)) if known else changed

    config.update(change)


def names(clusters: Iterable[Cluster]) -> str:
    """Return the names for a sentence."""
    return escape(", ".join(cluster.name for cluster in clusters)) or "none"
