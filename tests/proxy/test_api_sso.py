"""Single sign-on through a browser, over HTTP, with an issuer that does as it is told."""

import asyncio
import datetime
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from sqlalchemy import text

from mk8s_proxy.api import issuer_refresh, sign_in, sso
from mk8s_proxy.api.context import FEW_SIGN_INS, SIGN_INS
from mk8s_proxy.db import logins, pending_logins, upstream_tokens, user_identities, users
from mk8s_proxy.db.engine import Database, WaysIn
from mk8s_proxy.identity.lost_groups import LostGroups, is_lost_group
from mk8s_proxy.identity.oidc import fetch
from mk8s_proxy.identity.token_claims import LEEWAY
from mk8s_proxy.process.ended_tokens import EndedTokens
from mk8s_proxy.settings.login import FederationSettings, LoginSettings
from mk8s_proxy.settings.model import Settings
from tests.support import oidc_provider, sso_browser
from tests.support.management_api import NOW, PUBLIC_URL, Central
from tests.support.sso_browser import STATE, Browser, exchange, logged_in, query_of


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "_PAUSE", 0.0)


@pytest.fixture
async def remote() -> AsyncIterator[oidc_provider.Provider]:
    provider = oidc_provider.Provider(clock=lambda: NOW)
    server = await provider.start()
    yield provider
    await server.close()


@pytest.fixture
async def central(
    sqlite_database: Database, tmp_path: Path, remote: oidc_provider.Provider
) -> AsyncIterator[Central]:
    login = LoginSettings(
        issuers=(sso_browser.settings(remote), sso_browser.settings(remote, "evil")),
        federation=(FederationSettings("ci", "https://ci.example", "mk8s"),),
    )
    central = await Central.start(sqlite_database, tmp_path, login=login)
    yield central
    await central.close()


async def refresh(central: Central, token: str) -> Any:
    return await central.call("POST", "/auth/refresh", {"refresh_token": token})


async def test_methods(central: Central) -> None:
    answer = await central.call("GET", "/auth/methods")
    assert answer.json == {
        "passwords": True,
        "issuers": [{"name": "acme", "title": "Acme"}, {"name": "evil", "title": "Acme"}],
        "device": True,
        "federation": [{"name": "ci", "audience": "mk8s"}],
    }


async def test_a_login_through_a_browser(central: Central) -> None:
    browser = Browser(central)
    got = await browser.sign_in()
    assert (got["state"], got["iss"]) == (STATE, PUBLIC_URL)
    answer = await exchange(central, got["code"])
    assert answer.status == 200, answer.raw
    tokens = answer.json
    assert tokens["user"]["email"] == "ann@example.com"
    assert tokens["refresh_expires_in"] == 12 * 3600
    identity = central.authenticator.authenticate(f"Bearer {tokens['access_token']}".encode())
    assert identity.groups == ("mk8s:users", "acme:devs", "acme:ops")
    login = await logins.get_login(central.database, identity.login)
    assert (login.source, login.issuer, login.address) == ("oidc", "acme", "192.0.2.1")
    assert login.groups == ("acme:devs", "acme:ops")
    assert login.claims["sub"] == "u-1"
    row = central.last_row()
    assert (row["user"]["username"], row["responseStatus"]["code"]) == ("ann@example.com", 200)


async def test_the_cookie_is_of_this_host_and_for_no_script(central: Central) -> None:
    browser = Browser(central)
    answer = await browser.start()
    assert browser.cookie.startswith("__Host-mk8s-login=")
    told = {part.strip() for part in browser.cookie_attributes.split(";")}
    assert told == {"HttpOnly", "Max-Age=1200", "Path=/", "SameSite=Lax", "Secure"}
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    kept = browser.cookie
    await browser.start()
    assert browser.cookie == kept, "two logins at the same time do not end each other"


async def test_a_person_who_comes_again_is_the_same_user(
    central: Central, remote: oidc_provider.Provider
) -> None:
    first = await logged_in(central)
    remote.person["email"] = "renamed@example.com"
    central.now += 7200
    remote.clock = lambda: NOW + 7200
    second = await logged_in(central)
    assert first["user"]["id"] == second["user"]["id"]
    (identity,) = await user_identities.identities_of(central.database, first["user"]["id"])
    assert identity.last_used.timestamp() == NOW + 7200


async def test_two_first_logins_at_once_make_one_user(central: Central) -> None:
    one, other = await asyncio.gather(logged_in(central), logged_in(central))
    assert one["user"]["id"] == other["user"]["id"]


# What goes wrong is told to the program.


async def told(central: Central, remote: oidc_provider.Provider) -> dict[str, str]:
    got = await Browser(central).sign_in()
    assert "code" not in got
    assert (got["state"], got["iss"]) == (STATE, PUBLIC_URL)
    assert central.last_row()["responseStatus"]["code"] >= 400
    return got


async def test_attack_email_of_a_local_user(
    central: Central, remote: oidc_provider.Provider
) -> None:
    remote.person["email"] = "ADMIN@example.com"
    got = await told(central, remote)
    assert got["error"] == "access_denied"
    assert "mk8s admin users link admin@example.com --issuer acme" in got["error_description"]


async def test_attack_email_of_another_issuers_user(
    sqlite_database: Database, tmp_path: Path, remote: oidc_provider.Provider
) -> None:
    other = oidc_provider.Provider(clock=lambda: NOW)
    server = await other.start()
    issuers = (sso_browser.settings(remote), sso_browser.settings(other, "evil"))
    central = await Central.start(sqlite_database, tmp_path, login=LoginSettings(issuers=issuers))
    await logged_in(central)
    got = await Browser(central).sign_in(issuer="evil")
    assert (got["error"], "link" in got["error_description"]) == ("access_denied", True)
    await central.close()
    await server.close()


@pytest.mark.parametrize(
    ("claims", "says"),
    [
        ({"email_verified": False}, "has not verified your email address"),
        ({"email": "system:masters"}, "cannot be a user's name"),
        ({"groups": [f"g{n}" for n in range(5000)]}, "5000 groups, of at most 200"),
        ({"groups": ["a\nb"]}, "cannot be a group's name"),
    ],
)
async def test_attack_bad_claims(
    central: Central, remote: oidc_provider.Provider, claims: dict[str, Any], says: str
) -> None:
    remote.person |= claims
    got = await told(central, remote)
    assert got["error"] == "access_denied"
    assert says in got["error_description"]


async def test_attack_an_id_token_of_another_login(
    central: Central, remote: oidc_provider.Provider
) -> None:
    remote.token = {"nonce": "another"}
    assert "nonce" in (await told(central, remote))["error_description"]


async def test_a_disabled_user_is_not_let_in(central: Central) -> None:
    tokens = await logged_in(central)
    await users.set_disabled(central.database, tokens["user"]["id"], True)
    got = await Browser(central).sign_in()
    assert (got["error"], "disabled" in got["error_description"]) == ("access_denied", True)


async def test_an_account_that_is_gone_between_the_browser_and_the_program(
    central: Central,
) -> None:
    got = await Browser(central).sign_in()
    user = await users.get_by_email(central.database, "ann@example.com")
    await users.delete_user(central.database, user.id)
    refused = await exchange(central, got["code"])
    assert (refused.status, "gone" in refused.message) == (403, True)


async def test_an_issuer_that_is_down_lets_nobody_in(
    central: Central, remote: oidc_provider.Provider
) -> None:
    remote.broken = "/.well-known/openid-configuration"
    begun = await Browser(central).start()
    got = sso_browser.query_of(begun.headers["Location"])
    assert got["error"] == "temporarily_unavailable"
    assert (got["state"], got["iss"]) == (STATE, PUBLIC_URL)


async def test_an_issuer_that_goes_down_on_the_way(
    central: Central, remote: oidc_provider.Provider
) -> None:
    remote.status = 500
    got = await told(central, remote)
    assert got["error"] == "temporarily_unavailable"


# What comes back must be what was sent.


async def callback(central: Central, remote: oidc_provider.Provider) -> tuple[Browser, str]:
    browser = Browser(central)
    begun = await browser.start()
    return browser, await browser.at_issuer(begun.headers["Location"])


async def test_attack_a_foreign_browser_brings_the_answer(
    central: Central, remote: oidc_provider.Provider
) -> None:
    """Login CSRF: who was sent an attacker's answer does not become the attacker."""
    browser, back = await callback(central, remote)
    for stranger in (Browser(central), Browser(central)):
        refused = await stranger.open(back)
        assert (refused.status, b"another browser" in refused.raw) == (400, True)
        await stranger.open("/auth/device")
    assert (await stranger.open(back)).status == 400, "nor with a cookie of its own"
    assert (await browser.open(back)).status == 303, "and the right one is not stopped by it"


async def test_attack_an_answer_replayed(central: Central, remote: oidc_provider.Provider) -> None:
    browser, back = await callback(central, remote)
    assert "code=" in (await browser.open(back)).headers["Location"]
    assert (await browser.open(back)).status == 400
    assert central.last_row()["responseStatus"]["code"] == 400


async def test_an_answer_that_comes_late(central: Central, remote: oidc_provider.Provider) -> None:
    browser, back = await callback(central, remote)
    central.now += sign_in.SIGN_IN_SECONDS
    assert (await browser.open(back)).status == 400


async def test_two_answers_at_the_same_time(
    central: Central, remote: oidc_provider.Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser, back = await callback(central, remote)
    both = await asyncio.gather(browser.open(back), browser.open(back))
    assert sorted(it.status for it in both) == [303, 400]


@pytest.mark.parametrize("query", ["", "?state=", "?state=x&code=y", "?code=y&error=z"])
async def test_attack_an_answer_that_nobody_asked_for(central: Central, query: str) -> None:
    refused = await Browser(central).open(f"/auth/sso/callback/acme{query}")
    assert refused.status == 400
    assert refused.headers["Content-Type"].startswith("text/html")
    assert "script" not in refused.headers["Content-Security-Policy"]


async def test_attack_mixed_up_issuers(central: Central, remote: oidc_provider.Provider) -> None:
    browser, back = await callback(central, remote)
    wrong = back.replace(remote.url, "https://evil.example")
    assert wrong != back
    got = sso_browser.query_of((await browser.open(wrong)).headers["Location"])
    assert (got["error"], "another issuer" in got["error_description"]) == ("access_denied", True)
    assert remote.forms == [], "the code is not shown to anybody"


async def test_attack_an_issuer_that_passes_on_the_answer_of_one_that_names_itself_nowhere(
    central: Central, remote: oidc_provider.Provider
) -> None:
    """The browser logs in at "evil", which sends it on to acme: acme's code must not reach evil."""
    remote.sends_iss = False
    browser = Browser(central)
    at_evil = (await browser.start(issuer="evil")).headers["Location"]
    assert query_of(at_evil)["redirect_uri"] == f"{PUBLIC_URL}/auth/sso/callback/evil"
    state = query_of(at_evil)["state"]
    passed_on = f"/auth/sso/callback/acme?code=acmes-code&state={state}"
    refused = await browser.open(passed_on)
    assert (refused.status, remote.forms) == (400, [])
    assert "Location" not in refused.headers
    back = await browser.open(await browser.at_issuer(at_evil))
    assert "code" in query_of(back.headers["Location"]), "the login at evil itself goes on"


@pytest.mark.parametrize(
    "host", ["mk8s.internal:8443", "central.example.com", "central.example.com:8443.evil.example"]
)
async def test_who_comes_by_another_address_is_told_at_once(
    central: Central, remote: oidc_provider.Provider, host: str
) -> None:
    """Else the program would wait in vain: at central's own address there is no cookie."""
    browser = Browser(central)
    browser.host = host
    answer = await browser.start()
    assert answer.headers["Location"].startswith(f"{sso_browser.LOOPBACK}?"), "and nowhere else"
    got = query_of(answer.headers["Location"])
    assert (got["error"], got["state"], got["iss"]) == ("invalid_request", STATE, PUBLIC_URL)
    assert PUBLIC_URL in got["error_description"]
    assert not {"evil", "internal"} & set(re.findall("[a-z]+", answer.headers["Location"]))
    assert (browser.cookie, remote.asked) == ("", [])


async def test_the_address_in_another_spelling(central: Central) -> None:
    browser = Browser(central)
    browser.host = browser.host.upper()
    assert "state" in query_of((await browser.start()).headers["Location"])
    assert sso._authority("Central.example.com:443") == sso._authority("central.example.com")


async def test_who_says_no_at_the_issuer(central: Central, remote: oidc_provider.Provider) -> None:
    browser, back = await callback(central, remote)
    state = sso_browser.query_of(back)["state"]
    said = f"/auth/sso/callback/acme?state={state}&error=access_denied&iss={remote.url}"
    got = sso_browser.query_of((await browser.open(said)).headers["Location"])
    assert got["error"] == "access_denied"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("redirect_uri", "https://evil.example/callback"),
        ("redirect_uri", "http://127.0.0.1.evil.example:1/callback"),
        ("redirect_uri", "http://127.0.0.1:1/callback/../x"),
        ("redirect_uri", "http://127.0.0.1:0/callback"),
        ("redirect_uri", "http://127.0.0.1:65536/callback"),
        ("redirect_uri", "http://127.0.0.1:1@evil.example/callback"),
        ("redirect_uri", "http://localhost:1/callback"),
        ("redirect_uri", "http://127.0.0.1/callback"),
        ("redirect_uri", "http://127.0.0.1:1/callback?x"),
        ("redirect_uri", "http://127.0.0.1:1/callback\r\nx: y"),
        ("state", "short"),
        ("state", "with spaces in it, long"),
        ("code_challenge", "x"),
        ("code_challenge_method", "plain"),
        ("issuer", "../x"),
    ],
)
async def test_attack_open_redirects_and_weak_challenges(
    central: Central, name: str, value: str
) -> None:
    refused = await Browser(central).start(**{name: value})
    assert (refused.status, refused.field) == (422, name)
    assert "Location" not in refused.headers


async def test_ipv6_listens_too(central: Central) -> None:
    place = "http://[::1]:9/callback"
    got = await Browser(central).sign_in(redirect_uri=place)
    assert (await exchange(central, got["code"], redirect_uri=place)).status == 200


async def test_an_issuer_that_is_none(central: Central) -> None:
    assert (await Browser(central).start(issuer="other")).status == 404


# The code.


@pytest.mark.parametrize(
    "more",
    [
        {"code_verifier": "x" * 43},
        {"redirect_uri": "http://127.0.0.1:7778/callback"},
        {"code": "unknown"},
    ],
)
async def test_attack_a_loopback_listener_that_gets_a_foreign_code(
    central: Central, more: dict[str, str]
) -> None:
    """Whoever has the code has not the verifier; and after one wrong try it is over."""
    got = await Browser(central).sign_in()
    assert (await exchange(central, **({"code": got["code"]} | more))).status == 401
    after = await exchange(central, got["code"])
    assert after.status == (200 if "code" in more else 401)


async def test_attack_a_code_replayed_ends_the_login(central: Central) -> None:
    got = await Browser(central).sign_in()
    tokens = (await exchange(central, got["code"])).json
    assert (await exchange(central, got["code"])).status == 401
    assert central.last_row()["responseStatus"]["code"] == 401
    who = await central.call("GET", "/auth/whoami", token=tokens["access_token"])
    assert who.status == 401
    assert (await refresh(central, tokens["refresh_token"])).status == 401


async def test_attack_a_code_replayed_before_its_login_has_begun(
    central: Central, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two replicas, one code: the second finds no login to end yet."""
    code, opened = (await Browser(central).sign_in())["code"], sign_in.open_login
    seconds: list[int] = []

    async def open_late(*arguments: Any, **named: Any) -> Any:
        seconds.append((await exchange(central, code)).status)
        return await opened(*arguments, **named)

    monkeypatch.setattr(sign_in, "open_login", open_late)
    assert ((await exchange(central, code)).status, seconds) == (401, [401])
    user = await users.get_by_email(central.database, "ann@example.com")
    asked = f"/logins?user={user.email}"
    (login,) = (await central.call("GET", asked, token=await central.admin())).json["logins"]
    assert (login["status"], login["ended_why"]) == ("ended", logins.REUSED)


async def test_a_code_is_good_for_a_minute(central: Central) -> None:
    got = await Browser(central).sign_in()
    central.now += sso.CODE_SECONDS
    assert (await exchange(central, got["code"])).status == 401


async def test_a_code_is_no_other_secret(central: Central) -> None:
    browser = Browser(central)
    begun = await browser.start()
    state = sso_browser.query_of(begun.headers["Location"])["state"]
    assert (await exchange(central, state)).status == 401


async def test_no_secret_is_readable_in_the_database(central: Central) -> None:
    got = await Browser(central).sign_in()
    async with central.database.session() as session:
        states = await session.scalars(text("SELECT state FROM pending_logins"))
    kept = "".join(states)
    assert got["code"] not in kept
    assert "upstream-" not in kept
    assert "sealed:v1:" in kept
    await exchange(central, got["code"])
    async with central.database.session() as session:
        sealed = await session.scalars(text("SELECT sealed FROM upstream_tokens"))
    kept = "".join(sealed)
    assert "upstream-" not in kept
    assert "sealed:v1:" in kept


# Bounds.


async def test_attack_logins_begun_without_end_from_one_address(central: Central) -> None:
    browser = Browser(central)
    for _ in range(SIGN_INS):
        assert (await browser.start()).status == 303
    got = sso_browser.query_of((await browser.start()).headers["Location"])
    assert got["error"] == "temporarily_unavailable"
    other = sso_browser.query_of(
        (await Browser(central, "198.51.100.1").start()).headers["Location"]
    )
    assert "nonce" in other


@pytest.mark.parametrize("kind", ["image", "iframe", "empty", "script"])
async def test_attack_a_page_that_begins_logins_in_its_readers_name(
    central: Central, kind: str
) -> None:
    page = Browser(central)
    page.embedded_as = kind
    for _ in range(SIGN_INS):
        refused = await page.start()
        assert (refused.status, page.cookie) == (403, "")
    page.embedded_as = "document"
    assert (await page.start()).status == 303, "the reader still has all of theirs"


async def test_attack_logins_begun_without_end_from_everywhere(
    central: Central, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pending_logins, "MOST", 2)
    for address in range(2):
        await Browser(central, f"198.51.100.{address}").start()
    begun = await Browser(central).start()
    assert "too+many+logins" in begun.headers["Location"]
    central.now += sign_in.SIGN_IN_SECONDS + 1
    assert "nonce" in (await Browser(central).start()).headers["Location"]


async def test_attack_a_few_addresses_that_take_all_places(
    central: Central, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What one address has more than a few of may fill half of the places, and no more."""
    monkeypatch.setattr(pending_logins, "MOST", 2 * (FEW_SIGN_INS + 1))
    attacker = Browser(central, "198.51.100.1")
    begun = [(await attacker.start()).headers["Location"] for _ in range(SIGN_INS)]
    assert sum("nonce" in it for it in begun) == FEW_SIGN_INS + 1
    assert "too+many+logins" in begun[-1]
    assert "nonce" in (await Browser(central).start()).headers["Location"]


# The refresh.


async def test_a_refresh_asks_the_issuer_again(
    central: Central, remote: oidc_provider.Provider
) -> None:
    tokens = await logged_in(central)
    remote.person["groups"] = ["ops"]
    again = (await refresh(central, tokens["refresh_token"])).json
    assert remote.forms[-1]["refresh_token"] == "upstream-1"
    identity = central.authenticator.authenticate(f"Bearer {again['access_token']}".encode())
    assert identity.groups == ("mk8s:users", "acme:ops")
    assert (await logins.get_login(central.database, identity.login)).groups == ("acme:ops",)
    await refresh(central, again["refresh_token"])
    assert remote.forms[-1]["refresh_token"] == "upstream-2"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"status": 400}, "the issuer ended it"),
        ({"token": {"sub": "u-2"}}, "somebody else"),
        ({"token": {"groups": ["a\x00"]}}, "cannot be a group's name"),
        ({"token": {"aud": "another"}}, "made for somebody else"),
    ],
)
async def test_who_is_out_at_the_issuer_is_out_at_the_next_refresh(
    central: Central, remote: oidc_provider.Provider, change: dict[str, Any], says: str
) -> None:
    tokens = await logged_in(central)
    for name, value in change.items():
        setattr(remote, name, value)
    refused = await refresh(central, tokens["refresh_token"])
    assert (refused.status, says in refused.message) == (401, True), refused.message
    who = await central.call("GET", "/auth/whoami", token=tokens["access_token"])
    assert who.status == 401
    late = await refresh(central, tokens["refresh_token"])
    assert "ended by its issuer" in late.message


async def test_attack_a_token_from_before_keeps_a_group_that_the_issuer_took(
    central: Central, remote: oidc_provider.Provider
) -> None:
    """One's own and a delegation's; also on another replica, and when the group has come back."""
    tokens = await logged_in(central)
    made = await central.call(
        "POST", "/delegations", {"seconds": 1800}, token=tokens["access_token"]
    )
    old = [tokens["access_token"], made.json["access_token"]]
    assert [groups_by(central, it) for it in old] == [("mk8s:users", "acme:devs", "acme:ops")] * 2
    remote.person["groups"] = ["ops"]
    again = (await refresh(central, tokens["refresh_token"])).json
    assert [groups_by(central, it) for it in old] == [("mk8s:users", "acme:ops")] * 2
    told: list[tuple[str, float]] = []
    await EndedTokens(central.database, lambda ended, expires: told.append((ended, expires))).look()
    elsewhere = LostGroups()
    for ended, expires in told:
        assert is_lost_group(ended)
        elsewhere.add(ended, expires)
    assert len(elsewhere) == 2
    remote.person["groups"] = ["devs", "ops"]
    central.now += LEEWAY + 1
    back = (await refresh(central, again["refresh_token"])).json["access_token"]
    assert groups_by(central, back) == ("mk8s:users", "acme:devs", "acme:ops")
    assert [groups_by(central, it) for it in old] == [("mk8s:users", "acme:ops")] * 2


def groups_by(central: Central, token: str) -> tuple[str, ...]:
    return central.authenticator.authenticate(f"Bearer {token}".encode()).groups


async def test_an_issuer_that_is_down_keeps_the_logins_that_are(
    central: Central, remote: oidc_provider.Provider, caplog: pytest.LogCaptureFixture
) -> None:
    tokens = await logged_in(central)
    remote.broken = "/token"
    caplog.set_level("WARNING", "mk8s_proxy.api")
    again = await refresh(central, tokens["refresh_token"])
    assert again.status == 200
    identity = central.authenticator.authenticate(f"Bearer {again.json['access_token']}".encode())
    assert identity.groups == ("mk8s:users", "acme:devs", "acme:ops")
    (record,) = [it for it in caplog.records if it.message == "login.issuer_down"]
    assert "upstream" not in str(record.__dict__)
    remote.broken, remote.status = "", 400
    assert (await refresh(central, again.json["refresh_token"])).status == 401


async def test_an_issuer_that_stalls_holds_a_refresh_for_a_bounded_time(
    central: Central, remote: oidc_provider.Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = await logged_in(central)
    monkeypatch.setattr(issuer_refresh, "ASK_SECONDS", 0.05)

    async def stall(_: web.Request) -> None:
        await asyncio.sleep(20)

    remote.before = stall
    assert (await refresh(central, tokens["refresh_token"])).status == 200


async def test_a_login_without_a_refresh_token_of_the_issuer_goes_on(
    central: Central, remote: oidc_provider.Provider
) -> None:
    remote.answer = {"refresh_token": None}
    tokens = await logged_in(central)
    assert (await refresh(central, tokens["refresh_token"])).status == 200
    assert len(remote.forms) == 1


async def test_who_asks_at_the_same_time_does_not_use_a_token_twice(
    central: Central, remote: oidc_provider.Provider
) -> None:
    tokens = await logged_in(central)
    identity = central.authenticator.authenticate(f"Bearer {tokens['access_token']}".encode())
    now = central.context.now()
    assert await upstream_tokens.take(central.database, identity.login, now) == "upstream-1"
    assert (await refresh(central, tokens["refresh_token"])).status == 200
    assert len(remote.forms) == 1
    later = now + datetime.timedelta(seconds=upstream_tokens.TAKEN_SECONDS)
    assert await upstream_tokens.take(central.database, identity.login, later) == "upstream-1"


async def test_an_issuer_that_is_none_any_more_ends_its_logins(central: Central) -> None:
    tokens = await logged_in(central)
    central.context.issuers.people.clear()
    refused = await refresh(central, tokens["refresh_token"])
    assert (refused.status, "none of central's" in refused.message) == (401, True)


async def test_a_token_of_the_issuer_that_cannot_be_opened_ends_the_login(
    central: Central,
) -> None:
    tokens = await logged_in(central)
    async with central.database.transaction() as session:
        await session.execute(text("UPDATE upstream_tokens SET sealed = 'sealed:v1:x'"))
    assert (await refresh(central, tokens["refresh_token"])).status == 401


async def test_what_an_issuer_says_of_a_login_that_was_forgotten(central: Central) -> None:
    await upstream_tokens.renew(central.database, "unknown", "t", ["acme:a"])
    assert await upstream_tokens.take(central.database, "unknown", central.context.now()) == ""


async def test_a_delegation_asks_the_issuer_of_its_owner(
    central: Central, remote: oidc_provider.Provider
) -> None:
    owner = await logged_in(central)
    made = await central.call(
        "POST", "/delegations", {"seconds": 1800}, token=owner["access_token"]
    )
    assert made.status < 300, made.raw
    remote.person["groups"] = ["ops"]
    again = (await refresh(central, made.json["refresh_token"])).json
    identity = central.authenticator.authenticate(f"Bearer {again['access_token']}".encode())
    assert identity.groups == ("mk8s:users", "acme:ops")
    remote.status = 400
    assert (await refresh(central, again["refresh_token"])).status == 401
    assert (await refresh(central, owner["refresh_token"])).status == 401


async def test_where_passwords_are_off_logins_by_them_end(
    sqlite_database: Database, tmp_path: Path, remote: oidc_provider.Provider
) -> None:
    central = await Central.start(sqlite_database, tmp_path / "a")
    tokens = await central.login()
    await central.close()
    off = LoginSettings(passwords=False, issuers=(sso_browser.settings(remote),))
    central = Central(sqlite_database, tmp_path / "b", _settings(tmp_path / "b", off))
    await central.feed.start()
    await central.client.start_server()
    refused = await refresh(central, tokens["refresh_token"])
    assert refused.status == 401
    assert (await logged_in(central))["user"]["email"] == "ann@example.com"
    await central.close()


def _settings(folder: Path, login: LoginSettings) -> Settings:
    folder.mkdir()
    return Settings(data_dir=folder, public_url=PUBLIC_URL, login=login)


# Links.


async def test_a_local_user_is_linked_and_logs_in(
    central: Central, remote: oidc_provider.Provider
) -> None:
    remote.person["email"] = "dev@example.com"
    admin, path = await central.admin(), "/users/dev@example.com/identities"
    linked = await central.call("PUT", path, {"issuer": "acme"}, token=admin)
    assert [it["subject"] for it in linked.json["identities"]] == [""]
    again = await central.call("PUT", path, {"issuer": "acme"}, token=admin)
    assert again.json == linked.json
    tokens = await logged_in(central)
    assert tokens["user"]["roles"] == ["developer"]
    shown = await central.call("GET", path, token=admin)
    assert [it["subject"] for it in shown.json["identities"]] == ["u-1"]
    assert (await central.login())["user"]["id"] == tokens["user"]["id"], "the password stays"
    gone = await central.call("DELETE", f"{path}?issuer=acme", token=admin)
    assert gone.json == {"identities": []}
    assert (await refresh(central, tokens["refresh_token"])).status == 401
    assert (await central.call("DELETE", f"{path}?issuer=acme", token=admin)).status == 404
    assert "link" in (await Browser(central).sign_in())["error_description"]


async def test_a_link_by_subject(central: Central, remote: oidc_provider.Provider) -> None:
    admin = await central.admin()
    body = {"issuer": "acme", "subject": "u-1"}
    path = "/users/dev@example.com/identities"
    assert (await central.call("PUT", path, body, token=admin)).status == 200
    assert (await logged_in(central))["user"]["email"] == "dev@example.com"
    other = await central.call("PUT", "/users/admin@example.com/identities", body, token=admin)
    assert (other.status, "another user" in other.message) == (409, True)


async def test_attack_a_subject_that_looks_like_a_waiting_link(
    central: Central, remote: oidc_provider.Provider
) -> None:
    path = "/users/dev@example.com/identities"
    await central.call("PUT", path, {"issuer": "acme"}, token=await central.admin())
    remote.person["sub"] = " dev@example.com"
    assert (await Browser(central).sign_in())["error"] == "access_denied"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"issuer": "none"}, 404),
        ({"issuer": "acme", "subject": " x"}, 422),
        ({"issuer": "acme", "subject": "x" * 256}, 422),
        ({"issuer": "acme", "subject": "a\x00"}, 422),
        ({}, 422),
    ],
)
async def test_links_that_cannot_be(central: Central, body: dict[str, str], status: int) -> None:
    path = "/users/dev@example.com/identities"
    assert (await central.call("PUT", path, body, token=await central.admin())).status == status


async def test_links_are_for_admins(central: Central) -> None:
    token = await central.token()
    path = "/users/dev@example.com/identities"
    for method, body in (("GET", None), ("PUT", {"issuer": "acme"})):
        assert (await central.call(method, path, body, token=token)).status == 403


async def test_a_user_who_is_gone_is_not_linked(central: Central) -> None:
    with pytest.raises(Exception, match="user"):
        await user_identities.link(central.database, "acme", "nobody", "", central.context.now())


@pytest.mark.parametrize(
    "ways",
    [
        WaysIn(passwords=False, issuers=frozenset({"acme"})),
        WaysIn(passwords=True, issuers=frozenset({"other"})),
    ],
)
async def test_attack_an_administrator_who_cannot_log_in_stands_in_for_the_last_one(
    central: Central, ways: WaysIn
) -> None:
    """With passwords off one who has only that; and one of an issuer that is gone."""
    await logged_in(central)
    admin = await central.admin()
    path = "/users/ann@example.com/roles"
    assert (await central.call("PUT", path, {"roles": ["admin"]}, token=admin)).status == 200
    central.database.ways_in = ways
    last, other = "admin@example.com", "ann@example.com"
    if not ways.passwords:
        last, other = other, last
    body = {"disabled": True}
    refused = await central.call("PUT", f"/users/{last}/disabled", body, token=admin)
    assert refused.status == 409, refused.raw
    assert "the last account that can log in as administrator" in refused.message
    off = await central.call("PUT", f"/users/{other}/disabled", body, token=admin)
    assert off.status == 200, off.raw


async def test_the_last_admin_may_be_one_of_an_issuer(
    central: Central, remote: oidc_provider.Provider
) -> None:
    tokens = await logged_in(central)
    admin = await central.admin()
    body = {"roles": ["admin"]}
    await central.call("PUT", "/users/ann@example.com/roles", body, token=admin)
    off = await central.call(
        "PUT", "/users/admin@example.com/disabled", {"disabled": True}, token=tokens["access_token"]
    )
    assert off.status == 200, off.raw
    path = "/users/ann@example.com/identities?issuer=acme"
    refused = await central.call("DELETE", path, token=tokens["access_token"])
    assert refused.status == 409
