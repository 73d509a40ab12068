"""What a good token of an issuer looks like: its head, its signature, its times, whom it is for.

Called by `token_issuer`; pure. The signature is PyJWT's work; which algorithms and keys are
allowed is said here, never by the token (RFC 8725 sections 3.1 and 3.5).
OpenID Connect Core 1.0 section 3.1.3.7 names the checks of an ID token.
"""

import binascii
import hmac
import json
import re
from dataclasses import dataclass
from typing import Any, Final

import jwt
from jwt.utils import base64url_encode

from mk8s_proxy.identity.oidc.errors import Refused, UnknownKey
from mk8s_proxy.identity.oidc.keys import ALGORITHMS, KeySet, PublicKey

LEEWAY: Final = 60.0
"""Seconds by which the issuer's clock and ours may differ."""
LONGEST_TOKEN: Final = 256 << 10
"""Thousands of groups fit: a person who has too many is told so, not that the token is odd."""

_COMPACT: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+", re.ASCII)
_END_OF_TIME: Final = 2**40
_LONGEST_KID: Final = 512
_REQUIRED: Final = ["iss", "aud", "sub", "exp", "iat"]
_REFUSALS: Final[tuple[tuple[type[jwt.PyJWTError], str, str], ...]] = (
    (jwt.MissingRequiredClaimError, "ID_TOKEN_CLAIMS", "lacks iss, aud, sub, exp or iat"),
    (jwt.InvalidAudienceError, "ID_TOKEN_AUDIENCE", "was made for somebody else (aud)"),
    (jwt.InvalidIssuerError, "ID_TOKEN_ISSUER", "is of another issuer (iss)"),
)


@dataclass(frozen=True, slots=True)
class Expected:
    """What a token must say."""

    issuer: str
    audience: str
    nonce: str | None = None
    """Of the one login that it answers; None where there is none to compare."""
    is_client: bool = True
    """Whether the audience is a client of the issuer, so that `azp` must be it, too."""
    longest: int = LONGEST_TOKEN


@dataclass(frozen=True, slots=True)
class Header:
    """The part of a token's header that is read."""

    algorithm: str
    kid: str | None


def header_of(token: str, longest: int = LONGEST_TOKEN) -> Header:
    """Read a header, before anything is verified.

    Raises:
        Refused: Too long, no token, or an algorithm or a rule that is not taken.
    """
    if len(token) > longest:
        raise _refused("ID_TOKEN_LENGTH", f"is longer than {longest} bytes: put less in it")
    if not _COMPACT.fullmatch(token):
        raise _refused("ID_TOKEN_MALFORMED", "is no signed token")
    head = _json(token.partition(".")[0])
    kid, kind = head.get("kid"), head.get("typ", "JWT")
    if head.get("alg") not in ALGORITHMS:
        raise _refused("ID_TOKEN_ALGORITHM", "is not signed by an algorithm that is allowed")
    if "crit" in head or "b64" in head or not isinstance(kind, str) or kind.upper() != "JWT":
        raise _refused("ID_TOKEN_HEADER", "is of another kind")
    if kid is not None and not (isinstance(kid, str) and 0 < len(kid) <= _LONGEST_KID):
        raise _refused("ID_TOKEN_KEY", "names no key")
    return Header(head["alg"], kid)


def verify(token: str, keys: KeySet, expected: Expected, now: float) -> dict[str, Any]:
    """Return the claims of a good token.

    Raises:
        UnknownKey: None of these keys fits: perhaps they are no longer the issuer's.
        Refused: It is not good.
    """
    head = header_of(token, expected.longest)
    candidates = keys.candidates(head.kid, head.algorithm)
    if not candidates:
        raise UnknownKey("ID_TOKEN_KEY", "the issuer's token is signed by a key that it has not")
    claims = _signed(token, head.algorithm, candidates, expected)
    _check_times(claims, now)
    if expected.is_client:
        _check_client(claims, expected.audience)
    if expected.nonce is not None and not _same(claims.get("nonce"), expected.nonce):
        raise _refused("ID_TOKEN_NONCE", "answers another login (nonce): log in again")
    return claims


def check_access_token(claims: dict[str, Any], algorithm: str, access_token: str) -> None:
    """Compare at_hash, OpenID Connect Core section 3.1.3.6, where the token has it.

    Raises:
        Refused: The access token that came along is another one.
    """
    if "at_hash" not in claims or algorithm == "EdDSA":  # there is no one hash for that
        return
    digest = jwt.get_algorithm_by_name(algorithm).compute_hash_digest(access_token.encode())
    half = base64url_encode(digest[: len(digest) // 2]).decode()
    if not _same(claims["at_hash"], half):
        raise _refused("ID_TOKEN_AT_HASH", "came with another access token: log in again")


def _signed(
    token: str, algorithm: str, candidates: list[PublicKey], expected: Expected
) -> dict[str, Any]:
    for key in candidates:
        try:
            return jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                audience=expected.audience,
                issuer=expected.issuer,
                # Times are compared by our clock and leeway; the rest where it is used.
                options={
                    "require": _REQUIRED,
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                    "verify_jti": False,
                    "verify_sub": False,
                },
            )
        except jwt.InvalidSignatureError:
            continue
        except (jwt.PyJWTError, RecursionError) as error:
            raise _translated(error) from None
    raise _refused("ID_TOKEN_SIGNATURE", "has a wrong signature")


def _translated(error: Exception) -> Refused:
    """PyJWT's own texts are not used, since they may quote the token."""
    for kind, reason, said in _REFUSALS:
        if isinstance(error, kind):
            return _refused(reason, said)
    return _refused("ID_TOKEN_MALFORMED", "is no token")


def _check_times(claims: dict[str, Any], now: float) -> None:
    times = {name: claims[name] for name in ("exp", "iat", "nbf") if name in claims}
    if not all(map(_is_time, times.values())):
        raise _refused("ID_TOKEN_CLAIMS", "has a time that is none")
    if now >= times["exp"] + LEEWAY:
        raise _refused("ID_TOKEN_EXPIRED", "has expired: log in again, and compare the clocks")
    ahead = max(times["iat"], times.get("nbf", 0)) - now
    if ahead > LEEWAY:
        said = f"is not valid before {ahead:.0f} seconds from now: set the clocks"
        raise _refused("ID_TOKEN_EARLY", said)


def _is_time(value: object) -> bool:
    return type(value) in (int, float) and 0 < value < _END_OF_TIME  # type: ignore[operator]


def _check_client(claims: dict[str, Any], client: str) -> None:
    several = isinstance(claims["aud"], list) and len(claims["aud"]) > 1
    party = claims.get("azp", None if several else client)
    if party != client:
        raise _refused("ID_TOKEN_PARTY", "was given to another client (azp)")


def _same(value: object, expected: str) -> bool:
    return isinstance(value, str) and hmac.compare_digest(value.encode(), expected.encode())


def _json(segment: str) -> dict[str, Any]:
    padded = segment.replace("-", "+").replace("_", "/") + "=" * (-len(segment) % 4)
    try:
        value = json.loads(binascii.a2b_base64(padded, strict_mode=True))
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise _refused("ID_TOKEN_MALFORMED", "has no readable header")
    return value


def _refused(reason: str, said: str) -> Refused:
    return Refused(reason, f"the issuer's token {said}")
