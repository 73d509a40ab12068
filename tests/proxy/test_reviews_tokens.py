"""Tokens of mk8s are found wherever they stand, and judged as the cluster would see their owner."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mk8s_proxy.answers.reviews.documents import DocumentError
from mk8s_proxy.answers.reviews.tokens import (
    NOT_THE_CALLERS,
    OTHER_AUDIENCE,
    OwnTokens,
    token_of,
    token_status,
    with_token,
)
from mk8s_proxy.identity import join_token, refresh
from mk8s_proxy.identity.access_token import AUDIENCE
from mk8s_proxy.identity.identity import Identity
from mk8s_proxy.identity.service_token import new_service_token

ISSUER = "https://central.example.com"


def part_of(document: Any) -> str:
    text = json.dumps(document, separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


def jwt(issuer: Any, **claims: Any) -> str:
    head = {"alg": "RS256", "kid": "k", "typ": "JWT"}
    return f"{part_of(head)}.{part_of({'iss': issuer, **claims})}.c2lnbmF0dXJl"


MINE = jwt(ISSUER, sub="me")
THEIRS = jwt(ISSUER, sub="somebody else")
FOREIGN = jwt("https://kubernetes.default.svc", aud=[ISSUER])
OURS = OwnTokens(b"Bearer " + MINE.encode(), "mk8s")
ME = Identity("me@example.com", "id-me", ("mk8s:users",), 1e12, "", "t", 1)


def test_the_callers_own_token_is_that_very_one() -> None:
    assert OURS.is_callers(MINE)
    for other in (THEIRS, MINE + "x", MINE[:-1], MINE.upper(), "", "\ud800", " " + MINE):
        assert not OURS.is_callers(other)


@pytest.mark.parametrize(
    "text",
    [
        MINE,
        THEIRS,
        f"Bearer {THEIRS}",
        f'{{"a": "{THEIRS}"}}',
        f"x.{THEIRS}.y",
        THEIRS.rpartition(".")[0],
        f"{FOREIGN} {THEIRS}",
        refresh.PREFIX + "x" * 43,
        pytest.param(new_service_token(), id="service-token"),
        join_token.PREFIX + "x" * 43,
    ],
)
def test_attack_token_of_mk8s_in_any_surroundings(text: str) -> None:
    assert OURS.are_in(text.encode())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "secret",
        FOREIGN,
        jwt(None),
        jwt(7),
        jwt([ISSUER]),
        jwt(ISSUER + "/"),
        f"{part_of({})}.{part_of([ISSUER])}.x",
        "eyJ",
        "eyJA.eyJA.eyJA",
        "eyJpc3MiOg",
        ISSUER,
    ],
)
def test_tokens_of_others_are_none_of_ours(text: str) -> None:
    assert not OURS.are_in(text.encode())


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_no_surroundings_hide_a_token(before: bytes, after: bytes) -> None:
    assert OURS.are_in(before + b"." + THEIRS.encode() + b"." + after)


@given(st.text(alphabet="eyJpc3MiOi.-_A", max_size=200))
def test_what_only_looks_like_tokens_is_read_without_an_error(text: str) -> None:
    assert not OURS.are_in(text.encode())


@pytest.mark.parametrize(
    ("review", "token"),
    [
        ({"spec": {"token": "x"}}, "x"),
        ({"spec": {}}, ""),
        ({"spec": None}, ""),
        ({"spec": {"token": None}}, ""),
        ({}, ""),
    ],
)
def test_the_token_of_a_review(review: Any, token: str) -> None:
    assert token_of(review) == token
    assert token_of(with_token(review, "other")) == "other"


@pytest.mark.parametrize("review", [{"spec": 1}, {"spec": [1]}, {"spec": {"token": 1}}])
def test_a_review_that_is_none(review: Any) -> None:
    with pytest.raises(DocumentError, match="no spec"):
        token_of(review)


def review(**spec: Any) -> dict[str, Any]:
    return {"spec": {"token": MINE, **spec}}


def test_the_callers_token_is_the_user_whom_the_cluster_sees() -> None:
    assert token_status(review(), ME, AUDIENCE, callers=True) == {
        "authenticated": True,
        "user": {
            "username": "me@example.com",
            "uid": "id-me",
            "groups": ["mk8s:users", "system:authenticated"],
        },
    }


def test_the_roles_of_the_caller_are_theirs_alone() -> None:
    roles = ("mk8s:role:a",)
    own = token_status(review(), ME, AUDIENCE, callers=True, roles=roles)
    assert own["user"]["groups"] == ["mk8s:users", "mk8s:role:a", "system:authenticated"]
    acting = Identity("root@example.com", "", ("mk8s:users",), 1e12, "", "t", 1, original=ME)
    lent = token_status(review(), acting, AUDIENCE, callers=True, roles=roles)
    assert lent["user"]["groups"] == ["mk8s:users", "system:authenticated"]


def test_attack_acting_as_somebody_does_not_lend_them_the_token() -> None:
    acting = Identity("root@example.com", "", ("mk8s:users",), 1e12, "", "t", 1, original=ME)
    status = token_status(review(), acting, AUDIENCE, callers=True)
    assert status["user"]["username"] == "me@example.com"


def test_attack_stolen_token_is_not_tried_out_here() -> None:
    status = token_status(review(), ME, AUDIENCE, callers=False)
    assert status == {"authenticated": False, "user": {}, "error": NOT_THE_CALLERS}


def test_attack_service_takes_the_token_for_its_own_audience() -> None:
    status = token_status(review(audiences=["billing"]), ME, AUDIENCE, callers=True)
    assert status == {"authenticated": False, "user": {}, "error": OTHER_AUDIENCE}


def test_the_audience_of_mk8s_is_confirmed() -> None:
    status = token_status(review(audiences=["billing", "mk8s"]), ME, AUDIENCE, callers=True)
    assert status["authenticated"] is True
    assert status["audiences"] == ["mk8s"]
    assert "audiences" not in token_status(review(audiences=[]), ME, AUDIENCE, callers=True)


def test_audiences_that_are_no_list() -> None:
    with pytest.raises(DocumentError, match="audiences"):
        token_status(review(audiences="mk8s"), ME, AUDIENCE, callers=True)


def test_attack_behind_a_service_token_other_tokens_of_mk8s_are_known_by_their_audience() -> None:
    """It names no issuer by which they would be recognised."""
    mine = new_service_token()
    ours = OwnTokens(b"Bearer " + mine.encode(), "mk8s")
    assert ours.is_callers(mine)
    assert ours.are_in(f"x {mine} y".encode())
    assert ours.are_in(jwt("https://any.example.com", aud="mk8s").encode())
    assert not ours.are_in(jwt("https://any.example.com", aud="other").encode())
    assert not ours.are_in(FOREIGN.encode())
