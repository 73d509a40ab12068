"""Logins over the real API server and database: listed, and ended by their owners and by admins."""

import datetime
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from mk8s_proxy.db import logins, users
from mk8s_proxy.db.engine import Database
from mk8s_proxy.identity import access_token, refresh
from mk8s_proxy.identity.identity import Login
from tests.support.management_api import NOW, PASSWORD, PUBLIC_URL, Answer, Central

DEV, ADMIN = "dev@example.com", "admin@example.com"
LATER = datetime.datetime.fromtimestamp(NOW + 3600, datetime.UTC)


@pytest.fixture
async def central(sqlite_database: Database, tmp_path: Path) -> AsyncIterator[Central]:
    central = await Central.start(sqlite_database, tmp_path)
    yield central
    await central.close()


async def listed(central: Central, token: str, query: str = "") -> list[Any]:
    answer = await central.call("GET", f"/logins{query}", token=token)
    assert answer.status == 200, answer.raw
    return list(answer.json["logins"])


async def id_of(central: Central, token: str) -> str:
    (current,) = [it["id"] for it in await listed(central, token) if it["current"]]
    return str(current)


async def knocks(central: Central, token: str) -> int:
    return (await central.call("GET", "/auth/whoami", token=token)).status


async def refreshes(central: Central, login: Any) -> Answer:
    body = {"refresh_token": login["refresh_token"]}
    return await central.call("POST", "/auth/refresh", body)


async def service_token(central: Central, **more: Any) -> str:
    body = {"name": "ci", "roles": ["developer"], "expires_in": 86400, **more}
    answer = await central.call("POST", "/tokens", body, token=await central.admin())
    assert answer.status == 201, answer.raw
    return str(answer.json["token"])


async def delegated(central: Central, email: str = DEV, parent: str = "") -> tuple[str, str]:
    """The id of a delegation, and an access token of it."""
    user = await users.get_by_email(central.database, email)
    new = logins.NewLogin(
        f"delegated-{parent[:8]}", user.id, LATER, logins.DELEGATION,
        label="k9s", narrowing='{"verbs":["get"]}', parent=parent,
    )  # fmt: skip
    opened = await refresh.open_login(central.database, new, now=central.context.now())
    login = Login(new.id, LATER.timestamp(), (), new.narrowing, opened.delegate)
    token, _ = access_token.mint(
        central.keys, user=user, cluster=None, issuer=PUBLIC_URL, lifetime=60, now=NOW, login=login
    )
    return new.id, token


async def test_people_see_their_own_logins_and_from_where(central: Central) -> None:
    headers = {"User-Agent": "mk8s-cli"}
    body = {"email": DEV, "password": PASSWORD}
    sent = {"source": "198.51.100.7", "headers": headers}
    token = (await central.call("POST", "/auth/login", body, **sent)).json["access_token"]
    central.now += 5
    await central.login()
    await central.admin()
    newer, older = await listed(central, token)
    assert (older["current"], newer["current"]) == (True, False)
    assert (older["client"], older["address"]) == ("mk8s-cli", "198.51.100.7")
    assert newer["address"] == "192.0.2.1"
    assert {it["user"] for it in (older, newer)} == {DEV}
    assert (older["source"], older["status"], older["narrowing"]) == ("password", "active", None)
    assert (older["ended_at"], older["ended_why"], older["parent"]) == (None, "", "")
    ends = datetime.datetime.fromisoformat(older["ends_at"]).timestamp()
    assert ends == NOW + 43200


async def test_a_login_ends_at_once_with_all_that_came_of_it(central: Central) -> None:
    kept, other = await central.login(), await central.login()
    child, child_token = await delegated(
        central, parent=await id_of(central, other["access_token"])
    )
    where = f"/logins/{await id_of(central, other['access_token'])}"
    assert (await central.call("DELETE", where, token=kept["access_token"])).status == 204
    assert await knocks(central, kept["access_token"]) == 200
    assert await knocks(central, other["access_token"]) == 401
    assert await knocks(central, child_token) == 401
    assert "from another one of yours" in (await refreshes(central, other)).message
    assert (await refreshes(central, kept)).status == 200
    row = next(it for it in reversed(central.rows()) if it["verb"] == "delete")
    assert row["objectRef"]["resource"] == "logins"
    assert where.endswith(row["objectRef"]["name"])
    assert row["annotations"]["authorization.k8s.io/reason"] == "their own login"
    ended = {it["id"]: it for it in await listed(central, kept["access_token"], "?status=ended")}
    assert ended[child]["ended_why"] == "parent ended"
    assert len(ended) == 2
    assert (await central.call("DELETE", where, token=kept["access_token"])).status == 204


async def test_ends_are_in_the_database_for_the_other_replicas(
    central: Central, tmp_path: Path
) -> None:
    kept, other = await central.login(), await central.login()
    where = f"/logins/{await id_of(central, other['access_token'])}"
    await central.call("DELETE", where, token=kept["access_token"])
    sibling = await Central.start_again(central.database, tmp_path / "sibling")
    try:
        assert await knocks(sibling, other["access_token"]) == 401
        assert await knocks(sibling, kept["access_token"]) == 200
    finally:
        await sibling.close()


async def test_all_other_logins_end_and_this_one_too_if_asked(central: Central) -> None:
    here, *others = [await central.login() for _ in range(3)]
    stranger = await central.admin()
    token = here["access_token"]
    answer = await central.call("DELETE", "/logins", token=token)
    assert (answer.status, answer.json) == (200, {"ended": 2})
    assert [await knocks(central, it["access_token"]) for it in others] == [401, 401]
    assert await knocks(central, token) == 200
    assert (await central.call("DELETE", "/logins?this=true", token=token)).json == {"ended": 1}
    assert await knocks(central, token) == 401
    assert await knocks(central, stranger) == 200
    verbs = [it["verb"] for it in central.rows() if it["objectRef"]["resource"] == "logins"]
    assert "deletecollection" in verbs


async def test_attack_the_login_of_somebody_else_looks_like_none(central: Central) -> None:
    admin, dev = await central.admin(), await central.token()
    foreign, unknown = await id_of(central, admin), "00000000-0000-4000-8000-000000000000"
    answers = [
        await central.call("DELETE", f"/logins/{it}", token=dev) for it in (foreign, unknown)
    ]
    bodies = [
        it.raw.replace(name.encode(), b"ID").replace(it.json["instance"].encode(), b"")
        for it, name in zip(answers, (foreign, unknown), strict=True)
    ]
    assert [it.status for it in answers] == [404, 404]
    assert bodies[0] == bodies[1]
    assert await knocks(central, admin) == 200
    rows = [it for it in central.rows() if it["verb"] == "delete"]
    assert [it["annotations"]["authorization.k8s.io/decision"] for it in rows] == ["forbid"] * 2


@pytest.mark.parametrize("query", ["?all=true", f"?user={ADMIN}", "?user=nobody@example.com"])
async def test_attack_the_logins_of_others_are_listed_by_admins_only(
    central: Central, query: str
) -> None:
    answer = await central.call("GET", f"/logins{query}", token=await central.token())
    assert (answer.status, answer.message) == (403, 'the logins of others need the role "admin"')
    assert len(await listed(central, await central.token(), f"?user={DEV}")) == 2


async def test_attack_nobody_but_admins_ends_the_logins_of_a_user(central: Central) -> None:
    admin = await central.admin()
    answer = await central.call("DELETE", f"/users/{ADMIN}/logins", token=await central.token())
    assert answer.status == 403
    assert await knocks(central, admin) == 200


async def test_admins_see_and_end_everybodys(central: Central) -> None:
    first, second = await central.login(), await central.login()
    admin, job = await central.admin(), await service_token(central)
    everybody = await listed(central, admin, "?all=true")
    assert {it["user"] for it in everybody} == {DEV, ADMIN, "token:ci"}
    assert len(await listed(central, admin, f"?user={DEV}")) == 2
    (of_job,) = await listed(central, admin, "?user=token:ci")
    assert (of_job["source"], of_job["address"]) == ("service_token", "192.0.2.1")
    assert await listed(central, admin, "?all=true&source=service_token") == [of_job]
    where = f"/logins/{await id_of(central, first['access_token'])}"
    assert (await central.call("DELETE", where, token=admin)).status == 204
    assert "ended by an administrator" in (await refreshes(central, first)).message
    answer = await central.call("DELETE", f"/users/{DEV}/logins", token=admin)
    assert (answer.status, answer.json) == (200, {"ended": 1})
    assert await knocks(central, second["access_token"]) == 401
    assert central.last_row()["objectRef"]["name"] == DEV
    assert (await listed(central, admin, f"?user={DEV}&status=active")) == []
    assert await knocks(central, job) == 200
    assert (await central.login())["access_token"], "who was logged out may log in again"


@pytest.mark.parametrize("path", ["/logins?user=x", "/logins?user=token:x"])
async def test_the_logins_of_nobody(central: Central, path: str) -> None:
    assert (await central.call("GET", path, token=await central.admin())).status == 404


async def test_everybody_and_somebody_at_once_is_neither(central: Central) -> None:
    path = f"/logins?all=true&user={DEV}"
    answer = await central.call("GET", path, token=await central.admin())
    assert (answer.status, answer.field) == (422, "all")


async def test_the_login_of_a_service_token_is_ended_for_good(
    central: Central, tmp_path: Path
) -> None:
    admin, job = await central.admin(), await service_token(central)
    (of_job,) = await listed(central, job)
    assert (of_job["current"], of_job["user"]) == (True, "token:ci")
    assert (await central.call("DELETE", f"/logins/{of_job['id']}", token=admin)).status == 204
    assert await knocks(central, job) == 401
    # Ended logins are remembered for an hour; this one was to live for a day.
    central.now += 7200
    await central.feed.refresh()
    assert await knocks(central, job) == 401
    sibling = await Central.start_again(central.database, tmp_path / "sibling")
    sibling.now = central.now
    assert await knocks(sibling, job) == 401
    await sibling.close()
    (ended,) = await listed(central, await central.admin(), "?all=true&source=service_token")
    assert (ended["user"], ended["ended_why"]) == ("token:ci", "revoked")


async def test_attack_an_old_secret_ends_the_one_that_follows_it(central: Central) -> None:
    old = await service_token(central)
    answer = await central.call(
        "POST", "/tokens/ci/rotate", {"overlap": 600}, token=await central.admin()
    )
    new = answer.json["token"]
    (current,) = [it for it in await listed(central, new) if it["current"]]
    for path in ("/logins", "/logins?this=true", f"/logins/{current['id']}"):
        refused = await central.call("DELETE", path, token=old)
        assert refused.status == 403
        assert "an administrator ends the others" in refused.message
    assert await knocks(central, new) == 200


async def test_attack_a_job_ends_the_other_jobs_of_its_name(central: Central) -> None:
    user = await users.get_by_email(central.database, DEV)
    tokens = []
    for name in ("job-1", "job-2"):
        new = logins.NewLogin(name, user.id, LATER, logins.FEDERATION, issuer="ci")
        await refresh.open_login(central.database, new, now=central.context.now())
        token, _ = access_token.mint(
            central.keys, user=user, cluster=None, issuer=PUBLIC_URL, lifetime=60, now=NOW,
            login=Login(new.id, LATER.timestamp()),
        )  # fmt: skip
        tokens.append(token)
    for path in ("/logins/job-2", "/logins", "/logins?this=true"):
        assert (await central.call("DELETE", path, token=tokens[0])).status == 403
    assert await knocks(central, tokens[1]) == 200
    assert (await central.call("DELETE", "/logins/job-1", token=tokens[0])).status == 204
    assert [await knocks(central, token) for token in tokens] == [401, 200]
    admin = await central.admin()
    assert (await central.call("DELETE", "/logins/job-2", token=admin)).status == 204


async def test_a_service_token_that_administers_ends_others_but_not_its_own_all(
    central: Central,
) -> None:
    robot = await service_token(central, roles=["admin"])
    login = await central.login()
    where = f"/logins/{await id_of(central, login['access_token'])}"
    assert (await central.call("DELETE", where, token=robot)).status == 204
    assert await knocks(central, login["access_token"]) == 401
    assert (await central.call("DELETE", "/logins", token=robot)).status == 403


async def test_attack_a_delegation_of_an_admin_looks_around_and_ends_logins(
    central: Central,
) -> None:
    admin = await central.admin()
    parent = await id_of(central, admin)
    child, token = await delegated(central, ADMIN, parent)
    for path in ("/logins", "/logins?all=true"):
        answer = await central.call("GET", path, token=token)
        seen = [it["id"] for it in answer.json["logins"]] if answer.status == 200 else [child]
        assert seen == [child]
    for path in ("/logins", f"/logins/{parent}", f"/users/{ADMIN}/logins"):
        assert (await central.call("DELETE", path, token=token)).status == 403
    assert await knocks(central, admin) == 200
    (shown,) = [it for it in await listed(central, admin) if it["id"] == child]
    assert (shown["narrowing"], shown["label"]) == ({"verbs": ["get"]}, "k9s")
    assert shown["parent"] == parent


async def test_pages_go_on_where_they_ended(central: Central) -> None:
    token = ""
    for number in range(5):
        central.now = NOW + number // 2  # two at the same moment
        token = await central.token()
    seen: list[str] = []
    query = "?limit=2&status=active"
    while query:
        answer = await central.call("GET", f"/logins{query}", token=token)
        seen += [it["id"] for it in answer.json["logins"]]
        cursor = answer.json["next_cursor"]
        query = f"?limit=2&status=active&cursor={cursor}" if cursor else ""
    assert seen == [it["id"] for it in await listed(central, token)]
    assert len(set(seen)) == 5


async def test_attack_the_cursor_of_somebody_else(central: Central) -> None:
    tokens = [await central.token() for _ in range(2)]
    first = await central.call("GET", "/logins?limit=1", token=tokens[0])
    path = f"/logins?limit=1&cursor={first.json['next_cursor']}"
    assert (await central.call("GET", path, token=tokens[1])).status == 200
    answer = await central.call("GET", path, token=await central.admin())
    assert (answer.status, answer.field) == (400, "cursor")


async def test_logins_that_are_over_are_ended_ones(central: Central) -> None:
    await central.login()
    central.now += 43200
    token = await central.token()
    assert [it["current"] for it in await listed(central, token, "?status=active")] == [True]
    (over,) = await listed(central, token, "?status=ended")
    assert (over["status"], over["ended_at"]) == ("ended", None)


async def test_a_new_password_ends_the_other_logins_and_says_so(central: Central) -> None:
    here, other = await central.login(), await central.login()
    token = here["access_token"]
    body = {"email": DEV, "password": PASSWORD, "new_password": "another horse battery"}
    assert (await central.call("POST", "/auth/password", body, token=token)).status == 204
    (ended,) = await listed(central, token, "?status=ended")
    assert (ended["ended_why"], ended["current"]) == ("password changed", False)
    assert await knocks(central, other["access_token"]) == 401
    assert await knocks(central, token) == 200


async def test_a_password_that_an_admin_sets_ends_all(central: Central) -> None:
    login, admin = await central.login(), await central.admin()
    body = {"password": "another horse battery"}
    assert (await central.call("PUT", f"/users/{DEV}/password", body, token=admin)).status == 204
    assert await knocks(central, login["access_token"]) == 401
    (ended,) = await listed(central, admin, f"?user={DEV}")
    assert ended["ended_why"] == "password changed"


async def test_who_is_disabled_has_no_login_any_more(central: Central) -> None:
    login, admin = await central.login(), await central.admin()
    body = {"disabled": True}
    assert (await central.call("PUT", f"/users/{DEV}/disabled", body, token=admin)).status == 200
    assert await knocks(central, login["access_token"]) == 401
    assert (await refreshes(central, login)).status == 401
    (ended,) = await listed(central, admin, f"?user={DEV}")
    assert (ended["status"], ended["ended_why"]) == ("ended", "disabled")


async def test_an_address_that_is_too_long_is_cut(central: Central) -> None:
    body = {"email": DEV, "password": PASSWORD}
    answer = await central.call("POST", "/auth/login", body, source="9" * 100)
    (login,) = await listed(central, answer.json["access_token"])
    assert login["address"] == "9" * 64


async def test_nothing_is_ended_without_a_row(central: Central) -> None:
    token = await central.token()
    other = await id_of(central, await central.token())
    async with central.database.transaction() as session:
        before = await session.scalar(text("SELECT count(*) FROM ended_tokens"))
    central.journal.close()
    answer = await central.call("DELETE", f"/logins/{other}", token=token)
    assert answer.status == 503
    async with central.database.transaction() as session:
        assert await session.scalar(text("SELECT count(*) FROM ended_tokens")) == before
