"""Groups over the REST API: roles and members set, counted everywhere, taken away again."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from mk8s_proxy.db import groups, logins, roles, users
from mk8s_proxy.db.engine import Database
from mk8s_proxy.db.errors import NotFound
from mk8s_proxy.identity import refresh
from tests.support.management_api import PASSWORD_HASH, Answer, Central
from tests.support.seeded import DEVELOPER

SECRETS = [{"name": "prod", "namespaces": ["*"], "verbs": ["get"], "resources": ["secrets"]}]
NEW = "new@example.com"


@pytest.fixture
async def central(sqlite_database: Database, tmp_path: Path) -> AsyncIterator[Central]:
    central = await Central.start(sqlite_database, tmp_path)
    await users.create_user(sqlite_database, NEW, "New", PASSWORD_HASH)
    await roles.put_role(sqlite_database, "secrets", SECRETS)
    for name in ("dev-1", "prod"):
        await central.add_cluster(name)
    yield central
    await central.close()


async def put(central: Central, name: str, what: str, body: Any, **more: Any) -> Answer:
    token = await central.admin()
    path = f"/groups/{name}/{what}"
    return await central.call("PUT", path, body, token=token, **more)


async def login_in(central: Central, *brought: str, email: str = NEW) -> dict[str, Any]:
    """The answer to a refresh of a login whose source named these groups."""
    user = await users.get_by_email(central.database, email)
    now = central.context.now()
    new = logins.NewLogin("one", user.id, now.replace(year=2028), groups=brought)
    token = await refresh.open_login(central.database, new, now=now)
    answer = await central.call("POST", "/auth/refresh", {"refresh_token": token.token})
    assert answer.status == 200, answer.raw
    found: dict[str, Any] = answer.json
    return found


async def whoami(central: Central, token: str) -> Any:
    return (await central.call("GET", "/auth/whoami", token=token)).json


async def test_a_group_of_mk8s(central: Central) -> None:
    made = await put(central, "devs", "roles", {"roles": ["developer", "secrets"]})
    assert (made.status, made.json["roles"]) == (200, ["developer", "secrets"])
    row = central.last_row()
    assert (row["objectRef"]["resource"], row["objectRef"]["name"]) == ("groups", "devs")
    token = await central.token(NEW)
    assert (await whoami(central, token))["clusters"] == []
    joined = await put(central, "devs", "members", {"members": ["New@example.com"]})
    assert joined.json["members"] == [NEW]
    told = await whoami(central, token)
    assert (told["roles"], told["groups"]) == (["developer", "secrets"], ["devs"])
    assert told["clusters"] == ["dev-1", "prod"]
    listed = await central.call("GET", "/groups?name=d*", token=await central.admin())
    assert listed.json == {"groups": [joined.json], "next_cursor": None}
    assert (await central.call("GET", "/groups?name=x", token=await central.admin())).json[
        "groups"
    ] == []
    gone = await central.call("DELETE", "/groups/devs", token=await central.admin())
    assert gone.status == 204
    assert (await whoami(central, token))["clusters"] == []
    shown = await central.call("GET", "/groups/devs", token=await central.admin())
    assert shown.status == 404
    again = await central.call("DELETE", "/groups/devs", token=await central.admin())
    assert again.status == 404


async def test_a_group_of_an_issuer(central: Central) -> None:
    name = "acme:/k8s/devs"
    made = await put(central, name, "roles", {"roles": ["secrets"]})
    assert made.json["name"] == "acme:/k8s/devs"
    answer = await login_in(central, "acme:/k8s/devs", "acme:other")
    assert answer["user"]["roles"] == ["secrets"]
    told = await whoami(central, answer["access_token"])
    assert told["groups"] == ["acme:/k8s/devs", "acme:other"]
    assert (told["roles"], told["clusters"]) == (["secrets"], ["prod"])
    assert (await whoami(central, await central.token(NEW)))["clusters"] == [], "another login"
    shown = await central.call("GET", f"/groups/{name}", token=await central.admin())
    assert shown.json == made.json
    refused = await put(central, name, "members", {"members": [NEW]})
    assert (refused.status, refused.field) == (422, "name")
    odd = await put(central, "acme:x/roles", "roles", {"roles": []})
    assert odd.json["name"] == "acme:x/roles"
    path = "/groups/acme:x/roles"
    assert (await central.call("GET", path, token=await central.admin())).json == odd.json
    assert (await central.call("DELETE", path, token=await central.admin())).status == 204


async def test_a_clusters_token_and_rules_by_a_group(central: Central) -> None:
    await put(central, "acme:devs", "roles", {"roles": ["secrets"]})
    answer = await login_in(central, "acme:devs")
    token = answer["access_token"]
    bound = await central.call("POST", "/auth/token", {"cluster": "prod"}, token=token)
    assert bound.status == 200
    identity = central.authenticator.authenticate(f"Bearer {bound.json['token']}".encode())
    assert identity.groups == ("mk8s:users", "acme:devs")
    rules = await central.call("GET", "/clusters/prod/permissions", token=token)
    assert [rule["role"] for rule in rules.json["rules"]] == ["secrets"]
    refreshed = await central.call(
        "POST", "/auth/refresh", {"refresh_token": answer["refresh_token"], "cluster": "prod"}
    )
    assert refreshed.json["cluster"] == "prod"
    other = await central.call(
        "POST",
        "/auth/refresh",
        {"refresh_token": refreshed.json["refresh_token"], "cluster": "dev-1"},
    )
    assert other.status == 404


async def test_administrators_by_a_group(central: Central) -> None:
    """Whoever is one by a group alone counts for nothing where the last one is protected."""
    await put(central, "acme:ops", "roles", {"roles": ["admin"]})
    token = (await login_in(central, "acme:ops"))["access_token"]
    assert (await whoami(central, token))["admin"] is True
    assert (await central.call("GET", "/users", token=token)).status == 200
    answer = await central.call(
        "PUT", "/users/admin@example.com/disabled", {"disabled": True}, token=token
    )
    assert answer.status == 409
    await put(central, "acme:ops", "roles", {"roles": []})
    assert (await central.call("GET", "/users", token=token)).status == 403


@pytest.mark.parametrize("name", ["devs", "admin", "mk8s:role:admin", "system:masters"])
async def test_attack_a_login_with_a_group_that_is_called_like_one_of_ours(
    central: Central, name: str
) -> None:
    """Whatever a source has let through, it is in none of them."""
    await put(central, "devs", "roles", {"roles": ["admin"]})
    answer = await login_in(central, "acme:x")
    user = await users.get_by_email(central.database, NEW)
    asking = await groups.asking(central.database, user, ("mk8s:users", name))
    assert asking.group_roles == ()
    assert not asking.administers
    assert (await whoami(central, answer["access_token"]))["admin"] is False


@pytest.mark.parametrize("name", ["system:masters", "mk8s:users", "federated:x", "a%20b", "x:"])
async def test_attack_roles_for_a_group_that_means_something_else(
    central: Central, name: str
) -> None:
    refused = await put(central, name, "roles", {"roles": ["developer"]})
    assert (refused.status, refused.field) == (422, "name")


@pytest.mark.parametrize(
    ("what", "body", "field"),
    [
        ("roles", {"roles": ["ghost"]}, "roles"),
        ("members", {"members": ["ghost@example.com"]}, "members"),
        ("members", {"members": ["ghost"]}, "members.0"),
        ("roles", {}, "roles"),
    ],
)
async def test_what_does_not_exist(central: Central, what: str, body: Any, field: str) -> None:
    refused = await put(central, "devs", what, body)
    assert (refused.status, refused.field) == (422, field)
    assert (await central.call("GET", "/groups", token=await central.admin())).json["groups"] == []


async def test_only_admins_may(central: Central) -> None:
    token = await central.token()
    for method, path, body in (
        ("GET", "/groups", None),
        ("GET", "/groups/devs", None),
        ("PUT", "/groups/devs/roles", {"roles": ["admin"]}),
        ("PUT", "/groups/devs/members", {"members": ["dev@example.com"]}),
        ("DELETE", "/groups/devs", None),
    ):
        assert (await central.call(method, path, body, token=token)).status == 403


async def test_changes_on_conditions(central: Central) -> None:
    made = await put(central, "devs", "roles", {"roles": ["secrets"]})
    stale = {"If-Match": made.headers["ETag"]}
    same = await put(central, "devs", "roles", {"roles": ["secrets"]}, headers=stale)
    assert same.headers["ETag"] == made.headers["ETag"]
    changed = await put(central, "devs", "members", {"members": [NEW]}, headers=stale)
    assert changed.status == 200
    assert (await put(central, "devs", "roles", {"roles": []}, headers=stale)).status == 412
    fresh = {"If-None-Match": "*"}
    assert (await put(central, "devs", "roles", {"roles": []}, headers=fresh)).status == 412
    token = await central.admin()
    gone = await central.call("DELETE", "/groups/devs", token=token, headers=stale)
    assert gone.status == 412
    now = {"If-Match": changed.headers["ETag"]}
    assert (await central.call("DELETE", "/groups/devs", token=token, headers=now)).status == 204


async def test_nothing_changes_nothing(central: Central) -> None:
    await put(central, "devs", "members", {"members": [NEW]})
    version = central.feed.current.version
    await put(central, "devs", "members", {"members": [NEW]})
    assert central.feed.current.version == version


async def test_a_role_in_use_stays(central: Central) -> None:
    await put(central, "acme:devs", "roles", {"roles": ["secrets"]})
    refused = await central.call("DELETE", "/roles/secrets", token=await central.admin())
    assert refused.status == 409
    assert "the group acme:devs" in refused.message


async def test_who_is_deleted_or_disabled_is_in_no_group(central: Central) -> None:
    await put(central, "devs", "roles", {"roles": ["developer"]})
    await put(central, "devs", "members", {"members": [NEW, "dev@example.com"]})
    await central.call(
        "PUT", f"/users/{NEW}/disabled", {"disabled": True}, token=await central.admin()
    )
    assert central.feed.rows.user_roles.keys() == {"admin@example.com", "dev@example.com"}
    await central.call("DELETE", f"/users/{NEW}", token=await central.admin())
    assert (await groups.get_group(central.database, "devs")).members == ("dev@example.com",)


# -- whole files -----------------------------------------------------------------------------------

FILE: dict[str, Any] = {
    "roles": [{"name": "reader", "clusters": DEVELOPER}],
    "groups": [
        {"name": "readers", "roles": ["reader"], "members": ["NEW@example.com"]},
        {"name": "acme:devs", "roles": ["reader", "developer"]},
    ],
}


async def rbac(central: Central, body: Any, **more: Any) -> Answer:
    return await central.call("POST", "/rbac", body, token=await central.admin(), **more)


async def test_groups_of_a_file(central: Central) -> None:
    tried = (await rbac(central, {**FILE, "dry_run": True})).json["changes"]
    assert [it["detail"] for it in tried if it["kind"] == "group"] == [
        f"roles: reader; members: {NEW}", "roles: developer, reader",
    ]  # fmt: skip
    assert await groups.list_groups(central.database) == []
    assert (await rbac(central, FILE)).json["changes"] == tried
    again = (await rbac(central, FILE)).json["changes"]
    assert {it["action"] for it in again} == {"unchanged"}
    shown = await central.call("GET", "/rbac", token=await central.admin())
    assert shown.json["groups"] == [
        {"name": "acme:devs", "roles": ["developer", "reader"]},
        {"name": "readers", "roles": ["reader"], "members": [NEW]},
    ]
    assert (await rbac(central, shown.json)).json["changes"]
    assert {it["action"] for it in (await rbac(central, shown.json)).json["changes"]} == {
        "unchanged"
    }


async def test_a_file_that_changes_groups(central: Central) -> None:
    await rbac(central, FILE)
    etag = (await central.call("GET", "/rbac", token=await central.admin())).headers["ETag"]
    body = {
        "groups": [
            {"name": "readers", "roles": ["developer"]},
            {"name": "acme:devs", "roles": ["developer", "reader"]},
        ]
    }
    changes = (await rbac(central, body)).json["changes"]
    assert [(it["action"], it["detail"]) for it in changes] == [
        ("changed", "roles: reader -> developer"), ("unchanged", ""),
    ]  # fmt: skip
    assert (await groups.get_group(central.database, "readers")).members == (NEW,)
    emptied = {"groups": [{"name": "readers", "roles": ["developer"], "members": []}]}
    assert (await rbac(central, emptied, headers={"If-Match": etag})).status == 412
    changes = (await rbac(central, emptied)).json["changes"]
    assert changes[0]["detail"] == f"members: {NEW} -> none"


@pytest.mark.parametrize(
    ("group", "problem"),
    [
        ({"name": "x", "roles": ["ghost"]}, "ghost"),
        ({"name": "x", "roles": [], "members": ["ghost@example.com"]}, "ghost@example.com"),
        ({"name": "system:masters", "roles": []}, "system"),
    ],
)
async def test_a_file_that_is_refused_changes_nothing(
    central: Central, group: Any, problem: str
) -> None:
    refused = await rbac(central, {**FILE, "groups": [*FILE["groups"], group]})
    assert (refused.status, problem in refused.message) == (422, True), refused.raw
    assert await groups.list_groups(central.database) == []


# -- the store -------------------------------------------------------------------------------------


async def test_the_store(database: Database) -> None:
    """On both databases."""
    await roles.ensure_admin_role(database)
    user = await users.create_user(database, NEW, "", None)
    made = await groups.put_group(database, "a", roles=["admin"], members=[NEW])
    assert (made.roles, made.members) == (("admin",), (NEW,))
    assert [it.name for it in await groups.list_groups(database)] == ["a"]
    assert await groups.get_group(database, "a") == made
    assert (await groups.asking(database, user, ("mk8s:users",))).administers
    assert (await groups.put_group(database, "a", roles=[])).members == (NEW,)
    await groups.delete_group(database, "a")
    with pytest.raises(NotFound):
        await groups.delete_group(database, "a")
    assert (await groups.asking(database, user, ())).groups == ()
