"""Credentials that work once: refresh tokens and join tokens.

Called by the login and join endpoints. Only hashes are stored. A join token is used by one UPDATE
that a second transaction cannot also win; what lost is looked at afterwards, only to name the
reason. A refresh token is looked at, and used, under the lock of its family.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from mk8s_proxy.db.ended_tokens import LONGEST_ACCESS, note_ended
from mk8s_proxy.db.engine import Database
from mk8s_proxy.db.errors import Expired, JoinTokenExpired, JoinTokenUsed, NotFound, RefreshReused
from mk8s_proxy.db.models import Cluster, JoinToken, RefreshToken, utc_now


@dataclass(frozen=True, slots=True)
class RefreshRecord:
    """A refresh token that was just used up."""

    id: str
    family_id: str
    user_id: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class JoinRecord:
    """A join token that was just used up, and the cluster it admits to."""

    id: str
    cluster_id: str
    cluster_name: str
    created_by: str


async def store_refresh(
    database: Database, *, family_id: str, user_id: str, token_hash: str, expires_at: datetime
) -> None:
    """Keep a new refresh token of a family (a new family at login).

    Raises:
        RefreshReused: the family was revoked since its last token was used, so that the winner
            of a race with a thief gets nothing either.
    """
    async with database.transaction() as session:
        family = await _lock_family(session, family_id)
        if any(token.revoked_at is not None for token in family):
            raise RefreshReused(family_id, user_id)
        session.add(
            RefreshToken(
                family_id=family_id, user_id=user_id, token_hash=token_hash, expires_at=expires_at
            )
        )


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
        Expired: unused, but too old.
        RefreshReused: used before or revoked; its whole family is revoked now.
    """
    try:
        async with database.transaction() as session:
            return await _use(session, token_hash, now, name_successor)
    except RefreshReused as reused:
        # Out here, since the error undoes what its transaction did.
        await revoke_family(database, reused.family_id, now=now)
        raise


async def family_of(database: Database, token_hash: str) -> tuple[str, str]:
    """The family and the user of a refresh token, for logout. Raises :class:`NotFound`."""
    async with database.session() as session:
        token = await _by_hash(session, token_hash)
    return token.family_id, token.user_id


async def revoke_family(database: Database, family_id: str, *, now: datetime | None = None) -> None:
    """End a login: no token of the family works any more, nor do its access tokens, which all
    replicas learn. Unknown families are fine."""
    async with database.transaction() as session:
        await _revoke_family(session, family_id, now or utc_now())


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
    family = await _lock_family(session, token.family_id)
    if any(member.revoked_at is not None for member in family):
        raise RefreshReused(token.family_id, token.user_id, ended_before=True)
    following = name_successor(token.id) if name_successor is not None else ""
    if token.used_at is not None:
        if not following or not await _is_unused(session, following, now):
            raise RefreshReused(token.family_id, token.user_id)
    elif token.expires_at <= now:
        raise Expired("the login has expired; log in again")
    else:
        token.used_at = now
        if following:
            session.add(_successor(token, following))
    return RefreshRecord(token.id, token.family_id, token.user_id, token.expires_at)


async def _by_hash(session: AsyncSession, token_hash: str) -> RefreshToken:
    same = select(RefreshToken).where(col(RefreshToken.token_hash) == token_hash)
    token = await session.scalar(same)
    if token is None:
        raise NotFound("refresh token")
    return token


async def _is_unused(session: AsyncSession, token_hash: str, now: datetime) -> bool:
    unused = select(col(RefreshToken.id)).where(
        col(RefreshToken.token_hash) == token_hash,
        col(RefreshToken.used_at).is_(None),
        col(RefreshToken.expires_at) > now,
    )
    return await session.scalar(unused) is not None


def _successor(token: RefreshToken, token_hash: str) -> RefreshToken:
    return RefreshToken(
        family_id=token.family_id,
        user_id=token.user_id,
        token_hash=token_hash,
        expires_at=token.expires_at,
    )


async def _lock_family(session: AsyncSession, family_id: str) -> list[RefreshToken]:
    # PostgreSQL would let a revocation and an insert pass each other without seeing the other's
    # rows; both lock the rows that exist first. SQLite has one writer and ignores FOR UPDATE.
    # What was read before the wait is read again.
    family = select(RefreshToken).where(col(RefreshToken.family_id) == family_id)
    in_order = family.order_by(col(RefreshToken.created_at), col(RefreshToken.id))
    locked = in_order.with_for_update().execution_options(populate_existing=True)
    return list((await session.scalars(locked)).all())


async def _revoke_family(session: AsyncSession, family_id: str, now: datetime) -> None:
    # The counter's row first, then the family's: everybody who takes both takes them so.
    await note_ended(session, family_id, now + LONGEST_ACCESS, now)
    await _lock_family(session, family_id)
    live = update(RefreshToken).where(
        col(RefreshToken.family_id) == family_id, col(RefreshToken.revoked_at).is_(None)
    )
    await session.execute(live.values(revoked_at=now))
