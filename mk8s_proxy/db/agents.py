"""Agents by their certificates: what was issued, renewed and revoked, and what descends from what.

Called by the join endpoint, the tunnels and the management API. An agent is a *lineage*: the
certificate that a join token gave, and the chain of those that renewed it. A certificate can be
renewed into one other only. Who asks again with the same key gets the same certificate, since the
answer was lost; who asks with another key is not who asked before. One of the two holds a stolen
copy, nobody can tell which, so the whole lineage is revoked and the cluster shows an alert until an
agent joins anew.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import delete, exists, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased
from sqlmodel import col

from mk8s_proxy.db.engine import Database
from mk8s_proxy.db.errors import CertificateReused, CertificateRevoked, NotFound
from mk8s_proxy.db.meta import raise_policy_version
from mk8s_proxy.db.models import AgentCertificate, Cluster, utc_now

REUSED = "renewed twice with different keys: one of the two is a stolen copy"
"""Why a lineage was revoked by ourselves."""

_LISTED = timedelta(days=7)
"""So long after its end an agent is still shown; then its rows go."""


class Issued(NamedTuple):
    """A certificate as it is noted before the agent gets it."""

    serial: str
    """Lower-case hexadecimal."""
    key_hash: str
    """SHA-256 of the public key, hexadecimal."""
    certificate_pem: str
    not_after: datetime


@dataclass(frozen=True, slots=True)
class Standing:
    """What is recorded of an agent's certificate."""

    cluster_id: str
    cluster_name: str
    """Empty when the cluster was deleted."""
    revoked: bool


@dataclass(frozen=True, slots=True)
class AgentRecord:
    """An agent: its lineage and the newest certificate in it."""

    id: str
    """Serial of the lineage's first certificate."""
    cluster_id: str
    cluster_name: str
    serial: str
    serials: tuple[str, ...]
    """Of all certificates of the lineage that are still recorded."""
    joined_at: datetime
    renewed_at: datetime
    not_after: datetime
    revoked_at: datetime | None
    revoked_why: str
    certificate_pem: str = ""
    """Of `serial`."""


async def record_joined(database: Database, cluster_id: str, issued: Issued) -> None:
    """Note the first certificate of an agent; an unnoted one counts as revoked.

    The alert of the cluster is over with it: somebody who was given a join token has joined.

    Raises:
        NotFound: the cluster was deleted in the meantime.
    """
    async with database.transaction() as session:
        cluster = await session.get(Cluster, cluster_id)
        if cluster is None:
            raise NotFound("cluster", cluster_id)
        cluster.alert = ""
        await _forget_old(session)
        session.add(_row(cluster_id, issued.serial, None, issued))


async def renew(
    database: Database, serial: str, cluster_id: str, issue: Callable[[], Issued], key_hash: str
) -> str:
    """The certificate (PEM) that renews another one: a new one, or the one of an earlier answer.

    Args:
        database: where to note it.
        serial: of the certificate that the agent shows.
        cluster_id: in that certificate.
        issue: signs the new one; called when it is needed.
        key_hash: of the key that the new one is asked for.

    Raises:
        CertificateRevoked: the shown one was revoked, or never recorded for this cluster.
        CertificateReused: it was renewed before with another key; the lineage is revoked now.
    """
    async with database.transaction() as session:
        # Locked, so that of two who ask at once the second sees what the first has made, and that
        # a revocation of the lineage cannot miss it.
        mine = select(AgentCertificate).where(col(AgentCertificate.serial) == serial)
        parent = await session.scalar(mine.with_for_update())
        if parent is None or parent.cluster_id != cluster_id or parent.revoked_at is not None:
            raise CertificateRevoked
        children = select(AgentCertificate).where(col(AgentCertificate.parent) == serial)
        child = await session.scalar(children)
        if child is None:
            issued = issue()
            await _forget_old(session)
            session.add(_row(cluster_id, parent.lineage, serial, issued))
            await session.flush()
            return issued.certificate_pem
        if child.key_hash == key_hash:
            return child.certificate_pem
        lineage = parent.lineage
    # A transaction of its own, since the error would undo it, and the version's row comes first.
    await _revoke_reused(database, lineage, cluster_id)
    raise CertificateReused


async def _revoke_reused(database: Database, lineage: str, cluster_id: str) -> None:
    async with database.transaction() as session:
        await raise_policy_version(session)
        await _revoke_lineage(session, lineage, REUSED, utc_now())
        cluster = await session.get(Cluster, cluster_id)
        if cluster is not None:
            cluster.alert = (
                f"agent {lineage} was kept out, its certificate was {REUSED}; find out who has "
                f"it, then: mk8s admin clusters join-token {cluster.name}"
            )


async def revoke(database: Database, serial: str, why: str) -> AgentRecord:
    """Revoke an agent: every certificate of the lineage that a serial belongs to.

    Raises :class:`NotFound`.
    """
    async with database.transaction() as session:
        await raise_policy_version(session)
        certificate = await session.get(AgentCertificate, serial)
        if certificate is None:
            raise NotFound("agent", serial)
        lineage = certificate.lineage
        await _revoke_lineage(session, lineage, why, utc_now())
        session.expunge_all()
        return (await _records(session, lineage))[0]


async def get_agent(database: Database, serial: str) -> AgentRecord:
    """The agent that has, or had, this certificate. Raises :class:`NotFound`."""
    async with database.session() as session:
        certificate = await session.get(AgentCertificate, serial)
        if certificate is None:
            raise NotFound("agent", serial)
        return (await _records(session, certificate.lineage))[0]


async def list_agents(database: Database) -> list[AgentRecord]:
    """All agents of clusters that are there, by cluster and time of joining."""
    async with database.session() as session:
        return [agent for agent in await _records(session) if agent.cluster_name]


async def standings(database: Database, serials: Collection[str]) -> dict[str, Standing]:
    """What is recorded of certificates, by serial; those that are not recorded are missing."""
    certificate = AgentCertificate
    asked = (
        select(
            col(certificate.serial),
            col(certificate.cluster_id),
            col(Cluster.name),
            col(certificate.revoked_at).is_not(None),
        )
        .join(Cluster, col(Cluster.id) == col(certificate.cluster_id), isouter=True)
        .where(col(certificate.serial).in_(serials))
    )
    async with database.session() as session:
        rows = await (await session.connection()).execute(asked)
        return {
            serial: Standing(cluster_id, name or "", revoked)
            for serial, cluster_id, name, revoked in rows
        }


async def _revoke_lineage(session: AsyncSession, lineage: str, why: str, now: datetime) -> None:
    # All rows of the lineage are locked before any is changed: a renewal that holds one of them
    # ends first, and what it has made is found by the second statement.
    rows = select(col(AgentCertificate.serial)).where(col(AgentCertificate.lineage) == lineage)
    await session.execute(rows.order_by(col(AgentCertificate.serial)).with_for_update())
    live = update(AgentCertificate).where(
        col(AgentCertificate.lineage) == lineage, col(AgentCertificate.revoked_at).is_(None)
    )
    await session.execute(live.values(revoked_at=now, revoked_why=why[:256]))


async def _forget_old(session: AsyncSession) -> None:
    """Rows of certificates that ended long ago go, or the table would grow for ever.

    The first one of an agent stays as long as the agent: it says when it joined.
    """
    old = utc_now() - _LISTED
    younger = aliased(AgentCertificate)
    has_younger = exists().where(
        col(younger.lineage) == col(AgentCertificate.serial), col(younger.not_after) >= old
    )
    gone = delete(AgentCertificate).where(col(AgentCertificate.not_after) < old, ~has_younger)
    await session.execute(gone.execution_options(synchronize_session=False))


async def _records(session: AsyncSession, only: str = "") -> list[AgentRecord]:
    rows = (
        select(AgentCertificate, col(Cluster.name))
        .join(Cluster, col(Cluster.id) == col(AgentCertificate.cluster_id), isouter=True)
        .order_by(col(Cluster.name), col(AgentCertificate.created_at))
    )
    if only:
        rows = rows.where(col(AgentCertificate.lineage) == only)
    lineages: dict[str, list[tuple[AgentCertificate, str]]] = {}
    for certificate, name in (await session.execute(rows)).all():
        lineages.setdefault(certificate.lineage, []).append((certificate, name or ""))
    return [_agent(lineage, found) for lineage, found in lineages.items()]


def _agent(lineage: str, found: list[tuple[AgentCertificate, str]]) -> AgentRecord:
    (first, name), (newest, _) = found[0], found[-1]
    return AgentRecord(
        id=lineage,
        cluster_id=newest.cluster_id,
        cluster_name=name,
        serial=newest.serial,
        serials=tuple(certificate.serial for certificate, _ in found),
        joined_at=first.created_at,
        renewed_at=newest.created_at,
        not_after=newest.not_after,
        revoked_at=newest.revoked_at,
        revoked_why=newest.revoked_why,
        certificate_pem=newest.certificate_pem,
    )


def _row(cluster_id: str, lineage: str, parent: str | None, issued: Issued) -> AgentCertificate:
    return AgentCertificate(
        serial=issued.serial,
        cluster_id=cluster_id,
        lineage=lineage,
        parent=parent,
        key_hash=issued.key_hash,
        certificate_pem=issued.certificate_pem,
        not_after=issued.not_after,
    )
