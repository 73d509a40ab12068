"""The compiled policy agrees with the plainest reading of the language, on any policy."""

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from naive_policy import decide, denies, glob, is_collection, is_visible, rules_of, some_glob

from mk8s_proxy.authz.attributes import Attributes, Decision
from mk8s_proxy.authz.compile import Globs
from mk8s_proxy.authz.policy import PolicySource, RoleSpec, RuleSpec, parse_role
from mk8s_proxy.authz.scopes import Scope, scope_of
from mk8s_proxy.authz.snapshot import PolicySnapshot

VERBS = ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"]
WORDS = ["logs", "exec", "portforward", "proxy"]
RESOURCES = ["pods", "nodes", "namespaces", "services", "secrets", "serviceaccounts", "widgets",
             "deployments", "selfsubjectaccessreviews", "users"]  # fmt: skip
SUBRESOURCES = ["", "", "log", "exec", "attach", "proxy", "status", "token", "portforward"]
GROUPS = ["", "", "apps", "example.com", "authorization.k8s.io"]
NAMESPACES = ["", "", "shop", "shop-eu", "eu-shop", "team-1", "team-12"]
NAMES = ["", "web", "web-1", "https:web:80", "web:80", "db"]
PATHS = ["/", "/version", "/metrics", "/metrics/slis", "/api", "/apis/apps/v1", "/logs/x"]
CLUSTERS = {"dev-1": {"env": "dev"}, "prod-1": {"env": "prod"}, "bare": {}}

RESOURCE_GLOBS = [*RESOURCES, "*", "*", "*/*", "pods/log", "pods/exec", "*/status", "nodes/proxy",
                  "nodes/*", "serviceaccounts/token", "*/token", "deployments.apps", "pods.", "*.",
                  "*.example.com", "*s", "widgets.example.com/status", "*.*/proxy",
                  "p*s/l*"]  # fmt: skip
NAMESPACE_GLOBS = ["*", "*", "", "shop", "shop*", "*shop", "s*p", "team-*", "*-1*", "team-1", "**"]
NAME_GLOBS = ["*", "web", "web*", "*80", "db", "w*b"]
PATH_GLOBS = ["*", "/metrics", "/metrics*", "/logs/*", "/version", "/api*"]

some = st.lists


@st.composite
def rules(draw: st.DrawFn) -> RuleSpec:
    names = draw(st.sampled_from([True, False, False]))
    labels = draw(st.sampled_from([(), (), (("env", "dev"),), (("env", "*"),)]))
    resources = draw(some(st.sampled_from(RESOURCE_GLOBS), max_size=3))
    return RuleSpec(
        cluster=draw(st.sampled_from(["*", "dev-*", "prod-1", "*-1"] + [""] * bool(labels))),
        labels=labels,
        namespaces=tuple(draw(some(st.sampled_from(NAMESPACE_GLOBS), min_size=1, max_size=3))),
        verbs=tuple(draw(some(st.sampled_from([*VERBS, *WORDS, "*"]), min_size=1, max_size=4))),
        resources=tuple(resources),
        names=tuple(draw(some(st.sampled_from(NAME_GLOBS), max_size=2))) if names else (),
        non_resource_urls=tuple(draw(some(st.sampled_from(PATH_GLOBS), max_size=2))),
        deny=draw(st.sampled_from([False, False, True])),
        impersonate_users=tuple(draw(some(st.sampled_from(NAME_GLOBS), max_size=1))),
        impersonate_groups=tuple(draw(some(st.sampled_from(NAME_GLOBS), max_size=1))),
    )


questions = st.one_of(
    st.builds(
        Attributes,
        st.sampled_from([*VERBS, "", "impersonate"]),
        st.sampled_from(GROUPS),
        st.sampled_from(RESOURCES),
        st.sampled_from(SUBRESOURCES),
        st.sampled_from(NAMESPACES),
        st.sampled_from(NAMES),
    ),
    st.builds(
        Attributes,
        st.sampled_from(["get", "head", "post", "put"]),
        path=st.sampled_from(PATHS),
        is_resource_request=st.just(False),
    ),
    st.builds(
        Attributes,
        st.just("impersonate"),
        resource=st.sampled_from(["users", "groups", "uids"]),
        name=st.sampled_from(NAMES),
    ),
)


def objects_of(wanted: Attributes) -> list[tuple[str, str]]:
    """Objects that such a collection may have, by namespace and name."""
    places = set(NAMESPACES)
    scope = scope_of(wanted.api_group, wanted.resource)
    if wanted.namespace:
        places = {wanted.namespace}
    elif scope is Scope.CLUSTER or wanted.resource == "namespaces":
        places = {""}
    elif scope is Scope.NAMESPACED:
        places.discard("")
    names = [wanted.name] if wanted.name else [*NAMES, *NAMESPACES]
    return [(place, name) for place in places for name in names if name]


def check_collection(
    source: PolicySource, cluster: str, wanted: Attributes, found: Decision, *, listable: bool
) -> bool:
    """A collection: whole where every object is visible, in part where some may be, or refused."""
    named = rules_of(source, "u", cluster)
    rules = [rule for _, rule in named]
    objects = objects_of(wanted)
    visible = {one for one in objects if is_visible(rules, wanted, *one)}
    if found.visibility is not None:
        assert {one for one in objects if found.visibility.allows(*one)} == visible
        assert not found.visibility.allows(wanted.namespace or "shop", "")
    elif found.allowed:
        whole = [one for one in objects if one[0] == wanted.namespace or wanted.namespace]
        assert visible >= set(whole if scope_of(*kind(wanted)) is Scope.UNKNOWN else objects)
    elif wanted.verb != "deletecollection" or listable:
        assert not visible or any(denies_all(rule, wanted) for rule in rules)
    assert found.reason
    assert found.rule in {label for label, rule in named if rule.deny != found.allowed} | {
        *({""} if not found.allowed else ())
    }
    return found.allowed


def kind(wanted: Attributes) -> tuple[str, str]:
    return wanted.api_group, wanted.resource


def denies_all(rule: RuleSpec, wanted: Attributes) -> bool:
    place = wanted.namespace
    if wanted.resource == "namespaces" and not place:
        place = wanted.name
    named = wanted.name or not rule.names or any(set(name) == {"*"} for name in rule.names)
    return rule.deny and denies(rule, wanted) and some_glob(rule.namespaces, place) and bool(named)


def check(source: PolicySource, snapshot: PolicySnapshot, cluster: str, wanted: Attributes) -> bool:
    found = snapshot.decide("u", (), cluster, wanted)
    if is_collection(wanted):
        listing = snapshot.decide("u", (), cluster, replace(wanted, verb="list"))
        return check_collection(source, cluster, wanted, found, listable=listing.allowed)
    allowed, labels = decide(source, "u", cluster, wanted)
    assert (found.allowed, found.rule in labels) == (allowed, True), (wanted, found, labels)
    assert found.reason
    assert found.visibility is None
    assert snapshot.decide("u", (), cluster, wanted) == found
    return allowed


@settings(max_examples=3 * settings().max_examples)
@given(some(some(rules(), min_size=1, max_size=4), max_size=3), some(questions, min_size=1))
def test_small_policies(roles: list[list[RuleSpec]], wanted: list[Attributes]) -> None:
    names = tuple(f"r{number}" for number in range(len(roles)))
    specs = [RoleSpec(name, tuple(written)) for name, written in zip(names, roles, strict=True)]
    source = PolicySource(specs, {"u": (*names, "unknown")}, CLUSTERS)
    snapshot = PolicySnapshot(source)
    for cluster in (*CLUSTERS, "unknown"):
        for question in wanted:
            check(source, snapshot, cluster, question)


def large_policy(chance: random.Random, *, roles: int, rules_each: int) -> PolicySource:
    def rule() -> RuleSpec:
        team = chance.randrange(400)
        namespaces = (f"team-{team}", f"team-{team}-*", f"*-{team}", f"t*-{team}")
        return RuleSpec(
            cluster=chance.choice(["*", "dev-*", "prod-1"]),
            namespaces=(chance.choice(namespaces),),
            verbs=tuple(chance.sample([*VERBS, *WORDS], 3)),
            resources=tuple(
                chance.sample([*RESOURCES, "*.example.com", "pods/log", "*/status"], 2)
            ),
            names=chance.choice([(), (), ("web*",)]),
            deny=chance.random() < 0.1,
        )

    names = [f"role-{number}" for number in range(roles)]
    specs = [RoleSpec(name, tuple(rule() for _ in range(rules_each))) for name in names]
    return PolicySource(specs, {"u": tuple(names)}, CLUSTERS)


@pytest.mark.parametrize(("roles", "rules_each"), [(2, 2000), (200, 20)])
def test_large_policies(roles: int, rules_each: int) -> None:
    chance = random.Random(roles)
    source = large_policy(chance, roles=roles, rules_each=rules_each)
    snapshot = PolicySnapshot(source)
    allowed = 0
    for _ in range(60):
        team = chance.randrange(400)
        wanted = Attributes(
            chance.choice(VERBS),
            chance.choice(GROUPS),
            chance.choice(RESOURCES),
            chance.choice(SUBRESOURCES),
            chance.choice(["", f"team-{team}", f"team-{team}-x", f"x-{team}"]),
            chance.choice(NAMES),
        )
        allowed += check(source, snapshot, chance.choice(list(CLUSTERS)), wanted)
    assert 0 < allowed < 60


@given(some(st.text("ab*", max_size=6), max_size=4).map(tuple), st.text("ab\n", max_size=8))
def test_globs(patterns: tuple[str, ...], text: str) -> None:
    compiled = Globs(patterns)
    assert compiled.matches(text) is any(glob(pattern, text) for pattern in patterns)
    assert compiled.everything is any(set(pattern) == {"*"} for pattern in patterns)


@given(st.text(max_size=10), st.text(max_size=10))
def test_a_glob_without_a_star_matches_only_itself(pattern: str, text: str) -> None:
    literal = pattern.replace("*", "")
    assert Globs((literal,)).matches(text) is (literal == text)
    assert Globs((literal + "*",)).matches(text) is text.startswith(literal)
    assert Globs(("*" + literal,)).matches(text) is text.endswith(literal)


@given(rules().filter(lambda written: written.resources))
def test_the_generated_rules_are_of_the_language(written: RuleSpec) -> None:
    assert parse_role("r", [written.document()]).rules == (written,)
