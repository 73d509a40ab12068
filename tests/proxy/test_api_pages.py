"""Lists of the management API: envelopes, pages by cursor, filters, and CLIs from before them."""

import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from mk8s_proxy.db import agents, clusters, roles, users
from mk8s_proxy.db.engine import Database
from mk8s_proxy.identity.access_token import SigningKey
from tests.support.management_api import Answer, Central, FakeTunnel
from tests.support.seeded import DEVELOPER

LISTS = ("clusters", "users", "roles", "agents", "keys", "audit")


@pytest.fixture
async def central(database: Database, tmp_path: Path) -> AsyncIterator[Central]:
    central = await Central.start(database, tmp_path)
    for name, labels in (("dev-1", {"env": "dev"}), ("dev-2", {"env": "dev", "team": "a"})):
        await clusters.create_cluster(database, name, labels)
    await clusters.create_cluster(database, "prod", {"env": "prod"})
    off = await users.create_user(database, "off_1@example.com", "100% Off", None, ["developer"])
    await users.set_disabled(database, off.id, True)
    await users.create_user(database, "offx1@example.com", "Dev", None)
    await roles.put_role(database, "viewer", DEVELOPER)
    await central.feed.refresh()
    yield central
    await central.close()


async def ask(
    central: Central, path: str, email: str = "admin@example.com", **query: Any
) -> Answer:
    target = f"/{path}?{urlencode(query)}"
    return await central.call("GET", target, token=await central.token(email))


async def names(central: Central, path: str, **query: Any) -> list[str]:
    answer = await ask(central, path, **query)
    assert answer.status == 200, answer.raw
    return [item["email" if path == "users" else "name"] for item in answer.json[path]]


async def test_lists_are_named_after_what_is_in_them(central: Central) -> None:
    for path in LISTS:
        document = (await ask(central, path)).json
        assert isinstance(document[path], list)
        assert document["next_cursor"] is None


@pytest.mark.parametrize("path", ["clusters", "users", "roles"])
async def test_pages_follow_each_other(central: Central, path: str) -> None:
    whole, seen, query = await names(central, path), [], {"limit": 1}
    while True:
        page = (await ask(central, path, **query)).json
        seen += [item["email" if path == "users" else "name"] for item in page[path]]
        if page["next_cursor"] is None:
            break
        query = {"limit": 1, "cursor": page["next_cursor"]}
    assert seen == whole == sorted(whole)
    assert len(whole) >= 3


async def test_a_page_begins_behind_the_last_item_though_that_is_gone(central: Central) -> None:
    page = (await ask(central, "users", limit=2)).json
    gone = page["users"][-1]
    await users.delete_user(central.database, gone["id"])
    await users.create_user(central.database, "aa@example.com", "", None)
    assert await names(central, "users", cursor=page["next_cursor"]) == [
        "off_1@example.com",
        "offx1@example.com",
    ]


FILTERS: list[tuple[str, dict[str, str], list[str]]] = [
    ("clusters", {"name": "dev-*"}, ["dev-1", "dev-2"]),
    ("clusters", {"name": "dev"}, []),
    ("clusters", {"label": "env=dev"}, ["dev-1", "dev-2"]),
    ("clusters", {"label": "env=dev,team"}, ["dev-2"]),
    ("clusters", {"label": "env="}, []),
    ("clusters", {"status": "connected"}, ["prod"]),
    ("clusters", {"status": "pending", "name": "*-2"}, ["dev-2"]),
    ("users", {"name": "OFF_*"}, ["off_1@example.com"]),
    ("users", {"name": "100% *"}, ["off_1@example.com"]),
    ("users", {"name": "dev"}, ["dev@example.com", "offx1@example.com"]),
    ("users", {"name": "%"}, []),
    ("users", {"name": "\\"}, []),
    ("users", {"role": "developer"}, ["dev@example.com", "off_1@example.com"]),
    ("users", {"role": "developer", "status": "active"}, ["dev@example.com"]),
    ("users", {"status": "disabled"}, ["off_1@example.com"]),
    ("roles", {"name": "*e*r"}, ["developer", "viewer"]),
    ("agents", {"cluster": "x", "status": "revoked"}, []),
    ("keys", {"status": "retired"}, []),
]


async def test_filters(central: Central) -> None:
    prod = await clusters.get_by_name(central.database, "prod")
    central.tunnels.by_cluster[prod.id] = FakeTunnel(connected=True)
    for path, query, expected in FILTERS:
        assert await names(central, path, **query) == expected, query


WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("users", {"limit": 0}, "limit"),
    ("users", {"limit": 501}, "limit"),
    ("users", {"status": "gone"}, "status"),
    ("clusters", {"colour": "red"}, "colour"),
    ("clusters", {"label": "=x"}, "label"),
    ("clusters", {"name": "a\nb"}, "name"),
    ("roles", {"name": ""}, "name"),
]


async def test_what_is_asked_wrongly_names_its_field(central: Central) -> None:
    for path, query, field in WRONG:
        answer = await ask(central, path, **query)
        assert (answer.status, answer.field) == (422, field), query


async def test_all_fields_at_fault_are_named(central: Central) -> None:
    answer = await ask(central, "users", limit=0, status="gone", colour="red")
    assert {error["field"] for error in answer.json["errors"]} == {"limit", "status", "colour"}
    assert answer.message.endswith("(and 2 more)")


async def test_attack_a_cursor_of_another_list_filter_or_person_or_of_ones_own_making(
    central: Central,
) -> None:
    cursor = (await ask(central, "users", limit=1)).json["next_cursor"]
    mine = (await ask(central, "clusters", "dev@example.com", limit=1)).json["next_cursor"]
    signed = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
    forged = base64.urlsafe_b64encode(signed[:16] + b'["z"]').decode().rstrip("=")
    assert (await ask(central, "users", limit=3, cursor=cursor)).status == 200
    assert (await ask(central, "clusters", "dev@example.com", cursor=mine)).status == 200
    foreign: list[tuple[str, dict[str, str]]] = [
        ("roles", {"cursor": cursor}),
        ("users", {"cursor": cursor, "role": "developer"}),
        ("clusters", {"cursor": mine}),
        *(("users", {"cursor": bad}) for bad in (forged, cursor[:-3], "", "*", "A" * 9, "é")),
    ]
    for path, query in foreign:
        answer = await ask(central, path, **query)
        assert (answer.status, answer.field) == (400, "cursor"), (path, query)


async def test_a_cursor_is_good_at_every_replica_and_for_a_while_only(
    central: Central, tmp_path: Path
) -> None:
    cursor = (await ask(central, "users", limit=1)).json["next_cursor"]
    other = await Central.start_again(central.database, tmp_path / "other")
    assert (await ask(other, "users", cursor=cursor)).status == 200
    await other.close()
    central.keys.replace([SigningKey.generate()])
    assert (await ask(central, "users", cursor=cursor)).status == 400


async def test_a_cli_that_knows_no_pages_gets_all_at_once_as_before(
    central: Central, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mk8s_proxy.api.pages.MOST_ITEMS", 1)
    token = await central.admin()
    for path in LISTS[:-1]:
        headers = {"User-Agent": "mk8s"}
        older = (await central.call("GET", f"/{path}", token=token, headers=headers)).json
        assert isinstance(older["items"], list)
        assert path not in older
        assert older["next_cursor"] is None
    assert len((await ask(central, "users")).json["users"]) == 1


async def test_users_are_named_by_id_email_or_name(central: Central) -> None:
    admin, wanted = await central.admin(), {"roles": ["viewer"]}
    off = await users.get_by_email(central.database, "off_1@example.com")
    for key in (off.id, "OFF_1@example.com", "100%25%20Off"):
        answer = await central.call("PUT", f"/users/{key}/roles", wanted, token=admin)
        assert (answer.status, answer.json["id"]) == (200, off.id)
    answer = await central.call("PUT", "/users/Dev/roles", wanted, token=admin)
    assert (answer.status, "several users" in answer.message) == (409, True)
    for nobody in ("Off", "%20"):
        answer = await central.call("PUT", f"/users/{nobody}/roles", wanted, token=admin)
        assert answer.status == 404


async def test_attack_a_name_that_is_anothers_email_or_id(central: Central) -> None:
    dev = await users.get_by_email(central.database, "dev@example.com")
    for name in (dev.id, dev.email):
        await users.create_user(central.database, f"{len(name)}@example.com", name, None)
        answer = await central.call(
            "PUT", f"/users/{name}/roles", {"roles": []}, token=await central.admin()
        )
        assert answer.json["id"] == dev.id


async def test_clusters_are_named_by_name_or_id(central: Central) -> None:
    admin = await central.admin()
    dev = await clusters.get_by_name(central.database, "dev-1")
    prod = await clusters.get_by_name(central.database, "prod")
    for key in ("dev-1", dev.id):
        path = f"/clusters/{key}/permissions"
        answer = await central.call("GET", path, token=await central.token())
        assert (answer.status, answer.json["cluster"]) == (200, "dev-1")
        answer = await central.call("PUT", f"/clusters/{key}/labels", {"labels": {}}, token=admin)
        assert answer.json["name"] == "dev-1"
    for hidden in ("prod", prod.id, "nope"):
        path = f"/clusters/{hidden}/permissions"
        answer = await central.call("GET", path, token=await central.token())
        assert (answer.status, answer.message) == (404, f'cluster "{hidden}" does not exist')


async def test_agents_have_pages_in_the_order_of_cluster_and_time(central: Central) -> None:
    for name in ("prod", "dev-1"):
        cluster = await clusters.get_by_name(central.database, name)
        issued = agents.Issued(f"{name}1", "", "", central.context.now())
        await agents.record_joined(central.database, cluster.id, issued)
    first = (await ask(central, "agents", limit=1)).json
    second = (await ask(central, "agents", limit=1, cursor=first["next_cursor"])).json
    found = [it["cluster"] for page in (first, second) for it in page["agents"]]
    assert (found, second["next_cursor"]) == (["dev-1", "prod"], None)
