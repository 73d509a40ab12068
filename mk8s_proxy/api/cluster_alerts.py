"""What an admin must know of a cluster and do about it. Called by `clusters`."""

from mk8s_agent.wire.control import UNBOUNDED, UNKNOWN
from mk8s_proxy.authz.role_groups import group_of
from mk8s_proxy.authz.snapshot import PolicySnapshot

_NAMED: int = 5
_RULES = "RBAC, webhooks and approvals of certificates are written only by rules that name them"
_BY = {
    UNBOUNDED: f"mk8s:users may do everything in the cluster; {_RULES}: "
    "apply what mk8s admin cluster-rbac prints and remove the binding to cluster-admin",
    UNKNOWN: f"the agent cannot tell what mk8s:users may do in the cluster; {_RULES}: "
    "let it act as the user mk8s:probe",
    "": f"the agent does not tell what mk8s:users may do in the cluster; {_RULES}: "
    "upgrade the agent",
}


def bounds_alert(policy: PolicySnapshot, cluster: str) -> str:
    """What is wrong with the RBAC of a cluster whose agent is connected; "" for nothing."""
    bounds = policy.bounds_of(cluster)
    if bounds.unbounded:
        return _BY[bounds.reach]
    missing = [role for role in policy.rules_on(cluster) if not bounds.takes(group_of(role))]
    groups = [group for group in policy.groups_to_tell if not bounds.takes(group)]
    if not missing and not groups:
        return ""
    what = f"the groups of the roles {_listed(missing)}" if missing else f"groups {_listed(groups)}"
    return (
        f"the agent may not act with {what}: "
        f"apply what mk8s admin cluster-rbac --cluster {cluster} prints"
    )


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{', '.join(names[:_NAMED])}{more}"
