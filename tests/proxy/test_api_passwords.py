"""Passwords changed by their owners, and first ones that must be."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from mk8s_proxy.db import users
from mk8s_proxy.db.engine import Database
from mk8s_proxy.identity.identity import Unauthenticated
from mk8s_proxy.identity.throttle import PER_PAIR
from mk8s_proxy.settings.login import IssuerSettings, LoginSettings
from tests.support.management_api import PASSWORD, Answer, Central

NEW = "another good password"
FIRST = "chosen by an admin"


@pytest.fixture
async def central(sqlite_database: Database, tmp_path: Path) -> AsyncIterator[Central]:
    central = await Central.start(sqlite_database, tmp_path)
    yield central
    await central.close()


async def change(central: Central, token: str | None = None, **more: Any) -> Answer:
    body = {"email": "dev@example.com", "password": PASSWORD, "new_password": NEW}
    return await central.call("POST", "/auth/password", body | more, token=token)


async def newcomer(central: Central) -> None:
    body = {
        "email": "new@example.com",
        "password": FIRST,
        "must_change_password": True,
        "roles": ["developer"],
    }
    answer = await central.call("POST", "/users", body, token=await central.admin())
    assert (answer.status, answer.json["must_change_password"]) == (201, True)


def accepted(central: Central, token: str) -> bool:
    try:
        central.authenticator.authenticate(f"Bearer {token}".encode())
    except Unauthenticated:
        return False
    return True


async def test_a_change_ends_the_other_logins_and_not_this_one(central: Central) -> None:
    mine, other = await central.login(), await central.login()
    admin = await central.admin()
    answer = await change(central, mine["access_token"])
    assert answer.status == 204
    assert accepted(central, mine["access_token"])
    assert not accepted(central, other["access_token"])
    assert accepted(central, admin)
    again = {"refresh_token": mine["refresh_token"]}
    assert (await central.call("POST", "/auth/refresh", again)).status == 200
    ended = {"refresh_token": other["refresh_token"]}
    refused = await central.call("POST", "/auth/refresh", ended)
    assert (refused.status, "change of the password" in refused.message) == (401, True)
    await central.login(password=NEW)
    row = [row for row in central.rows() if row["objectRef"]["resource"] == "passwords"]
    assert [it["stage"] for it in row] == ["RequestReceived", "ResponseComplete"]
    assert {it["user"]["username"] for it in row} == {"dev@example.com"}
    assert row[0]["annotations"]["authorization.k8s.io/reason"] == "their own password"
    assert NEW not in central.journal_path.read_text()


async def test_a_change_without_a_login_ends_them_all(central: Central) -> None:
    mine = await central.login()
    assert (await change(central)).status == 204
    assert not accepted(central, mine["access_token"])
    old = await central.call(
        "POST", "/auth/login", {"email": "dev@example.com", "password": PASSWORD}
    )
    assert old.status == 401


async def test_attack_somebody_elses_token_keeps_no_login(central: Central) -> None:
    mine = await central.login()
    assert (await change(central, await central.admin())).status == 204
    assert not accepted(central, mine["access_token"])


async def test_attack_the_old_password_is_guessed_as_slowly_as_at_a_login(
    central: Central,
) -> None:
    answers = [await change(central, password="wrong") for _ in range(PER_PAIR.free + 2)]
    assert [it.status for it in answers[: PER_PAIR.free]] == [401] * PER_PAIR.free
    assert {it.status for it in answers[PER_PAIR.free :]} == {429}
    assert answers[0].message == "wrong email or password"
    login = {"email": "dev@example.com", "password": PASSWORD}
    assert (await central.call("POST", "/auth/login", login)).status == 429, "counted together"


@pytest.mark.parametrize("email", ["nobody@example.com", "admin", "token:ci", "a\x00b@c"])
async def test_nobody_has_no_password(central: Central, email: str) -> None:
    assert (await change(central, email=email)).status == 401


@pytest.mark.parametrize("new", [PASSWORD, "short"])
async def test_a_new_password_must_be_new_and_good(central: Central, new: str) -> None:
    answer = await change(central, new_password=new)
    assert (answer.status, answer.json["errors"][0]["field"]) == (422, "new_password")


async def test_nothing_is_changed_without_a_row(central: Central) -> None:
    mine = await central.login()
    central.journal.close()
    assert (await change(central, mine["access_token"])).status == 503
    user = await central.call("GET", "/auth/whoami", token=mine["access_token"])
    assert user.status == 200
    hashed = await _hash_of(central)
    assert await central.context.passwords.check(PASSWORD, hashed)


async def _hash_of(central: Central) -> str | None:
    return (await users.get_by_email(central.database, "dev@example.com")).password_hash


async def test_attack_a_first_password_opens_nothing_but_its_change(central: Central) -> None:
    await newcomer(central)
    body = {"email": "new@example.com", "password": FIRST}
    refused = await central.call("POST", "/auth/login", body)
    assert refused.status == 403
    assert "must be changed" in refused.message
    assert b"token" not in refused.raw
    assert central.last_row()["annotations"]["mk8s.io/refusal"] == "PASSWORD_MUST_CHANGE"
    changed = await change(central, email="new@example.com", password=FIRST)
    assert changed.status == 204
    login = await central.login("new@example.com", NEW)
    assert accepted(central, login["access_token"])


async def test_attack_must_change_is_not_told_to_who_has_not_the_password(
    central: Central,
) -> None:
    await newcomer(central)
    body = {"email": "new@example.com", "password": "guessed wrongly"}
    refused = await central.call("POST", "/auth/login", body)
    assert (refused.status, refused.message) == (401, "wrong email or password")


async def test_a_password_set_by_an_admin_can_ask_for_its_change(central: Central) -> None:
    login = await central.login()
    body = {"password": FIRST, "must_change_password": True}
    path = "/users/dev@example.com/password"
    assert (await central.call("PUT", path, body, token=await central.admin())).status == 204
    assert not accepted(central, login["access_token"])
    again = {"email": "dev@example.com", "password": FIRST}
    assert (await central.call("POST", "/auth/login", again)).status == 403
    refreshed = {"refresh_token": login["refresh_token"]}
    assert (await central.call("POST", "/auth/refresh", refreshed)).status == 401


async def test_attack_a_disabled_users_copied_access_token(central: Central) -> None:
    login = await central.login()
    path = "/users/dev@example.com/disabled"
    for disabled in (True, False):
        body = {"disabled": disabled}
        assert (await central.call("PUT", path, body, token=await central.admin())).status == 200
        assert not accepted(central, login["access_token"]), "also once the user is back"
        refreshed = {"refresh_token": login["refresh_token"]}
        refused = await central.call("POST", "/auth/refresh", refreshed)
        assert (refused.status, "disabled" in refused.message) == (401, True)


async def test_whoami_says_until_when_the_login_is_good(central: Central) -> None:
    """`tokens.refresh_seconds` is absolute: use does not prolong a login."""
    login = await central.login()
    central.now += 800
    body = {"refresh_token": login["refresh_token"]}
    again = (await central.call("POST", "/auth/refresh", body)).json
    assert again["refresh_expires_in"] == login["refresh_expires_in"] - 800
    before = (await central.call("GET", "/auth/whoami", token=login["access_token"])).json["login"]
    after = (await central.call("GET", "/auth/whoami", token=again["access_token"])).json["login"]
    assert after == before
    assert after["source"] == "password"
    assert after["client"].startswith("Python/")
    central.now += 12 * 3600
    late = await central.call("POST", "/auth/refresh", {"refresh_token": again["refresh_token"]})
    assert late.status == 401


async def test_where_single_sign_on_is_the_only_way_no_password_is_taken(
    sqlite_database: Database, tmp_path: Path
) -> None:
    issuer = IssuerSettings("acme", "https://sso.example", "mk8s")
    off = LoginSettings(passwords=False, issuers=(issuer,))
    central = await Central.start(sqlite_database, tmp_path, login=off)
    body = {"email": "dev@example.com", "password": PASSWORD}
    for path, more in (("/auth/login", {}), ("/auth/password", {"new_password": "another one 1"})):
        refused = await central.call("POST", path, body | more)
        assert (refused.status, "single sign-on" in refused.message) == (403, True)
        assert central.last_row()["responseStatus"]["code"] == 403
    await central.close()
