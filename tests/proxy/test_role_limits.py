"""What a role lets one person have open: written, read, compared, and counted."""

from pathlib import Path
from typing import Any

import pytest

from mk8s_proxy.authz.policy import (
    PolicyError,
    PolicySource,
    RoleSpec,
    parse_rbac,
    parse_role,
)
from mk8s_proxy.authz.role_limits import RoleLimits
from mk8s_proxy.authz.snapshot import PolicySnapshot
from mk8s_proxy.chain.departures import Shares
from tests.support.front_door import PODS, Central
from tests.support.memory import CANCEL, rst_stream

MIB = 1 << 20
RULE = {"name": "*", "namespaces": ["*"], "verbs": ["*"], "resources": ["*"]}
WATCH = b"/k8s/prod" + PODS + b"?watch=true"
USER = "dev@example.com"


def role(name: str, cluster: str = "*", **limits: Any) -> RoleSpec:
    return parse_role(name, [{**RULE, "name": cluster}], limits)


def snapshot(*roles: RoleSpec) -> PolicySnapshot:
    names = tuple(one.name for one in roles)
    return PolicySnapshot(PolicySource(list(roles), {USER: names}, {"prod": {}, "staging": {}}))


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ({}, RoleLimits()),
        ({"streams": 10}, RoleLimits(10, None)),
        ({"streams": 20_000, "buffered": "16Gi"}, RoleLimits(20_000, 16 << 30)),
        ({"buffered": "64Mi"}, RoleLimits(None, 64 * MIB)),
        ({"buffered": "1025Ki"}, RoleLimits(None, 1025 << 10)),
    ],
)
def test_limits_survive_the_way_to_the_database_and_back(
    written: dict[str, Any], read: RoleLimits
) -> None:
    assert role("r", **written).limits == read
    assert read.document() == written
    assert bool(read) is bool(written)
    document = {"roles": [{"name": "r", "clusters": [RULE], "limits": written}]}
    assert parse_rbac(document).roles[0].limits == read


def test_a_size_has_one_spelling() -> None:
    assert role("r", buffered="2048Ki").limits.document() == {"buffered": "2Mi"}
    assert role("r", buffered="1024Mi").limits.document() == {"buffered": "1Gi"}


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (7, "limits: must be a mapping, not a number"),
        ({"stream": 100}, 'limits.stream: unknown key: did you mean "streams"?'),
        ({"streams": 9}, "limits.streams: must be a number from 10 to 20000"),
        ({"streams": 20_001}, "limits.streams: must be a number from 10 to 20000"),
        ({"streams": True}, "limits.streams: must be a number from 10 to 20000"),
        ({"streams": "100"}, "limits.streams: must be a number from 10 to 20000"),
        ({"buffered": 64}, 'limits.buffered: must be a size from "1Mi" to "16Gi", such as "64Mi"'),
        ({"buffered": "64MB"},
         'limits.buffered: must be a size from "1Mi" to "16Gi", such as "64Mi"'),
        ({"buffered": "1023Ki"},
         'limits.buffered: must be a size from "1Mi" to "16Gi", such as "64Mi"'),
        ({"buffered": "17Gi"},
         'limits.buffered: must be a size from "1Mi" to "16Gi", such as "64Mi"'),
        ({"buffered": "\u0661Gi"},
         'limits.buffered: must be a size from "1Mi" to "16Gi", such as "64Mi"'),
    ],
)  # fmt: skip
def test_mistake_in_limits(written: object, message: str) -> None:
    with pytest.raises(PolicyError) as error:
        parse_role("r", [RULE], written)
    assert str(error.value) == message
    with pytest.raises(PolicyError, match=r"^roles\[0\]\.limits"):
        parse_rbac({"roles": [{"name": "r", "clusters": [RULE], "limits": written}]})


def test_the_largest_of_a_persons_roles_counts() -> None:
    few, many = role("few", streams=20, buffered="2Mi"), role("many", streams=5000)
    settings = (2000, 64 * MIB)
    assert snapshot(role("r")).limits_of(USER, "prod", *settings) == settings
    assert snapshot(few).limits_of(USER, "prod", *settings) == (20, 2 * MIB)
    assert snapshot(few, many).limits_of(USER, "prod", *settings) == (5000, 64 * MIB)
    assert snapshot(few, role("r")).limits_of(USER, "prod", *settings) == settings
    assert snapshot(few).limits_of("other@example.com", "prod", *settings) == settings


def test_a_role_counts_on_the_clusters_that_it_covers() -> None:
    policy = snapshot(role("few", "prod", streams=20), role("many", "staging", streams=5000))
    assert policy.limits_of(USER, "prod", 2000, MIB) == (20, MIB)
    assert policy.limits_of(USER, "staging", 2000, MIB) == (5000, MIB)
    assert policy.limits_of(USER, "absent", 2000, MIB) == (2000, MIB)


def test_a_role_lets_its_people_have_more_and_less(tmp_path: Path) -> None:
    central = Central(tmp_path)
    shares = central.chain.departures.shares = Shares(12)
    shares.follow(snapshot(role("few", streams=10)))
    agent = central.agent()
    person = central.http2()
    watches = [person.ask(WATCH) for _ in range(11)]
    assert person.answer(watches[9]).code == 0
    refused = person.answer(watches[10])
    assert refused.code == 429
    assert "you have 10 requests open" in refused.status["message"]
    assert "a role's limits" in refused.status["message"]
    [share] = shares._taken.values()
    # the policy says something else: of what is open, too
    shares.follow(snapshot(role("few", streams=10), role("more", streams=11, buffered="2Mi")))
    assert (share.most, share.limit) == (11, 64 * MIB)
    assert person.get().code == 0
    assert person.get().code == 429
    shares.follow(snapshot(role("less", streams=10, buffered="2Mi")))
    assert (share.most, share.limit) == (10, 2 * MIB)
    assert len(agent.session.streams) == 1 + 11
    for watch in watches[:2]:
        person.send(rst_stream(watch, CANCEL))
    assert person.get().code == 0
