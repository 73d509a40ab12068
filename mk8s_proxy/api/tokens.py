"""Service tokens: what jobs show instead of a login. For admins.

`{id}` in a path is the id or the name. The token is shown when it is made, and never again: the
database has its hash. A revocation ends everything that came of it, as a logout does.
"""

import datetime

from mk8s_proxy.api import pages
from mk8s_proxy.api import token_schemas as schemas
from mk8s_proxy.api.conditions import Versioned
from mk8s_proxy.api.context import ApiContext
from mk8s_proxy.api.endings import end_login
from mk8s_proxy.api.endpoint import Access, Audit, Call, Endpoint
from mk8s_proxy.api.errors import ApiError
from mk8s_proxy.api.schemas import Model
from mk8s_proxy.db import service_tokens
from mk8s_proxy.db.errors import NotFound
from mk8s_proxy.db.service_tokens import NewSecret, NewServiceToken, ServiceTokenRecord
from mk8s_proxy.identity.service_token import hash_service_token, new_service_token


async def list_tokens(call: Call) -> Model:
    """List service tokens."""
    asked = call.read_query(schemas.TokenQuery)
    is_named = pages.matcher(asked.name)
    stored = await service_tokens.list_all(call.context.database)
    found = [_shown(call.context, token) for token in stored if is_named(token.name)]
    found = [
        token
        for token in found
        if asked.status in (None, token.status)
        and (asked.role is None or asked.role in token.roles)
    ]
    shown, cursor = pages.cut(call, found, lambda token: (token.name,))
    return schemas.ServiceTokenList(tokens=shown, next_cursor=cursor)


async def create_token(call: Call) -> Model:
    """Make a service token."""
    body, context = call.read(schemas.CreateTokenRequest), call.context
    call.subject = body.name
    new = NewServiceToken(
        body.name, tuple(body.roles), tuple(body.clusters), call.actor, call.actor_id
    )
    token, secret = _secret(call, body.expires_in)
    try:
        made = await service_tokens.create(context.database, new, secret, context.now())
    except NotFound as error:
        raise ApiError.invalid("roles", str(error)) from None
    await context.policy_feed.refresh()
    return _made(context, made, token)


async def get_token(call: Call) -> Versioned:
    """Show one service token."""
    found = await _named(call)
    return Versioned(_shown(call.context, found), found.revision)


async def rotate_token(call: Call) -> Versioned:
    """Give a service token its next secret; the one before stays good for a while."""
    body, context = call.read(schemas.RotateTokenRequest), call.context
    found = await _named(call)
    token, secret = _secret(call, body.expires_in or _life_of(found))
    overlap = datetime.timedelta(seconds=body.overlap)
    rotated, ended = await service_tokens.rotate(
        context.database, found.id, secret, overlap, context.now(), call.condition
    )
    for login in ended:
        end_login(context, login)
    await context.policy_feed.refresh()
    return Versioned(_made(context, rotated, token), rotated.revision)


async def revoke_token(call: Call) -> None:
    """Revoke a service token, with all that came of it."""
    context = call.context
    found = await _named(call)
    ended = await service_tokens.revoke(context.database, found.id, context.now(), call.condition)
    for login in ended:
        end_login(context, login)
    await context.policy_feed.refresh()


async def _named(call: Call) -> ServiceTokenRecord:
    key, database = call.path["id"], call.context.database
    call.subject = key[:256]
    try:
        found = await service_tokens.get_by_name(database, key)
    except NotFound:
        found = await service_tokens.get_by_id(database, key)
    call.subject = found.name
    return found


def _secret(call: Call, seconds: int) -> tuple[str, NewSecret]:
    token = new_service_token()
    ends = call.context.now() + datetime.timedelta(seconds=seconds)
    secret = hash_service_token(token.encode())
    return token, NewSecret(secret, ends, call.user_agent, call.source)


def _life_of(token: ServiceTokenRecord) -> int:
    """For how long its newest secret was made."""
    if not token.logins:  # it expired so long ago that nobody knows
        raise ApiError.invalid("expires_in", "must be given: the token has expired long ago")
    newest = token.logins[0]
    seconds = int((newest.ends_at - newest.opened_at).total_seconds())
    return max(schemas.SHORTEST_SECONDS, seconds)


def _made(context: ApiContext, token: ServiceTokenRecord, secret: str) -> Model:
    shown = _shown(context, token)
    return schemas.MadeServiceToken(token=secret, **shown.model_dump())


def _shown(context: ApiContext, token: ServiceTokenRecord) -> schemas.ServiceToken:
    live = [login for login in token.logins if login.ends_at > context.now()]
    used = [login.last_seen for login in token.logins if login.last_seen > login.opened_at]
    return schemas.ServiceToken(
        id=token.id,
        name=token.name,
        user=service_tokens.service_user(token.name),
        roles=list(token.roles),
        clusters=list(token.clusters),
        status="rotating" if len(live) > 1 else "active" if live else "expired",
        created_by=token.created_by,
        created_at=token.created_at,
        expires_at=max((login.ends_at for login in token.logins), default=None),
        last_used=max(used, default=None),
    )


ENDPOINTS = (
    Endpoint(
        "GET",
        "/tokens",
        list_tokens,
        "List service tokens",
        Access.ADMIN,
        query=schemas.TokenQuery,
        response=schemas.ServiceTokenList,
    ),
    Endpoint(
        "POST",
        "/tokens",
        create_token,
        "Make a service token",
        Access.ADMIN,
        Audit.CHANGE,
        request=schemas.CreateTokenRequest,
        response=schemas.MadeServiceToken,
        status=201,
        refusals=(409,),
        verb="create",
        resource="servicetokens",
    ),
    Endpoint(
        "GET",
        "/tokens/{id}",
        get_token,
        "Show one service token",
        Access.ADMIN,
        response=schemas.ServiceToken,
        refusals=(404,),
    ),
    Endpoint(
        "POST",
        "/tokens/{id}/rotate",
        rotate_token,
        "Give a service token its next secret",
        Access.ADMIN,
        Audit.CHANGE,
        request=schemas.RotateTokenRequest,
        response=schemas.MadeServiceToken,
        conditional=True,
        refusals=(404,),
        verb="update",
        resource="servicetokens",
    ),
    Endpoint(
        "DELETE",
        "/tokens/{id}",
        revoke_token,
        "Revoke a service token",
        Access.ADMIN,
        Audit.CHANGE,
        status=204,
        conditional=True,
        refusals=(404,),
        verb="delete",
        resource="servicetokens",
    ),
)
