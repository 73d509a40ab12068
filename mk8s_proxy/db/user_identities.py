"""Whom an issuer means: its subject as a user of ours. Called by the endpoints of single sign-on.

An email address alone is no proof: a subject gets the user that its first login made, or one that
an administrator linked. A link may wait for a subject that nobody knows yet: then it is kept under
the email address that the issuer has to vouch for, behind a space, which no subject begins with.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from mk8s_proxy.db.engine import Database
from mk8s_proxy.db.errors import Conflict, NotFound
from mk8s_proxy.db.logins import REVOKED, end_within
from mk8s_proxy.db.meta import raise_policy_version
from mk8s_proxy.db.models import Login, User, UserIdentity
from mk8s_proxy.db.users import keeping_an_admin, normal_email

_NOTED_EVERY: Final = timedelta(hours=1)
"""One in daily use costs few writes."""


class UserTaken(Conflict):
    """The name is that of a user whom this subject is not linked to."""


@dataclass(frozen=True, slots=True)
class Newcomer:
    """Who logs in, as the issuer says."""

    issuer: str
    subject: str
    user: str
    """The name in mk8s."""
    name: str


@dataclass(frozen=True, slots=True)
class IdentityRecord:
    """That an issuer's subject is a user."""

    issuer: str
    subject: str
    """"" for one that is still to come."""
    user_id: str
    last_used: datetime


async def admit(database: Database, who: Newcomer, now: datetime) -> str:
    """Return the id of the user, who is made at the first login.

    Raises:
        UserTaken: the name belongs to a user that is not linked to this subject.
    """
    try:
        return await _admit(database, who, now)
    except (IntegrityError, UserTaken):  # perhaps by the same person, at this moment
        return await _admit(database, who, now)


async def link(database: Database, issuer: str, user_id: str, subject: str, now: datetime) -> None:
    """Say that a subject is this user; without one, whoever proves the user's email address next.

    Raises:
        NotFound: there is no such user.
        Conflict: the subject is another user.
    """
    async with database.transaction() as session:
        user = await session.get(User, user_id)
        if user is None:
            raise NotFound("user", user_id)
        key = subject or _waiting(user.email)
        row = await session.get(UserIdentity, (issuer, key))
        if row is None:
            linked = UserIdentity(issuer=issuer, subject=key, user_id=user_id, created_at=now)
            session.add(linked)
        elif row.user_id != user_id:
            raise Conflict(f"that subject of {issuer} is linked to another user")


async def unlink(database: Database, issuer: str, user_id: str, now: datetime) -> list[str]:
    """Take all subjects of an issuer from a user, and end the logins that they opened.

    Returns:
        The ids of these logins.

    Raises:
        NotFound: there is no link.
        LastAdmin: it is how the last administrator logs in.
    """
    async with database.transaction() as session:
        await raise_policy_version(session)
        rows = await _rows(session, user_id, issuer)
        if not rows:
            raise NotFound("link to the issuer", issuer)
        async with keeping_an_admin(session):
            for row in rows:
                await session.delete(row)
        opened = select(col(Login.id)).where(
            col(Login.subject) == user_id,
            col(Login.issuer) == issuer,
            col(Login.ended_at).is_(None),
        )
        ids = list((await session.scalars(opened)).all())
        return await end_within(session, ids, REVOKED, now) if ids else []


async def is_linked(database: Database, issuer: str, subject: str, user_id: str) -> bool:
    """Whether an issuer's subject is this user."""
    async with database.session() as session:
        row = await session.get(UserIdentity, (issuer, subject))
    return row is not None and row.user_id == user_id


async def identities_of(database: Database, user_id: str) -> list[IdentityRecord]:
    """What a user is linked to."""
    async with database.session() as session:
        return [_record(row) for row in await _rows(session, user_id)]


async def _admit(database: Database, who: Newcomer, now: datetime) -> str:
    async with database.transaction() as session:
        known = await session.get(UserIdentity, (who.issuer, who.subject))
        if known is not None:
            if known.last_used < now - _NOTED_EVERY:
                known.last_used = now
            return known.user_id
        # Locked: a link that waits is for one of two who come at the same moment.
        key = (who.issuer, _waiting(who.user))
        waiting = await session.get(UserIdentity, key, with_for_update=True)
        if waiting is not None:
            user_id = waiting.user_id
            await session.delete(waiting)
        else:
            user_id = await _make(session, who)
        row = UserIdentity(issuer=who.issuer, subject=who.subject, user_id=user_id)
        row.created_at = row.last_used = now
        session.add(row)
        return user_id


async def _make(session: AsyncSession, who: Newcomer) -> str:
    same = select(col(User.id)).where(col(User.email) == normal_email(who.user))
    if await session.scalar(same) is not None:
        raise UserTaken(
            f"{who.user} is a user of mk8s already, and not known to be yours: an administrator "
            f"can link the two (mk8s admin users link {who.user} --issuer {who.issuer})"
        )
    await raise_policy_version(session)
    user = User(email=normal_email(who.user), name=who.name, password_hash=None)
    session.add(user)
    await session.flush()
    return user.id


async def _rows(session: AsyncSession, user_id: str, issuer: str = "") -> list[UserIdentity]:
    mine = select(UserIdentity).where(col(UserIdentity.user_id) == user_id)
    if issuer:
        mine = mine.where(col(UserIdentity.issuer) == issuer)
    ordered = mine.order_by(col(UserIdentity.issuer), col(UserIdentity.subject))
    return list((await session.scalars(ordered)).all())


def _waiting(email: str) -> str:
    return f" {normal_email(email)}"


def _record(row: UserIdentity) -> IdentityRecord:
    subject = "" if row.subject.startswith(" ") else row.subject
    return IdentityRecord(row.issuer, subject, row.user_id, row.last_used)
