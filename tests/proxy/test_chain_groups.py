"""Groups of a login through every door of the handler chain."""

import time

import pytest
from chain_for_tests import Passage

from mk8s_agent.wire.control import BOUNDED
from mk8s_proxy.authz.cluster_facts import ClusterFacts
from mk8s_proxy.authz.policy import PolicySource, parse_role
from mk8s_proxy.authz.snapshot import PolicySnapshot
from mk8s_proxy.chain.impersonation import act_as
from mk8s_proxy.identity.identity import Identity

POD = "/k8s/prod/api/v1/namespaces/shop/pods/web"
WATCH = "/k8s/prod/api/v1/namespaces/shop/pods?watch=1"
RULE = {"name": "prod", "namespaces": ["*"], "verbs": ["get", "watch", "list"],
        "resources": ["pods"]}  # fmt: skip
ACT = {"name": "prod", "impersonate": {"users": ["bob@example.com"], "groups": ["acme:*"]}}
AS_BOB = (b"impersonate-user", b"bob@example.com")
AS_DEVS = (b"impersonate-group", b"acme:devs")


def policy(group_roles: dict[str, tuple[str, ...]], version: int = 1) -> PolicySnapshot:
    facts = ClusterFacts()
    facts.learn_bounds("prod", BOUNDED, ("*",))
    roles = [parse_role("pods", [RULE]), parse_role("acts", [ACT])]
    users: dict[str, tuple[str, ...]] = {"boss@example.com": ("acts",)}
    source = PolicySource(roles, users, {"prod": {}}, {}, group_roles, ("acme:devs",))
    return PolicySnapshot(source, version, {"prod": "1"}, facts)


def person(name: str, *groups: str) -> Identity:
    email = f"{name}@example.com"
    return Identity(email, f"id-{email}", ("mk8s:users", *groups), 1e12, "", "t", 1, "l", 1e12)


@pytest.fixture
def passage() -> Passage:
    passage = Passage({})
    passage.policy.current = policy({"acme:devs": ("pods",), "acme:ops": ("pods",)})
    for name in ("ann", "bob", "boss"):
        groups = ("acme:devs", "acme:ops") if name == "ann" else ()
        passage.people.known[name.encode()] = person(name, *groups)
    return passage


def test_the_cluster_is_told_the_listed_groups_alone(passage: Passage) -> None:
    passage.send("ann", "GET", POD)
    groups = ["mk8s:users", "mk8s:role:pods", "acme:devs"]
    assert passage.cluster.identity["groups"] == groups
    row = passage.finish()
    assert row["user"]["groups"] == ["mk8s:users", "acme:devs", "acme:ops", "mk8s:role:pods"]


def test_who_is_in_no_group_has_nothing_of_it(passage: Passage) -> None:
    assert passage.send("bob", "GET", POD).code == 403


def test_attack_a_group_deleted_while_its_members_stream_is_open(passage: Passage) -> None:
    passage.send("ann", "GET", WATCH)
    passage.answer(200, "application/json", b"{}\n", b"")
    watch = passage.exchange
    assert passage.chain._why_ended(watch) == ""
    passage.policy.current = policy({"acme:ops": ("pods",)}, 2)
    assert passage.chain._why_ended(watch) == "", "another group gives it still"
    passage.policy.current = policy({}, 3)
    assert "no longer allowed" in passage.chain._why_ended(watch)
    passage.chain.long_running.recheck_all()
    for _ in range(2):
        passage.chain.long_running.second(time.time())
    assert passage.client.resets or passage.client.ended


def test_attack_a_stream_outlives_the_group_that_its_issuer_took(passage: Passage) -> None:
    passage.send("ann", "GET", WATCH)
    passage.answer(200, "application/json", b"{}\n", b"")
    watch = passage.exchange
    passage.people.lost = {"acme:devs"}
    assert passage.chain._why_ended(watch) == "", "another group gives it still"
    passage.people.lost = {"acme:ops"}
    assert "no longer allowed" in passage.chain._why_ended(watch), "the first one has not come back"


def test_attack_a_stream_outlives_the_group_by_which_somebody_acts(passage: Passage) -> None:
    passage.policy.current = policy({"acme:ops": ("acts",), "acme:devs": ("acts",)})
    passage.policy.current._user_roles["bob@example.com"] = ("pods",)
    passage.people.known[b"ann"] = person("ann", "acme:devs", "acme:ops")
    passage.send("ann", "GET", WATCH, AS_BOB)
    passage.answer(200, "application/json", b"{}\n", b"")
    watch = passage.exchange
    passage.people.lost = {"acme:devs"}
    assert passage.chain._why_ended(watch) == ""
    passage.people.lost = {"acme:ops"}
    assert "no longer allowed" in passage.chain._why_ended(watch)


def test_attack_acting_with_an_issuers_group_gives_none_of_its_roles(passage: Passage) -> None:
    """Nobody proved that bob is in it. The cluster's own RBAC is asked with it."""
    client = passage.send("boss", "GET", POD, AS_BOB, AS_DEVS)
    assert client.code == 403
    assert "bob@example.com" in client.document["message"]
    assert not passage.cluster.heads


def test_attack_a_review_asked_while_acting_with_an_issuers_group(passage: Passage) -> None:
    """`kubectl auth can-i --as` asks by these groups."""
    acting = act_as(person("boss"), (AS_BOB, AS_DEVS))
    assert acting.groups == ("mk8s:users", "acme:devs")
    assert acting.login_groups == ("mk8s:users",)


def test_what_somebody_acts_with_goes_to_the_cluster(passage: Passage) -> None:
    roles: dict[str, tuple[str, ...]]
    roles = {"bob@example.com": ("pods",), "boss@example.com": ("acts",)}
    source = PolicySource(
        [parse_role("pods", [RULE]), parse_role("acts", [ACT])], roles, {"prod": {}}
    )
    passage.policy.current = PolicySnapshot(source)
    passage.send("boss", "GET", POD, AS_BOB, AS_DEVS)
    assert passage.cluster.identity["groups"] == ["mk8s:users", "acme:devs"]


def test_the_share_of_a_person_knows_the_limits_of_groups(passage: Passage) -> None:
    limited = parse_role("pods", [RULE], {"streams": 10})
    source = PolicySource([limited], {}, {"prod": {}}, {}, {"acme:devs": ("pods",)})
    passage.policy.current = PolicySnapshot(source)
    shares = passage.chain.departures.shares
    shares.follow(passage.policy.current)
    for _ in range(10):
        assert not passage.send("ann", "GET", WATCH).code
    assert passage.send("ann", "GET", WATCH).code == 429
    shares.follow(policy({"acme:devs": ("pods",)}))
    assert passage.send("ann", "GET", WATCH).code == 0


def test_attack_another_login_lends_the_limits_of_its_groups(passage: Passage) -> None:
    """One login of a person has a group that may have more open; it ends, and another one asks."""
    many = parse_role("many", [RULE], {"streams": 30})
    few = parse_role("few", [RULE], {"streams": 10})
    groups: dict[str, tuple[str, ...]] = {"acme:ops": ("many",)}
    source = PolicySource([many, few], {"ann@example.com": ("few",)}, {"prod": {}}, {}, groups)
    passage.policy.current = PolicySnapshot(source)
    passage.chain.departures.shares.follow(passage.policy.current)
    passage.people.known[b"ops"] = person("ann", "acme:ops")
    passage.people.known[b"ann"] = person("ann")
    assert not passage.send("ops", "GET", WATCH).code
    for _ in range(9):
        assert not passage.send("ann", "GET", WATCH).code
    assert passage.send("ann", "GET", WATCH).code == 429
    assert not passage.send("ops", "GET", WATCH).code
    assert passage.send("ann", "GET", WATCH).code == 429
