"""Through a real Keycloak: by `mk8s login` with a real browser, by device code, and out again."""

import json
import re
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.sso.conftest import Organisation
from tests.sso.house import claims, refusal
from tests.sso.keycloak import Realm, password_of
from tests.sso.webdriver import Browser
from tests.support.processes import Program, private_environment, run
from tests.support.world import MK8S

pytestmark = [pytest.mark.keycloak, pytest.mark.timeout(360)]

PATIENCE = 40
"""Seconds until central has looked for new keys."""


def signs_in(realm: Realm, username: str, visitor: Any) -> Callable[[str], str]:
    """What somebody does on the realm's page."""
    return lambda url: realm.sign_in(url, username, visitor.caller)


def sign_in_by_hand(browser: Browser, username: str) -> None:
    """The same in a window."""
    browser.type("#username", username)
    browser.type("#password", password_of(username))
    browser.press(browser.find("#kc-login"))


def environment(folder: Path) -> Mapping[str, str]:
    """Of somebody at a machine of their own; its browser is the test's business."""
    return private_environment(folder, BROWSER="true")


def test_mk8s_login_in_the_browser(
    organisation: Organisation, browser: Browser, tmp_path: Path
) -> None:
    house = organisation.house
    home = environment(tmp_path)
    words = [*MK8S, "login", house.url, "--ca-file", house.ca_file, "--browser", "--issuer", "acme"]
    with Program("mk8s login", words, home) as program:
        browser.open(program.wait_for_line(r"https://localhost:\d+/auth/sso/start\?\S+")[0])
        sign_in_by_hand(browser, "ada")
        browser.wait_for_text("You may close this window")
        assert browser.url.startswith("http://127.0.0.1:")
        assert program.wait() == 0, program.output
    [login] = json.loads(run([*MK8S, "logins", "list", "-o", "json"], home).stdout)
    assert login["user"] == "ada@example.com"
    assert login["source"] == "oidc"
    assert login["issuer"] == "acme"
    assert "ada@example.com" in run([*MK8S, "status"], home).stdout
    run([*MK8S, "logout"], home)


def test_mk8s_login_by_device_code(
    organisation: Organisation, browser: Browser, tmp_path: Path
) -> None:
    house = organisation.house
    home = environment(tmp_path)
    words = [*MK8S, "login", house.url, "--ca-file", house.ca_file, "--device", "--issuer", "acme"]
    with Program("mk8s login", words, home) as program:
        page = program.wait_for_line(rf"{house.url}/auth/device\S*")[0]
        code = program.wait_for_line(r"^[A-Z0-9]{4}-?[A-Z0-9]{4}$")[0]
        browser.open(page)
        browser.type("input[name=user_code]", code)
        browser.press(browser.find("button[value=look]"))
        # Who asks is shown before anybody signs in, and again to the one who did.
        assert "127.0.0.1" in browser.wait_for_text(socket.gethostname()[:64])
        browser.press(browser.find("button[value='sign in']"))
        sign_in_by_hand(browser, "ada")
        shown = browser.wait_for_text("ada@example.com")
        assert socket.gethostname()[:64] in shown
        browser.press(browser.find("button[value=yes]"))
        browser.wait_for_text("you may close this window")
        assert program.wait() == 0, program.output
    [login] = json.loads(run([*MK8S, "logins", "list", "-o", "json"], home).stdout)
    assert (login["user"], login["issuer"]) == ("ada@example.com", "acme")


def test_groups_by_the_rules(organisation: Organisation) -> None:
    visitor = organisation.house.visitor()
    tokens = visitor.log_in("acme", signs_in(organisation.acme, "ada", visitor))
    assert claims(tokens)["groups"] == ["acme:devs"]


def test_a_public_client(organisation: Organisation) -> None:
    """Central has no secret there: PKCE alone."""
    visitor = organisation.house.visitor()
    tokens = visitor.log_in("public", signs_in(organisation.public, "carol", visitor))
    assert claims(tokens)["groups"] == ["public:admins"]


def test_somebody_of_the_same_address_at_another_issuer(organisation: Organisation) -> None:
    visitor = organisation.house.visitor()
    visitor.log_in("acme", signs_in(organisation.acme, "ada", visitor))
    stranger = organisation.house.visitor()
    stranger.refused("public", signs_in(organisation.public, "ada", stranger))


def test_a_user_who_is_disabled_there(organisation: Organisation) -> None:
    """Out at the next refresh, and not in again."""
    visitor = organisation.house.visitor()
    tokens = visitor.log_in("acme", signs_in(organisation.acme, "bob", visitor))
    answer = visitor.call("POST", "/auth/refresh", {"refresh_token": tokens["refresh_token"]})
    assert answer.status == 200, answer.text
    organisation.acme.change_user("bob", enabled=False)
    again = {"refresh_token": answer.json()["refresh_token"]}
    assert visitor.call("POST", "/auth/refresh", again).status == 401
    token = answer.json()["access_token"]
    assert visitor.call("GET", "/clusters", token=token).status == 401
    organisation.acme.change_user("bob", enabled=True)
    assert visitor.call("POST", "/auth/refresh", again).status == 401


def test_an_email_address_that_nobody_has_verified(organisation: Organisation) -> None:
    visitor = organisation.house.visitor()
    said = visitor.refused("acme", signs_in(organisation.acme, "eve", visitor))
    assert "not verified" in said


def test_keys_that_are_rotated(organisation: Organisation) -> None:
    organisation.public.rotate_keys()
    deadline = time.monotonic() + PATIENCE
    while True:
        visitor = organisation.house.visitor()
        start = visitor.start("public").location
        answer = visitor.get(signs_in(organisation.public, "carol", visitor)(start))
        if "code" in visitor.listened(answer):
            break
        assert time.monotonic() < deadline, refusal(answer)
        time.sleep(1)


def test_what_the_log_says_of_a_login(organisation: Organisation) -> None:
    """No token, no code, no secret."""
    visitor = organisation.house.visitor()
    start = visitor.start("acme").location
    back = signs_in(organisation.acme, "ada", visitor)(start)
    told = visitor.listened(visitor.get(back))
    tokens = visitor.redeem(told["code"]).json()
    organisation.house.audit()
    kept = organisation.house.central.output + "".join(
        file.read_text() for file in (organisation.house.data / "audit").glob("*.jsonl")
    )
    secrets = [tokens["access_token"], tokens["refresh_token"], told["code"], visitor.verifier]
    secrets += re.findall(r"[?&](?:code|state)=([^&]+)", back)
    assert not [secret for secret in secrets if secret in kept]
