"""Credentials that work once: refresh tokens and join tokens.

Called by the login and join endpoints. Only hashes are stored. A join token is used by one UPDATE
that a second transaction cannot also win; what lost is looked at afterwards, only to name the
reason. A refresh token is looked at, and used, under the lock of its login.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from mk8s_proxy.db.delegations import require_open
from mk8s_proxy.db.engine import Database
from mk8s_proxy.db.errors import Expired, JoinTokenExpired, JoinTokenUsed, NotFound, RefreshReused
from mk8s_proxy.db.logins import (
    REUSED,
    LoginRecord,
    NewLogin,
    end_login,
    lock_login,
    login_record,
    open_within,
)
from mk8s_proxy.db.models import Cluster, JoinToken, Login, RefreshToken


@dataclass(frozen=True, slots=True)
class RefreshRecord:
    """A refresh token that was just used up."""

    id: str
    login_id: str
    user_id: str
    expires_at: datetime
    """When its login ends."""
    login: LoginRecord


@dataclass(frozen=True, slots=True)
class JoinRecord:
    """A join token that was just used up, and the cluster it admits to."""

    id: str
    cluster_id: str
    cluster_name: str
    created_by: str


async def open_login(database: Database, new: NewLogin, token_hash: str, now: datetime) -> None:
    """Open a login with its first refresh token."""
    async with database.transaction() as session:
        login = await open_within(session, new, now)
        session.add(RefreshToken(login_id=login.id, token_hash=token_hash, created_at=now))


async def use_refresh(
    database: Database,
    token_hash: str,
    now: datetime,
    name_successor: Callable[[str], str] | None = None,
) -> RefreshRecord:
    """Use up a refresh token.

    Args:
        database: where it is kept.
        token_hash: what it is known by.
        now: aware time.
        name_successor: gives the hash of the next token for the id of this one. That token is
            stored with the use, and as long as it is itself unused this one may come again.

    Raises:
        NotFound: never issued.
        Expired: its login is over, or that of its owner.
        RefreshReused: used before, or its login has been ended; now it has.
    """
    try:
        async with database.transaction() as session:
            return await _use(session, token_hash, now, name_successor)
    except RefreshReused as reused:
        # Out here, since the error undoes what its transaction did.
        await end_login(database, reused.login_id, REUSED, now)
        raise


async def login_of(database: Database, token_hash: str) -> LoginRecord:
    """The login of a refresh token, whatever became of either. Raises :class:`NotFound`."""
    async with database.session() as session:
        token = await _by_hash(session, token_hash)
        login = await session.get_one(Login, token.login_id)
    return login_record(login)


async def store_join_token(
    database: Database, cluster_id: str, token_hash: str, created_by: str, expires_at: datetime
) -> None:
    """Keep a new join token. Raises :class:`NotFound` when the cluster is gone."""
    async with database.transaction() as session:
        if await session.get(Cluster, cluster_id) is None:
            raise NotFound("cluster", cluster_id)
        session.add(
            JoinToken(
                cluster_id=cluster_id,
                token_hash=token_hash,
                created_by=created_by,
                expires_at=expires_at,
            )
        )


async def use_join_token(database: Database, token_hash: str, now: datetime) -> JoinRecord:
    """Use up a join token; of two that race, exactly one gets the record.

    Raises:
        NotFound: never issued, or its cluster was removed.
        JoinTokenUsed: used before.
        JoinTokenExpired: unused, but too old.
    """
    async with database.transaction() as session:
        unused = update(JoinToken).where(
            col(JoinToken.token_hash) == token_hash,
            col(JoinToken.used_at).is_(None),
            col(JoinToken.expires_at) > now,
        )
        won = await session.execute(unused.values(used_at=now).returning(col(JoinToken.id)))
        is_ours = won.first() is not None
        token = await session.scalar(
            select(JoinToken).where(col(JoinToken.token_hash) == token_hash)
        )
        if token is None:
            raise NotFound("join token")
        if not is_ours and token.used_at is not None:
            raise JoinTokenUsed(token.cluster_id)
        if not is_ours:
            raise JoinTokenExpired(token.cluster_id)
        cluster = await session.get_one(Cluster, token.cluster_id)
        return JoinRecord(token.id, cluster.id, cluster.name, token.created_by)


async def _use(
    session: AsyncSession,
    token_hash: str,
    now: datetime,
    name_successor: Callable[[str], str] | None,
) -> RefreshRecord:
    token = await _by_hash(session, token_hash)
    login = await lock_login(session, token.login_id)
    if login is None:
        raise NotFound("refresh token")  # forgotten just now
    await session.refresh(token)
    if login.ended_at is not None:
        raise RefreshReused(login.id, login.subject, ended_before=login.ended_why)
    following = name_successor(token.id) if name_successor is not None else ""
    if login.ends_at <= now:
        raise Expired("the login has expired; log in again")
    if login.parent:  # not locked: whoever ends it locks its row before this one's
        require_open(await session.get(Login, login.parent), now)
    if token.used_at is not None:
        if not following or not await _is_unused(session, following):
            raise RefreshReused(login.id, login.subject)
    else:
        token.used_at = login.last_seen = now
        if following:
            session.add(RefreshToken(login_id=login.id, token_hash=following, created_at=now))
    return RefreshRecord(token.id, login.id, login.subject, login.ends_at, login_record(login))


async def _by_hash(session: AsyncSession, token_hash: str) -> RefreshToken:
    same = select(RefreshToken).where(col(RefreshToken.token_hash) == token_hash)
    token = await session.scalar(same)
    if token is None:
        raise NotFound("refresh token")
    return token


async def _is_unused(session: AsyncSession, token_hash: str) -> bool:
    unused = select(col(RefreshToken.id)).where(
        col(RefreshToken.token_hash) == token_hash, col(RefreshToken.used_at).is_(None)
    )
    return await session.scalar(unused) is not None
