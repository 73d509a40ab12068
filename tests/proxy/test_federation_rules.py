"""Federation rules: what binds a job to an owner, which tokens match, and what a job is called."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mk8s_proxy.authz.compile import compile_globs
from mk8s_proxy.identity.federated_logins import FederatedLogins
from mk8s_proxy.identity.federation import (
    MOST_CLAIMS,
    MOST_GLOBS,
    RuleRefused,
    check_claims,
    is_federated_user,
    matches,
    uid_of,
    user_of,
)
from mk8s_proxy.identity.identity import Identity, Unauthenticated, is_safe_user_name


@pytest.mark.parametrize(
    "claims",
    [
        {"repository": ["acme/shop"]},
        {"repository": ["acme/*"], "ref": ["refs/heads/*"]},
        {"repository_owner": ["acme"], "environment": ["prod"]},
        {"repository_id": ["7"]},
        {"project_path": ["acme/shop", "acme/infra/*"]},
        {"namespace_path": ["acme"]},
        {"namespace_path": ["acme/*"]},
        {"kubernetes.io/namespace": ["ci"], "kubernetes.io/serviceaccount/name": ["deploy-*"]},
        {"sub": ["system:serviceaccount:ci:deploy"]},
        {"sub": ["system:serviceaccount:ci:*"]},
        {"sub": ["repo:acme/*"]},
        {"sub": ["project_path:acme/shop:*"]},
        {"sub": ["0oa1"]},
        {"aud": ["mk8s"], "sub": ["a:b:*"]},
    ],
)
def test_rules_that_are_bound_to_an_owner(claims: dict[str, list[str]]) -> None:
    check_claims(claims)


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": ["mk8s"]},
        {"ref": ["refs/heads/main"]},
        {"repository": ["acme*"]},
        {"repository": ["*/shop"]},
        {"repository": ["/*"]},
        {"repository": ["acme/shop", "*/shop"]},
        {"repository_owner": ["acme*"]},
        {"repository_owner": ["*acme"]},
        {"repository_id": ["7*"]},
        {"project_path": ["a*/x"]},
        {"namespace_path": ["acme*"]},
        {"kubernetes.io/namespace": ["team-*"]},
        {"kubernetes.io/serviceaccount/name": ["default"]},
        {"sub": ["repo:*"]},
        {"sub": ["repo:acme*"]},
        {"sub": ["*:acme/shop"]},
        {"sub": ["::*"]},
        {"sub": ["project_path:*"]},
        {"sub": ["system:serviceaccount:*"]},
        {"sub": ["system:serviceaccount:ci*"]},
        {"sub": ["repo:acme/shop", "repo:*"]},
        {},
    ],
)
def test_attack_a_rule_that_strangers_match_too(claims: dict[str, list[str]]) -> None:
    with pytest.raises(RuleRefused, match=r"repository or repository_owner .* or sub"):
        check_claims(claims)


@pytest.mark.parametrize(
    ("claims", "problem"),
    [
        ({"repository": ["*"]}, "matches everything"),
        ({"repository": ["acme/x"], "ref": ["**"]}, "matches everything"),
        ({"repository": []}, "give 1 to 50 values"),
        ({"repository": ["acme/x"] * (MOST_GLOBS + 1)}, "give 1 to 50 values"),
        ({"repository": [""]}, "printable"),
        ({"repository": ["acme/\n"]}, "printable"),
        ({"repository": ["acme/" + "x" * 512]}, "printable"),
        ({"": ["x"]}, "name"),
        ({"a\nb": ["x"]}, "name"),
        ({"a" * 513: ["x"]}, "name"),
        ({f"c{number}": ["x"] for number in range(MOST_CLAIMS + 1)}, "at most 20 claims"),
    ],
)
def test_mistakes(claims: dict[str, list[str]], problem: str) -> None:
    with pytest.raises(RuleRefused, match=problem):
        check_claims(claims)


GITHUB = {
    "sub": "repo:acme/shop:ref:refs/heads/main", "repository": "acme/shop", "run_attempt": 2,
    "ref": "refs/heads/main", "ref_protected": True, "runner": None, "list": ["a", 1, "b"],
}  # fmt: skip
POD = {"kubernetes.io": {"namespace": "ci", "serviceaccount": {"name": "deploy", "uid": "1"}}}


@pytest.mark.parametrize(
    ("rule", "claims", "good"),
    [
        ({"repository": ["acme/shop"], "ref": ["refs/heads/main"]}, GITHUB, True),
        ({"repository": ["acme/shop"], "ref": ["refs/heads/dev"]}, GITHUB, False),
        ({"repository": ["other/x", "acme/*"]}, GITHUB, True),
        ({"repository": ["Acme/shop"]}, GITHUB, False),
        ({"ref_protected": ["true"]}, GITHUB, True),
        ({"ref_protected": ["True"]}, GITHUB, False),
        ({"ref_protected": ["false"]}, {"ref_protected": False}, True),
        ({"run_attempt": ["2"]}, GITHUB, True),
        ({"list": ["b"]}, GITHUB, True),
        ({"list": ["1"]}, GITHUB, False),
        ({"runner": ["None"]}, GITHUB, False),
        ({"missing": ["x*"]}, GITHUB, False),
        ({"kubernetes.io/namespace": ["ci"]}, POD, True),
        ({"kubernetes.io/serviceaccount/name": ["dep*"]}, POD, True),
        ({"kubernetes.io/serviceaccount/name/x": ["dep*"]}, POD, False),
        ({"kubernetes.io/pod/name": ["x"]}, POD, False),
        ({"kubernetes.io": ["x"]}, POD, False),
        ({"a/b": ["flat"]}, {"a/b": "flat", "a": {"b": "nested"}}, True),
        ({"a/b": ["nested"]}, {"a/b": "flat", "a": {"b": "nested"}}, False),
    ],
)
def test_which_tokens_match(rule: dict[str, list[str]], claims: Any, good: bool) -> None:
    assert matches(rule, claims) is good


@given(st.text("ab*", max_size=6), st.text("ab", max_size=6))
def test_globs_are_those_of_the_policy(glob: str, value: str) -> None:
    expected = compile_globs((glob,)).matches(value)
    assert matches({"x": [glob]}, {"x": value}) is expected


@pytest.mark.parametrize(
    ("glob", "value", "good"),
    [
        ("a*b*c", "abc", True),
        ("a*b*c", "a1b2c", True),
        ("a*b*b", "ab", False),
        ("a*x*c", "abc", False),
        ("ab*ba", "aba", False),
        ("*b*", "abc", True),
    ],
)
def test_globs(glob: str, value: str, good: bool) -> None:
    assert matches({"x": [glob]}, {"x": value}) is good


def test_attack_a_glob_that_takes_ages() -> None:
    assert not matches({"x": ["*a" * 200 + "b*"]}, {"x": "a" * 16000})


def test_a_long_subject_is_cut_and_stays_its_own() -> None:
    names = {user_of("github", "repo:" + "x" * 300 + end) for end in "ab"}
    assert len(names) == 2
    assert all(is_safe_user_name(name) and "~" in name for name in names)


# -- names -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("subject", "user"),
    [
        ("repo:acme/shop:ref:refs/heads/main",
         "federated:github:repo:acme/shop:ref:refs/heads/main"),
        ("repo:a/b:environment:My Prod", "federated:github:repo:a/b:environment:My%20Prod"),
        ("admin@example.com", "federated:github:admin%40example.com"),
        ("a\u202eb", "federated:github:a%E2%80%AEb"),
        ("%40", "federated:github:%2540"),
    ],
)  # fmt: skip
def test_what_a_job_is_called(subject: str, user: str) -> None:
    assert user_of("github", subject) == user
    assert is_federated_user(user)


@given(st.text(min_size=1, max_size=300), st.text(min_size=1, max_size=300))
def test_names_are_safe_and_differ(one: str, other: str) -> None:
    names = [user_of("x" * 63, it) for it in (one, other)]
    assert all(map(is_safe_user_name, names))
    assert all(map(is_federated_user, names))
    assert all("@" not in name for name in names)
    assert (names[0] == names[1]) is (one == other)
    assert (uid_of("x", one) == uid_of("x", other)) is (one == other)
    assert uid_of("x", one) != uid_of("y", one)


def test_attack_an_email_address_that_begins_like_a_job() -> None:
    assert not is_federated_user("federated:x@example.com")


# -- who may go on ---------------------------------------------------------------------------------


def job(*groups: str, issuer: str = "github") -> Identity:
    user = user_of(issuer, "s")
    return Identity(user, "u", ("mk8s:users", *groups), 1e12, "", "t", 0, "l", 1e12)


def refused(logins: FederatedLogins, identity: Identity) -> bool:
    try:
        logins.require_live(identity)
    except Unauthenticated as error:
        return error.reason == "FEDERATION_GONE"
    return False


def test_logins_live_as_long_as_their_rules() -> None:
    logins = FederatedLogins()
    one, both = job("federated:a"), job("federated:a", "federated:b")
    assert refused(logins, one)
    logins.replace({"a": "github", "b": "github"})
    assert logins.generation == 1
    assert not refused(logins, one)
    assert not refused(logins, both)
    logins.replace({"b": "github", "a": "github"})
    assert logins.generation == 1
    logins.replace({"a": "github"})
    assert logins.generation == 2
    assert not refused(logins, one)
    assert refused(logins, both)


def test_attack_a_rule_of_another_issuer_or_no_rule() -> None:
    logins = FederatedLogins()
    logins.replace({"a": "github"})
    assert refused(logins, job("federated:a", issuer="gitlab"))
    assert refused(logins, job())
    assert refused(logins, job("acme:a"))
    assert refused(logins, job("federated:"))
