"""Signing keys: stored and read back, published without secrets, signing in turn."""

import json

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from mk8s_proxy.identity.signing_keys import SigningKey, SigningKeys

KEY = SigningKey.generate()


def test_a_key_survives_the_database() -> None:
    again = SigningKey.from_pem(KEY.kid, KEY.private_pem())
    assert again.private_key.private_numbers() == KEY.private_key.private_numbers()
    assert SigningKey.from_pem(KEY.kid, KEY.private_pem().encode()).kid == KEY.kid


def test_the_jwk_set_verifies_what_the_key_signed() -> None:
    keys = SigningKeys([KEY])
    key = keys.signing(0)
    token = jwt.encode({"a": 1}, key.private_key, algorithm="RS256", headers={"kid": key.kid})
    (jwk,) = jwt.PyJWKSet.from_dict(keys.jwks()).keys
    assert jwk.key_id == key.kid
    assert jwt.decode(token, jwk.key, algorithms=["RS256"]) == {"a": 1}


def test_the_jwk_set_has_public_fields_only() -> None:
    (jwk,) = SigningKeys([KEY]).jwks()["keys"]
    assert jwk.keys() == {"kty", "use", "alg", "kid", "n", "e"}
    assert "=" not in json.dumps(jwk)


def test_repr_shows_no_key() -> None:
    assert "RSAPrivateKey" not in repr(KEY)


@pytest.mark.parametrize("kid", ["", "a b", "../x", "k" * 65, "kid\n"])
def test_strange_key_ids(kid: str) -> None:
    with pytest.raises(ValueError, match="signing key id"):
        SigningKey(kid, KEY.private_key)


def test_a_key_that_is_not_rsa() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    with pytest.raises(TypeError, match="must be an RSA"):
        SigningKey.from_pem("ec", pem)
    with pytest.raises(TypeError, match="must be an RSA"):
        SigningKey("ec", key)  # type: ignore[arg-type]  # that is the point


def test_generation_counts_changes_only() -> None:
    keys = SigningKeys([KEY])
    before = keys.generation
    keys.replace([SigningKey.from_pem(KEY.kid, KEY.private_pem())])
    assert keys.generation == before
    keys.replace([])
    assert keys.generation == before + 1


def test_all_who_hold_the_keys_derive_the_same_secrets() -> None:
    other = SigningKey.generate()
    pending = SigningKey.from_pem(other.kid, other.private_pem(), signs_from=100)
    here, there = (
        SigningKeys([SigningKey.from_pem(KEY.kid, KEY.private_pem()), pending]) for _ in range(2)
    )
    secrets = here.derive(b"purpose", 99)
    assert secrets == there.derive(b"purpose", 99)
    assert secrets == [KEY.derive(b"purpose"), other.derive(b"purpose")]
    assert len({len(secret) for secret in secrets}) == 1
    assert len(secrets[0]) == 32
    assert set(secrets).isdisjoint(here.derive(b"another purpose", 99))
    assert here.derive(b"purpose", 100) == secrets[::-1], "the key that signs comes first"
    assert SigningKeys().derive(b"x", 0) == []


def test_the_newest_key_signs_whose_time_has_come() -> None:
    keys = SigningKeys(SigningKey(str(when), KEY.private_key, when) for when in (10, 20, 30))
    assert [keys.signing(now).kid for now in (10, 19, 20, 30, 99)] == ["10", "10", "20", "30", "30"]
    assert keys.signing(9).kid == "10", "before all, the oldest"
    with pytest.raises(LookupError, match="no signing key"):
        SigningKeys().signing(0)
