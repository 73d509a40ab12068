"""Federation rules, and the logins that they open. Called by the API and the policy's reader.

A rule is also a group, ``federated:RULE``: its roles are read with those of groups (``db.groups``).
A login by a rule ends when what the rule asks of a token changes.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import Select, delete, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from mk8s_proxy.db.ended_tokens import LONGEST_ACCESS
from mk8s_proxy.db.engine import Database
from mk8s_proxy.db.errors import Conflict, NotFound
from mk8s_proxy.db.groups import FEDERATED
from mk8s_proxy.db.logins import FEDERATION, NewLogin, end_within, open_within
from mk8s_proxy.db.meta import raise_policy_version
from mk8s_proxy.db.models import FederationRule, FederationRuleRole, Login, Role, utc_now
from mk8s_proxy.db.revisions import Condition, hold, revision_of
from mk8s_proxy.db.role_names import ids_of_roles

MOST: Final = 1000
"""Rules that there may be: each token of a job is compared with those of its issuer."""
RULE_CHANGED: Final = "rule changed"


@dataclass(frozen=True, slots=True)
class RuleRecord:
    """A rule as stored."""

    name: str
    issuer: str
    claims: Mapping[str, Sequence[str]]
    """Globs, one of which each of these claims must match."""
    roles: tuple[str, ...]
    """In alphabetical order."""
    seconds: int
    """A login by it lasts no longer."""
    created_at: datetime

    @property
    def revision(self) -> str:
        """Changes with everything that can be changed."""
        return revision_of(self.name, self.issuer, self.claims, self.roles, self.seconds)


@dataclass(frozen=True, slots=True)
class WantedRule:
    """A rule as it shall be."""

    name: str
    issuer: str
    claims: Mapping[str, Sequence[str]]
    roles: tuple[str, ...]
    seconds: int


async def list_rules(database: Database) -> list[RuleRecord]:
    """All rules, by name."""
    async with database.session() as session:
        return await _records(session, select(FederationRule).order_by(col(FederationRule.name)))


async def rules_of_issuers(database: Database, issuers: Iterable[str]) -> list[RuleRecord]:
    """The rules about tokens of some issuers, by name."""
    theirs = select(FederationRule).where(col(FederationRule.issuer).in_(list(issuers)))
    async with database.session() as session:
        return await _records(session, theirs.order_by(col(FederationRule.name)))


async def put_rule(
    database: Database, wanted: WantedRule, now: datetime, condition: Condition | None = None
) -> tuple[RuleRecord, list[str]]:
    """Make a rule, or change it.

    Returns:
        The rule, and the logins that have ended because it asks for something else now.

    Raises:
        NotFound: a role does not exist.
        Conflict: there are too many.
        Stale: the condition does not hold.
    """
    try:
        async with database.transaction() as session:
            await hold(session, condition)
            stored = await _find(session, wanted.name)
            if condition is not None:
                condition.check(stored.revision if stored else None)
            if stored and _is_as_wanted(stored, wanted):
                return stored, []
            await raise_policy_version(session)
            ended = await _put(session, stored, wanted, now)
            found = await _find(session, wanted.name)
            assert found is not None
            return found, ended
    except IntegrityError as error:
        raise Conflict(f'the rule "{wanted.name}" was made by somebody else just now') from error


async def delete_rule(
    database: Database, name: str, now: datetime, condition: Condition | None = None
) -> list[str]:
    """Forget a rule. Returns the logins that have ended with it.

    Raises:
        NotFound: no such rule.
        Stale: the condition does not hold.
    """
    async with database.transaction() as session:
        await raise_policy_version(session)
        stored = await _find(session, name)
        if stored is None:
            raise NotFound("federation rule", name)
        if condition is not None:
            condition.check(stored.revision)
        ended = await _end_logins(session, name, now)
        # Its roles go by themselves on PostgreSQL, and by the engine's pragma on SQLite.
        await session.execute(delete(FederationRule).where(col(FederationRule.name) == name))
        return ended


async def open_login(database: Database, new: NewLogin, now: datetime) -> None:
    """Open the login of a job; nothing can prolong it."""
    async with database.transaction() as session:
        await open_within(session, new, now)


async def issuers_of_rules(session: AsyncSession) -> dict[str, str]:
    """The issuer of each rule, for the policy's reader."""
    rules = select(col(FederationRule.name), col(FederationRule.issuer))
    return dict((await session.execute(rules)).all())


async def _put(
    session: AsyncSession, stored: RuleRecord | None, wanted: WantedRule, now: datetime
) -> list[str]:
    ended: list[str] = []
    if stored is None:
        count = await session.scalar(select(func.count()).select_from(FederationRule)) or 0
        if count >= MOST:
            raise Conflict(f"there are {MOST} federation rules already: remove some first")
        rule = FederationRule(name=wanted.name, issuer=wanted.issuer, created_at=utc_now())
        session.add(rule)
    else:
        found = await session.get(FederationRule, wanted.name, populate_existing=True)
        if found is None:
            raise Conflict(f'the rule "{wanted.name}" was removed by somebody else just now')
        rule = found
        if not _asks_the_same(stored, wanted):
            ended = await _end_logins(session, wanted.name, now)
    rule.issuer, rule.seconds = wanted.issuer, wanted.seconds
    rule.claims = {name: list(globs) for name, globs in wanted.claims.items()}
    await session.flush()
    await _give_roles(session, wanted)
    return ended


async def _give_roles(session: AsyncSession, wanted: WantedRule) -> None:
    ids = await ids_of_roles(session, wanted.roles)
    mine = col(FederationRuleRole.rule_name) == wanted.name
    await session.execute(delete(FederationRuleRole).where(mine))
    given = [FederationRuleRole(rule_name=wanted.name, role_id=it) for it in ids.values()]
    session.add_all(given)
    await session.flush()


async def _end_logins(session: AsyncSession, name: str, now: datetime) -> list[str]:
    live = select(col(Login.id), col(Login.groups)).where(
        col(Login.source) == FEDERATION,
        col(Login.ended_at).is_(None),
        col(Login.ends_at) > now - LONGEST_ACCESS,
    )
    group = f"{FEDERATED}{name}"
    ids = [login_id for login_id, groups in await session.execute(live) if group in groups]
    return await end_within(session, ids, RULE_CHANGED, now) if ids else []


def _asks_the_same(stored: RuleRecord, wanted: WantedRule) -> bool:
    return (stored.issuer, _sorted(stored.claims)) == (wanted.issuer, _sorted(wanted.claims))


def _is_as_wanted(stored: RuleRecord, wanted: WantedRule) -> bool:
    same = (set(stored.roles), stored.seconds) == (set(wanted.roles), wanted.seconds)
    return same and _asks_the_same(stored, wanted)


def _sorted(claims: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    return {name: sorted(globs) for name, globs in claims.items()}


async def _find(session: AsyncSession, name: str) -> RuleRecord | None:
    found = select(FederationRule).where(col(FederationRule.name) == name)
    return next(iter(await _records(session, found)), None)


async def _records(session: AsyncSession, wanted: "Select[FederationRule]") -> list[RuleRecord]:
    rules = (await session.scalars(wanted.execution_options(populate_existing=True))).all()
    roles: dict[str, list[str]] = {}
    for rule, role in await session.execute(_ROLES):
        roles.setdefault(rule, []).append(role)
    return [
        RuleRecord(
            it.name, it.issuer, it.claims, tuple(roles.get(it.name, ())), it.seconds, it.created_at
        )
        for it in rules
    ]


_ROLES = (
    select(col(FederationRuleRole.rule_name), col(Role.name))
    .join(Role, col(Role.id) == col(FederationRuleRole.role_id))
    .order_by(col(Role.name))
)
