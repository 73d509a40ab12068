"""Delegations over the real API server and database: opened, narrowed, ended with their owner."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from mk8s_proxy.api.application import ENDPOINTS
from mk8s_proxy.api.endpoint import Access
from mk8s_proxy.db import delegations, logins, roles, users
from mk8s_proxy.db.engine import Database
from mk8s_proxy.identity.identity import MOST_NARROWING_BYTES, Unauthenticated
from tests.support.management_api import NOW, PASSWORD_HASH, Answer, Central

WIDE = [{"name": "*", "namespaces": ["*"], "verbs": ["*"], "resources": ["*", "*/*"]}]
HALF_AN_HOUR = 1800


@pytest.fixture
async def central(sqlite_database: Database, tmp_path: Path) -> AsyncIterator[Central]:
    central = await Central.start(sqlite_database, tmp_path)
    await central.add_cluster("dev-1")
    await central.add_cluster("prod-1")
    await roles.put_role(sqlite_database, "developer", WIDE)
    await central.feed.refresh()
    yield central
    await central.close()


async def ask(central: Central, token: str, **body: Any) -> Answer:
    return await central.call("POST", "/delegations", {"seconds": HALF_AN_HOUR} | body, token=token)


async def delegated(central: Central, email: str = "dev@example.com", **body: Any) -> Any:
    answer = await ask(central, await central.token(email), **body)
    assert answer.status == 201, answer.raw
    return answer.json


async def refreshed(central: Central, made: Any) -> Answer:
    return await central.call("POST", "/auth/refresh", {"refresh_token": made["refresh_token"]})


async def test_a_delegation_is_a_login_of_its_owner_that_sees_less(central: Central) -> None:
    made = await delegated(central, clusters=["dev-*"], verbs=["get", "list"], label="assistant")
    assert made["clusters"] == ["dev-1"]
    assert made["refresh_expires_in"] == HALF_AN_HOUR
    assert made["delegation"]["delegate"].startswith("assistant/")
    assert made["delegation"]["narrowing"] == {
        "clusters": ["dev-*"],
        "namespaces": ["*"],
        "verbs": ["get", "list"],
        "resources": ["*"],
    }
    who = (await central.call("GET", "/auth/whoami", token=made["token"])).json
    assert (who["user"]["email"], who["clusters"]) == ("dev@example.com", ["dev-1"])
    assert who["login"]["source"] == "delegation"
    assert who["delegate"] == made["delegation"]["delegate"]
    assert who["narrowing"] == made["delegation"]["narrowing"]
    listed = (await central.call("GET", "/clusters", token=made["token"])).json["clusters"]
    assert [(it["name"], it["verbs"]) for it in listed] == [("dev-1", ["get", "list"])]
    allowed = await central.call("GET", "/clusters/dev-1/permissions", token=made["token"])
    assert allowed.json["rules"][0]["verbs"] == ["get", "list"]


async def test_what_is_left_out_is_everything_that_reads(central: Central) -> None:
    made = await delegated(central)
    assert made["delegation"]["narrowing"] == {
        "clusters": ["*"],
        "namespaces": ["*"],
        "verbs": ["get", "list", "logs", "watch"],
        "resources": ["*"],
    }
    assert made["delegation"]["delegate"] == made["delegation"]["id"]


async def test_the_audit_names_both(central: Central) -> None:
    made = await delegated(central, label="assistant", namespaces=["shop"])
    row = central.last_row()
    assert row["user"]["username"] == "dev@example.com"
    assert row["objectRef"]["resource"] == "delegations"
    assert row["objectRef"]["name"] == made["delegation"]["delegate"]
    said = row["annotations"]["authorization.k8s.io/reason"]
    assert said == "its owner's login, for get, list, logs, watch of * in shop"
    assert made["refresh_token"] not in central.journal_path.read_text()
    await central.call("POST", "/auth/token", {"cluster": "dev-1"}, token=made["token"])
    row = central.last_row()
    assert row["user"]["username"] == "dev@example.com"
    assert row["annotations"]["mk8s.io/delegate"] == made["delegation"]["delegate"]
    await refreshed(central, made)
    assert central.last_row()["annotations"]["mk8s.io/delegate"].startswith("assistant/")


async def test_a_token_of_one_cluster_carries_the_narrowing(central: Central) -> None:
    made = await delegated(central, verbs=["get"], label="script")
    answer = await central.call("POST", "/auth/token", {"cluster": "dev-1"}, token=made["token"])
    identity = central.authenticator.authenticate(f"Bearer {answer.json['token']}".encode())
    assert identity.is_delegation
    assert identity.login == made["delegation"]["id"]
    assert '"verbs":["get"]' in identity.narrowing
    assert len(identity.narrowing) <= MOST_NARROWING_BYTES


async def test_its_owner_sees_the_open_ones(central: Central) -> None:
    owner = await central.token()
    first = (await ask(central, owner, label="first")).json
    central.now += 60
    second = (await ask(central, owner, label="second")).json
    path = "/logins?source=delegation&status=active"
    found = (await central.call("GET", path, token=owner)).json["logins"]
    ids = [second["delegation"]["id"], first["delegation"]["id"]]
    assert [it["id"] for it in found] == ids
    assert found[0]["narrowing"] == second["delegation"]["narrowing"]
    await central.call("POST", "/auth/logout", {"refresh_token": second["refresh_token"]})
    left = (await central.call("GET", path, token=owner)).json["logins"]
    assert [it["id"] for it in left] == ids[1:]
    central.now += HALF_AN_HOUR - 60
    renewed = await central.token()
    assert (await central.call("GET", path, token=renewed)).json["logins"] == []
    own = await central.call("GET", "/logins", token=first["token"])
    assert own.status == 401


async def test_it_ends_itself_by_a_logout(central: Central) -> None:
    made = await delegated(central)
    body = {"refresh_token": made["refresh_token"]}
    assert (await central.call("POST", "/auth/logout", body, token=made["token"])).status == 204
    assert (await central.call("GET", "/auth/whoami", token=made["token"])).status == 401
    assert (await refreshed(central, made)).status == 401


# -- with its owner


async def test_it_ends_with_the_login_of_its_owner(central: Central) -> None:
    owner = await central.login()
    made = (await ask(central, owner["token"])).json
    await central.call("POST", "/auth/logout", {"refresh_token": owner["refresh_token"]})
    assert (await central.call("GET", "/auth/whoami", token=made["token"])).status == 401
    answer = await refreshed(central, made)
    assert answer.status == 401
    assert "the login was ended with the one that it was delegated by" in answer.message


async def test_its_owner_ends_it_from_a_list(central: Central) -> None:
    owner = await central.token()
    made = (await ask(central, owner)).json
    path = f"/logins/{made['delegation']['id']}"
    assert (await central.call("DELETE", path, token=owner)).status == 204
    assert (await central.call("GET", "/auth/whoami", token=made["token"])).status == 401
    assert (await central.call("GET", "/auth/whoami", token=owner)).status == 200


async def test_it_outlives_another_login_of_its_owner(central: Central) -> None:
    other = await central.login()
    made = await delegated(central)
    await central.call("POST", "/auth/logout", {"refresh_token": other["refresh_token"]})
    await central.feed.refresh()
    assert (await refreshed(central, made)).status == 200


@pytest.mark.parametrize("what", ["disabled", "password", "deleted", "epoch", "lost"])
async def test_it_ends_when_its_owner_is_out(central: Central, what: str) -> None:
    made = await delegated(central)
    admin = await central.admin()
    if what == "disabled":
        path, disabled = "/users/dev@example.com/disabled", {"disabled": True}
        assert (await central.call("PUT", path, disabled, token=admin)).status == 200
    elif what == "deleted":
        assert (await central.call("DELETE", "/users/dev@example.com", token=admin)).status == 204
    elif what == "password":
        path, body = "/users/dev@example.com/password", {"password": "another horse battery"}
        assert (await central.call("PUT", path, body, token=admin)).status in (200, 204)
    elif what == "epoch":
        async with central.database.transaction() as session:
            await session.execute(text("UPDATE users SET token_epoch = token_epoch + 1"))
        await central.feed.refresh()
    else:  # the login is gone from the database, however that came
        async with central.database.transaction() as session:
            await session.execute(text("DELETE FROM logins WHERE parent = ''"))
    await central.feed.refresh()
    if what != "lost":
        assert (await central.call("GET", "/auth/whoami", token=made["token"])).status == 401
    if what != "epoch":
        assert (await refreshed(central, made)).status == 401


async def test_what_its_owner_loses_it_loses(central: Central) -> None:
    made = await delegated(central)
    await central.call(
        "PUT", "/users/dev@example.com/roles", {"roles": []}, token=await central.admin()
    )
    answer = await central.call("POST", "/auth/token", {"cluster": "dev-1"}, token=made["token"])
    assert answer.status == 404


async def test_a_refresh_takes_the_groups_that_its_owner_has_now(central: Central) -> None:
    made = await delegated(central)
    async with central.database.transaction() as session:
        await session.execute(
            text("""UPDATE logins SET groups = '["acme:ops"]' WHERE parent = ''""")
        )
    renewed = (await refreshed(central, made)).json
    identity = central.authenticator.authenticate(f"Bearer {renewed['token']}".encode())
    assert identity.groups == ("mk8s:users", "acme:ops")


async def test_it_ends_no_later_than_its_owners_login(central: Central) -> None:
    owner = await central.login()
    central.now += owner["refresh_expires_in"] - 100
    body = {"refresh_token": owner["refresh_token"]}
    token = (await central.call("POST", "/auth/refresh", body)).json["token"]
    answer = await ask(central, token, seconds=101)
    assert (answer.status, answer.field) == (422, "seconds")
    assert "your login ends in 100 s" in answer.message
    assert (await ask(central, token, seconds=100)).status == 201


async def test_it_lasts_no_longer_than_the_setting(central: Central) -> None:
    answer = await ask(central, await central.token(), seconds=8 * 3600 + 1)
    assert (answer.status, answer.field) == (422, "seconds")
    assert (await ask(central, await central.token(), seconds=59)).status == 422
    assert (await ask(central, await central.token(), seconds=8 * 3600)).status == 201


async def test_one_login_has_a_bounded_number_of_them(
    central: Central, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delegations, "MOST_OPEN", 2)
    owner = await central.token()
    first = (await ask(central, owner)).json
    assert (await ask(central, owner)).status == 201
    answer = await ask(central, owner)
    assert answer.status == 409
    assert "as many as it may" in answer.message
    await central.call("POST", "/auth/logout", {"refresh_token": first["refresh_token"]})
    assert (await ask(central, owner)).status == 201
    assert (await ask(central, await central.token())).status == 201  # another login


async def test_a_login_that_ends_meanwhile_delegates_no_more(central: Central) -> None:
    owner = await central.login()
    identity = central.authenticator.authenticate(f"Bearer {owner['token']}".encode())
    now = central.context.now()
    await logins.end_login(central.database, identity.login, logins.LOGOUT, now)
    answer = await ask(central, owner["token"])  # which has not been told yet
    assert answer.status == 401
    assert answer.message == "the login has ended: run mk8s login"


async def test_of_many_at_once_no_more_are_opened_than_may_be(
    central: Central, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delegations, "MOST_OPEN", 3)
    owner = await central.token()
    answers = await asyncio.gather(*(ask(central, owner) for _ in range(8)))
    assert sorted(it.status for it in answers) == [201] * 3 + [409] * 5


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"verbs": ["gets"]}, "verbs[0]"),
        ({"verbs": []}, "verbs"),
        ({"verbs": ["impersonate"]}, "verbs[0]"),
        ({"resources": ["Pods"]}, "resources[0]"),
        ({"namespaces": ["a?"]}, "namespaces[0]"),
        ({"clusters": ["\n"]}, "clusters[0]"),
        ({"clusters": [f"{'x' * 200}{number}" for number in range(11)]}, None),
        ({"label": "\u202egnp"}, "label"),
        ({"label": "x" * 65}, "label"),
        ({"role": "admin"}, "role"),
    ],
)
async def test_a_narrowing_that_means_nothing_is_refused(
    central: Central, body: dict[str, Any], field: str | None
) -> None:
    answer = await ask(central, await central.token(), **body)
    assert answer.status == 422
    if field is None:
        assert answer.message == "is too long: 2048 bytes at most; write patterns with *"
    else:
        assert answer.field == field


# -- attacks


async def test_attack_a_delegation_delegates_further(central: Central) -> None:
    made = await delegated(central)
    answer = await ask(central, made["token"], verbs=["*"])
    assert answer.status == 403
    assert "a delegation" in answer.message
    row = central.last_row()
    assert row["annotations"]["mk8s.io/delegate"] == made["delegation"]["delegate"]
    assert row["annotations"]["mk8s.io/refusal"] == "DELEGATION"


async def test_attack_an_administrators_delegation_uses_the_management_api(
    central: Central,
) -> None:
    """Every endpoint that is not for delegations refuses them, whatever it does."""
    made = await delegated(central, "admin@example.com", verbs=["*"], resources=["*", "*/*"])
    tried = 0
    for endpoint in ENDPOINTS:
        if endpoint.access is Access.PUBLIC or endpoint.delegates:
            continue
        path = endpoint.path.replace("{id}", "dev-1").replace("{name}", "developer")
        answer = await central.call(endpoint.method, path, {}, token=made["token"])
        assert answer.status == 403, (endpoint.method, path)
        assert "a delegation" in answer.message
        tried += 1
    assert tried > 20
    open_ones = {f"{it.method} {it.path}" for it in ENDPOINTS if it.delegates}
    assert open_ones == {
        "GET /auth/whoami",
        "GET /clusters",
        "GET /clusters/{id}",
        "GET /clusters/{id}/permissions",
        "GET /logins",
        "POST /auth/token",
        "POST /clusters/{id}/exec",
    }


async def test_attack_an_administrators_delegation_sees_other_clusters(central: Central) -> None:
    made = await delegated(central, "admin@example.com", clusters=["dev-*"])
    who = (await central.call("GET", "/auth/whoami", token=made["token"])).json
    assert (who["admin"], who["clusters"]) == (False, ["dev-1"])
    listed = (await central.call("GET", "/clusters", token=made["token"])).json["clusters"]
    assert [it["name"] for it in listed] == ["dev-1"]
    assert (await central.call("GET", "/clusters/prod-1", token=made["token"])).status == 404


async def test_attack_a_delegation_asks_for_another_clusters_token(central: Central) -> None:
    made = await delegated(central, "admin@example.com", clusters=["dev-*"])
    for name in ("prod-1", "nowhere"):
        answer = await central.call("POST", "/auth/token", {"cluster": name}, token=made["token"])
        assert (answer.status, answer.message) == (404, f'cluster "{name}" does not exist')
    body = {"refresh_token": made["refresh_token"], "cluster": "prod-1"}
    assert (await central.call("POST", "/auth/refresh", body)).status == 404
    body["cluster"] = "dev-1"
    assert (await central.call("POST", "/auth/refresh", body)).status == 200


async def test_attack_a_delegation_runs_commands_on_another_cluster(central: Central) -> None:
    made = await delegated(central, "admin@example.com", clusters=["dev-*"])
    body = {"command": ["get", "pods"]}
    answer = await central.call("POST", "/clusters/prod-1/exec", body, token=made["token"])
    assert answer.status in (404, 501)


async def test_attack_a_service_token_delegates(central: Central) -> None:
    body = {"name": "ci", "roles": ["developer"], "expires_in": 86400}
    made = (await central.call("POST", "/tokens", body, token=await central.admin())).json
    answer = await ask(central, made["token"])
    assert (answer.status, answer.message) == (
        403,
        "only a login of a person can delegate: run mk8s login",
    )


async def test_attack_a_delegation_changes_its_owners_password(central: Central) -> None:
    made = await delegated(central)
    body = {"email": "dev@example.com", "new_password": "another horse battery"}
    for guess in (made["token"][:64], "correct horse"):
        answer = await central.call(
            "POST", "/auth/password", body | {"password": guess}, token=made["token"]
        )
        assert answer.status == 401
        central.ticks += 60
    assert await central.login()


async def test_attack_a_delegation_without_a_narrowing(central: Central) -> None:
    """A row that lost its narrowing must not become all that its owner may."""
    made = await delegated(central, label="x")
    async with central.database.transaction() as session:
        await session.execute(text("UPDATE logins SET narrowing = '' WHERE parent != ''"))
    renewed = (await refreshed(central, made)).json
    with pytest.raises(Unauthenticated):
        central.authenticator.authenticate(f"Bearer {renewed['token']}".encode())


async def test_attack_a_delegation_with_a_narrowing_of_another_kind(central: Central) -> None:
    made = await delegated(central)
    async with central.database.transaction() as session:
        await session.execute(
            text("""UPDATE logins SET narrowing = '{"verbs":["*"]}' WHERE parent != ''""")
        )
    body = {"refresh_token": made["refresh_token"], "cluster": "dev-1"}
    assert (await central.call("POST", "/auth/refresh", body)).status == 401
    token = (await refreshed(central, made)).json["token"]
    for path in ("/clusters", "/clusters/dev-1", "/auth/whoami", "/logins"):
        answer = await central.call("GET", path, token=token)
        assert answer.status == 401, (path, answer.raw)
        assert "not understood here" in answer.message
    answer = await central.call("POST", "/auth/token", {"cluster": "dev-1"}, token=token)
    assert answer.status == 401
    identity = central.authenticator.authenticate(f"Bearer {token}".encode())
    assert identity.narrowing == '{"verbs":["*"]}'


@pytest.mark.parametrize(
    ("stored", "shown"), [('{"verbs":["*"]}', {"verbs": ["*"]}), ("[1]", {}), ("{", {})]
)
async def test_attack_a_narrowing_that_means_nothing_hides_its_login(
    central: Central, stored: str, shown: Any
) -> None:
    await delegated(central)
    async with central.database.transaction() as session:
        change = text("UPDATE logins SET narrowing = :stored WHERE parent != ''")
        await session.execute(change, {"stored": stored})
    owner = await central.call("GET", "/logins", token=await central.token("dev@example.com"))
    told = [it["narrowing"] for it in owner.json["logins"] if it["source"] == "delegation"]
    assert told == [shown]


async def test_a_users_rows_name_no_delegate(central: Central) -> None:
    await users.create_user(central.database, "ann@example.com", "Ann", PASSWORD_HASH, [])
    await central.login("ann@example.com")
    assert "mk8s.io/delegate" not in central.last_row()["annotations"]
    assert central.now == NOW
