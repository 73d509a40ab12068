"""Tokens and logins that were ended before their time, for as long as their tokens would live.

Written by logouts (``db.logins`` for whole logins), read at the start of each process and with
every look of the policy feed. Each row has the next number of one counter, and whoever takes a
number holds the counter's row until its commit: a reader that has seen a number has seen all below.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from mk8s_proxy.db.engine import Database
from mk8s_proxy.db.models import EndedToken, Meta

LONGEST_ACCESS = timedelta(hours=1)
"""No access token lives longer, whatever the setting is now or was when it was minted."""

_COUNTER = "ended_tokens"
_KEPT_ON = timedelta(minutes=5)
"""Kept beyond the end, for leeway and for clocks of replicas that differ."""
_AT_ONCE = 10_000


@dataclass(frozen=True, slots=True)
class Ended:
    """One of them."""

    number: int
    id: str
    """Claim ``jti`` of a token, or claim ``sid`` of a login, also with a group it has lost."""
    expires_at: datetime


async def end_token(database: Database, token_id: str, expires_at: datetime, now: datetime) -> None:
    """Note that a token is refused until it would have expired. Again is fine."""
    await end_tokens(database, [token_id], expires_at, now)


async def end_tokens(
    database: Database, ended: Sequence[str], expires_at: datetime, now: datetime
) -> None:
    """The same for several, or for what else `identity.lost_groups` calls ended."""
    async with database.transaction() as session:
        await note_ended(session, ended, expires_at, now)


async def note_ended(
    session: AsyncSession, ended: Sequence[str], expires_at: datetime, now: datetime
) -> None:
    """The same for several, in a transaction of this package's; forgets those whose time is
    over."""
    counter = update(Meta).where(col(Meta.key) == _COUNTER)
    raised = counter.values(counter=col(Meta.counter) + len(ended)).returning(col(Meta.counter))
    last = (await session.execute(raised)).scalar_one()
    await session.execute(delete(EndedToken).where(col(EndedToken.expires_at) < now - _KEPT_ON))
    rows = await session.scalars(select(EndedToken).where(col(EndedToken.id).in_(ended)))
    known = {row.id: row for row in rows}
    for number, one in enumerate(ended, start=last - len(ended) + 1):
        row = known.get(one)
        if row is None:
            session.add(EndedToken(id=one, number=number, expires_at=expires_at))
        elif row.expires_at < expires_at:
            row.number, row.expires_at = number, expires_at


async def ended_since(database: Database, number: int) -> list[Ended]:
    """Those after a number, in order, some thousands at a time; 0 begins with all that count."""
    rows = (
        select(col(EndedToken.number), col(EndedToken.id), col(EndedToken.expires_at))
        .where(col(EndedToken.number) > number)
        .order_by(col(EndedToken.number))
        .limit(_AT_ONCE)
    )
    async with database.session() as session:
        return [Ended(*row) for row in (await session.execute(rows)).all()]
