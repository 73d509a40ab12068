"""Logins: everybody sees and ends their own, administrators all.

A login of somebody else looks to others as one that never was. A service token ends none, or an old
secret could end the one that follows it; a job ends its own alone; a delegation ends none, and sees
itself only.
"""

import datetime

from mk8s_proxy.api import login_schemas as schemas
from mk8s_proxy.api import pages
from mk8s_proxy.api.context import ApiContext
from mk8s_proxy.api.endings import end_login
from mk8s_proxy.api.endpoint import Access, Audit, Call, Endpoint
from mk8s_proxy.api.errors import ApiError
from mk8s_proxy.api.narrowings import written
from mk8s_proxy.api.schemas import Model
from mk8s_proxy.db import login_search, logins, service_tokens, users
from mk8s_proxy.db.login_search import FoundLogin, LoginSearch, Place
from mk8s_proxy.db.logins import LoginRecord
from mk8s_proxy.db.roles import ADMIN_ROLE
from mk8s_proxy.db.users import UserRecord
from mk8s_proxy.identity.service_token import USER_PREFIX, is_service_user

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MICROSECOND = datetime.timedelta(microseconds=1)
_OWN = "their own login"
_OF_JOBS = frozenset({logins.SERVICE_TOKEN, logins.FEDERATION})


async def list_logins(call: Call) -> Model:
    """List logins, the newest first: one's own, for admins those of others too."""
    asked, before = call.read_query(schemas.LoginQuery), _place(call)
    identity, _ = call.caller()
    found = await login_search.find_logins(
        call.context.database,
        LoginSearch(
            call.context.now(),
            subject=await _whose(call, asked),
            login=identity.login if identity.delegate else None,
            source=asked.source,
            active=None if asked.status is None else asked.status == "active",
            before=before,
            limit=pages.page_size(call) + 1,
        ),
    )
    shown, cursor = pages.page(call, found, _place_of)
    return schemas.LoginList(logins=[_shown(call, one) for one in shown], next_cursor=cursor)


async def find_for_end(call: Call) -> None:
    """Find the login that shall end, before the row of its end."""
    _, user = call.caller()
    call.subject = call.path["id"][:256]
    _require_may_end(call)
    whose = None if call.is_admin else user.id
    wanted = LoginSearch(call.context.now(), login=call.path["id"], subject=whose)
    found = await login_search.find_login(call.context.database, wanted)
    if found.record.subject == user.id:
        _require_its_own(call, found.record)
        call.granted_by = _OWN
    call.prepared = found


async def end_one_login(call: Call) -> None:
    """End a login, with all that came of it; again is fine."""
    found, context = call.prepared, call.context
    assert isinstance(found, FoundLogin)
    _, user = call.caller()
    record, now = found.record, context.now()
    why = logins.ENDED_BY_OWNER if record.subject == user.id else logins.REVOKED
    if record.source == logins.SERVICE_TOKEN:
        _end_here(context, await service_tokens.end_secret(context.database, record.id, why, now))
        await context.policy_feed.refresh()
    else:
        _end_here(context, await logins.end_login(context.database, record.id, why, now))


async def prepare_own_ends(call: Call) -> None:
    """Say what allows it, before its row."""
    identity, _ = call.caller()
    _require_may_end(call)
    mine = LoginSearch(call.context.now(), login=identity.login)
    for found in await login_search.find_logins(call.context.database, mine):
        if found.record.source in _OF_JOBS:
            raise _not_its_own()
    call.subject, call.granted_by = call.actor, _OWN


async def end_own_logins(call: Call) -> Model:
    """End one's own logins, all but the one of this request; its delegations end, too."""
    asked, context = call.read_query(schemas.EndLoginsQuery), call.context
    identity, user = call.caller()
    kept = "" if asked.this else identity.login
    return await _end_of(context, user, logins.ENDED_BY_OWNER, kept)


async def find_user_for_ends(call: Call) -> None:
    """Find whose logins shall end, before the row of their ends."""
    _require_may_end(call)
    call.subject = call.path["id"][:256]
    found = await users.get_by_key(call.context.database, call.path["id"])
    call.subject, call.prepared = found.email, found


async def end_user_logins(call: Call) -> Model:
    """End all logins of a user, who may log in again."""
    found = call.prepared
    assert isinstance(found, UserRecord)
    return await _end_of(call.context, found, logins.REVOKED)


async def _end_of(context: ApiContext, user: UserRecord, why: str, kept: str = "") -> Model:
    ended = await logins.end_logins_of(context.database, user.id, why, context.now(), but=kept)
    _end_here(context, ended)
    return schemas.EndedLogins(ended=len(ended))


def _end_here(context: ApiContext, ended: list[str]) -> None:
    for login in ended:
        end_login(context, login)


def _require_may_end(call: Call) -> None:
    identity, _ = call.caller()
    if is_service_user(identity.user) and not call.is_admin:
        raise _not_its_own()


def _require_its_own(call: Call, login: LoginRecord) -> None:
    """A job ends no other job, though both have one name; administrators do."""
    identity, _ = call.caller()
    is_this = login.id == identity.login
    if login.source == logins.FEDERATION and not is_this and not call.is_admin:
        raise _not_its_own()


def _not_its_own() -> ApiError:
    return ApiError(403, "a job ends no logins but its own: an administrator ends the others")


async def _whose(call: Call, asked: schemas.LoginQuery) -> str | None:
    """The subject whose logins are wanted, None for everybody."""
    _, user = call.caller()
    if asked.all and asked.user is not None:
        raise ApiError.invalid("all", "stands for everybody: give it, or a user")
    own = asked.user is None or users.normal_email(asked.user) == user.email
    if own and not asked.all:
        return user.id
    if not call.is_admin:
        raise ApiError(403, f'the logins of others need the role "{ADMIN_ROLE}"')
    return None if asked.user is None else await _subject(call.context, asked.user)


async def _subject(context: ApiContext, key: str) -> str:
    if is_service_user(key):
        name = key.removeprefix(USER_PREFIX)
        return (await service_tokens.get_by_name(context.database, name)).id
    return (await users.get_by_key(context.database, key)).id


def _shown(call: Call, found: FoundLogin) -> schemas.LoginEntry:
    identity, _ = call.caller()
    record = found.record
    is_over = record.ended_at is not None or record.ends_at <= call.context.now()
    return schemas.LoginEntry.model_validate(
        {
            "user": found.user,
            "status": "ended" if is_over else "active",
            "claims": dict(record.claims),
            "narrowing": written(record.narrowing),
            "current": record.id == identity.login,
            **{
                name: getattr(record, name)
                for name in schemas.LoginEntry.model_fields
                if name not in {"user", "status", "claims", "narrowing", "current"}
            },
        }
    )


def _place_of(found: FoundLogin) -> tuple[int, str]:
    return (found.record.opened_at - _EPOCH) // _MICROSECOND, found.record.id


def _place(call: Call) -> Place | None:
    place = pages.place_of(call)
    if place is None:
        return None
    microseconds, login_id = place
    return _EPOCH + int(microseconds) * _MICROSECOND, str(login_id)


ENDPOINTS = (
    Endpoint(
        "GET",
        "/logins",
        list_logins,
        "List logins: one's own, for admins all",
        Access.USER,
        delegates=True,
        query=schemas.LoginQuery,
        response=schemas.LoginList,
        refusals=(403, 404, 409),
    ),
    Endpoint(
        "DELETE",
        "/logins",
        end_own_logins,
        "End one's own logins but this one",
        Access.USER,
        Audit.CHANGE,
        query=schemas.EndLoginsQuery,
        response=schemas.EndedLogins,
        refusals=(403,),
        verb="deletecollection",
        resource="logins",
        prepare=prepare_own_ends,
    ),
    Endpoint(
        "DELETE",
        "/logins/{id}",
        end_one_login,
        "End a login: one of one's own, for admins any",
        Access.USER,
        Audit.CHANGE,
        status=204,
        refusals=(403, 404),
        verb="delete",
        resource="logins",
        prepare=find_for_end,
    ),
    Endpoint(
        "DELETE",
        "/users/{id}/logins",
        end_user_logins,
        "End all logins of a user",
        Access.ADMIN,
        Audit.CHANGE,
        response=schemas.EndedLogins,
        refusals=(404, 409),
        verb="deletecollection",
        resource="logins",
        prepare=find_user_for_ends,
    ),
)
