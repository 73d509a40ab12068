"""Logins: what access tokens are minted from, whoever proved who asks.

Called by the stores of the sources (``db.tokens`` for passwords, ``db.service_tokens``), by the API
and by what changes a user. A login ends by itself at ``ends_at``, or is ended before; then all
replicas learn of it (``db.ended_tokens``), and its row stays, so that a late comer is told why.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from mk8s_proxy.db.ended_tokens import LONGEST_ACCESS, note_ended
from mk8s_proxy.db.engine import Database
from mk8s_proxy.db.errors import NotFound
from mk8s_proxy.db.models import Login, PendingLogin

PASSWORD: Final = "password"
SERVICE_TOKEN: Final = "service_token"
OIDC: Final = "oidc"
FEDERATION: Final = "federation"
DELEGATION: Final = "delegation"
"""Sources."""

USER_CLAIM: Final = "user"
"""Among the claims of a login of a job: what it is called here."""

LOGOUT: Final = "logout"
REUSED: Final = "reused"
PASSWORD_CHANGED: Final = "password changed"
DISABLED: Final = "disabled"
REVOKED: Final = "revoked"
ROTATED: Final = "rotated"
PARENT_ENDED: Final = "parent ended"
ISSUER_ENDED: Final = "issuer ended it"
ENDED_BY_OWNER: Final = "ended by its owner"
"""Why one ended before its time."""

_KEPT: Final = timedelta(days=7)
"""After its time; that is longer than any access token lives."""
_LONGEST_CLIENT: Final = 256
_LONGEST_ADDRESS: Final = 64


@dataclass(frozen=True, slots=True)
class LoginRecord:
    """A login as stored."""

    id: str
    """Claim ``sid`` of its access tokens."""
    subject: str
    """Id of the user or the service token."""
    source: str
    client: str
    """The user agent that opened it."""
    opened_at: datetime
    last_seen: datetime
    ends_at: datetime
    ended_at: datetime | None
    """When it was ended before its time."""
    ended_why: str
    issuer: str = ""
    """The configured issuer that vouched, "" for none."""
    address: str = ""
    """Where from it was opened."""
    label: str = ""
    """What its owner calls it."""
    groups: tuple[str, ...] = ()
    """Of its source, as policy knows them."""
    claims: Mapping[str, str] = field(default_factory=dict)
    """What the source said, for people to read."""
    narrowing: str = ""
    """Canonical JSON; "" for a login that may do all that its subject may."""
    parent: str = ""
    """The login that delegated it."""


@dataclass(frozen=True, slots=True)
class NewLogin:
    """A login to be opened."""

    id: str
    subject: str
    ends_at: datetime
    source: str = PASSWORD
    client: str = ""
    issuer: str = ""
    address: str = ""
    label: str = ""
    groups: tuple[str, ...] = ()
    claims: Mapping[str, str] = field(default_factory=dict)
    narrowing: str = ""
    parent: str = ""


async def get_login(database: Database, login_id: str) -> LoginRecord:
    """The login of this id. Raises :class:`NotFound`."""
    async with database.session() as session:
        login = await session.get(Login, login_id)
    if login is None:
        raise NotFound("login", login_id)
    return login_record(login)


async def end_login(database: Database, login_id: str, why: str, now: datetime) -> list[str]:
    """End a login: no refresh token and no access token of it works any more, and all replicas
    learn that. Unknown ones, and those that have ended, are fine.

    Returns:
        Its id, and those of the delegations that end with it.
    """
    async with database.transaction() as session:
        return await end_within(session, [login_id], why, now)


async def delegated_by(database: Database, login_id: str) -> list[str]:
    """The ids of the logins that a login delegated and that were not ended."""
    children = select(col(Login.id)).where(
        col(Login.parent) == login_id, col(Login.ended_at).is_(None)
    )
    async with database.session() as session:
        return list((await session.scalars(children)).all())


async def end_logins_of(
    database: Database, subject: str, why: str, now: datetime, *, but: str = ""
) -> list[str]:
    """End all logins of one user, but one. Returns the ids of those that have ended.

    Those that a browser has vouched for already, and that have not begun, never will.
    """
    async with database.transaction() as session:
        vouched = col(PendingLogin.state)["login"]["user"].as_string() == subject
        await session.execute(delete(PendingLogin).where(vouched))
        return await end_all_within(session, subject, why, now, but=but)


async def note_seen(database: Database, login_ids: Iterable[str], now: datetime) -> None:
    """Note that these logins are in use."""
    ids = sorted(login_ids)
    if not ids:
        return
    async with database.transaction() as session:
        seen = update(Login).where(col(Login.id).in_(ids), col(Login.last_seen) < now)
        await session.execute(seen.values(last_seen=now))


async def open_within(session: AsyncSession, new: NewLogin, now: datetime) -> Login:
    """Open a login in a transaction of this package's; forgets those that ended long ago."""
    old = delete(Login).where(col(Login.ends_at) < now - _KEPT)
    await session.execute(old)
    login = Login(
        id=new.id,
        subject=new.subject,
        source=new.source,
        client=new.client[:_LONGEST_CLIENT],
        opened_at=now,
        last_seen=now,
        ends_at=new.ends_at,
        issuer=new.issuer,
        address=new.address[:_LONGEST_ADDRESS],
        label=new.label,
        groups=list(new.groups),
        claims=dict(new.claims),
        narrowing=new.narrowing,
        parent=new.parent,
    )
    session.add(login)
    await session.flush()
    return login


async def lock_login(session: AsyncSession, login_id: str) -> Login | None:
    """The login as it is once nobody else changes it, until this transaction ends."""
    # PostgreSQL would let an end and a use pass each other without seeing the other's rows. SQLite
    # has one writer and ignores FOR UPDATE. What was read before the wait is read again.
    row = select(Login).where(col(Login.id) == login_id)
    locked = row.with_for_update().execution_options(populate_existing=True)
    return await session.scalar(locked)


async def end_within(
    session: AsyncSession, login_ids: Sequence[str], why: str, now: datetime
) -> list[str]:
    """The same as `end_login`, for several, in a transaction of this package's."""
    # The counter's row first, then the login's: everybody who takes both takes them so.
    await note_ended(session, login_ids, now + LONGEST_ACCESS, now)
    live = update(Login).where(col(Login.id).in_(login_ids), col(Login.ended_at).is_(None))
    await session.execute(live.values(ended_at=now, ended_why=why))
    children = select(col(Login.id)).where(
        col(Login.parent).in_(login_ids), col(Login.ended_at).is_(None)
    )
    if delegated := list((await session.scalars(children)).all()):
        return [*login_ids, *await end_within(session, delegated, PARENT_ENDED, now)]
    return list(login_ids)


async def end_all_within(
    session: AsyncSession, subject: str, why: str, now: datetime, *, but: str = ""
) -> list[str]:
    """End all logins of one user, but one, in a transaction of this package's; their ids."""
    live = select(col(Login.id)).where(
        col(Login.subject) == subject,
        col(Login.ended_at).is_(None),
        col(Login.ends_at) > now - LONGEST_ACCESS,
        col(Login.id) != but,
    )
    ids = list((await session.scalars(live)).all())
    return await end_within(session, ids, why, now) if ids else []


async def say_why_within(session: AsyncSession, subject: str, why: str, now: datetime) -> None:
    """Note in the rows of a user's logins why they have ended, by what replicas learn otherwise."""
    live = update(Login).where(col(Login.subject) == subject, col(Login.ended_at).is_(None))
    await session.execute(live.values(ended_at=now, ended_why=why))


def login_record(login: Login) -> LoginRecord:
    """A login as others see it."""
    return LoginRecord(
        id=login.id,
        subject=login.subject,
        source=login.source,
        client=login.client,
        opened_at=login.opened_at,
        last_seen=login.last_seen,
        ends_at=login.ends_at,
        ended_at=login.ended_at,
        ended_why=login.ended_why,
        issuer=login.issuer,
        address=login.address,
        label=login.label,
        groups=tuple(login.groups),
        claims=login.claims,
        narrowing=login.narrowing,
        parent=login.parent,
    )
