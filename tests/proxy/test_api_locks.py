"""Locks over the real API server and database: made, met, listed, removed."""

import asyncio
import datetime
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import col, delete

from mk8s_proxy.db import lock_changes, models, users
from mk8s_proxy.db.delegations import open_delegation
from mk8s_proxy.db.engine import Database
from mk8s_proxy.db.errors import Conflict
from mk8s_proxy.db.lock_changes import NewLock
from mk8s_proxy.db.logins import NewLogin
from mk8s_proxy.identity import refresh
from mk8s_proxy.identity.token_claims import LEEWAY
from tests.support.management_api import NOW, PASSWORD, Answer, Central

DEV = {"kind": "user", "target": "dev@example.com", "reason": "laptop lost"}
TOLD = "locked: laptop lost: ask your administrator"
CI = {"name": "ci", "roles": ["developer"], "expires_in": 86400}


@pytest.fixture
async def central(sqlite_database: Database, tmp_path: Path) -> AsyncIterator[Central]:
    central = await Central.start(sqlite_database, tmp_path)
    yield central
    await central.close()


async def lock(central: Central, **more: Any) -> Any:
    answer = await central.call("POST", "/locks", DEV | more, token=await central.admin())
    assert answer.status == 201, answer.raw
    return answer.json


async def unlock(central: Central, made: Any) -> None:
    path = f"/locks/{made['id']}"
    answer = await central.call("DELETE", path, token=await central.admin())
    assert answer.status == 204, answer.raw


async def whoami(central: Central, token: str) -> Answer:
    return await central.call("GET", "/auth/whoami", token=token)


async def exchange(central: Central, login: Any) -> Answer:
    body = {"refresh_token": login["refresh_token"]}
    return await central.call("POST", "/auth/refresh", body)


async def join_group(central: Central, group: str, email: str) -> None:
    member = await users.get_by_email(central.database, email)
    async with central.database.transaction() as session:
        session.add(models.Group(name=group))
        await session.flush()
        session.add(models.GroupMember(group_name=group, user_id=member.id))


def refused(answer: Answer, told: str = TOLD) -> bool:
    assert (answer.status, answer.message) == (403, told), answer.raw
    return True


async def test_a_lock_is_made_listed_audited_and_removed(central: Central) -> None:
    made = await lock(central, expires_in=3600)
    row = central.last_row()
    assert row["objectRef"]["resource"] == "locks"
    assert row["objectRef"]["name"] == "user/dev@example.com"
    assert (made["kind"], made["target"]) == ("user", "dev@example.com")
    assert (made["reason"], made["created_by"]) == ("laptop lost", "admin@example.com")
    ends = datetime.datetime.fromisoformat(made["expires_at"])
    assert ends.timestamp() == NOW + 3600
    admin = await central.admin()
    other = await lock(central, kind="role", target="developer")
    answer = await central.call("GET", "/locks", token=admin)
    assert {it["id"] for it in answer.json["locks"]} == {made["id"], other["id"]}
    answer = await central.call("GET", "/locks?kind=role", token=admin)
    assert answer.json["locks"] == [other]
    answer = await central.call("GET", "/locks?target=dev@example.com", token=admin)
    assert answer.json["locks"] == [made]
    await unlock(central, made)
    assert central.last_row()["objectRef"]["name"] == "user/dev@example.com"
    answer = await central.call("GET", "/locks", token=admin)
    assert answer.json["locks"] == [other]
    answer = await central.call("DELETE", f"/locks/{made['id']}", token=admin)
    assert answer.status == 404


async def test_a_lock_ends_nothing(central: Central) -> None:
    """Who was locked goes on with the login of before."""
    login = await central.login()
    made = await lock(central)
    assert refused(await whoami(central, login["access_token"]))
    assert refused(await exchange(central, login))
    await unlock(central, made)
    assert (await whoami(central, login["access_token"])).status == 200
    assert (await exchange(central, login)).status == 200


@pytest.mark.parametrize("key", ["dev@example.com", "DEV@Example.com", "id"])
async def test_attack_a_locked_user_comes_in_by_another_door(central: Central, key: str) -> None:
    login = await central.login()
    user = await users.get_by_email(central.database, "dev@example.com")
    await lock(central, target=user.id if key == "id" else key)
    credentials = {"email": "dev@example.com", "password": PASSWORD}
    assert refused(await central.call("POST", "/auth/login", credentials))
    assert refused(await exchange(central, login)), "a refresh"
    body = {"cluster": "dev-1"}
    token = login["access_token"]
    assert refused(await central.call("POST", "/auth/token", body, token=token)), "get-token"
    body = credentials | {"new_password": "an entirely new one"}
    assert refused(await central.call("POST", "/auth/password", body)), "a new password"
    row = central.last_row()
    assert row["annotations"]["mk8s.io/refusal"] == "LOCKED"


async def test_attack_a_stranger_learns_nothing_of_a_lock(central: Central) -> None:
    login = await central.login()
    before = await central.call(
        "POST", "/auth/login", {"email": "dev@example.com", "password": "wrong password"}
    )
    await lock(central)
    body = {"email": "dev@example.com", "password": "wrong password"}
    answer = await central.call("POST", "/auth/login", body)
    assert (answer.status, answer.message) == (before.status, before.message)
    wrong = {"refresh_token": "mk8s_rt_" + "x" * 43}
    answer = await central.call("POST", "/auth/refresh", wrong)
    assert (answer.status, "locked" in answer.message) == (401, False)
    central.now += 900 + LEEWAY
    answer = await whoami(central, login["access_token"])
    assert (answer.status, "locked" in answer.message) == (401, False), "it has expired"
    for method, path in (("GET", "/locks"), ("POST", "/locks"), ("DELETE", "/locks/x")):
        assert (await central.call(method, path, DEV if method == "POST" else None)).status == 401


async def test_attack_a_lock_is_removed_by_no_administrator(central: Central) -> None:
    made = await lock(central, kind="role", target="developer")
    dev = await central.token()
    assert (await central.call("DELETE", f"/locks/{made['id']}", token=dev)).status == 403
    assert (await central.call("GET", "/locks", token=dev)).status == 403
    assert (await central.call("POST", "/locks", DEV, token=dev)).status == 403
    answer = await central.call("GET", "/locks", token=await central.admin())
    assert len(answer.json["locks"]) == 1


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"reason": "a\nb"}, "reason"),
        ({"reason": "\x1b[2J"}, "reason"),
        ({"reason": "a\u202eb"}, "reason"),
        ({"reason": " "}, "reason"),
        ({"reason": "x" * 10_240}, "reason"),
        ({"target": "a\x00b"}, "target"),
        ({"target": "x" * 257}, "target"),
        ({"target": ""}, "target"),
        ({"target": "nobody@example.com"}, "target"),
        ({"kind": "group", "target": "nobodys"}, "target"),
        ({"kind": "group", "target": "system:masters"}, "target"),
        ({"kind": "role", "target": "nobodys"}, "target"),
        ({"kind": "cluster", "target": "nowhere"}, "target"),
        ({"kind": "login", "target": "none"}, "target"),
        ({"kind": "token", "target": "none"}, "target"),
        ({"kind": "agent"}, "kind"),
        ({"expires_in": 0}, "expires_in"),
        ({"expires_in": 367 * 86400}, "expires_in"),
    ],
)
async def test_attack_a_lock_of_nonsense(central: Central, more: Any, field: str) -> None:
    answer = await central.call("POST", "/locks", DEV | more, token=await central.admin())
    assert answer.status == 422, answer.raw
    assert [it["field"] for it in answer.json["errors"]] == [field]
    assert len(answer.raw) < 2000
    listed = await central.call("GET", "/locks", token=await central.admin())
    assert listed.json["locks"] == []


async def boss(central: Central) -> str:
    body = {"email": "boss@example.com", "password": PASSWORD, "roles": ["admin"]}
    answer = await central.call("POST", "/users", body, token=await central.admin())
    assert answer.status == 201
    return await central.token("boss@example.com")


async def test_attack_the_last_administrator_is_locked(central: Central) -> None:
    """By a service token, by a role, by a group; then the one who is left by another change."""
    root = {"name": "root", "roles": ["admin"], "expires_in": 86400}
    answer = await central.call("POST", "/tokens", root, token=await central.admin())
    token = answer.json["token"]
    await join_group(central, "admins", "admin@example.com")
    for kind, target in (("user", "admin@example.com"), ("group", "admins"), ("role", "admin")):
        body = DEV | {"kind": kind, "target": target}
        answer = await central.call("POST", "/locks", body, token=token)
        assert answer.status == 409, (kind, answer.raw)
    await boss(central)
    body = DEV | {"target": "boss@example.com"}
    assert (await central.call("POST", "/locks", body, token=token)).status == 201
    body = DEV | {"target": "admin@example.com"}
    assert (await central.call("POST", "/locks", body, token=token)).status == 409
    path = "/users/admin@example.com/disabled"
    answer = await central.call("PUT", path, {"disabled": True}, token=token)
    assert answer.status == 409, "boss is locked"


async def test_attack_the_last_administrator_is_put_into_a_locked_group(central: Central) -> None:
    await join_group(central, "contractors", "dev@example.com")
    made = await lock(central, kind="group", target="contractors")
    admin = await central.admin()
    members = {"members": ["admin@example.com", "dev@example.com"]}
    answer = await central.call("PUT", "/groups/contractors/members", members, token=admin)
    assert answer.status == 409, answer.raw
    assert "last account that can log in as administrator" in answer.message
    assert (await whoami(central, admin)).status == 200
    await unlock(central, made)
    answer = await central.call("PUT", "/groups/contractors/members", members, token=admin)
    assert answer.status == 200, answer.raw


async def test_attack_administrators_lock_each_other_at_the_same_moment(central: Central) -> None:
    mine, theirs = await central.admin(), await boss(central)
    answers = await asyncio.gather(
        central.call("POST", "/locks", DEV | {"target": "boss@example.com"}, token=mine),
        central.call("POST", "/locks", DEV | {"target": "admin@example.com"}, token=theirs),
    )
    assert sorted(answer.status for answer in answers) in ([201, 403], [201, 409])


async def test_attack_callers_lock_themselves_out(central: Central) -> None:
    token = await boss(central)
    identity = central.authenticator.authenticate(f"Bearer {token}".encode())
    await join_group(central, "bosses", "boss@example.com")
    for kind, target in (
        ("user", "boss@example.com"), ("login", identity.login), ("token", identity.token_id),
        ("group", "bosses"),
    ):  # fmt: skip
        body = DEV | {"kind": kind, "target": target}
        answer = await central.call("POST", "/locks", body, token=token)
        assert (answer.status, "yourself" in answer.message) == (409, True), (kind, answer.raw)


async def test_a_lock_on_a_login_and_on_what_it_delegated(central: Central) -> None:
    login, other = await central.login(), await central.login()
    identity = central.authenticator.authenticate(f"Bearer {login['access_token']}".encode())
    ends = datetime.datetime.fromtimestamp(NOW + 3600, datetime.UTC)
    child = await refresh.open_login(
        central.database,
        NewLogin("child", identity.uid, ends, "delegation", parent=identity.login),
        now=central.context.now(),
    )
    grandchild = await refresh.open_login(
        central.database,
        NewLogin("grandchild", identity.uid, ends, "delegation", parent="child"),
        now=central.context.now(),
    )
    made = await lock(central, kind="login", target=identity.login)
    assert refused(await whoami(central, login["access_token"]))
    assert refused(await exchange(central, login))
    for token in (child, grandchild):
        assert refused(await exchange(central, {"refresh_token": token.token}))
    assert (await whoami(central, other["access_token"])).status == 200
    await unlock(central, made)
    assert (await exchange(central, {"refresh_token": child.token})).status == 200


async def test_a_lock_on_an_access_token_is_on_no_other(central: Central) -> None:
    login = await central.login()
    identity = central.authenticator.authenticate(f"Bearer {login['access_token']}".encode())
    await lock(central, kind="token", target=identity.token_id)
    assert refused(await whoami(central, login["access_token"]))
    answer = await exchange(central, login)
    assert answer.status == 200
    assert (await whoami(central, answer.json["access_token"])).status == 200


@pytest.mark.parametrize("by", ["name", "id"])
async def test_a_lock_on_a_service_token(central: Central, by: str) -> None:
    answer = await central.call("POST", "/tokens", CI, token=await central.admin())
    token = answer.json["token"]
    await central.add_cluster()
    body = {"cluster": "dev-1"}
    assert (await central.call("POST", "/auth/token", body, token=token)).status == 200
    made = await lock(central, kind="token", target=answer.json[by])
    assert made["target"] == "ci"
    assert refused(await whoami(central, token))
    assert refused(await central.call("POST", "/auth/token", body, token=token))
    await unlock(central, made)
    assert (await whoami(central, token)).status == 200


@pytest.mark.parametrize("kind", ["own", "issuer's"])
async def test_a_lock_on_a_group(central: Central, kind: str) -> None:
    login = await central.login()
    if kind == "own":
        group = "crew"
        await join_group(central, group, "dev@example.com")
    else:
        group = "acme:crew"
        user = await users.get_by_email(central.database, "dev@example.com")
        ends = datetime.datetime.fromtimestamp(NOW + 3600, datetime.UTC)
        new = NewLogin("sso", user.id, ends, groups=(group,))
        issued = await refresh.open_login(central.database, new, now=central.context.now())
        answer = await exchange(central, {"refresh_token": issued.token})
        login = answer.json
    made = await lock(central, kind="group", target=group)
    assert refused(await whoami(central, login["access_token"]))
    assert refused(await exchange(central, login))
    if kind == "own":
        body = {"email": "dev@example.com", "password": PASSWORD}
        assert refused(await central.call("POST", "/auth/login", body))
    await unlock(central, made)
    assert (await whoami(central, login["access_token"])).status == 200


async def test_a_lock_opens_again_by_itself(central: Central) -> None:
    """By the clock of the policy feed, whoever asks or does not."""
    token = await central.token()
    now = models.utc_now()
    until = now + datetime.timedelta(hours=1)
    new = NewLock("user", "dev@example.com", "laptop lost", "admin@example.com", until)
    await lock_changes.lock(central.database, new, now)
    await central.feed.refresh()
    told = f"locked: laptop lost (until {until:%Y-%m-%d %H:%M} UTC): ask your administrator"
    assert refused(await whoami(central, token), told)
    central.feed._today = lambda: until
    await central.feed.refresh()
    assert (await whoami(central, token)).status == 200
    await central.feed.refresh()
    answer = await central.call("GET", "/locks", token=await central.admin())
    assert answer.json["locks"] == []


async def test_several_locks_on_one_thing(central: Central) -> None:
    token = await central.token()
    first, second = await lock(central), await lock(central, reason="a second one")
    await unlock(central, first)
    assert refused(await whoami(central, token), TOLD.replace("laptop lost", "a second one"))
    await unlock(central, second)
    assert (await whoami(central, token)).status == 200


async def test_there_are_so_many_locks_at_most(
    central: Central, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock_changes, "MOST", 2)
    await lock(central)
    await lock(central)
    answer = await central.call("POST", "/locks", DEV, token=await central.admin())
    assert (answer.status, "2 locks" in answer.message) == (409, True)


async def test_a_login_that_a_lock_overtakes_is_refused(
    central: Central, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lock comes into force while the password is looked at."""
    issue = refresh.issue

    async def overtaken(*args: Any, **kwargs: Any) -> Any:
        issued = await issue(*args, **kwargs)
        new = NewLock("user", "dev@example.com", "laptop lost", "admin@example.com")
        await lock_changes.lock(central.database, new, central.context.now())
        await central.feed.refresh()
        return issued

    monkeypatch.setattr(refresh, "issue", overtaken)
    body = {"email": "dev@example.com", "password": PASSWORD}
    assert refused(await central.call("POST", "/auth/login", body))


async def test_a_refresh_token_of_nobody_is_looked_at_by_the_exchange(central: Central) -> None:
    login = await central.login()
    async with central.database.transaction() as session:
        email = col(models.User.email) == "dev@example.com"
        await session.execute(delete(models.User).where(email))
    assert (await exchange(central, login)).status == 401


async def test_attack_a_locked_login_delegates_where_nobody_has_heard_of_the_lock(
    central: Central,
) -> None:
    """As at another replica, which reads the lock a second later."""
    login = await central.login()
    identity = central.authenticator.authenticate(f"Bearer {login['access_token']}".encode())
    now = central.context.now()
    new = NewLock("login", identity.login, "laptop lost", "admin@example.com")
    await lock_changes.lock(central.database, new, now)
    ends = now + datetime.timedelta(minutes=5)
    child = NewLogin("child", identity.uid, ends, "delegation", parent=identity.login)
    with pytest.raises(Conflict, match="locked"):
        await open_delegation(central.database, child, "a hash", now)
