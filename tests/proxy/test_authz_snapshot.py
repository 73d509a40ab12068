"""Decisions: who may do what, and every way around that must stay closed."""

import pytest
from request_lines import CASES

from mk8s_proxy.authz.access import Access
from mk8s_proxy.authz.access_review import review
from mk8s_proxy.authz.attributes import Attributes, Decision, required_attributes
from mk8s_proxy.authz.cluster_facts import ClusterFacts
from mk8s_proxy.authz.policy import PolicySource, RoleSpec, parse_rbac, parse_role
from mk8s_proxy.authz.snapshot import PolicySnapshot
from mk8s_proxy.kube.request_info import RequestInfo, parse_request_info
from mk8s_proxy.kube.request_target import parse_target

USER = "dev@example.com"
CLUSTERS = {
    "dev-1": {"env": "dev", "tier": ""},
    "prod-1": {"env": "prod"},
    "bare": {},
}


def rule(**changes: object) -> dict[str, object]:
    plain = {"name": "*", "namespaces": ["*"], "verbs": ["*"], "resources": ["pods"]}
    return {key: value for key, value in {**plain, **changes}.items() if value is not None}


def policy(*rules: dict[str, object]) -> PolicySnapshot:
    return PolicySnapshot(
        PolicySource([parse_role("r", list(rules))], {USER: ("r",)}, CLUSTERS), version=7
    )


def may(snapshot: PolicySnapshot, method: str, path: str, *, upgrade: bool = False,
        cluster: str = "dev-1", content_type: bytes = b"") -> bool:  # fmt: skip
    """Whether a whole request passes, unfiltered: all that it requires must be allowed."""
    raw = method.encode()
    info = parse_request_info(raw, parse_target(raw, path.encode()))
    required = required_attributes(info, upgrade=upgrade, content_type=content_type)
    decisions = [snapshot.decide(USER, (), cluster, one) for one in required]
    return all(one.allowed and one.visibility is None for one in decisions)


def decide(snapshot: PolicySnapshot, *attributes: str, cluster: str = "dev-1") -> Decision:
    return snapshot.decide(USER, (), cluster, Attributes(*attributes))


NS = "/api/v1/namespaces/shop"
POD = f"{NS}/pods/web-1"

# -- who, and on which cluster ---------------------------------------------------------------------


def test_the_seed_role() -> None:
    document = {
        "roles": [{"name": "developer", "clusters": [
            {"name": "dev-*", "namespaces": ["*"], "verbs": ["get", "list", "logs", "exec"],
             "resources": ["pods", "services", "deployments"]}]}],
        "users": [{"email": "Dev@Example.com", "roles": ["developer"]}],
    }  # fmt: skip
    parsed = parse_rbac(document)
    roles = {user.email: user.roles for user in parsed.users}
    snapshot = PolicySnapshot(PolicySource(list(parsed.roles), roles, CLUSTERS))
    assert may(snapshot, "GET", POD)
    assert may(snapshot, "GET", "/apis/apps/v1/deployments")
    assert may(snapshot, "GET", f"{POD}/log?follow=true")
    assert may(snapshot, "GET", f"{POD}/exec?command=sh", upgrade=True)
    assert may(snapshot, "POST", f"{POD}/exec?command=sh", upgrade=True)
    assert not may(snapshot, "DELETE", POD)
    assert not may(snapshot, "GET", f"{NS}/secrets")
    assert not may(snapshot, "POST", f"{POD}/portforward", upgrade=True)
    assert not may(snapshot, "GET", POD, cluster="prod-1")


def test_the_user_is_the_email_in_any_case() -> None:
    snapshot = policy(rule())
    wanted = Attributes("get", "", "pods", "", "shop", "web")
    assert snapshot.decide("DEV@example.com", (), "dev-1", wanted).allowed
    assert not snapshot.decide("dev@example.org", (), "dev-1", wanted).allowed


def test_unknown_user_and_unknown_cluster_have_nothing() -> None:
    snapshot = policy(rule())
    wanted = Attributes("get", "", "pods", "", "shop", "web")
    stranger = snapshot.decide("x@example.com", (), "dev-1", wanted)
    assert (stranger.allowed, stranger.rule) == (False, "")
    assert stranger.reason == "no role covers this cluster (the user has no roles)"
    elsewhere = snapshot.decide(USER, (), "dev-9", wanted)
    assert elsewhere.reason == "no role covers this cluster (roles: r)"
    assert not elsewhere.allowed


def test_role_that_no_longer_exists_gives_nothing() -> None:
    snapshot = PolicySnapshot(PolicySource([], {USER: ("gone",)}, CLUSTERS))
    assert not may(snapshot, "GET", "/version")


@pytest.mark.parametrize(
    ("selector", "clusters"),
    [
        ({"name": "dev-*"}, {"dev-1"}),
        ({"name": "*-1"}, {"dev-1", "prod-1"}),
        ({"name": "bare"}, {"bare"}),
        ({"name": None, "labels": {"env": "dev"}}, {"dev-1"}),
        ({"name": None, "labels": {"env": "*"}}, {"dev-1", "prod-1"}),
        ({"name": "prod-*", "labels": {"env": "dev"}}, set()),
        ({"name": None, "labels": {"env": "dev", "tier": ""}}, {"dev-1"}),
        ({"name": None, "labels": {"missing": "*"}}, set()),
    ],
)
def test_clusters_by_name_and_labels(selector, clusters) -> None:
    snapshot = policy(rule(**selector))
    assert snapshot.clusters_of(USER, ()) == clusters
    assert {name for name in CLUSTERS if may(snapshot, "GET", POD, cluster=name)} == clusters


def test_a_role_that_only_denies_gives_no_access() -> None:
    snapshot = policy(rule(deny=True))
    assert snapshot.clusters_of(USER, ()) == set()
    assert not may(snapshot, "GET", "/version")


def test_a_caller_cannot_change_the_policy_afterwards() -> None:
    source = PolicySource([parse_role("r", [rule(name="dev-*")])], {}, {"dev-1": {}})
    snapshot = PolicySnapshot(source)
    source.user_roles[USER] = ("r",)
    source.clusters["dev-2"] = {}
    assert not may(snapshot, "GET", POD)


def test_permissions_are_told_as_written() -> None:
    snapshot = policy(rule(name="dev-*"), rule(name="prod-*"), rule(resources=["nodes"], deny=True))
    assert snapshot.permissions_of(USER, (), "dev-1") == [
        {"role": "r", "rule": "role r, rule 1", **rule(name="dev-*")},
        {"role": "r", "rule": "role r, rule 3", **rule(resources=["nodes"], deny=True)},
    ]
    assert snapshot.permissions_of("x@example.com", (), "dev-1") == []
    assert (snapshot.version, snapshot.roles_of(USER)) == (7, ("r",))


# -- verbs and words -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verbs", "request_line", "allowed"),
    [
        (["get"], ("GET", POD), True),
        (["get"], ("HEAD", POD), True),
        (["get"], ("GET", f"{NS}/pods"), False),
        (["list"], ("GET", f"{NS}/pods"), True),
        (["list"], ("GET", f"{NS}/pods?watch"), False),
        (["watch"], ("GET", f"{NS}/pods?watch"), True),
        (["delete"], ("DELETE", POD), True),
        (["delete"], ("DELETE", f"{NS}/pods"), False),
        (["deletecollection"], ("DELETE", f"{NS}/pods"), True),
        (["*"], ("DELETE", f"{NS}/pods"), True),
        (["patch"], ("PATCH", POD), True),
        (["get"], ("GET", f"{POD}/log"), False),
        (["logs"], ("GET", f"{POD}/log"), True),
        (["logs"], ("GET", POD), False),
        (["logs"], ("POST", f"{POD}/log"), False),
        (["exec"], ("GET", f"{POD}/attach"), True),
        (["exec"], ("POST", f"{POD}/exec"), True),
        (["exec"], ("DELETE", f"{POD}/exec"), False),
        (["exec"], ("POST", f"{POD}/portforward"), False),
        (["portforward"], ("GET", f"{POD}/portforward"), True),
        (["proxy"], ("DELETE", f"{POD}/proxy/x"), True),
        (["proxy"], ("GET", f"{POD}/log"), False),
        (["*"], ("POST", f"{POD}/exec"), True),
        (["*"], ("GET", f"{POD}/log"), True),
        (["*"], ("GET", f"{POD}/status"), False),
        (["*"], ("POST", f"{POD}/eviction"), False),
        (["*"], ("GET", "/apis/x.io/v1/namespaces/shop/pods/p/exec"), False),
    ],
)
def test_verbs_and_words_on_pods(verbs: list[str], request_line, allowed: bool) -> None:
    assert may(policy(rule(verbs=verbs)), *request_line) is allowed


@pytest.mark.parametrize("verb", ["", "proxy", "exec", "*", "head", "post", "bind", "use"])
def test_verb_that_no_request_can_have_is_never_allowed(verb: str) -> None:
    everything = policy(rule(resources=["*", "*/*"]))
    assert not decide(everything, verb, "", "pods", "", "shop", "web").allowed
    assert not decide(everything, verb, "", "pods", "exec", "shop", "web").allowed


def test_read_only_role_opens_no_shell_over_websocket() -> None:
    reader = policy(rule(verbs=["get", "list", "watch"], resources=["*", "*/*"]))
    for stream in ("exec", "attach", "portforward"):
        assert not may(reader, "GET", f"{POD}/{stream}", upgrade=True)
        assert not may(reader, "GET", f"{POD}/{stream}")
    assert may(reader, "GET", f"{NS}/services/web/proxy/")
    assert not may(reader, "GET", f"{NS}/services/web/proxy/", upgrade=True)
    assert not may(reader, "GET", "/api/v1/nodes/n1/proxy/logs/")


def test_ephemeral_container_is_no_way_around_exec() -> None:
    path = f"{POD}/ephemeralcontainers"
    patcher = rule(verbs=["patch"], resources=["pods/ephemeralcontainers"])
    assert not may(policy(patcher), "PATCH", path)
    assert may(policy(patcher, rule(verbs=["exec"])), "PATCH", path)


def test_apply_is_no_way_around_create() -> None:
    patcher = policy(rule(verbs=["patch"]))
    assert may(patcher, "PATCH", POD)
    assert not may(patcher, "PATCH", POD, content_type=b"application/apply-patch+yaml")


# -- resources -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("resources", "path", "allowed"),
    [
        (["deployments"], "/apis/apps/v1/namespaces/a/deployments/d", True),
        (["deployments"], "/apis/extensions/v1beta1/namespaces/a/deployments/d", True),
        (["deployments.apps"], "/apis/apps/v1/namespaces/a/deployments/d", True),
        (["deployments.apps"], "/apis/extensions/v1beta1/namespaces/a/deployments/d", False),
        (["pods."], "/api/v1/namespaces/a/pods/p", True),
        (["pods."], "/apis/metrics.k8s.io/v1beta1/namespaces/a/pods/p", False),
        (["pods"], "/apis/metrics.k8s.io/v1beta1/namespaces/a/pods/p", True),
        (["*.example.com"], "/apis/example.com/v1/namespaces/a/widgets/w", True),
        (["*.example.com"], "/apis/sub.example.com/v1/namespaces/a/widgets/w", False),
        (["widgets.*"], "/apis/sub.example.com/v1/namespaces/a/widgets/w", True),
        (["*.*.com"], "/apis/example.com/v1/namespaces/a/widgets/w", True),
        (["*maps"], "/api/v1/namespaces/a/configmaps/c", True),
        (["*maps"], "/api/v1/namespaces/a/secrets/c", False),
        (["*"], "/api/v1/namespaces/a/secrets/c", True),
        (["*"], "/apis/apps/v1/namespaces/a/deployments/d/scale", False),
        (["deployments"], "/apis/apps/v1/namespaces/a/deployments/d/scale", False),
        (["deployments/scale"], "/apis/apps/v1/namespaces/a/deployments/d/scale", True),
        (["deployments/scale"], "/apis/apps/v1/namespaces/a/deployments/d", False),
        (["deployments.apps/scale"], "/apis/apps/v1/namespaces/a/deployments/d/scale", True),
        (["*/scale"], "/apis/apps/v1/namespaces/a/deployments/d/scale", True),
        (["*/status"], "/apis/apps/v1/namespaces/a/deployments/d/scale", False),
        (["*/*"], "/apis/apps/v1/namespaces/a/deployments/d/scale", True),
        (["*/*"], "/apis/apps/v1/namespaces/a/deployments/d", False),
        (["*.apps/*"], "/apis/apps/v1/namespaces/a/deployments/d/scale", True),
        (["pods/log"], "/api/v1/namespaces/a/pods/p/log", True),
    ],
)  # fmt: skip
def test_resources(resources: list[str], path: str, allowed: bool) -> None:
    assert may(policy(rule(resources=resources, verbs=["get"])), "GET", path) is allowed


NODE_PROXY = "/api/v1/nodes/n1/proxy/pods"
TOKEN = f"{NS}/serviceaccounts/default/token"


@pytest.mark.parametrize(
    "resources",
    [["*", "*/*"], ["nodes", "serviceaccounts"], ["nodes/*", "serviceaccounts/*"],
     ["*/proxy", "*/token"], ["nodes.*/proxy", "serviceaccounts.*/token"], ["*./*"]],
)  # fmt: skip
def test_no_glob_and_no_word_grants_a_node_or_a_credential(resources: list[str]) -> None:
    snapshot = policy(rule(resources=resources))
    assert not may(snapshot, "GET", NODE_PROXY)
    assert not may(snapshot, "POST", NODE_PROXY)
    assert not may(snapshot, "POST", TOKEN)


@pytest.mark.parametrize("suffix", ["", "."])
def test_a_node_and_a_credential_are_granted_by_their_names(suffix: str) -> None:
    resources = [f"nodes{suffix}/proxy", f"serviceaccounts{suffix}/token"]
    snapshot = policy(rule(resources=resources))
    assert may(snapshot, "GET", NODE_PROXY)
    assert may(snapshot, "POST", TOKEN)
    assert not may(policy(rule(resources=resources, verbs=["get"])), "GET", NODE_PROXY)
    assert may(policy(rule(resources=resources, verbs=["proxy"])), "GET", NODE_PROXY)


# -- namespaces and names --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("namespaces", "path", "allowed"),
    [
        (["*"], "/api/v1/pods", True),
        (["*"], "/api/v1/nodes/n", True),
        (["shop"], f"{NS}/pods", True),
        (["shop"], "/api/v1/namespaces/other/pods", False),
        (["shop"], "/api/v1/pods", False),
        (["shop"], "/api/v1/nodes/n", False),
        (["sh*"], f"{NS}/pods", True),
        (["*op"], f"{NS}/pods", True),
        (["s*p"], f"{NS}/pods", True),
        (["s*o*p"], f"{NS}/pods", True),
        (["s*x*p"], f"{NS}/pods", False),
        (["s*"], "/api/v1/pods", False),
        (["*o*"], f"{NS}/pods", True),
        (["*o*"], "/api/v1/pods", False),
        (["**"], "/api/v1/pods", True),
        ([""], "/api/v1/nodes", True),
        ([""], "/api/v1/nodes/n", True),
        ([""], "/api/v1/namespaces", True),
        ([""], f"{NS}/pods", False),
        ([""], "/api/v1/pods", False),
        ([""], "/api/v1/secrets?watch=1", False),
        ([""], "/apis/apps/v1/deployments", False),
        ([""], "/apis/example.com/v1/widgets", False),
        ([""], "/apis/example.com/v1/widgets/w", True),
        ([""], "/apis/rbac.authorization.k8s.io/v1/clusterroles", True),
        (["shop"], NS, True),
        (["shop"], f"{NS}/status", False),
        (["other"], NS, False),
        ([""], NS, False),
    ],
)
def test_namespaces(namespaces: list[str], path: str, allowed: bool) -> None:
    assert may(policy(rule(namespaces=namespaces, resources=["*"])), "GET", path) is allowed


def test_custom_resource_outside_namespaces_is_listed_by_its_name() -> None:
    snapshot = policy(rule(namespaces=[""], resources=["widgets.example.com"]))
    assert may(snapshot, "GET", "/apis/example.com/v1/widgets")


@pytest.mark.parametrize(
    ("names", "path", "allowed"),
    [
        (["web-*"], POD, True),
        (["api-*"], POD, False),
        (["*"], f"{NS}/pods", True),
        (["web-*"], f"{NS}/pods", False),
        (["web-*"], f"{NS}/pods?fieldSelector=metadata.name%3Dweb-1", True),
        (["web-*"], f"{NS}/pods?fieldSelector=metadata.name%3Dapi-1", False),
        (["web-*"], f"{NS}/pods?fieldSelector=metadata.name!%3Dweb-1", False),
        (["web-*"], f"{NS}/pods?fieldSelector=metadata.name%3Dweb-1&labelSelector=!!", False),
        (["web-1"], f"{POD}/log", True),
        (["web-1"], f"{NS}/pods/web-1%0a", None),
        (["web-*"], f"{NS}/pods?fieldSelector=metadata.name%3Dweb-1%0Ax", True),
        (["web"], f"{NS}/pods?fieldSelector=metadata.name%3Dweb%0A", False),
        (["web"], f"{NS}/pods/web:80/proxy/", False),
    ],
)
def test_names(names: list[str], path: str, allowed: bool | None) -> None:
    snapshot = policy(rule(names=names))
    if allowed is None:
        with pytest.raises(Exception, match="control character"):
            may(snapshot, "GET", path)
    else:
        assert may(snapshot, "GET", path) is allowed


def test_a_rule_with_names_creates_nothing() -> None:
    assert not may(policy(rule(names=["web-*"])), "POST", f"{NS}/pods")


# -- denials ---------------------------------------------------------------------------------------

ALL = rule(resources=["*", "*/*", "nodes/proxy", "serviceaccounts/token"], nonResourceURLs=["*"])


@pytest.mark.parametrize(
    ("denial", "method", "path"),
    [
        ({}, "GET", POD),
        ({"verbs": ["get"]}, "GET", f"{POD}/log"),
        ({"verbs": ["exec"]}, "GET", f"{POD}/exec"),
        ({"verbs": ["exec"]}, "PATCH", f"{POD}/ephemeralcontainers"),
        ({"verbs": ["update"]}, "PUT", f"{POD}/status"),
        ({"resources": ["nodes"], "verbs": ["proxy"]}, "GET", NODE_PROXY),
        ({"resources": ["*/*"]}, "GET", NODE_PROXY),
        ({"resources": ["*/*"]}, "POST", TOKEN),
        ({"resources": ["serviceaccounts"]}, "POST", TOKEN),
        ({"resources": ["deployments"], "verbs": ["update"]}, "PUT",
         "/apis/apps/v1/namespaces/shop/deployments/d/scale"),
        ({"namespaces": ["shop"]}, "GET", f"{NS}/pods"),
        ({"namespaces": ["shop"]}, "GET", "/api/v1/pods"),
        ({"namespaces": ["shop"]}, "GET", "/api/v1/pods?watch"),
        ({"namespaces": ["sh*"]}, "GET", "/api/v1/pods"),
        ({"namespaces": ["*p"]}, "GET", "/api/v1/pods"),
        ({"namespaces": ["shop"], "resources": ["widgets"]}, "GET", "/apis/x.io/v1/widgets"),
        ({"names": ["web-*"]}, "GET", POD),
        ({"names": ["web-*"]}, "GET", f"{NS}/pods"),
        ({"names": ["web-*"]}, "DELETE", f"{NS}/pods"),
        ({"names": ["web-*"]}, "POST", f"{NS}/pods"),
        ({"names": ["db"], "resources": ["services"]}, "GET", f"{NS}/services/https:db:80/proxy/"),
        ({"names": ["db"], "resources": ["services"]}, "GET", f"{NS}/services/db:80/proxy/"),
        ({"resources": ["namespaces"], "namespaces": ["shop"]}, "DELETE", NS),
        ({"resources": None, "namespaces": None, "nonResourceURLs": ["/version"]}, "GET",
         "/version"),
        ({"resources": None, "namespaces": None, "nonResourceURLs": ["/api*"], "verbs": ["get"]},
         "HEAD", "/apis/apps/v1"),
        ({"resources": ["*"]}, "POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"),
    ],
)  # fmt: skip
def test_a_denial_wins_over_a_grant(denial, method: str, path: str) -> None:
    assert may(policy(ALL), method, path)
    assert not may(policy(ALL, rule(deny=True, **denial)), method, path)
    assert not may(policy(rule(deny=True, **denial), ALL), method, path)


@pytest.mark.parametrize(
    ("denial", "method", "path"),
    [
        ({"verbs": ["get"]}, "DELETE", POD),
        ({"verbs": ["list"]}, "GET", POD),
        ({"resources": ["pods/log"]}, "GET", POD),
        ({"resources": ["pods/log"]}, "GET", f"{POD}/status"),
        ({"namespaces": ["other"]}, "GET", POD),
        ({"namespaces": ["other"], "resources": ["*"]}, "GET", "/api/v1/nodes"),
        ({"namespaces": ["other"], "resources": ["*"]}, "GET", "/api/v1/nodes/n"),
        ({"names": ["db"]}, "GET", POD),
        ({"names": ["80"]}, "GET", f"{NS}/pods?fieldSelector=metadata.name%3Da:80"),
        ({"name": "prod-*"}, "GET", POD),
        ({"resources": None, "namespaces": None, "nonResourceURLs": ["/metrics"]}, "GET", POD),
    ],
)
def test_a_denial_reaches_no_further(denial, method: str, path: str) -> None:
    assert may(policy(ALL, rule(deny=True, **denial)), method, path)


def test_a_denial_of_one_role_wins_over_the_grant_of_another() -> None:
    roles = [parse_role("ops", [ALL]), parse_role("limits", [rule(deny=True)])]
    source = PolicySource(roles, {USER: ("ops", "limits")}, CLUSTERS)
    decision = decide(PolicySnapshot(source), "get", "", "pods", "", "shop", "web")
    assert decision == Decision(False, "role limits, rule 1, denies it", "role limits, rule 1")


# -- paths, discovery, reviews, impersonation ------------------------------------------------------

PATH_ROWS = [case for case in CASES if "default_policy" in case and case["mk8s"] == "forward"]


@pytest.mark.parametrize("case", PATH_ROWS, ids=lambda case: case["id"])
def test_row_of_the_conformance_table(case) -> None:
    allowed = may(policy(rule()), case["method"], case["target"])
    assert allowed is (case["default_policy"] == "allow")
    assert not may(policy(rule(name="prod-*")), case["method"], case["target"])


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_discovery_is_for_reading(method: str) -> None:
    for path in ("/version", "/api/v1", "/openapi/v2", "/healthz", "/"):
        assert not may(policy(rule()), method, path)
    assert may(policy(rule()), method, "/api") is (method == "POST")


@pytest.mark.parametrize(
    ("verbs", "urls", "method", "path", "allowed"),
    [
        (["get"], ["/metrics"], "GET", "/metrics", True),
        (["get"], ["/metrics"], "HEAD", "/metrics", True),
        (["get"], ["/metrics"], "POST", "/metrics", False),
        (["get"], ["/metrics"], "GET", "/metrics/slis", False),
        (["get"], ["/metrics*"], "GET", "/metrics/slis", True),
        (["post"], ["/logs/*"], "POST", "/logs/x", True),
        (["post"], ["/logs/*"], "GET", "/logs/x", False),
        (["*"], ["*"], "DELETE", "/anything", True),
        (["*"], ["/metrics"], "GET", POD, False),
    ],
)
def test_non_resource_urls(verbs, urls, method: str, path: str, allowed: bool) -> None:
    written = rule(verbs=verbs, resources=None, namespaces=None, nonResourceURLs=urls)
    assert may(policy(written), method, path) is allowed


def test_everyone_with_a_role_may_ask_about_oneself() -> None:
    snapshot = policy(rule(verbs=["get"], namespaces=["shop"]))
    for kind in ("authorization.k8s.io/v1/selfsubjectaccessreviews",
                 "authorization.k8s.io/v1/selfsubjectrulesreviews",
                 "authentication.k8s.io/v1/selfsubjectreviews"):  # fmt: skip
        assert may(snapshot, "POST", f"/apis/{kind}")
        assert not may(snapshot, "GET", f"/apis/{kind}")
        assert not may(snapshot, "POST", f"/apis/{kind}", cluster="nowhere")
    for kind in ("authorization.k8s.io/v1/subjectaccessreviews",
                 "authorization.k8s.io/v1/namespaces/shop/localsubjectaccessreviews",
                 "example.com/v1/selfsubjectaccessreviews"):  # fmt: skip
        assert not may(snapshot, "POST", f"/apis/{kind}")


@pytest.mark.parametrize(
    ("resource", "name", "allowed"),
    [
        ("users", "ci-1", True),
        ("users", "root", False),
        ("groups", "team-a", True),
        ("groups", "ci-1", False),
        ("uids", "ci-1", False),
    ],
)
def test_impersonation(resource: str, name: str, allowed: bool) -> None:
    whom = {"users": ["ci-*"], "groups": ["team-a"]}
    granted = policy(rule(verbs=["impersonate"], impersonate=whom))
    assert decide(granted, "impersonate", "", resource, "", "", name).allowed is allowed
    only_users = policy({"name": "*", "impersonate": {"users": ["*"]}})
    assert decide(only_users, "impersonate", "", "users", "", "", name).allowed
    assert not decide(only_users, "impersonate", "", "groups", "", "", name).allowed


def test_no_rule_about_everything_includes_impersonation() -> None:
    snapshot = policy(rule(resources=["*", "users", "groups"], nonResourceURLs=["*"]))
    assert not decide(snapshot, "impersonate", "", "users", "", "", "root").allowed


def test_denied_impersonation() -> None:
    snapshot = policy(
        {"name": "*", "impersonate": {"users": ["*"]}},
        {"name": "*", "impersonate": {"users": ["root"]}, "deny": True},
    )
    assert decide(snapshot, "impersonate", "", "users", "", "", "ci").allowed
    assert not decide(snapshot, "impersonate", "", "users", "", "", "root").allowed


# -- reasons ---------------------------------------------------------------------------------------


def test_the_reason_of_a_grant_names_the_rule() -> None:
    decision = decide(policy(rule(resources=["nodes"]), rule()), "get", "", "pods", "", "a", "b")
    assert decision == Decision(True, "allowed by role r, rule 2", "role r, rule 2")


def test_the_reason_of_an_opening_names_it() -> None:
    wanted = Attributes("get", path="/version", is_resource_request=False)
    decision = policy(rule()).decide(USER, (), "dev-1", wanted)
    assert decision == Decision(True, "discovery is open to every role", "discovery")


@pytest.mark.parametrize(
    ("changes", "wanted", "reason"),
    [
        ({}, ("get", "", "secrets", "", "a", "b"), "no role allows it (roles: r)"),
        ({"namespaces": ["a", "b-*"]}, ("list", "", "nodes"), "no role allows it (roles: r)"),
        ({"namespaces": ["a", "b-*"], "resources": ["*"]}, ("list", "", "nodes"),
         "no role allows it (roles: r)"),
        ({"namespaces": ["a", "b-*"]}, ("create", "", "pods"),
         "role r, rule 1, allows it only in the namespaces a, b-*: name one with -n"),
        ({"namespaces": ["", "a"]}, ("list", "", "pods", "", "z"),
         "role r, rule 1, allows it only in the namespaces a: name one with -n"),
        ({"namespaces": [""]}, ("list", "", "pods", "", "z"), "no role allows it (roles: r)"),
        ({"namespaces": ["a"], "names": ["web"]}, ("list", "", "pods", "", "z"),
         "role r, rule 1, allows it only in the namespaces a: name one with -n"),
        ({"namespaces": ["a"], "names": ["web"]}, ("create", "", "pods", "", "a"),
         "role r, rule 1, is about the objects web, and a new one has no name here yet"),
        ({"namespaces": ["*"], "names": ["web"]}, ("deletecollection", "", "pods/log", "", "a"),
         "no role allows it (roles: r)"),
        ({"namespaces": ["a"]}, ("get", "", "pods", "", "z", "p"), "no role allows it (roles: r)"),
        ({"namespaces": ["a"], "verbs": ["get"]}, ("list", "", "pods"),
         "no role allows it (roles: r)"),
    ],
)  # fmt: skip
def test_the_reason_of_a_refusal_tells_what_would_be_allowed(changes, wanted, reason: str) -> None:
    decision = decide(policy(rule(**changes)), *wanted)
    assert (decision.allowed, decision.reason, decision.rule) == (False, reason, "")
    assert decision.visibility is None


@pytest.mark.parametrize("namespaces", [["*"], ["a"], [""]])
def test_the_reason_for_a_path_knows_no_namespaces(namespaces: list[str]) -> None:
    wanted = Attributes("get", path="/metrics", is_resource_request=False)
    snapshot = policy(rule(namespaces=namespaces, resources=["*"]))
    assert snapshot.decide(USER, (), "dev-1", wanted).reason == "no role allows it (roles: r)"


def test_the_reason_names_ten_roles_at_most() -> None:
    names = tuple(f"r{number}" for number in range(12))
    roles = [parse_role(name, [rule()]) for name in names]
    snapshot = PolicySnapshot(PolicySource(roles, {USER: names}, CLUSTERS))
    reason = decide(snapshot, "get", "", "secrets", "", "a", "b").reason
    assert reason == f"no role allows it (roles: {', '.join(names[:10])} and 2 more)"


# -- scopes that a cluster tells ------------------------------------------------------------------


def outside(scopes: ClusterFacts) -> PolicySnapshot:
    """Somebody may list what is outside namespaces, whatever it is."""
    roles = [parse_role("r", [rule(namespaces=[""], verbs=["list", "get"], resources=["*"])])]
    source = PolicySource(roles, {USER: ("r",)}, CLUSTERS)
    return PolicySnapshot(source, version=7, facts=scopes)


def test_a_cluster_says_the_scope_of_what_is_newer_than_the_list() -> None:
    scopes = ClusterFacts()
    snapshot = outside(scopes)
    question = ("list", "storage.k8s.io", "novelties")
    before = snapshot.edition
    assert not decide(snapshot, *question).allowed
    scopes.learn("dev-1", ["novelties.storage.k8s.io", "nodes"], ["pods"])
    assert snapshot.edition != before
    assert decide(snapshot, *question).allowed
    assert decide(snapshot, *question).visibility is None
    assert not decide(snapshot, *question, cluster="prod-1").allowed
    access = snapshot.access_of(USER, (), "dev-1")
    assert review(access, Attributes(*question, namespace="shop")).allowed
    edition = snapshot.edition
    scopes.learn("dev-1", ["novelties.storage.k8s.io"], [])
    assert snapshot.edition == edition
    scopes.keep_only(["prod-1"])
    assert scopes.scopes_of("dev-1") == {}


def test_attack_a_cluster_that_calls_custom_resources_its_own() -> None:
    """Somebody could make them anew, with another scope."""
    scopes = ClusterFacts()
    scopes.learn("dev-1", ["widgets.example.com", "widgets.gateway.networking.k8s.io"], [])
    assert scopes.scopes_of("dev-1") == {}


def test_a_cluster_says_that_something_is_namespaced() -> None:
    scopes = ClusterFacts()
    snapshot = outside(scopes)
    question = ("list", "certificates.k8s.io", "clustertrustbundles")
    assert decide(snapshot, *question).allowed
    scopes.learn("dev-1", [], ["clustertrustbundles.certificates.k8s.io"])
    assert not decide(snapshot, *question).allowed
    access = snapshot.access_of(USER, (), "dev-1")
    assert not review(access, Attributes(*question)).allowed


# -- robustness ------------------------------------------------------------------------------------


def test_a_fault_in_the_evaluator_is_a_refusal(monkeypatch, caplog) -> None:
    def fail(*_: object) -> Decision:
        raise RecursionError

    snapshot = policy(rule())
    monkeypatch.setattr(Access, "decide", fail)
    decision = decide(snapshot, "get", "", "pods", "", "a", "b")
    assert not decision.allowed
    assert "could not be evaluated" in decision.reason
    assert "RecursionError" in caplog.text


@pytest.mark.parametrize("odd", [None, 7, ["x"], object()])
def test_an_impossible_question_is_a_refusal(odd) -> None:
    snapshot = policy(ALL)
    assert not snapshot.decide(USER, (), odd, Attributes("get", "", "pods")).allowed
    assert not snapshot.decide(odd, (), "dev-1", Attributes("get", "", "pods")).allowed
    assert not snapshot.decide(USER, (), "dev-1", odd).allowed
    info = RequestInfo(True, "get", "/api/v1/pods")
    assert not snapshot.decide_request(odd, "dev-1", info, False, b"")[1].allowed


def test_the_first_denied_question_decides() -> None:
    snapshot = policy(rule(verbs=["get"], resources=["pods", "pods/exec"]))
    info = parse_request_info(
        b"GET", parse_target(b"GET", b"/api/v1/namespaces/shop/pods/web/exec")
    )
    asked, decision = snapshot.decide_request(USER, "dev-1", info, True, b"")
    assert (asked.verb, decision.allowed) == ("create", False)
    plain = parse_request_info(b"GET", parse_target(b"GET", b"/api/v1/namespaces/shop/pods/web"))
    asked, decision = snapshot.decide_request(USER, "dev-1", plain, False, b"")
    assert (asked.verb, decision.allowed) == ("get", True)


def test_caches_stay_bounded_and_right() -> None:
    snapshot = policy(rule(namespaces=["n1"]))
    for kept in (snapshot._answers, snapshot._by_roles):
        kept.most_entries = 3
    for _ in range(2):
        for number in range(8):
            path = f"/api/v1/namespaces/n{number}/pods/p".encode()
            info = parse_request_info(b"GET", parse_target(b"GET", path))
            asked, found = snapshot.decide_request(USER, "dev-1", info, False, b"")
            assert (found.allowed, asked.namespace) == (number == 1, f"n{number}")
            decide(snapshot, "get", "", "pods", "", "n1", "p", cluster=f"c{number}")
            snapshot.decide(f"u{number}@example.com", (), "dev-1", Attributes("get"))
            assert len(snapshot._answers) <= 3
            assert len(snapshot._by_roles) <= 3


def test_a_glob_with_many_stars_does_not_stall_the_proxy() -> None:
    snapshot = policy(rule(names=["*a" * 60 + "b"]))
    assert not decide(snapshot, "get", "", "pods", "", "shop", "a" * 4000).allowed
    assert decide(snapshot, "get", "", "pods", "", "shop", "a" * 4000 + "b").allowed


def test_many_roles_are_asked_as_one() -> None:
    names = tuple(f"r{number}" for number in range(100))
    roles = [RoleSpec(name, parse_role(name, [rule(namespaces=[name])]).rules) for name in names]
    snapshot = PolicySnapshot(PolicySource(roles, {USER: names}, CLUSTERS))
    assert decide(snapshot, "get", "", "pods", "", "r73", "p").rule == "role r73, rule 1"
    assert not decide(snapshot, "get", "", "pods", "", "r100", "p").allowed
    assert len(snapshot.permissions_of(USER, (), "dev-1")) == 100


def test_attack_a_second_question_that_is_allowed_whole_hides_a_part_of_the_first() -> None:
    snapshot = policy(rule(namespaces=["shop"], verbs=["list", "get"], resources=["pods"]))
    part = Attributes("list", "", "pods")
    whole = Attributes("get", "", "pods", "", "shop", "web")
    access = snapshot.access_of("dev@example.com", (), "dev-1")
    assert access.decide(whole).visibility is None
    for questions in ((part, whole), (whole, part)):
        _, decision = snapshot._answer(("asked", questions), access, questions)
        assert decision.allowed
        assert decision.visibility is not None


def test_what_a_cluster_says_counts_from_the_next_question_on() -> None:
    scopes = ClusterFacts()
    snapshot = outside(scopes)
    path = "/apis/storage.k8s.io/v1/novelties"
    info = RequestInfo(True, "list", path, "apis", "storage.k8s.io", "v1", "", "novelties")
    question = (USER, "dev-1", info, False, b"")
    assert not snapshot.decide_request(*question)[1].allowed
    scopes.learn("dev-1", ["novelties.storage.k8s.io"], [])
    assert snapshot.decide_request(*question)[1].allowed
    discovery = Attributes("get", path="/version", is_resource_request=False)
    assert snapshot.decide(USER, (), "dev-1", discovery).allowed
    scopes.learn("dev-1", [], [])
    access = snapshot.access_of(USER, (), "dev-1")
    assert not access.decide(Attributes("list", "storage.k8s.io", "novelties")).allowed


def test_roles_that_count_on_some_clusters_only() -> None:
    """As those of a service token with globs: everywhere else it is nobody."""
    clusters: dict[str, dict[str, str]] = {"dev-1": {}, "dev-2": {}, "prod": {}}
    limited = parse_role("r", [rule()], {"streams": 50})
    source = PolicySource([limited], {"token:ci": ("r",), USER: ("r",)}, clusters,
                          {"Token:CI": ("dev-*", "stage")})  # fmt: skip
    snapshot = PolicySnapshot(source)
    asked = Attributes("get", "", "pods", "", "shop", "web")
    info = parse_request_info(b"GET", parse_target(b"GET", b"/api/v1/namespaces/shop/pods/web"))
    for cluster in clusters:
        there = cluster != "prod"
        assert snapshot.decide("token:ci", (), cluster, asked).allowed is there
        assert snapshot.decide_request("token:CI", cluster, info, False, b"")[1].allowed is there
        assert bool(snapshot.permissions_of("token:ci", (), cluster)) is there
        assert snapshot.limits_of("token:ci", cluster, 10, 10) == ((50, 10) if there else (10, 10))
        assert snapshot.decide(USER, (), cluster, asked).allowed
    assert snapshot.clusters_of("token:ci", ()) == {"dev-1", "dev-2"}
