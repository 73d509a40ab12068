"""Refresh tokens: opaque, stored as hashes, good for one use.

Used by the management API. Every use gives a new token of the same family (one family is one
login). A token that comes a second time has two owners, one of them a thief, so the family ends,
RFC 9700 section 4.14.2. A login lasts as long as its first token: rotation does not prolong it.
"""

import dataclasses
import datetime
import hashlib
import re
import secrets
import uuid

from mk8s_proxy.db import tokens
from mk8s_proxy.db.engine import Database
from mk8s_proxy.db.errors import Expired, NotFound, RefreshReused

PREFIX = "mk8s_rt_"
"""Makes a leaked token recognisable for scanners."""

_TOKEN = re.compile(PREFIX + r"[A-Za-z0-9_-]{43}")


class RefreshRefused(Exception):
    """The refresh token is not good: 401, log in again.

    Attributes:
        reason: "REFRESH_UNKNOWN", "REFRESH_EXPIRED" or "REFRESH_REUSED", for log and audit. The
            client is told the same in each case.
        user_id: Whose login it was, "" when unknown.
        login: The family that ended because of this, "" when none did.
    """

    def __init__(self, reason: str, user_id: str = "", login: str = "") -> None:
        super().__init__("the login has ended: run mk8s login")
        self.reason = reason
        self.user_id = user_id
        self.login = login


@dataclasses.dataclass(frozen=True, slots=True)
class RefreshToken:
    """A token as it is handed out, once."""

    token: str = dataclasses.field(repr=False)
    user_id: str
    family_id: str
    expires_at: datetime.datetime


async def issue(
    database: Database, user_id: str, *, lifetime: float, now: datetime.datetime
) -> RefreshToken:
    """Start a login that lasts `lifetime` seconds."""
    expires_at = now + datetime.timedelta(seconds=lifetime)
    return await _store(database, user_id, str(uuid.uuid4()), expires_at)


async def rotate(database: Database, token: str, *, now: datetime.datetime) -> RefreshToken:
    """Use a token up and return the next one of its family.

    Raises:
        RefreshRefused: Unknown, expired, or used before; then its family was revoked.
    """
    try:
        used = await tokens.use_refresh(database, hash_token(token), now)
        return await _store(database, used.user_id, used.family_id, used.expires_at)
    except RefreshReused as error:
        raise RefreshRefused("REFRESH_REUSED", error.user_id, error.family_id) from None
    except Expired:
        raise RefreshRefused("REFRESH_EXPIRED") from None
    except NotFound:
        raise RefreshRefused("REFRESH_UNKNOWN") from None


async def end(database: Database, token: str, *, now: datetime.datetime) -> tuple[str, str]:
    """End the login that the token belongs to, used up or not.

    Returns:
        The login's family, and its user's id.

    Raises:
        RefreshRefused: There is no such token.
    """
    family_id, user_id = await _family(database, token)
    await tokens.revoke_family(database, family_id, now=now)
    return family_id, user_id


async def owner(database: Database, token: str) -> str:
    """Return the id of the user whose login it is, without using the token up.

    It says nothing about whether the token is still good.

    Raises:
        RefreshRefused: There is no such token.
    """
    return (await _family(database, token))[1]


def hash_token(token: str) -> str:
    """Return what the database knows a token by. 256 random bits need no slow hash.

    Raises:
        RefreshRefused: It does not look like a token of ours.
    """
    if not _TOKEN.fullmatch(token):
        raise RefreshRefused("REFRESH_UNKNOWN")
    return hashlib.sha256(token.encode()).hexdigest()


async def _family(database: Database, token: str) -> tuple[str, str]:
    try:
        return await tokens.family_of(database, hash_token(token))
    except NotFound:
        raise RefreshRefused("REFRESH_UNKNOWN") from None


async def _store(
    database: Database, user_id: str, family_id: str, expires_at: datetime.datetime
) -> RefreshToken:
    token = PREFIX + secrets.token_urlsafe(32)
    await tokens.store_refresh(
        database,
        family_id=family_id,
        user_id=user_id,
        token_hash=hash_token(token),
        expires_at=expires_at,
    )
    return RefreshToken(token, user_id, family_id, expires_at)
