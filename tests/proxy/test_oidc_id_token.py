"""Tokens of issuers: what a good one looks like, and each trick under its name."""

import base64
import hashlib
import hmac
import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st

from mk8s_proxy.identity.oidc import id_token
from mk8s_proxy.identity.oidc.errors import Refused, UnknownKey, Unreachable
from mk8s_proxy.identity.oidc.id_token import Expected, header_of, verify
from mk8s_proxy.identity.oidc.keys import MOST_CANDIDATES, MOST_KEYS, KeySet

NOW = 1_800_000_000
ISSUER = "https://sso.example"
EXPECTED = Expected(ISSUER, "mk8s", nonce="n-1")
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER = rsa.generate_private_key(public_exponent=65537, key_size=2048)
WEAK = rsa.generate_private_key(public_exponent=65537, key_size=1024)
CURVES = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}
EC = {name: ec.generate_private_key(curve) for name, curve in CURVES.items()}
ED = {"Ed25519": ed25519.Ed25519PrivateKey.generate(), "Ed448": ed448.Ed448PrivateKey.generate()}


def jwk(private: Any, **more: Any) -> dict[str, Any]:
    kind = {
        rsa.RSAPrivateKey: jwt.algorithms.RSAAlgorithm,
        ec.EllipticCurvePrivateKey: jwt.algorithms.ECAlgorithm,
    }
    for key_type, algorithm in kind.items():
        if isinstance(private, key_type):
            made = algorithm.to_jwk(private.public_key(), as_dict=True)
            break
    else:
        made = jwt.algorithms.OKPAlgorithm.to_jwk(private.public_key(), as_dict=True)
    return made | {"kid": "k1", "use": "sig"} | more


def keys(*documents: Any) -> KeySet:
    return KeySet.parse({"keys": list(documents)})


KEYS = keys(jwk(RSA))


def claims(**more: Any) -> dict[str, Any]:
    said = {"iss": ISSUER, "aud": "mk8s", "sub": "u", "iat": NOW, "exp": NOW + 300, "nonce": "n-1"}
    return {name: value for name, value in (said | more).items() if value is not None}


def signed(
    said: dict[str, Any] | None = None, key: Any = RSA, algorithm: str = "RS256", **header: Any
) -> str:
    head = {name: value for name, value in ({"kid": "k1"} | header).items() if value is not None}
    return jwt.encode(claims() if said is None else said, key, algorithm, head)


def refusal(token: str, known: KeySet = KEYS, expected: Expected = EXPECTED) -> str:
    with pytest.raises(Refused) as caught:
        verify(token, known, expected, NOW)
    assert caught.value.message.isprintable()
    assert token[:20] not in caught.value.message
    return caught.value.reason


def test_a_good_token() -> None:
    assert verify(signed(), KEYS, EXPECTED, NOW) == claims()


@pytest.mark.parametrize("algorithm", ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"])
def test_algorithms_of_rsa(algorithm: str) -> None:
    assert verify(signed(algorithm=algorithm), KEYS, EXPECTED, NOW)
    only = keys(jwk(RSA, alg=algorithm))
    assert verify(signed(algorithm=algorithm), only, EXPECTED, NOW)
    other = keys(jwk(RSA, alg="RS512" if algorithm != "RS512" else "PS512"))
    assert refusal(signed(algorithm=algorithm), other) == "ID_TOKEN_KEY"


@pytest.mark.parametrize("algorithm", sorted(CURVES))
def test_algorithms_of_curves_take_their_own_curve_only(algorithm: str) -> None:
    token = signed(key=EC[algorithm], algorithm=algorithm)
    assert verify(token, keys(jwk(EC[algorithm])), EXPECTED, NOW)
    other = EC["ES384" if algorithm != "ES384" else "ES256"]
    assert refusal(token, keys(jwk(other))) == "ID_TOKEN_KEY"


@pytest.mark.parametrize("curve", sorted(ED))
def test_edwards_curves(curve: str) -> None:
    assert verify(signed(key=ED[curve], algorithm="EdDSA"), keys(jwk(ED[curve])), EXPECTED, NOW)


def test_attack_alg_none() -> None:
    head = base64.urlsafe_b64encode(b'{"alg":"none","kid":"k1"}').decode().rstrip("=")
    body = signed().split(".")[1]
    assert refusal(f"{head}.{body}.") == "ID_TOKEN_MALFORMED"
    assert refusal(f"{head}.{body}.AAAA") == "ID_TOKEN_ALGORITHM"


def test_attack_hs256_with_the_public_key() -> None:
    pem = RSA.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    head = base64.urlsafe_b64encode(b'{"alg":"HS256","kid":"k1"}').decode().rstrip("=")
    unsigned = f"{head}.{signed().split('.')[1]}"
    mac = hmac.digest(pem, unsigned.encode(), hashlib.sha256)
    token = f"{unsigned}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}"
    assert refusal(token) == "ID_TOKEN_ALGORITHM"
    symmetric = {"kty": "oct", "k": "c2VjcmV0", "kid": "k1", "alg": "HS256"}
    assert refusal(token, keys(symmetric)) == "ID_TOKEN_ALGORITHM"


def test_attack_a_key_in_the_token() -> None:
    own = jwk(OTHER)
    for header in ({"jwk": own}, {"jku": "https://evil.example/keys"}, {"x5u": "https://e/x"}):
        assert refusal(signed(key=OTHER, **header)) == "ID_TOKEN_SIGNATURE"


def test_attack_kid_tricks() -> None:
    for kid in ("../../dev/null", "k1' OR 1=1", "K1", "k1 ", "\x00"):
        with pytest.raises(UnknownKey):
            verify(signed(kid=kid), KEYS, EXPECTED, NOW)
    assert refusal(signed(kid="x" * 600)) == "ID_TOKEN_KEY"
    assert refusal(signed(kid="")) == "ID_TOKEN_KEY"
    head = base64.urlsafe_b64encode(b'{"alg":"RS256","kid":["k1"]}').decode().rstrip("=")
    assert refusal(head + "." + signed().partition(".")[2]) == "ID_TOKEN_KEY"


def test_a_token_without_a_kid_is_taken_where_one_key_fits() -> None:
    token = signed(kid=None)
    assert verify(token, KEYS, EXPECTED, NOW)
    assert verify(token, keys(jwk(RSA), jwk(EC["ES256"])), EXPECTED, NOW)
    assert refusal(token, keys(jwk(RSA), jwk(OTHER, kid="k2"))) == "ID_TOKEN_KEY"


def test_keys_of_the_same_name_are_tried_in_turn_but_not_many() -> None:
    assert verify(signed(), keys(jwk(OTHER), jwk(RSA)), EXPECTED, NOW)
    many = [jwk(OTHER)] * MOST_CANDIDATES
    assert refusal(signed(), keys(*many, jwk(RSA))) == "ID_TOKEN_SIGNATURE"


@pytest.mark.parametrize(
    "head",
    [
        {"crit": ["exp"]},
        {"b64": False},
        {"typ": "at+jwt"},
        {"typ": "logout+jwt"},
        {"typ": 1},
    ],
)
def test_attack_a_token_of_another_kind(head: dict[str, Any]) -> None:
    said = {"alg": "RS256", "kid": "k1"} | head
    segment = base64.urlsafe_b64encode(json.dumps(said).encode()).decode().rstrip("=")
    assert refusal(segment + "." + signed().partition(".")[2]) == "ID_TOKEN_HEADER"


@pytest.mark.parametrize(
    "token",
    ["", "a.b", "a.b.c.d", "a b.c.d", "é.b.c", "AA.AA.AA", "W10.AA.AA", "A.A.A", "a..b"],
)
def test_what_is_no_token(token: str) -> None:
    with pytest.raises(Refused, match="the issuer's token"):
        verify(token, KEYS, EXPECTED, NOW)


def test_attack_a_header_nested_deep() -> None:
    head = base64.urlsafe_b64encode(b"[" * 60_000).decode().rstrip("=")
    assert refusal(f"{head}.AA.AA") == "ID_TOKEN_MALFORMED"


def test_attack_a_payload_nested_deep() -> None:
    inner: Any = json.loads("[" * 900 + "]" * 900)
    assert verify(signed(claims(x=inner)), KEYS, EXPECTED, NOW)
    token = jwt.api_jws.encode(
        b'{"x":' + b"[" * 60_000 + b"]" * 60_000 + b"}", RSA, "RS256", {"kid": "k1"}
    )
    assert refusal(token) == "ID_TOKEN_MALFORMED"


def test_attack_a_huge_token() -> None:
    assert refusal(signed(claims(x="y" * 200_000))) == "ID_TOKEN_LENGTH"
    short = Expected(ISSUER, "mk8s", longest=1000)
    assert refusal(signed(claims(x="y" * 1000)), expected=short) == "ID_TOKEN_LENGTH"


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"iss": None}, "ID_TOKEN_CLAIMS"),
        ({"sub": None}, "ID_TOKEN_CLAIMS"),
        ({"exp": None}, "ID_TOKEN_CLAIMS"),
        ({"iat": None}, "ID_TOKEN_CLAIMS"),
        ({"aud": None}, "ID_TOKEN_CLAIMS"),
        ({"iss": "https://evil.example"}, "ID_TOKEN_ISSUER"),
        ({"iss": ISSUER + "/"}, "ID_TOKEN_ISSUER"),
        ({"aud": "another"}, "ID_TOKEN_AUDIENCE"),
        ({"aud": ["another"], "azp": "mk8s"}, "ID_TOKEN_AUDIENCE"),
        ({"aud": 5}, "ID_TOKEN_AUDIENCE"),
        ({"aud": ["mk8s", "another"]}, "ID_TOKEN_PARTY"),
        ({"aud": ["mk8s", "another"], "azp": "another"}, "ID_TOKEN_PARTY"),
        ({"azp": "another"}, "ID_TOKEN_PARTY"),
        ({"azp": ["mk8s"]}, "ID_TOKEN_PARTY"),
        ({"nonce": "n-2"}, "ID_TOKEN_NONCE"),
        ({"nonce": None}, "ID_TOKEN_NONCE"),
        ({"nonce": ["n-1"]}, "ID_TOKEN_NONCE"),
        ({"exp": NOW - 60}, "ID_TOKEN_EXPIRED"),
        ({"exp": True}, "ID_TOKEN_CLAIMS"),
        ({"exp": "1900000000"}, "ID_TOKEN_CLAIMS"),
        ({"exp": 2**40}, "ID_TOKEN_CLAIMS"),
        ({"exp": float("nan")}, "ID_TOKEN_CLAIMS"),
        ({"exp": float("inf")}, "ID_TOKEN_CLAIMS"),
        ({"iat": NOW + 61}, "ID_TOKEN_EARLY"),
        ({"nbf": NOW + 61}, "ID_TOKEN_EARLY"),
        ({"nbf": "soon"}, "ID_TOKEN_CLAIMS"),
        ({"iat": -1}, "ID_TOKEN_CLAIMS"),
    ],
)
def test_what_a_token_says_must_fit(said: dict[str, Any], reason: str) -> None:
    body = json.dumps(claims(**said)).encode()
    token = jwt.api_jws.encode(body, RSA, "RS256", {"kid": "k1"})
    assert refusal(token) == reason


@pytest.mark.parametrize(
    "said",
    [
        {"exp": NOW - 59},
        {"iat": NOW + 60, "nbf": NOW + 60},
        {"aud": ["mk8s"]},
        {"aud": ["mk8s", "b"], "azp": "mk8s"},
        {"azp": "mk8s"},
        {"exp": NOW + 0.5},
    ],
)
def test_clock_skew_and_other_forms_of_the_audience(said: dict[str, Any]) -> None:
    assert verify(signed(claims(**said)), KEYS, EXPECTED, NOW)


def test_a_jobs_token_has_neither_nonce_nor_party() -> None:
    job = Expected(ISSUER, "mk8s", is_client=False)
    said = claims(nonce=None, azp="somebody", aud=["mk8s", "b"])
    assert verify(signed(said), KEYS, job, NOW) == said


@pytest.mark.parametrize("document", [None, [], {}, {"keys": {}}, {"keys": None}])
def test_what_is_no_jwk_set(document: object) -> None:
    with pytest.raises(Unreachable):
        KeySet.parse(document)


@pytest.mark.parametrize(
    "document",
    [
        5,
        {},
        {"kty": "oct", "k": "AA"},
        jwk(RSA, use="enc"),
        jwk(RSA, key_ops=["encrypt"]),
        jwk(RSA, key_ops="verify"),
        jwk(RSA, kid=5),
        jwk(RSA, kid="x" * 513),
        jwk(RSA, n="!"),
        jwk(RSA, n=None),
        jwk(RSA, e="AA"),
        jwk(WEAK),
        jwk(EC["ES256"], crv="P-999"),
        jwk(EC["ES256"], x="AA"),
        jwk(ED["Ed25519"], crv="X25519"),
        jwt.algorithms.RSAAlgorithm.to_jwk(RSA, as_dict=True),
        jwt.algorithms.ECAlgorithm.to_jwk(EC["ES256"], as_dict=True),
    ],
)
def test_keys_that_are_of_no_use_are_left_out(document: Any) -> None:
    assert keys(document).keys == ()


def test_a_set_of_endless_keys_is_cut() -> None:
    assert len(keys(*[jwk(ED["Ed25519"])] * (MOST_KEYS + 5)).keys) == MOST_KEYS


def test_keys_say_what_they_are_for() -> None:
    (key,) = keys(jwk(RSA, key_ops=["verify"], alg="PS256")).keys
    assert (key.kid, key.kind, key.algorithm) == ("k1", ("RSA", ""), "PS256")


def test_attack_another_access_token_beside_a_good_id_token() -> None:
    digest = hashlib.sha256(b"access").digest()[:16]
    said = {"at_hash": base64.urlsafe_b64encode(digest).decode().rstrip("=")}
    id_token.check_access_token(said, "RS256", "access")
    id_token.check_access_token({}, "RS256", "other")
    id_token.check_access_token(said, "EdDSA", "other")
    for wrong in (said, {"at_hash": 5}):
        with pytest.raises(Refused, match="another access token"):
            id_token.check_access_token(wrong, "RS256", "other")


@given(
    st.text(max_size=60) | st.from_regex(r"\A[A-Za-z0-9_-]{1,40}\.[A-Za-z0-9_-]+\.[A-Za-z0-9]+\Z")
)
def test_any_text_is_a_header_or_refused(text: str) -> None:
    try:
        head = header_of(text)
    except Refused:
        return
    assert head.algorithm in id_token.ALGORITHMS
