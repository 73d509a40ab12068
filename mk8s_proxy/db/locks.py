"""Locks as they are read: by the policy's reader, and by what must leave an administrator.

A lock is in force until its end, or for good. What makes and removes them is ``db.lock_changes``.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import ColumnElement, exists, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from mk8s_proxy.db.engine import Database
from mk8s_proxy.db.models import GroupMember, Lock, Login, User

USER: Final = "user"
GROUP: Final = "group"
ROLE: Final = "role"
CLUSTER: Final = "cluster"
LOGIN: Final = "login"
TOKEN: Final = "token"
"""Kinds. The target of each is a name, but for a login, which has none, and an access token."""


@dataclass(frozen=True, slots=True)
class LockRecord:
    """A lock as stored."""

    id: str
    kind: str
    target: str
    """A user's email, a group's, role's, cluster's or service token's name, a login's id, or the
    id (claim ``jti``) of an access token."""
    reason: str
    created_by: str
    created_at: datetime
    ends_at: datetime | None
    """None for one that only an unlock ends."""
    covers: tuple[str, ...] = ()
    """Who is meant beside the target: members of a group of mk8s by their email, and logins that
    were delegated by a login. Only for the policy's reader."""


async def list_locks(database: Database, now: datetime) -> list[LockRecord]:
    """Those in force, the oldest first."""
    async with database.session() as session:
        rows = select(Lock).where(in_force(now)).order_by(col(Lock.created_at), col(Lock.id))
        return [lock_record(row) for row in (await session.scalars(rows)).all()]


async def load_locks(session: AsyncSession, now: datetime) -> list[LockRecord]:
    """Those in force with all whom they mean, for the policy's reader."""
    locks = (await session.scalars(select(Lock).where(in_force(now)))).all()
    groups = {lock.target for lock in locks if lock.kind == GROUP}
    logins = {lock.target for lock in locks if lock.kind == LOGIN}
    members = await _members(session, groups) if groups else {}
    delegated = await _delegated(session, logins) if logins else {}
    covers = {GROUP: members, LOGIN: delegated}
    return [lock_record(it, covers.get(it.kind, {}).get(it.target, ())) for it in locks]


def in_force(now: datetime) -> ColumnElement[bool]:
    """The condition that a lock has not ended."""
    return col(Lock.ends_at).is_(None) | (col(Lock.ends_at) > now)


async def is_locked(session: AsyncSession, kind: str, target: str, now: datetime) -> bool:
    """Whether a lock on exactly this is in force."""
    mine = select(col(Lock.id)).where(
        in_force(now), col(Lock.kind) == kind, col(Lock.target) == target
    )
    return await session.scalar(mine.limit(1)) is not None


def is_open(now: datetime, role: str) -> list[ColumnElement[bool]]:
    """The conditions that no lock keeps a user from what a role gives."""
    locked = select(col(Lock.target)).where(in_force(now))
    members = select(col(GroupMember.user_id)).where(
        col(GroupMember.group_name).in_(locked.where(col(Lock.kind) == GROUP))
    )
    role_is_locked = locked.where(col(Lock.kind) == ROLE, col(Lock.target) == role)
    return [
        col(User.email).not_in(locked.where(col(Lock.kind) == USER)),
        col(User.id).not_in(members),
        ~exists(role_is_locked),
    ]


def lock_record(lock: Lock, covers: Iterable[str] = ()) -> LockRecord:
    """A lock as others see it."""
    return LockRecord(
        id=lock.id,
        kind=lock.kind,
        target=lock.target,
        reason=lock.reason,
        created_by=lock.created_by,
        created_at=lock.created_at,
        ends_at=lock.ends_at,
        covers=tuple(covers),
    )


async def _members(session: AsyncSession, groups: set[str]) -> dict[str, list[str]]:
    """Emails by the name of a group of mk8s."""
    rows = (
        select(col(GroupMember.group_name), col(User.email))
        .join(User, col(User.id) == col(GroupMember.user_id))
        .where(col(GroupMember.group_name).in_(groups))
    )
    found: dict[str, list[str]] = {}
    for group, email in await session.execute(rows):
        found.setdefault(group, []).append(email)
    return found


async def _delegated(session: AsyncSession, logins: set[str]) -> dict[str, list[str]]:
    """The logins that were delegated by these, or by such ones."""
    found: dict[str, list[str]] = {}
    root_of = {login: login for login in logins}
    parents = set(logins)
    while parents:
        rows = select(col(Login.parent), col(Login.id)).where(
            col(Login.parent).in_(parents), col(Login.ended_at).is_(None)
        )
        children = [(p, c) for p, c in await session.execute(rows) if c not in root_of]
        for parent, child in children:
            root_of[child] = root_of[parent]
            found.setdefault(root_of[child], []).append(child)
        parents = {child for _, child in children}
    return found
