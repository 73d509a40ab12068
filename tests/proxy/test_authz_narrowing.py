"""A delegation may do what its owner may and its narrowing says, and nothing else."""

import ast
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_authz_differential import (
    CLUSTERS,
    NAMESPACE_GLOBS,
    RESOURCE_GLOBS,
    VERBS,
    WORDS,
    objects_of,
    questions,
    rules,
    some,
)

import mk8s_proxy
from mk8s_proxy.answers.reviews.verdicts import INCOMPLETE, access_status, rules_status
from mk8s_proxy.authz import narrowing as narrowings
from mk8s_proxy.authz.access_review import review
from mk8s_proxy.authz.attributes import Attributes, Decision
from mk8s_proxy.authz.cluster_facts import ClusterFacts
from mk8s_proxy.authz.narrowing import Narrowing, compiled_narrowing, parse_narrowing
from mk8s_proxy.authz.policy import PolicyError, PolicySource, RoleSpec, RuleSpec
from mk8s_proxy.authz.snapshot import PolicySnapshot
from mk8s_proxy.identity.identity import MOST_NARROWING_BYTES
from mk8s_proxy.kube.request_info import RequestInfo

EVERYTHING = RuleSpec("*", (), ("*",), ("*",), ("*", "*/*", "nodes/proxy", "serviceaccounts/token"))
PODS = Attributes("list", resource="pods")


def text(**parts: list[str]) -> str:
    return parse_narrowing(parts).text()


def policy(*owned: RuleSpec, facts: ClusterFacts | None = None, **users: Any) -> PolicySnapshot:
    roles = [RoleSpec("own", owned or (EVERYTHING,))]
    source = PolicySource(roles, {"u": ("own",)} | users, CLUSTERS)
    return PolicySnapshot(source, facts=facts)


def decide(wanted: Attributes, **parts: list[str]) -> Decision:
    """Of a delegation whose owner may do everything."""
    return policy().decide("u", (), "dev-1", wanted, text(**parts))


# -- the language


def test_a_text_is_canonical() -> None:
    first = text(verbs=["list", "get", "get"], resources=["pods"], clusters=["b", "a"])
    assert first == text(clusters=["a", "b"], resources=["pods"], verbs=["get", "list"])
    assert json.loads(first) == {
        "clusters": ["a", "b"],
        "namespaces": ["*"],
        "resources": ["pods"],
        "verbs": ["get", "list"],
    }
    assert parse_narrowing(json.loads(first)).text() == first


def test_attack_the_largest_narrowings_fill_the_memory() -> None:
    names = [f"{first}{second}" for first in "abcdefgh" for second in "abcdefgh"]
    known: Any = narrowings._known
    for number in range(40):
        compiled = compiled_narrowing(text(resources=names, namespaces=[*names[1:], f"x{number}"]))
        assert compiled.size > 64 * 64 * 200
    assert len(known) < 20
    assert compiled_narrowing(text()) is compiled_narrowing(text())


def test_both_sides_mean_the_same_length() -> None:
    assert narrowings.MOST_BYTES == MOST_NARROWING_BYTES


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"verb": ["get"]}, 'verb: unknown key: did you mean "verbs"?'),
        ({"verbs": ["gets"]}, 'verbs[0]: unknown verb "gets": did you mean "get"?'),
        ({"verbs": ["get", "bind"]}, 'verbs[1]: "bind" is checked by the cluster itself'),
        ({"verbs": ["impersonate"]}, 'verbs[0]: "impersonate" cannot be delegated'),
        ({"verbs": ["head"]}, 'verbs[0]: "head" cannot be delegated'),
        ({"verbs": []}, "verbs: must not be empty"),
        ({"verbs": "get"}, "verbs: must be a list, not a string"),
        ({"clusters": [""]}, "clusters[0]: must not be empty"),
        ({"resources": ["pods/"]}, 'resources[0]: "pods/" is no resource'),
        ({"verbs": ["get"] * 65}, "verbs: must have 64 entries at most: write patterns with *"),
        ({"namespaces": [f"{'n' * 400}{n}" for n in range(6)]}, "is too long: 2048 bytes"),
    ],
)
def test_a_mistake_is_named(parts: dict[str, Any], message: str) -> None:
    with pytest.raises(PolicyError) as caught:
        parse_narrowing(parts)
    assert str(caught.value).startswith(message)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: (
    st.lists(inner, max_size=4)
    | st.dictionaries(
        st.sampled_from(["clusters", "namespaces", "verbs", "resources", "x"]) | st.text(),
        inner,
        max_size=5,
    )
)))  # fmt: skip
def test_anything_is_a_narrowing_or_a_mistake(document: object) -> None:
    try:
        found = parse_narrowing(document)
    except PolicyError:
        return
    assert compiled_narrowing(found.text()).rules.allow.rules


@pytest.mark.parametrize(
    "broken",
    [
        "{",
        "[" * 1500,
        "null",
        "[]",
        "{}",
        '{"verbs":["get"]}',
        '{"clusters":["*"],"namespaces":["*"],"resources":["*"],"verbs":["*"],"names":["a"]}',
        '{"clusters":["*"],"namespaces":["*"],"resources":["*"],"verbs":[]}',
        '{"clusters":["*"],"namespaces":["*"],"resources":["*"],"verbs":null}',
        text(verbs=["*"], resources=["*"]) + " " * 2048,
        "\ud800",
    ],
)
def test_what_cannot_be_understood_allows_nothing(broken: str) -> None:
    with pytest.raises(PolicyError):
        compiled_narrowing(broken)
    snapshot = policy()
    assert not snapshot.decide("u", (), "dev-1", PODS, broken).allowed
    info = RequestInfo(True, "list", "/api/v1/pods", "api", "", "v1", resource="pods")
    assert not snapshot.decide_request(
        "u", "dev-1", info, False, b"", narrowing=broken
    )[1].allowed  # fmt: skip
    with pytest.raises(PolicyError):
        snapshot.clusters_of("u", (), broken)


# -- decisions: those of the owner, and those of the narrowing as a role


@st.composite
def narrowed(draw: st.DrawFn) -> Narrowing:
    def words(known: list[str], most: int = 3) -> list[str]:
        return draw(some(st.sampled_from(known), min_size=1, max_size=most))

    return parse_narrowing(
        {
            "clusters": words(["*", "dev-*", "prod-1", "*-1", "other"], 2),
            "namespaces": words(NAMESPACE_GLOBS),
            "verbs": words([*VERBS, *WORDS, "*", "*"], 4),
            "resources": words([*RESOURCE_GLOBS, "secrets", "secrets.", "users"]),
        }
    )


def as_role(found: Narrowing) -> RoleSpec:
    """The narrowing written as a role of somebody else."""
    written = [
        replace(rule, cluster=cluster) for rule in found.rules() for cluster in found.clusters
    ]
    return RoleSpec("narrowing", tuple(written))


def both(snapshot: PolicySnapshot, cluster: str, wanted: Attributes) -> list[Decision]:
    return [snapshot.decide(user, (), cluster, wanted) for user in ("u", "n")]


def check(snapshot: PolicySnapshot, cluster: str, wanted: Attributes, narrowing: str) -> None:
    found = snapshot.decide("u", (), cluster, wanted, narrowing)
    sides = both(snapshot, cluster, wanted)
    expected = all(side.allowed for side in sides)
    partial = any(side.visibility is not None for side in sides)
    if expected and partial and wanted.verb == "deletecollection":  # its part must be found
        listing = both(snapshot, cluster, replace(wanted, verb="list"))
        expected = all(side.allowed for side in listing)
    assert found.allowed is expected, (wanted, sides)
    assert found.reason
    assert (found.visibility is not None) is (expected and partial)
    for namespace, name in objects_of(wanted) if found.visibility is not None else ():
        seen = [side.visibility for side in sides if side.visibility is not None]
        assert found.visibility is not None
        assert found.visibility.allows(namespace, name) is all(
            it.allows(namespace, name) for it in seen
        )


@settings(max_examples=3 * settings().max_examples)
@given(some(rules(), min_size=1, max_size=4), narrowed(), some(questions, min_size=1))
def test_a_narrowed_decision_is_the_owners_and_the_narrowings(
    owned: list[RuleSpec], found: Narrowing, wanted: list[Attributes]
) -> None:
    roles = [RoleSpec("own", tuple(owned)), as_role(found)]
    source = PolicySource(roles, {"u": ("own",), "n": ("narrowing",)}, CLUSTERS)
    snapshot = PolicySnapshot(source)
    for cluster in (*CLUSTERS, "unknown"):
        for question in wanted:
            check(snapshot, cluster, question, found.text())


@given(
    some(rules(), min_size=1, max_size=3),
    narrowed(),
    questions,
    st.booleans(),
    st.sampled_from([b"", b"application/json", b"application/apply-patch+yaml"]),
)
def test_every_question_of_a_request_is_narrowed(
    owned: list[RuleSpec], found: Narrowing, wanted: Attributes, upgrade: bool, content_type: bytes
) -> None:
    roles = [RoleSpec("own", tuple(owned)), as_role(found)]
    source = PolicySource(roles, {"u": ("own",), "n": ("narrowing",)}, CLUSTERS)
    snapshot = PolicySnapshot(source)
    info = RequestInfo(
        wanted.is_resource_request, wanted.verb, wanted.path,
        api_group=wanted.api_group, namespace=wanted.namespace, resource=wanted.resource,
        subresource=wanted.subresource, name=wanted.name,
    )  # fmt: skip

    def asked(user: str, narrowing: str = "") -> Decision:
        return snapshot.decide_request(
            user, "dev-1", info, upgrade, content_type, narrowing=narrowing
        )[1]

    answer = asked("u", found.text())
    if answer.allowed:
        assert asked("u").allowed
        assert asked("n").allowed
    elif wanted.verb != "deletecollection":
        assert not (asked("u").allowed and asked("n").allowed)
    assert asked("u", found.text()) == answer


@given(some(rules(), min_size=1, max_size=3), narrowed(), questions)
def test_can_i_answers_for_both_sides(
    owned: list[RuleSpec], found: Narrowing, wanted: Attributes
) -> None:
    roles = [RoleSpec("own", tuple(owned)), as_role(found)]
    source = PolicySource(roles, {"u": ("own",), "n": ("narrowing",)}, CLUSTERS)
    snapshot = PolicySnapshot(source)
    access = snapshot.access_of("u", (), "dev-1", found.text())
    sides = [review(snapshot.access_of(user, (), "dev-1"), wanted) for user in ("u", "n")]
    assert review(access, wanted).allowed is all(side.allowed for side in sides)


def test_rules_reviews_say_no_more_than_both() -> None:
    snapshot = policy(RuleSpec("*", (), ("*",), ("get", "delete"), ("pods", "services")))
    access = snapshot.access_of("u", (), "dev-1", text(resources=["pods", "nodes"]))
    rule = {"verbs": ["*"], "apiGroups": [""], "resources": ["pods", "services", "nodes"]}
    content = {"status": {"resourceRules": [rule], "nonResourceRules": [], "incomplete": False}}
    status = rules_status(content, access, "shop")
    assert status is not None
    assert status["resourceRules"] == [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]


def test_rules_reviews_say_once_that_they_are_incomplete() -> None:
    snapshot = policy(RuleSpec("*", (), ("*",), ("get",), ("p*", "s*")))
    access = snapshot.access_of("u", (), "dev-1", text(resources=["p*", "s*"]))
    rule = {"verbs": ["get"], "apiGroups": [""], "resources": ["*", "pods"]}
    content = {"status": {"resourceRules": [rule], "evaluationError": "theirs"}}
    status = rules_status(content, access, "shop")
    assert status is not None
    assert status["incomplete"] is True
    assert status["evaluationError"] == f"theirs; {INCOMPLETE}"


def test_can_i_names_the_delegation() -> None:
    access = policy().access_of("u", (), "dev-1", text(resources=["pods"]))
    spec = {"resourceAttributes": {"verb": "delete", "resource": "pods", "namespace": "shop"}}
    status = access_status({"spec": spec, "status": {"allowed": True}}, access)
    assert status == {
        "allowed": False,
        "reason": "mk8s: the delegation allows get, list, logs, watch of pods, and no more",
    }


# -- what it means


def test_a_refusal_says_what_the_delegation_allows() -> None:
    parts = {"verbs": ["get"], "resources": ["pods"], "namespaces": ["", "a"], "clusters": ["d*"]}
    wanted = Attributes("get", resource="pods", namespace="b", name="x")
    assert decide(wanted, **parts).reason == (
        'the delegation allows get of pods in "", a on d*, and no more'
    )
    many = {"resources": [f"r{number}" for number in range(10, 22)]}
    assert ", r19, ..., and no more" in decide(wanted, **many).reason


def test_a_reason_names_the_rule_and_the_delegation() -> None:
    found = decide(PODS)
    assert found.reason == "allowed by role own, rule 1, within the delegation"
    assert found.rule == "role own, rule 1"


def test_the_roles_of_the_owner_go_into_the_cluster() -> None:
    facts = ClusterFacts()
    facts.learn_bounds("dev-1", "bounded", ["mk8s:role:own", "mk8s:role:"])
    snapshot = policy(facts=facts)
    info = RequestInfo(True, "list", "/api/v1/pods", "api", "", "v1", resource="pods")
    for narrowing in ("", text()):
        _, found = snapshot.decide_request("u", "dev-1", info, False, b"", narrowing=narrowing)
        assert found.groups == ("mk8s:role:own",)


def test_what_a_cluster_says_of_itself_holds_for_delegations() -> None:
    facts = ClusterFacts()
    snapshot = policy(facts=facts)
    narrowing = text(namespaces=["shop"])
    wanted = Attributes("list", resource="widgets", api_group="apps")
    before = snapshot.decide("u", (), "dev-1", wanted, narrowing)
    assert before.visibility is not None
    facts.learn("dev-1", ["widgets.apps"], [])
    assert not snapshot.decide("u", (), "dev-1", wanted, narrowing).allowed


def test_writes_that_give_the_cluster_away_are_named_by_their_group() -> None:
    """Even where the cluster's own RBAC holds people back: nobody delegates that by a `*`."""
    facts = ClusterFacts()
    facts.learn_bounds("dev-1", "bounded", [])
    snapshot = policy(facts=facts)
    wanted = Attributes(
        "create", "rbac.authorization.k8s.io", "rolebindings", namespace="shop", name="x"
    )
    assert snapshot.decide("u", (), "dev-1", wanted).allowed
    for resources in (["*"], ["rolebindings"], ["*", "*/*"]):
        narrowing = text(verbs=["*"], resources=resources)
        assert not snapshot.decide("u", (), "dev-1", wanted, narrowing).allowed
    narrowing = text(verbs=["*"], resources=["rolebindings.rbac.authorization.k8s.io"])
    assert snapshot.decide("u", (), "dev-1", wanted, narrowing).allowed


def test_permissions_are_those_of_the_narrowing() -> None:
    snapshot = policy()
    found = snapshot.permissions_of("u", (), "dev-1", text(verbs=["get"], clusters=["dev-*"]))
    assert found[0] == {
        "role": "delegation", "rule": "the delegation", "name": "*", "namespaces": ["*"],
        "verbs": ["get"], "resources": ["*"],
    }  # fmt: skip
    assert all(rule["deny"] for rule in found[1:])
    assert snapshot.permissions_of("u", (), "prod-1", text(clusters=["dev-*"])) == []


def test_clusters_are_those_of_both() -> None:
    snapshot = policy(replace(EVERYTHING, cluster="*-1"))
    assert snapshot.clusters_of("u", ()) == {"dev-1", "prod-1"}
    assert snapshot.clusters_of("u", (), text(clusters=["dev-*", "bare"])) == {"dev-1"}


def test_equal_visibility_is_told_from_another() -> None:
    """Open watches end when what they show changes, and only then."""
    first, same, other = (
        policy(replace(EVERYTHING, namespaces=("a*",))).decide(
            "u", (), "dev-1", PODS, text(namespaces=[namespace])
        )
        for namespace in ("ab", "ab", "ac")
    )
    assert first.visibility is not None
    assert first.visibility == same.visibility
    assert first.visibility != other.visibility


def test_a_list_that_both_sides_limit_shows_what_both_show() -> None:
    snapshot = policy(replace(EVERYTHING, namespaces=("a*",)))
    found = snapshot.decide("u", (), "dev-1", PODS, text(namespaces=["*b"]))
    assert found.visibility is not None
    seen = [it for it in ("a", "b", "ab", "ba") if found.visibility.allows(it, "web")]
    assert seen == ["ab"]


def test_a_narrowing_is_a_limit_of_one_cluster_only() -> None:
    """What is remembered of one cluster must not decide on another one with the same roles."""
    snapshot = policy()
    narrowing = text(clusters=["dev-*"])
    info = RequestInfo(True, "list", "/api/v1/pods", "api", "", "v1", resource="pods")
    for _ in range(2):
        asked = [
            snapshot.decide_request("u", cluster, info, False, b"", narrowing=narrowing)[1]
            for cluster in ("dev-1", "prod-1", "bare")
        ]
        assert [it.allowed for it in asked] == [True, False, False]


# -- attacks


@pytest.mark.parametrize("verbs", [["*"], ["create"], ["get", "create", "update", "patch"]])
@pytest.mark.parametrize(
    "resources", [["*", "*/*"], ["serviceaccounts/token"], ["serviceaccounts/*", "serviceaccounts"]]
)
def test_attack_a_delegation_asks_for_a_token_of_the_cluster(
    verbs: list[str], resources: list[str]
) -> None:
    wanted = Attributes("create", "", "serviceaccounts", "token", "shop", "default")
    assert policy().decide("u", (), "dev-1", wanted).allowed
    found = decide(wanted, verbs=verbs, resources=resources)
    assert not found.allowed
    assert found.reason == "the delegation does not give this; Secrets it must name"


@pytest.mark.parametrize("subresource", ["", "approval", "status"])
@pytest.mark.parametrize("verb", ["create", "update", "patch"])
@pytest.mark.parametrize(
    ("resource", "namespace"),
    [("certificatesigningrequests", ""), ("podcertificaterequests", "shop")],
)
def test_attack_a_delegation_has_a_certificate_signed(
    verb: str, subresource: str, resource: str, namespace: str
) -> None:
    """Of its own, or of a Pod and its ServiceAccount."""
    group = "certificates.k8s.io"
    wanted = Attributes(verb, group, resource, subresource, namespace, "x")
    named = f"{resource}.{group}"
    for resources in (["*", "*/*"], [named, f"{named}/*"]):
        assert not decide(wanted, verbs=["*"], resources=resources).allowed
    reading = replace(wanted, verb="get", subresource="")
    assert decide(reading, resources=[named]).allowed


def test_attack_a_delegation_reads_the_tokens_in_secrets() -> None:
    wanted = Attributes("list", "", "secrets")
    for resources in (
        ["*"], ["*."], ["s*"], ["*", "*/*"], ["secrets.example.com"], ["*", "secrets/status"],
    ):  # fmt: skip
        assert not decide(wanted, resources=resources).allowed
        placed = replace(wanted, verb="get", namespace="shop", name="x")
        assert not decide(placed, resources=resources).allowed
    for resources in (["secrets"], ["secrets."], ["*", "secrets"]):
        assert decide(wanted, resources=resources).allowed


@pytest.mark.parametrize("kind", ["users", "groups", "uids", "userextras", "serviceaccounts"])
def test_attack_a_delegation_acts_as_somebody(kind: str) -> None:
    owned = replace(EVERYTHING, impersonate_users=("*",), impersonate_groups=("*",))
    wanted = Attributes("impersonate", resource=kind, name="root@example.com")
    narrowing = text(verbs=["*"], resources=["*", "*/*", kind])
    assert not policy(owned).decide("u", (), "dev-1", wanted, narrowing).allowed


@pytest.mark.parametrize(
    ("resource", "subresource"),
    [
        ("pods", "exec"), ("pods", "attach"), ("pods", "portforward"), ("pods", "proxy"),
        ("pods", "ephemeralcontainers"), ("pods", "eviction"), ("services", "proxy"),
        ("nodes", "proxy"), ("deployments", "scale"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("verb", ["get", "create", "update", "patch"])
def test_attack_a_delegation_reaches_for_a_subresource(
    verb: str, resource: str, subresource: str
) -> None:
    """A parent gives none; `*/*` gives those that its verbs reach, and never a node's proxy."""
    group = "apps" if resource == "deployments" else ""
    wanted = Attributes(verb, group, resource, subresource, "shop", "x")
    assert not decide(wanted, resources=["*"]).allowed
    everywhere = decide(wanted, resources=["*/*"])
    assert everywhere.allowed is (verb == "get" and (resource, subresource) != ("nodes", "proxy"))


@pytest.mark.parametrize("upgrade", [True, False])
@pytest.mark.parametrize("subresource", ["exec", "attach", "portforward"])
def test_attack_a_delegation_that_reads_opens_a_stream(subresource: str, upgrade: bool) -> None:
    info = RequestInfo(
        True, "get", "/x", "api", "", "v1", "shop", "pods", subresource, "x"
    )  # fmt: skip
    for narrowing in (text(resources=["*/*"]), text(resources=["*", "*/*", f"pods/{subresource}"])):
        _, found = policy().decide_request("u", "dev-1", info, upgrade, b"", narrowing=narrowing)
        assert not found.allowed


def test_attack_a_list_of_all_namespaces_shows_more_than_one() -> None:
    found = decide(PODS, namespaces=["shop"])
    assert found.allowed
    assert found.visibility is not None
    assert found.visibility.allows("shop", "web")
    assert not found.visibility.allows("other", "web")
    assert not found.visibility.allows("", "web")
    assert not decide(replace(PODS, namespace="other"), namespaces=["shop"]).allowed
    assert not decide(Attributes("list", resource="nodes"), namespaces=["shop"]).allowed


def test_attack_a_collection_is_deleted_of_which_a_part_is_delegated() -> None:
    wanted = Attributes("deletecollection", resource="pods")
    parts: dict[str, list[str]] = {"namespaces": ["shop"], "verbs": ["deletecollection", "list"]}
    found = decide(wanted, **parts)
    assert found.visibility is not None
    assert not found.visibility.allows("other", "web")
    blind = replace(EVERYTHING, verbs=("deletecollection",))
    assert not policy(blind).decide("u", (), "dev-1", wanted, text(**parts)).allowed


def test_attack_a_resource_of_another_group_has_the_same_name() -> None:
    parts = {"resources": ["deployments.apps"]}
    assert decide(Attributes("get", "apps", "deployments", "", "shop", "x"), **parts).allowed
    for group in ("", "example.com", "apps.example.com"):
        wanted = Attributes("get", group, "deployments", "", "shop", "x")
        assert not decide(wanted, **parts).allowed


def test_attack_a_delegation_reads_paths_that_are_no_resources() -> None:
    owned = RuleSpec("*", (), ("*",), ("*",), ("*",), (), ("*",))
    for path, allowed in (("/metrics", False), ("/logs/x", False), ("/version", True)):
        wanted = Attributes("get", path=path, is_resource_request=False)
        assert policy(owned).decide("u", (), "dev-1", wanted).allowed
        found = policy(owned).decide("u", (), "dev-1", wanted, text(verbs=["*"], resources=["*"]))
        assert found.allowed is allowed


def test_attack_a_question_by_a_narrowing_that_means_nothing() -> None:
    wanted = Attributes("impersonate", resource="users", name="bob@example.com")
    found = policy().decide("u", (), "dev-1", wanted, narrowing="{")
    assert (found.allowed, "not understood" in found.reason) == (False, True)


def test_attack_a_role_called_like_the_narrowing_gives_nothing() -> None:
    snapshot = policy(RuleSpec("*", (), ("*",), ("get",), ("pods",)), x=("", "admin"))
    wanted = Attributes("delete", resource="pods", namespace="shop", name="x")
    assert not snapshot.decide("x", (), "dev-1", wanted, text(verbs=["*"])).allowed


# -- nobody forgets it


def test_every_decision_is_told_the_narrowing() -> None:
    """A caller that left it out would decide as for the owner."""
    asking = {"decide_request", "access_of", "clusters_of", "permissions_of"}
    found = 0
    for file in Path(mk8s_proxy.__file__).parent.rglob("*.py"):
        if file.name == "snapshot.py":
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            is_policys = node.func.attr == "decide" and "policy" in ast.unparse(node.func.value)
            if node.func.attr in asking or is_policys:
                given = [ast.unparse(it) for it in (*node.args, *node.keywords)]
                assert any("narrowing" in it for it in given), f"{file}:{node.lineno}"
                found += 1
    assert found >= 7
