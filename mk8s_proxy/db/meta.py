"""Single facts in the ``meta`` table: the policy version and the certificate authorities.

The stores call :func:`raise_policy_version` as the first statement of each change;
:mod:`mk8s_proxy.identity.ca` keeps the authorities here.
"""

from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from mk8s_proxy.db.engine import Database
from mk8s_proxy.db.models import Meta

POLICY_VERSION = "policy_version"


async def raise_policy_version(session: AsyncSession) -> None:
    """Count one policy change, and hold back every other one until this transaction ends."""
    row = update(Meta).where(col(Meta.key) == POLICY_VERSION)
    await session.execute(row.values(counter=col(Meta.counter) + 1))


async def read_meta(database: Database, key: str) -> str | None:
    """The stored value, or None."""
    async with database.session() as session:
        return await session.scalar(select(col(Meta.value)).where(col(Meta.key) == key))


async def keep_meta(database: Database, key: str, value: str) -> str:
    """Store a value unless there is one, and give back the one that stands.

    Of two processes that start together on an empty database, both continue with one's value.
    """
    try:
        async with database.transaction() as session:
            session.add(Meta(key=key, value=value))
    except IntegrityError:
        standing = await read_meta(database, key)
        if standing is None:
            raise
        return standing
    return value


async def replace_meta(database: Database, key: str, value: str) -> None:
    """Put a value in place of the one that is there, or of none."""
    async with database.transaction() as session:
        await session.merge(Meta(key=key, value=value))
