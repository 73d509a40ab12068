"""Writes that give away a cluster, where its own RBAC holds nobody back; and groups of roles."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from naive_policy import lists
from test_authz_access_review import EVERYTHING, can, limited, policy
from test_authz_differential import GROUPS, VERBS, rules
from test_authz_rules_review import ADMIN, ALL, narrowed, on

from mk8s_agent.wire.control import BOUNDED, UNBOUNDED, UNKNOWN
from mk8s_proxy.authz.access_review import review
from mk8s_proxy.authz.attributes import Attributes, Decision
from mk8s_proxy.authz.cluster_facts import Bounds, ClusterFacts
from mk8s_proxy.authz.policy import PolicySource, RoleSpec, RuleSpec, parse_role
from mk8s_proxy.authz.powers import RBAC, WRITES, exercised, gives_away
from mk8s_proxy.authz.role_groups import MOST_BYTES, MOST_ROLES, group_of
from mk8s_proxy.authz.rules_review import Narrowing
from mk8s_proxy.authz.snapshot import PolicySnapshot
from mk8s_proxy.db.roles import ADMIN_RULES
from mk8s_proxy.kube.request_info import RequestInfo

ADMISSION = "admissionregistration.k8s.io"
CERTIFICATES = "certificates.k8s.io"
WIDE = {**EVERYTHING, "resources": ["*", "*/*", "rolebindings", "clusterrolebindings"]}
GIVES_AWAY = [
    ("create", RBAC, "clusterrolebindings", ""),
    ("patch", RBAC, "clusterroles", ""),
    ("deletecollection", RBAC, "rolebindings", ""),
    ("update", CERTIFICATES, "certificatesigningrequests", "approval"),
    ("patch", CERTIFICATES, "certificatesigningrequests", "status"),
    ("create", CERTIFICATES, "clustertrustbundles", ""),
    ("create", ADMISSION, "mutatingwebhookconfigurations", ""),
    ("delete", ADMISSION, "validatingadmissionpolicies", ""),
    ("create", "apiregistration.k8s.io", "apiservices", ""),
    ("create", "authorization.openshift.io", "rolebindings", ""),
]
HARMLESS = [
    ("get", RBAC, "clusterroles", ""),
    ("list", ADMISSION, "mutatingwebhookconfigurations", ""),
    ("create", CERTIFICATES, "certificatesigningrequests", ""),
    ("create", "", "pods", ""),
    ("create", "apps", "deployments", ""),
]


def decide(wanted: tuple[str, str, str, str], *written: dict[str, Any], **more: str) -> Decision:
    return policy(*written, **more).decide("u", (), "prod", Attributes(*wanted))


@pytest.mark.parametrize("reach", [UNBOUNDED, UNKNOWN, ""])
@pytest.mark.parametrize("wanted", GIVES_AWAY, ids=" ".join)
def test_attack_a_star_gives_the_cluster_away(wanted: tuple[str, ...], reach: str) -> None:
    """Also where the agent cannot tell, or is too old to: that proves nothing."""
    verb, group, resource, below = wanted
    refused = decide((verb, group, resource, below), WIDE, reach=reach)
    assert not refused.allowed
    name = f"{resource}.{group}{f'/{below}' if below else ''}"
    assert refused.reason.startswith("role r, rule 1, does not name the API group")
    assert f'a rule must say "{name}"' in refused.reason
    for allowed in (name, f"*.{group}{f'/{below}' if below else ''}"):
        by_name = {**EVERYTHING, "resources": ["*", allowed]}
        assert decide((verb, group, resource, below), by_name, reach=reach).allowed


@pytest.mark.parametrize("wanted", GIVES_AWAY, ids=" ".join)
def test_where_rbac_holds_people_back_a_star_is_enough(wanted: tuple[str, str, str, str]) -> None:
    assert decide(wanted, WIDE, reach=BOUNDED).allowed


@pytest.mark.parametrize("wanted", GIVES_AWAY, ids=" ".join)
def test_the_built_in_admin_may_all_the_same(wanted: tuple[str, str, str, str]) -> None:
    admin = {key: value for key, value in ADMIN_RULES[0].items() if key != "name"}
    assert decide(wanted, admin, reach=UNBOUNDED, role="admin").allowed
    assert not decide(wanted, admin, reach=UNBOUNDED, role="admins").allowed


@pytest.mark.parametrize("wanted", HARMLESS, ids=" ".join)
def test_the_rest_needs_no_name(wanted: tuple[str, str, str, str]) -> None:
    assert decide(wanted, WIDE, reach=UNBOUNDED).allowed


def test_attack_a_glob_does_not_name_the_group() -> None:
    wanted = ("create", RBAC, "rolebindings", "")
    for resources in (["rolebindings.rbac*"], ["*.*"], ["rolebindings"], ["roles." + RBAC, "*"]):
        written = {**EVERYTHING, "resources": resources}
        assert not decide(wanted, written, reach=UNBOUNDED).allowed
    assert decide(wanted, {**EVERYTHING, "resources": ["role*." + RBAC]}, reach=UNBOUNDED).allowed


def test_a_refusal_without_any_rule_is_the_usual_one() -> None:
    reader = {**EVERYTHING, "verbs": ["get"]}
    refused = decide(("create", RBAC, "roles", ""), reader, reach=UNBOUNDED)
    assert refused.reason == "no role allows it (roles: r)"


def test_a_denial_wins_as_ever() -> None:
    by_name = {**EVERYTHING, "resources": ["rolebindings." + RBAC]}
    denied = decide(("create", RBAC, "rolebindings", ""), by_name, {**by_name, "deny": True})
    assert not denied.allowed
    assert denied.rule == "role r, rule 2"


def test_what_a_cluster_says_later_counts_at_once() -> None:
    facts = ClusterFacts()
    role = parse_role("r", [{"name": "*", **WIDE}])
    snapshot = PolicySnapshot(PolicySource([role], {"u": ("r",)}, {"prod": {}}), 1, facts=facts)
    info = RequestInfo(True, "create", "/x", api_group=RBAC, resource="clusterroles")
    question = ("u", "prod", info, False, b"")
    edition = snapshot.edition
    assert not snapshot.decide_request(*question)[1].allowed
    assert facts.learn_bounds("prod", BOUNDED, ["mk8s:role:r"])
    assert snapshot.edition != edition
    allowed = snapshot.decide_request(*question)[1]
    assert (allowed.allowed, allowed.groups) == (True, ("mk8s:role:r",))
    assert not facts.learn_bounds("prod", BOUNDED, ["mk8s:role:r"])
    _, learn_bounds = facts.learners
    assert not learn_bounds("prod", "", ())  # an older agent of the same cluster
    assert snapshot.bounds_of("prod") == Bounds(BOUNDED, frozenset({"mk8s:role:r"}))
    assert facts.learn_bounds("prod", UNKNOWN, [])
    assert not snapshot.decide_request(*question)[1].allowed
    facts.keep_only([])
    assert snapshot.bounds_of("prod") == Bounds()


guarded_rules = st.sampled_from(
    ["*", "*/*", f"*.{RBAC}", "roles", f"roles.{RBAC}", "ro*", f"ro*.{RBAC}", "roles.rbac*", "*.*"]
)


@given(rules(), st.lists(guarded_rules, max_size=3), st.sampled_from(sorted(WRITES)))
def test_attack_any_rule_that_does_not_name_the_group(
    rule: RuleSpec, resources: list[str], verb: str
) -> None:
    """Guarded is allowed only if unguarded is, and a resource of the rule names the group."""
    written = RuleSpec("*", (), rule.namespaces, rule.verbs, tuple(resources), rule.names)
    source = PolicySource([RoleSpec("r", (written,))], {"u": ("r",)}, {"prod": {}})
    bounded = ClusterFacts()
    bounded.learn_bounds("prod", BOUNDED, [])
    wanted = Attributes(verb, RBAC, "roles", "", "shop", "web")
    free = PolicySnapshot(source, facts=bounded).decide("u", (), "prod", wanted).allowed
    held = PolicySnapshot(source).decide("u", (), "prod", wanted).allowed
    naming = [one for one in resources if one.partition(".")[2] == RBAC]
    named = RuleSpec(resources=tuple(naming))
    assert held is (free and lists(named, RBAC, "roles", "", literally=False))


@given(st.sampled_from(VERBS), st.sampled_from(GROUPS), st.sampled_from(["pods", "roles", "x"]))
def test_nothing_else_is_guarded(verb: str, group: str, resource: str) -> None:
    assert not gives_away(Attributes(verb, group, resource))


# -- may I? ----------------------------------------------------------------------------------------


def may(verb: str, group: str, resource: str, *written: dict[str, Any], **more: str) -> bool:
    resource, _, below = resource.partition("/")
    namespace = more.pop("namespace", "shop")
    access = policy(*written, **more).access_of("u", (), "prod")
    return review(access, Attributes(verb, group, resource, below, namespace)).allowed


BY_NAME = {**EVERYTHING, "resources": ["*", f"*.{RBAC}", f"*.{CERTIFICATES}/approval"]}


@pytest.mark.parametrize(
    ("verb", "group", "resource"),
    [
        ("bind", RBAC, "clusterroles"),
        ("escalate", RBAC, "roles"),
        ("escalate", RBAC, "*"),
        ("bind", "*", "*"),
        ("approve", CERTIFICATES, "signers"),
    ],
)
def test_verbs_that_hand_on_rights_are_told_truly(verb: str, group: str, resource: str) -> None:
    assert may(verb, group, resource, WIDE, reach=BOUNDED)
    assert not may(verb, group, resource, WIDE, reach=UNBOUNDED)
    assert may(verb, group, resource, BY_NAME, reach=UNBOUNDED)
    assert not may(verb, group, resource, {**WIDE, "verbs": ["get", "list"]}, reach=BOUNDED)


def test_a_power_in_one_namespace() -> None:
    shop = limited("shop", resources=[f"rolebindings.{RBAC}"])
    assert may("bind", RBAC, "clusterroles", shop)
    assert not may("bind", RBAC, "clusterroles", shop, namespace="bank")
    assert not may("escalate", RBAC, "clusterroles", shop)


def test_verbs_that_mk8s_does_not_know_are_the_clusters() -> None:
    assert may("use", "policy", "podsecuritypolicies", WIDE, reach=UNBOUNDED)
    assert may("sign", CERTIFICATES, "signers", WIDE)
    assert exercised(Attributes("use", RBAC, "roles")) == ()


def test_kubectl_asks_for_a_signer_by_its_whole_name() -> None:
    """`kubectl auth can-i approve signers.certificates.k8s.io`: no API has such a resource."""
    name = f"signers.{CERTIFICATES}"
    assert exercised(Attributes("approve", "", name)) == exercised(
        Attributes("approve", CERTIFICATES, "signers")
    )
    assert not may("approve", "", name, WIDE, reach=UNBOUNDED)


@pytest.mark.parametrize(
    ("verb", "group", "resource", "allowed"),
    [
        ("create", "*", "*", False),
        ("create", RBAC, "*", False),
        ("update", "*", "certificatesigningrequests/approval", False),
        ("update", CERTIFICATES, "certificatesigningrequests/*", False),
        ("create", "*", "rolebindings", False),
        ("create", "*", "pods", True),
        ("create", "apps", "*", True),
        ("get", "*", "*", True),
        ("create", RBAC, "rolebindings", False),
    ],
)
def test_a_wide_question_covers_what_is_guarded(
    verb: str, group: str, resource: str, allowed: bool
) -> None:
    assert may(verb, group, resource, WIDE, reach=UNBOUNDED, namespace="") is allowed
    assert may(verb, group, resource, WIDE, reach=BOUNDED, namespace="")
    admin = {key: value for key, value in ADMIN_RULES[0].items() if key != "name"}
    assert may(verb, group, resource, admin, reach=UNBOUNDED, role="admin", namespace="")


def test_nobody_is_asked_about_groups_of_mk8s() -> None:
    acting = {"impersonate": {"users": ["*"], "groups": ["*"]}}
    access = policy(acting).access_of("u", (), "prod")
    for name, allowed in (("mk8s:role:admin", False), ("team", True)):
        asked = Attributes("impersonate", resource="groups", name=name)
        assert review(access, asked).allowed is allowed
    assert can("impersonate", "groups", acting, name="team")


def test_the_list_of_rules_leaves_out_what_is_guarded() -> None:
    access = policy(WIDE, reach=UNBOUNDED).access_of("u", (), "prod")
    work = Narrowing(access, "shop")
    found = work.resources(ADMIN)
    assert work.incomplete
    writes = [one for one in found if "create" in one.verbs]
    assert any("pods" in one.resources for one in writes)
    assert not any(RBAC in one.api_groups or "*" in one.api_groups for one in writes)
    assert any("*" in one.api_groups and "get" in one.verbs for one in found)


def test_the_list_of_rules_of_the_built_in_admin_is_the_clusters() -> None:
    admin = {key: value for key, value in ADMIN_RULES[0].items() if key != "name"}
    access = policy(admin, reach=UNBOUNDED, role="admin").access_of("u", (), "prod")
    assert Narrowing(access, "shop").resources(ADMIN) == [ADMIN]


def test_powers_in_the_list_of_rules() -> None:
    bind = on("clusterroles", "bind get", groups=RBAC)
    assert narrowed(bind, WIDE)[0] == [on("clusterroles", "bind", groups=RBAC),
                                       on("clusterroles", "get", groups=RBAC)]  # fmt: skip
    reader = {**WIDE, "verbs": ["get"]}
    assert narrowed(bind, reader)[0] == [on("clusterroles", "get", groups=RBAC)]
    assert set(ALL) >= WRITES


# -- groups of roles -------------------------------------------------------------------------------


def grouped(count: int, *, takes: tuple[str, ...], length: int = 6) -> PolicySnapshot:
    rule = {"name": "prod", "namespaces": ["*"], "verbs": ["get"], "resources": ["pods"]}
    names = [f"r{number:0{length - 1}}" for number in range(count)]
    roles = [parse_role(name, [rule]) for name in names]
    roles += [parse_role("elsewhere", [{**rule, "name": "dev"}])]
    roles += [parse_role("denies", [{**rule, "deny": True, "namespaces": ["x"]}])]
    facts = ClusterFacts()
    facts.learn_bounds("prod", BOUNDED, takes)
    people = {"u": (*names, "elsewhere", "denies", "gone")}
    return PolicySnapshot(PolicySource(roles, people, {"prod": {}}), facts=facts)


POD = RequestInfo(True, "get", "/x", namespace="shop", resource="pods", name="web")


def test_the_roles_that_count_on_the_cluster_go_along() -> None:
    decision = grouped(2, takes=("*",)).decide_request("u", "prod", POD, False, b"")[1]
    assert decision.groups == ("mk8s:role:r00000", "mk8s:role:r00001")


def test_only_groups_that_the_agent_may_act_with_go_along() -> None:
    """Another one would cost the person the whole request."""
    snapshot = grouped(3, takes=(group_of("r00001"), group_of("stranger")))
    decision = snapshot.decide_request("u", "prod", POD, False, b"")[1]
    assert decision.groups == ("mk8s:role:r00001",)


@pytest.mark.parametrize(
    ("count", "length", "allowed"),
    [
        (MOST_ROLES, 6, True),
        (MOST_ROLES + 1, 6, False),
        (MOST_BYTES // 73, 63, True),
        (MOST_BYTES // 73 + 1, 63, False),
    ],
)
def test_attack_more_roles_than_a_cluster_can_be_told(
    count: int, length: int, allowed: bool
) -> None:
    """None is left out in silence: what was left out would be missing somewhere."""
    snapshot = grouped(count, takes=("*",), length=length)
    decision = snapshot.decide_request("u", "prod", POD, False, b"")[1]
    assert (decision.allowed, len(decision.groups)) == (allowed, count if allowed else 0)
    assert allowed or "roles with" in decision.reason
