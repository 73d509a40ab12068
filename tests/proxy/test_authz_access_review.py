"""One question of a SelfSubjectAccessReview: yes only if every request it stands for is allowed."""

from dataclasses import replace
from itertools import product
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from test_authz_differential import GROUPS, NAMES, NAMESPACES, RESOURCES, VERBS, rules

from mk8s_agent.wire.control import BOUNDED
from mk8s_proxy.authz.access_review import meet, review
from mk8s_proxy.authz.attributes import Attributes, Decision, required_attributes
from mk8s_proxy.authz.cluster_facts import ClusterFacts
from mk8s_proxy.authz.policy import PolicySource, RoleSpec, RuleSpec, parse_role
from mk8s_proxy.authz.scopes import Scope, scope_of
from mk8s_proxy.authz.snapshot import PolicySnapshot
from mk8s_proxy.kube.request_info import RequestInfo

EVERYTHING = {"namespaces": ["*"], "verbs": ["*"], "resources": ["*"]}


def policy(*written: dict[str, Any], reach: str = BOUNDED, role: str = "r") -> PolicySnapshot:
    """One role on a cluster whose own RBAC holds people back, or not."""
    parsed = parse_role(role, [{"name": "prod", **rule} for rule in written])
    facts = ClusterFacts()
    facts.learn_bounds("prod", reach, [])
    return PolicySnapshot(PolicySource([parsed], {"u": (role,)}, {"prod": {}}), facts=facts)


def decision(asked: Attributes, *written: dict[str, Any]) -> Decision:
    return review(policy(*written).access_of("u", (), "prod"), asked)


def can(
    verb: str, resource: str, *written: dict[str, Any], namespace: str = "shop", name: str = ""
) -> bool:
    """`kubectl auth can-i VERB RESOURCE[.GROUP][/SUB] [NAME] -n NAMESPACE`."""
    parent, _, subresource = resource.partition("/")
    plural, _, group = parent.partition(".")
    asked = Attributes(verb, group, plural, subresource, namespace, name)
    return decision(asked, *written).allowed


def limited(*namespaces: str, **more: Any) -> dict[str, Any]:
    return {**EVERYTHING, "namespaces": list(namespaces), **more}


def test_what_the_chain_would_say() -> None:
    viewer = limited("*", verbs=["get", "list", "logs"])
    assert can("get", "pods", viewer)
    assert not can("delete", "pods", viewer)
    assert can("get", "pods/log", viewer)
    assert not can("get", "pods/status", viewer)


def test_a_stream_needs_create_too() -> None:
    assert can("create", "pods/exec", limited("*", verbs=["exec"]))
    assert can("get", "pods/exec", limited("*", verbs=["exec"]))
    reader = limited("*", verbs=["get"], resources=["pods/exec", "pods"])
    assert not can("get", "pods/exec", reader)
    patcher = limited("*", verbs=["patch"], resources=["pods/ephemeralcontainers"])
    assert not can("patch", "pods/ephemeralcontainers", patcher)


@pytest.mark.parametrize(
    ("word", "resource"),
    [("logs", "pods"), ("exec", "pods"), ("portforward", "pods"), ("proxy", "services")],
)
def test_words_of_mk8s_are_questions_too(word: str, resource: str) -> None:
    assert can(word, resource, limited("*", verbs=[word]))
    assert not can(word, resource, limited("*", verbs=["get", "list"]))


def test_one_namespace_is_not_all_of_them() -> None:
    role = limited("shop")
    assert can("get", "pods", role)
    assert not can("get", "pods", role, namespace="")
    assert not can("create", "pods", role, namespace="")
    assert not can("get", "pods/log", role, namespace="")
    assert can("get", "pods", limited("*"), namespace="")


def test_a_list_of_all_namespaces_is_filtered_and_so_a_yes() -> None:
    role = limited("shop")
    asked = Attributes("list", resource="pods")
    assert decision(asked, role).allowed
    assert decision(asked, role).visibility is not None
    assert not can("list", "pods", limited("shop", verbs=["get"]), namespace="")


def test_a_rule_for_cluster_scoped_objects_is_none_for_all_namespaces() -> None:
    role = limited("")
    assert not can("get", "pods", role, namespace="")
    assert can("get", "nodes", role, namespace="")
    assert not can("get", "widgets.example.com", role, namespace="")
    spelled = limited("", resources=["widgets.example.com"])
    assert can("get", "widgets.example.com", spelled, namespace="")


def test_the_current_namespace_says_nothing_about_cluster_scoped_objects() -> None:
    assert can("get", "nodes", limited(""), namespace="default")
    assert not can("get", "nodes", limited("default"), namespace="default")


def test_a_namespace_belongs_to_itself() -> None:
    role = limited("shop")
    assert can("get", "namespaces", role, namespace="default", name="shop")
    assert not can("get", "namespaces", role, namespace="shop", name="other")
    assert not can("get", "namespaces", role, namespace="shop")
    assert not can("get", "namespaces", limited(""), namespace="")
    assert can("get", "namespaces", limited("*"), namespace="shop")
    assert not can("create", "namespaces", role, namespace="shop")
    assert can("create", "namespaces", limited(""), namespace="shop")
    assert can("list", "namespaces", role, namespace="shop")


def test_some_names_are_not_all_names() -> None:
    role = limited("*", names=["web-*"])
    assert not can("get", "pods", role)
    assert can("get", "pods", role, name="web-1")
    assert not can("get", "pods", role, name="db")


def test_a_denial_somewhere_is_a_no_for_everywhere() -> None:
    deny = limited("vault", deny=True)
    assert not can("get", "pods", EVERYTHING, deny, namespace="")
    assert can("get", "pods", EVERYTHING, deny, namespace="shop")
    assert can("get", "pods", EVERYTHING, limited("", deny=True), namespace="")
    named = limited("*", deny=True, names=["root"], resources=["pods"])
    assert not can("get", "pods", EVERYTHING, named)
    assert can("get", "pods", EVERYTHING, named, name="web")
    assert can("get", "pods", EVERYTHING, named, namespace="", name="web")
    assert not can("get", "pods/proxy", EVERYTHING, named, namespace="", name="http:root:80")


def test_stars() -> None:
    assert can("*", "*", EVERYTHING)
    assert can("*", "*", EVERYTHING, namespace="")
    assert can("*", "pods", EVERYTHING)
    assert not can("*", "pods", limited("*", verbs=["get", "list"]))
    assert not can("*", "*", limited("*", resources=["pods"]))
    assert not can("get", "*", limited("shop"), namespace="")
    assert not can("list", "*", limited("shop"), namespace="")
    assert not can("list", "*", EVERYTHING, {**EVERYTHING, "deny": True, "resources": ["secrets"]})
    assert can("get", "*", EVERYTHING, limited("*", deny=True, resources=["pods/log"]))
    assert can("list", "*", EVERYTHING, limited("*", deny=True, verbs=["get"]))
    assert can("list", "*", EVERYTHING, limited("other", deny=True))


@pytest.mark.parametrize("subresource", ["*", "proxy", "token"])
def test_a_star_gives_no_node_and_no_token(subresource: str) -> None:
    assert not can("create", f"*/{subresource}", limited("*", resources=["*", "*/*"]))


def test_any_group_is_the_core_group_where_only_that_has_it() -> None:
    role = limited("*", verbs=["get"], resources=["pods/exec"])
    assert not decision(Attributes("get", "*", "pods", "exec", "shop"), role).allowed
    proxy = limited("*", resources=["*", "*/*"])
    assert not decision(Attributes("create", "*", "nodes", "proxy"), proxy).allowed
    assert decision(Attributes("get", "*", "nodes"), limited("")).allowed
    assert not decision(Attributes("get", "*", "nodes", "", "x"), limited("x")).allowed


@pytest.mark.parametrize("verb", ["use", "bind", "approve", "whatever"])
def test_verbs_that_the_cluster_checks_are_left_to_it(verb: str) -> None:
    assert can(verb, "pods", limited("shop", verbs=["get"]))
    assert not review(policy(EVERYTHING).access_of("u", (), "elsewhere"), Attributes(verb)).allowed


def path(verb: str, url: str, *written: dict[str, Any]) -> bool:
    return decision(Attributes(verb, path=url, is_resource_request=False), *written).allowed


def test_paths() -> None:
    role = {"nonResourceURLs": ["/metrics*"], "verbs": ["get"]}
    every = {"nonResourceURLs": ["*"], "verbs": ["*"]}
    assert path("get", "/metrics", role)
    assert not path("post", "/metrics", role)
    assert path("get", "/metrics/*", role)
    assert not path("get", "/*", role)
    assert path("get", "/version", role), "discovery is open to all"
    assert path("get", "/api/*", role)
    assert path("*", "/logs", every)
    assert not path("*", "/metrics", role)
    assert path("list", "/metrics", role), "no request has this verb: the cluster decides"


def test_a_denied_path_is_a_no_for_what_holds_it() -> None:
    every = {"nonResourceURLs": ["*"], "verbs": ["*"]}
    deny = {"deny": True, "nonResourceURLs": ["/logs/secret"], "verbs": ["get"]}
    assert not path("get", "/logs/*", every, deny)
    assert not path("head", "/logs/*", every, deny)
    assert path("post", "/logs/*", every, deny)
    assert path("get", "/metrics/*", every, deny)
    assert path("get", "/logs/x", every, deny)


def test_impersonation() -> None:
    role = {"impersonate": {"users": ["*@example.com"], "groups": ["devs"]}}

    def may(resource: str, name: str = "", rule: dict[str, Any] = role) -> bool:
        return decision(
            Attributes("impersonate", resource=resource, name=name, namespace="shop"), rule
        ).allowed

    assert may("users", "a@example.com")
    assert not may("users")
    assert not may("users", "system:admin", {"impersonate": {"users": ["*"]}})
    assert not may("groups", "SYSTEM:masters", {"impersonate": {"groups": ["*"]}})
    assert may("groups", "devs")
    assert not may("groups", "ops")
    assert may("uids", "7")
    assert may("userextras", "x")
    assert not may("uids", "7", {"impersonate": {"groups": ["*"]}})
    assert not may("serviceaccounts", "x")


@pytest.mark.parametrize(
    ("first", "second", "common"),
    [
        ("/a", "/a", "/a"),
        ("/a*", "/ab", "/ab"),
        ("/ab", "/a*", "/ab"),
        ("/a*", "/ab*", "/ab*"),
        ("*", "/x", "/x"),
        ("/a", "/b", ""),
        ("/a*", "/b*", ""),
        ("/a", "/ab", ""),
    ],
)
def test_what_two_paths_have_in_common(first: str, second: str, common: str) -> None:
    assert meet(first, second) == common


some_rules = st.lists(rules(), min_size=1, max_size=5)
SUBRESOURCES = ["", "", "log", "exec", "proxy", "status", "token"]
questions = st.builds(
    Attributes,
    st.sampled_from([*VERBS, "*"]),
    st.sampled_from([*GROUPS, "*"]),
    st.sampled_from([*RESOURCES, "*"]),
    st.sampled_from([*SUBRESOURCES, "*"]),
    st.sampled_from(NAMESPACES),
    st.sampled_from(NAMES),
)


def made(written: list[RuleSpec]) -> PolicySnapshot:
    source = PolicySource([RoleSpec("r", tuple(written))], {"u": ("r",)}, {"dev-1": {"env": "dev"}})
    return PolicySnapshot(source)


def request_allowed(snapshot: PolicySnapshot, wanted: Attributes) -> bool:
    """What the handler chain would say to the request."""
    info = RequestInfo(
        True,
        wanted.verb,
        "",
        api_group=wanted.api_group,
        namespace=wanted.namespace,
        resource=wanted.resource,
        subresource=wanted.subresource,
        name=wanted.name,
    )
    asked = required_attributes(info, upgrade=False, content_type=b"")
    return all(snapshot.decide("u", (), "dev-1", one).allowed for one in asked)


@settings(max_examples=3 * settings().max_examples)
@given(some_rules, questions)
def test_a_yes_holds_for_every_request_it_stands_for(
    written: list[RuleSpec], asked: Attributes
) -> None:
    snapshot = made(written)
    if not review(snapshot.access_of("u", (), "dev-1"), asked).allowed:
        return
    verbs = VERBS if asked.verb == "*" else [asked.verb]
    groups = ["", "apps"] if asked.api_group == "*" else [asked.api_group]
    resources = ["pods", "secrets", "deployments"] if asked.resource == "*" else [asked.resource]
    subresources = ["log", "status"] if asked.subresource == "*" else [asked.subresource]
    for verb, group, resource, subresource in product(verbs, groups, resources, subresources):
        wanted = replace(
            asked, verb=verb, api_group=group, resource=resource, subresource=subresource
        )
        if asked.api_group == "*" and (group or resource == "deployments") and subresource:
            continue  # the subresources with rules of their own are of the core group
        for place in places(wanted):
            assert request_allowed(snapshot, place), place


def places(wanted: Attributes) -> list[Attributes]:
    """The requests that a question about one verb and resource stands for."""
    scope = scope_of(wanted.api_group, wanted.resource)
    if (wanted.api_group, wanted.resource) == ("", "namespaces") or scope is Scope.CLUSTER:
        return [replace(wanted, namespace="")]
    if wanted.namespace or scope is Scope.UNKNOWN:
        return [wanted]
    if wanted.verb in ("list", "watch", "deletecollection") and not wanted.subresource:
        return [wanted]
    return [replace(wanted, namespace=namespace) for namespace in NAMESPACES if namespace]


@given(some_rules, questions)
def test_a_question_about_one_request_gets_the_chain_answer(
    written: list[RuleSpec], asked: Attributes
) -> None:
    assume("*" not in (asked.verb, asked.api_group, asked.resource, asked.subresource))
    assume(asked.namespace)
    assume(scope_of(asked.api_group, asked.resource) is not Scope.CLUSTER)
    snapshot = made(written)
    found = review(snapshot.access_of("u", (), "dev-1"), asked)
    assert found.allowed is request_allowed(snapshot, asked)
