"""Where users have logged in from, so that strangers elsewhere cannot keep them out.

Called by the login. An address is kept as a hash together with the user's id, the newest few of
each user only.
"""

import hashlib
from datetime import datetime, timedelta

from sqlalchemy import delete, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from mk8s_proxy.db.engine import Database
from mk8s_proxy.db.models import LoginSource, User
from mk8s_proxy.db.users import normal_email

KEPT = 32
"""Sources of one user; the one longest unused goes first."""
FORGOTTEN = timedelta(days=90)
"""After so long without a login from there a source is a stranger's again."""
_NOTED_EVERY = timedelta(days=1)
"""A source in daily use costs one write a day."""


async def is_known(database: Database, email: str, source: str, now: datetime) -> bool:
    """Whether this user has logged in from there. Asks the same of unknown addresses.

    Args:
        database: where to look.
        email: as it was given.
        source: what counts as one source (``identity.throttle.source_key``).
        now: the time.
    """
    async with database.session() as session:
        user_id = await session.scalar(
            select(col(User.id)).where(col(User.email) == normal_email(email))
        )
        found = await session.get(LoginSource, (user_id or "", _hash(user_id or "", source)))
    return found is not None and found.last_used > now - FORGOTTEN


async def note(database: Database, user_id: str, source: str, now: datetime) -> None:
    """Note that a user has logged in from there."""
    key = (user_id, _hash(user_id, source))
    async with database.session() as session:
        found = await session.get(LoginSource, key)
    if found is not None and found.last_used > now - _NOTED_EVERY:
        return
    try:
        async with database.transaction() as session:
            await session.merge(LoginSource(user_id=key[0], source_hash=key[1], last_used=now))
            await session.flush()
            await _forget_oldest(session, user_id)
    except IntegrityError:  # noted by another login at this moment, or the user has just gone
        return


async def _forget_oldest(session: AsyncSession, user_id: str) -> None:
    mine = col(LoginSource.user_id) == user_id
    newest = select(col(LoginSource.source_hash)).where(mine)
    kept = newest.order_by(col(LoginSource.last_used).desc(), col(LoginSource.source_hash))
    surplus = (await session.scalars(kept.offset(KEPT))).all()
    if surplus:
        gone = delete(LoginSource).where(mine, col(LoginSource.source_hash).in_(surplus))
        await session.execute(gone)


def _hash(user_id: str, source: str) -> str:
    return hashlib.sha256(f"{user_id} {source}".encode("utf-8", "surrogatepass")).hexdigest()
