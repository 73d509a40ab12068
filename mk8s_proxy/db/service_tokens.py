"""Service tokens: what jobs are known by. Called by the API and by the policy's reader.

A token has a name, roles, and globs of the clusters where they count. Each of its secrets is a
login of its own (``db.logins``): a rotation opens the next one, and gives the one before it a near
end. A revocation ends them all, and forgets the token; what it did stays in the audit.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import delete, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from mk8s_proxy.db.engine import Database
from mk8s_proxy.db.errors import Conflict, NotFound
from mk8s_proxy.db.logins import (
    REVOKED,
    ROTATED,
    SERVICE_TOKEN,
    LoginRecord,
    NewLogin,
    end_within,
    login_record,
    open_within,
)
from mk8s_proxy.db.meta import raise_policy_version
from mk8s_proxy.db.models import (
    Login,
    Role,
    ServiceSecret,
    ServiceToken,
    ServiceTokenRole,
    new_id,
    utc_now,
)
from mk8s_proxy.db.revisions import Condition, revision_of
from mk8s_proxy.db.role_names import ids_of_roles

MOST: Final = 5000
"""Service tokens that there may be: every worker holds their hashes in memory."""


USER_PREFIX: Final = "token:"
"""No user's name begins so: these are email addresses."""


def service_user(name: str) -> str:
    """What policy, audit and clusters call a service token."""
    return f"{USER_PREFIX}{name}"


@dataclass(frozen=True, slots=True)
class ServiceTokenRecord:
    """A service token as stored."""

    id: str
    name: str
    roles: tuple[str, ...]
    """In alphabetical order."""
    clusters: tuple[str, ...]
    """Globs of the only clusters where the roles count; () for all."""
    created_by: str
    creator_id: str
    created_at: datetime
    logins: tuple[LoginRecord, ...] = ()
    """Of its secrets that are still good or were not ended before their time, newest first."""

    @property
    def revision(self) -> str:
        """Changes with each rotation, and with another token of the name; not with its use."""
        secrets = [(login.id, login.ends_at.isoformat()) for login in self.logins]
        return revision_of(self.id, self.roles, self.clusters, secrets)


@dataclass(frozen=True, slots=True)
class NewServiceToken:
    """A service token to be made."""

    name: str
    roles: tuple[str, ...]
    clusters: tuple[str, ...]
    created_by: str
    creator_id: str


@dataclass(frozen=True, slots=True)
class NewSecret:
    """A secret to be kept, by its hash."""

    secret_hash: str
    ends_at: datetime
    client: str = ""
    address: str = ""
    """Where from it was made."""


@dataclass(frozen=True, slots=True)
class LiveSecret:
    """A secret that is good until its end, as requests are decided by it."""

    secret_hash: str
    login_id: str
    token_id: str
    name: str
    ends_at: datetime


async def create(
    database: Database, new: NewServiceToken, secret: NewSecret, now: datetime
) -> ServiceTokenRecord:
    """Make a service token with its first secret.

    Raises:
        Conflict: the name is taken, or there are too many.
        NotFound: a role does not exist.
    """
    token = ServiceToken(
        name=new.name,
        clusters=list(new.clusters),
        created_by=new.created_by,
        creator_id=new.creator_id,
        created_at=now,
    )
    try:
        async with database.transaction() as session:
            await raise_policy_version(session)
            if (await session.scalar(select(func.count()).select_from(ServiceToken)) or 0) >= MOST:
                raise Conflict(f"there are {MOST} service tokens already: revoke some first")
            session.add(token)
            await session.flush()
            await _give_roles(session, token.id, new.roles)
            login = await _open(session, token, secret, now)
    except IntegrityError as error:
        raise Conflict(f'there is a service token "{new.name}" already') from error
    return _record(token, sorted(set(new.roles)), [login_record(login)])


async def rotate(
    database: Database,
    token_id: str,
    secret: NewSecret,
    overlap: timedelta,
    now: datetime,
    condition: Condition | None = None,
) -> tuple[ServiceTokenRecord, list[str]]:
    """Give a service token its next secret.

    Args:
        database: where they are.
        token_id: of which.
        secret: the next one.
        overlap: how long the newest of those before stays good; older ones end now.
        now: aware time.
        condition: what the token must be like.

    Returns:
        The token, and the logins that have ended.

    Raises:
        NotFound: no such service token.
        Stale: the condition does not hold.
    """
    async with database.transaction() as session:
        await raise_policy_version(session)
        token = await _get(session, token_id)
        await _check(session, token, condition)
        former = [login for login in await _logins_of(session, token_id) if login.ends_at > now]
        kept = former[:1] if overlap else []
        for login in kept:
            login.ends_at = min(login.ends_at, now + overlap)
        ended = [login.id for login in former if login not in kept]
        if ended:
            await end_within(session, ended, ROTATED, now)
        await _open(session, token, secret, now)
        await session.flush()
        return await _whole(session, token), ended


async def revoke(
    database: Database, token_id: str, now: datetime, condition: Condition | None = None
) -> list[str]:
    """Forget a service token. Returns its logins, which have ended.

    Raises:
        NotFound: no such service token.
        Stale: the condition does not hold.
    """
    async with database.transaction() as session:
        await raise_policy_version(session)
        token = await _get(session, token_id)
        await _check(session, token, condition)
        return await _revoke(session, token, now)


async def revoke_of(database: Database, creator_id: str, now: datetime) -> list[str]:
    """Forget all service tokens that somebody has made. Returns their logins, which have ended."""
    async with database.transaction() as session:
        await raise_policy_version(session)
        mine = select(ServiceToken).where(col(ServiceToken.creator_id) == creator_id)
        tokens = (await session.scalars(mine.order_by(col(ServiceToken.id)))).all()
        return [ended for token in tokens for ended in await _revoke(session, token, now)]


async def end_secret(database: Database, login_id: str, why: str, now: datetime) -> list[str]:
    """End one secret by its login; the token stays, for its other secrets and the next one."""
    async with database.transaction() as session:
        # Secrets are read with the policy; that a login has ended is remembered for an hour only.
        await raise_policy_version(session)
        return await end_within(session, [login_id], why, now)


async def get_by_id(database: Database, token_id: str) -> ServiceTokenRecord:
    """The service token of this id. Raises :class:`NotFound`."""
    async with database.session() as session:
        return await _whole(session, await _get(session, token_id))


async def get_by_name(database: Database, name: str) -> ServiceTokenRecord:
    """The service token of this name. Raises :class:`NotFound`."""
    async with database.session() as session:
        same = select(ServiceToken).where(col(ServiceToken.name) == name)
        token = await session.scalar(same)
        if token is None:
            raise NotFound("service token", name)
        return await _whole(session, token)


async def list_all(database: Database) -> list[ServiceTokenRecord]:
    """All service tokens, by name."""
    async with database.session() as session:
        tokens = (
            await session.scalars(select(ServiceToken).order_by(col(ServiceToken.name)))
        ).all()
        roles: dict[str, list[str]] = {}
        for token_id, role in await session.execute(_ROLES):
            roles.setdefault(token_id, []).append(role)
        logins: dict[str, list[LoginRecord]] = {}
        live = select(col(ServiceSecret.token_id), Login).join(Login, _OF_SECRET).where(_NOT_ENDED)
        for token_id, login in await session.execute(live.order_by(*_NEWEST_FIRST)):
            logins.setdefault(token_id, []).append(login_record(login))
    return [_record(it, roles.get(it.id, ()), logins.get(it.id, ())) for it in tokens]


async def live_secrets(session: AsyncSession) -> list[LiveSecret]:
    """The secrets that are good, for the policy's reader."""
    found = (
        select(
            col(ServiceSecret.secret_hash),
            col(ServiceSecret.login_id),
            col(ServiceToken.id),
            col(ServiceToken.name),
            col(Login.ends_at),
        )
        .join(Login, _OF_SECRET)
        .join(ServiceToken, col(ServiceToken.id) == col(ServiceSecret.token_id))
        .where(_NOT_ENDED, col(Login.ends_at) > utc_now())
    )
    return [LiveSecret(*row) for row in (await session.execute(found)).all()]


async def grants(session: AsyncSession) -> list[tuple[str, list[str], list[str]]]:
    """Name, roles and clusters of every service token, for the policy's reader."""
    roles: dict[str, list[str]] = {}
    for token_id, role in await session.execute(_ROLES):
        roles.setdefault(token_id, []).append(role)
    tokens = select(col(ServiceToken.id), col(ServiceToken.name), col(ServiceToken.clusters))
    return [
        (name, roles.get(token_id, []), clusters)
        for token_id, name, clusters in (await session.execute(tokens)).all()
    ]


async def holders_of(session: AsyncSession, role_id: str) -> list[str]:
    """The names of the service tokens that have a role."""
    names = (
        select(col(ServiceToken.name))
        .join(ServiceTokenRole, col(ServiceTokenRole.token_id) == col(ServiceToken.id))
        .where(col(ServiceTokenRole.role_id) == role_id)
        .order_by(col(ServiceToken.name))
    )
    return list((await session.scalars(names)).all())


async def _check(session: AsyncSession, token: ServiceToken, condition: Condition | None) -> None:
    if condition is not None:
        condition.check((await _whole(session, token)).revision)


async def _revoke(session: AsyncSession, token: ServiceToken, now: datetime) -> list[str]:
    ended = [login.id for login in await _logins_of(session, token.id)]
    if ended:
        await end_within(session, ended, REVOKED, now)
    # The secrets go by themselves on PostgreSQL, and by the engine's pragma on SQLite.
    await session.execute(delete(ServiceToken).where(col(ServiceToken.id) == token.id))
    return ended


async def _open(
    session: AsyncSession, token: ServiceToken, secret: NewSecret, now: datetime
) -> Login:
    new = NewLogin(
        new_id(),
        token.id,
        secret.ends_at,
        SERVICE_TOKEN,
        secret.client,
        address=secret.address,
        label=token.name,
    )
    login = await open_within(session, new, now)
    session.add(ServiceSecret(login_id=login.id, token_id=token.id, secret_hash=secret.secret_hash))
    await session.flush()
    return login


async def _get(session: AsyncSession, token_id: str) -> ServiceToken:
    token = await session.get(ServiceToken, token_id)
    if token is None:
        raise NotFound("service token", token_id)
    return token


async def _give_roles(session: AsyncSession, token_id: str, names: Iterable[str]) -> None:
    ids = await ids_of_roles(session, names)
    given = [ServiceTokenRole(token_id=token_id, role_id=role_id) for role_id in ids.values()]
    session.add_all(given)
    await session.flush()


async def _logins_of(session: AsyncSession, token_id: str) -> list[Login]:
    """Those that nobody has ended, newest first."""
    mine = (
        select(Login)
        .join(ServiceSecret, _OF_SECRET)
        .where(col(ServiceSecret.token_id) == token_id, _NOT_ENDED)
    )
    return list((await session.scalars(mine.order_by(*_NEWEST_FIRST))).all())


async def _whole(session: AsyncSession, token: ServiceToken) -> ServiceTokenRecord:
    mine = col(ServiceTokenRole.token_id) == token.id
    roles = [role for _, role in await session.execute(_ROLES.where(mine))]
    logins = [login_record(login) for login in await _logins_of(session, token.id)]
    return _record(token, roles, logins)


def _record(
    token: ServiceToken, roles: Sequence[str], logins: Sequence[LoginRecord]
) -> ServiceTokenRecord:
    return ServiceTokenRecord(
        id=token.id,
        name=token.name,
        roles=tuple(roles),
        clusters=tuple(token.clusters),
        created_by=token.created_by,
        creator_id=token.creator_id,
        created_at=token.created_at,
        logins=tuple(logins),
    )


_OF_SECRET = col(Login.id) == col(ServiceSecret.login_id)
_NOT_ENDED = col(Login.ended_at).is_(None)
_NEWEST_FIRST = (col(Login.opened_at).desc(), col(Login.ends_at).desc())
_ROLES = (
    select(col(ServiceTokenRole.token_id), col(Role.name))
    .join(Role, col(Role.id) == col(ServiceTokenRole.role_id))
    .order_by(col(Role.name))
)
