"""Which resources live outside namespaces. Called by `compile` and `cluster_facts`.

A rule limited to cluster-scoped objects must not open `GET /api/v1/secrets`, the list of all
secrets, and a rule that denies one namespace must also deny that list. The path alone does not
tell the two apart. For Kubernetes's own API groups each cluster says it (`ClusterFacts`), and for
one that does not, as before Kubernetes 1.26, a list here; custom groups are not known, since
somebody may make them anew with another scope.
"""

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import Final


class Scope(Enum):
    """Where the objects of a resource live."""

    CLUSTER = "cluster"
    NAMESPACED = "namespaced"
    UNKNOWN = "unknown"


_CLUSTER_SCOPED: Final = {
    "": "componentstatuses namespaces nodes persistentvolumes",
    "admissionregistration.k8s.io": (
        "mutatingadmissionpolicies mutatingadmissionpolicybindings mutatingwebhookconfigurations "
        "validatingadmissionpolicies validatingadmissionpolicybindings "
        "validatingwebhookconfigurations"
    ),
    "apiextensions.k8s.io": "customresourcedefinitions",
    "apiregistration.k8s.io": "apiservices",
    "apps": "",
    "authentication.k8s.io": "selfsubjectreviews tokenreviews",
    "authorization.k8s.io": (
        "selfsubjectaccessreviews selfsubjectrulesreviews subjectaccessreviews"
    ),
    "autoscaling": "",
    "batch": "",
    "certificates.k8s.io": "certificatesigningrequests clustertrustbundles",
    "coordination.k8s.io": "",
    "discovery.k8s.io": "",
    "events.k8s.io": "",
    "extensions": "podsecuritypolicies",
    "flowcontrol.apiserver.k8s.io": "flowschemas prioritylevelconfigurations",
    "internal.apiserver.k8s.io": "storageversions",
    "metrics.k8s.io": "nodes",
    "networking.k8s.io": "ingressclasses ipaddresses servicecidrs",
    "node.k8s.io": "runtimeclasses",
    "policy": "podsecuritypolicies",
    "rbac.authorization.k8s.io": "clusterrolebindings clusterroles",
    "resource.k8s.io": "deviceclasses devicetaintrules resourceclasses resourceslices",
    "scheduling.k8s.io": "priorityclasses",
    "storage.k8s.io": (
        "csidrivers csinodes storageclasses volumeattachments volumeattributesclasses"
    ),
    "storagemigration.k8s.io": "storageversionmigrations",
}
"""API groups of Kubernetes, each with its resources outside namespaces (`kubectl api-resources
--namespaced=false`, 1.20 to 1.35)."""

_NAMESPACED: Final = {
    "": (
        "bindings configmaps endpoints events limitranges persistentvolumeclaims pods "
        "podtemplates replicationcontrollers resourcequotas secrets serviceaccounts services"
    ),
    "apps": "controllerrevisions daemonsets deployments replicasets statefulsets",
    "authorization.k8s.io": "localsubjectaccessreviews",
    "autoscaling": "horizontalpodautoscalers",
    "batch": "cronjobs jobs",
    "coordination.k8s.io": "leases",
    "discovery.k8s.io": "endpointslices",
    "events.k8s.io": "events",
    "extensions": "ingresses",
    "metrics.k8s.io": "pods",
    "networking.k8s.io": "ingresses networkpolicies",
    "policy": "poddisruptionbudgets",
    "rbac.authorization.k8s.io": "rolebindings roles",
    "resource.k8s.io": "resourceclaims resourceclaimtemplates",
    "storage.k8s.io": "csistoragecapacities",
}
"""The others of these groups (`--namespaced=true`); only lists for people need them."""

_KNOWN: Final = {group: frozenset(words.split()) for group, words in _CLUSTER_SCOPED.items()}


def scope_of(api_group: str, resource: str) -> Scope:
    """Tell where the objects of a resource live, as far as Kubernetes itself defines it."""
    cluster_scoped = _KNOWN.get(api_group)
    if cluster_scoped is None:
        return Scope.UNKNOWN
    return Scope.CLUSTER if resource in cluster_scoped else Scope.NAMESPACED


def known_resources(api_group: str) -> tuple[tuple[str, str], ...]:
    """Group and resource of what Kubernetes itself has in an API group; `*` is all of them."""
    groups = sorted(_KNOWN) if api_group == "*" else [api_group]
    return tuple(
        (group, resource)
        for group in groups
        for words in (_NAMESPACED, _CLUSTER_SCOPED)
        for resource in words.get(group, "").split()
    )


def is_known(api_group: str) -> bool:
    """Whether Kubernetes itself defines the resources of an API group."""
    return api_group in _KNOWN


def is_cluster_scoped(api_group: str, resource: str) -> bool:
    """Whether the objects surely live outside namespaces; the group `*` may be any of them."""
    if api_group == "*":
        return any(resource in resources for resources in _KNOWN.values())
    return scope_of(api_group, resource) is Scope.CLUSTER


Kind = tuple[str, str]
"""API group and resource."""

NOTHING_ELSE: Final[Mapping[Kind, Scope]] = MappingProxyType({})
