"""Logging in and out: `/auth/*` and the public keys.

Whether an address belongs to a user is not to be learned here: an unknown one takes the same path
with a dummy hash and gets the same bytes as a wrong password, and is throttled alike.
"""

import contextlib
import dataclasses
import datetime

from aiohttp import web

from mk8s_proxy.api import federation, schemas
from mk8s_proxy.api.bodies import respond
from mk8s_proxy.api.context import ApiContext
from mk8s_proxy.api.endings import end_access, end_login
from mk8s_proxy.api.endpoint import Access, Audit, Call, Endpoint, authenticate
from mk8s_proxy.api.errors import ApiError
from mk8s_proxy.api.issuer_refresh import groups_now
from mk8s_proxy.api.locks import require_open
from mk8s_proxy.api.narrowings import require_readable, written
from mk8s_proxy.api.passwords import check_password, is_known, require_passwords
from mk8s_proxy.api.visibility import Viewer, viewer_of, visible_cluster, visible_names
from mk8s_proxy.db import ended_tokens, groups, login_sources, logins, users
from mk8s_proxy.db.clusters import ClusterRecord
from mk8s_proxy.db.errors import NotFound
from mk8s_proxy.db.users import UserRecord
from mk8s_proxy.identity import access_token, refresh
from mk8s_proxy.identity.identity import (
    BoundCluster,
    Identity,
    Login,
    Unauthenticated,
)
from mk8s_proxy.identity.locks import LOCKED
from mk8s_proxy.identity.refresh import RefreshRefused, RefreshToken
from mk8s_proxy.identity.throttle import source_key

_MUST_CHANGE = "the password must be changed before you can log in: run mk8s login at a terminal"

JWKS_SECONDS = 300
"""How long others may cache the public keys."""


async def login(call: Call) -> schemas.Model:
    """Exchange a password for tokens."""
    body, context = call.read(schemas.LoginRequest), call.context
    require_passwords(context)
    email = users.normal_email(body.email)
    # A password typed into the wrong field must not reach the log.
    call.actor = email if "@" in email else "(not an email address)"
    async with context.logins.attempt(email, call.source, lambda: is_known(call, email)):
        user = await check_password(call, email, body.password)
    call.actor_id = user.id
    if user.must_change_password:
        raise ApiError(403, _MUST_CHANGE, audit_reason="PASSWORD_MUST_CHANGE")
    await login_sources.note(context.database, user.id, source_key(call.source), context.now())
    token = await refresh.issue(
        context.database,
        user.id,
        lifetime=context.settings.tokens.refresh_seconds,
        now=context.now(),
        client=call.user_agent,
        address=call.source,
    )
    return await answer_tokens(call, user, token, None)


async def refresh_login(call: Call) -> schemas.Model:
    """Exchange a refresh token for the next one and an access token."""
    body, context = call.read(schemas.RefreshRequest), call.context
    cluster: ClusterRecord | None = None
    await require_open(context, body.refresh_token)
    if body.cluster is not None:
        # Before the token is used up: a wrong name must not cost the login.
        call.cluster = call.subject = body.cluster
        cluster = await _require_visible(call, body.refresh_token, body.cluster)
    try:
        token = await refresh.rotate(
            context.database, body.refresh_token, now=context.now(), attempt=body.attempt or ""
        )
    except RefreshRefused as refused:
        call.actor_id = refused.user_id
        if refused.login:  # whoever has a copy of the refresh token may have access tokens, too
            end_login(context, refused.login)
        raise
    user = await _find_by_id(call, token.user_id)
    record = await _proof_of(context, token.login_id)
    if user is None or user.disabled or not _may_go_on(context, user, record):
        await refresh.end(context.database, token.token, now=context.now())
        raise RefreshRefused("USER_DISABLED", token.user_id)
    call.actor, call.actor_id, call.delegate = user.email, user.id, token.delegate
    token = dataclasses.replace(token, groups=await groups_now(context, record))
    return await answer_tokens(call, user, token, cluster)


async def _proof_of(context: ApiContext, login_id: str) -> logins.LoginRecord:
    """The login that a source proved: of a delegation its owner's."""
    login = await logins.get_login(context.database, login_id)
    return await _proof_of(context, login.parent) if login.parent else login


def _may_go_on(context: ApiContext, user: UserRecord, login: logins.LoginRecord) -> bool:
    """What else a login by password needs: that there are any, and one of the user's own."""
    if login.source != logins.PASSWORD:
        return True
    return context.settings.login.passwords and not user.must_change_password


async def cluster_token(call: Call) -> schemas.Model:
    """Exchange an access token for one that is good for one cluster only, and not for longer."""
    context = call.context
    identity, user = call.caller()
    call.cluster = call.subject = call.read(schemas.ClusterTokenRequest).cluster
    cluster = await visible_cluster(context, viewer_of(call), call.cluster)
    left = identity.credential_ends - context.clock()
    lifetime = min(context.settings.tokens.access_seconds, left)
    token, expires = _mint(context, user, cluster, lifetime, identity.of_login)
    return schemas.ClusterTokenResponse(
        token=token,
        access_token=token,
        expires_in=_seconds_until(context, expires),
        expires_at=_date(expires),
        cluster=call.cluster,
    )


async def logout(call: Call) -> None:
    """End a login with all its access tokens, and the one of this request if it bears one.

    It succeeds for a login that ended before, so that it can be repeated.
    """
    body = call.read(schemas.LogoutRequest)
    with contextlib.suppress(Unauthenticated):
        identity = authenticate(call)
        call.actor = identity.user
        await _end_token(call.context, identity)
    try:
        ended, call.actor_id = await refresh.end(
            call.context.database, body.refresh_token, now=call.context.now()
        )
        for login_id in ended:
            end_login(call.context, login_id)
    except RefreshRefused as refused:
        call.reason = refused.reason
        return
    if user := await _find_by_id(call, call.actor_id):
        call.actor = user.email


async def whoami(call: Call) -> schemas.Model:
    """Say who the caller is, by which login, and what clusters are open to the caller."""
    identity, user = call.caller()
    limits = written(identity.narrowing)  # which the door has understood
    return schemas.WhoamiResponse(
        user=schemas.Person(id=user.id, email=user.email, name=user.name),
        roles=list(user.all_roles),
        groups=list(user.groups),
        clusters=sorted(await visible_names(call.context, viewer_of(call))),
        expires_at=_date(identity.credential_ends),
        admin=call.is_admin,
        login=await _login_of(call, identity),
        delegate=identity.delegate or None,
        narrowing=schemas.Narrowing(**limits) if limits else None,
    )


async def jwks(call: Call) -> web.Response:
    """Publish the keys that verify access tokens."""
    response = respond(schemas.JwkSet.model_validate(call.context.keys.jwks()))
    response.headers["Cache-Control"] = f"public, max-age={JWKS_SECONDS}"
    return response


async def _find_by_id(call: Call, user_id: str) -> UserRecord | None:
    try:
        return await users.get_by_id(call.context.database, user_id)
    except NotFound:
        return None


async def _login_of(call: Call, identity: Identity) -> schemas.LoginInfo | None:
    try:
        login = await logins.get_login(call.context.database, identity.login)
    except NotFound:
        return None
    return schemas.LoginInfo(
        id=login.id,
        source=login.source,
        client=login.client,
        opened_at=login.opened_at,
        last_seen=login.last_seen,
        ends_at=login.ends_at,
    )


async def answer_tokens(
    call: Call, user: UserRecord, token: RefreshToken, cluster: ClusterRecord | None
) -> schemas.TokenResponse:
    """Make the answer of a login that was just opened or renewed."""
    context = call.context
    lifetime = context.settings.tokens.access_seconds
    login = Login(
        token.login_id,
        token.expires_at.timestamp(),
        token.groups,
        token.narrowing,
        token.delegate,
    )
    access, expires = _mint(context, user, cluster, lifetime, login)
    asking = await groups.asking(context.database, user, token.groups)
    await _announce(context, access)
    return schemas.TokenResponse(
        token=access,
        access_token=access,
        expires_in=_seconds_until(context, expires),
        expires_at=_date(expires),
        cluster=cluster.name if cluster else None,
        refresh_token=token.token,
        refresh_expires_in=_seconds_until(context, token.expires_at.timestamp()),
        user=schemas.UserSummary(
            id=user.id, email=user.email, name=user.name, roles=list(asking.all_roles)
        ),
    )


async def _require_visible(call: Call, token: str, cluster: str) -> ClusterRecord:
    login = await refresh.login_of(call.context.database, token)
    require_readable(login.narrowing)
    user = await _find_by_id(call, login.subject)
    if user is None or user.disabled:
        raise RefreshRefused("USER_DISABLED", login.subject)
    asking = await groups.asking(call.context.database, user, login.groups)
    return await visible_cluster(call.context, Viewer(asking, login.narrowing), cluster)


async def _announce(context: ApiContext, token: str) -> None:
    """Make sure that the handler chain here accepts a token before its owner can use it.

    Somebody who was created, or changed the password, on another replica a moment ago may not be in
    this one's snapshot yet.
    """
    try:
        context.authenticator.authenticate(f"Bearer {token}".encode())
    except Unauthenticated as refused:
        if refused.reason == LOCKED:  # by a lock that came in between
            raise
        await context.policy_feed.refresh()


def _mint(
    context: ApiContext,
    user: UserRecord,
    cluster: ClusterRecord | None,
    lifetime: float,
    login: Login | None,
) -> tuple[str, float]:
    return access_token.mint(
        context.keys,
        user=user,
        cluster=BoundCluster(cluster.name, cluster.id) if cluster else None,
        issuer=context.settings.public_url,
        lifetime=lifetime,
        now=context.clock(),
        login=login,
    )


async def _end_token(context: ApiContext, identity: Identity) -> None:
    """Refuse one access token here, and wherever its end is read in the database. A service token
    is none, and not its bearer's to end."""
    if not identity.token_id:
        return
    end_access(context, identity.token_id, identity.expires)
    await ended_tokens.end_token(
        context.database, identity.token_id, _date(identity.expires), context.now()
    )


def _seconds_until(context: ApiContext, moment: float) -> int:
    return max(0, int(moment - context.clock()))


def _date(moment: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(moment, datetime.UTC)


ENDPOINTS = (
    Endpoint(
        "POST",
        "/auth/login",
        login,
        "Log in with a password",
        Access.PUBLIC,
        Audit.CREDENTIAL,
        request=schemas.LoginRequest,
        response=schemas.TokenResponse,
        refusals=(401, 403, 429),
        verb="create",
        resource="logins",
    ),
    Endpoint(
        "POST",
        "/auth/refresh",
        refresh_login,
        "Exchange a refresh token for new tokens",
        Access.PUBLIC,
        Audit.CREDENTIAL,
        request=schemas.RefreshRequest,
        response=schemas.TokenResponse,
        refusals=(401, 403, 404),
        verb="update",
        resource="logins",
    ),
    Endpoint(
        "POST",
        "/auth/token",
        cluster_token,
        "Get an access token for one cluster",
        Access.USER,
        Audit.CREDENTIAL,
        request=schemas.ClusterTokenRequest,
        response=schemas.ClusterTokenResponse,
        refusals=(404,),
        verb="create",
        resource="clustertokens",
        otherwise=federation.EXCHANGE,
        delegates=True,
    ),
    Endpoint(
        "POST",
        "/auth/logout",
        logout,
        "End a login",
        Access.PUBLIC,
        Audit.CREDENTIAL,
        request=schemas.LogoutRequest,
        status=204,
        verb="delete",
        resource="logins",
    ),
    Endpoint(
        "GET",
        "/auth/whoami",
        whoami,
        "Say who the caller is",
        Access.USER,
        delegates=True,
        response=schemas.WhoamiResponse,
    ),
    Endpoint(
        "GET",
        "/.well-known/jwks.json",
        jwks,
        "Get the public keys of access tokens",
        Access.PUBLIC,
        response=schemas.JwkSet,
    ),
)
