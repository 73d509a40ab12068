"""Claims become a user and groups: rules, limits, and names that nobody may have."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mk8s_proxy.identity.identity import (
    MOST_GROUP_BYTES,
    MOST_GROUPS,
    is_issuers_group,
    is_safe_user_name,
)
from mk8s_proxy.identity.oidc.claims import MOST_VALUES, claim_of, groups_of, person_of
from mk8s_proxy.identity.oidc.errors import Refused
from mk8s_proxy.settings.login import GroupRule, IssuerSettings


def issuer(**more: Any) -> IssuerSettings:
    return IssuerSettings("acme", "https://sso.example", "mk8s", **more)


def said(**more: Any) -> dict[str, Any]:
    return {"sub": "u-1", "email": "Ann@Example.com", "email_verified": True} | more


def refusal(claims: dict[str, Any], **more: Any) -> Refused:
    with pytest.raises(Refused) as caught:
        person_of(claims, issuer(**more))
    assert caught.value.message.isprintable()
    return caught.value


def test_a_person() -> None:
    person = person_of(said(name="Ann", groups=["ops", "devs", "ops"]), issuer())
    assert (person.subject, person.user, person.name) == ("u-1", "ann@example.com", "Ann")
    assert person.groups == ("acme:devs", "acme:ops")
    assert person.shown == {"sub": "u-1", "email": "Ann@Example.com", "name": "Ann"}


def test_another_claim_may_name_the_user() -> None:
    assert person_of(said(upn="ann"), issuer(user_claim="upn")).user == "ann"
    assert person_of(said(a={"b": "ann"}), issuer(user_claim="a.b")).user == "ann"
    assert refusal(said(), user_claim="upn").reason == "CLAIM_USER"


def test_attack_an_unverified_email() -> None:
    for verified in (False, None, "true", 1):
        claims = said(email_verified=verified)
        assert refusal(claims).reason == "EMAIL_UNVERIFIED"
        assert person_of(claims, issuer(trust_email=True)).user == "ann@example.com"


@pytest.mark.parametrize(
    "name",
    [
        "", 5, None, ["ann"], "a b", "a\nb", "a\x00", "a\u202eb", "system:masters", "System:x",
        "token:ci", "mk8s:x", "a" * 255, "\ud800", "\u212aim@example.com", "\uff21nn",
    ],
)  # fmt: skip
def test_attack_names_that_nobody_may_have(name: object) -> None:
    assert refusal(said(email=name)).reason == "CLAIM_USER"


def test_names_in_other_scripts_are_taken_as_they_are() -> None:
    assert person_of(said(email="jürgen@example.com"), issuer()).user == "jürgen@example.com"


@pytest.mark.parametrize("subject", [None, "", 7, "a\n", " a", "a" * 256, "\ud800"])
def test_attack_subjects_that_nobody_has(subject: object) -> None:
    assert refusal(said(sub=subject)).reason == "CLAIM_SUBJECT"


@pytest.mark.parametrize("name", [5, "a\x1b[31m", "x" * 300])
def test_a_name_for_people_that_cannot_be_shown_is_left_out(name: object) -> None:
    person = person_of(said(name=name), issuer())
    assert (person.name, "name" in person.shown) == ("", False)


def test_the_longest_subject_is_shown_whole() -> None:
    """A refresh compares it."""
    assert person_of(said(sub="s" * 255), issuer()).shown["sub"] == "s" * 255


RULES = (
    GroupRule("admins", "chiefs"),
    GroupRule("k8s-*", "*"),
    GroupRule("*-team", "team-*"),
    GroupRule("k8s-late", "never"),
    GroupRule("/org/*/all", "everybody"),
    GroupRule("exact", "first"),
    GroupRule("exact", "second"),
    GroupRule("x*", "pattern"),
    GroupRule("xx", "whole"),
)


@pytest.mark.parametrize(
    ("value", "groups"),
    [
        ("admins", ("acme:chiefs",)),
        ("k8s-devs", ("acme:devs",)),
        ("red-team", ("acme:team-red",)),
        ("k8s-late", ("acme:late",)),
        ("/org/a/all", ("acme:everybody",)),
        ("exact", ("acme:first",)),
        ("xx", ("acme:pattern",)),
        ("k8s-", ()),
        ("other", ()),
        ("", ()),
    ],
)
def test_the_first_rule_that_matches_decides(value: str, groups: tuple[str, ...]) -> None:
    assert groups_of({"groups": [value]}, issuer(groups=RULES)) == groups


def test_a_whole_value_before_a_pattern() -> None:
    rules = (GroupRule("xx", "whole"), GroupRule("x*", "pattern"))
    assert groups_of({"groups": ["xx", "xy"]}, issuer(groups=rules)) == (
        "acme:pattern",
        "acme:whole",
    )


def test_rules_may_read_other_claims() -> None:
    rules = (GroupRule(), GroupRule("*", "role-*", "realm_access.roles"))
    claims = {"groups": ["a"], "realm_access": {"roles": ["b"]}}
    assert groups_of(claims, issuer(groups=rules)) == ("acme:a", "acme:role-b")


def test_claims_with_dots_in_their_names() -> None:
    assert claim_of({"https://a.b/groups": [1]}, "https://a.b/groups") == [1]
    assert claim_of({"a.b": 1, "a": {"b": 2}}, "a.b") == 1
    assert claim_of({"a": {"b": 2}}, "a.b") == 2
    assert claim_of({"a": [1]}, "a.b") is None
    assert claim_of({}, "a") is None


def test_groups_may_be_one_or_none() -> None:
    assert groups_of({"groups": "devs"}, issuer()) == ("acme:devs",)
    assert groups_of({"groups": None}, issuer()) == ()
    assert groups_of({}, issuer()) == ()
    assert groups_of({"groups": ["a"]}, issuer(groups_claim="")) == ()


@pytest.mark.parametrize("value", [5, {"a": 1}, ["a", 5], [["a"]], [None]])
def test_groups_that_are_no_texts_are_refused(value: object) -> None:
    assert refusal(said(groups=value)).reason == "CLAIM_GROUPS"


@pytest.mark.parametrize("name", ["a\nb", "a\x00", "x" * 300, "a ", "\u202e", "\ud800"])
def test_attack_groups_with_control_characters_and_10_kb_names(name: str) -> None:
    refused = refusal(said(groups=["ok", name]))
    assert refused.reason == "CLAIM_GROUPS"
    assert len(refused.message) < 700


def test_attack_system_masters_of_an_issuer_is_nothing_but_its_own_group() -> None:
    assert groups_of({"groups": ["system:masters"]}, issuer()) == ("acme:system:masters",)


def test_attack_5000_groups_are_a_clear_limit_and_never_a_silent_cut() -> None:
    many = [f"team-{number}" for number in range(5000)]
    refused = refusal(said(groups=many))
    assert refused.reason == "TOO_MANY_GROUPS"
    assert f"5000 groups, of at most {MOST_GROUPS}" in refused.message
    chosen = groups_of({"groups": many}, issuer(groups=(GroupRule("team-42*"),)))
    assert len(chosen) == 110
    assert refusal(said(groups=["a"] * (MOST_VALUES + 1))).reason == "TOO_MANY_GROUPS"


def test_the_names_of_all_groups_together_are_bounded() -> None:
    long = [f"{number:0200}" for number in range(MOST_GROUP_BYTES // 200)]
    assert "bytes, of at most" in refusal(said(groups=long)).message
    assert len(groups_of({"groups": long[:-1]}, issuer())) == len(long) - 1


def test_groups_that_the_issuer_keeps_elsewhere_are_a_clear_limit() -> None:
    claims = said(_claim_names={"groups": "src1"}, _claim_sources={"src1": {}})
    assert refusal(claims).reason == "GROUPS_ELSEWHERE"
    assert person_of(said(_claim_names={"other": "src1"}), issuer()).groups == ()


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.fixed_dictionaries({"sub": VALUES, "email": VALUES, "groups": VALUES, "name": VALUES}),
    st.lists(
        st.sampled_from([GroupRule(), GroupRule("a*", "b*"), GroupRule("*x", "y")]), max_size=3
    ),
)
def test_whatever_is_claimed_gives_safe_names_or_a_refusal(
    claims: dict[str, Any], rules: list[GroupRule]
) -> None:
    try:
        person = person_of(claims, issuer(groups=tuple(rules), trust_email=True))
    except Refused:
        return
    assert is_safe_user_name(person.user)
    assert ":" not in person.user
    assert all(map(is_issuers_group, person.groups))
