"""Which clusters a user may know of: those where a role of the user applies, all for admins.

Used by `login` and `clusters`. A cluster that is not visible and one that does not exist give the
same answer.
"""

from typing import NamedTuple

from mk8s_proxy.api.context import ApiContext
from mk8s_proxy.api.endpoint import Call
from mk8s_proxy.db import clusters
from mk8s_proxy.db.clusters import ClusterRecord
from mk8s_proxy.db.errors import NotFound
from mk8s_proxy.db.users import UserRecord


class Viewer(NamedTuple):
    """By what login somebody looks."""

    user: UserRecord
    """With the groups of the login."""
    narrowing: str = ""
    """Of a delegation, which sees no more than it may use, even if its owner is an admin."""


def viewer_of(call: Call) -> Viewer:
    """Return who calls, as policy has to know it."""
    identity, user = call.caller()
    return Viewer(user, identity.narrowing)


def may_see(context: ApiContext, viewer: Viewer, cluster: str) -> bool:
    """Say whether somebody may know that the cluster exists."""
    user, narrowing = viewer
    if user.administers and not narrowing:
        return True
    policy = context.policy_feed.current
    return cluster in policy.clusters_of(user.email, user.groups, narrowing=narrowing)


async def visible_clusters(context: ApiContext, viewer: Viewer) -> list[ClusterRecord]:
    """Return the clusters that somebody may know of, by name."""
    stored = await clusters.list_clusters(context.database)
    return [cluster for cluster in stored if may_see(context, viewer, cluster.name)]


async def visible_names(context: ApiContext, viewer: Viewer) -> list[str]:
    """Return the names of the clusters that somebody may know of."""
    return [cluster.name for cluster in await visible_clusters(context, viewer)]


async def visible_cluster(context: ApiContext, viewer: Viewer, key: str) -> ClusterRecord:
    """Return a cluster that somebody may know of, by its name or id.

    Raises:
        NotFound: It does not exist, or not for this login.
    """
    cluster = await clusters.get_by_key(context.database, key)
    if not may_see(context, viewer, cluster.name):
        raise NotFound("cluster", key)
    return cluster
