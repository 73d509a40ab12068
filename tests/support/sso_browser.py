"""A browser, as far as single sign-on needs one: a cookie, redirects that are looked at, forms."""

import base64
import hashlib
import html
import re
import secrets
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import aiohttp

from mk8s_proxy.settings.login import IssuerSettings
from tests.support import oidc_provider
from tests.support.management_api import Answer, Central

LOOPBACK = "http://127.0.0.1:7777/callback"
VERIFIER = secrets.token_urlsafe(48)
STATE = "state-of-the-program"
FORM = "application/x-www-form-urlencoded"


def settings(remote: oidc_provider.Provider, name: str = "acme", **more: Any) -> IssuerSettings:
    said: dict[str, Any] = {
        "client_secret": oidc_provider.SECRET,
        "allow_http": True,
        "title": "Acme",
    } | more
    return IssuerSettings(name, remote.url, oidc_provider.CLIENT, **said)


def challenge(verifier: str = VERIFIER) -> str:
    digest = hashlib.sha256(verifier.encode()).digest()
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def start_query(**more: str) -> dict[str, str]:
    return {
        "issuer": "acme",
        "redirect_uri": LOOPBACK,
        "state": STATE,
        "code_challenge": challenge(),
        "code_challenge_method": "S256",
    } | more


def query_of(url: str) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(url).query, keep_blank_values=True))


class Browser:
    """One person's browser, at central."""

    def __init__(self, central: Central, source: str = "192.0.2.7") -> None:
        self.central = central
        self.source = source
        self.embedded_as = ""
        """What a page of another site shows central as."""
        self.host = urlsplit(central.context.settings.public_url).netloc
        """As which it knows central."""
        self.cookie = ""
        self.cookie_attributes = ""

    async def open(self, target: str, form: dict[str, str] | None = None) -> Answer:
        headers = {"Host": self.host} | ({"Cookie": self.cookie} if self.cookie else {})
        if self.embedded_as:
            headers["Sec-Fetch-Dest"] = self.embedded_as
        options: dict[str, Any] = {"allow_redirects": False, "source": self.source}
        if form is not None:
            headers["Content-Type"] = FORM
            options["data"] = urlencode(form)
        method = "GET" if form is None else "POST"
        answer = await self.central.call(method, target, headers=headers, **options)
        self._keep(answer)
        return answer

    def _keep(self, answer: Answer) -> None:
        for value in answer.headers.getall("Set-Cookie", []):
            ((name, morsel),) = SimpleCookie(value).items()
            self.cookie = f"{name}={morsel.value}"
            self.cookie_attributes = value.partition(";")[2]

    async def at_issuer(self, url: str) -> str:
        """Log in there; where the issuer sends the browser then, as a path of central's."""
        async with (
            aiohttp.ClientSession() as session,
            session.get(url, allow_redirects=False) as response,
        ):
            back = urlsplit(response.headers["Location"])
        return f"{back.path}?{back.query}"

    async def start(self, **more: str) -> Answer:
        return await self.open(f"/auth/sso/start?{urlencode(start_query(**more))}")

    async def sign_in(self, **more: str) -> dict[str, str]:
        """The whole way; what the program on the loopback address gets."""
        begun = await self.start(**more)
        assert begun.status == 303, begun.raw
        ended = await self.open(await self.at_issuer(begun.headers["Location"]))
        assert ended.status == 303, ended.raw
        assert ended.headers["Location"].startswith(more.get("redirect_uri", LOOPBACK) + "?")
        return query_of(ended.headers["Location"])


async def exchange(central: Central, code: str, **more: str) -> Answer:
    body = {"code": code, "code_verifier": VERIFIER, "redirect_uri": LOOPBACK} | more
    return await central.call("POST", "/auth/sso/token", body)


async def logged_in(central: Central) -> Any:
    """Tokens of a new login by single sign-on."""
    got = await Browser(central).sign_in()
    answer = await exchange(central, got["code"])
    assert answer.status == 200, answer.raw
    return answer.json


def fields_of(answer: Answer) -> list[dict[str, str]]:
    """The hidden fields of each form of a page."""
    forms = re.findall(r"<form.*?</form>", answer.raw.decode(), re.DOTALL)
    pattern = r'<input type="hidden" name="([^"]*)" value="([^"]*)"'
    return [{n: html.unescape(v) for n, v in re.findall(pattern, it)} for it in forms]
