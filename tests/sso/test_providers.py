"""The providers and the browser themselves: what a test of central stands on."""

from urllib.parse import urlencode

import pytest

from tests.sso.calls import query_of
from tests.sso.keycloak import Keycloak
from tests.sso.webdriver import Browser

pytestmark = [pytest.mark.keycloak, pytest.mark.timeout(240)]


def test_keycloak_signs_in_with_the_browser(keycloak: Keycloak, browser: Browser) -> None:
    realm = keycloak.realm(["https://127.0.0.1:9/back"])
    asked = {
        "client_id": "mk8s",
        "redirect_uri": "https://127.0.0.1:9/back",
        "response_type": "code",
        "scope": "openid email offline_access",
        "code_challenge": "x" * 43,
        "code_challenge_method": "S256",
        "state": "s",
    }
    browser.open(f"{realm.issuer}/protocol/openid-connect/auth?{urlencode(asked)}")
    browser.type("#username", "ada")
    browser.type("#password", "ada's long password")
    browser.press(browser.find("#kc-login"))
    browser.wait_for_text("127.0.0.1")
    told = query_of(browser.url)
    assert told["state"] == "s"
    assert told["iss"] == realm.issuer
