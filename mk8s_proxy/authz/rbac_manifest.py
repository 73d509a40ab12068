"""The objects of Kubernetes that hold the upper bounds of all roles on a cluster.

Made for the management API from what `cluster_rbac` says of each role. All have the same labels, so
that all of them can be found and deleted, and a server-side apply changes nothing else.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from mk8s_agent.wire.group_names import MAX_ROLE_GROUPS
from mk8s_proxy.authz.access import (
    DISCOVERY_PATHS,
    DISCOVERY_PREFIXES,
    DISCOVERY_ROOTS,
    SELF_REVIEWS,
)
from mk8s_proxy.authz.cluster_rbac import Note, PolicyRule, RoleBound, bound_of, is_built_in
from mk8s_proxy.authz.role_groups import group_of
from mk8s_proxy.authz.snapshot import PolicySnapshot

LABELS: Final = {
    "app.kubernetes.io/managed-by": "mk8s",
    "app.kubernetes.io/component": "cluster-rbac",
}
NOTES: Final = "mk8s.io/notes"
"""The annotation that says in what an object differs from the role."""
_MOST_NOTES: Final = 32 * 1024
"""Characters; the annotations of an object may have 256 KiB."""
_RBAC: Final = "rbac.authorization.k8s.io"
_USERS: Final = "mk8s:users"
_AGENT: Final = "mk8s:agent:role-groups"

Document = dict[str, Any]


class ServiceAccount(NamedTuple):
    """Whom the agent is in its cluster."""

    namespace: str = "mk8s"
    name: str = "mk8s-agent"


THE_AGENT: Final = ServiceAccount()
"""As `deploy/kubernetes/agent.yaml` makes it."""


class TooManyRoles(ValueError):
    """More roles count on the cluster than its agent can be told."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What is to be applied, and what the reader has to know."""

    objects: tuple[Document, ...]
    notes: tuple[Note, ...]


def manifest(policy: PolicySnapshot, cluster: str, agent: ServiceAccount = THE_AGENT) -> Manifest:
    """The RBAC of a cluster: for everybody, for the agent, and for each role that counts there.

    Raises:
        TooManyRoles: see there.
    """
    rules = policy.rules_on(cluster)
    if len(rules) > MAX_ROLE_GROUPS:
        raise TooManyRoles(
            f"{len(rules)} roles count on the cluster {cluster}, and an agent can be allowed "
            f"{MAX_ROLE_GROUPS} at most: let fewer roles select it"
        )
    scopes = policy.scopes_of(cluster)
    bounds = [bound_of(r, rules[r], scopes, built_in=is_built_in(r)) for r in sorted(rules)]
    objects = [*_everybody(), *_agent(bounds, policy.groups_to_tell, agent)]
    for bound in bounds:
        objects += _role(bound)
    return Manifest(tuple(objects), tuple(note for bound in bounds for note in bound.notes))


def _everybody() -> Iterator[Document]:
    """What is open to everybody who has a role: also where the cluster's own roles for it went."""
    paths = (*sorted(DISCOVERY_PATHS), *(f"{prefix}*" for prefix in DISCOVERY_PREFIXES))
    rules = [
        PolicyRule(("get", "head"), urls=paths),
        PolicyRule(("post",), urls=tuple(sorted(DISCOVERY_ROOTS))),
        *(PolicyRule(("create",), (group,), (kind,)) for group, kind in sorted(SELF_REVIEWS)),
    ]
    yield from _cluster_wide(_USERS, rules, _group(_USERS))


def _agent(
    bounds: Iterable[RoleBound], issuers: tuple[str, ...], agent: ServiceAccount
) -> Iterator[Document]:
    """With which groups the agent may act: by name, since a pattern would be system:masters, too.

    In both ways that Kubernetes has (KEP-5284). Each of them also asks for the user, so this alone
    gives nothing.
    """
    names = (*(group_of(bound.role) for bound in bounds), *issuers)
    if not names:
        return
    rules = [
        PolicyRule(("impersonate",), ("",), ("groups",), names),
        PolicyRule(("impersonate:user-info",), ("authentication.k8s.io",), ("groups",), names),
    ]
    subject = {"kind": "ServiceAccount", "name": agent.name, "namespace": agent.namespace}
    yield from _cluster_wide(_AGENT, rules, subject)


def _role(bound: RoleBound) -> Iterator[Document]:
    name = group_of(bound.role)
    notes = _annotation(bound.notes)
    if bound.everywhere:
        yield from _cluster_wide(name, bound.everywhere, _group(name), notes)
    for namespace, rules in bound.namespaced.items():
        yield from _objects("Role", name, rules, _group(name), notes, namespace)


def _annotation(notes: Iterable[Note]) -> str:
    text = "\n".join(f"{note.rule}: {note.text}" for note in notes)
    if len(text) <= _MOST_NOTES:
        return text
    kept = text[:_MOST_NOTES].rpartition("\n")[0]
    return f"{kept}\nand more: mk8s admin cluster-rbac prints all"


def _cluster_wide(
    name: str, rules: Iterable[PolicyRule], subject: Document, notes: str = ""
) -> Iterator[Document]:
    return _objects("ClusterRole", name, rules, subject, notes)


def _objects(
    kind: str,
    name: str,
    rules: Iterable[PolicyRule],
    subject: Document,
    notes: str,
    namespace: str = "",
) -> Iterator[Document]:
    """A role and what binds it."""
    metadata: Document = {"name": name, "labels": dict(LABELS)}
    if namespace:
        metadata["namespace"] = namespace
    annotated = {**metadata, "annotations": {NOTES: notes}} if notes else metadata
    head = {"apiVersion": f"{_RBAC}/v1"}
    written = [rule.document() for rule in rules]
    yield {**head, "kind": kind, "metadata": annotated, "rules": written}
    reference = {"apiGroup": _RBAC, "kind": kind, "name": name}
    yield {
        **head,
        "kind": f"{kind}Binding",
        "metadata": {**metadata, "labels": dict(LABELS)},
        "roleRef": reference,
        "subjects": [subject],
    }


def _group(name: str) -> Document:
    return {"apiGroup": _RBAC, "kind": "Group", "name": name}
