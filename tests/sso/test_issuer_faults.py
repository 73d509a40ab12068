"""Issuers that are down, slow, broken or change their keys: nobody gets in, nobody else notices."""

import json
import threading
import time
from typing import Any

import pytest

from tests.sso.house import House, refusal
from tests.sso.odd_issuer import Key, OddIssuer

PATIENCE = 40
"""Seconds until central has looked for new keys."""
DOWN = "single sign-on does not work for now"
_DISCOVERY = "/.well-known/openid-configuration"


def test_an_issuer_that_is_down_opens_no_login(house: House) -> None:
    assert DOWN in refusal(house.visitor().start("absent"))


def test_an_issuer_that_is_down_keeps_the_logins_there_are(house: House, odd: OddIssuer) -> None:
    visitor = house.visitor()
    tokens = visitor.log_in("odd", odd.approve)
    odd.behaviour.answers["/token"] = (503, b"")
    for _ in range(2):
        answer = visitor.call("POST", "/auth/refresh", {"refresh_token": tokens["refresh_token"]})
        assert answer.status == 200, answer.text
        tokens = answer.json()
    refusal(visitor.get(odd.approve(visitor.start("odd").location)))
    odd.behaviour.answers.clear()
    answer = visitor.call("POST", "/auth/refresh", {"refresh_token": tokens["refresh_token"]})
    assert answer.status == 200, answer.text


def test_an_issuer_that_stalls(house: House, odd: OddIssuer, other: OddIssuer) -> None:
    """Who waits for it is told so in the end; nobody else waits."""
    other.behaviour.stalls.add("/token")
    other.behaviour.claims = {"sub": "slow", "email": "slow@example.com"}
    said: list[str] = []
    visitor = house.visitor()
    back = other.approve(visitor.start("other").location)
    slow = threading.Thread(target=lambda: said.append(refusal(visitor.get(back))))
    slow.start()
    house.visitor().log_in("odd", odd.approve)
    assert slow.is_alive()
    slow.join(60)
    assert DOWN in said[0]


BROKEN: dict[str, tuple[int, bytes]] = {
    "a server error": (500, b"oops"),
    "half of a JSON": (200, b'{"issuer": '),
    "a list": (200, b"[]"),
    "deep JSON": (200, b'{"a":' * 50_000 + b"1" + b"}" * 50_000),
    "five megabytes": (200, b'{"x": "' + b"x" * (5 << 20) + b'"}'),
    "a redirect": (302, b""),
    "nothing": (200, b""),
}


FOREIGN: dict[str, dict[str, Any]] = {
    "of another issuer": {"issuer": "https://evil.example"},
    "of the same issuer with a slash": {"issuer": "{url}/"},
    "of nobody": {"issuer": None},
}
DISCOVERY = (*BROKEN, *FOREIGN)


@pytest.mark.parametrize("fault", DISCOVERY)
def test_a_discovery_document_that_is(
    fault: str, house: House, odd_issuers: dict[str, OddIssuer]
) -> None:
    name = f"lame{DISCOVERY.index(fault)}"
    lame = odd_issuers[name]
    if fault in BROKEN:
        lame.behaviour.answers[_DISCOVERY] = BROKEN[fault]
    else:
        said = FOREIGN[fault]["issuer"]
        lame.behaviour.metadata = {"issuer": said and said.format(url=lame.url)}
    assert DOWN in refusal(house.visitor().start(name))
    assert lame.asked[_DISCOVERY]
    assert not lame.asked["/elsewhere"]


@pytest.mark.parametrize("fault", BROKEN)
def test_a_token_answer_that_is(fault: str, house: House, odd: OddIssuer) -> None:
    visitor = house.visitor()
    back = odd.approve(visitor.start("odd").location)
    odd.behaviour.answers["/token"] = BROKEN[fault]
    refusal(visitor.get(back))
    assert odd.asked["/token"] == 1
    assert not odd.asked["/elsewhere"]


JWKS: dict[str, tuple[int, bytes]] = {
    **BROKEN,
    "no key": (200, b'{"keys": []}'),
    "of keys of no kind": (200, b'{"keys": [null, 1, {}, {"kty": "oct", "k": "AAAA"}]}'),
    "of thousands of keys": (200, json.dumps({"keys": [Key().jwk] * 2000}).encode()),
}


@pytest.mark.parametrize("fault", JWKS)
def test_a_key_set_that_is(fault: str, house: House, odd_issuers: dict[str, OddIssuer]) -> None:
    name = f"keyless{list(JWKS).index(fault)}"
    keyless = odd_issuers[name]
    keyless.behaviour.answers["/jwks"] = JWKS[fault]
    said = house.visitor().refused(name, keyless.approve)
    assert DOWN in said or "by a key that it has not" in said
    assert keyless.asked["/jwks"]
    assert not keyless.asked["/elsewhere"]


def test_keys_that_are_rotated(house: House, turning: OddIssuer) -> None:
    """The new one is looked for and found; a token by the old one is worth nothing then."""
    turning.behaviour.claims = {"sub": "turner", "email": "turner@example.com"}
    house.visitor().log_in("turning", turning.approve)
    old = turning.key
    turning.rotate()
    deadline = time.monotonic() + PATIENCE
    while True:
        visitor = house.visitor()
        told = visitor.listened(visitor.get(turning.approve(visitor.start("turning").location)))
        if "code" in told:
            break
        assert time.monotonic() < deadline, told
        time.sleep(0.5)
    turning.behaviour.forge = old.sign
    house.visitor().refused("turning", turning.approve)


def test_names_of_keys_that_are_made_up(house: House, turning: OddIssuer) -> None:
    """However many tokens name unknown keys, the issuer is asked for its keys once in a while."""
    turning.behaviour.claims = {"sub": "turner", "email": "turner@example.com"}
    stranger = Key()
    turning.behaviour.forge = lambda claims: stranger.sign(claims, kid=Key.fresh_kid())
    began = time.monotonic()
    for _ in range(20):
        house.visitor().refused("turning", turning.approve)
    took = time.monotonic() - began
    assert turning.asked["/token"] == 20
    assert turning.asked["/jwks"] <= 8 + took / 10
