"""Finding logins: one's own, or for administrators everybody's. Called by the API.

Newest first. A login names its user: a person by email, a service token as policy knows it, also
after it was revoked.
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Select, and_, or_, select
from sqlmodel import col

from mk8s_proxy.db.engine import Database
from mk8s_proxy.db.errors import NotFound
from mk8s_proxy.db.logins import FEDERATION, SERVICE_TOKEN, USER_CLAIM, LoginRecord, login_record
from mk8s_proxy.db.models import Login, User
from mk8s_proxy.db.service_tokens import service_user

Place = tuple[datetime, str]
"""When a login was opened, and its id: pages end there."""


@dataclass(frozen=True, slots=True)
class LoginSearch:
    """Which logins are wanted. All conditions must hold."""

    now: datetime
    subject: str | None = None
    """Whose; None for everybody's."""
    login: str | None = None
    """The id of the only one that is meant."""
    source: str | None = None
    active: bool | None = None
    """Only those that are good now, or only those that have ended."""
    before: Place | None = None
    """Only those that come behind this place."""
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class FoundLogin:
    """A login, and by what name people know who it is for."""

    record: LoginRecord
    user: str
    """"" for somebody who is no user and no service token."""


async def find_logins(database: Database, wanted: LoginSearch) -> list[FoundLogin]:
    """Some logins, newest first."""
    async with database.session() as session:
        rows = (await session.execute(_search(wanted))).all()
    return [FoundLogin(login_record(login), _named(login, email)) for login, email in rows]


async def find_login(database: Database, wanted: LoginSearch) -> FoundLogin:
    """The one login that is wanted. Raises :class:`NotFound`, also for one of somebody else."""
    found = await find_logins(database, wanted)
    if not found:
        raise NotFound("login", wanted.login or "")
    return found[0]


def _named(login: Login, email: str | None) -> str:
    if login.source == SERVICE_TOKEN and login.label:
        return service_user(login.label)
    if login.source == FEDERATION:  # which has no row of a user
        return login.claims.get(USER_CLAIM, "")
    return email or ""


def _search(wanted: LoginSearch) -> "Select[Login, str]":
    found = (
        select(Login, col(User.email))
        .join(User, col(User.id) == col(Login.subject), isouter=True)
        .where(*_conditions(wanted))
    )
    newest_first = (col(Login.opened_at).desc(), col(Login.id).desc())
    return found.order_by(*newest_first).limit(wanted.limit)


def _conditions(wanted: LoginSearch) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    for column, value in (
        (Login.subject, wanted.subject),
        (Login.id, wanted.login),
        (Login.source, wanted.source),
    ):
        if value is not None:
            found.append(col(column) == value)
    if wanted.active is not None:
        found.append(_active(wanted.now) if wanted.active else _over(wanted.now))
    if wanted.before is not None:
        opened, login_id = wanted.before
        same = and_(col(Login.opened_at) == opened, col(Login.id) < login_id)
        found.append(or_(col(Login.opened_at) < opened, same))
    return found


def _active(now: datetime) -> ColumnElement[bool]:
    return and_(col(Login.ended_at).is_(None), col(Login.ends_at) > now)


def _over(now: datetime) -> ColumnElement[bool]:
    return or_(col(Login.ended_at).is_not(None), col(Login.ends_at) <= now)
