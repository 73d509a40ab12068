"""Access tokens: what is minted verifies, and every known forgery is refused by its own reason."""

import base64
import dataclasses
import hashlib
import hmac
import json
import tracemalloc
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st

from mk8s_proxy.identity import access_token
from mk8s_proxy.identity.access_token import LEEWAY, SigningKey, SigningKeys, TokenAuthenticator
from mk8s_proxy.identity.directory import UserDirectory
from mk8s_proxy.identity.identity import BoundCluster, Identity, Login, Unauthenticated

ISSUER = "https://central.example.com"
NOW = 1_800_000_000.0
LIFE = 900
FIRST = SigningKey.generate()
SECOND = SigningKey.generate()


@dataclasses.dataclass(frozen=True)
class Person:
    id: str = "0b1e"
    email: str = "dev@example.com"
    name: str = "Dev"
    token_epoch: int = 3


class World:
    """An authenticator with one known person, on a clock that the test moves."""

    def __init__(self, **options: Any) -> None:
        self.now = NOW
        self.keys = SigningKeys([FIRST])
        self.directory = UserDirectory()
        self.directory.replace({"0b1e": 3})
        self.authenticator = TokenAuthenticator(
            self.keys,
            issuer=ISSUER,
            valid_epochs=self.directory,
            clock=lambda: self.now,
            **options,
        )

    def mint(
        self,
        person: Person | None = None,
        cluster: BoundCluster | None = None,
        login: str = "",
        ends: float = 0.0,
    ) -> str:
        token, _ = access_token.mint(
            self.keys,
            user=person or Person(),
            cluster=cluster,
            issuer=ISSUER,
            lifetime=LIFE,
            now=self.now,
            login=Login(login, ends) if login else None,
        )
        return token

    def authenticate(self, token: str) -> Identity:
        return self.authenticator.authenticate(f"Bearer {token}".encode())

    def refusal(self, token: str) -> str:
        with pytest.raises(Unauthenticated) as caught:
            self.authenticate(token)
        assert token[-20:] not in caught.value.message
        return caught.value.reason


@pytest.fixture
def world() -> World:
    return World()


def segment(value: object) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def claims(**changes: Any) -> dict[str, Any]:
    good = {
        "iss": ISSUER,
        "aud": "mk8s",
        "sub": "0b1e",
        "email": "dev@example.com",
        "name": "Dev",
        "jti": "one",
        "iat": int(NOW),
        "nbf": int(NOW),
        "exp": int(NOW) + LIFE,
        "epoch": 3,
    } | changes
    return {name: value for name, value in good.items() if value is not ...}


def signed(header: dict[str, Any] | None = None, key: SigningKey = FIRST, **changes: Any) -> str:
    """Sign with RS256 whatever the header says, as somebody with the key but not the manners."""
    head = {"alg": "RS256", "typ": "JWT", "kid": FIRST.kid} | (header or {})
    signing_input = f"{segment(head)}.{segment(claims(**changes))}"
    algorithm = jwt.get_algorithm_by_name("RS256")
    return f"{signing_input}.{segment(algorithm.sign(signing_input.encode(), key.private_key))}"


def hmac_signed(secret: bytes) -> str:
    signing_input = (
        f"{segment({'alg': 'HS256', 'typ': 'JWT', 'kid': FIRST.kid})}.{segment(claims())}"
    )
    digest = hmac.digest(secret, signing_input.encode(), hashlib.sha256)
    return f"{signing_input}.{segment(digest)}"


def public_pem() -> bytes:
    return FIRST.private_key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def test_a_minted_token_says_who_it_is_for(world: World) -> None:
    identity = world.authenticate(world.mint(cluster=BoundCluster("prod", "id-1")))
    assert (identity.user, identity.uid, identity.epoch) == ("dev@example.com", "0b1e", 3)
    assert identity.groups == ("mk8s:users",)
    assert (identity.cluster, identity.expires, identity.name) == ("prod", NOW + LIFE, "Dev")
    assert identity.key_id == FIRST.kid


def test_a_minted_header_has_three_fields_and_no_more(world: World) -> None:
    header = jwt.get_unverified_header(world.mint())
    assert header == {"alg": "RS256", "typ": "JWT", "kid": FIRST.kid}


def test_every_token_has_its_own_id(world: World) -> None:
    assert len({world.authenticate(world.mint()).token_id for _ in range(20)}) == 20


def test_the_hand_made_token_of_these_tests_is_good_as_it_is(world: World) -> None:
    """Otherwise each forgery below might be refused for a reason of no interest."""
    assert world.authenticate(signed()).user == "dev@example.com"


def test_alg_none_without_signature(world: World) -> None:
    for spelling in ("none", "None", "NONE", "nOnE"):
        head = {"alg": spelling, "typ": "JWT", "kid": FIRST.kid}
        assert world.refusal(f"{segment(head)}.{segment(claims())}.") == "TOKEN_MALFORMED"


def test_alg_none_with_some_signature(world: World) -> None:
    for spelling in ("none", "None", "NONE", "nOnE", "", None, ["RS256"], 0):
        assert world.refusal(signed({"alg": spelling})) == "TOKEN_ALGORITHM"


def test_hs256_signed_with_the_public_pem(world: World) -> None:
    assert world.refusal(hmac_signed(public_pem())) == "TOKEN_ALGORITHM"
    assert world.refusal(hmac_signed(public_pem().rstrip())) == "TOKEN_ALGORITHM"


def test_hs256_signed_with_the_public_jwk(world: World) -> None:
    jwk = world.keys.jwks()["keys"][0]
    assert world.refusal(hmac_signed(json.dumps(jwk).encode())) == "TOKEN_ALGORITHM"
    assert world.refusal(hmac_signed(jwk["n"].encode())) == "TOKEN_ALGORITHM"


def test_es256_with_a_key_of_the_attacker(world: World) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    token = jwt.encode(claims(), key, algorithm="ES256", headers={"kid": FIRST.kid})
    assert world.refusal(token) == "TOKEN_ALGORITHM"


@pytest.mark.parametrize("algorithm", ["RS384", "RS512", "PS256", "PS512"])
def test_another_algorithm_with_our_own_key(world: World, algorithm: str) -> None:
    token = jwt.encode(claims(), FIRST.private_key, algorithm, headers={"kid": FIRST.kid})
    assert world.refusal(token) == "TOKEN_ALGORITHM"


@pytest.mark.parametrize("algorithm", ["RS1", "rs256", "RS256 ", "HS256", "ES256", "EdDSA"])
def test_algorithm_renamed_over_a_good_signature(world: World, algorithm: str) -> None:
    assert world.refusal(signed({"alg": algorithm})) == "TOKEN_ALGORITHM"


def test_empty_signature(world: World) -> None:
    head, body, _ = world.mint().split(".")
    assert world.refusal(f"{head}.{body}.") == "TOKEN_MALFORMED"
    assert world.refusal(f"{head}.{body}") == "TOKEN_MALFORMED"
    assert world.refusal(f"{head}.{body}.AA") == "TOKEN_SIGNATURE"


def test_claims_changed_under_a_good_signature(world: World) -> None:
    head, _, signature = world.mint().split(".")
    other = segment(claims(email="admin@example.com"))
    assert world.refusal(f"{head}.{other}.{signature}") == "TOKEN_SIGNATURE"


def test_signature_of_another_token(world: World) -> None:
    first, second = world.mint().split("."), world.mint().split(".")
    assert world.refusal(".".join([*first[:2], second[2]])) == "TOKEN_SIGNATURE"


def test_signed_by_a_key_of_the_attacker_under_our_kid(world: World) -> None:
    assert world.refusal(signed(key=SECOND)) == "TOKEN_SIGNATURE"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("jku", "https://evil.example.com/jwks.json"),
        ("x5u", "https://evil.example.com/certificate.pem"),
        ("jwk", {"kty": "RSA", "n": "AQAB", "e": "AQAB"}),
        ("x5c", ["MIIB"]),
        ("x5t", "AAAA"),
        ("crit", ["exp"]),
        ("b64", False),
        ("zip", "DEF"),
        ("cty", "JWT"),
    ],
)
def test_header_that_brings_its_own_key_or_rules(world: World, field: str, value: object) -> None:
    assert world.refusal(signed({field: value})) == "TOKEN_HEADER"


@pytest.mark.parametrize(
    "kid",
    [
        "../../../../dev/null",
        "' OR '1'='1",
        "key; DROP TABLE signing_keys",
        "a\x00b",
        pytest.param(f"{FIRST.kid}\n", id="known, newline"),
        pytest.param(f" {FIRST.kid}", id="known, blank"),
        "k" * 65,
        "",
        None,
        7,
        ["kid"],
        {"kid": FIRST.kid},
        "unknown",
        pytest.param(SECOND.kid, id="of another key"),
    ],
)
def test_kid_injection(world: World, kid: object) -> None:
    assert world.refusal(signed({"kid": kid})) == "TOKEN_KEY"


def test_header_that_is_no_object(world: World) -> None:
    _, body, signature = signed().split(".")
    for header in ([], "RS256", 1, None, [["alg", "RS256"]]):
        assert world.refusal(f"{segment(header)}.{body}.{signature}") == "TOKEN_HEADER"
    for raw in (b"{", b"\xff\xfe", b"[" * 3000, b"{}{}"):
        assert world.refusal(f"{segment(raw)}.{body}.{signature}") == "TOKEN_MALFORMED"


@pytest.mark.parametrize("claim", ["exp", "aud", "iss", "jti", "iat", "nbf", "sub"])
def test_missing_claim(world: World, claim: str) -> None:
    assert world.refusal(signed(**{claim: ...})) == "TOKEN_CLAIMS"


@pytest.mark.parametrize("claim", ["email", "name", "epoch"])
def test_missing_claim_of_ours(world: World, claim: str) -> None:
    assert world.refusal(signed(**{claim: ...})) == "TOKEN_CLAIMS"


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": str(int(NOW) + LIFE)},
        {"exp": NOW + LIFE + 0.5},
        {"exp": True},
        {"exp": 10**400},
        {"nbf": -1},
        {"iat": None},
        {"epoch": "3"},
        {"epoch": True},
        {"email": 7},
        {"name": None},
        {"sub": ""},
        {"jti": ""},
        {"cluster": ""},
        {"cluster": None},
        {"cluster": "Prod"},
        {"cluster": "../prod"},
        {"cluster": ["prod"]},
    ],
)
def test_claim_of_a_wrong_kind(world: World, changes: dict[str, object]) -> None:
    assert world.refusal(signed(**changes)) in ("TOKEN_CLAIMS", "TOKEN_MALFORMED")


@pytest.mark.parametrize("sub", [7, None, ["0b1e"]])
def test_subject_that_is_no_text(world: World, sub: object) -> None:
    assert world.refusal(signed(sub=sub)) in ("TOKEN_CLAIMS", "TOKEN_MALFORMED")


@pytest.mark.parametrize(
    "email",
    [
        "system:masters",
        "System:admin",
        "system:serviceaccount:kube-system:x",
        "a\r\nImpersonate-User: admin",
        "a\x00",
        "a\u2028b",
        "a\u202eb",
        "a b",
        "",
        "x" * 257,
    ],
)
def test_user_name_that_would_become_another_identity_or_header(world: World, email: str) -> None:
    assert world.refusal(signed(email=email)) == "TOKEN_CLAIMS"


@pytest.mark.parametrize(
    "audience", ["kubernetes", "MK8S", " mk8s", ["mk8s"], ["mk8s", "other"], 7]
)
def test_made_for_another_audience(world: World, audience: object) -> None:
    assert world.refusal(signed(aud=audience)) == "TOKEN_AUDIENCE"


@pytest.mark.parametrize("issuer", ["https://evil.example.com", f"{ISSUER}/", "", 7, [ISSUER]])
def test_made_by_another_issuer(world: World, issuer: object) -> None:
    assert world.refusal(signed(iss=issuer)) == "TOKEN_ISSUER"


def test_expired(world: World) -> None:
    token = world.mint()
    world.now = NOW + LIFE + LEEWAY - 1
    assert world.authenticate(token)
    world.now = NOW + LIFE + LEEWAY
    assert world.refusal(token) == "TOKEN_EXPIRED"
    assert World().authenticate(token), "it was good in its time"


def test_nbf_in_the_future(world: World) -> None:
    assert world.refusal(signed(nbf=int(NOW + LEEWAY + 1))) == "TOKEN_EARLY"
    assert world.authenticate(signed(nbf=int(NOW + LEEWAY)))


def test_iat_in_the_future(world: World) -> None:
    assert world.refusal(signed(iat=int(NOW + LEEWAY + 1))) == "TOKEN_EARLY"


def test_clock_ten_minutes_slow_says_so(world: World) -> None:
    token = world.mint()
    world.now = NOW - 600
    with pytest.raises(Unauthenticated, match="600 seconds from now: set the clocks"):
        world.authenticate(token)


def test_clock_ten_minutes_fast_still_ends_tokens(world: World) -> None:
    world.now = NOW - 600
    token = world.mint()
    world.now = NOW - 600 + LIFE + 600
    assert world.refusal(token) == "TOKEN_EXPIRED"


def test_token_of_one_cluster_on_another(world: World) -> None:
    identity = world.authenticate(world.mint(cluster=BoundCluster("dev", "id-1")))
    identity.require_cluster("dev", "id-1")
    with pytest.raises(Unauthenticated, match="made for another cluster") as caught:
        identity.require_cluster("prod", "id-2")
    assert caught.value.reason == "TOKEN_CLUSTER"


def test_attack_token_of_a_cluster_that_was_removed_and_added_again(world: World) -> None:
    identity = world.authenticate(world.mint(cluster=BoundCluster("dev", "id-1")))
    for now in ("id-2", ""):
        with pytest.raises(Unauthenticated, match="made for another cluster"):
            identity.require_cluster("dev", now)


def test_attack_token_bound_to_a_name_without_an_id(world: World) -> None:
    claims = jwt.decode(
        world.mint(cluster=BoundCluster("dev", "")), options={"verify_signature": False}
    )
    del claims["cluster_id"]
    token = jwt.encode(claims, FIRST.private_key, algorithm="RS256", headers={"kid": FIRST.kid})
    assert world.refusal(token) == "TOKEN_CLAIMS"


def test_token_of_no_cluster_is_good_on_each(world: World) -> None:
    world.authenticate(world.mint()).require_cluster("prod", "id-1")


def test_disabled_user_is_refused_although_cached(world: World) -> None:
    token = world.mint()
    world.authenticate(token)
    world.directory.replace({})
    assert world.refusal(token) == "USER_DISABLED"


def test_old_epoch_is_refused_although_cached(world: World) -> None:
    token = world.mint()
    world.authenticate(token)
    world.directory.replace({"0b1e": 4})
    assert world.refusal(token) == "TOKEN_EPOCH"


def test_unknown_user_of_a_good_signature(world: World) -> None:
    assert world.refusal(world.mint(Person(id="stranger"))) == "USER_DISABLED"


def test_retired_key_takes_its_cached_tokens_along(world: World) -> None:
    token = world.mint()
    world.authenticate(token)
    world.keys.replace([SECOND])
    assert world.refusal(token) == "TOKEN_KEY"


def test_a_key_with_a_successor_still_verifies_but_signs_no_more(world: World) -> None:
    token = world.mint()
    world.keys.replace([FIRST, SECOND])
    assert world.authenticate(token)
    assert world.authenticate(world.mint()).key_id == SECOND.kid


def test_revoked_token_is_refused_although_cached(world: World) -> None:
    token, other = world.mint(), world.mint()
    identity = world.authenticate(token)
    world.authenticator.revoke(identity.token_id, identity.expires)
    assert world.refusal(token) == "TOKEN_REVOKED"
    assert world.authenticate(other)


def test_a_copied_token_ends_with_its_login(world: World) -> None:
    mine = [
        world.mint(login="first"),
        world.mint(login="first", cluster=BoundCluster("dev", "id-1")),
    ]
    others = [world.mint(login="second"), world.mint()]
    for token in mine + others:
        world.authenticate(token)
    world.authenticator.revoke("first", NOW + LIFE)
    assert {world.refusal(token) for token in mine} == {"TOKEN_REVOKED"}
    for token in others:
        assert world.authenticate(token)
    world.now += LIFE - 1
    assert world.refusal(mine[0]) == "TOKEN_REVOKED", "to its very end"


@pytest.mark.parametrize("login", ["", 7, None, ["first"]])
def test_a_login_that_is_no_name_is_refused(world: World, login: object) -> None:
    assert world.refusal(signed(sid=login)) == "TOKEN_CLAIMS"


def test_attack_logouts_until_the_first_is_forgotten(world: World) -> None:
    token = world.mint(login="copied")
    world.authenticate(token)
    world.authenticator.revoke("copied", NOW + LIFE)
    for number in range(70_000):
        world.authenticator.revoke(f"login-{number}", NOW + LIFE)
    world.authenticator.second()
    assert world.refusal(token) == "TOKEN_REVOKED"


def test_revocations_do_not_pile_up(world: World) -> None:
    for number in range(5000):
        world.authenticator.revoke(f"login-{number}", NOW + LIFE)
    world.now += LIFE + LEEWAY - 1
    world.authenticator.second()
    assert len(world.authenticator._revocations) == 5000
    world.now += 61
    for _ in range(5):
        world.authenticator.second()
    assert len(world.authenticator._revocations) == 0


def test_what_was_revoked_is_told_once(world: World) -> None:
    world.authenticator.revoke("first", NOW + LIFE)
    world.authenticator.revoke("second", NOW + LIFE)
    assert world.authenticator.take_revoked() == ["first", "second"]
    world.authenticator.revoke("first", NOW + LIFE + 5)  # told before, read in the database now
    assert world.authenticator.take_revoked() == []


def test_attack_a_logout_that_costs_others_a_signature(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    token, others = world.mint(login="mine"), world.mint(login="other")
    for each in (token, others):
        world.authenticate(each)
    stamp = world.authenticator.stamp
    monkeypatch.setattr(jwt, "decode", None)
    world.authenticator.revoke("mine", NOW + LIFE)
    assert world.authenticator.vouches(world.authenticate(others), stamp)


def test_a_change_of_users_costs_nobody_a_signature(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = world.mint()
    identity = world.authenticate(token)
    monkeypatch.setattr(jwt, "decode", None)
    world.directory.replace({"0b1e": 3, "somebody else": 1})
    assert not world.authenticator.vouches(identity, world.authenticator.stamp - 1)
    assert world.authenticate(token) is identity
    assert world.authenticator.vouches(identity, world.authenticator.stamp)
    world.directory.replace({"0b1e": 4, "somebody else": 1})
    assert world.refusal(token) == "TOKEN_EPOCH"


def test_a_cached_token_gives_the_same_object(world: World) -> None:
    token = world.mint()
    identity = world.authenticate(token)
    assert world.authenticate(token) is identity
    world.directory.replace({"0b1e": 3, "somebody else": 1})
    assert world.authenticate(token) is identity, "a second look that found nothing changed"


def test_a_cached_token_still_expires(world: World) -> None:
    token = world.mint()
    world.authenticate(token)
    world.now = NOW + LIFE + LEEWAY
    assert world.refusal(token) == "TOKEN_EXPIRED"
    assert len(world.authenticator) == 0


def revoke(world: World, identity: Identity) -> None:
    world.authenticator.revoke(identity.token_id, identity.expires)


@pytest.mark.parametrize(
    "ending",
    [
        lambda world, _: world.directory.replace({}),
        lambda world, _: world.directory.replace({"0b1e": 4}),
        lambda world, _: world.keys.replace([SECOND]),
        revoke,
        lambda world, _: setattr(world, "now", NOW + LIFE + LEEWAY),
    ],
    ids=["disabled", "epoch", "key", "revoked", "expired"],
)
def test_nobody_is_vouched_for_after_the_end_of_the_token(
    world: World, ending: Callable[[World, Identity], None]
) -> None:
    token = world.mint()
    identity, stamp = world.authenticate(token), world.authenticator.stamp
    assert world.authenticator.vouches(identity, stamp)
    ending(world, identity)
    assert not world.authenticator.vouches(identity, stamp)
    assert world.refusal(token)


def test_a_flood_of_tokens_does_not_grow_the_cache() -> None:
    world = World(cache_size=4)
    for _ in range(9):
        world.authenticate(world.mint())
    assert len(world.authenticator) == 4


def test_expired_and_ended_tokens_are_gone_within_a_minute(world: World) -> None:
    for number in range(100):
        world.authenticate(world.mint(login=f"login-{number}"))
    world.now += 1
    world.authenticate(world.mint(login="young"))
    world.authenticator.revoke("login-7", NOW + LIFE)
    for _ in range(60):
        world.authenticator.second()
    assert len(world.authenticator) == 100
    world.now = NOW + LIFE + LEEWAY
    for _ in range(60):
        world.authenticator.second()
    assert len(world.authenticator) == 1, "what has not ended stays"


def test_memory_of_a_token_is_bounded(world: World) -> None:
    """All that a token holds is counted, and that is at most 4 KiB for tokens as ours are."""
    person = Person(email="a" * 100 + "@example.com", name="N" * 100)
    values = [
        b"Bearer " + world.mint(person, BoundCluster("c" * 63, "i" * 36), "l" * 22).encode()
        for _ in range(200)
    ]
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for number, value in enumerate(values):
            world.authenticator.authenticate(value + b"")
            values[number] = b""
        spent = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    held = world.authenticator.verified.size
    assert spent + sum(map(len, world.authenticator.verified._kept)) <= held
    assert held / 200 <= access_token.TOKEN_BYTES


def test_attack_long_tokens_take_no_more_than_the_budget() -> None:
    world = World(cache_size=4)
    person = Person(name="N" * 3000)
    for _ in range(6):
        world.authenticate(world.mint(person))
        assert world.authenticator.verified.size <= 4 * access_token.TOKEN_BYTES
    assert len(world.authenticator) == 1


def test_refused_tokens_are_not_remembered(world: World) -> None:
    for _ in range(3):
        world.refusal(signed(key=SECOND))
    assert len(world.authenticator) == 0


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"", "NO_TOKEN"),
        (b"Bearer", "TOKEN_MALFORMED"),
        (b"Bearer ", "TOKEN_MALFORMED"),
        (b"Basic ZGV2OnB3", "TOKEN_SCHEME"),
        (b"Negotiate abc", "TOKEN_SCHEME"),
        (b"Bearer a.b", "TOKEN_MALFORMED"),
        (b"Bearer a.b.c.d.e", "TOKEN_MALFORMED"),
        (b"Bearer \xff.\xff.\xff", "TOKEN_MALFORMED"),
        (b"Bearer " + b"a" * 9000 + b".b.c", "TOKEN_MALFORMED"),
    ],
)
def test_authorization_values_that_are_no_token(world: World, value: bytes, reason: str) -> None:
    with pytest.raises(Unauthenticated) as caught:
        world.authenticator.authenticate(value)
    assert caught.value.reason == reason


def test_junk_in_base64_that_lenient_decoders_skip(world: World) -> None:
    token = world.mint()
    for spelling in (f"{token}\n", f"{token}=", f"{token}!", f" {token}", token.replace(".", "!.")):
        assert world.refusal(spelling) == "TOKEN_MALFORMED"


def test_two_credentials_in_one_value(world: World) -> None:
    token = world.mint()
    assert world.refusal(f"{token}, Bearer {token}") == "TOKEN_MALFORMED"


def test_the_scheme_may_be_written_in_any_case(world: World) -> None:
    token = world.mint().encode()
    assert world.authenticator.authenticate(b"bearer " + token).user == "dev@example.com"


def test_without_a_key_nothing_verifies_and_nothing_is_minted(world: World) -> None:
    token = world.mint()
    world.keys.replace([])
    assert world.refusal(token) == "TOKEN_KEY"
    with pytest.raises(LookupError, match="mk8s-central init"):
        world.mint()


FUZZED = World()


@given(st.binary(max_size=300))
def test_any_bytes_are_refused_and_raise_nothing_else(value: bytes) -> None:
    with pytest.raises(Unauthenticated):
        FUZZED.authenticator.authenticate(value)


@given(
    st.dictionaries(
        st.sampled_from(["alg", "kid", "typ", "jku"]), st.none() | st.text() | st.just("RS256")
    ),
    st.binary(max_size=40),
)
def test_any_header_and_body_are_refused(header: dict[str, object], body: bytes) -> None:
    token = f"Bearer {segment(header)}.{segment(body) or 'A'}.{segment(b'signature')}"
    with pytest.raises(Unauthenticated):
        FUZZED.authenticator.authenticate(token.encode())


@given(
    st.dictionaries(
        st.sampled_from(["sub", "email", "name", "epoch", "cluster", "exp", "nbf", "jti", "aud"]),
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.text()),
        min_size=1,
    )
)
def test_any_claims_under_our_own_signature_raise_nothing_else(changes: dict[str, Any]) -> None:
    try:
        identity = FUZZED.authenticate(signed(**changes))
    except Unauthenticated:
        return
    assert identity.user.isprintable()
    assert identity.uid == "0b1e"


def test_rsa_key_too_short() -> None:
    weak = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    with pytest.raises(ValueError, match="at least 2048 bits"):
        SigningKey("weak", weak)


# -- streams that outlive their token


def test_what_a_token_opened_lives_with_its_login() -> None:
    world = World()
    identity = world.authenticate(world.mint(login="first", ends=NOW + 3600))
    world.now = NOW + LIFE + 1000
    world.authenticator.recheck(identity)
    world.now = NOW + 3600 + LEEWAY
    with pytest.raises(Unauthenticated) as ended:
        world.authenticator.recheck(identity)
    assert ended.value.reason == "LOGIN_EXPIRED"


def test_attack_open_stream_after_the_logout() -> None:
    world = World()
    identity = world.authenticate(world.mint(login="first", ends=NOW + 3600))
    world.authenticator.revoke("first", NOW + 3600)
    with pytest.raises(Unauthenticated) as ended:
        world.authenticator.recheck(identity)
    assert ended.value.reason == "TOKEN_REVOKED"


@pytest.mark.parametrize("login", ["", "first"])
def test_a_token_that_does_not_say_when_its_login_ends_takes_its_streams_with_it(
    login: str,
) -> None:
    world = World()
    identity = world.authenticate(world.mint(login=login))
    world.now = NOW + LIFE + LEEWAY
    with pytest.raises(Unauthenticated):
        world.authenticator.recheck(identity)


@pytest.mark.parametrize("fresh", [True, False])
def test_a_login_ends_to_the_second(world: World, fresh: bool) -> None:
    """The leeway of clocks is for tokens; a token lives no longer than its login."""
    token = world.mint(login="login-1", ends=world.now + 10)
    if not fresh:
        assert world.authenticate(token).expires == world.now + 10
    world.now += 9.9
    identity = world.authenticate(token)
    world.authenticator.recheck(identity)
    stamp = world.authenticator.stamp
    assert world.authenticator.vouches(identity, stamp)
    world.now += 0.1
    assert not world.authenticator.vouches(identity, stamp)
    with pytest.raises(Unauthenticated) as refused:
        world.authenticate(token)
    assert refused.value.reason == "LOGIN_EXPIRED"
    with pytest.raises(Unauthenticated):
        world.authenticator.recheck(identity)


def test_who_watches_for_ended_logins_is_called_once_for_all(world: World) -> None:
    called: list[list[str]] = []
    world.authenticator.when_revoked = lambda: called.append([])
    for ended in ("first", "second", "second"):
        world.authenticator.revoke(ended, world.now + 900)
    assert len(called) == 1
    assert world.authenticator.take_revoked() == ["first", "second"]
    world.authenticator.revoke("third", world.now + 900)
    assert len(called) == 2
