"""The upper bounds of roles as RBAC of a cluster, for admins: what the installer applies, too."""

from mk8s_proxy.api import policy_schemas
from mk8s_proxy.api.endpoint import Access, Call, Endpoint
from mk8s_proxy.api.errors import ApiError
from mk8s_proxy.api.schemas import Model
from mk8s_proxy.authz.rbac_manifest import ServiceAccount, TooManyRoles, manifest
from mk8s_proxy.db import clusters


async def cluster_rbac(call: Call) -> Model:
    """Compile what all roles may do on a cluster into its own RBAC."""
    query = call.read_query(policy_schemas.ClusterRbacQuery)
    name = (await clusters.get_by_key(call.context.database, call.path["id"])).name
    call.cluster = call.subject = name
    policy = call.context.policy_feed.current
    try:
        made = manifest(policy, name, ServiceAccount(query.agent_namespace, query.agent_name))
    except TooManyRoles as error:
        raise ApiError(409, str(error)) from None
    notes = [
        policy_schemas.RbacNote(
            role=note.role, rule=note.rule, kind=note.difference.name.lower(), text=note.text
        )
        for note in made.notes
    ]
    return policy_schemas.ClusterRbac(cluster=name, items=list(made.objects), notes=notes)


ENDPOINTS = (
    Endpoint(
        "GET",
        "/clusters/{id}/rbac",
        cluster_rbac,
        "Print RBAC that holds the upper bounds of the roles on a cluster",
        Access.ADMIN,
        query=policy_schemas.ClusterRbacQuery,
        response=policy_schemas.ClusterRbac,
        refusals=(404, 409),
    ),
)
