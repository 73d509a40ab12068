"""Registered clusters. Called by the API; ``note_sightings`` by the tunnels' records."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import bindparam, delete, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from mk8s_proxy.db.engine import Database
from mk8s_proxy.db.errors import Conflict, NotFound
from mk8s_proxy.db.meta import raise_policy_version
from mk8s_proxy.db.models import AgentCertificate, Cluster, JoinToken, utc_now
from mk8s_proxy.db.revisions import Condition, revision_of

CLUSTER_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
"""A DNS-1123 label, since the name becomes a host name and a path segment."""


@dataclass(frozen=True, slots=True)
class ClusterRecord:
    """A cluster as stored."""

    id: str
    name: str
    labels: dict[str, str]
    agent_version: str
    kubernetes_version: str
    last_seen: datetime | None
    """When an agent last registered or sent a heartbeat; None before the first."""
    created_at: datetime
    alert: str = ""
    """What an admin must know and do about its agents; empty when all is well."""

    @property
    def revision(self) -> str:
        """Changes with what admins can change, not with what agents say."""
        return revision_of(self.id, self.name, self.labels)


@dataclass(frozen=True, slots=True)
class Sighting:
    """What an agent said of itself when it registered or was last heard of."""

    cluster_id: str
    agent_version: str
    kubernetes_version: str
    last_seen: datetime


async def create_cluster(
    database: Database, name: str, labels: dict[str, str] | None = None
) -> ClusterRecord:
    """Register a cluster.

    Raises:
        ValueError: the name is no DNS-1123 label.
        Conflict: the name is taken.
    """
    if not CLUSTER_NAME.fullmatch(name):
        raise ValueError(
            f'"{name}" is no cluster name: use 1 to 63 lower-case letters, digits and "-"'
        )
    cluster = Cluster(name=name, labels=dict(labels or {}))
    try:
        async with database.transaction() as session:
            await raise_policy_version(session)
            session.add(cluster)
    except IntegrityError as error:
        raise Conflict(f'the cluster "{name}" exists already') from error
    return _record(cluster)


async def get_by_name(database: Database, name: str) -> ClusterRecord:
    """The cluster with this name. Raises :class:`NotFound`."""
    async with database.session() as session:
        cluster = await session.scalar(select(Cluster).where(col(Cluster.name) == name))
    if cluster is None:
        raise NotFound("cluster", name)
    return _record(cluster)


async def get_by_key(database: Database, key: str) -> ClusterRecord:
    """The cluster with this name, or else with this identifier. Raises :class:`NotFound`."""
    async with database.session() as session:
        named = await session.scalar(select(Cluster).where(col(Cluster.name) == key))
        return _record(named or await _get(session, key))


async def get_by_id(database: Database, cluster_id: str) -> ClusterRecord:
    """The cluster with this identifier. Raises :class:`NotFound`."""
    async with database.session() as session:
        return _record(await _get(session, cluster_id))


async def list_clusters(database: Database) -> list[ClusterRecord]:
    """All clusters, by name."""
    async with database.session() as session:
        clusters = await session.scalars(select(Cluster).order_by(col(Cluster.name)))
        return [_record(cluster) for cluster in clusters]


async def set_labels(
    database: Database,
    cluster_id: str,
    labels: dict[str, str],
    condition: Condition | None = None,
) -> ClusterRecord:
    """Replace the labels of a cluster.

    Raises:
        NotFound: no such cluster.
        Stale: the condition does not hold.
    """
    async with database.transaction() as session:
        await raise_policy_version(session)
        cluster = await _get(session, cluster_id, condition)
        cluster.labels = dict(labels)
    return _record(cluster)


async def delete_cluster(
    database: Database, cluster_id: str, condition: Condition | None = None
) -> None:
    """Remove a cluster: its join tokens go, its agents' certificates are revoked and stay listed.

    Raises:
        NotFound: no such cluster.
        Stale: the condition does not hold.
    """
    async with database.transaction() as session:
        await raise_policy_version(session)
        cluster = await _get(session, cluster_id, condition)
        live = update(AgentCertificate).where(
            col(AgentCertificate.cluster_id) == cluster_id,
            col(AgentCertificate.revoked_at).is_(None),
        )
        revoked = live.values(revoked_at=utc_now(), revoked_why="the cluster was removed")
        await session.execute(revoked)
        await session.execute(delete(JoinToken).where(col(JoinToken.cluster_id) == cluster_id))
        await session.delete(cluster)


async def note_sightings(database: Database, sightings: Iterable[Sighting]) -> None:
    """Note what agents said of themselves. No policy change: rules never look at these fields.

    A cluster that was deleted in the meantime is passed over.
    """
    noted = update(Cluster).where(col(Cluster.id) == bindparam("of"))
    rows = [
        {
            "of": sighting.cluster_id,
            "agent_version": sighting.agent_version[:64],
            "kubernetes_version": sighting.kubernetes_version[:64],
            "last_seen": sighting.last_seen,
        }
        # replicas that lock rows in the same order do not wait for each other in a circle
        for sighting in sorted(sightings, key=lambda it: it.cluster_id)
    ]
    async with database.transaction() as session:
        connection = await session.connection()
        await connection.execute(noted, rows)


async def _get(
    session: AsyncSession, cluster_id: str, condition: Condition | None = None
) -> Cluster:
    cluster = await session.get(Cluster, cluster_id)
    if cluster is None:
        raise NotFound("cluster", cluster_id)
    if condition is not None:
        condition.check(_record(cluster).revision)
    return cluster


def _record(cluster: Cluster) -> ClusterRecord:
    return ClusterRecord(
        id=cluster.id,
        name=cluster.name,
        labels=dict(cluster.labels),
        agent_version=cluster.agent_version,
        kubernetes_version=cluster.kubernetes_version,
        last_seen=cluster.last_seen,
        created_at=cluster.created_at,
        alert=cluster.alert,
    )
