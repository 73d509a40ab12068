"""What an access token may look like, and what its claims say; pure.

Called by `access_token` before and after it looks at the signature. A header that `mint` would not
have written is refused unread (RFC 8725 sections 3.1, 3.5 and 3.10), and claims are not trusted to
be of any type although their signature is good.
"""

# compiled: every token that is seen for the first time

import binascii
import json
import re
from typing import Any

import jwt

from mk8s_proxy.identity.identity import (
    CLUSTER_NAME,
    MOST_GROUP_BYTES,
    MOST_GROUPS,
    MOST_NARROWING_BYTES,
    USERS_GROUP,
    Identity,
    Unauthenticated,
    is_issuers_group,
    is_safe_user_name,
)
from mk8s_proxy.identity.service_token import BEARER
from mk8s_proxy.identity.signing_keys import KEY_ID

LEEWAY = 30.0
"""Seconds by which the clocks of two replicas may differ, for exp, nbf and iat."""

LONGEST_TOKEN_BYTES = 12288
"""Ours are about 800 bytes, and 11,400 with all groups and the widest narrowing, if JSON escapes
each of its letters; longer ones are refused unread."""

_COMPACT = re.compile(rb"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_HEADER_FIELDS = frozenset({"alg", "kid", "typ"})

EXPIRED = "the access token has expired: run mk8s login"
INVALID = "the access token is not valid: run mk8s login"

_REFUSALS: tuple[tuple[type[jwt.InvalidTokenError], str, str], ...] = (
    (jwt.InvalidSignatureError, "TOKEN_SIGNATURE", INVALID),
    (jwt.InvalidAlgorithmError, "TOKEN_ALGORITHM", INVALID),
    (jwt.MissingRequiredClaimError, "TOKEN_CLAIMS", INVALID),
    (jwt.InvalidAudienceError, "TOKEN_AUDIENCE", f"{INVALID} (made for another service)"),
    (jwt.InvalidIssuerError, "TOKEN_ISSUER", f"{INVALID} (made by another central)"),
)


def refusal_of(error: jwt.InvalidTokenError) -> tuple[str, str]:
    """Translate PyJWT's word; its text is not used, since it may quote the token."""
    for kind, reason, message in _REFUSALS:
        if isinstance(error, kind):
            return reason, message
    return "TOKEN_MALFORMED", INVALID


def bearer_token(authorization: bytes) -> bytes:
    """Return the token of a `Bearer` value, RFC 6750 section 2.1.

    Raises:
        Unauthenticated: Nothing there, another scheme, or neither three base64url segments nor what
            begins as a service token.
    """
    if not authorization:
        raise Unauthenticated("NO_TOKEN", "no credentials: run mk8s login")
    scheme, _, token = authorization.partition(b" ")
    if scheme.lower() != b"bearer":
        raise Unauthenticated("TOKEN_SCHEME", "only Bearer access tokens are accepted")
    if token.startswith(BEARER):
        return token
    if len(token) > LONGEST_TOKEN_BYTES or not _COMPACT.fullmatch(token):
        raise Unauthenticated("TOKEN_MALFORMED", INVALID)
    return token


def key_id(token: bytes) -> str:
    """Return the header's kid, refusing a header that mint would not have written.

    Raises:
        Unauthenticated: Another algorithm, a strange kid, or any further field.
    """
    segment = token.partition(b".")[0]
    try:
        header = json.loads(binascii.a2b_base64(_standard(segment), strict_mode=True))
    except (ValueError, RecursionError):
        raise Unauthenticated("TOKEN_MALFORMED", INVALID) from None
    if not isinstance(header, dict) or not header.keys() <= _HEADER_FIELDS:
        raise Unauthenticated("TOKEN_HEADER", INVALID)
    if header.get("alg") != "RS256":
        raise Unauthenticated("TOKEN_ALGORITHM", INVALID)
    kid = header.get("kid")
    if not isinstance(kid, str) or not KEY_ID.fullmatch(kid):
        raise Unauthenticated("TOKEN_KEY", f"{INVALID} (unknown signing key)")
    return kid


def _standard(segment: bytes) -> bytes:
    return segment.translate(_TO_STANDARD) + b"=" * (-len(segment) % 4)


_TO_STANDARD = bytes.maketrans(b"-_", b"+/")


def identity_of(claims: dict[str, Any], kid: str) -> Identity:
    """Build the identity from claims whose signature is good; still nothing is assumed.

    Raises:
        Unauthenticated: A claim is missing, of a wrong type, or unusable as a name.
    """
    _check_claims(claims)
    return Identity(
        user=claims["email"],
        uid=claims["sub"],
        groups=(USERS_GROUP, *claims.get("groups", ())),
        expires=float(claims["exp"]),
        cluster=claims.get("cluster", ""),
        cluster_id=claims.get("cluster_id", ""),
        token_id=claims["jti"],
        epoch=claims["epoch"],
        login=claims.get("sid", ""),
        login_ends=float(claims.get("sid_exp", 0)),
        name=claims["name"],
        key_id=kid,
        command=claims.get("command", ""),
        narrowing=claims.get("narrow", ""),
        delegate=claims.get("delegate", ""),
    )


def _check_claims(claims: dict[str, Any]) -> None:
    if any(type((_OPTIONAL | claims).get(name)) is not kind for name, kind in _CLAIM_TYPES):
        raise Unauthenticated("TOKEN_CLAIMS", INVALID)
    if "cluster" in claims and not _is_cluster(claims["cluster"], claims.get("cluster_id")):
        raise Unauthenticated("TOKEN_CLAIMS", INVALID)
    if "sid" in claims and not (isinstance(claims["sid"], str) and claims["sid"]):
        raise Unauthenticated("TOKEN_CLAIMS", INVALID)
    if "sid_exp" in claims and ("sid" not in claims or type(claims["sid_exp"]) is not int):
        raise Unauthenticated("TOKEN_CLAIMS", INVALID)
    if not 0 <= claims.get("sid_exp", 0) < _END_OF_TIME:
        raise Unauthenticated("TOKEN_CLAIMS", INVALID)
    if not all(0 < claims[when] < _END_OF_TIME for when in ("iat", "nbf", "exp")):
        raise Unauthenticated("TOKEN_CLAIMS", INVALID)
    if not _are_groups(claims.get("groups", [])) or _lacks_narrowing(claims):
        raise Unauthenticated("TOKEN_CLAIMS", INVALID)
    if _size(claims.get("narrow", "")) > MOST_NARROWING_BYTES:
        raise Unauthenticated("TOKEN_CLAIMS", INVALID)
    if not (claims["sub"] and claims["jti"] and is_safe_user_name(claims["email"])):
        raise Unauthenticated("TOKEN_CLAIMS", INVALID)


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
    ("command", str),
    ("narrow", str),
    ("delegate", str),
)
_OPTIONAL = {"command": "", "narrow": "", "delegate": ""}


def _is_cluster(name: object, cluster_id: object) -> bool:
    named = isinstance(name, str) and CLUSTER_NAME.fullmatch(name) is not None
    return named and isinstance(cluster_id, str)


def _lacks_narrowing(claims: dict[str, Any]) -> bool:
    """A delegation that could do all that its owner may is none."""
    return bool(claims.get("delegate")) and not claims.get("narrow")


def _are_groups(groups: object) -> bool:
    """Whether they may be an issuer's: no group that mk8s or Kubernetes gives a meaning."""
    return (
        isinstance(groups, list)
        and len(groups) <= MOST_GROUPS
        and all(isinstance(group, str) and is_issuers_group(group) for group in groups)
        and sum(map(_size, groups)) <= MOST_GROUP_BYTES
    )


def _size(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def check_times(claims: dict[str, Any], now: float) -> None:
    """Compare exp, nbf and iat with the clock, RFC 7519 sections 4.1.4 to 4.1.6.

    Raises:
        Unauthenticated: Expired, or not valid yet.
    """
    if now >= claims["exp"] + LEEWAY:
        raise Unauthenticated("TOKEN_EXPIRED", EXPIRED)
    ahead = max(claims["nbf"], claims["iat"]) - now
    if ahead > LEEWAY:
        raise Unauthenticated(
            "TOKEN_EARLY",
            f"the access token is not valid before {ahead:.0f} seconds from now: "
            "set the clocks of the machines that run central",
        )
