"""People and services that may log in, and the roles they have. Called by the API and ``init``.

Nothing here can take away the last account that can log in as administrator: the check runs behind
the policy version's row lock, so two admins who remove each other at the same moment cannot both
succeed. Only who has the role by name counts there: who is in an issuer's group is its word.
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Select, delete, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from mk8s_proxy.db.engine import WAYS_IN, Database, WaysIn
from mk8s_proxy.db.errors import Conflict, LastAdmin, NotFound
from mk8s_proxy.db.locks import is_open
from mk8s_proxy.db.logins import DISABLED, PASSWORD_CHANGED, end_all_within, say_why_within
from mk8s_proxy.db.meta import raise_policy_version
from mk8s_proxy.db.models import Login, Role, User, UserIdentity, UserRole, utc_now
from mk8s_proxy.db.revisions import Condition, hold, revision_of
from mk8s_proxy.db.role_names import ids_of_roles
from mk8s_proxy.db.roles import ADMIN_ROLE


@dataclass(frozen=True, slots=True)
class UserRecord:
    """A user as stored, with the names of the user's roles in alphabetical order."""

    id: str
    email: str
    name: str
    password_hash: str | None
    """None when the user cannot log in with a password."""
    disabled: bool
    token_epoch: int
    """Access tokens carry it; raising it ends all that were issued before."""
    roles: tuple[str, ...]
    created_at: datetime
    must_change_password: bool = False
    """Somebody else knows the password: it is good for its own change only."""
    clusters: tuple[str, ...] = ()
    """Globs of the only clusters where the roles count, as some service tokens have them."""
    groups: tuple[str, ...] = ()
    """Of mk8s, and of the login that asks; only where it is known by which login that is, as are
    their roles."""
    group_roles: tuple[str, ...] = ()

    @property
    def all_roles(self) -> tuple[str, ...]:
        """Those given to the user and those of the groups, in alphabetical order."""
        return tuple(sorted({*self.roles, *self.group_roles}))

    @property
    def administers(self) -> bool:
        """Whether this is somebody who may administer central: on all clusters, or not at all."""
        return not self.clusters and (ADMIN_ROLE in self.roles or ADMIN_ROLE in self.group_roles)

    @property
    def revision(self) -> str:
        """Changes with everything that admins can change; a new password raises the epoch."""
        state = (self.disabled, self.token_epoch, self.must_change_password)
        return revision_of(self.id, self.name, *state, self.roles)


@dataclass(frozen=True, slots=True)
class UserSearch:
    """Which users are wanted. All conditions must hold."""

    name: str | None = None
    """Of the email or the name, in any case of letters; "*" stands for anything."""
    role: str | None = None
    """The name of a role that they have."""
    disabled: bool | None = None
    after: str = ""
    """Only those whose email comes behind this one."""
    limit: int | None = None


def normal_email(email: str) -> str:
    """The one spelling under which an address is stored and found."""
    return email.strip().lower()


async def create_user(
    database: Database,
    email: str,
    name: str,
    password_hash: str | None,
    roles: Iterable[str] = (),
    *,
    must_change: bool = False,
) -> UserRecord:
    """Add a user, who must change the password first if `must_change`.

    Raises:
        Conflict: the email is taken.
        NotFound: a role does not exist.
    """
    user = User(
        email=normal_email(email),
        name=name,
        password_hash=password_hash,
        must_change_password=must_change,
    )
    try:
        async with database.transaction() as session:
            await raise_policy_version(session)
            session.add(user)
            await session.flush()
            given = await give_roles(session, user.id, roles)
    except IntegrityError as error:
        raise Conflict(f'the email "{user.email}" is taken') from error
    return _record(user, given)


async def get_by_email(database: Database, email: str) -> UserRecord:
    """The user with this address, in any case of letters. Raises :class:`NotFound`."""
    async with database.session() as session:
        row = select(User).where(col(User.email) == normal_email(email))
        user = await session.scalar(row)
        if user is None:
            raise NotFound("user", email)
        return _record(user, await names_of_roles(session, user.id))


async def get_by_id(database: Database, user_id: str) -> UserRecord:
    """The user with this identifier. Raises :class:`NotFound`."""
    async with database.session() as session:
        user = await _get(session, user_id)
        return _record(user, await names_of_roles(session, user.id))


async def get_by_key(database: Database, key: str) -> UserRecord:
    """The user with this identifier, address or name, whichever is found first.

    Raises:
        NotFound: nobody has it.
        Conflict: several have it as their name.
    """
    async with database.session() as session:
        for column, value in (("id", key), ("email", normal_email(key)), ("name", key)):
            rows = select(User).where(col(getattr(User, column)) == value).limit(2)
            users = (await session.scalars(rows)).all() if value else ()
            if len(users) > 1:
                raise Conflict(f'several users are called "{key}": use the email or the id')
            if users:
                return _record(users[0], await names_of_roles(session, users[0].id))
    raise NotFound("user", key)


async def list_users(database: Database) -> list[UserRecord]:
    """All users, by email."""
    return await find_users(database, UserSearch())


async def find_users(database: Database, wanted: UserSearch) -> list[UserRecord]:
    """Some users, by email."""
    async with database.session() as session:
        users = (await session.scalars(_search(wanted))).all()
        names: dict[str, list[str]] = {}
        pairs = select(col(UserRole.user_id), col(Role.name)).join_from(
            UserRole, Role, col(Role.id) == col(UserRole.role_id)
        )
        if wanted.limit is not None:
            pairs = pairs.where(col(UserRole.user_id).in_([user.id for user in users]))
        for user_id, role in await session.execute(pairs):
            names.setdefault(user_id, []).append(role)
    return [_record(user, names.get(user.id, ())) for user in users]


def _search(wanted: UserSearch) -> "Select[User]":
    found = select(User).where(col(User.email) > wanted.after).order_by(col(User.email))
    if wanted.name is not None:
        pattern = _like(wanted.name.lower())
        email = func.lower(col(User.email)).like(pattern, escape="\\")
        found = found.where(email | func.lower(col(User.name)).like(pattern, escape="\\"))
    if wanted.role is not None:
        held = select(col(UserRole.user_id)).join(Role, col(Role.id) == col(UserRole.role_id))
        found = found.where(col(User.id).in_(held.where(col(Role.name) == wanted.role)))
    if wanted.disabled is not None:
        found = found.where(col(User.disabled).is_(wanted.disabled))
    return found.limit(wanted.limit)


def _like(glob: str) -> str:
    """A glob, where only "*" means something, for SQL's LIKE."""
    literal = glob.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return literal.replace("*", "%")


async def set_roles(
    database: Database,
    user_id: str,
    role_names: Iterable[str],
    condition: Condition | None = None,
) -> UserRecord:
    """Replace the roles of a user. Setting what is there already changes nothing.

    Raises:
        NotFound: the user or a role does not exist.
        Stale: the condition does not hold.
        LastAdmin: it would take the role admin from the last one who can log in.
    """
    wanted = sorted(set(role_names))
    async with database.transaction() as session:
        await hold(session, condition)
        user = await _get(session, user_id, condition)
        if await names_of_roles(session, user_id) == wanted:
            return _record(user, wanted)
        await raise_policy_version(session)
        async with keeping_an_admin(session):
            await session.execute(delete(UserRole).where(col(UserRole.user_id) == user_id))
            given = await give_roles(session, user_id, wanted)
        return _record(user, given)


async def set_password(
    database: Database,
    user_id: str,
    password_hash: str | None,
    condition: Condition | None = None,
    *,
    must_change: bool = False,
) -> None:
    """Replace the password's hash and end every login made with the old one.

    Raises:
        NotFound: no such user.
        Stale: the condition does not hold.
        LastAdmin: it would take the password from the last admin who has one.
    """
    async with database.transaction() as session:
        await raise_policy_version(session)
        user = await _get(session, user_id, condition)
        async with keeping_an_admin(session):
            user.password_hash = password_hash
            user.must_change_password = must_change
            await _end_logins(session, user, PASSWORD_CHANGED)


async def change_password(
    database: Database, user_id: str, old_hash: str, new_hash: str, now: datetime, *, keep: str = ""
) -> list[str]:
    """Replace a password by its owner's wish, and end the owner's other logins.

    Args:
        database: where they are.
        user_id: whose it is.
        old_hash: that of the password which was shown for it.
        new_hash: that of the next one.
        now: aware time.
        keep: the login that goes on, "" for none.

    Returns:
        The logins that have ended.

    Raises:
        NotFound: no such user.
        Conflict: the password was changed by somebody else just now.
    """
    async with database.transaction() as session:
        await raise_policy_version(session)
        user = await _get(session, user_id)
        if user.password_hash != old_hash:
            raise Conflict("the password was changed by somebody else just now")
        user.password_hash = new_hash
        user.must_change_password = False
        return await end_all_within(session, user_id, PASSWORD_CHANGED, now, but=keep)


async def set_disabled(
    database: Database, user_id: str, disabled: bool, condition: Condition | None = None
) -> None:
    """Shut a user out, or let the user in again. Shutting out ends every login.

    Raises:
        NotFound: no such user.
        Stale: the condition does not hold.
        LastAdmin: it would shut out the last admin.
    """
    async with database.transaction() as session:
        await raise_policy_version(session)
        user = await _get(session, user_id, condition)
        async with keeping_an_admin(session):
            user.disabled = disabled
            if disabled:
                await _end_logins(session, user, DISABLED)


async def delete_user(database: Database, user_id: str, condition: Condition | None = None) -> None:
    """Remove a user with roles and logins; the user's audit rows stay.

    Raises:
        NotFound: no such user.
        Stale: the condition does not hold.
        LastAdmin: it is the last admin.
    """
    async with database.transaction() as session:
        await raise_policy_version(session)
        user = await _get(session, user_id, condition)
        async with keeping_an_admin(session):
            await session.execute(delete(Login).where(col(Login.subject) == user_id))
            await session.delete(user)


async def _get(session: AsyncSession, user_id: str, condition: Condition | None = None) -> User:
    user = await session.get(User, user_id)
    if user is None:
        raise NotFound("user", user_id)
    if condition is not None:
        condition.check(_record(user, await names_of_roles(session, user_id)).revision)
    return user


async def names_of_roles(session: AsyncSession, user_id: str) -> list[str]:
    """The names of a user's roles, sorted. For this package only, as are the two below."""
    names = select(col(Role.name)).join(UserRole, col(Role.id) == col(UserRole.role_id))
    mine = names.where(col(UserRole.user_id) == user_id).order_by(col(Role.name))
    return list((await session.scalars(mine)).all())


async def give_roles(session: AsyncSession, user_id: str, names: Iterable[str]) -> list[str]:
    """Add roles to a user who has none of them. Raises :class:`NotFound` for an unknown role."""
    ids = await ids_of_roles(session, names)
    session.add_all([UserRole(user_id=user_id, role_id=role_id) for role_id in ids.values()])
    await session.flush()
    return list(ids)


async def _end_logins(session: AsyncSession, user: User, why: str) -> None:
    """The epoch is what replicas learn, for tokens of no login, too."""
    user.token_epoch += 1
    await say_why_within(session, user.id, why, utc_now())


@asynccontextmanager
async def keeping_an_admin(session: AsyncSession) -> AsyncIterator[None]:
    """Undo what is changed within, by raising, if it leaves nobody who can log in as administrator.

    Enter it behind the policy version's lock. Where nobody could before, anything is better.

    Raises:
        LastAdmin: nobody enabled and not locked has the role admin and a way in any more.
    """
    somebody_could = await _admins(session)
    yield
    await session.flush()
    if somebody_could and not await _admins(session):
        raise LastAdmin


async def _admins(session: AsyncSession) -> int:
    """How many accounts can log in as administrator."""
    admins = (
        select(func.count())
        .select_from(UserRole)
        .join(Role, col(Role.id) == col(UserRole.role_id))
        .join(User, col(User.id) == col(UserRole.user_id))
        .where(
            col(Role.name) == ADMIN_ROLE,
            col(User.disabled).is_(False),
            _can_log_in(session.info[WAYS_IN]),
            *is_open(utc_now(), ADMIN_ROLE),
        )
    )
    return await session.scalar(admins) or 0


def _can_log_in(ways: WaysIn) -> ColumnElement[bool]:
    linked = select(col(UserIdentity.user_id))
    if ways.issuers is not None:
        linked = linked.where(col(UserIdentity.issuer).in_(ways.issuers))
    vouched_for = col(User.id).in_(linked)
    return vouched_for | col(User.password_hash).is_not(None) if ways.passwords else vouched_for


def _record(user: User, roles: Sequence[str]) -> UserRecord:
    return UserRecord(
        id=user.id,
        email=user.email,
        name=user.name,
        password_hash=user.password_hash,
        disabled=user.disabled,
        token_epoch=user.token_epoch,
        roles=tuple(sorted(roles)),
        created_at=user.created_at,
        must_change_password=user.must_change_password,
    )
