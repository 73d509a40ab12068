"""Clusters: who sees which, what registering prints, and where a kubeconfig points."""

import datetime
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from mk8s_proxy.api.clusters import server_url
from mk8s_proxy.authz import rbac_manifest
from mk8s_proxy.db import clusters, roles
from mk8s_proxy.db.clusters import Sighting
from mk8s_proxy.db.engine import Database
from mk8s_proxy.db.groups import put_group
from mk8s_proxy.settings.model import Settings
from tests.support.management_api import AUTHORITIES, NOW, PUBLIC_URL, Central, FakeTunnel


@pytest.fixture
async def central(sqlite_database: Database, tmp_path: Path) -> AsyncIterator[Central]:
    central = await Central.start(sqlite_database, tmp_path)
    yield central
    await central.close()


async def listed(central: Central, token: str) -> list[Any]:
    answer = await central.call("GET", "/clusters", token=token)
    assert answer.status == 200
    return list(answer.json["clusters"])


async def test_everybody_sees_what_their_roles_apply_to(central: Central) -> None:
    for name in ("dev-1", "dev-2", "prod"):
        await central.add_cluster(name)
    assert [c["name"] for c in await listed(central, await central.token())] == ["dev-1", "dev-2"]
    everything = await listed(central, await central.admin())
    assert [c["name"] for c in everything] == ["dev-1", "dev-2", "prod"]


async def test_a_cluster_as_it_is_shown(central: Central) -> None:
    created = await central.add_cluster("dev-1")
    (shown,) = await listed(central, await central.token())
    assert shown.pop("created_at")
    assert shown == {
        "id": created["id"],
        "name": "dev-1",
        "labels": {},
        "status": "pending",
        "agents": 0,
        "agent_version": "",
        "kubernetes_version": "",
        "last_seen": None,
        "alert": "",
        "verbs": ["get", "list"],
        "namespace": "",
        "server": f"{PUBLIC_URL}/k8s/dev-1",
        "context": "dev-1",
    }


@pytest.mark.parametrize(
    ("reach", "groups", "alert"),
    [
        ("unbounded", ["*"], "mk8s:users may do everything in the cluster"),
        ("unknown", ["*"], "the agent cannot tell what mk8s:users may do"),
        ("", [], "the agent does not tell what mk8s:users may do"),
        ("bounded", ["*"], ""),
        ("bounded", ["mk8s:role:admin"], "the groups of the roles developer: apply what mk8s"),
        ("bounded", [], "the groups of the roles admin, developer: apply what mk8s"),
    ],
)
async def test_admins_are_told_what_is_wrong_with_the_rbac_of_a_cluster(
    central: Central, reach: str, groups: list[str], alert: str
) -> None:
    created = await central.add_cluster("dev-1")
    central.feed.facts.learn_bounds("dev-1", reach, groups)
    admin, token = await central.admin(), await central.token()
    assert [it["alert"] for it in await listed(central, admin)] == [""]  # nobody is connected
    central.tunnels.by_cluster[created["id"]] = FakeTunnel(True, 1, "0.1.0", "v1.37.2", None)
    (shown,) = await listed(central, admin)
    assert alert in shown["alert"]
    assert bool(shown["alert"]) is bool(alert)
    assert [it["alert"] for it in await listed(central, token)] == [""]


async def test_many_roles_are_not_all_named(central: Central) -> None:
    created = await central.add_cluster("dev-1")
    rule = {"name": "*", "namespaces": ["*"], "verbs": ["get"], "resources": ["pods"]}
    for number in range(6):
        await roles.put_role(central.database, f"r{number}", [rule])
    await central.feed.refresh()
    central.feed.facts.learn_bounds("dev-1", "bounded", [])
    central.tunnels.by_cluster[created["id"]] = FakeTunnel(True, 1, "0.1.0", "v1.37.2", None)
    (shown,) = await listed(central, await central.admin())
    assert "admin, developer, r0, r1, r2 and 3 more" in shown["alert"]


async def test_admins_are_told_which_groups_of_issuers_the_agent_may_not_act_with(
    central: Central,
) -> None:
    created = await central.add_cluster("dev-1")
    central.feed._told_groups = ("acme:*",)
    for name in ("acme:devs", "other:devs"):
        await put_group(central.database, name, roles=[])
    await central.feed.refresh()
    central.tunnels.by_cluster[created["id"]] = FakeTunnel(True, 1, "0.1.0", "v1.37.2", None)
    roles_only = ["mk8s:role:admin", "mk8s:role:developer"]
    for groups, alert in ((roles_only, True), ([*roles_only, "acme:devs"], False)):
        central.feed.facts.learn_bounds("dev-1", "bounded", groups)
        (shown,) = await listed(central, await central.admin())
        assert shown["alert"].startswith("the agent may not act with groups acme:devs:") is alert
        assert bool(shown["alert"]) is alert


async def test_the_roles_as_rbac_of_a_cluster(central: Central) -> None:
    await central.add_cluster("dev-1")
    admin = await central.admin()
    path = "/clusters/dev-1/rbac?agent_namespace=agents&agent_name=one"
    answer = await central.call("GET", path, token=admin)
    assert answer.status == 200
    assert answer.json["cluster"] == "dev-1"
    items = answer.json["items"]
    assert {it["apiVersion"] for it in items} == {"rbac.authorization.k8s.io/v1"}
    names = list(dict.fromkeys(it["metadata"]["name"] for it in items))
    assert names == [
        "mk8s:users", "mk8s:agent:role-groups", "mk8s:role:admin", "mk8s:role:developer",
    ]  # fmt: skip
    assert items[3]["subjects"][0]["namespace"] == "agents"
    assert answer.json["notes"][0]["kind"] == "built_in"
    assert answer.json["notes"][0]["rule"] == "role admin"
    assert (await central.call("GET", "/clusters/gone/rbac", token=admin)).status == 404
    assert (await central.call("GET", path, token=await central.token())).status == 403
    odd = await central.call("GET", "/clusters/dev-1/rbac?agent_name=a/b", token=admin)
    assert odd.status == 422


async def test_more_roles_than_a_cluster_can_hold(
    central: Central, monkeypatch: pytest.MonkeyPatch
) -> None:
    await central.add_cluster("dev-1")
    monkeypatch.setattr(rbac_manifest, "MAX_ROLE_GROUPS", 1)
    answer = await central.call("GET", "/clusters/dev-1/rbac", token=await central.admin())
    assert answer.status == 409
    assert "2 roles count on the cluster dev-1" in answer.message


async def test_the_state_of_the_tunnels_is_shown(central: Central) -> None:
    created = await central.add_cluster("dev-1")
    seen = datetime.datetime.fromtimestamp(NOW, datetime.UTC)
    tunnel = FakeTunnel(True, 2, "0.1.0", "v1.31.2", seen)
    central.tunnels.by_cluster[created["id"]] = tunnel
    (shown,) = await listed(central, await central.token())
    assert (shown["status"], shown["agents"], shown["agent_version"]) == ("connected", 2, "0.1.0")
    assert shown["kubernetes_version"] == "v1.31.2"
    assert datetime.datetime.fromisoformat(shown["last_seen"]) == seen


async def test_what_was_known_of_an_agent_that_is_gone(central: Central) -> None:
    created = await central.add_cluster("dev-1")
    seen = datetime.datetime.fromtimestamp(NOW - 60, datetime.UTC)
    sighting = Sighting(created["id"], "0.1.0", "v1.31.2", seen)
    await clusters.note_sightings(central.database, [sighting])
    (shown,) = await listed(central, await central.token())
    assert (shown["status"], shown["agents"]) == ("disconnected", 0)
    assert shown["kubernetes_version"] == "v1.31.2"
    assert datetime.datetime.fromisoformat(shown["last_seen"]) == seen


async def test_verbs_leave_out_what_is_denied_and_shorten_everything(central: Central) -> None:
    await central.add_cluster("dev-1")
    rules = [
        {"name": "dev-*", "namespaces": ["*"], "verbs": ["get"], "resources": ["*"]},
        {"name": "*", "namespaces": ["*"], "verbs": ["delete"], "resources": ["*"], "deny": True},
    ]
    await roles.put_role(central.database, "developer", rules)
    await central.feed.refresh()
    (shown,) = await listed(central, await central.token())
    assert shown["verbs"] == ["get"]
    (admins,) = await listed(central, await central.admin())
    assert admins["verbs"] == ["*"]


@pytest.mark.parametrize(
    ("allowed", "begin"),
    [
        ([["shop"]], "shop"),
        ([["shop"], ["shop", ""]], "shop"),
        ([["shop"], ["web"]], ""),
        ([["shop", "*"]], ""),
        ([["shop-*"]], ""),
        ([["*"]], ""),
        ([[""]], ""),
    ],
)
async def test_the_only_namespace_that_roles_name_is_where_to_begin(
    central: Central, allowed: list[list[str]], begin: str
) -> None:
    await central.add_cluster("dev-1")
    of_one: dict[str, Any] = {"name": "dev-*", "verbs": ["get"], "resources": ["pods"]}
    rules = [{**of_one, "namespaces": namespaces} for namespaces in allowed]
    denied = {**of_one, "namespaces": ["kube-system"], "deny": True}
    await roles.put_role(central.database, "developer", [*rules, denied])
    await central.feed.refresh()
    (shown,) = await listed(central, await central.token())
    assert shown["namespace"] == begin


async def test_registering_prints_the_command_for_the_agent(central: Central) -> None:
    created = await central.add_cluster("dev-1")
    token, pin = created["join_token"], AUTHORITIES.server_ca.pin
    assert re.fullmatch(r"mk8s_jt_[A-Za-z0-9_-]{43}", token)
    assert created["ca_pin"] == pin
    assert created["central_url"] == PUBLIC_URL
    assert created["command"] == (
        f"AGENT_TOKEN={token} mk8s-agent --central {PUBLIC_URL} --cluster dev-1 --ca-pin {pin}"
    )
    expires_at = datetime.datetime.fromisoformat(created["join_expires_at"])
    assert expires_at.timestamp() == NOW + 900


async def test_registering_writes_an_intent_and_an_outcome(central: Central) -> None:
    await central.add_cluster("dev-1")
    intent, outcome = central.rows()[-2:]
    assert (intent["stage"], outcome["stage"]) == ("RequestReceived", "ResponseComplete")
    assert intent["auditID"] == outcome["auditID"]
    assert outcome["user"]["username"] == "admin@example.com"
    assert outcome["verb"] == "create"
    assert outcome["objectRef"] == {
        "resource": "clusters",
        "name": "dev-1",
        "apiGroup": "mk8s.io",
    }
    assert outcome["responseStatus"]["code"] == 201


async def test_a_cluster_is_usable_at_once(central: Central) -> None:
    await central.add_cluster("dev-1")
    body = {"cluster": "dev-1"}
    answer = await central.call("POST", "/auth/token", body, token=await central.token())
    assert answer.status == 200


async def test_a_name_that_is_taken(central: Central) -> None:
    await central.add_cluster("dev-1")
    answer = await central.call("POST", "/clusters", {"name": "dev-1"}, token=await central.admin())
    assert (answer.status, answer.message) == (409, 'the cluster "dev-1" exists already')


@pytest.mark.parametrize("name", ["", "Prod", "a.b", "../prod", "a" * 64, "a/b", "-a", "a\n"])
async def test_names_that_are_no_dns_label(central: Central, name: str) -> None:
    answer = await central.call("POST", "/clusters", {"name": name}, token=await central.admin())
    assert (answer.status, answer.field) == (422, "name")


async def test_labels(central: Central) -> None:
    await central.add_cluster("dev-1")
    admin = await central.admin()
    body = {"labels": {"env": "dev", "example.com/team": "a.b", "empty": ""}}
    answer = await central.call("PUT", "/clusters/dev-1/labels", body, token=admin)
    assert (answer.status, answer.json["labels"]) == (200, body["labels"])
    (shown,) = await listed(central, admin)
    assert shown["labels"] == body["labels"]
    absent = await central.call("PUT", "/clusters/nope/labels", body, token=admin)
    assert absent.status == 404


@pytest.mark.parametrize(
    "labels",
    [
        *({"a b": "x"}, {"a": "x y"}, {"a": "\u202e"}, {"/a": "x"}, {"A/a": "x"}, {"a": "x" * 64}),
        *({"": "x"}, {"a": 7}, {"a": None}, ["a"], {f"k{i}": "" for i in range(65)}),
    ],
)
async def test_labels_that_kubernetes_would_refuse(central: Central, labels: Any) -> None:
    body = {"name": "dev-1", "labels": labels}
    answer = await central.call("POST", "/clusters", body, token=await central.admin())
    assert answer.status == 422
    assert answer.field.startswith("labels")


async def test_labels_decide_who_sees_a_cluster_at_once(central: Central) -> None:
    rules = [{"labels": {"env": "dev"}, "namespaces": ["*"], "verbs": ["get"], "resources": ["*"]}]
    await roles.put_role(central.database, "developer", rules)
    await central.add_cluster("blue")
    token, admin = await central.token(), await central.admin()
    assert await listed(central, token) == []
    body = {"labels": {"env": "dev"}}
    await central.call("PUT", "/clusters/blue/labels", body, token=admin)
    assert [cluster["name"] for cluster in await listed(central, token)] == ["blue"]


async def test_another_join_token(central: Central) -> None:
    created = await central.add_cluster("dev-1")
    admin = await central.admin()
    answer = await central.call("POST", "/clusters/dev-1/join-token", token=admin)
    assert answer.status == 201
    assert answer.json["join_token"] != created["join_token"]
    assert "--cluster dev-1 " in answer.json["command"]
    assert (await central.call("POST", "/clusters/nope/join-token", token=admin)).status == 404


async def test_removing_a_cluster(central: Central) -> None:
    await central.add_cluster("dev-1")
    admin = await central.admin()
    assert (await central.call("DELETE", "/clusters/dev-1", token=admin)).status == 204
    assert await listed(central, admin) == []
    again = await central.call("DELETE", "/clusters/dev-1", token=admin)
    assert (again.status, again.message) == (404, 'cluster "dev-1" does not exist')


async def test_permissions(central: Central) -> None:
    await central.add_cluster("dev-1")
    await central.add_cluster("prod")
    token = await central.token()
    answer = await central.call("GET", "/clusters/dev-1/permissions", token=token)
    assert answer.status == 200
    assert (answer.json["cluster"], answer.json["user"]) == ("dev-1", "dev@example.com")
    (rule,) = answer.json["rules"]
    assert rule["verbs"] == ["get", "list"]
    for hidden in ("prod", "nope"):
        refused = await central.call("GET", f"/clusters/{hidden}/permissions", token=token)
        assert (refused.status, refused.message) == (404, f'cluster "{hidden}" does not exist')


@pytest.mark.parametrize(
    ("public_url", "domain", "expected"),
    [
        ("https://mk8s.example.com", "", "https://mk8s.example.com/k8s/prod"),
        ("https://mk8s.example.com:8443", "", "https://mk8s.example.com:8443/k8s/prod"),
        ("https://mk8s.example.com", "k.example.com", "https://prod.k.example.com"),
        ("https://mk8s.example.com:443", "k.example.com", "https://prod.k.example.com"),
        ("https://mk8s.example.com:8443", "k.example.com", "https://prod.k.example.com:8443"),
    ],
)
def test_where_a_kubeconfig_points(
    tmp_path: Path, public_url: str, domain: str, expected: str
) -> None:
    settings = Settings(data_dir=tmp_path, public_url=public_url, domain=domain)
    assert server_url(settings, "prod") == expected
