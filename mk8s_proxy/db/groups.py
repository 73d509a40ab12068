"""Groups that roles are given to. Called by the API, the RBAC file and the policy's reader.

A group of mk8s has a name without ":", and members here. One with ":" is an issuer's
(``ISSUER:group``): it has roles only, since the issuer says at each login who is in it. So no
issuer can put anybody into a group of mk8s, whatever it calls its own.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from sqlalchemy import delete, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from mk8s_proxy.db.engine import Database
from mk8s_proxy.db.errors import Conflict, NotFound
from mk8s_proxy.db.meta import raise_policy_version
from mk8s_proxy.db.models import (
    FederationRuleRole,
    Group,
    GroupMember,
    GroupRole,
    Role,
    User,
    utc_now,
)
from mk8s_proxy.db.revisions import Condition, hold, revision_of
from mk8s_proxy.db.role_names import ids_of_roles
from mk8s_proxy.db.users import UserRecord, keeping_an_admin, normal_email

FEDERATED: Final = "federated:"
"""How the groups begin that federation rules are: a login by such a rule is in its group."""
_OURS: Final = "mk8s:"
"""How those begin that are no groups of a source, but what everybody has."""


@dataclass(frozen=True, slots=True)
class GroupRecord:
    """A group as stored."""

    name: str
    roles: tuple[str, ...]
    """In alphabetical order, as the members."""
    members: tuple[str, ...]
    """Email addresses; none of a group of an issuer."""
    created_at: datetime

    @property
    def revision(self) -> str:
        """Changes with everything that can be changed."""
        return revision_of(self.name, self.roles, self.members)


def is_issuers(name: str) -> bool:
    """Whether the group is one of an issuer, by its name."""
    return ":" in name


async def list_groups(database: Database) -> list[GroupRecord]:
    """All groups, by name."""
    async with database.session() as session:
        return await read_groups(session)


async def read_groups(session: AsyncSession) -> list[GroupRecord]:
    """The same in a transaction of this package's."""
    groups = (await session.scalars(select(Group).order_by(col(Group.name)))).all()
    roles = _by_group(await session.execute(_ROLES))
    members = _by_group(await session.execute(_MEMBERS))
    return [_record(it, roles.get(it.name, ()), members.get(it.name, ())) for it in groups]


async def get_group(database: Database, name: str) -> GroupRecord:
    """The group of this name. Raises :class:`NotFound`."""
    async with database.session() as session:
        group = await session.get(Group, name)
        if group is None:
            raise NotFound("group", name)
        return await _whole(session, group)


async def put_group(
    database: Database,
    name: str,
    *,
    roles: Iterable[str] | None = None,
    members: Iterable[str] | None = None,
    condition: Condition | None = None,
) -> GroupRecord:
    """Replace the roles or members of a group, which is made if there is none; None leaves them.

    Raises:
        NotFound: a role or a user does not exist.
        Stale: the condition does not hold.
        LastAdmin: the group is locked, and the last administrator would be in it.
    """
    try:
        async with database.transaction() as session:
            await hold(session, condition)
            group = await session.get(Group, name)
            stored = await _whole(session, group) if group else None
            if condition is not None:
                condition.check(stored.revision if stored else None)
            if stored and _is_as_wanted(stored, roles, members):
                return stored
            await raise_policy_version(session)
            return await _put(session, name, roles, members)
    except IntegrityError as error:
        raise Conflict(f'the group "{name}" was changed by somebody else just now') from error


async def delete_group(database: Database, name: str, condition: Condition | None = None) -> None:
    """Remove a group; who was in it loses the roles that it gave.

    Raises:
        NotFound: no such group.
        Stale: the condition does not hold.
    """
    async with database.transaction() as session:
        await hold(session, condition)
        group = await session.get(Group, name)
        if group is None:
            raise NotFound("group", name)
        if condition is not None:
            condition.check((await _whole(session, group)).revision)
        await raise_policy_version(session)
        # What belongs to it goes by itself on PostgreSQL, and by the engine's pragma on SQLite.
        await session.execute(delete(Group).where(col(Group.name) == name))


async def give_roles(session: AsyncSession, name: str, roles: Iterable[str]) -> None:
    """Make these the roles of a stored group. For this package only, as is the next one."""
    ids = await ids_of_roles(session, roles)
    await session.execute(delete(GroupRole).where(col(GroupRole.group_name) == name))
    session.add_all([GroupRole(group_name=name, role_id=role_id) for role_id in ids.values()])
    await session.flush()


async def set_members_within(session: AsyncSession, name: str, emails: Iterable[str]) -> None:
    """Make these the members of a stored group. Whoever comes into a locked one is locked, so it is
    called within `keeping_an_admin`."""
    wanted = sorted({normal_email(email) for email in emails})
    known = select(col(User.email), col(User.id)).where(col(User.email).in_(wanted))
    ids = dict((await session.execute(known)).all())
    for email in wanted:
        if email not in ids:
            raise NotFound("user", email)
    await session.execute(delete(GroupMember).where(col(GroupMember.group_name) == name))
    session.add_all([GroupMember(group_name=name, user_id=user_id) for user_id in ids.values()])
    await session.flush()


async def asking(database: Database, user: UserRecord, groups: Sequence[str]) -> UserRecord:
    """A user as a login asks: with the roles of the user's groups and of the login's.

    Args:
        database: where the groups are.
        user: whose login it is.
        groups: those of the login, as its source named them.
    """
    brought = [group for group in groups if is_issuers(group) and not group.startswith(_OURS)]
    mine = select(col(GroupMember.group_name)).where(col(GroupMember.user_id) == user.id)
    async with database.session() as session:
        own = list((await session.scalars(mine)).all())
        named = [*own, *brought]
        roles = await _roles_by(session, named) if named else set()
    return replace(user, groups=(*sorted(own), *brought), group_roles=tuple(sorted(roles)))


async def roles_by_group(session: AsyncSession) -> dict[str, list[str]]:
    """Role names of every group and federation rule, for the policy's reader."""
    roles: dict[str, list[str]] = {}
    for name in await session.scalars(select(col(Group.name))):
        roles[name] = []
    for name, role in await session.execute(_ROLES):
        roles[name].append(role)
    for rule, role in await session.execute(_RULE_ROLES):
        roles.setdefault(f"{FEDERATED}{rule}", []).append(role)
    return roles


async def groups_of_users(session: AsyncSession) -> dict[str, list[str]]:
    """The groups of mk8s that each user is in, by email, for the policy's reader."""
    groups: dict[str, list[str]] = {}
    for name, email in await session.execute(_MEMBERS):
        groups.setdefault(email, []).append(name)
    return groups


async def _roles_by(session: AsyncSession, groups: Sequence[str]) -> set[str]:
    by_group = _ROLES.where(col(GroupRole.group_name).in_(groups))
    rules = [name.removeprefix(FEDERATED) for name in groups if name.startswith(FEDERATED)]
    by_rule = _RULE_ROLES.where(col(FederationRuleRole.rule_name).in_(rules))
    found = (await session.execute(by_group)).all()
    if rules:
        found = [*found, *(await session.execute(by_rule)).all()]
    return {role for _, role in found}


def _is_as_wanted(
    stored: GroupRecord, roles: Iterable[str] | None, members: Iterable[str] | None
) -> bool:
    same_roles = roles is None or set(roles) == set(stored.roles)
    return same_roles and (members is None or set(map(normal_email, members)) == {*stored.members})


async def _put(
    session: AsyncSession, name: str, roles: Iterable[str] | None, members: Iterable[str] | None
) -> GroupRecord:
    # What was read before the lock may be old by now.
    group = await session.get(Group, name, populate_existing=True)
    if group is None:
        group = Group(name=name, created_at=utc_now())
        session.add(group)
        await session.flush()
    if roles is not None:
        await give_roles(session, name, roles)
    if members is not None:
        async with keeping_an_admin(session):
            await set_members_within(session, name, members)
    return await _whole(session, group)


async def _whole(session: AsyncSession, group: Group) -> GroupRecord:
    roles = _ROLES.where(col(GroupRole.group_name) == group.name)
    members = _MEMBERS.where(col(GroupMember.group_name) == group.name)
    return _record(
        group,
        [role for _, role in (await session.execute(roles))],
        [email for _, email in (await session.execute(members))],
    )


def _record(group: Group, roles: Sequence[str], members: Sequence[str]) -> GroupRecord:
    return GroupRecord(group.name, tuple(roles), tuple(members), group.created_at)


def _by_group(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, one in pairs:
        found.setdefault(name, []).append(one)
    return found


_ROLES = (
    select(col(GroupRole.group_name), col(Role.name))
    .join(Role, col(Role.id) == col(GroupRole.role_id))
    .order_by(col(Role.name))
)
_MEMBERS = (
    select(col(GroupMember.group_name), col(User.email))
    .join(User, col(User.id) == col(GroupMember.user_id))
    .order_by(col(User.email))
)
_RULE_ROLES = (
    select(col(FederationRuleRole.rule_name), col(Role.name))
    .join(Role, col(Role.id) == col(FederationRuleRole.role_id))
    .order_by(col(Role.name))
)
