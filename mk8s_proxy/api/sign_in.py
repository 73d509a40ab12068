"""The way of a person through an issuer, whoever waits for the outcome: a program or a machine.

Used by `sso`, which begins it and is where the browser comes back, by `device` and by the refresh.
A browser that comes back must be the one that was sent away, and each step is good for one use.
"""

import dataclasses
import datetime
import hashlib
import logging
import secrets
import uuid
from typing import Any, Final

from mk8s_proxy.api.browser import Browser
from mk8s_proxy.api.context import ApiContext
from mk8s_proxy.api.endpoint import Call, too_many
from mk8s_proxy.api.errors import ApiError
from mk8s_proxy.api.login import answer_tokens
from mk8s_proxy.api.schemas import Model
from mk8s_proxy.db import logins, pending_logins, upstream_tokens, user_identities, users
from mk8s_proxy.db.errors import NotFound
from mk8s_proxy.db.pending_logins import Pending, TooManyPending
from mk8s_proxy.db.user_identities import Newcomer, UserTaken
from mk8s_proxy.db.users import UserRecord
from mk8s_proxy.identity import refresh
from mk8s_proxy.identity.oidc.errors import Refused, Unreachable
from mk8s_proxy.identity.oidc.provider import Attempt, Provider, Vouched
from mk8s_proxy.identity.throttle import source_key

logger = logging.getLogger("mk8s_proxy.api")

SIGN_IN_SECONDS: Final = 600
"""For a person to log in at the issuer."""
_PLACE: Final = "pending_logins/"

OVER: Final = "this login has ended, was used already, or is of another browser: begin it again"


class IssuerDown(ApiError):
    """Nobody can be let in for now."""


def hashed(secret: str) -> str:
    """What the database knows a secret by: 256 random bits need no slow hash."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def provider_of(context: ApiContext, issuer: str) -> Provider:
    """The provider of this name.

    Raises:
        ApiError: 404, there is none.
    """
    provider = context.issuers.people.get(issuer)
    if provider is None:
        raise ApiError(404, f'there is no issuer "{issuer[:63]}": see GET /auth/methods')
    return provider


async def begin(call: Call, browser: Browser, issuer: str, purpose: dict[str, Any]) -> str:
    """Begin a login at an issuer, and return where the browser goes.

    Args:
        call: The request.
        browser: Who will come back.
        issuer: The name of the provider.
        purpose: What it is for, given back by `come_back`.

    Raises:
        ApiError: The issuer is down, or too many begin.
    """
    context = call.context
    is_one_of_many = count(call)
    attempt = Attempt()
    try:
        url = await provider_of(context, issuer).login_url(attempt)
    except Unreachable as error:
        raise down(error) from None
    state = {
        "issuer": issuer,
        "nonce": attempt.nonce,
        "verifier": attempt.verifier,
        "browser": browser.binding,
        "purpose": purpose,
    }
    new = _pending(context, pending_logins.SSO, attempt.state, state, SIGN_IN_SECONDS)
    await begin_pending(context, new, is_one_of_many=is_one_of_many)
    return url


def count(call: Call) -> bool:
    """Count a login that an address begins, and say whether it begins many.

    Raises:
        ApiError: It begins too many.
    """
    context, source = call.context, source_key(call.source)
    if seconds := context.sign_ins.take(source):
        raise too_many("this address", seconds)
    return context.few_sign_ins.take(source) > 0


async def keep(
    context: ApiContext, kind: str, secret: str, state: dict[str, Any], seconds: int
) -> None:
    """Keep a step, for whoever shows its secret. Raises `ApiError` where there are too many."""
    await begin_pending(context, _pending(context, kind, secret, state, seconds))


def _pending(
    context: ApiContext, kind: str, secret: str, state: dict[str, Any], seconds: int
) -> Pending:
    ends = context.now() + datetime.timedelta(seconds=seconds)
    return Pending(hashed(secret), kind, ends, state)


async def begin_pending(
    context: ApiContext, pending: Pending, *, is_one_of_many: bool = False
) -> None:
    """Store a step. Raises `ApiError` where there are too many."""
    try:
        await pending_logins.begin(
            context.database, pending, context.now(), is_one_of_many=is_one_of_many
        )
    except TooManyPending as error:
        raise ApiError(429, str(error), retry_after=60) from None


async def come_back(call: Call, browser: Browser, issuer: str, state: str) -> dict[str, Any]:
    """Find what a browser that comes back had begun, and use it up.

    Each issuer has an address of its own to send it to: what comes there for the login at another
    one is an answer that was passed on (mix-up).

    Raises:
        ApiError: It had begun nothing that is still open.
    """
    context = call.context
    refusal = ApiError(400, OVER, audit_reason="SIGN_IN_UNKNOWN")
    try:
        step = hashed(state)
        found = await pending_logins.find(context.database, pending_logins.SSO, step, context.now())
        if found.state["issuer"] != issuer or not browser.is_bound(str(found.state["browser"])):
            raise refusal
        used = await pending_logins.use(context.database, pending_logins.SSO, step, context.now())
    except NotFound:
        raise refusal from None
    if used.used_at is not None:
        raise refusal
    return used.state


async def vouched(call: Call, begun: dict[str, Any]) -> Vouched:
    """Exchange what the issuer's answer holds for a person.

    Raises:
        ApiError: The issuer, or what it says, is not good enough.
    """
    assert call.request is not None
    provider = provider_of(call.context, str(begun["issuer"]))
    attempt = Attempt(nonce=begun["nonce"], verifier=begun["verifier"])
    try:
        return await provider.answered(call.request.query, attempt)
    except Refused as error:
        raise ApiError(403, error.message, audit_reason=error.reason) from None
    except Unreachable as error:
        raise down(error) from None


def down(error: Unreachable) -> IssuerDown:
    """Say that an issuer is down: nobody can be let in for now."""
    logger.warning("sso.issuer_down", extra={"why": str(error)})
    return IssuerDown(
        503,
        f"single sign-on does not work for now: {error}",
        audit_reason="ISSUER_DOWN",
        retry_after=10,
    )


async def admit(call: Call, issuer: str, who: Vouched) -> UserRecord:
    """The user that a person is, made at the first login.

    Raises:
        ApiError: The name belongs to somebody else, or the account is disabled.
    """
    context, person = call.context, who.person
    call.actor = call.subject = person.user
    newcomer = Newcomer(issuer, person.subject, person.user, person.name)
    try:
        user_id = await user_identities.admit(context.database, newcomer, context.now())
    except UserTaken as error:
        raise ApiError(403, str(error), audit_reason="USER_TAKEN") from None
    return await living_user(call, user_id)


async def living_user(call: Call, user_id: str) -> UserRecord:
    """The user, who acts from here on.

    Raises:
        ApiError: Gone or disabled.
    """
    try:
        user = await users.get_by_id(call.context.database, user_id)
    except NotFound:
        raise ApiError(403, "this account is gone: ask your admin") from None
    call.actor = call.subject = user.email
    call.actor_id = user.id
    if user.disabled:
        message = "this account is disabled: ask your admin"
        raise ApiError(403, message, audit_reason="USER_DISABLED")
    return user


def opening(context: ApiContext, issuer: str, user: UserRecord, who: Vouched) -> dict[str, Any]:
    """What a login is opened by later, as it can be kept: the issuer's token is sealed."""
    login_id = str(uuid.uuid4())
    sealed = ""
    if who.refresh_token:
        sealed = context.database.vault.seal(_PLACE + login_id, who.refresh_token)
    return {
        "id": login_id,
        "user": user.id,
        "epoch": user.token_epoch,
        "issuer": issuer,
        "subject": who.person.subject,
        "groups": list(who.person.groups),
        "claims": dict(who.person.shown),
        "sealed": sealed,
    }


async def open_login(call: Call, kept: dict[str, Any], *, label: str = "") -> Model:
    """Open the login that `opening` prepared, and answer with its tokens.

    Minutes may have passed: what an administrator took away meanwhile is gone.

    Raises:
        ApiError: The user is gone or disabled by now, or not the issuer's any more.
    """
    context = call.context
    user = await living_user(call, str(kept["user"]))
    await _require_unchanged(context, user, kept)
    sealed = str(kept["sealed"])
    upstream = context.database.vault.open(_PLACE + str(kept["id"]), sealed) if sealed else ""
    lifetime = datetime.timedelta(seconds=context.settings.tokens.refresh_seconds)
    new = logins.NewLogin(
        str(kept["id"]),
        user.id,
        context.now() + lifetime,
        source=logins.OIDC,
        client=call.user_agent,
        issuer=str(kept["issuer"]),
        address=call.source,
        label=label,
        groups=tuple(kept["groups"]),
        claims=dict(kept["claims"]),
    )
    token = await refresh.open_login(context.database, new, now=context.now())
    if upstream:
        await upstream_tokens.keep(context.database, new.id, upstream)
    return await answer_tokens(call, user, dataclasses.replace(token, groups=new.groups), None)


async def _require_unchanged(context: ApiContext, user: UserRecord, kept: dict[str, Any]) -> None:
    issuer, subject = str(kept["issuer"]), str(kept["subject"])
    is_linked = await user_identities.is_linked(context.database, issuer, subject, user.id)
    if not is_linked or user.token_epoch != kept["epoch"]:
        message = "an administrator has ended this login before it began: log in again"
        raise ApiError(403, message, audit_reason="SIGN_IN_ENDED")


def secret() -> str:
    """A secret of 256 random bits."""
    return secrets.token_urlsafe(32)
