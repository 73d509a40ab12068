"""Passwords: looked at for a login, and changed by their owners: `/auth/password`.

Whether an address belongs to a user is not to be learned here, nor by a login: an unknown one takes
the same path with a dummy hash and gets the same bytes as a wrong password, throttled alike.
"""

import contextlib

from mk8s_proxy.api import schemas
from mk8s_proxy.api.context import ApiContext
from mk8s_proxy.api.endings import end_login
from mk8s_proxy.api.endpoint import Access, Audit, Call, Endpoint, authenticate
from mk8s_proxy.api.errors import ApiError
from mk8s_proxy.db import login_sources, users
from mk8s_proxy.db.errors import NotFound, StoreError
from mk8s_proxy.db.users import UserRecord
from mk8s_proxy.identity.identity import Unauthenticated, is_safe_user_name
from mk8s_proxy.identity.locks import locked
from mk8s_proxy.identity.passwords import TooManyChecks
from mk8s_proxy.identity.throttle import source_key


async def change_password(call: Call) -> None:
    """Change one's own password, which ends all other logins.

    Whoever shows an access token as well stays logged in there.
    """
    body, context = call.read(schemas.ChangePasswordRequest), call.context
    require_passwords(context)
    if body.new_password == body.password:
        raise ApiError.invalid("new_password", "must be another one than before")
    email = users.normal_email(body.email)
    call.actor = email if "@" in email else "(not an email address)"
    async with context.logins.attempt(email, call.source, lambda: is_known(call, email)):
        user = await check_password(call, email, body.password)
    call.actor_id = user.id
    new_hash = await context.passwords.hash(body.new_password)
    call.granted_by = "their own password"
    await call.begin_change()
    ended = await users.change_password(
        context.database,
        user.id,
        user.password_hash or "",
        new_hash,
        context.now(),
        keep=_own_login(call, user),
    )
    for login_id in ended:
        end_login(context, login_id)


def require_passwords(context: ApiContext) -> None:
    """Refuse whoever comes with a password where single sign-on is the only way."""
    if not context.settings.login.passwords:
        message = "logins by password are off here: log in by single sign-on (mk8s login)"
        raise ApiError(403, message, audit_reason="PASSWORDS_OFF")


async def check_password(call: Call, email: str, password: str) -> UserRecord:
    """Return whose password it is; within an attempt of the login queue.

    Raises:
        ApiError: 401, nobody's.
        TooManyChecks, StoreError: It was not looked at.
        Unauthenticated: Theirs, and they are locked: only who knows the password learns of it.
    """
    context, throttle = call.context, call.context.logins.throttle
    try:
        user = await _find(call, email)
        right = await context.passwords.check(password, user.password_hash if user else None)
    except (TooManyChecks, StoreError):  # it was not looked at
        throttle.withdrawn(email, call.source)
        raise
    if user is None or user.disabled or not right:
        raise ApiError(401, "wrong email or password", audit_reason=_why(user))
    throttle.succeeded(email, call.source)
    if told := context.authenticator.locks.words(user.email):
        raise locked(told)
    return user


async def is_known(call: Call, email: str) -> bool:
    """Say whether the account has logged in from there before."""
    if not is_safe_user_name(email):
        return False
    context = call.context
    source = source_key(call.source)
    return await login_sources.is_known(context.database, email, source, context.now())


async def _find(call: Call, email: str) -> UserRecord | None:
    if not is_safe_user_name(email):  # nobody has it, and PostgreSQL refuses to look for a NUL
        return None
    try:
        return await users.get_by_email(call.context.database, email)
    except NotFound:
        return None


def _own_login(call: Call, user: UserRecord) -> str:
    """The login of this user that the request's access token comes of, "" for none."""
    with contextlib.suppress(Unauthenticated):
        identity = authenticate(call)
        if identity.uid == user.id:
            return identity.login
    return ""


def _why(user: UserRecord | None) -> str:
    if user is None:
        return "UNKNOWN_USER"
    return "USER_DISABLED" if user.disabled else "WRONG_PASSWORD"


ENDPOINTS = (
    Endpoint(
        "POST",
        "/auth/password",
        change_password,
        "Change one's own password",
        Access.PUBLIC,
        Audit.OWN_CHANGE,
        request=schemas.ChangePasswordRequest,
        status=204,
        refusals=(401, 403, 409, 429),
        verb="update",
        resource="passwords",
    ),
)
