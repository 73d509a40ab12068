"""Roles by groups: what the policy says of them, and names that pretend to be something else."""

import pytest

from mk8s_agent.wire.control import BOUNDED
from mk8s_proxy.authz.attributes import Attributes
from mk8s_proxy.authz.cluster_facts import ClusterFacts
from mk8s_proxy.authz.policy import (
    PolicyError,
    PolicySource,
    RoleSpec,
    parse_group_name,
    parse_rbac,
    parse_role,
)
from mk8s_proxy.authz.rbac_manifest import manifest
from mk8s_proxy.authz.snapshot import Answer, PolicySnapshot
from mk8s_proxy.kube.request_info import RequestInfo

USER = "dev@example.com"
EVERYBODY = ("mk8s:users",)
DEVS = ("mk8s:users", "acme:devs")
POD = RequestInfo(True, "get", "/x", namespace="shop", resource="pods", name="web")
SECRET = RequestInfo(True, "get", "/x", namespace="shop", resource="secrets", name="web")


def role(name: str, resource: str, **limits: int) -> RoleSpec:
    rule = {"name": "prod", "namespaces": ["*"], "verbs": ["get"], "resources": [resource]}
    return parse_role(name, [rule], limits)


def policy(
    group_roles: dict[str, tuple[str, ...]],
    told: tuple[str, ...] = (),
    takes: tuple[str, ...] = ("*",),
) -> PolicySnapshot:
    facts = ClusterFacts()
    facts.learn_bounds("prod", BOUNDED, takes)
    roles = [role("pods", "pods"), role("secrets", "secrets", streams=5000)]
    source = PolicySource(
        roles, {USER: ("pods",)}, {"prod": {}}, group_roles=group_roles, told_groups=told
    )
    return PolicySnapshot(source, facts=facts)


def ask(
    snapshot: PolicySnapshot, info: RequestInfo, groups: tuple[str, ...], user: str = USER
) -> Answer:
    return snapshot.decide_request(user, "prod", info, False, b"", groups)


def test_the_groups_of_a_login_give_roles_beside_the_users_own() -> None:
    snapshot = policy({"acme:devs": ("secrets",)})
    assert ask(snapshot, SECRET, DEVS)[1].allowed
    assert ask(snapshot, POD, DEVS)[1].allowed
    assert not ask(snapshot, SECRET, EVERYBODY)[1].allowed
    assert ask(snapshot, SECRET, DEVS, "other@example.com")[1].allowed
    assert not ask(snapshot, POD, DEVS, "other@example.com")[1].allowed
    assert ask(snapshot, SECRET, DEVS)[1].groups == ("mk8s:role:pods", "mk8s:role:secrets")


def test_every_question_counts_groups() -> None:
    snapshot = policy({"acme:devs": ("secrets",)})
    nobody, wanted = "x@example.com", Attributes("get", "", "secrets", "", "shop", "web")
    for groups, there in ((DEVS, True), (EVERYBODY, False), ((), False)):
        assert snapshot.decide(nobody, groups, "prod", wanted).allowed is there
        assert snapshot.access_of(nobody, groups, "prod").decide(wanted).allowed is there
        assert bool(snapshot.clusters_of(nobody, groups)) is there
        assert bool(snapshot.permissions_of(nobody, groups, "prod")) is there
        limits = snapshot.limits_of(nobody, "prod", 10, 10, groups)
        assert limits == ((5000, 10) if there else (10, 10))


def test_attack_a_group_that_is_called_like_a_role_or_a_user() -> None:
    """None of these has a role, whatever else has such a name."""
    snapshot = policy({"acme:devs": ("secrets",)}, told=("*",))
    for name in ("secrets", "mk8s:role:secrets", "system:masters", USER, "ACME:devs", "acme:devs "):
        decision = ask(snapshot, SECRET, (*EVERYBODY, name))[1]
        assert not decision.allowed, name


def test_only_listed_groups_go_into_the_cluster() -> None:
    groups = (*EVERYBODY, "acme:devs", "acme:ops", "other:devs")
    snapshot = policy({"acme:devs": ()}, told=("acme:*", "x"))
    assert ask(snapshot, POD, groups)[1].groups == ("mk8s:role:pods", "acme:devs", "acme:ops")
    assert ask(policy({}), POD, groups)[1].groups == ("mk8s:role:pods",)
    assert snapshot.groups_to_tell == ("acme:devs",)


def test_attack_a_setting_that_lists_everything_tells_no_reserved_group() -> None:
    groups = (*EVERYBODY, "system:masters", "System:masters", "mk8s:role:admin", "MK8S:x", "a:b")
    snapshot = policy(dict.fromkeys(groups, ()), told=("*",))
    assert ask(snapshot, POD, groups)[1].groups == ("mk8s:role:pods", "a:b")
    assert snapshot.groups_to_tell == ("a:b",)


def test_a_group_that_the_agent_may_not_act_with_stays_here() -> None:
    """It would cost the person the whole request."""
    snapshot = policy({}, told=("acme:*",), takes=("mk8s:role:pods", "acme:ops"))
    groups = (*EVERYBODY, "acme:devs", "acme:ops")
    assert ask(snapshot, POD, groups)[1].groups == ("mk8s:role:pods", "acme:ops")


def test_people_of_the_same_roles_do_not_get_each_others_groups() -> None:
    """Answers are remembered by roles."""
    snapshot = policy({"acme:devs": ("pods",)}, told=("acme:devs", "acme:ops"))
    for groups, told in (
        (DEVS, ("acme:devs",)),
        ((*EVERYBODY, "acme:ops"), ("acme:ops",)),
        (EVERYBODY, ()),
        (DEVS, ("acme:devs",)),
    ):
        assert ask(snapshot, POD, groups)[1].groups == ("mk8s:role:pods", *told)


def test_the_agent_is_allowed_the_listed_groups() -> None:
    objects = manifest(policy({"acme:devs": (), "b:c": ()}, told=("acme:*",)), "prod").objects
    agent = next(it for it in objects if it["metadata"]["name"] == "mk8s:agent:role-groups")
    names = ["mk8s:role:pods", "mk8s:role:secrets", "acme:devs"]
    assert [rule["resourceNames"] for rule in agent["rules"]] == [names, names]


# -- the words -------------------------------------------------------------------------------------

ROLE = {"name": "r", "clusters": [{"name": "*", "namespaces": ["*"], "verbs": ["get"],
                                   "resources": ["pods"]}]}  # fmt: skip


def test_groups_of_a_file() -> None:
    groups = [
        {"name": "devs", "roles": ["r", "r"], "members": ["Dev@Example.com", USER]},
        {"name": "acme:/a b/devs", "roles": ["admin"]},
        {"name": "empty", "roles": []},
    ]
    own, issuers, empty = parse_rbac({"roles": [ROLE], "groups": groups}).groups
    assert (own.name, own.roles, own.members) == ("devs", ("r",), (USER,))
    assert (issuers.name, issuers.roles, issuers.members) == ("acme:/a b/devs", ("admin",), None)
    assert empty.members is None


@pytest.mark.parametrize(
    ("group", "problem"),
    [
        ({"name": "devs"}, "groups[0].roles: must be a list"),
        ({"name": "devs", "roles": ["x"]}, 'there is no role "x"'),
        ({"name": "devs", "roles": [], "role": 1}, "role"),
        ({"name": "acme:devs", "roles": [], "members": []}, "the issuer's word"),
        ({"name": "devs", "roles": [], "members": ["x"]}, "no email address"),
        ({"name": "", "roles": []}, "must not be empty"),
    ],
)
def test_mistakes_in_groups(group: dict[str, object], problem: str) -> None:
    with pytest.raises(PolicyError) as caught:
        parse_rbac({"groups": [group]})
    assert problem in str(caught.value)


def test_a_group_that_is_listed_twice() -> None:
    with pytest.raises(PolicyError, match=r'groups\[1\].name: the group "a" is listed twice'):
        parse_rbac({"groups": [{"name": "a", "roles": []}] * 2})


@pytest.mark.parametrize("name", ["devs", "a", "a_b.c-d", "acme:devs", "acme:a:b", "x:/k8s/ä"])
def test_names_of_groups(name: str) -> None:
    assert parse_group_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "system:masters", "SYSTEM:x", "mk8s:users", "mk8s:role:admin", "Mk8s:x", "federated:x",
        ":x", "acme:", "a b", "acme:x ", " acme:x", "a\n", "a:b\n", "a/b", "-a", "a" * 64,
        "a:" + "ä" * 128, "a:\u202ex",
    ],
)  # fmt: skip
def test_attack_names_that_mean_something_else(name: str) -> None:
    with pytest.raises(PolicyError):
        parse_group_name(name)
