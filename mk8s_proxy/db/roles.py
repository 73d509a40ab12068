"""Roles: named lists of rules. Called by the API, ``init`` and the RBAC file.

The rules are kept as they were written (the ``clusters:`` list of a role); whoever
stores them has them checked by :func:`mk8s_proxy.authz.policy.parse_rbac` first.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from mk8s_proxy.db.engine import Database
from mk8s_proxy.db.errors import Conflict, NotFound
from mk8s_proxy.db.meta import raise_policy_version
from mk8s_proxy.db.models import FederationRuleRole, GroupRole, Role, UserRole
from mk8s_proxy.db.revisions import Condition, hold, revision_of
from mk8s_proxy.db.service_tokens import holders_of

ADMIN_ROLE = "admin"
"""The built-in role that may do everything on every cluster, and administer central.

Acting as somebody else (``--as``) is not part of it: that takes a role that says whom.
"""

ADMIN_RULES: list[dict[str, Any]] = [
    {
        "name": "*",
        "namespaces": ["*"],
        "verbs": ["*"],
        # "*" leaves out subresources, "*/*" the two that give away a node and a credential.
        "resources": ["*", "*/*", "nodes/proxy", "serviceaccounts/token"],
        "nonResourceURLs": ["*"],
    }
]


def as_built_in(name: str, rules: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rules of the built-in role where a role of its name is wanted that says "everything".

    A file may say so in fewer words than `ADMIN_RULES`, which names what "*" leaves out.
    """
    if name != ADMIN_ROLE or any(rule.get("deny") or rule.get("impersonate") for rule in rules):
        return rules
    return ADMIN_RULES if any(map(_is_everything, rules)) else rules


def _is_everything(rule: dict[str, Any]) -> bool:
    wide = (rule.get(key, ()) for key in ("namespaces", "verbs", "resources"))
    is_narrowed = rule.get("labels") or rule.get("names")
    return rule.get("name") == "*" and all("*" in it for it in wide) and not is_narrowed


def built_in_refusal(name: str) -> Conflict:
    """What whoever would change the built-in role is told."""
    return Conflict(
        f'the role "{name}" is built in, may do everything on every cluster and cannot be changed; '
        "give these rules to a role of another name"
    )


@dataclass(frozen=True, slots=True)
class RoleRecord:
    """A role as stored."""

    id: str
    name: str
    rules: list[dict[str, Any]]
    built_in: bool
    limits: dict[str, Any]

    @property
    def revision(self) -> str:
        """Changes with everything that can be changed."""
        return revision_of(self.id, self.rules, self.limits)


async def put_role(
    database: Database,
    name: str,
    rules: list[dict[str, Any]],
    limits: dict[str, Any] | None = None,
    *,
    built_in: bool = False,
    condition: Condition | None = None,
) -> RoleRecord:
    """Create a role or replace its rules and limits. Putting what is there already changes nothing.

    Raises:
        Stale: the condition does not hold.
        Conflict: the role is built in and the caller is not the program itself.
    """
    limits, rules = limits or {}, as_built_in(name, rules)
    try:
        async with database.transaction() as session:
            await hold(session, condition)
            role = await session.scalar(select(Role).where(col(Role.name) == name))
            if condition is not None:
                condition.check(role_record(role).revision if role else None)
            if role is None:
                role = Role(name=name, rules=rules, limits=limits, built_in=built_in)
            elif (role.rules, role.limits) == (rules, limits) and role.built_in >= built_in:
                return role_record(role)
            elif role.built_in and not built_in:
                raise built_in_refusal(name)
            await raise_policy_version(session)
            role.rules, role.limits, role.built_in = rules, limits, built_in
            session.add(role)
    except IntegrityError as error:
        raise Conflict(f'the role "{name}" was created by somebody else just now') from error
    return role_record(role)


async def ensure_admin_role(database: Database) -> RoleRecord:
    """Make sure that the built-in role admin exists with the rules of this version."""
    return await put_role(database, ADMIN_ROLE, ADMIN_RULES, built_in=True)


async def list_roles(database: Database) -> list[RoleRecord]:
    """All roles, by name."""
    async with database.session() as session:
        roles = await session.scalars(select(Role).order_by(col(Role.name)))
        return [role_record(role) for role in roles]


async def get_role(database: Database, name: str) -> RoleRecord:
    """The role with this name. Raises :class:`NotFound`."""
    async with database.session() as session:
        return role_record(await _get(session, name))


async def delete_role(database: Database, name: str, condition: Condition | None = None) -> None:
    """Remove a role that nobody has.

    Raises:
        NotFound: no such role.
        Stale: the condition does not hold.
        Conflict: it is built in, or a user, a service token, a group or a federation rule has it.
    """
    async with database.transaction() as session:
        await raise_policy_version(session)
        role = await _get(session, name)
        if condition is not None:
            condition.check(role_record(role).revision)
        if role.built_in:
            raise Conflict(f'the role "{name}" is built in and cannot be removed')
        holders = select(func.count()).where(col(UserRole.role_id) == role.id)
        count = await session.scalar(holders)
        if count:
            raise Conflict(
                f'the role "{name}" is in use by {count} user(s); take it from them first'
            )
        if tokens := await holders_of(session, role.id):
            raise Conflict(
                f'the role "{name}" is in use by service token(s) {", ".join(tokens[:5])}; '
                "revoke them first"
            )
        if groups := await _groups_with(session, role.id):
            raise Conflict(
                f'the role "{name}" is in use by {", ".join(groups[:5])}; take it from them first'
            )
        await session.delete(role)


async def _groups_with(session: AsyncSession, role_id: str) -> list[str]:
    """The groups and the federation rules that have a role, as a refusal names them."""
    mine = col(GroupRole.role_id) == role_id
    groups = select(col(GroupRole.group_name)).where(mine).order_by(col(GroupRole.group_name))
    rule = col(FederationRuleRole.rule_name)
    rules = select(rule).where(col(FederationRuleRole.role_id) == role_id).order_by(rule)
    return [
        *(f"the group {name}" for name in await session.scalars(groups)),
        *(f"the federation rule {name}" for name in await session.scalars(rules)),
    ]


async def _get(session: AsyncSession, name: str) -> Role:
    role = await session.scalar(select(Role).where(col(Role.name) == name))
    if role is None:
        raise NotFound("role", name)
    return role


def role_record(role: Role) -> RoleRecord:
    """A role as others see it."""
    return RoleRecord(role.id, role.name, role.rules, role.built_in, role.limits)
