"""Access tokens: minted for a login, verified for each request.

RS256 and nothing else. `mint` is called by the management API, `TokenAuthenticator` by the
handler chain and the API alike, so that there is one verification for every entrance.
A token has the header `{"alg": "RS256", "kid": ..., "typ": "JWT"}` and no other field; anything
that would bring its own key or rules (jku, x5u, jwk, x5c, crit) is refused before any signature
is looked at (RFC 8725 sections 3.1, 3.5 and 3.10).
"""

import binascii
import json
import re
import secrets
import time
from collections.abc import Callable
from typing import Any, Protocol

import jwt

from mk8s_proxy.identity.identity import (
    CLUSTER_NAME,
    USERS_GROUP,
    BoundCluster,
    Identity,
    Login,
    Unauthenticated,
    is_safe_user_name,
)
from mk8s_proxy.identity.signing_keys import KEY_ID, SigningKey, SigningKeys

__all__ = ["AUDIENCE", "LEEWAY", "SigningKey", "SigningKeys", "TokenAuthenticator", "mint"]

AUDIENCE = "mk8s"
"""Claim aud of every access token: not good for any other program that trusts our keys."""

LEEWAY = 30.0
"""Seconds by which the clocks of two replicas may differ, for exp, nbf and iat."""

LONGEST_TOKEN_BYTES = 8192
"""Ours are about 800 bytes; longer ones are refused unread."""

CACHE_SIZE = 16384
"""Verified tokens kept, about 2.5 KiB each; the oldest go first."""

REVOKED_SIZE = 65536
"""Ids of revoked tokens and ended logins, kept until the last such token has expired anyway."""

_COMPACT = re.compile(rb"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_HEADER_FIELDS = frozenset({"alg", "kid", "typ"})
_REQUIRED_CLAIMS = ["iss", "aud", "sub", "jti", "iat", "nbf", "exp"]


class TokenUser(Protocol):
    """The part of a user's record that goes into a token."""

    @property
    def id(self) -> str:
        """Claim sub."""

    @property
    def email(self) -> str:
        """Claim email, the user name everywhere."""

    @property
    def name(self) -> str:
        """Claim name, for people."""

    @property
    def token_epoch(self) -> int:
        """Claim epoch: the tokens of earlier epochs are refused."""


class TokenUsers(Protocol):
    """Whom tokens may still speak for; `directory.UserDirectory` is one."""

    @property
    def generation(self) -> int:
        """Grows with every change that could turn a good token into a bad one."""

    def __call__(self, uid: str) -> int | None:
        """Return the token epoch of the user, None when deleted or disabled."""


def mint(
    keys: SigningKeys,
    *,
    user: TokenUser,
    cluster: BoundCluster | None,
    issuer: str,
    lifetime: float,
    now: float,
    login: Login | None = None,
) -> tuple[str, float]:
    """Sign a token for the user, bound to `cluster` unless that is None.

    Args:
        keys: The active one signs.
        user: Whom the token speaks for.
        cluster: The only cluster the token will be good for.
        issuer: Claim iss, the public URL of this central.
        lifetime: Seconds from `now`.
        now: Epoch seconds.
        login: Claims sid and sid_exp, the login that the token comes of and ends with.

    Returns:
        The token, and its end in epoch seconds.

    Raises:
        LookupError: There is no signing key.
    """
    key = keys.signing(now)
    issued, expires = int(now), int(now + lifetime)
    claims: dict[str, Any] = {
        "iss": issuer,
        "aud": AUDIENCE,
        "sub": user.id,
        "email": user.email,
        "name": user.name,
        "jti": secrets.token_urlsafe(16),
        "iat": issued,
        "nbf": issued,
        "exp": expires,
        "epoch": user.token_epoch,
    }
    if cluster is not None:
        claims |= {"cluster": cluster.name, "cluster_id": cluster.id}
    if login is not None:
        claims |= {"sid": login.id, "sid_exp": int(login.ends)}
    token = jwt.encode(claims, key.private_key, algorithm="RS256", headers={"kid": key.kid})
    return token, float(expires)


class TokenAuthenticator:
    """Verifies `Authorization` values, remembering those already verified.

    Not thread-safe: it belongs to one event loop. A hit costs one lookup and a few
    comparisons; expiry, revocation, retired keys and changed users are looked at on each hit.
    """

    def __init__(
        self,
        keys: SigningKeys,
        *,
        issuer: str,
        valid_epochs: TokenUsers,
        clock: Callable[[], float] = time.time,
        cache_size: int = CACHE_SIZE,
    ) -> None:
        self._keys = keys
        self._issuer = issuer
        self._valid_epochs = valid_epochs
        self._clock = clock
        self._cache_size = cache_size
        self._cache: dict[bytes, tuple[Identity, int]] = {}
        self._revoked: dict[str, float] = {}
        self._generation = 0

    def authenticate(self, authorization: bytes) -> Identity:
        """Return who sent this `Authorization` value; equal values may give one object.

        Raises:
            Unauthenticated: No token, or one that is not valid now.
        """
        found = self._cache.get(authorization)
        if found is not None:
            if self.vouches(found[0], found[1]):
                return found[0]
            del self._cache[authorization]
        identity = self._verify(_bearer(authorization))
        if found is not None:
            identity = found[0]  # the same bytes say the same: keep what was derived from them
        self._remember(authorization, identity)
        return identity

    def revoke(self, ended: str, expires: float) -> None:
        """Refuse the token with this jti, or all tokens of the login with this sid.

        Kept until `expires` (epoch seconds), when they are dead anyway. Other processes read it in
        the database, those of this machine are told at once.
        """
        now = self._clock()
        self._revoked = {
            known: end for known, end in self._revoked.items() if end + LEEWAY > now
        } | {ended: expires}
        while len(self._revoked) > REVOKED_SIZE:
            del self._revoked[next(iter(self._revoked))]
        self._generation += 1

    def __len__(self) -> int:
        """Return how many verified tokens are remembered."""
        return len(self._cache)

    def _remember(self, authorization: bytes, identity: Identity) -> None:
        self._cache.pop(authorization, None)
        while len(self._cache) >= self._cache_size:
            del self._cache[next(iter(self._cache))]
        self._cache[authorization] = (identity, self.stamp)

    @property
    def stamp(self) -> int:
        """A number that grows when any verified token may have become bad."""
        return self._generation + self._keys.generation + self._valid_epochs.generation

    def vouches(self, identity: Identity, stamp: int) -> bool:
        """Say whether an identity that was good at `stamp` is good now, without a doubt.

        The rules are those of a remembered token; after a no, `authenticate` knows more.
        """
        return stamp == self.stamp and self._clock() < identity.expires + LEEWAY

    def _verify(self, token: bytes) -> Identity:
        kid = _key_id(token)
        key = self._keys.public(kid)
        if key is None:
            raise Unauthenticated("TOKEN_KEY", f"{_INVALID} (unknown signing key)")
        try:
            claims = jwt.decode(
                token,
                key,
                algorithms=["RS256"],
                audience=AUDIENCE,
                issuer=self._issuer,
                # Times are compared below, by the same clock as the cache.
                options={
                    "require": _REQUIRED_CLAIMS,
                    "strict_aud": True,
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                },
            )
        except jwt.InvalidTokenError as error:
            raise Unauthenticated(*_refusal(error)) from None
        identity = _identity(claims, kid)
        _check_times(claims, self._clock())
        self._check_user(identity)
        return identity

    def recheck(self, identity: Identity) -> None:
        """Look again at an identity whose stream is still open.

        The token opened it; from then on the login counts, which lives on in newer tokens.

        Raises:
            Unauthenticated: The login has ended, the token's key is retired, which takes along what
                was opened with it, or its user changed.
        """
        if self._keys.public(identity.key_id) is None:
            raise Unauthenticated("TOKEN_KEY", f"{_INVALID} (unknown signing key)")
        if self._clock() >= identity.ends + LEEWAY:
            raise Unauthenticated("LOGIN_EXPIRED", "the login has expired: run mk8s login")
        self._check_user(identity)

    def _check_user(self, identity: Identity) -> None:
        if identity.token_id in self._revoked or identity.login in self._revoked:
            raise Unauthenticated("TOKEN_REVOKED", "logged out: run mk8s login")
        epoch = self._valid_epochs(identity.uid)
        if epoch is None:
            raise Unauthenticated("USER_DISABLED", "this account is disabled: ask your admin")
        if epoch != identity.epoch:
            raise Unauthenticated(
                "TOKEN_EPOCH", "the login was ended by a change of the account: run mk8s login"
            )


_INVALID = "the access token is not valid: run mk8s login"

_REFUSALS: tuple[tuple[type[jwt.InvalidTokenError], str, str], ...] = (
    (jwt.InvalidSignatureError, "TOKEN_SIGNATURE", _INVALID),
    (jwt.InvalidAlgorithmError, "TOKEN_ALGORITHM", _INVALID),
    (jwt.MissingRequiredClaimError, "TOKEN_CLAIMS", _INVALID),
    (jwt.InvalidAudienceError, "TOKEN_AUDIENCE", f"{_INVALID} (made for another service)"),
    (jwt.InvalidIssuerError, "TOKEN_ISSUER", f"{_INVALID} (made by another central)"),
)


def _refusal(error: jwt.InvalidTokenError) -> tuple[str, str]:
    """Translate PyJWT's word; its text is not used, since it may quote the token."""
    for kind, reason, message in _REFUSALS:
        if isinstance(error, kind):
            return reason, message
    return "TOKEN_MALFORMED", _INVALID


def _bearer(authorization: bytes) -> bytes:
    """Return the token of a `Bearer` value, RFC 6750 section 2.1.

    Raises:
        Unauthenticated: Nothing there, another scheme, or not three base64url segments.
    """
    if not authorization:
        raise Unauthenticated("NO_TOKEN", "no credentials: run mk8s login")
    scheme, _, token = authorization.partition(b" ")
    if scheme.lower() != b"bearer":
        raise Unauthenticated("TOKEN_SCHEME", "only Bearer access tokens are accepted")
    if len(token) > LONGEST_TOKEN_BYTES or not _COMPACT.fullmatch(token):
        raise Unauthenticated("TOKEN_MALFORMED", _INVALID)
    return token


def _key_id(token: bytes) -> str:
    """Return the header's kid, refusing a header that mint would not have written.

    Raises:
        Unauthenticated: Another algorithm, a strange kid, or any further field.
    """
    segment = token.partition(b".")[0]
    try:
        header = json.loads(binascii.a2b_base64(_standard(segment), strict_mode=True))
    except (ValueError, RecursionError):
        raise Unauthenticated("TOKEN_MALFORMED", _INVALID) from None
    if not isinstance(header, dict) or not header.keys() <= _HEADER_FIELDS:
        raise Unauthenticated("TOKEN_HEADER", _INVALID)
    if header.get("alg") != "RS256":
        raise Unauthenticated("TOKEN_ALGORITHM", _INVALID)
    kid = header.get("kid")
    if not isinstance(kid, str) or not KEY_ID.fullmatch(kid):
        raise Unauthenticated("TOKEN_KEY", f"{_INVALID} (unknown signing key)")
    return kid


def _standard(segment: bytes) -> bytes:
    return segment.translate(_TO_STANDARD) + b"=" * (-len(segment) % 4)


_TO_STANDARD = bytes.maketrans(b"-_", b"+/")


def _identity(claims: dict[str, Any], kid: str) -> Identity:
    """Build the identity from claims whose signature is good; still nothing is assumed.

    Raises:
        Unauthenticated: A claim is missing, of a wrong type, or unusable as a name.
    """
    if any(type(claims.get(name)) is not kind for name, kind in _CLAIM_TYPES):
        raise Unauthenticated("TOKEN_CLAIMS", _INVALID)
    if "cluster" in claims and not _is_cluster(claims["cluster"], claims.get("cluster_id")):
        raise Unauthenticated("TOKEN_CLAIMS", _INVALID)
    if "sid" in claims and not (isinstance(claims["sid"], str) and claims["sid"]):
        raise Unauthenticated("TOKEN_CLAIMS", _INVALID)
    if "sid_exp" in claims and ("sid" not in claims or type(claims["sid_exp"]) is not int):
        raise Unauthenticated("TOKEN_CLAIMS", _INVALID)
    if not 0 <= claims.get("sid_exp", 0) < _END_OF_TIME:
        raise Unauthenticated("TOKEN_CLAIMS", _INVALID)
    if not all(0 < claims[when] < _END_OF_TIME for when in ("iat", "nbf", "exp")):
        raise Unauthenticated("TOKEN_CLAIMS", _INVALID)
    if not (claims["sub"] and claims["jti"] and is_safe_user_name(claims["email"])):
        raise Unauthenticated("TOKEN_CLAIMS", _INVALID)
    return Identity(
        user=claims["email"],
        uid=claims["sub"],
        groups=(USERS_GROUP,),
        expires=float(claims["exp"]),
        cluster=claims.get("cluster", ""),
        cluster_id=claims.get("cluster_id", ""),
        token_id=claims["jti"],
        epoch=claims["epoch"],
        login=claims.get("sid", ""),
        login_ends=float(claims.get("sid_exp", 0)),
        name=claims["name"],
        key_id=kid,
    )


_END_OF_TIME = 2**40
"""Epoch seconds that still fit a float and a date, some 34,000 years from now."""

_CLAIM_TYPES: tuple[tuple[str, type], ...] = (
    ("sub", str),
    ("jti", str),
    ("email", str),
    ("name", str),
    ("iat", int),
    ("nbf", int),
    ("exp", int),
    ("epoch", int),
)


def _is_cluster(name: object, cluster_id: object) -> bool:
    named = isinstance(name, str) and CLUSTER_NAME.fullmatch(name) is not None
    return named and isinstance(cluster_id, str)


def _check_times(claims: dict[str, Any], now: float) -> None:
    """Compare exp, nbf and iat with the clock, RFC 7519 sections 4.1.4 to 4.1.6.

    Raises:
        Unauthenticated: Expired, or not valid yet.
    """
    if now >= claims["exp"] + LEEWAY:
        raise Unauthenticated("TOKEN_EXPIRED", "the access token has expired: run mk8s login")
    ahead = max(claims["nbf"], claims["iat"]) - now
    if ahead > LEEWAY:
        raise Unauthenticated(
            "TOKEN_EARLY",
            f"the access token is not valid before {ahead:.0f} seconds from now: "
            "set the clocks of the machines that run central",
        )
