"""Everything that decides requests, read as of one moment. Called by the policy feed only."""

from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import select
from sqlmodel import col

from mk8s_proxy.db.engine import Database
from mk8s_proxy.db.errors import NotFound
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
    service_secrets: tuple[LiveSecret, ...] = ()
    clusters: dict[str, dict[str, str]] = field(default_factory=dict)
    """Labels by cluster name."""
    cluster_names: dict[str, str] = field(default_factory=dict)
    """Cluster name by cluster id."""
    epochs: dict[str, int] = field(default_factory=dict)
    """Token epoch by user id: a token of anybody else, or of another epoch, is refused."""
    revoked: frozenset[str] = frozenset()
    """Serials of agents' certificates that are revoked and would otherwise be good."""
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
        version = await session.scalar(_VERSION)
        roles = (await session.scalars(select(Role).order_by(col(Role.name)))).all()
        users = (await session.execute(_USERS)).all()
        pairs = (await session.execute(_PAIRS)).all()
        clusters = (await session.execute(_CLUSTERS)).all()
        revoked = (await session.scalars(_REVOKED.where(utc_now() < _NOT_AFTER))).all()
        tokens = await grants(session)
        secrets = await live_secrets(session)
        keys = await read_keys(session)
        locks = await load_locks(session, now or utc_now())
    if version is None:
        raise NotFound("the policy version")
    names: dict[str, list[str]] = {email: [] for _, email, _ in users}
    for email, role in pairs:
        names[email].append(role)
    names |= {service_user(name): roles_of for name, roles_of, _ in tokens}
    return PolicyRows(
        version=version,
        roles=tuple(map(role_record, roles)),
        user_roles={email: tuple(roles_of) for email, roles_of in names.items()},
        user_clusters={service_user(name): tuple(only) for name, _, only in tokens if only},
        service_secrets=tuple(secrets),
        clusters={name: labels for _, name, labels in clusters},
        cluster_names={cluster_id: name for cluster_id, name, _ in clusters},
        epochs={user_id: epoch for user_id, _, epoch in users},
        revoked=frozenset(revoked),
        keys=tuple(keys),
        locks=tuple(locks),
    )


async def policy_version(database: Database) -> int:
    """The version of the last committed change. Raises :class:`NotFound` on an empty database."""
    async with database.session() as session:
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
