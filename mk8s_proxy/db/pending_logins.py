"""Logins on their way through a browser: begun, not finished, and each step good for one use.

Called by the endpoints of single sign-on. A row is known by the hash of a secret that its owner
shows. What is over is deleted whenever a new one begins, and there is a limit for all together,
since anybody may begin one.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from sqlalchemy import delete, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from mk8s_proxy.db.engine import Database
from mk8s_proxy.db.errors import Conflict, NotFound
from mk8s_proxy.db.models import PendingLogin

SSO: Final = "sso"
"""On its way to the issuer; its secret is the parameter state."""
CODE: Final = "code"
"""Back from the issuer; its secret is the code that the CLI exchanges."""
DEVICE: Final = "device"
"""Of a machine without a browser; its secret is the device code."""

MOST: Final = 20_000
"""At a time, of each kind; whoever begins many gets at most half of them, so that a few addresses
cannot keep all others out."""


_AGAIN: Final = "came again"


class TooManyPending(Conflict):
    """More begin than are finished."""


@dataclass(frozen=True, slots=True)
class Pending:
    """One of them."""

    id: str
    kind: str
    expires_at: datetime
    state: dict[str, Any] = field(default_factory=dict, repr=False)
    user_code: str | None = None
    used_at: datetime | None = None


async def begin(
    database: Database, pending: Pending, now: datetime, *, is_one_of_many: bool = False
) -> None:
    """Keep a new one.

    Args:
        database: where they are.
        pending: it.
        now: aware time.
        is_one_of_many: whether who begins it has begun many in these minutes.

    Raises:
        TooManyPending: there are too many of its kind.
        Conflict: somebody else has the user code.
    """
    try:
        async with database.transaction() as session:
            await session.execute(delete(PendingLogin).where(col(PendingLogin.expires_at) < now))
            mine = select(func.count()).where(col(PendingLogin.kind) == pending.kind)
            most = MOST // 2 if is_one_of_many else MOST
            if (await session.scalar(mine) or 0) >= most:
                raise TooManyPending("too many logins have begun: try again in a minute")
            session.add(
                PendingLogin(
                    id=pending.id,
                    kind=pending.kind,
                    user_code=pending.user_code,
                    state=pending.state,
                    expires_at=pending.expires_at,
                )
            )
    except IntegrityError as error:
        raise Conflict("the user code is taken") from error


async def find(database: Database, kind: str, pending_id: str, now: datetime) -> Pending:
    """Look at one, used or not. Raises :class:`NotFound` for one that is unknown or over."""
    async with database.session() as session:
        return _record(_living(await session.get(PendingLogin, pending_id), kind, now))


async def find_by_user_code(database: Database, user_code: str, now: datetime) -> Pending:
    """Look at the one of a user code. Raises :class:`NotFound`."""
    async with database.session() as session:
        row = select(PendingLogin).where(col(PendingLogin.user_code) == user_code)
        return _record(_living(await session.scalar(row), DEVICE, now))


async def use(database: Database, kind: str, pending_id: str, now: datetime) -> Pending:
    """Use one up; `used_at` of what is returned says when it was used before, None for never.

    That it came again is noted, for whoever is at work on its first use at this moment.

    Raises:
        NotFound: it is unknown or over.
    """
    async with database.transaction() as session:
        row = await _locked(session, kind, pending_id, now)
        before = _record(row)
        if row.used_at is None:
            row.used_at = now
        else:
            row.state = {**row.state, _AGAIN: True}
        return before


async def came_again(database: Database, pending_id: str) -> bool:
    """Whether one was used a second time."""
    async with database.session() as session:
        row = await session.get(PendingLogin, pending_id)
    return row is not None and _AGAIN in row.state


async def change(
    database: Database,
    kind: str,
    pending_id: str,
    now: datetime,
    changed: Callable[[dict[str, Any]], dict[str, Any] | None],
) -> dict[str, Any] | None:
    """Replace the state of one that is unused, while nobody else can.

    Args:
        database: where it is.
        kind: what it must be.
        pending_id: which.
        now: aware time.
        changed: gives the next state for the present one; None leaves it as it is.

    Returns:
        The state that was there before, None if there was no change to make.

    Raises:
        NotFound: it is unknown, over or used.
    """
    async with database.transaction() as session:
        row = await _locked(session, kind, pending_id, now)
        if row.used_at is not None:
            raise NotFound("pending login")
        before = dict(row.state)
        after = changed(dict(before))
        if after is None:
            return None
        row.state = after
        return before


async def _locked(session: AsyncSession, kind: str, pending_id: str, now: datetime) -> PendingLogin:
    """The row as it is once nobody else changes it, until this transaction ends."""
    row = select(PendingLogin).where(col(PendingLogin.id) == pending_id)
    locked = row.with_for_update().execution_options(populate_existing=True)
    return _living(await session.scalar(locked), kind, now)


def _living(row: PendingLogin | None, kind: str, now: datetime) -> PendingLogin:
    if row is None or row.kind != kind or row.expires_at <= now:
        raise NotFound("pending login")
    return row


def _record(row: PendingLogin) -> Pending:
    return Pending(row.id, row.kind, row.expires_at, dict(row.state), row.user_code, row.used_at)
