"""Clusters: the list of those one may use, and their registration by admins.

`{id}` in a path is the name or the id. Registering prints a join token once; the agent shows it to
`join`.
"""

import datetime
import re
from collections.abc import Callable
from typing import Any, Literal
from urllib.parse import urlsplit

from mk8s_proxy.api import pages, schemas
from mk8s_proxy.api.cluster_alerts import bounds_alert
from mk8s_proxy.api.conditions import Versioned
from mk8s_proxy.api.context import TunnelStatus
from mk8s_proxy.api.endpoint import Access, Audit, Call, Endpoint
from mk8s_proxy.api.list_schemas import ClusterList, ClusterQuery
from mk8s_proxy.api.visibility import viewer_of, visible_cluster, visible_clusters
from mk8s_proxy.db import clusters, tokens
from mk8s_proxy.db.clusters import ClusterRecord
from mk8s_proxy.identity.join_token import hash_join_token, new_join_token
from mk8s_proxy.settings.model import Settings

HTTPS_PORT = 443
_NAMESPACE = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
"""A name without wildcards (RFC 1123 label, as Kubernetes wants it)."""


async def list_clusters(call: Call) -> schemas.Model:
    """List the clusters that the caller may use; all of them for an admin."""
    asked, is_meant = call.read_query(ClusterQuery), _filter(call)
    seen = await visible_clusters(call.context, viewer_of(call))
    visible = [it for it in seen if is_meant(it)]
    if asked.status is not None:
        visible = [it for it in visible if _status_of(call, it) == asked.status]
    shown, cursor = pages.cut(call, visible, lambda cluster: (cluster.name,))
    return ClusterList(clusters=[_shown(call, it) for it in shown], next_cursor=cursor)


async def get_cluster(call: Call) -> Versioned:
    """Show one cluster that the caller may use."""
    found = await visible_cluster(call.context, viewer_of(call), call.path["id"])
    return _versioned(call, found)


async def create_cluster(call: Call) -> schemas.Model:
    """Register a cluster and make the token for its first agent."""
    body = call.read(schemas.CreateClusterRequest)
    call.cluster = call.subject = body.name
    cluster = await clusters.create_cluster(call.context.database, body.name, dict(body.labels))
    join = await _join_token(call, cluster)
    await call.context.policy_feed.refresh()
    return schemas.CreatedCluster(**dict(_shown(call, cluster)), **dict(join))


async def create_join_token(call: Call) -> schemas.Model:
    """Make another join token, for a further agent or one that lost its certificate."""
    return await _join_token(call, await _named(call))


async def delete_cluster(call: Call) -> None:
    """Remove a cluster; certificates of its agents are refused from now on."""
    cluster = await _named(call)
    await clusters.delete_cluster(call.context.database, cluster.id, call.condition)
    await call.context.policy_feed.refresh()


async def set_labels(call: Call) -> Versioned:
    """Replace the labels of a cluster, and with them the roles that apply to it."""
    body = call.read(schemas.LabelsRequest)
    found = await _named(call)
    cluster = await clusters.set_labels(
        call.context.database, found.id, dict(body.labels), call.condition
    )
    await call.context.policy_feed.refresh()
    return _versioned(call, cluster)


async def permissions(call: Call) -> schemas.Model:
    """List the rules of the caller's roles on a cluster."""
    cluster = await visible_cluster(call.context, viewer_of(call), call.path["id"])
    _, user = call.caller()
    return schemas.Permissions(
        cluster=cluster.name, user=user.email, rules=_rules(call, cluster.name)
    )


def server_url(settings: Settings, cluster: str) -> str:
    """Return the URL for a cluster's entry in a kubeconfig.

    Each cluster has its own, since kubectl keys its discovery cache by it. A host name of its own,
    where there is a wildcard domain, keeps `kubectl get --raw` working, which drops path prefixes.
    """
    public = urlsplit(settings.public_url)
    if not settings.domain:
        return f"{settings.public_url.rstrip('/')}/k8s/{cluster}"
    port = "" if public.port in (None, HTTPS_PORT) else f":{public.port}"
    return f"https://{cluster}.{settings.domain}{port}"


async def _named(call: Call) -> ClusterRecord:
    call.cluster = call.subject = call.path["id"][:256]
    cluster = await clusters.get_by_key(call.context.database, call.path["id"])
    call.cluster = call.subject = cluster.name
    return cluster


async def _join_token(call: Call, cluster: ClusterRecord) -> schemas.JoinToken:
    context = call.context
    token = new_join_token()
    expires_at = context.now() + datetime.timedelta(seconds=context.settings.join.token_seconds)
    hashed = hash_join_token(token)
    await tokens.store_join_token(context.database, cluster.id, hashed, call.actor, expires_at)
    pin, url = context.authorities.current.server_ca.pin, context.settings.public_url
    return schemas.JoinToken(
        join_token=token,
        join_expires_at=expires_at,
        ca_pin=pin,
        central_url=url,
        command=(  # the token is no argument: those are shown to everybody on the machine
            f"AGENT_TOKEN={token} mk8s-agent --central {url} --cluster {cluster.name} "
            f"--ca-pin {pin}"
        ),
    )


def _filter(call: Call) -> Callable[[ClusterRecord], bool]:
    asked = call.read_query(ClusterQuery)
    is_named = pages.matcher(asked.name)
    wanted = [part.partition("=") for part in asked.label.split(",")] if asked.label else []

    def is_meant(cluster: ClusterRecord) -> bool:
        labels = cluster.labels
        return is_named(cluster.name) and all(
            key in labels and (not equals or labels[key] == value) for key, equals, value in wanted
        )

    return is_meant


def _versioned(call: Call, cluster: ClusterRecord) -> Versioned:
    return Versioned(_shown(call, cluster), cluster.revision)


def _shown(call: Call, cluster: ClusterRecord) -> schemas.Cluster:
    context = call.context
    tunnel, last_seen = _seen(call, cluster)
    rules = _granting_rules(call, cluster.name)
    return schemas.Cluster(
        id=cluster.id,
        name=cluster.name,
        labels=cluster.labels,
        status=_status_of(call, cluster),
        agents=tunnel.agents,
        agent_version=tunnel.agent_version or cluster.agent_version,
        kubernetes_version=tunnel.kubernetes_version or cluster.kubernetes_version,
        last_seen=last_seen,
        created_at=cluster.created_at,
        alert=_alert(call, cluster, connected=tunnel.connected) if call.is_admin else "",
        verbs=_verbs(rules),
        namespace=_only_namespace(rules),
        server=server_url(context.settings, cluster.name),
        context=cluster.name,
    )


def _alert(call: Call, cluster: ClusterRecord, *, connected: bool) -> str:
    """What is wrong with its agents, and with the RBAC that they tell of."""
    policy = call.context.policy_feed.current
    told = bounds_alert(policy, cluster.name) if connected else ""
    return "; ".join(filter(None, (cluster.alert, told)))


def _seen(call: Call, cluster: ClusterRecord) -> tuple[TunnelStatus, datetime.datetime | None]:
    tunnel = call.context.tunnels.status(cluster.id)
    return tunnel, max(filter(None, (tunnel.last_seen, cluster.last_seen)), default=None)


def _status_of(
    call: Call, cluster: ClusterRecord
) -> Literal["connected", "disconnected", "pending"]:
    tunnel, last_seen = _seen(call, cluster)
    if tunnel.connected:
        return "connected"
    return "pending" if last_seen is None else "disconnected"


def _rules(call: Call, cluster: str) -> list[dict[str, Any]]:
    user, narrowing = viewer_of(call)
    policy = call.context.policy_feed.current
    return policy.permissions_of(user.email, user.groups, cluster, narrowing=narrowing)


def _granting_rules(call: Call, cluster: str) -> list[dict[str, Any]]:
    return [rule for rule in _rules(call, cluster) if not rule.get("deny")]


def _verbs(rules: list[dict[str, Any]]) -> list[str]:
    verbs = {str(verb) for rule in rules for verb in rule.get("verbs", ())}
    return ["*"] if "*" in verbs else sorted(verbs)


def _only_namespace(rules: list[dict[str, Any]]) -> str:
    """Return the namespace of somebody who has only one; patterns may mean any number."""
    named = {str(name) for rule in rules for name in rule.get("namespaces", ())} - {""}
    if len(named) != 1:
        return ""
    (only,) = named
    return only if _NAMESPACE.fullmatch(only) else ""


ENDPOINTS = (
    Endpoint(
        "GET",
        "/clusters",
        list_clusters,
        "List the clusters that the caller may use",
        Access.USER,
        delegates=True,
        query=ClusterQuery,
        response=ClusterList,
    ),
    Endpoint(
        "POST",
        "/clusters",
        create_cluster,
        "Register a cluster",
        Access.ADMIN,
        Audit.CHANGE,
        request=schemas.CreateClusterRequest,
        response=schemas.CreatedCluster,
        status=201,
        refusals=(409,),
        verb="create",
        resource="clusters",
    ),
    Endpoint(
        "GET",
        "/clusters/{id}",
        get_cluster,
        "Show one cluster that the caller may use",
        Access.USER,
        delegates=True,
        response=schemas.Cluster,
        refusals=(404,),
    ),
    Endpoint(
        "DELETE",
        "/clusters/{id}",
        delete_cluster,
        "Remove a cluster and refuse its agents",
        Access.ADMIN,
        Audit.CHANGE,
        status=204,
        conditional=True,
        refusals=(404,),
        verb="delete",
        resource="clusters",
    ),
    Endpoint(
        "PUT",
        "/clusters/{id}/labels",
        set_labels,
        "Replace the labels of a cluster",
        Access.ADMIN,
        Audit.CHANGE,
        request=schemas.LabelsRequest,
        response=schemas.Cluster,
        conditional=True,
        refusals=(404,),
        verb="update",
        resource="clusters",
    ),
    Endpoint(
        "POST",
        "/clusters/{id}/join-token",
        create_join_token,
        "Make another join token",
        Access.ADMIN,
        Audit.CHANGE,
        response=schemas.JoinToken,
        status=201,
        refusals=(404,),
        verb="create",
        resource="jointokens",
    ),
    Endpoint(
        "GET",
        "/clusters/{id}/permissions",
        permissions,
        "List the caller's rules on a cluster",
        Access.USER,
        delegates=True,
        response=schemas.Permissions,
        refusals=(404,),
    ),
)
