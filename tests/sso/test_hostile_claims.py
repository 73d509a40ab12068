"""Well signed tokens of a provider where somebody chose bad words, each named after the attack."""

import secrets
from typing import Any

import pytest

from tests.sso.house import House, claims, refusal
from tests.sso.odd_issuer import OddIssuer

NAMES = {
    "a newline": "olga\n@example.com",
    "a NUL": "olga\x00@example.com",
    "a header (CRLF)": "olga@example.com\r\nImpersonate-Group: system:masters",
    "an escape sequence": "\x1b[2Jolga@example.com",
    "a right-to-left override": "olga\u202e@example.com",
    "system:masters": "system:masters",
    "system:admin": "system:admin",
    "a service account": "system:serviceaccount:kube-system:default",
    "a service token's name": "token:ci",
    "10 KB": "o" * 10_000 + "@example.com",
    "spaces around": " olga@example.com ",
    "nothing": "",
    "a Kelvin sign": "\u212aelvin@example.com",
    "a lone surrogate": "olga\ud800@example.com",
}


@pytest.mark.parametrize("attack", NAMES)
def test_a_user_name_with(attack: str, house: House, odd: OddIssuer) -> None:
    odd.behaviour.claims = {"email": NAMES[attack], "sub": secrets.token_hex(8)}
    assert "email" in house.visitor().refused("odd", odd.approve)


@pytest.mark.parametrize("value", [None, 7, True, ["olga@example.com"], {"a": "b"}], ids=repr)
def test_a_user_name_that_is_no_text(value: Any, house: House, odd: OddIssuer) -> None:
    odd.behaviour.claims = {"email": value}
    assert "email" in house.visitor().refused("odd", odd.approve)


@pytest.mark.parametrize("value", [False, None, "false", "true", 1], ids=repr)
def test_an_email_address_that_is_not_verified(value: Any, house: House, odd: OddIssuer) -> None:
    odd.behaviour.claims = {"email_verified": value}
    assert "not verified" in house.visitor().refused("odd", odd.approve)


GROUPS = {
    "a newline": ["devs\nx"],
    "a NUL": ["devs\x00"],
    "a header (CRLF)": ["devs\r\nImpersonate-User: admin"],
    "10 KB": ["g" * 10_000],
    "5,000 of them": [f"group-{number}" for number in range(5000)],
    "201 of them": [f"g{number}" for number in range(201)],
    "more than 3 KiB of them": [f"group-{number}-{'x' * 60}" for number in range(60)],
    "numbers": [1, 2],
    "an object": {"devs": True},
    "lists of lists": [["devs"]],
}


@pytest.mark.parametrize("attack", GROUPS)
def test_groups_with(attack: str, house: House, odd: OddIssuer) -> None:
    """A clear refusal, never a name or a list that is cut."""
    odd.behaviour.claims = {"groups": GROUPS[attack]}
    assert "group" in house.visitor().refused("odd", odd.approve)


def test_a_group_without_a_name(house: House, odd: OddIssuer) -> None:
    odd.behaviour.claims = {"groups": ["", "devs"]}
    assert claims(house.visitor().log_in("odd", odd.approve))["groups"] == ["odd:devs"]


def test_groups_that_are_elsewhere(house: House, odd: OddIssuer) -> None:
    """A distributed claim: fetched, it would be a request to wherever the token says."""
    odd.behaviour.claims = {
        "_claim_names": {"groups": "src1"},
        "_claim_sources": {"src1": {"endpoint": f"{odd.url}/groups-elsewhere"}},
    }
    assert "groups" in house.visitor().refused("odd", odd.approve)
    assert not odd.asked["/groups-elsewhere"]


@pytest.mark.parametrize("group", ["system:masters", "mk8s:users", "mk8s:role:admin", "other:devs"])
def test_a_group_that_is_called(group: str, house: House, odd: OddIssuer) -> None:
    """It is refused, or it is the issuer's own group of that name: never the one it looks like."""
    odd.behaviour.claims = {"groups": [group, "devs"]}
    visitor = house.visitor()
    answer = visitor.get(odd.approve(visitor.start("odd").location))
    told = visitor.listened(answer)
    if "code" not in told:
        assert "group" in refusal(answer)
        return
    tokens = visitor.redeem(told["code"]).json()
    assert claims(tokens)["groups"] == sorted(["odd:devs", f"odd:{group}"])


def test_an_email_address_that_equals_a_local_users(house: House, odd: OddIssuer) -> None:
    odd.behaviour.claims = {"email": "local@example.com", "sub": secrets.token_hex(8)}
    assert "local@example.com" in house.visitor().refused("odd", odd.approve)


def test_the_administrators_email_address(house: House, odd: OddIssuer) -> None:
    odd.behaviour.claims = {"email": "Admin@Example.com", "sub": secrets.token_hex(8)}
    house.visitor().refused("odd", odd.approve)


def test_the_email_address_of_another_issuers_person(
    house: House, odd: OddIssuer, other: OddIssuer
) -> None:
    house.visitor().log_in("odd", odd.approve)
    house.visitor().refused("other", other.approve)


def test_an_email_address_that_was_given_to_somebody_else(house: House, odd: OddIssuer) -> None:
    """A new subject behind the address of one who left does not become that person."""
    email = f"{secrets.token_hex(4)}@example.com"
    odd.behaviour.claims = {"email": email, "sub": "who-left"}
    house.visitor().log_in("odd", odd.approve)
    odd.behaviour.claims = {"email": email, "sub": "who-came"}
    house.visitor().refused("odd", odd.approve)


def test_a_login_gives_no_role_that_nobody_gave(house: House, odd: OddIssuer) -> None:
    odd.behaviour.claims = {"roles": ["admin"], "groups": ["admin"]}
    tokens = house.visitor().log_in("odd", odd.approve)
    answer = house.visitor().call("GET", "/users", token=tokens["access_token"])
    assert answer.status == 403
