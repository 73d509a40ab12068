"""Installing: apply, wait until central has the agent, or say why not; and taking it away again.

Called by `mk8s_cli.commands.cluster_install`. It tells line by line what it does, on stderr, and
never more than one line of the same. What was begun and failed can be begun again.
"""

import time
from collections.abc import Callable, Sequence
from typing import Final

from mk8s_cli.agent_install.cluster import KubeCluster, KubeError
from mk8s_cli.agent_install.diagnosis import (
    Finding,
    Observed,
    examine,
    has_ended_before,
    newest_of,
    pod_of,
)
from mk8s_cli.agent_install.manifest import MANAGED_BY, RELEASE, name_of
from mk8s_cli.central.api import Document
from mk8s_cli.terminal.errors import CliError

PAUSE: Final = 0.5
"""Seconds between two looks."""
CLUSTER_WIDE: Final = {"ClusterRole", "ClusterRoleBinding"}
SELECTOR: Final = "app.kubernetes.io/name=mk8s-agent"
BOUNDS: Final = ("RoleBinding", "ClusterRoleBinding", "Role", "ClusterRole")
BOUNDS_SELECTOR: Final = (
    "app.kubernetes.io/managed-by=mk8s,app.kubernetes.io/component=cluster-rbac"
)
"""The labels of what `mk8s admin cluster-rbac` prints."""
NOT_FOUND: Final = 404
IDENTITY: Final = f"{RELEASE}-identity"

Say = Callable[[str], None]


def check_place(cluster: KubeCluster, namespace: str, name: str) -> None:
    """Return if the agent of cluster `name` may be put into this namespace or is there.

    Raises:
        CliError: another cluster's agent is there, or one that helm looks after.
    """
    settings = cluster.read("ConfigMap", RELEASE, namespace)
    if settings is None:
        return
    key, ours = MANAGED_BY
    manager = (settings["metadata"].get("labels") or {}).get(key, ours)
    if manager != ours:
        raise CliError(
            f"the agent in namespace {namespace} of context {cluster.context} is looked after by "
            f"{manager}; use that, or another --namespace"
        )
    present = (settings.get("data") or {}).get("CLUSTER_NAME", "")
    if present not in ("", name):
        raise CliError(
            f"in namespace {namespace} of context {cluster.context} runs the agent of cluster "
            f"{present!a}, not of {name!a}; is this the right context?"
        )


def check_rights(cluster: KubeCluster, objects: Sequence[Document]) -> None:
    """Return if the cluster would take what is not in a namespace; raise `KubeError` if not."""
    for document in objects:
        if document["kind"] in CLUSTER_WIDE:
            cluster.apply(document, dry_run=True)


def apply_all(cluster: KubeCluster, objects: Sequence[Document], say: Say) -> None:
    """Apply every object; a namespace that is somebody else's stays as it is.

    What a role may do in a namespace that is not there is left out, and told.
    """
    count = 0
    for document in objects:
        if document["kind"] == "Namespace" and not _namespace_is_ours(cluster, name_of(document)):
            continue
        try:
            cluster.apply(document)
        except KubeError as error:
            if error.status != NOT_FOUND or not _is_bound(document):
                raise
            say(f"left out: {error}")
            continue
        count += 1
    say(f"{count} objects are applied to the cluster of context {cluster.context}")


def forget_identity(cluster: KubeCluster, namespace: str) -> None:
    """Remove what an agent of an earlier registration has kept: it belongs to no cluster now."""
    metadata = {"name": IDENTITY, "namespace": namespace}
    cluster.delete({"kind": "Secret", "metadata": metadata})


def look(cluster: KubeCluster, namespace: str) -> Finding:
    """Return what there is to tell of the agent now."""
    sets = cluster.read_all("ReplicaSet", namespace, label_selector=SELECTOR)
    pods = cluster.read_all("Pod", namespace, label_selector=SELECTOR)
    pod = pod_of(newest_of(sets), pods)
    log = ""
    if pod is not None:
        log = cluster.log_of(name_of(pod), namespace, previous=has_ended_before(pod))
    observed = Observed(
        deployment=cluster.read("Deployment", RELEASE, namespace) or {},
        replica_sets=sets,
        pods=pods,
        events=cluster.read_all("Event", namespace, field_selector="type=Warning"),
        log=log,
    )
    return examine(observed)


def wait_until_serving(
    cluster: KubeCluster, namespace: str, connected: Callable[[], bool], seconds: float, say: Say
) -> None:
    """Return once the newest pod serves and central says that it has the agent.

    Raises:
        CliError: it will not come, or has not come in time; says why.
    """
    deadline = time.monotonic() + seconds
    told = ""
    while True:
        finding = look(cluster, namespace)
        if finding.ready and connected():
            return
        if finding.hopeless:
            raise CliError(finding.sentence)
        if finding.sentence != told:
            told = finding.sentence
            say(told)
        if time.monotonic() > deadline:
            raise CliError(f"not connected after {seconds:.0f} seconds: {told}")
        time.sleep(PAUSE)


def remove_all(cluster: KubeCluster, objects: Sequence[Document], seconds: float, say: Say) -> None:
    """Delete every object, the last applied first, and wait until the agent is gone.

    Raises:
        CliError: something is still there after so many seconds.
    """
    count = 0
    for document in reversed(objects):
        if document["kind"] == "Namespace" and not _namespace_is_ours(cluster, name_of(document)):
            continue
        count += cluster.delete(document)
    count += _delete_bounds(cluster)
    say(f"{count} objects are deleted from the cluster of context {cluster.context}")
    deadline = time.monotonic() + seconds
    while left := _left(cluster, objects):
        if time.monotonic() > deadline:
            raise CliError(f"{left} is still there after {seconds:.0f} seconds")
        time.sleep(PAUSE)


def _delete_bounds(cluster: KubeCluster) -> int:
    """Delete the RBAC for the roles, unless another agent of this cluster needs it."""
    agents = cluster.read_all("Deployment", label_selector=SELECTOR)
    if any("deletionTimestamp" not in agent["metadata"] for agent in agents):
        return 0
    return sum(
        cluster.delete({"kind": kind, "metadata": found["metadata"]})
        for kind in BOUNDS
        for found in cluster.read_all(kind, label_selector=BOUNDS_SELECTOR)
    )


def _is_bound(document: Document) -> bool:
    key, _, value = BOUNDS_SELECTOR.rpartition(",")[2].partition("=")
    return bool((document["metadata"].get("labels") or {}).get(key) == value)


def _left(cluster: KubeCluster, objects: Sequence[Document]) -> str:
    """Return what of the objects is there still; "" for nothing."""
    for document in objects:
        kind, name = document["kind"], name_of(document)
        if kind == "Namespace":
            if _namespace_is_ours(cluster, name, absent=False):
                return f"Namespace {name}"
        elif cluster.read(kind, name, document["metadata"].get("namespace", "")) is not None:
            return f"{kind} {name}"
    return ""


def _namespace_is_ours(cluster: KubeCluster, name: str, *, absent: bool = True) -> bool:
    """Whether the namespace was made by us; `absent` is the answer where there is none."""
    found = cluster.read("Namespace", name)
    if found is None:
        return absent
    key, ours = MANAGED_BY
    return bool((found["metadata"].get("labels") or {}).get(key) == ours)
