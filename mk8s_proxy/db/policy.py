"""Everything that decides requests, read as of one moment. Called by the policy feed only."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from mk8s_proxy.db.authorities import AuthorityRecord, read_authorities
from mk8s_proxy.db.engine import Database
from mk8s_proxy.db.errors import NotFound
from mk8s_proxy.db.federation import issuers_of_rules
from mk8s_proxy.db.groups import groups_of_users, is_issuers, roles_by_group
from mk8s_proxy.db.keys import KeyRecord, read_keys
from mk8s_proxy.db.locks import LockRecord, load_locks
from mk8s_proxy.db.meta import POLICY_VERSION
from mk8s_proxy.db.models import AgentCertificate, Cluster, Meta, Role, User, UserRole, utc_now
from mk8s_proxy.db.roles import RoleRecord, role_record
from mk8s_proxy.db.service_tokens import LiveSecret, grants, live_secrets, service_user


@dataclass(frozen=True, slots=True)
class PolicyRows:
    """The stored policy. Disabled users appear nowhere in it."""

    version: int
    roles: tuple[RoleRecord, ...]
    user_roles: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Role names by the user's email, which is the name that policy knows users by, and by what
    service tokens are called there."""
    user_clusters: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Globs of the only clusters where roles count, by the same names, of those who have any."""
    group_roles: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Role names by the groups that logins bring: an issuer's, and those of federation rules. What
    groups of mk8s give is among their members' own roles."""
    federation: dict[str, str] = field(default_factory=dict)
    """The issuer of each federation rule, by the rule's name."""
    service_secrets: tuple[LiveSecret, ...] = ()
    clusters: dict[str, dict[str, str]] = field(default_factory=dict)
    """Labels by cluster name."""
    cluster_names: dict[str, str] = field(default_factory=dict)
    """Cluster name by cluster id."""
    epochs: dict[str, int] = field(default_factory=dict)
    """Token epoch by user id: a token of anybody else, or of another epoch, is refused."""
    revoked: frozenset[str] = frozenset()
    """Serials of agents' certificates that are revoked and would otherwise be good."""
    authorities: dict[str, AuthorityRecord] = field(default_factory=dict)
    """The certificate authorities, as `db.authorities` calls them."""
    keys: tuple[KeyRecord, ...] = ()
    """The signing keys, the newest first, retired ones included."""
    locks: tuple[LockRecord, ...] = ()
    """Those in force."""

    @property
    def ends_at(self) -> datetime | None:
        """When a lock ends by itself, so that all is to be read again; None for none that does."""
        return min((lock.ends_at for lock in self.locks if lock.ends_at), default=None)


async def load_policy(database: Database, now: datetime | None = None) -> PolicyRows:
    """Read the policy with its version, and the locks that are in force at `now`.

    Raises:
        NotFound: the database is empty.
    """
    async with database.session() as session:
        version = await _version(session)
        roles = (await session.scalars(select(Role).order_by(col(Role.name)))).all()
        users = (await session.execute(_USERS)).all()
        clusters = (await session.execute(_CLUSTERS)).all()
        tokens = await grants(session)
        names, by_group = await _roles_by_name(session, [email for _, email, _ in users])
        names |= {service_user(name): set(roles_of) for name, roles_of, _ in tokens}
        return PolicyRows(
            version=version,
            roles=tuple(map(role_record, roles)),
            user_roles={email: tuple(sorted(roles_of)) for email, roles_of in names.items()},
            group_roles={name: tuple(of) for name, of in by_group.items() if is_issuers(name)},
            federation=await issuers_of_rules(session),
            user_clusters={service_user(name): tuple(only) for name, _, only in tokens if only},
            service_secrets=tuple(await live_secrets(session)),
            clusters={name: labels for _, name, labels in clusters},
            cluster_names={cluster_id: name for cluster_id, name, _ in clusters},
            epochs={user_id: epoch for user_id, _, epoch in users},
            revoked=frozenset(await session.scalars(_REVOKED.where(utc_now() < _NOT_AFTER))),
            authorities=await read_authorities(session, database.vault),
            keys=tuple(await read_keys(session, database.vault)),
            locks=tuple(await load_locks(session, now or utc_now())),
        )


async def _roles_by_name(
    session: AsyncSession, users: Iterable[str]
) -> tuple[dict[str, set[str]], dict[str, list[str]]]:
    """The roles of users, with those of the groups of mk8s that they are in, and of all groups."""
    by_group = await roles_by_group(session)
    names: dict[str, set[str]] = {email: set() for email in users}
    for email, role in await session.execute(_PAIRS):
        names[email].add(role)
    for email, groups in (await groups_of_users(session)).items():
        if email in names:  # else disabled
            names[email].update(*(by_group.get(group, ()) for group in groups))
    return names, by_group


async def policy_version(database: Database) -> int:
    """The version of the last committed change. Raises :class:`NotFound` on an empty database."""
    async with database.session() as session:
        return await _version(session)


async def _version(session: AsyncSession) -> int:
    version = await session.scalar(_VERSION)
    if version is None:
        raise NotFound("the policy version")
    return version


_VERSION = select(col(Meta.counter)).where(col(Meta.key) == POLICY_VERSION)
_USERS = select(col(User.id), col(User.email), col(User.token_epoch)).where(
    col(User.disabled).is_(False)
)
_CLUSTERS = select(col(Cluster.id), col(Cluster.name), col(Cluster.labels))
"""Without the rest of their rows: a thousand of them would grow the heap for good."""
_REVOKED = (
    select(col(AgentCertificate.serial))
    .join(Cluster, col(Cluster.id) == col(AgentCertificate.cluster_id))
    .where(col(AgentCertificate.revoked_at).is_not(None))
)
"""Of clusters that are there; those of others are refused with their cluster."""
_NOT_AFTER = col(AgentCertificate.not_after)
_PAIRS = (
    select(col(User.email), col(Role.name))
    .select_from(UserRole)
    .join(User, col(User.id) == col(UserRole.user_id))
    .join(Role, col(Role.id) == col(UserRole.role_id))
    .where(col(User.disabled).is_(False))
    .order_by(col(Role.name))
)
