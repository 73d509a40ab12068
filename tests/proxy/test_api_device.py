"""Logins of machines without a browser (RFC 8628): the machine, the person's pages, and attacks."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mk8s_proxy.api import browser as pages
from mk8s_proxy.api import device, sso_schemas
from mk8s_proxy.api.context import ALL_GUESSES, GUESSES, SIGN_INS
from mk8s_proxy.db import logins, pending_logins, user_identities, users
from mk8s_proxy.db.engine import Database
from mk8s_proxy.identity.oidc import fetch
from mk8s_proxy.settings.login import LoginSettings
from tests.support import oidc_provider, sso_browser
from tests.support.management_api import NOW, PUBLIC_URL, Answer, Central
from tests.support.sso_browser import Browser, fields_of


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
    issuers = (sso_browser.settings(remote), sso_browser.settings(remote, "other", title="Other"))
    central = await Central.start(sqlite_database, tmp_path, login=LoginSettings(issuers=issuers))
    yield central
    await central.close()


async def begin(central: Central, **more: Any) -> Any:
    answer = await central.call(
        "POST",
        "/auth/device",
        {"host": "build-7"} | more,
        source="203.0.113.9",
        headers={"User-Agent": "mk8s/1.0"},
    )
    assert answer.status == 200, answer.raw
    return answer.json


async def ask(central: Central, begun: Any) -> Answer:
    body = {"device_code": begun["device_code"]}
    return await central.call("POST", "/auth/device/token", body, source="203.0.113.9")


async def enter(browser: Browser, user_code: str) -> Answer:
    """Open the page and enter the code."""
    (fields,) = fields_of(await browser.open("/auth/device"))
    form = fields | {"user_code": user_code, "step": "look"}
    return await browser.open("/auth/device/answer", form)


async def to_issuer(browser: Browser, shown: Answer, issuer: str = "acme") -> str:
    """Choose the issuer; the path of the answer that the browser brings back."""
    (fields,) = [it for it in fields_of(shown) if it["issuer"] == issuer]
    going = await browser.open("/auth/device/answer", fields | {"step": "sign in"})
    assert going.status == 200, going.raw
    found = re.search(r'content="0;url=([^"]*)"', going.raw.decode())
    assert found is not None
    return await browser.at_issuer(found[1].replace("&amp;", "&"))


async def signed_in(central: Central, begun: Any, browser: Browser | None = None) -> Answer:
    browser = browser or Browser(central)
    shown = await enter(browser, begun["user_code"])
    assert shown.status == 200, shown.raw
    return await browser.open(await to_issuer(browser, shown))


async def say(browser: Browser, asked: Answer, step: str) -> Answer:
    (fields,) = fields_of(asked)
    return await browser.open("/auth/device/answer", fields | {"step": step})


async def test_a_machine_logs_in(central: Central) -> None:
    begun = await begin(central)
    assert re.fullmatch(f"[{device.ALPHABET}]{{4}}-[{device.ALPHABET}]{{4}}", begun["user_code"])
    assert begun["verification_uri"] == f"{PUBLIC_URL}/auth/device"
    complete = f"{PUBLIC_URL}/auth/device?user_code={begun['user_code']}"
    assert begun["verification_uri_complete"] == complete
    assert (begun["expires_in"], begun["interval"]) == (900, 5)
    waiting = await ask(central, begun)
    assert (waiting.status, waiting.json["code"]) == (400, "authorization_pending")
    assert waiting.json["error"] == "authorization_pending", "for other clients of RFC 8628"
    assert waiting.headers["Cache-Control"] == "no-store"

    browser = Browser(central)
    asked = await signed_in(central, begun, browser)
    for said in (b"build-7", b"203.0.113.9", b"mk8s/1.0", b"ann@example.com"):
        assert said in asked.raw
    done = await say(browser, asked, "yes")
    assert (done.status, b"You may close this window" in done.raw) == (200, True)

    central.now += 5
    tokens = await ask(central, begun)
    assert tokens.status == 200, tokens.raw
    identity = central.authenticator.authenticate(f"Bearer {tokens.json['access_token']}".encode())
    assert (identity.user, identity.groups[1]) == ("ann@example.com", "acme:devs")
    login = await logins.get_login(central.database, identity.login)
    assert (login.source, login.label, login.address) == ("oidc", "build-7", "203.0.113.9")
    assert (await ask(central, begun)).json["code"] == "expired_token", "tokens come once"


async def test_the_page_names_the_machine_before_anybody_signs_in(central: Central) -> None:
    begun = await begin(central)
    shown = await enter(Browser(central), begun["user_code"].lower().replace("-", " "))
    for said in (b"build-7", b"203.0.113.9", b"mk8s/1.0", b"Acme", b"Other"):
        assert said in shown.raw
    only = await enter(Browser(central), (await begin(central, issuer="other"))["user_code"])
    assert (b"Acme" in only.raw, b"Other" in only.raw) == (False, True)


async def test_the_code_of_the_link_is_in_the_form(central: Central) -> None:
    page = await Browser(central).open("/auth/device?user_code=BCDF-GHJK")
    assert b'value="BCDF-GHJK"' in page.raw


async def test_a_person_says_no(central: Central) -> None:
    begun, browser = await begin(central), Browser(central)
    asked = await signed_in(central, begun, browser)
    refused = await say(browser, asked, "no")
    assert b"not logged in" in refused.raw
    told = await ask(central, begun)
    assert (told.status, told.json["code"]) == (400, "access_denied")
    assert (await say(browser, asked, "yes")).status == 404


async def test_who_asks_too_often_is_told_so(central: Central) -> None:
    begun = await begin(central)
    words = []
    for pause in (0, 1, 9, 14, 14):
        central.now += pause
        words.append((await ask(central, begun)).json["code"])
    pending, slow = "authorization_pending", "slow_down"
    assert words == [pending, slow, pending, pending, pending]
    for _ in range(20):
        assert (await ask(central, begun)).json["code"] == slow
    central.now += device.LONGEST_INTERVAL
    assert (await ask(central, begun)).json["code"] == pending


async def test_polls_leave_no_rows(central: Central) -> None:
    begun = await begin(central)
    before = len(central.rows()) if central.journal_path.exists() else 0
    await ask(central, begun)
    assert (len(central.rows()) if central.journal_path.exists() else 0) == before


async def test_a_code_ends(central: Central) -> None:
    begun = await begin(central)
    central.now += device.SECONDS
    assert (await ask(central, begun)).json["code"] == "expired_token"
    assert (await enter(Browser(central), begun["user_code"])).status == 404
    unknown = await ask(central, {"device_code": "unknown"})
    assert unknown.json["code"] == "expired_token"


async def test_two_questions_at_once_get_one_login(central: Central) -> None:
    begun, browser = await begin(central), Browser(central)
    await say(browser, await signed_in(central, begun, browser), "yes")
    both = await asyncio.gather(ask(central, begun), ask(central, begun))
    assert sorted(it.status for it in both) == [200, 400]


async def test_attack_phishing_text_as_the_name_of_a_machine(central: Central) -> None:
    begun = await begin(central, host="Your session is over. <b>Click yes</b> & go on" + "!" * 200)
    shown = await enter(Browser(central), begun["user_code"])
    assert b"Your_session_is_over." in shown.raw
    assert b"Your session" not in shown.raw
    assert b"<b>" not in shown.raw
    assert b"Nobody else has a reason to send you a code" in shown.raw


async def test_attack_markup_in_what_the_issuer_says(
    central: Central, remote: oidc_provider.Provider
) -> None:
    remote.person["email"] = "<script>alert(1)</script>@x"
    asked = await signed_in(central, await begin(central))
    assert b"<script>" not in asked.raw
    assert b"&lt;script&gt;" in asked.raw


@pytest.mark.parametrize("path", ["/auth/device", "/auth/device?user_code=%22%3E%3Cscript%3E"])
async def test_pages_have_no_scripts_and_no_frames(central: Central, path: str) -> None:
    page = await Browser(central).open(path)
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "script" not in policy
    assert "unsafe" not in policy
    assert "form-action 'self'" in policy
    assert page.headers["X-Frame-Options"] == "DENY"
    assert b"<script" not in page.raw
    assert page.headers["Cache-Control"] == "no-store"


# Forms of others.


async def test_attack_a_form_of_another_site(central: Central) -> None:
    begun, victim = await begin(central), Browser(central)
    asked = await signed_in(central, begun, victim)
    (fields,) = fields_of(asked)
    attacker = Browser(central)
    (own,) = fields_of(await attacker.open("/auth/device"))
    for form in (
        {"user_code": begun["user_code"], "step": "yes"},
        fields | {"step": "yes", "token": ""},
        fields | {"step": "yes", "token": own["token"]},
        fields | {"step": "yes", "token": "é"},
    ):
        assert (await victim.open("/auth/device/answer", form)).status == 403
    assert (await attacker.open("/auth/device/answer", fields | {"step": "yes"})).status == 403
    fresh = Browser(central)
    assert (await fresh.open("/auth/device/answer", fields | {"step": "yes"})).status == 403
    central.now += 5
    assert (await ask(central, begun)).json["code"] == "authorization_pending"


async def test_attack_a_yes_in_another_browser(central: Central) -> None:
    """Only who signed in says yes: not who knows the code and has a cookie of their own."""
    begun = await begin(central)
    await signed_in(central, begun)
    other = Browser(central)
    (own,) = fields_of(await other.open("/auth/device"))
    form = own | {"user_code": begun["user_code"], "step": "yes"}
    refused = await other.open("/auth/device/answer", form)
    assert (refused.status, b"not at that step" in refused.raw) == (409, True)


async def test_a_yes_before_anybody_signed_in(central: Central) -> None:
    begun, browser = await begin(central), Browser(central)
    (own,) = fields_of(await browser.open("/auth/device"))
    form = own | {"user_code": begun["user_code"], "step": "yes"}
    assert (await browser.open("/auth/device/answer", form)).status == 409


@pytest.mark.parametrize(
    ("content_type", "body", "status"),
    [
        ("application/json", b"{}", 415),
        ("text/plain", b"token=x", 415),
        ("application/x-www-form-urlencoded", b"x" * 5000, 413),
        ("application/x-www-form-urlencoded", b"\xff=1", 400),
        ("application/x-www-form-urlencoded", b"a=1&" * 30, 400),
    ],
)
async def test_what_is_no_form_of_ours(
    central: Central, content_type: str, body: bytes, status: int
) -> None:
    answer = await central.call(
        "POST", "/auth/device/answer", headers={"Content-Type": content_type}, data=body
    )
    assert answer.status == status
    assert answer.headers["Content-Type"].startswith("text/html")


# Bounds.


async def test_attack_codes_guessed_from_one_address(central: Central) -> None:
    browser = Browser(central)
    for _ in range(GUESSES):
        assert (await enter(browser, "BCDF-GHJK")).status == 404
    refused = await enter(browser, "BCDF-GHJK")
    assert (refused.status, b"too many requests" in refused.raw) == (429, True)
    assert fields_of(refused) == []
    begun = await begin(central)
    assert (await enter(Browser(central), begun["user_code"])).status == 429
    elsewhere = Browser(central, "198.51.100.4")
    assert (await enter(elsewhere, begun["user_code"])).status == 200


async def test_attack_codes_guessed_from_everywhere(central: Central) -> None:
    for _ in range(ALL_GUESSES):
        central.context.all_guesses.take("")
    refused = await enter(Browser(central), "BCDF-GHJK")
    assert refused.status == 429


@pytest.mark.parametrize("code", ["", "AEIO-UAEI", "BCDF", "BCDF-GHJKL", "é" * 8, "B" * 32])
async def test_what_can_be_no_code(central: Central, code: str) -> None:
    refused = await enter(Browser(central), code)
    assert (refused.status, b"no such code" in refused.raw) == (404, True)


async def test_attack_machines_without_end(
    central: Central, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(SIGN_INS):
        await begin(central)
    body = {"host": "x"}
    refused = await central.call("POST", "/auth/device", body, source="203.0.113.9")
    assert (refused.status, "Retry-After" in refused.headers) == (429, True)
    monkeypatch.setattr(pending_logins, "MOST", 3)
    assert (await central.call("POST", "/auth/device", body)).status == 429


async def test_no_code_is_given_twice(central: Central, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device.secrets, "choice", lambda letters: letters[0])
    assert (await begin(central))["user_code"] == "BBBB-BBBB"
    refused = await central.call("POST", "/auth/device", {"host": "x"})
    assert (refused.status, "no code is free" in refused.message) == (429, True)


# What else goes wrong.


async def test_who_is_not_let_in_sees_why(central: Central, remote: oidc_provider.Provider) -> None:
    remote.person["email_verified"] = False
    begun = await begin(central)
    refused = await signed_in(central, begun)
    assert (refused.status, b"has not verified" in refused.raw) == (403, True)
    assert central.last_row()["responseStatus"]["code"] == 403
    central.now += 5
    assert (await ask(central, begun)).json["code"] == "authorization_pending", "they may mend it"


async def test_an_issuer_that_is_down(central: Central, remote: oidc_provider.Provider) -> None:
    begun, browser = await begin(central), Browser(central)
    shown = await enter(browser, begun["user_code"])
    remote.broken = "/.well-known/openid-configuration"
    fields = fields_of(shown)[0]
    refused = await browser.open("/auth/device/answer", fields | {"step": "sign in"})
    assert (refused.status, b"does not work for now" in refused.raw) == (503, True)


async def test_another_issuer_than_the_machine_asks_for(central: Central) -> None:
    begun, browser = await begin(central, issuer="other"), Browser(central)
    shown = await enter(browser, begun["user_code"])
    (fields,) = fields_of(shown)
    for issuer, status in (("acme", 400), ("none", 400)):
        form = fields | {"issuer": issuer, "step": "sign in"}
        assert (await browser.open("/auth/device/answer", form)).status == status


async def test_a_machine_that_was_answered_meanwhile(central: Central) -> None:
    begun, browser, other = await begin(central), Browser(central), Browser(central)
    shown = await enter(other, begun["user_code"])
    back = await to_issuer(other, shown)
    await say(browser, await signed_in(central, begun, browser), "yes")
    late = await other.open(back)
    assert (late.status, b"not at that step" in late.raw) == (409, True)


async def test_a_machine_that_is_over_meanwhile(central: Central) -> None:
    begun, browser = await begin(central), Browser(central)
    central.now += device.SECONDS - 10
    back = await to_issuer(browser, await enter(browser, begun["user_code"]))
    central.now += 10
    assert (await browser.open(back)).status in (403, 409)


async def test_a_user_who_was_disabled_meanwhile(central: Central) -> None:
    begun, browser = await begin(central), Browser(central)
    await say(browser, await signed_in(central, begun, browser), "yes")
    user = await users.get_by_email(central.database, "ann@example.com")
    await users.set_disabled(central.database, user.id, True)
    central.now += 5
    assert (await ask(central, begun)).status == 403


async def test_attack_a_confirmed_code_that_is_kept_over_an_unlinking(central: Central) -> None:
    """Its login would begin after the administrator had ended all of them."""
    begun, browser = await begin(central), Browser(central)
    await say(browser, await signed_in(central, begun, browser), "yes")
    user = await users.get_by_email(central.database, "ann@example.com")
    await user_identities.unlink(central.database, "acme", user.id, central.context.now())
    central.now += 5
    refused = await ask(central, begun)
    assert (refused.status, refused.json["error"]) == (403, "invalid_grant")


async def test_attack_a_confirmed_code_that_is_kept_over_the_end_of_all_logins(
    central: Central,
) -> None:
    begun, other, browser = await begin(central), await begin(central), Browser(central)
    await say(browser, await signed_in(central, begun, browser), "yes")
    user = await users.get_by_email(central.database, "ann@example.com")
    path = f"/users/{user.id}/logins"
    assert (await central.call("DELETE", path, token=await central.admin())).status == 200
    central.now += 5
    assert (await ask(central, begun)).json["error"] == "expired_token"
    assert (await ask(central, other)).json["error"] == "authorization_pending"


async def test_attack_a_confirmed_code_that_is_kept_until_the_account_is_enabled_again(
    central: Central,
) -> None:
    begun, browser = await begin(central), Browser(central)
    await say(browser, await signed_in(central, begun, browser), "yes")
    user = await users.get_by_email(central.database, "ann@example.com")
    for disabled in (True, False):
        await users.set_disabled(central.database, user.id, disabled)
    central.now += 5
    assert (await ask(central, begun)).status == 403


async def test_without_single_sign_on_there_is_none(
    sqlite_database: Database, tmp_path: Path
) -> None:
    central = await Central.start(sqlite_database, tmp_path)
    refused = await central.call("POST", "/auth/device", {"host": "x"})
    assert (refused.status, "no single sign-on" in refused.message) == (404, True)
    assert (await central.call("GET", "/auth/methods")).json["device"] is False
    await central.close()


async def test_an_issuer_that_is_none(central: Central) -> None:
    refused = await central.call("POST", "/auth/device", {"host": "x", "issuer": "none"})
    assert refused.status == 404


@given(st.text())
def test_no_text_of_others_is_markup(text: str) -> None:
    shown = pages.facts(machine=text) + pages.hidden(text, text) + pages.link(text, text)
    assert not re.search(r"<(?!/?(?:dl|dt|dd|p|a|input)[ >])", shown)
    assert not re.search(r"[^A-Za-z0-9._/-]", sso_schemas.plain_name(text))
