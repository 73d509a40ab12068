"""Writes that give away a whole cluster, and what may be asked about them. Called by `access`.

Who may write RBAC, approve certificates, or put themselves into the API server's way (webhooks,
admission policies, aggregated APIs) can become anybody. Kubernetes lets nobody hand on more than
they have (the verbs `bind`, `escalate`, `approve`), but judges by the cluster's own RBAC: where
`mk8s:users` may do everything, that holds nobody back. There such a write needs a rule that names
the API group; `*` and a resource without a group are not enough (`compile.CompiledRule.permits`).
The built-in role admin is. No bodies are read for it.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from mk8s_proxy.authz.attributes import Attributes
from mk8s_proxy.authz.scopes import known_resources

WRITES: Final = frozenset({"create", "update", "patch", "delete", "deletecollection"})

RBAC: Final = "rbac.authorization.k8s.io"
CERTIFICATES: Final = "certificates.k8s.io"
_GROUPS: Final = frozenset(
    {
        RBAC,
        "admissionregistration.k8s.io",
        "apiregistration.k8s.io",
        # OpenShift: the same rights by another API
        "authorization.openshift.io",
        "oauth.openshift.io",
        "user.openshift.io",
    }
)
_KINDS: Final = frozenset(
    {
        (CERTIFICATES, "certificatesigningrequests", "approval"),
        (CERTIFICATES, "certificatesigningrequests", "status"),
        (CERTIFICATES, "clustertrustbundles", ""),
    }
)
_ANY: Final = "*"

_ROLES: Final = (("roles", ""), ("clusterroles", ""))
_BINDINGS: Final = (("rolebindings", ""), ("clusterrolebindings", ""))
_VERBS: Final = {
    ("bind", RBAC): _BINDINGS,
    ("escalate", RBAC): _ROLES,
    ("approve", CERTIFICATES): (("certificatesigningrequests", "approval"),),
    ("sign", CERTIFICATES): (("certificatesigningrequests", "status"),),
    ("attest", CERTIFICATES): (("clustertrustbundles", ""),),
}
"""Verbs of no request: the API server asks about them when one of these resources is written."""
POWERS: Final = frozenset(verb for verb, _ in _VERBS)


def gives_away(wanted: Attributes) -> bool:
    """Whether a request may give away the cluster."""
    if wanted.verb not in WRITES:
        return False
    kind = (wanted.api_group, wanted.resource, wanted.subresource)
    return wanted.api_group in _GROUPS or kind in _KINDS


def covered(wanted: Attributes) -> Iterator[Attributes]:
    """What of that a question with `*` is about, too."""
    if wanted.verb not in WRITES:
        return
    for group in sorted(_GROUPS):
        if wanted.api_group in (_ANY, group) and _has(group, wanted.resource):
            yield replace(wanted, api_group=group)
    for group, resource, subresource in sorted(_KINDS):
        if (
            wanted.api_group in (_ANY, group)
            and wanted.resource in (_ANY, resource)
            and wanted.subresource in ((subresource, _ANY) if subresource else (subresource,))
        ):
            yield replace(wanted, api_group=group, resource=resource, subresource=subresource)


def _has(group: str, resource: str) -> bool:
    return resource == _ANY or (group, resource) in known_resources(group)


def exercised(wanted: Attributes) -> tuple[Attributes, ...]:
    """The writes of which one must be allowed for a verb of no request to be of any use.

    Empty: mk8s does not know what the verb is for. kubectl asks for `signers.certificates.k8s.io`,
    which no API has, by that whole name in the core group; the group that is meant counts.
    """
    meant = wanted.api_group or wanted.resource.partition(".")[2]
    groups = (RBAC, CERTIFICATES) if meant == _ANY else (meant,)
    kinds = [(group, *one) for group in groups for one in _VERBS.get((wanted.verb, group), ())]
    if wanted.verb == "escalate" and wanted.resource != _ANY:
        kinds = [kind for kind in kinds if kind[1] == wanted.resource]
    return tuple(
        Attributes(verb, group, resource, subresource, wanted.namespace)
        for group, resource, subresource in kinds
        for verb in ("update", "patch", *(() if subresource else ("create",)))
    )
