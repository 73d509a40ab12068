"""A whole RBAC file brought into the database: all of it in one transaction, or nothing.

Called by :mod:`mk8s_proxy.rbac_file`. What the file does not name stays as it is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from mk8s_proxy.db.engine import Database
from mk8s_proxy.db.errors import Conflict
from mk8s_proxy.db.meta import raise_policy_version
from mk8s_proxy.db.models import Role, User, UserRole
from mk8s_proxy.db.roles import ADMIN_ROLE
from mk8s_proxy.db.users import give_roles, names_of_roles, normal_email, refuse_without_admin


@dataclass(frozen=True, slots=True)
class WantedRole:
    """A role of the file, its rules as they were written."""

    name: str
    rules: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class WantedUser:
    """A user of the file."""

    email: str
    roles: tuple[str, ...]
    name: str = ""
    """Empty leaves the stored name alone."""


@dataclass(frozen=True, slots=True)
class Change:
    """What became, or would become, of one entry of the file."""

    kind: Literal["role", "user"]
    name: str
    action: Literal["created", "changed", "unchanged"]
    detail: str = ""

    def __str__(self) -> str:
        tail = f" ({self.detail})" if self.detail else ""
        return f"{self.kind} {self.name}: {self.action}{tail}"


async def apply_rbac(
    database: Database,
    roles: Sequence[WantedRole],
    users: Sequence[WantedUser],
    *,
    dry_run: bool = False,
) -> list[Change]:
    """Create and change roles and users so that they are as wanted, and tell what changed.

    Raises:
        Conflict: a built-in role would change, or the last admin would lose the role admin.
        NotFound: a user is to have a role that neither the file nor the database has.
    """
    async with database.transaction() as session:
        changes = await _compare(session, roles, users)
        if dry_run or all(change.action == "unchanged" for change in changes):
            return changes
        await raise_policy_version(session)
        # What was read before the lock may be old by now.
        session.expire_all()
        changes = await _compare(session, roles, users)
        had_admin = await _has_admin(session)
        for role in roles:
            await _put_role(session, role)
        await session.flush()
        for user in users:
            await _put_user(session, user)
        if had_admin:
            await refuse_without_admin(session)
        return changes


async def _compare(
    session: AsyncSession, roles: Sequence[WantedRole], users: Sequence[WantedUser]
) -> list[Change]:
    return [
        *[await _compare_role(session, role) for role in roles],
        *[await _compare_user(session, user) for user in users],
    ]


async def _compare_role(session: AsyncSession, wanted: WantedRole) -> Change:
    stored = await _role(session, wanted.name)
    if stored is None:
        return Change("role", wanted.name, "created")
    if stored.built_in:
        raise Conflict(f'the role "{wanted.name}" is built in and cannot be changed')
    same = stored.rules == wanted.rules
    detail = "" if same else f"{len(stored.rules)} rule(s) before, {len(wanted.rules)} now"
    return Change("role", wanted.name, "unchanged" if same else "changed", detail)


async def _compare_user(session: AsyncSession, wanted: WantedUser) -> Change:
    email = normal_email(wanted.email)
    stored = await _user(session, email)
    now = sorted(set(wanted.roles))
    if stored is None:
        return Change("user", email, "created", f"roles: {_listed(now)}")
    before = await names_of_roles(session, stored.id)
    details = []
    if before != now:
        details.append(f"roles: {_listed(before)} -> {_listed(now)}")
    if wanted.name and wanted.name != stored.name:
        details.append(f"name: {wanted.name}")
    return Change("user", email, "changed" if details else "unchanged", "; ".join(details))


async def _put_role(session: AsyncSession, wanted: WantedRole) -> None:
    stored = await _role(session, wanted.name)
    if stored is None:
        session.add(Role(name=wanted.name, rules=wanted.rules))
    elif stored.rules != wanted.rules:
        stored.rules = wanted.rules


async def _put_user(session: AsyncSession, wanted: WantedUser) -> None:
    email = normal_email(wanted.email)
    stored = await _user(session, email)
    if stored is None:
        stored = User(email=email)
        session.add(stored)
        await session.flush()
    stored.name = wanted.name or stored.name
    await session.execute(delete(UserRole).where(col(UserRole.user_id) == stored.id))
    await give_roles(session, stored.id, wanted.roles)


async def _has_admin(session: AsyncSession) -> bool:
    holder = select(col(UserRole.user_id)).join(Role, col(Role.id) == col(UserRole.role_id))
    return await session.scalar(holder.where(col(Role.name) == ADMIN_ROLE)) is not None


async def _role(session: AsyncSession, name: str) -> Role | None:
    return await session.scalar(select(Role).where(col(Role.name) == name))


async def _user(session: AsyncSession, email: str) -> User | None:
    return await session.scalar(select(User).where(col(User.email) == email))


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"
