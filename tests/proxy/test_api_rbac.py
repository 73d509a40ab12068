"""A whole policy file over the API: all of it or nothing, and a dry run that says the same."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from mk8s_proxy.db.engine import Database
from tests.support.management_api import Central

RULES = [{"name": "dev-*", "namespaces": ["*"], "verbs": ["get"], "resources": ["pods"]}]
FILE = {
    "roles": [{"name": "reader", "clusters": RULES}],
    "users": [{"email": "New@Example.com", "roles": ["reader", "developer"], "name": "New"}],
}


@pytest.fixture
async def central(sqlite_database: Database, tmp_path: Path) -> AsyncIterator[Central]:
    central = await Central.start(sqlite_database, tmp_path)
    yield central
    await central.close()


async def post(central: Central, body: dict[str, Any]) -> Any:
    return await central.call("POST", "/rbac", body, token=await central.admin())


async def names(central: Central) -> tuple[list[str], list[str]]:
    token = await central.admin()
    roles = (await central.call("GET", "/roles", token=token)).json["roles"]
    users = (await central.call("GET", "/users", token=token)).json["users"]
    return [it["name"] for it in roles], [it["email"] for it in users]


async def test_a_dry_run_says_what_apply_does(central: Central) -> None:
    before = await names(central)
    tried = (await post(central, {**FILE, "dry_run": True})).json
    assert tried["changes"] == [
        {"kind": "role", "name": "reader", "action": "created", "detail": ""},
        {
            "kind": "user",
            "name": "new@example.com",
            "action": "created",
            "detail": "roles: developer, reader",
        },
    ]
    assert await names(central) == before
    done = (await post(central, FILE)).json
    assert done == {**tried, "dry_run": False}
    assert "reader" in (await names(central))[0]
    again = (await post(central, FILE)).json["changes"]
    assert [it["action"] for it in again] == ["unchanged", "unchanged"]


@pytest.mark.parametrize("dry_run", [True, False])
@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (
            {"users": [{"email": "admin@example.com", "roles": []}]},
            409,
            "admin",
        ),
        ({"roles": [{"name": "admin", "clusters": RULES}], "users": []}, 409, "built in"),
        ({"users": [{"email": "a@b", "roles": ["ghost"]}]}, 422, "ghost"),
        ({"roles": [{"name": "a", "clusters": [{"verbs": []}]}]}, 422, "roles[0].clusters[0]"),
        ({"roles": [FILE["roles"][0], FILE["roles"][0]]}, 422, "twice"),
        ({"rules": []}, 422, "rules"),
    ],
)
async def test_what_apply_would_be_refused_a_dry_run_is_too(
    central: Central, dry_run: bool, body: dict[str, Any], status: int, message: str
) -> None:
    before = await names(central)
    whole = {**FILE, **body, "dry_run": dry_run}
    answer = await post(central, whole)
    assert (answer.status, message in answer.message) == (status, True), answer.message
    assert await names(central) == before, "nothing of it, and nothing of the rest"
