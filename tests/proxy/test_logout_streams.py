"""A logout ends the open streams of its own login, and costs nobody else anything."""

import time
from pathlib import Path
from typing import Any

import pytest

from mk8s_proxy.identity import access_token
from mk8s_proxy.identity.access_token import SigningKey, SigningKeys, TokenAuthenticator
from mk8s_proxy.identity.directory import UserDirectory
from mk8s_proxy.identity.identity import Identity, Login
from tests.support.front_door import PODS, RBAC, Agent, Central, Http2Person
from tests.support.memory import headers

ISSUER = "https://central.example.com"
WATCH = b"/k8s/prod" + PODS + b"?watch=1"
KEYS = SigningKeys([SigningKey.generate()])


class Person:
    """Somebody with a user's record."""

    def __init__(self, name: str) -> None:
        self.id = f"id-{name}"
        self.email = f"{name}@example.com"
        self.name = name
        self.token_epoch = 0


class Counting:
    """The real authenticator, and whom the chain asked it about."""

    def __init__(self, directory: UserDirectory) -> None:
        self.real = TokenAuthenticator(KEYS, issuer=ISSUER, valid_epochs=directory)
        self.verified: list[bytes] = []
        self.rechecked: list[str] = []

    @property
    def stamp(self) -> int:
        return self.real.stamp

    def authenticate(self, authorization: bytes) -> Identity:
        self.verified.append(authorization)
        return self.real.authenticate(authorization)

    def vouches(self, identity: Identity, stamp: int) -> bool:
        return self.real.vouches(identity, stamp)

    def recheck(self, identity: Identity) -> Identity:
        self.rechecked.append(identity.user)
        return self.real.recheck(identity)


class House:
    """Central with an agent, and clients who have logged in."""

    def __init__(self, folder: Path) -> None:
        roles = ["developer"]
        users = [{"email": f"{name}@example.com", "roles": roles} for name in ("ann", "bob")]
        self.central = Central(folder, rbac=RBAC | {"users": users})
        directory = UserDirectory()
        directory.replace({"id-ann": 0, "id-bob": 0})
        self.authenticator = Counting(directory)
        chain: Any = self.central.chain
        chain._authenticator = self.authenticator
        self.agent: Agent = self.central.agent()

    def token(self, name: str, login: str) -> bytes:
        token, _ = access_token.mint(
            KEYS,
            user=Person(name),
            cluster=None,
            issuer=ISSUER,
            lifetime=900,
            now=time.time(),
            login=Login(login, time.time() + 3600),
        )
        return token.encode()

    def watch(self, token: bytes) -> tuple[Http2Person, int]:
        """An open watch."""
        client = self.central.http2()
        number = client.ask(WATCH, token=token)
        stream, _ = self.agent.request()
        self.agent.send(headers(stream, [(b":status", b"200")]))
        return client, number

    def logout(self, ended: str) -> None:
        """What `app` does of it within a second, and two seconds."""
        self.authenticator.real.revoke(ended, time.time() + 900)
        for credential in self.authenticator.real.take_revoked():
            self.central.chain.long_running.recheck(credential)
        for _ in range(2):
            self.central.chain.long_running.second(time.time())


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def test_open_streams_of_a_login_end_with_it(house: House) -> None:
    mine = [house.watch(house.token("ann", "laptop")) for _ in range(2)]
    others = [house.watch(house.token("ann", "desk")), house.watch(house.token("bob", "phone"))]
    house.logout("laptop")
    assert [client.answer(number).ended for client, number in mine] == [True, True]
    assert [client.answer(number).ended for client, number in others] == [False, False]


def test_an_open_stream_ends_with_its_token(house: House) -> None:
    token = house.token("ann", "laptop")
    client, number = house.watch(token)
    house.logout(house.authenticator.real.authenticate(b"Bearer " + token).token_id)
    assert client.answer(number).ended


def test_attack_logouts_make_no_work_for_others(house: House) -> None:
    bobs = house.token("bob", "phone")
    house.watch(bobs)
    asking = house.central.http2()
    asking.ask(token=bobs)
    house.authenticator.verified.clear()
    for number in range(100):
        house.logout(f"login-{number}")
    asking.ask(token=bobs)
    assert house.authenticator.verified == [], "his request recurs as before"
    assert house.authenticator.rechecked == [], "his stream is not asked about"


def test_what_has_ended_is_not_looked_for(house: House) -> None:
    client, _ = house.watch(house.token("ann", "laptop"))
    other = house.watch(house.token("ann", "laptop"))
    client.connection.connection_lost()
    assert len(house.central.chain.long_running) == 1
    house.logout("laptop")
    assert other[0].answer(other[1]).ended
    assert house.central.chain.long_running._by_credential == {}
