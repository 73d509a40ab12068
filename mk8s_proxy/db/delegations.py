"""Logins that a login delegated: opened under it, and ended with it. Called by the API.

A delegation is a row of `logins` like any other, with the same subject as its owner's; what is its
own is the `parent` and the `narrowing`.
"""

from datetime import datetime
from typing import Final

from sqlalchemy import func, select
from sqlmodel import col

from mk8s_proxy.db.engine import Database
from mk8s_proxy.db.errors import Conflict, Expired
from mk8s_proxy.db.locks import LOGIN, is_locked
from mk8s_proxy.db.logins import NewLogin, lock_login, open_within
from mk8s_proxy.db.models import Login, RefreshToken

MOST_OPEN: Final = 50
"""Delegations of one login at a time: a script that makes one for each step must end them."""


async def open_delegation(
    database: Database, new: NewLogin, token_hash: str, now: datetime
) -> None:
    """Open a delegation of the login `new.parent` with its first refresh token.

    Raises:
        Expired: that login is over.
        Conflict: it has as many as it may, or is locked.
    """
    async with database.transaction() as session:
        # Under its lock: whoever ends the login ends those that were opened before, and those that
        # come after see the end.
        require_open(await lock_login(session, new.parent), now)
        if await is_locked(session, LOGIN, new.parent, now):
            raise Conflict("the login that delegates is locked")
        count = select(func.count()).where(
            col(Login.parent) == new.parent,
            col(Login.ended_at).is_(None),
            col(Login.ends_at) > now,
        )
        if (await session.scalar(count) or 0) >= MOST_OPEN:
            raise Conflict(
                f"this login has {MOST_OPEN} open delegations, as many as it may: "
                "end some (mk8s logins list shows them)"
            )
        login = await open_within(session, new, now)
        session.add(RefreshToken(login_id=login.id, token_hash=token_hash, created_at=now))


def require_open(parent: Login | None, now: datetime) -> Login:
    """The login that delegates. Raises :class:`Expired` when it is over."""
    if parent is None or parent.ended_at is not None or parent.ends_at <= now:
        raise Expired("the login that delegates has ended")
    return parent
