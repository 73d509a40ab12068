"""A whole RBAC file brought into the database: all of it in one transaction, or nothing.

Called by :mod:`mk8s_proxy.process.rbac_file` and the API. What the file does not name stays as it
is.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from mk8s_proxy.db.engine import Database
from mk8s_proxy.db.errors import NotFound
from mk8s_proxy.db.groups import (
    GroupRecord,
    give_roles,
    is_issuers,
    read_groups,
    set_members_within,
)
from mk8s_proxy.db.meta import raise_policy_version
from mk8s_proxy.db.models import Group, Role, User, UserRole, utc_now
from mk8s_proxy.db.revisions import Condition, hold, revision_of
from mk8s_proxy.db.roles import as_built_in, built_in_refusal
from mk8s_proxy.db.users import keeping_an_admin, normal_email


@dataclass(frozen=True, slots=True)
class WantedRole:
    """A role of the file, its rules as they were written."""

    name: str
    rules: list[dict[str, Any]]
    limits: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class WantedUser:
    """A user of the file."""

    email: str
    roles: tuple[str, ...]
    name: str = ""
    """Empty leaves the stored name alone."""


@dataclass(frozen=True, slots=True)
class WantedGroup:
    """A group of the file."""

    name: str
    roles: tuple[str, ...]
    members: tuple[str, ...] | None = None
    """None leaves the stored members alone."""


@dataclass(frozen=True, slots=True)
class Change:
    """What became, or would become, of one entry of the file."""

    kind: Literal["role", "user", "group"]
    name: str
    action: Literal["created", "changed", "unchanged"]
    detail: str = ""

    def __str__(self) -> str:
        tail = f" ({self.detail})" if self.detail else ""
        return f"{self.kind} {self.name}: {self.action}{tail}"


@dataclass(frozen=True, slots=True)
class RbacRows:
    """What is stored, as a file says it; built-in roles are left out."""

    roles: tuple[WantedRole, ...]
    users: tuple[WantedUser, ...]
    groups: tuple[WantedGroup, ...] = ()

    @property
    def revision(self) -> str:
        """Changes with each role, user and group."""
        roles = [(role.name, role.rules, role.limits) for role in self.roles]
        users = [(user.email, user.name, user.roles) for user in self.users]
        return revision_of(roles, users, [(it.name, it.roles, it.members) for it in self.groups])


async def read_rbac(database: Database) -> RbacRows:
    """All roles, users and groups, by name and email."""
    async with database.session() as session:
        return _as_file(await _read(session))


class _Tried(Exception):
    """Ends a dry run's transaction, so that all of it is undone."""


async def apply_rbac(
    database: Database,
    roles: Sequence[WantedRole],
    users: Sequence[WantedUser],
    groups: Sequence[WantedGroup] = (),
    *,
    dry_run: bool = False,
    condition: Condition | None = None,
) -> list[Change]:
    """Create and change roles, users and groups so that they are as wanted; tell what changed.

    A dry run does all of it and then undoes it, so it is refused whenever the change would be.

    Raises:
        Conflict: a built-in role would change, or nobody could log in as administrator any more.
        NotFound: neither the file nor the database has a role or a member that is named.
        Stale: the condition does not hold.
    """
    changes: list[Change] = []
    roles = [replace(role, rules=as_built_in(role.name, role.rules)) for role in roles]
    with suppress(_Tried):
        async with database.transaction() as session:
            await hold(session, condition)
            if condition is not None:
                condition.check(_as_file(await _read(session)).revision)
            changes = _compare(await _read(session), roles, users, groups)
            if all(change.action == "unchanged" for change in changes):
                return changes
            await raise_policy_version(session)
            # What was read before the lock may be old by now.
            session.expire_all()
            stored = await _read(session)
            changes = _compare(stored, roles, users, groups)
            async with keeping_an_admin(session):
                await _put_roles(session, stored, roles)
                await _put_users(session, stored, users)
                await _put_groups(session, stored, groups)
            if dry_run:
                raise _Tried
    return changes


@dataclass(frozen=True, slots=True)
class _Stored:
    """All roles and users as of one moment: a file may name thousands, a query for each is slow."""

    roles: dict[str, Role]
    users: dict[str, User]
    """By email."""
    roles_of: dict[str, set[str]]
    """Role names by user id."""
    groups: dict[str, GroupRecord]


async def _read(session: AsyncSession) -> _Stored:
    roles = {role.name: role for role in await session.scalars(select(Role))}
    users = {user.email: user for user in await session.scalars(select(User))}
    names = {role.id: role.name for role in roles.values()}
    roles_of: dict[str, set[str]] = {user.id: set() for user in users.values()}
    for user_id, role_id in await session.execute(
        select(col(UserRole.user_id), col(UserRole.role_id))
    ):
        roles_of[user_id].add(names[role_id])
    groups = {group.name: group for group in await read_groups(session)}
    return _Stored(roles, users, roles_of, groups)


def _as_file(stored: _Stored) -> RbacRows:
    roles = sorted(stored.roles.values(), key=lambda role: role.name)
    users = sorted(stored.users.values(), key=lambda user: user.email)
    return RbacRows(
        tuple(WantedRole(it.name, it.rules, it.limits) for it in roles if not it.built_in),
        tuple(WantedUser(it.email, tuple(sorted(stored.roles_of[it.id])), it.name) for it in users),
        tuple(
            WantedGroup(it.name, it.roles, None if is_issuers(it.name) else it.members)
            for it in stored.groups.values()
        ),
    )


def _compare(
    stored: _Stored,
    roles: Sequence[WantedRole],
    users: Sequence[WantedUser],
    groups: Sequence[WantedGroup],
) -> list[Change]:
    return [
        *[_compare_role(stored, role) for role in roles],
        *[_compare_user(stored, user) for user in users],
        *[_compare_group(stored, group) for group in groups],
    ]


def _compare_role(stored: _Stored, wanted: WantedRole) -> Change:
    role = stored.roles.get(wanted.name)
    if role is None:
        return Change("role", wanted.name, "created")
    details = []
    if role.rules != wanted.rules:
        details.append(f"{len(role.rules)} rule(s) before, {len(wanted.rules)} now")
    if role.limits != wanted.limits:
        details.append(f"limits: {_limits_text(role.limits)} -> {_limits_text(wanted.limits)}")
    if role.built_in and details:
        raise built_in_refusal(wanted.name)
    return Change("role", wanted.name, "changed" if details else "unchanged", "; ".join(details))


def _compare_user(stored: _Stored, wanted: WantedUser) -> Change:
    email = normal_email(wanted.email)
    user = stored.users.get(email)
    now = sorted(set(wanted.roles))
    if user is None:
        return Change("user", email, "created", f"roles: {_listed(now)}")
    before = sorted(stored.roles_of[user.id])
    details = []
    if before != now:
        details.append(f"roles: {_listed(before)} -> {_listed(now)}")
    if wanted.name and wanted.name != user.name:
        details.append(f"name: {wanted.name}")
    return Change("user", email, "changed" if details else "unchanged", "; ".join(details))


def _compare_group(stored: _Stored, wanted: WantedGroup) -> Change:
    group = stored.groups.get(wanted.name)
    roles, members = sorted(set(wanted.roles)), _members(wanted)
    if group is None:
        listed = f"; members: {_listed(members)}" if members else ""
        return Change("group", wanted.name, "created", f"roles: {_listed(roles)}{listed}")
    details = []
    if list(group.roles) != roles:
        details.append(f"roles: {_listed(group.roles)} -> {_listed(roles)}")
    if members is not None and list(group.members) != members:
        details.append(f"members: {_listed(group.members)} -> {_listed(members)}")
    return Change("group", wanted.name, "changed" if details else "unchanged", "; ".join(details))


def _members(wanted: WantedGroup) -> list[str] | None:
    return None if wanted.members is None else sorted(set(map(normal_email, wanted.members)))


async def _put_roles(session: AsyncSession, stored: _Stored, wanted: Sequence[WantedRole]) -> None:
    for one in wanted:
        role = stored.roles.get(one.name)
        if role is None:
            role = Role(name=one.name, rules=one.rules, limits=one.limits)
            stored.roles[one.name] = role
            session.add(role)
        elif (role.rules, role.limits) != (one.rules, one.limits):
            role.rules, role.limits = one.rules, one.limits
    await session.flush()


async def _put_users(session: AsyncSession, stored: _Stored, wanted: Sequence[WantedUser]) -> None:
    changed: list[tuple[User, set[str]]] = []
    for one in wanted:
        email = normal_email(one.email)
        user = stored.users.get(email)
        if user is None:
            user = stored.users[email] = User(email=email)
            session.add(user)
        user.name = one.name or user.name
        changed.append((user, set(one.roles)))
    await session.flush()
    for user, names in changed:
        await _give(session, stored, user, names)
    await session.flush()


async def _put_groups(
    session: AsyncSession, stored: _Stored, wanted: Sequence[WantedGroup]
) -> None:
    for one in wanted:
        if _compare_group(stored, one).action == "unchanged":
            continue
        if one.name not in stored.groups:
            session.add(Group(name=one.name, created_at=utc_now()))
            await session.flush()
        await give_roles(session, one.name, one.roles)
        if one.members is not None:
            await set_members_within(session, one.name, one.members)


async def _give(session: AsyncSession, stored: _Stored, user: User, names: set[str]) -> None:
    """Make these the roles of a user; of a new one, without asking the database."""
    before = stored.roles_of.get(user.id, set())
    lost = [stored.roles[name].id for name in before - names]
    if lost:
        mine = col(UserRole.user_id) == user.id
        await session.execute(delete(UserRole).where(mine, col(UserRole.role_id).in_(lost)))
    for name in sorted(names - before):
        if name not in stored.roles:
            raise NotFound("role", name)
        session.add(UserRole(user_id=user.id, role_id=stored.roles[name].id))


def _limits_text(limits: dict[str, Any]) -> str:
    return _listed([f"{key} {value}" for key, value in limits.items()])


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"
