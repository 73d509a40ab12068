"""Locks: what is shut until somebody opens it, or until its end. For admins.

A lock ends no login: it refuses whoever it means, new requests and open streams alike, until it is
gone. Nobody can lock out the last administrator, or themselves.
"""

import contextlib
import datetime

from mk8s_proxy.api import lock_schemas as schemas
from mk8s_proxy.api import pages
from mk8s_proxy.api.context import ApiContext
from mk8s_proxy.api.endpoint import Access, Audit, Call, Endpoint
from mk8s_proxy.api.errors import ApiError
from mk8s_proxy.api.schemas import Model
from mk8s_proxy.db import lock_changes, locks, users
from mk8s_proxy.db.errors import Conflict, NotFound
from mk8s_proxy.db.lock_changes import NewLock
from mk8s_proxy.db.locks import LockRecord
from mk8s_proxy.identity import refresh
from mk8s_proxy.identity.identity import is_issuers_group
from mk8s_proxy.identity.locks import locked
from mk8s_proxy.identity.service_token import USER_PREFIX

_ITSELF = "this would lock you out yourself: let another administrator do it"


async def list_locks(call: Call) -> Model:
    """List the locks in force."""
    asked, context = call.read_query(schemas.LockQuery), call.context
    found = [
        lock
        for lock in await locks.list_locks(context.database, context.now())
        if asked.kind in (None, lock.kind) and asked.target in (None, lock.target)
    ]
    shown, cursor = pages.cut(call, found, lambda lock: (lock.created_at.isoformat(), lock.id))
    return schemas.LockList(locks=[_shown(lock) for lock in shown], next_cursor=cursor)


async def create_lock(call: Call) -> Model:
    """Lock something: within two seconds nobody whom it means gets anywhere, at no replica."""
    body, context = call.read(schemas.CreateLockRequest), call.context
    call.subject = f"{body.kind}/{body.target}"[:256]
    target = await _target(call, body.kind, body.target)
    call.subject = f"{body.kind}/{target}"[:256]
    await _spare_caller(call, body.kind, target)
    ends = None
    if body.expires_in is not None:
        ends = context.now() + datetime.timedelta(seconds=body.expires_in)
    new = NewLock(body.kind, target, body.reason, call.actor, ends)
    made = await lock_changes.lock(context.database, new, context.now())
    await context.policy_feed.refresh()
    return _shown(made)


async def delete_lock(call: Call) -> None:
    """Unlock what a lock shuts; other locks of it stay."""
    call.subject = call.path["id"][:256]
    gone = await lock_changes.unlock(call.context.database, call.path["id"])
    call.subject = f"{gone.kind}/{gone.target}"[:256]
    await call.context.policy_feed.refresh()


async def require_open(context: ApiContext, refresh_token: str) -> None:
    """Refuse a refresh token of somebody who is locked, before it is used up.

    Raises:
        Unauthenticated: Its user, one of its groups, or its login is.
        RefreshRefused: There is no such token.
    """
    login = await refresh.login_of(context.database, refresh_token)
    with contextlib.suppress(NotFound):  # the exchange itself tells who is gone
        user = await users.get_by_id(context.database, login.subject)
        if told := context.authenticator.locks.words(user.email, login.groups, login.id):
            raise locked(told)


async def _target(call: Call, kind: schemas.Kind, key: str) -> str:
    try:
        return await lock_changes.find_target(call.context.database, kind, key)
    except NotFound as error:
        is_unknown_group = kind == locks.GROUP and is_issuers_group(key)
        is_access_token = kind == locks.TOKEN and schemas.ACCESS_TOKEN.fullmatch(key)
        if is_unknown_group or is_access_token:
            return key
        raise ApiError.invalid("target", str(error)) from None


async def _spare_caller(call: Call, kind: schemas.Kind, target: str) -> None:
    """Refuse a lock on the caller, by any of the names of the caller. Raises :class:`Conflict`."""
    identity, user = call.caller()
    own = {
        locks.USER: [user.email],
        locks.GROUP: list(identity.groups),
        locks.LOGIN: [identity.login],
        locks.TOKEN: [identity.token_id, user.email.removeprefix(USER_PREFIX)],
    }.get(kind, [])
    if kind == locks.GROUP:
        own += await lock_changes.groups_of(call.context.database, user.id)
    if target in own:
        raise Conflict(_ITSELF)


def _shown(lock: LockRecord) -> schemas.Lock:
    return schemas.Lock.model_validate(
        {
            "id": lock.id,
            "kind": lock.kind,
            "target": lock.target,
            "reason": lock.reason,
            "created_by": lock.created_by,
            "created_at": lock.created_at,
            "expires_at": lock.ends_at,
        }
    )


ENDPOINTS = (
    Endpoint(
        "GET",
        "/locks",
        list_locks,
        "List locks",
        Access.ADMIN,
        query=schemas.LockQuery,
        response=schemas.LockList,
    ),
    Endpoint(
        "POST",
        "/locks",
        create_lock,
        "Lock a user, group, role, cluster, login or token",
        Access.ADMIN,
        Audit.CHANGE,
        request=schemas.CreateLockRequest,
        response=schemas.Lock,
        status=201,
        refusals=(409,),
        verb="create",
        resource="locks",
    ),
    Endpoint(
        "DELETE",
        "/locks/{id}",
        delete_lock,
        "Remove a lock",
        Access.ADMIN,
        Audit.CHANGE,
        status=204,
        refusals=(404,),
        verb="delete",
        resource="locks",
    ),
)
