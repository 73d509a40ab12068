"""The claims of an access token that say in which groups, how narrow and for whom its login is."""

from typing import Any

import pytest
from test_access_token import FIRST, ISSUER, NOW, Person, World, signed

from mk8s_proxy.identity import access_token
from mk8s_proxy.identity.access_token import SigningKeys
from mk8s_proxy.identity.identity import (
    MOST_GROUP_BYTES,
    MOST_GROUPS,
    MOST_NARROWING_BYTES,
    Login,
)
from mk8s_proxy.identity.token_claims import LONGEST_TOKEN_BYTES


@pytest.fixture
def world() -> World:
    return World()


def minted(login: Login) -> str:
    return access_token.mint(
        SigningKeys([FIRST]), user=Person(), cluster=None, issuer=ISSUER, lifetime=900, now=NOW,
        login=login,
    )[0]  # fmt: skip


def test_what_a_login_is_stands_in_its_tokens(world: World) -> None:
    login = Login("l", NOW + 3600, ("acme:devs", "acme:ops"), '{"verbs":["get"]}', "assistant")
    identity = world.authenticate(minted(login))
    assert identity.groups == ("mk8s:users", "acme:devs", "acme:ops")
    assert identity.login_groups == identity.groups
    assert (identity.narrowing, identity.delegate) == ('{"verbs":["get"]}', "assistant")
    assert identity.of_login == login


def test_a_login_without_them_has_no_such_claims(world: World) -> None:
    identity = world.authenticate(minted(Login("l", NOW + 3600)))
    assert identity.groups == ("mk8s:users",)
    assert (identity.narrowing, identity.delegate) == ("", "")
    assert identity.of_login == Login("l", NOW + 3600)
    assert world.authenticate(world.mint()).of_login is None


@pytest.mark.parametrize(
    "group",
    [
        "devs", "mk8s:users", "mk8s:role:admin", "MK8S:role:admin", "system:masters",
        "System:masters", ":x", "acme:", "", "acme:a\nb", "acme:x ", " acme:x", "acme:\u202ex",
        "acme:" + "x" * 252, 7, None, ["acme:x"],
    ],
)  # fmt: skip
def test_attack_a_group_that_is_no_issuers(world: World, group: object) -> None:
    assert world.refusal(signed(groups=[group])) == "TOKEN_CLAIMS"
    assert world.refusal(signed(groups=["acme:x", group])) == "TOKEN_CLAIMS"


@pytest.mark.parametrize(
    "changes",
    [
        {"groups": "acme:devs"},
        {"groups": {"acme:devs": 1}},
        {"groups": None},
        {"narrow": {}},
        {"narrow": None},
        {"delegate": 1},
        {"delegate": None},
        {"groups": [f"a:{number}" for number in range(MOST_GROUPS + 1)]},
        {"groups": ["acme:" + "x" * 251] * (MOST_GROUP_BYTES // 256) + ["a:b"]},
        {"groups": ["acme:" + "ä" * 125] * (MOST_GROUP_BYTES // 255) + ["a:" + "b" * 20]},
        {"narrow": "x" * (MOST_NARROWING_BYTES + 1)},
        {"narrow": "ä" * (MOST_NARROWING_BYTES // 2 + 1)},
    ],
)
def test_attack_more_than_a_login_may_have(world: World, changes: dict[str, Any]) -> None:
    # What the signer escapes may be too long to be read at all.
    assert world.refusal(signed(**changes)) in {"TOKEN_CLAIMS", "TOKEN_MALFORMED"}


@pytest.mark.parametrize("letter", ["x", "ä", "€", "\U0001d51e", '"'])
def test_all_that_a_login_may_have_fits_into_a_token(world: World, letter: str) -> None:
    """JSON escapes letters, base64 takes a third more."""
    most = MOST_GROUP_BYTES // 12
    names = [f"a:{number}" for number in range(MOST_GROUPS - 12)]
    size = len("".join(names))
    while size + most > MOST_GROUP_BYTES:
        most -= 1
    long = (min(most, 256, MOST_GROUP_BYTES - size) - 2) // len(letter.encode())
    groups = (*names, "a:" + letter * long)
    narrowing = letter * (MOST_NARROWING_BYTES // len(letter.encode()))
    token = minted(Login("l" * 36, NOW + 3600, groups, narrowing, letter * 128))
    assert len(token) <= LONGEST_TOKEN_BYTES
    assert world.authenticate(token).groups[1:] == groups


def test_as_many_groups_as_a_login_may_have(world: World) -> None:
    groups = [f"acme:{number:05}{'ä' * 122}" for number in range(12)]
    assert sum(len(it.encode()) for it in groups) <= MOST_GROUP_BYTES
    token = minted(Login("l", NOW + 3600, tuple(groups)))
    assert world.authenticate(token).groups[1:] == tuple(groups)
