"""Signing keys: stored and read back, published without secrets, retired in time."""

import datetime
import json

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from mk8s_proxy.db.keys import KeyRecord
from mk8s_proxy.identity.signing_keys import SigningKey, SigningKeys, usable_keys

KEY = SigningKey.generate()
MADE = datetime.datetime(2027, 1, 1, tzinfo=datetime.UTC)


def test_a_key_survives_the_database() -> None:
    again = SigningKey.from_pem(KEY.kid, KEY.private_pem())
    assert again.private_key.private_numbers() == KEY.private_key.private_numbers()
    assert SigningKey.from_pem(KEY.kid, KEY.private_pem().encode()).kid == KEY.kid


def test_the_jwk_set_verifies_what_the_key_signed() -> None:
    keys = SigningKeys([KEY])
    kid, private_key = keys.active
    token = jwt.encode({"a": 1}, private_key, algorithm="RS256", headers={"kid": kid})
    (jwk,) = jwt.PyJWKSet.from_dict(keys.jwks()).keys
    assert jwk.key_id == kid
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


def record(kid: str, age: int, retired: datetime.datetime | None = None) -> KeyRecord:
    pem = KEY.private_pem()
    return KeyRecord(kid, pem, MADE - datetime.timedelta(seconds=age), retired)


def test_the_newest_key_signs_in_whatever_order_they_are_stored() -> None:
    records = [record("new", 0), record("old", 100), record("middle", 50)]
    keys = usable_keys(records, now=MADE.timestamp(), access_seconds=900)
    assert [key.kid for key in keys] == ["old", "middle", "new"]
    assert SigningKeys(keys).active[0] == "new"


def test_a_retired_key_verifies_until_its_tokens_have_ended() -> None:
    records = [record("retired", 0, MADE), record("live", 10)]
    soon = SigningKeys(usable_keys(records, now=MADE.timestamp() + 899, access_seconds=900))
    assert soon.public("retired") is not None
    assert soon.active[0] == "live"
    late = SigningKeys(usable_keys(records, now=MADE.timestamp() + 900, access_seconds=900))
    assert late.public("retired") is None


def test_generation_counts_changes_only() -> None:
    keys = SigningKeys([KEY])
    before = keys.generation
    keys.replace([SigningKey.from_pem(KEY.kid, KEY.private_pem())])
    assert keys.generation == before
    keys.replace([])
    assert keys.generation == before + 1


def test_all_who_hold_the_keys_derive_the_same_secrets() -> None:
    other = SigningKey.generate()
    retired = SigningKey.from_pem(other.kid, other.private_pem(), retired=True)
    here, there = (
        SigningKeys([SigningKey.from_pem(KEY.kid, KEY.private_pem()), retired]) for _ in range(2)
    )
    secrets = here.derive(b"purpose")
    assert secrets == there.derive(b"purpose") == [KEY.derive(b"purpose"), other.derive(b"purpose")]
    assert len({len(secret) for secret in secrets}) == 1
    assert len(secrets[0]) == 32
    assert set(secrets).isdisjoint(here.derive(b"another purpose"))
    assert SigningKeys([retired, other, KEY]).derive(b"x")[0] == KEY.derive(b"x")
    assert SigningKeys().derive(b"x") == []
