"""ID tokens that an attacker made or changed, each named after the attack. All are refused."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from tests.sso.house import House
from tests.sso.odd_issuer import Claims, Key, OddIssuer

STRANGER = Key("a-key-of-nobody")
SMALL = rsa.generate_private_key(public_exponent=65537, key_size=1024)
CURVE = ec.generate_private_key(ec.SECP256R1())


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def parts(header: dict[str, Any], claims: Claims) -> str:
    return f"{b64(json.dumps(header).encode())}.{b64(json.dumps(claims).encode())}"


def hs256(header: dict[str, Any], claims: Claims, secret: bytes) -> str:
    signed = parts({"alg": "HS256", "typ": "JWT", **header}, claims)
    return f"{signed}.{b64(hmac.new(secret, signed.encode(), hashlib.sha256).digest())}"


def changed(token: str) -> str:
    """The same signature under other claims."""
    header, claims, signature = token.split(".")
    told = json.loads(base64.urlsafe_b64decode(f"{claims}=="))
    return f"{header}.{b64(json.dumps(told | {'email': 'admin@example.com'}).encode())}.{signature}"


def by_a_small_key(odd: OddIssuer, claims: Claims) -> str:
    """The attacker has found the primes of a key that the issuer still publishes."""
    numbers = Key.jwk_of(SMALL.public_key(), "small")
    odd.published = [odd.key.jwk, numbers]
    signed = parts({"alg": "RS256", "kid": "small"}, claims)
    return f"{signed}.{b64(SMALL.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


ATTACKS: dict[str, Callable[[OddIssuer, Claims], str]] = {
    "alg none": lambda odd, claims: f"{parts({'alg': 'none'}, claims)}.",
    "alg None, with a signature": lambda odd, claims: f"{parts({'alg': 'None'}, claims)}.AAAA",
    "alg none behind the true key's kid": lambda odd, claims: (
        f"{parts({'alg': 'none', 'kid': odd.key.kid}, claims)}."
    ),
    "no alg": lambda odd, claims: f"{parts({'kid': odd.key.kid}, claims)}.AAAA",
    "HS256 with the public key": lambda odd, claims: hs256(
        {"kid": odd.key.kid}, claims, odd.key.pem
    ),
    "HS256 with the public key as JWK": lambda odd, claims: hs256(
        {"kid": odd.key.kid}, claims, json.dumps(odd.key.jwk).encode()
    ),
    "HS256 with an empty secret": lambda odd, claims: hs256({"kid": odd.key.kid}, claims, b""),
    "HS256 with central's own client secret": lambda odd, claims: hs256(
        {}, claims, b"the secret of mk8s at the odd issuer"
    ),
    "RS256 by a stranger who names the true kid": lambda odd, claims: STRANGER.sign(
        claims, kid=odd.key.kid
    ),
    "RS256 by a stranger's kid": lambda odd, claims: STRANGER.sign(claims),
    "RS256 by a key of 1024 bits": by_a_small_key,
    "ES256 under the kid of an RSA key": lambda odd, claims: jwt.encode(
        claims, CURVE, "ES256", {"kid": odd.key.kid}
    ),
    "a key of its own in the header (jwk)": lambda odd, claims: STRANGER.sign(
        claims, jwk=STRANGER.jwk
    ),
    "a key set of its own in the header (jku)": lambda odd, claims: STRANGER.sign(
        claims, jku=f"{odd.url}/attackers-jwks"
    ),
    "a certificate of its own in the header (x5u)": lambda odd, claims: STRANGER.sign(
        claims, x5u=f"{odd.url}/attackers-certificate"
    ),
    "kid that is a path": lambda odd, claims: STRANGER.sign(claims, kid="../../../../dev/null"),
    "kid that is SQL": lambda odd, claims: STRANGER.sign(claims, kid="' OR '1'='1"),
    "kid that is empty": lambda odd, claims: STRANGER.sign(claims, kid=""),
    "kid of 100 KB": lambda odd, claims: STRANGER.sign(claims, kid="k" * 100_000),
    "kid that is an object": lambda odd, claims: hs256({"kid": {"$ne": ""}}, claims, b""),
    "a rule it says is critical (crit)": lambda odd, claims: odd.key.sign(
        claims, crit=["b64"], b64=True
    ),
    "other claims under a true signature": lambda odd, claims: changed(odd.key.sign(claims)),
    "no signature": lambda odd, claims: odd.key.sign(claims).rpartition(".")[0] + ".",
    "two parts": lambda odd, claims: odd.key.sign(claims).rpartition(".")[0],
    "an access token in its place (typ at+jwt)": lambda odd, claims: odd.key.sign(
        claims, typ="at+jwt"
    ),
    "an encrypted token's five parts": lambda odd, claims: f"{odd.key.sign(claims)}.AAAA.AAAA",
    "300 KB": lambda odd, claims: odd.key.sign(claims | {"padding": "x" * 300_000}),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_forged_token_with(attack: str, house: House, odd: OddIssuer) -> None:
    odd.behaviour.forge = lambda claims: ATTACKS[attack](odd, claims)
    assert "the issuer's" in house.visitor().refused("odd", odd.approve)
    assert not odd.asked["/attackers-jwks"]
    assert not odd.asked["/attackers-certificate"]


def at(seconds: float) -> int:
    return int(time.time() + seconds)


CLAIMS: dict[str, tuple[Callable[[OddIssuer], Claims], str]] = {
    "wrong audience": (lambda odd: {"aud": "another-client"}, "(aud)"),
    "no audience": (lambda odd: {"aud": None}, "lacks"),
    "our audience among others, without azp": (lambda odd: {"aud": ["mk8s", "evil"]}, "(azp)"),
    "another party (azp)": (lambda odd: {"aud": ["mk8s", "evil"], "azp": "evil"}, "(azp)"),
    "wrong nonce": (lambda odd: {"nonce": "of another login"}, "(nonce)"),
    "no nonce": (lambda odd: {"nonce": None}, "(nonce)"),
    "another issuer (iss)": (lambda odd: {"iss": "https://evil.example"}, "(iss)"),
    "issuer with a slash": (lambda odd: {"iss": f"{odd.url}/"}, "(iss)"),
    "expired for 90 s": (lambda odd: {"exp": at(-90)}, "expired"),
    "no expiry": (lambda odd: {"exp": None}, "lacks"),
    "expiry that is a text": (lambda odd: {"exp": str(at(300))}, "time"),
    "expiry that is not a number": (lambda odd: {"exp": float("nan")}, "the issuer's token"),
    "made 90 s from now": (lambda odd: {"iat": at(90)}, "clock"),
    "not valid before 90 s from now": (lambda odd: {"nbf": at(90)}, "clock"),
    "no subject": (lambda odd: {"sub": None}, "the issuer's token"),
    "subject that is empty": (lambda odd: {"sub": ""}, "sub"),
    "subject that is a number": (lambda odd: {"sub": 1001}, "sub"),
    "at_hash of another access token": (lambda odd: {"at_hash": "AAAA"}, "access token"),
}
"""What a token says, and a word of why it is refused."""


@pytest.mark.parametrize("attack", CLAIMS)
def test_a_token_that_says(attack: str, house: House, odd: OddIssuer) -> None:
    claims, why = CLAIMS[attack]
    odd.behaviour.claims = claims(odd)
    assert why in house.visitor().refused("odd", odd.approve)


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": -45},
        {"iat": 45},
        {"nbf": 45},
    ],
    ids=" ".join,
)
def test_clocks_that_differ_by_less_than_a_minute(
    claims: dict[str, int], house: House, odd: OddIssuer
) -> None:
    odd.behaviour.claims = {name: at(seconds) for name, seconds in claims.items()}
    house.visitor().log_in("odd", odd.approve)


def test_a_token_of_another_issuer_that_is_trusted_too(
    house: House, odd: OddIssuer, other: OddIssuer
) -> None:
    """Signed well, for the same client id and this very login, but by whom it was not asked."""
    odd.behaviour.forge = lambda claims: other.key.sign(claims | {"iss": other.url})
    assert "the issuer's token" in house.visitor().refused("odd", odd.approve)
    odd.behaviour.forge = other.key.sign
    assert "the issuer's token" in house.visitor().refused("odd", odd.approve)
