"""Which clusters a user may know of: those where a role of the user applies, all for admins.

Used by `login` and `clusters`. A cluster that is not visible and one that does not exist give the
same answer.
"""

from mk8s_proxy.api.context import ApiContext
from mk8s_proxy.db import clusters
from mk8s_proxy.db.clusters import ClusterRecord
from mk8s_proxy.db.errors import NotFound
from mk8s_proxy.db.users import UserRecord


def may_see(context: ApiContext, user: UserRecord, cluster: str) -> bool:
    """Say whether the user may know that the cluster exists."""
    if user.administers:
        return True
    return cluster in context.policy_feed.current.clusters_of(user.email, user.groups)


async def visible_clusters(context: ApiContext, user: UserRecord) -> list[ClusterRecord]:
    """Return the clusters that the user may know of, by name."""
    stored = await clusters.list_clusters(context.database)
    return [cluster for cluster in stored if may_see(context, user, cluster.name)]


async def visible_names(context: ApiContext, user: UserRecord) -> list[str]:
    """Return the names of the clusters that the user may know of."""
    return [cluster.name for cluster in await visible_clusters(context, user)]


async def visible_cluster(context: ApiContext, user: UserRecord, key: str) -> ClusterRecord:
    """Return a cluster that the user may know of, by its name or id.

    Raises:
        NotFound: It does not exist, or not for this user.
    """
    cluster = await clusters.get_by_key(context.database, key)
    if not may_see(context, user, cluster.name):
        raise NotFound("cluster", key)
    return cluster
