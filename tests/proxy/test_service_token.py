"""Service tokens as the authenticator takes them: opaque, looked up in memory, gone when told."""

import hashlib
import time
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mk8s_proxy.identity.access_token import LEEWAY, SigningKey, SigningKeys, TokenAuthenticator
from mk8s_proxy.identity.access_token import mint as mint_token
from mk8s_proxy.identity.directory import UserDirectory
from mk8s_proxy.identity.identity import BoundCluster, Identity, Unauthenticated
from mk8s_proxy.identity.service_token import (
    LOOK_SECONDS,
    ServiceLogin,
    hash_service_token,
    is_service_user,
    is_well_formed,
    new_service_token,
)

KEY = SigningKey.generate()
NOW = 1_800_000_000.0
ISSUER = "https://central.example.com"
TOKEN = new_service_token()
LOGIN = ServiceLogin("login-1", "t1", "ci", NOW + 3600)


class Job:
    """What an access token is minted for."""

    id = "t1"
    email = "token:ci"
    name = ""
    token_epoch = 0


class World:
    def __init__(self) -> None:
        self.now = NOW
        self.keys = SigningKeys([KEY])
        self.authenticator = TokenAuthenticator(
            self.keys, issuer=ISSUER, valid_epochs=UserDirectory(), clock=lambda: self.now
        )
        self.known = self.authenticator.service_tokens
        self.known.replace({hash_service_token(TOKEN.encode()): LOGIN})

    def authenticate(self, token: str = TOKEN) -> Identity:
        return self.authenticator.authenticate(f"Bearer {token}".encode())

    def refusal(self, token: str = TOKEN) -> str:
        with pytest.raises(Unauthenticated) as caught:
            self.authenticate(token)
        assert token[-20:] not in caught.value.message
        return caught.value.reason

    def access_token(self) -> str:
        return mint_token(
            self.keys,
            user=Job(),
            cluster=BoundCluster("dev-1", "c1"),
            issuer=ISSUER,
            lifetime=900,
            now=self.now,
            login=self.authenticate().of_login,
        )[0]


@pytest.fixture
def world() -> World:
    return World()


def test_the_form_is_one_that_scanners_know() -> None:
    assert TOKEN.startswith("mk8s_st_")
    assert len(TOKEN) == 8 + 40 + 6
    assert is_well_formed(TOKEN.encode())
    # The checksum as anybody else would compute it: base 62 of the CRC-32, six digits.
    digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    number = sum(digits.index(it) * 62**place for place, it in enumerate(reversed(TOKEN[-6:])))
    assert number == zlib.crc32(TOKEN[8:48].encode())
    assert len({new_service_token() for _ in range(50)}) == 50


@given(place=st.integers(8, 53), other=st.sampled_from("0aZ_-. \n"))
def test_a_mistyped_token_is_not_well_formed(place: int, other: str) -> None:
    wrong = TOKEN[:place] + other + TOKEN[place + 1 :]
    assert is_well_formed(wrong.encode()) == (wrong == TOKEN)


@given(st.binary(max_size=80))
def test_junk_is_refused_and_nothing_else_happens(junk: bytes) -> None:
    with pytest.raises(Unauthenticated):
        World().authenticator.authenticate(b"Bearer mk8s_st_" + junk)


def test_a_service_token_is_somebody(world: World) -> None:
    identity = world.authenticate()
    assert (identity.user, identity.uid, identity.groups) == ("token:ci", "t1", ("mk8s:users",))
    assert (identity.cluster, identity.token_id, identity.login) == ("", "", "login-1")
    assert identity.credential_ends == NOW + 3600
    assert world.authenticate() is identity, "remembered"


def test_attack_a_guessed_token(world: World) -> None:
    assert world.refusal(new_service_token()) == "SERVICE_TOKEN_UNKNOWN"
    assert len(world.authenticator) == 0, "nothing is remembered of guesses"


def test_attack_a_wrong_checksum_costs_no_hash(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bytes] = []
    sha256 = hashlib.sha256

    def noted(token: bytes) -> object:
        asked.append(token)
        return sha256(token)

    monkeypatch.setattr(hashlib, "sha256", noted)
    wrong = TOKEN[:-1] + ("0" if TOKEN[-1] != "0" else "1")
    assert world.refusal(wrong) == "SERVICE_TOKEN_MALFORMED"
    assert asked == []
    world.authenticate()
    assert asked == [TOKEN.encode()]


def test_the_token_is_looked_up_again_after_a_while(world: World) -> None:
    world.authenticate()
    assert world.known.take_used() == {"login-1"}
    world.authenticate()
    assert world.known.take_used() == set(), "a remembered token costs nothing"
    world.now += LOOK_SECONDS + LEEWAY
    assert world.authenticate().expires == world.now + LOOK_SECONDS
    assert world.known.take_used() == {"login-1"}


@pytest.mark.parametrize("remembered", [False, True])
def test_a_revoked_token_is_refused_at_once(world: World, remembered: bool) -> None:
    access = world.access_token()
    if remembered:
        world.authenticate()
        world.authenticate(access)
    before = world.authenticator.stamp
    world.known.replace({})
    assert world.authenticator.stamp > before, "open streams are looked at"
    assert world.refusal() == "SERVICE_TOKEN_UNKNOWN"
    assert world.refusal(access) == "SERVICE_TOKEN_ENDED"


def test_the_end_of_its_login_ends_it_too(world: World) -> None:
    identity, access = world.authenticate(), world.access_token()
    world.authenticator.revoke("login-1", NOW + 3600)
    assert world.refusal() == "SERVICE_TOKEN_ENDED"
    assert world.refusal(access) == "SERVICE_TOKEN_ENDED"
    with pytest.raises(Unauthenticated):
        world.authenticator.recheck(identity)


def test_what_it_opened_ends_when_it_expires(world: World) -> None:
    identity = world.authenticate()
    world.now = LOGIN.ends - 60
    access = world.access_token()
    world.authenticator.recheck(identity)
    before = world.authenticator.stamp
    world.authenticator.second()
    assert world.authenticator.stamp == before, "nothing has expired"
    world.now = LOGIN.ends
    world.authenticator.second()
    assert world.authenticator.stamp > before
    assert len(world.known) == 0
    for refused in (TOKEN, access):
        assert world.refusal(refused).startswith("SERVICE_TOKEN")
    with pytest.raises(Unauthenticated):
        world.authenticator.recheck(identity)


def test_a_token_between_two_seconds_of_its_end(world: World) -> None:
    world.now = LOGIN.ends
    assert world.refusal() == "SERVICE_TOKEN_UNKNOWN"
    with pytest.raises(Unauthenticated):
        world.known.require_live("login-1")


def test_the_rotated_secret_ends_with_the_overlap_and_the_next_one_stays(world: World) -> None:
    """Its access tokens still say what the login's end was when they were minted."""
    access, following = world.access_token(), new_service_token()
    soon = ServiceLogin("login-1", "t1", "ci", NOW + 60)
    world.known.replace(
        {
            hash_service_token(TOKEN.encode()): soon,
            hash_service_token(following.encode()): ServiceLogin("login-2", "t1", "ci", NOW + 9000),
        }
    )
    assert world.authenticate(access).user == world.authenticate(following).user == "token:ci"
    world.now += 60
    world.authenticator.second()
    assert world.refusal(access) == "SERVICE_TOKEN_ENDED"
    assert world.authenticate(following).login == "login-2"


def test_the_same_state_changes_nothing(world: World) -> None:
    before = world.known.generation
    world.known.replace({hash_service_token(TOKEN.encode()): LOGIN})
    assert world.known.generation == before


def test_an_address_is_no_service_token() -> None:
    assert is_service_user("token:ci")
    assert not is_service_user("token:ci@example.com")
    assert not is_service_user("dev@example.com")


def test_the_clock_is_the_wall_clock_by_default() -> None:
    authenticator = TokenAuthenticator(
        SigningKeys([KEY]), issuer=ISSUER, valid_epochs=UserDirectory()
    )
    login = ServiceLogin("l", "t", "ci", time.time() + 60)
    authenticator.service_tokens.replace({hash_service_token(TOKEN.encode()): login})
    assert authenticator.authenticate(b"bearer " + TOKEN.encode()).user == "token:ci"
