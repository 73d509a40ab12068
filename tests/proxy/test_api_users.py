"""Users and roles over the API: what admins can do, and what nobody can."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from mk8s_proxy.db import users
from mk8s_proxy.db.engine import Database
from mk8s_proxy.identity import passwords
from tests.support.management_api import PASSWORD, Central

NEW_PASSWORD = "another long pass phrase"


@pytest.fixture
async def central(sqlite_database: Database, tmp_path: Path) -> AsyncIterator[Central]:
    central = await Central.start(sqlite_database, tmp_path)
    yield central
    await central.close()


async def as_admin(central: Central, method: str, path: str, body: Any = None) -> Any:
    return await central.call(method, path, body, token=await central.admin())


async def test_users_are_listed_without_their_hashes(central: Central) -> None:
    answer = await as_admin(central, "GET", "/users")
    assert [user["email"] for user in answer.json["users"]] == [
        "admin@example.com",
        "dev@example.com",
    ]
    assert answer.json["users"][1]["roles"] == ["developer"]
    assert answer.json["users"][1]["has_password"] is True
    assert b"bcrypt" not in answer.raw


async def test_a_new_user_can_log_in(central: Central) -> None:
    body = {
        "email": "New@Example.com",
        "name": "N\u00e9w",
        "password": NEW_PASSWORD,
        "roles": ["developer"],
    }
    answer = await as_admin(central, "POST", "/users", body)
    assert answer.status == 201
    assert (answer.json["email"], answer.json["roles"]) == ("new@example.com", ["developer"])
    assert (await central.login("new@example.com", NEW_PASSWORD))["user"]["name"] == "N\u00e9w"


async def test_a_user_without_a_password_cannot_log_in_by_one(central: Central) -> None:
    answer = await as_admin(central, "POST", "/users", {"email": "sso@example.com"})
    assert (answer.status, answer.json["has_password"]) == (201, False)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"email": "no address"}, "email"),
        ({"email": "a@b\nc"}, "email"),
        ({"email": "system:admin@example.com"}, "email"),
        ({"email": "a" * 300 + "@example.com"}, "email"),
        ({"email": 7}, "email"),
        ({"password": "short"}, "password"),
        ({"password": "x" * (passwords.LONGEST + 1)}, "password"),
        ({"name": "a\nb"}, "name"),
        ({"roles": "admin"}, "roles"),
        ({"roles": ["a b"]}, "roles.0"),
        ({"roles": ["nope"]}, "roles"),
        ({"is_admin": True}, "is_admin"),
    ],
)
async def test_errors_name_the_field(central: Central, change: Any, field: str) -> None:
    body = {"email": "new@example.com", "password": NEW_PASSWORD} | change
    answer = await as_admin(central, "POST", "/users", body)
    assert (answer.status, answer.field) == (422, field)
    assert answer.message.startswith(f"{field}: ")


async def test_a_short_password_is_told_the_rule(central: Central) -> None:
    body = {"email": "new@example.com", "password": "short"}
    answer = await as_admin(central, "POST", "/users", body)
    assert answer.message == "password: must be at least 12 characters"


async def test_an_address_that_is_taken(central: Central) -> None:
    answer = await as_admin(central, "POST", "/users", {"email": "DEV@example.com"})
    assert (answer.status, answer.message) == (409, 'the email "dev@example.com" is taken')


@pytest.mark.parametrize("by", ["id", "email"])
async def test_roles_are_replaced_and_count_at_once(central: Central, by: str) -> None:
    dev = await users.get_by_email(central.database, "dev@example.com")
    token = await central.token()
    key = dev.id if by == "id" else dev.email
    answer = await as_admin(central, "PUT", f"/users/{key}/roles", {"roles": ["admin"]})
    assert (answer.status, answer.json["roles"]) == (200, ["admin"])
    assert (await central.call("GET", "/users", token=token)).status == 200
    await as_admin(central, "PUT", f"/users/{key}/roles", {"roles": []})
    assert (await central.call("GET", "/users", token=token)).status == 403


async def test_a_role_that_does_not_exist(central: Central) -> None:
    answer = await as_admin(central, "PUT", "/users/dev@example.com/roles", {"roles": ["nope"]})
    assert (answer.status, answer.message) == (422, 'roles: role "nope" does not exist')


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", "/users/{}/roles", {"roles": ["developer"]}),
        ("PUT", "/users/{}/roles", {"roles": []}),
        ("PUT", "/users/{}/disabled", {"disabled": True}),
        ("DELETE", "/users/{}", None),
    ],
)
async def test_the_last_admin_stays(central: Central, method: str, path: str, body: Any) -> None:
    answer = await as_admin(central, method, path.format("admin@example.com"), body)
    assert answer.status == 409
    assert answer.message.startswith("this is the last account that can log in as administrator")
    assert (await as_admin(central, "GET", "/users")).status == 200


async def test_an_admin_without_a_password_is_no_reason_to_let_the_last_one_go(
    central: Central,
) -> None:
    bare = {"email": "bare@example.com", "roles": ["admin"]}
    assert (await as_admin(central, "POST", "/users", bare)).status == 201
    answer = await as_admin(central, "DELETE", "/users/admin@example.com")
    assert answer.status == 409
    password = {"password": NEW_PASSWORD}
    await as_admin(central, "PUT", "/users/bare@example.com/password", password)
    assert (await as_admin(central, "DELETE", "/users/admin@example.com")).status == 204


async def test_two_admins_removing_each_other_at_once(central: Central) -> None:
    other = {"email": "other@example.com", "password": NEW_PASSWORD, "roles": ["admin"]}
    await as_admin(central, "POST", "/users", other)
    first = await central.admin()
    second = (await central.login("other@example.com", NEW_PASSWORD))["access_token"]
    answers = await asyncio.gather(
        central.call("DELETE", "/users/other@example.com", token=first),
        central.call("DELETE", "/users/admin@example.com", token=second),
    )
    assert sorted(answer.status for answer in answers) in ([204, 401], [204, 409])


async def test_a_new_password_ends_the_logins_made_with_the_old_one(central: Central) -> None:
    login = await central.login()
    body = {"password": NEW_PASSWORD}
    answer = await as_admin(central, "PUT", "/users/dev@example.com/password", body)
    assert answer.status == 204
    stale = await central.call("GET", "/auth/whoami", token=login["access_token"])
    assert stale.status == 401
    refreshed = {"refresh_token": login["refresh_token"]}
    assert (await central.call("POST", "/auth/refresh", refreshed)).status == 401
    old = {"email": "dev@example.com", "password": PASSWORD}
    assert (await central.call("POST", "/auth/login", old)).status == 401
    await central.login("dev@example.com", NEW_PASSWORD)


async def test_a_disabled_user_is_out_at_once_and_can_come_back(central: Central) -> None:
    token = await central.token()
    path = "/users/dev@example.com/disabled"
    answer = await as_admin(central, "PUT", path, {"disabled": True})
    assert (answer.status, answer.json["disabled"]) == (200, True)
    assert (await central.call("GET", "/auth/whoami", token=token)).status == 401
    await as_admin(central, "PUT", path, {"disabled": False})
    assert await central.token()


async def test_a_removed_user_is_out_at_once(central: Central) -> None:
    token = await central.token()
    assert (await as_admin(central, "DELETE", "/users/dev@example.com")).status == 204
    assert (await central.call("GET", "/auth/whoami", token=token)).status == 401
    assert (await as_admin(central, "DELETE", "/users/dev@example.com")).status == 404


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", "/users/nobody/roles", {"roles": []}),
        ("PUT", "/users/nobody@example.com/roles", {"roles": []}),
        ("PUT", "/users/nobody/password", {"password": NEW_PASSWORD}),
        ("PUT", "/users/nobody/disabled", {"disabled": True}),
        ("DELETE", "/users/nobody", None),
        ("DELETE", "/users/%27%20OR%201=1", None),
        ("DELETE", "/users/a%00b", None),
        ("DELETE", "/users/%ff%fe", None),
    ],
)
async def test_unknown_users(central: Central, method: str, path: str, body: Any) -> None:
    answer = await as_admin(central, method, path, body)
    assert (answer.status, answer.json["reason"]) == (404, "NotFound")
    assert central.last_row()["responseStatus"]["code"] == 404


async def test_a_user_removed_while_roles_are_given(
    central: Central, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = users.set_roles

    async def late(database: Database, user_id: str, *more: Any) -> Any:
        await users.delete_user(database, user_id)
        return await original(database, user_id, *more)

    monkeypatch.setattr(users, "set_roles", late)
    answer = await as_admin(central, "PUT", "/users/dev@example.com/roles", {"roles": []})
    assert answer.status == 404


async def test_roles_are_listed(central: Central) -> None:
    items = (await as_admin(central, "GET", "/roles")).json["roles"]
    assert [(role["name"], role["built_in"]) for role in items] == [
        ("admin", True),
        ("developer", False),
    ]
    assert items[1]["clusters"][0]["verbs"] == ["get", "list"]


async def test_a_role_is_made_and_removed(central: Central) -> None:
    rules = [{"name": "*", "namespaces": ["*"], "verbs": ["get"], "resources": ["pods"]}]
    answer = await as_admin(central, "PUT", "/roles/viewer", {"clusters": rules})
    assert (answer.status, answer.json["clusters"]) == (200, rules)
    assert central.last_row()["objectRef"]["name"] == "viewer"
    assert (await as_admin(central, "DELETE", "/roles/viewer")).status == 204
    assert (await as_admin(central, "DELETE", "/roles/viewer")).status == 404


async def test_limits_of_a_role_are_set_shown_and_checked(central: Central) -> None:
    rules = [{"name": "*", "namespaces": ["*"], "verbs": ["get"], "resources": ["pods"]}]
    body = {"clusters": rules, "limits": {"streams": 100, "buffered": "2048Ki"}}
    answer = await as_admin(central, "PUT", "/roles/viewer", body)
    assert (answer.status, answer.json["limits"]) == (200, {"streams": 100, "buffered": "2Mi"})
    shown = (await as_admin(central, "GET", "/roles")).json["roles"]
    assert {role["name"]: role["limits"] for role in shown} == {
        "admin": {"streams": None, "buffered": None},
        "developer": {"streams": None, "buffered": None},
        "viewer": {"streams": 100, "buffered": "2Mi"},
    }
    for limits, field in (({"streams": 1}, "limits.streams"), ({"other": 1}, "limits.other")):
        answer = await as_admin(central, "PUT", "/roles/viewer", body | {"limits": limits})
        assert (answer.status, answer.field) == (422, field)
    answer = await as_admin(central, "PUT", "/roles/viewer", {"clusters": rules})
    assert answer.json["limits"] == {"streams": None, "buffered": None}


async def test_a_role_in_use_stays(central: Central) -> None:
    answer = await as_admin(central, "DELETE", "/roles/developer")
    assert answer.status == 409
    assert "in use" in answer.message


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
async def test_the_built_in_role_stays_as_it_is(central: Central, method: str) -> None:
    rules = [{"name": "*", "namespaces": ["*"], "verbs": ["get"], "resources": ["pods"]}]
    body = {"clusters": rules} if method == "PUT" else None
    answer = await as_admin(central, method, "/roles/admin", body)
    assert answer.status == 409
    assert "built in" in answer.message


@pytest.mark.parametrize(
    ("rules", "field"),
    [
        ([{"name": "*", "verbs": ["gets"], "resources": ["pods"]}], "clusters[0].verbs[0]"),
        ([{"name": "*", "denny": True}], "clusters[0]"),
        ([7], "clusters.0"),
        ("*", "clusters"),
    ],
)
async def test_mistakes_in_rules_name_their_place(central: Central, rules: Any, field: str) -> None:
    answer = await as_admin(central, "PUT", "/roles/viewer", {"clusters": rules})
    assert answer.status == 422
    assert answer.field.startswith(field)


async def test_a_changed_role_counts_at_once(central: Central) -> None:
    await central.add_cluster("prod")
    token = await central.token()
    assert (await central.call("GET", "/clusters", token=token)).json["clusters"] == []
    rules = [{"name": "prod", "namespaces": ["*"], "verbs": ["get"], "resources": ["pods"]}]
    await as_admin(central, "PUT", "/roles/developer", {"clusters": rules})
    assert len((await central.call("GET", "/clusters", token=token)).json["clusters"]) == 1
