"""Refresh tokens: opaque, stored as hashes, good for one use.

Used by the management API. Every use gives a new token of the same login. A token that comes a
second time has two owners, one of them a thief, so the login ends, RFC 9700 section 4.14.2. Its end
was fixed when it was opened: use does not prolong it.

An answer can be lost on its way, and then the right owner comes a second time. A client may say so
in advance: it keeps a random *attempt* beside each token and shows it with each use of that token.
The next token is worked out of both, so the same use again gives the same next token, as long as
that one is unused. Whoever took the token without its attempt, or comes after the next one was
used, is seen as before; whoever took both is seen at the use after, for which each side has an
attempt of its own.
"""

import base64
import dataclasses
import datetime
import hashlib
import hmac
import re
import secrets
import uuid

from mk8s_proxy.db import delegations, logins, tokens
from mk8s_proxy.db.engine import Database
from mk8s_proxy.db.errors import Expired, NotFound, RefreshReused

PREFIX = "mk8s_rt_"
"""Makes a leaked token recognisable for scanners."""

_TOKEN = re.compile(PREFIX + r"[A-Za-z0-9_-]{43}")


_ENDED = "the login has ended: run mk8s login"
_WHY_ENDED = {
    logins.LOGOUT: "the login was ended by a logout",
    logins.REUSED: "the login has ended, since it was used from two places: log in on each "
    "machine instead of copying a login",
    logins.PASSWORD_CHANGED: "the login was ended by a change of the password",
    logins.ISSUER_ENDED: "the login was ended by its issuer",
    logins.DISABLED: "the login was ended when the account was disabled",
    logins.REVOKED: "the login was ended by an administrator",
    logins.ENDED_BY_OWNER: "the login was ended from another one of yours",
    logins.PARENT_ENDED: "the login was ended with the one that it was delegated by",
}
"""By what the login's row says; no word for what earlier versions did not note."""


class RefreshRefused(Exception):
    """The refresh token is not good: 401, log in again.

    Attributes:
        reason: "REFRESH_UNKNOWN", "REFRESH_EXPIRED" or "REFRESH_REUSED", for log and audit. Only
            who showed a token that was good once is told more than that the login has ended.
        user_id: Whose login it was, "" when unknown.
        login: The one that ended because of this, "" when none did.
    """

    def __init__(
        self, reason: str, user_id: str = "", login: str = "", message: str = _ENDED
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.user_id = user_id
        self.login = login


@dataclasses.dataclass(frozen=True, slots=True)
class RefreshToken:
    """A token as it is handed out, once."""

    token: str = dataclasses.field(repr=False)
    user_id: str
    login_id: str
    expires_at: datetime.datetime
    """When the login ends, however often it is used."""
    groups: tuple[str, ...] = ()
    """Of the login's source."""
    narrowing: str = ""
    delegate: str = ""
    """What the delegation is called, "" for a login of one's own."""


async def issue(
    database: Database,
    user_id: str,
    *,
    lifetime: float,
    now: datetime.datetime,
    client: str = "",
    address: str = "",
) -> RefreshToken:
    """Start a login by password that lasts `lifetime` seconds, for the user agent `client` at
    `address`."""
    expires_at = now + datetime.timedelta(seconds=lifetime)
    new = logins.NewLogin(str(uuid.uuid4()), user_id, expires_at, client=client, address=address)
    return await open_login(database, new, now=now)


async def open_login(
    database: Database, new: logins.NewLogin, *, now: datetime.datetime
) -> RefreshToken:
    """Open a login, whatever proved it, and return its first token."""
    token = _random_token()
    await tokens.open_login(database, new, hash_token(token), now)
    return RefreshToken(
        token, new.subject, new.id, new.ends_at, new.groups, new.narrowing, delegate_of(new)
    )


async def open_delegation(
    database: Database, new: logins.NewLogin, *, now: datetime.datetime
) -> RefreshToken:
    """Open a login under its owner's, and return its first token.

    Raises:
        Expired: The owner's login is over.
        Conflict: It has too many of them.
    """
    token = _random_token()
    await delegations.open_delegation(database, new, hash_token(token), now)
    return RefreshToken(
        token, new.subject, new.id, new.ends_at, new.groups, new.narrowing, delegate_of(new)
    )


async def rotate(
    database: Database, token: str, *, now: datetime.datetime, attempt: str = ""
) -> RefreshToken:
    """Use a token up and return the next one of its login.

    Args:
        database: Where tokens are kept.
        token: The one that came.
        now: Aware time.
        attempt: What this use is known by if it has to be repeated; "" for one that never is.

    Raises:
        RefreshRefused: Unknown, expired, or used before; then its login was ended.
    """
    successor = _Successor(token, attempt)
    try:
        used = await tokens.use_refresh(database, hash_token(token), now, successor.name)
        login = used.login
        return RefreshToken(
            successor.token, used.user_id, used.login_id, used.expires_at,
            login.groups, login.narrowing, delegate_of(login),
        )  # fmt: skip
    except RefreshReused as error:
        why = _WHY_ENDED.get(error.ended_before or logins.REUSED, "the login has been ended")
        message = f"{why}: run mk8s login"
        raise RefreshRefused("REFRESH_REUSED", error.user_id, error.login_id, message) from None
    except Expired:
        raise RefreshRefused("REFRESH_EXPIRED") from None
    except NotFound:
        raise RefreshRefused("REFRESH_UNKNOWN") from None


async def end(database: Database, token: str, *, now: datetime.datetime) -> tuple[list[str], str]:
    """End the login that the token belongs to, used up or not.

    Returns:
        The ids of what has ended, its delegations included, and that of its user.

    Raises:
        RefreshRefused: There is no such token.
    """
    login = await login_of(database, token)
    ended = await logins.end_login(database, login.id, logins.LOGOUT, now)
    return ended, login.subject


async def login_of(database: Database, token: str) -> logins.LoginRecord:
    """Return the login that a token is of, without using it up.

    It says nothing about whether the token is still good.

    Raises:
        RefreshRefused: There is no such token.
    """
    try:
        return await tokens.login_of(database, hash_token(token))
    except NotFound:
        raise RefreshRefused("REFRESH_UNKNOWN") from None


def hash_token(token: str) -> str:
    """Return what the database knows a token by. 256 random bits need no slow hash.

    Raises:
        RefreshRefused: It does not look like a token of ours.
    """
    if not _TOKEN.fullmatch(token):
        raise RefreshRefused("REFRESH_UNKNOWN")
    return hashlib.sha256(token.encode()).hexdigest()


def delegate_of(login: logins.NewLogin | logins.LoginRecord) -> str:
    """What tokens and rows call a delegation: its label, and enough of its id to tell it from
    others; "" for a login of one's own."""
    if login.source != logins.DELEGATION:
        return ""
    return f"{login.label}/{login.id[:8]}" if login.label else login.id


class _Successor:
    """The token that follows another one: random, or the same for the same attempt."""

    def __init__(self, token: str, attempt: str) -> None:
        self.token = ""
        self._of = token
        self._attempt = attempt

    def name(self, token_id: str) -> str:
        """Choose the token, given the id of the one before, and return its hash.

        The id is random and never leaves the database: without it nobody can work out a token.
        """
        self.token = self._repeatable(token_id) if self._attempt else _random_token()
        return hash_token(self.token)

    def _repeatable(self, token_id: str) -> str:
        digest = hmac.digest(self._attempt.encode(), f"{token_id} {self._of}".encode(), "sha256")
        return PREFIX + base64.urlsafe_b64encode(digest).decode().rstrip("=")


def _random_token() -> str:
    return PREFIX + secrets.token_urlsafe(32)
