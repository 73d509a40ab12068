"""The roles of mk8s as RBAC of a cluster: an upper bound, and no wider than its notes say."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from naive_policy import COLLECTION, SPELLED_OUT, by_verb, by_word, lists, some_glob
from test_authz_differential import CLUSTERS, objects_of, questions, rules

from mk8s_agent.wire.group_names import MAX_ROLE_GROUPS
from mk8s_proxy.authz.attributes import Attributes, Decision
from mk8s_proxy.authz.cluster_facts import ClusterFacts
from mk8s_proxy.authz.cluster_rbac import Difference
from mk8s_proxy.authz.policy import PolicySource, RoleSpec, RuleSpec, parse_role
from mk8s_proxy.authz.rbac_manifest import (
    LABELS,
    NOTES,
    Manifest,
    ServiceAccount,
    TooManyRoles,
    manifest,
)
from mk8s_proxy.authz.scopes import Scope, scope_of
from mk8s_proxy.authz.snapshot import PolicySnapshot
from mk8s_proxy.db.roles import ADMIN_RULES
from tests.oracle.process import Oracle

CLUSTER = "dev-1"
Rules = list[dict[str, Any]]
ALL = ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"]


def made(*written: dict[str, Any], facts: ClusterFacts | None = None) -> Manifest:
    """The RBAC of a cluster with one role of these rules."""
    role = parse_role("r", [{"name": "*", **rule} for rule in written])
    return manifest(PolicySnapshot(PolicySource([role], {}, CLUSTERS), facts=facts), CLUSTER)


def rules_of(found: Manifest, kind: str, name: str = "mk8s:role:r", namespace: str = "") -> Rules:
    """The rules of one role of Kubernetes."""
    for one in found.objects:
        metadata = one["metadata"]
        if (one["kind"], metadata["name"], metadata.get("namespace", "")) == (
            kind,
            name,
            namespace,
        ):
            return list(one["rules"])
    return []


def differences(found: Manifest) -> set[str]:
    return {note.difference.name for note in found.notes}


def on(groups: str, resources: str, verbs: str, names: str = "") -> dict[str, Any]:
    """A rule of RBAC, in short; the group "core" is the empty one."""
    rule: dict[str, Any] = {
        "apiGroups": ["" if group == "core" else group for group in groups.split()],
        "resources": resources.split(),
    }
    if names:
        rule["resourceNames"] = names.split()
    return rule | {"verbs": verbs.split()}


# -- examples --------------------------------------------------------------------------------------


def test_a_role_of_one_namespace() -> None:
    found = made(
        {
            "namespaces": ["shop"],
            "verbs": ["get", "list", "logs", "exec"],
            "resources": ["pods", "deployments.apps", "nodes."],
        }
    )
    assert rules_of(found, "Role", namespace="shop") == [
        on("*", "pods", "get list"),
        on("apps", "deployments", "get list"),
        on("core", "nodes", "get list"),
        on("core", "pods/log", "get"),
        on("core", "pods/exec pods/attach", "get create"),
    ]
    assert rules_of(found, "ClusterRole") == [
        on("*", "pods", "list"),
        on("apps", "deployments", "list"),
    ]
    assert differences(found) == {"LISTS"}


def test_words_alone() -> None:
    found = made({"namespaces": ["*"], "verbs": ["logs"], "resources": ["pods", "services"]})
    assert rules_of(found, "ClusterRole") == [on("core", "pods/log", "get")]
    assert differences(found) == set()


def test_everything_that_a_star_means() -> None:
    found = made({"namespaces": ["*"], "verbs": ["*"], "resources": ["*"]})
    whole, *words = rules_of(found, "ClusterRole")
    assert whole == on("*", "*", " ".join(ALL))
    assert on("core", "pods/log", "get") in words
    assert differences(found) == {"SUBRESOURCES"}


def test_attack_no_role_gets_the_verbs_that_hand_on_rights() -> None:
    """Only the built-in admin has `*`, `bind` and `escalate`: others hand on what they have."""
    everything = {"namespaces": ["*"], "verbs": ["*"], "resources": ["*", "*/*", "nodes/proxy"]}
    verbs = {verb for rule in rules_of(made(everything), "ClusterRole") for verb in rule["verbs"]}
    assert verbs == set(ALL)


def test_the_built_in_admin_may_do_everything() -> None:
    role = parse_role("admin", ADMIN_RULES)
    found = manifest(PolicySnapshot(PolicySource([role], {}, CLUSTERS)), CLUSTER)
    assert rules_of(found, "ClusterRole", "mk8s:role:admin") == [
        on("*", "*", "*"),
        {"nonResourceURLs": ["*"], "verbs": ["*"]},
    ]
    assert differences(found) == {"BUILT_IN"}


def test_names_and_what_has_no_name() -> None:
    found = made(
        {
            "namespaces": ["*"],
            "verbs": ["get", "watch", "create"],
            "resources": ["configmaps.", "pods/status"],
            "names": ["web", "db"],
        }
    )
    assert rules_of(found, "ClusterRole") == [
        on("core", "configmaps", "get watch create", "web db"),
        on("core", "configmaps", "watch"),
        on("*", "pods/status", "get watch create", "web db"),
    ]
    assert differences(found) == {"LISTS"}


def test_patterns_have_no_words() -> None:
    found = made(
        {
            "namespaces": ["team-*"],
            "verbs": ["get"],
            "resources": ["deploy*", "*.a*.example.com", "*s/scale", "pods/*", "x.*"],
            "names": ["web-*"],
        }
    )
    assert rules_of(found, "ClusterRole") == [on("*", "* */scale x", "get")]
    assert differences(found) == {"NAMESPACES", "NAMES", "RESOURCES", "SUBRESOURCES"}


def test_denials_and_labels_are_told() -> None:
    found = made(
        {"namespaces": ["*"], "verbs": ["get"], "resources": ["pods"], "labels": {"env": "dev"}},
        {
            "deny": True,
            "namespaces": ["", "shop"],
            "verbs": ["*"],
            "resources": ["secrets"],
            "names": ["tls"],
        },
        {"deny": True, "impersonate": {"users": ["*"]}},
        {"deny": True, "verbs": ["get"], "nonResourceURLs": ["/logs/*"]},
    )
    texts = [note.text for note in found.notes]
    assert texts == [
        "counts by the labels that the cluster has now (env=dev)",
        "denies * on secrets named tls in '',shop: RBAC has no denials",
        "denies impersonate on acting as others: RBAC has no denials",
        "denies get on /logs/*: RBAC has no denials",
    ]
    assert found.notes[0].rule == "role r, rule 1"


def test_outside_of_namespaces() -> None:
    found = made(
        {
            "namespaces": [""],
            "verbs": ["get", "list", "deletecollection"],
            "resources": ["nodes", "namespaces", "widgets.example.com", "pods", "nodes/status"],
        }
    )
    kept = rules_of(found, "ClusterRole")
    assert on("core metrics.k8s.io", "nodes", "get list deletecollection delete") in kept
    assert on("core", "namespaces", "list deletecollection delete") in kept
    assert on("example.com", "widgets", "get list deletecollection delete") in kept
    assert on("core metrics.k8s.io", "nodes/status", "get list deletecollection") in kept
    assert not any("pods" in rule["resources"] for rule in kept)
    assert differences(found) == {"DELETIONS", "SCOPE", "CUSTOM"}


def test_what_the_cluster_says_of_its_resources_counts() -> None:
    facts = ClusterFacts()
    facts.learn(CLUSTER, ["novelties.storage.k8s.io"], [])
    found = made({"namespaces": [""], "verbs": ["get"], "resources": ["*", "*/*"]}, facts=facts)
    named = {one for rule in rules_of(found, "ClusterRole") for one in rule["resources"]}
    assert {"nodes", "novelties", "nodes/status", "clusterroles"} <= named
    assert not {"*", "pods", "nodes/proxy", "secrets"} & named
    assert differences(found) == {"CUSTOM"}


def test_paths() -> None:
    found = made(
        {"verbs": ["get"], "nonResourceURLs": ["/metrics", "/logs/*"]},
        {"verbs": ["*"], "nonResourceURLs": ["/x"]},
        {"verbs": ["list"], "nonResourceURLs": ["/never"]},
    )
    assert rules_of(found, "ClusterRole") == [
        {"nonResourceURLs": ["/metrics", "/logs/*"], "verbs": ["get", "head"]},
        {"nonResourceURLs": ["/x"], "verbs": ["delete", "get", "head", "patch", "post", "put"]},
    ]


def test_the_objects_can_be_applied_and_found_again() -> None:
    found = made({"namespaces": ["shop", "team-1"], "verbs": ["get"], "resources": ["pods"]})
    places = [(it["kind"], it["metadata"].get("namespace", "")) for it in found.objects]
    assert places[-4:] == [
        ("Role", "shop"),
        ("RoleBinding", "shop"),
        ("Role", "team-1"),
        ("RoleBinding", "team-1"),
    ]
    assert all(it["metadata"]["labels"] == LABELS for it in found.objects)
    assert found.objects[-1]["subjects"] == [
        {"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "mk8s:role:r"}
    ]
    assert rules_of(found, "ClusterRole") == []


def test_the_agent_may_act_with_the_groups_of_these_roles_alone() -> None:
    """By name: a pattern would be `system:masters` as well."""
    written = {"name": "*", "namespaces": ["*"], "verbs": ["get"], "resources": ["pods"]}
    roles = [
        parse_role("a", [written]),
        parse_role("elsewhere", [{**written, "name": "prod-*"}]),
        parse_role("denies", [{**written, "deny": True}]),
    ]
    policy = PolicySnapshot(PolicySource(roles, {}, CLUSTERS))
    found = manifest(policy, CLUSTER, ServiceAccount("agents", "one"))
    rules = rules_of(found, "ClusterRole", "mk8s:agent:role-groups")
    assert [rule["resourceNames"] for rule in rules] == [["mk8s:role:a"], ["mk8s:role:a"]]
    assert {rule["verbs"][0] for rule in rules} == {"impersonate", "impersonate:user-info"}
    assert found.objects[3]["subjects"] == [
        {"kind": "ServiceAccount", "name": "one", "namespace": "agents"}
    ]
    nothing = manifest(PolicySnapshot(PolicySource([], {}, CLUSTERS)), CLUSTER)
    assert [it["metadata"]["name"] for it in nothing.objects] == ["mk8s:users", "mk8s:users"]


def test_many_notes_are_cut_where_everybody_sees_it() -> None:
    denial = {"deny": True, "namespaces": ["n" * 300], "verbs": ["get"], "resources": ["pods"]}
    grant = {"namespaces": ["*"], "verbs": ["get"], "resources": ["pods"]}
    found = made(grant, *[denial] * 120)
    text = next(
        it["metadata"]["annotations"][NOTES]
        for it in found.objects
        if it["metadata"]["name"] == "mk8s:role:r"
    )
    assert len(text) < 33_000
    assert text.endswith("\nand more: mk8s admin cluster-rbac prints all")
    assert len(found.notes) == 120


def test_more_roles_than_an_agent_can_be_allowed_are_refused() -> None:
    written = [{"name": "*", "namespaces": ["*"], "verbs": ["get"], "resources": ["pods"]}]
    roles = [parse_role(f"r{number}", written) for number in range(MAX_ROLE_GROUPS + 1)]
    with pytest.raises(TooManyRoles, match="513 roles count on the cluster dev-1"):
        manifest(PolicySnapshot(PolicySource(roles, {}, CLUSTERS)), CLUSTER)


# -- any role, judged by Kubernetes itself ---------------------------------------------------------


def is_meant(rules: list[RuleSpec], wanted: Attributes) -> bool:
    """Whether the request exists in Kubernetes, and RBAC is promised to say about it what mk8s
    does: see `Difference.CUSTOM`."""
    if not wanted.is_resource_request:
        return True
    scope = scope_of(wanted.api_group, wanted.resource)
    collection = wanted.verb in COLLECTION and not wanted.subresource
    if (wanted.api_group, wanted.resource) == ("", "namespaces"):
        own = not wanted.subresource and wanted.verb not in (*COLLECTION, "create")
        return (
            (wanted.namespace, wanted.name) == ("team-1", "team-1")
            if own
            else (not wanted.namespace and not wanted.name)
        )
    if scope is Scope.CLUSTER:
        return not wanted.namespace
    if scope is Scope.NAMESPACED:
        return collection or bool(wanted.namespace)
    return bool(wanted.namespace) or not any("" in rule.namespaces for rule in rules)


def needs_of(wanted: Attributes, decision: Decision) -> Iterator[Attributes]:
    """What an allowed request, or its parts, ask of the cluster."""
    if decision.visibility is None or wanted.verb != "deletecollection":
        yield wanted
        return
    yield replace(wanted, verb="list", name="")
    for namespace, name in objects_of(wanted):
        if decision.visibility.allows(namespace, name):
            yield replace(wanted, verb="delete", namespace=namespace, name=name)


def need(wanted: Attributes) -> dict[str, Any]:
    """A request as the rule of RBAC that it needs."""
    if not wanted.is_resource_request:
        return {"rule": {"nonResourceURLs": [wanted.path], "verbs": [wanted.verb]}}
    below = f"/{wanted.subresource}" if wanted.subresource else ""
    rule = on("core", wanted.resource + below, wanted.verb, wanted.name)
    return {"namespace": wanted.namespace, "rule": rule | {"apiGroups": [wanted.api_group]}}


def wide(rule: RuleSpec, noted: set[Difference], wanted: Attributes) -> bool:
    """Whether a rule gives it, read as widely as its notes say."""
    if rule.deny or not wanted.is_resource_request:
        return False
    deletes = wanted.verb == "delete" and Difference.DELETIONS in noted
    verbs = {wanted.verb, *(["deletecollection"] if deletes else ())}
    if not by_word(rule, wanted) and not any(by_verb(rule, verb) for verb in verbs):
        return False
    narrowed = Difference.LISTS in noted and wanted.verb in ("list", "watch")
    somewhere = narrowed or not {Difference.NAMESPACES, Difference.SCOPE}.isdisjoint(noted)
    kind = (wanted.api_group, wanted.resource, wanted.subresource)
    anything = not {Difference.SUBRESOURCES, Difference.RESOURCES}.isdisjoint(noted)
    spelled = "/".join(kind[1:]) in SPELLED_OUT and not wanted.api_group
    word = by_word(rule, wanted) and lists(rule, *kind[:2], "", literally=False)
    named = narrowed or Difference.NAMES in noted or not rule.names
    return (
        (somewhere or some_glob(rule.namespaces, wanted.namespace))
        and (anything or word or lists(rule, *kind, literally=spelled))
        and (named or some_glob(rule.names, wanted.name))
    )


class Judged:
    """A role on a cluster: what mk8s says, and what Kubernetes says by the RBAC made of it."""

    def __init__(self, oracle: Oracle, written: list[RuleSpec]) -> None:
        role = RoleSpec("r", tuple(written))
        self.policy = PolicySnapshot(PolicySource([role], {"u": ("r",)}, CLUSTERS))
        self.rules = self.policy.rules_on(CLUSTER).get("r", ())
        self.manifest = found = manifest(self.policy, CLUSTER)
        self._oracle = oracle
        everybody = rules_of(found, "ClusterRole", "mk8s:users")
        self._everywhere = rules_of(found, "ClusterRole") + everybody
        places = {it["metadata"].get("namespace", "") for it in found.objects} - {""}
        self._namespaced = {place: rules_of(found, "Role", namespace=place) for place in places}

    def decide(self, wanted: Attributes) -> Decision:
        return self.policy.decide("u", (), CLUSTER, wanted)

    def held(self, asked: list[Attributes]) -> list[Attributes]:
        """Those that RBAC allows."""
        needs = [need(wanted) for wanted in asked]
        covered = self._oracle.covered(self._everywhere, self._namespaced, needs)
        return [wanted for wanted, yes in zip(asked, covered, strict=True) if yes]

    def explained(self, wanted: Attributes) -> bool:
        """Whether some note says that RBAC is wider there."""
        noted: dict[str, set[Difference]] = {rule.label: set() for rule in self.rules}
        for note in self.manifest.notes:
            noted[note.rule].add(note.difference)
        if any(Difference.DENIAL in notes for notes in noted.values()):
            return True
        return any(wide(rule.spec, noted[rule.label], wanted) for rule in self.rules)


@given(st.lists(rules(), min_size=1, max_size=4), st.lists(questions, min_size=1, max_size=20))
def test_attack_rbac_is_narrower_or_wider_than_the_role(
    oracle: Oracle, written: list[RuleSpec], asked: list[Attributes]
) -> None:
    judged = Judged(oracle, written)
    assume(judged.rules)
    specs = [rule.spec for rule in judged.rules]
    meant = [it for it in asked if it.verb not in ("", "impersonate") and is_meant(specs, it)]
    decided = [(wanted, judged.decide(wanted)) for wanted in meant]
    parts = [part for it, said in decided if said.allowed for part in needs_of(it, said)]
    assert judged.held(parts) == parts
    refused = [wanted for wanted, said in decided if not said.allowed]
    assert [it for it in judged.held(refused) if not judged.explained(it)] == []
