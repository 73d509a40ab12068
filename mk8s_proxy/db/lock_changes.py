"""Locks made and removed. Called by the API.

Each change raises the policy version, by which all workers and replicas learn of it. Behind that
version's row lock nothing can take away the last account that can administer central.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import delete, func, select
from sqlmodel import col

from mk8s_proxy.db.engine import Database
from mk8s_proxy.db.errors import Conflict, NotFound
from mk8s_proxy.db.locks import (
    CLUSTER,
    GROUP,
    LOGIN,
    ROLE,
    TOKEN,
    USER,
    LockRecord,
    in_force,
    lock_record,
)
from mk8s_proxy.db.logins import lock_login
from mk8s_proxy.db.meta import raise_policy_version
from mk8s_proxy.db.models import (
    Cluster,
    Group,
    GroupMember,
    Lock,
    Login,
    Role,
    ServiceToken,
    User,
    utc_now,
)
from mk8s_proxy.db.roles import ADMIN_ROLE
from mk8s_proxy.db.users import keeping_an_admin, normal_email

MOST: Final = 1000
"""Locks in force: every worker holds them in memory."""


@dataclass(frozen=True, slots=True)
class NewLock:
    """A lock to be made."""

    kind: str
    target: str
    """As `find_target` gives it."""
    reason: str
    created_by: str
    ends_at: datetime | None = None


async def find_target(database: Database, kind: str, key: str) -> str:
    """What a lock on the thing of this name or id has as its target.

    An issuer's group and an access token are not stored, so any name of their form is theirs; the
    caller has checked it.

    Raises:
        NotFound: there is no such thing.
    """
    async with database.session() as session:
        found = await session.scalar(_SEARCHES[kind](key))
    if found is None:
        raise NotFound(_WORDS.get(kind, kind), key)
    return str(found)


async def lock(database: Database, new: NewLock, now: datetime) -> LockRecord:
    """Lock something, beside whatever locks it already; forgets those that have ended.

    Raises:
        Conflict: there are too many locks, or it is the role that unlocks.
        LastAdmin: nobody who can log in as administrator would be left.
    """
    if (new.kind, new.target) == (ROLE, ADMIN_ROLE):
        raise Conflict(f'the role "{ADMIN_ROLE}" cannot be locked: nobody could unlock it')
    row = Lock(
        kind=new.kind,
        target=new.target,
        reason=new.reason,
        created_by=new.created_by,
        created_at=now,
        ends_at=new.ends_at,
    )
    async with database.transaction() as session:
        await raise_policy_version(session)
        await session.execute(delete(Lock).where(~in_force(utc_now())))
        if (await session.scalar(select(func.count()).select_from(Lock)) or 0) >= MOST:
            raise Conflict(f"there are {MOST} locks already: unlock something first")
        if new.kind == LOGIN:  # whoever delegates it now is seen by this lock, or sees it
            await lock_login(session, new.target)
        async with keeping_an_admin(session):
            session.add(row)
    return lock_record(row)


async def unlock(database: Database, lock_id: str) -> LockRecord:
    """Remove a lock; what it was. Raises :class:`NotFound`."""
    async with database.transaction() as session:
        await raise_policy_version(session)
        row = await session.get(Lock, lock_id)
        if row is None:
            raise NotFound("lock", lock_id)
        await session.delete(row)
        return lock_record(row)


async def groups_of(database: Database, user_id: str) -> list[str]:
    """The groups of mk8s that a user is a member of."""
    mine = select(col(GroupMember.group_name)).where(col(GroupMember.user_id) == user_id)
    async with database.session() as session:
        return list((await session.scalars(mine)).all())


_WORDS: Final = {TOKEN: "service token"}
_SEARCHES: Final = {
    USER: lambda key: select(col(User.email)).where(
        (col(User.id) == key) | (col(User.email) == normal_email(key))
    ),
    GROUP: lambda key: select(col(Group.name)).where(col(Group.name) == key),
    ROLE: lambda key: select(col(Role.name)).where(col(Role.name) == key),
    CLUSTER: lambda key: select(col(Cluster.name)).where(
        (col(Cluster.id) == key) | (col(Cluster.name) == key)
    ),
    LOGIN: lambda key: select(col(Login.id)).where(col(Login.id) == key),
    TOKEN: lambda key: select(col(ServiceToken.name)).where(
        (col(ServiceToken.id) == key) | (col(ServiceToken.name) == key)
    ),
}
