"""One issuer over HTTP: discovery, keys that change, codes, refreshes, and each way to fail."""

import asyncio
import gzip
import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import aiohttp
import pytest
import trustme
from aiohttp import web
from aiohttp.test_utils import TestServer

from mk8s_proxy.identity.oidc import fetch, token_issuer
from mk8s_proxy.identity.oidc.errors import Ended, Refused, UnknownKey, Unreachable
from mk8s_proxy.identity.oidc.fetch import Fetcher
from mk8s_proxy.identity.oidc.id_token import Expected
from mk8s_proxy.identity.oidc.provider import Attempt, Provider, challenge_of
from mk8s_proxy.identity.oidc.providers import CALLBACK, Providers
from mk8s_proxy.identity.oidc.token_issuer import (
    FETCHES_A_MINUTE,
    FRESH_SECONDS,
    STALE_SECONDS,
    TokenIssuer,
)
from mk8s_proxy.settings.login import FederationSettings, IssuerSettings, LoginSettings
from tests.support import oidc_provider

NOW = 1_800_000_000.0
CENTRAL = "https://central.example.com"


class Clock:
    """Both clocks of central."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def now(self) -> float:
        return NOW + self.seconds

    def ticks(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def remote(clock: Clock) -> AsyncIterator[oidc_provider.Provider]:
    provider = oidc_provider.Provider(clock=clock.now)
    server = await provider.start()
    yield provider
    await server.close()


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "_PAUSE", 0.0)


def provider(remote: oidc_provider.Provider, clock: Clock, **more: Any) -> Provider:
    said = {"client_secret": oidc_provider.SECRET, "allow_http": True} | more
    settings = IssuerSettings("acme", remote.url, oidc_provider.CLIENT, **said)
    return Provider(settings, CENTRAL + CALLBACK, clock=clock.now, monotonic=clock.ticks)


async def code_of(mine: Provider, attempt: Attempt) -> dict[str, str]:
    """What a browser would bring."""
    url = await mine.login_url(attempt)
    async with (
        aiohttp.ClientSession() as browser,
        browser.get(url, allow_redirects=False) as response,
    ):
        back = urlsplit(response.headers["Location"])
    assert response.headers["Location"].startswith(CENTRAL + CALLBACK)
    query = dict(parse_qsl(back.query))
    assert query["state"] == attempt.state
    return query


@pytest.mark.parametrize(
    ("metadata", "secret"),
    [
        ({}, oidc_provider.SECRET),
        ({"token_endpoint_auth_methods_supported": ["client_secret_post"]}, oidc_provider.SECRET),
        ({"token_endpoint_auth_methods_supported": "x"}, oidc_provider.SECRET),
        ({}, ""),
    ],
)
async def test_a_login_by_code(
    remote: oidc_provider.Provider, clock: Clock, metadata: dict[str, Any], secret: str
) -> None:
    remote.metadata = metadata
    mine, attempt = provider(remote, clock, client_secret=secret), Attempt()
    vouched = await mine.answered(await code_of(mine, attempt), attempt)

    assert vouched.person.user == "ann@example.com"
    assert vouched.person.groups == ("acme:devs", "acme:ops")
    assert vouched.refresh_token == "upstream-1"
    assert "upstream" not in repr(vouched)
    assert attempt.verifier not in repr(attempt)


async def test_what_else_a_browser_is_sent_with(
    remote: oidc_provider.Provider, clock: Clock
) -> None:
    mine = provider(remote, clock, parameters=("access_type=offline", "login_hint=a=b&c"))
    attempt = Attempt()
    query = dict(parse_qsl(urlsplit(await mine.login_url(attempt)).query))
    assert (query["access_type"], query["login_hint"]) == ("offline", "a=b&c")
    assert query["state"] == attempt.state


async def test_where_a_browser_goes(remote: oidc_provider.Provider, clock: Clock) -> None:
    remote.metadata = {"authorization_endpoint": "https://sso.example/auth?tenant=1"}
    attempt = Attempt()
    url = urlsplit(await provider(remote, clock).login_url(attempt))
    assert parse_qs(url.query) == {
        "tenant": ["1"],
        "response_type": ["code"],
        "client_id": ["mk8s"],
        "redirect_uri": [CENTRAL + CALLBACK],
        "scope": ["openid email profile offline_access"],
        "state": [attempt.state],
        "nonce": [attempt.nonce],
        "code_challenge": [challenge_of(attempt.verifier)],
        "code_challenge_method": ["S256"],
    }


def test_the_challenge_of_rfc_7636() -> None:
    verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
    assert challenge_of(verifier) == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"


async def test_attack_a_replayed_code(remote: oidc_provider.Provider, clock: Clock) -> None:
    mine, attempt = provider(remote, clock), Attempt()
    code = await code_of(mine, attempt)
    await mine.answered(code, attempt)
    with pytest.raises(Refused, match="does not take its own code"):
        await mine.answered(code, attempt)


async def test_attack_a_code_of_another_login(remote: oidc_provider.Provider, clock: Clock) -> None:
    mine, attempt = provider(remote, clock), Attempt()
    code = await code_of(mine, attempt)
    with pytest.raises(Refused, match="does not take its own code"):
        await mine.answered(code, Attempt())
    code = await code_of(mine, attempt)
    with pytest.raises(Refused, match="nonce"):
        await mine.answered(code, Attempt(verifier=attempt.verifier))


async def test_attack_mixed_up_issuers(remote: oidc_provider.Provider, clock: Clock) -> None:
    mine, attempt = provider(remote, clock), Attempt()
    good = await code_of(mine, attempt)
    for said in ("https://evil.example", "", remote.url + "/"):
        with pytest.raises(Refused, match="another issuer"):
            await mine.answered(good | {"iss": said}, attempt)
    with pytest.raises(Refused, match="another issuer"):
        await mine.answered({"code": good["code"]}, attempt)
    remote.sends_iss = False
    silent = provider(remote, clock)
    with pytest.raises(Refused, match="another issuer"):
        await silent.answered({"code": good["code"], "iss": "https://evil.example"}, attempt)
    assert await silent.answered({"code": good["code"]}, attempt)


@pytest.mark.parametrize("query", [{"error": "access_denied"}, {"code": ""}, {}])
async def test_a_provider_that_lets_nobody_in(
    remote: oidc_provider.Provider, clock: Clock, query: dict[str, str]
) -> None:
    with pytest.raises(Refused, match="did not let you in"):
        await provider(remote, clock).answered(query | {"iss": remote.url}, Attempt())
    assert remote.forms == []


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ({"id_token": None}, "gave no ID token"),
        ({"id_token": 5}, "gave no ID token"),
        ({"id_token": "x"}, "no signed token"),
        ({"id_token": "x" * 300_000}, "id_token is longer"),
        ({"refresh_token": "x" * 70_000}, "refresh_token is longer"),
    ],
)
async def test_odd_answers_to_a_code(
    remote: oidc_provider.Provider, clock: Clock, answer: dict[str, Any], error: str
) -> None:
    remote.answer = answer
    mine, attempt = provider(remote, clock), Attempt()
    code = await code_of(mine, attempt)
    with pytest.raises(Refused, match=error):
        await mine.answered(code, attempt)


async def test_a_provider_that_gives_no_refresh_token(
    remote: oidc_provider.Provider, clock: Clock
) -> None:
    remote.answer = {"refresh_token": None}
    mine, attempt = provider(remote, clock), Attempt()
    vouched = await mine.answered(await code_of(mine, attempt), attempt)
    assert vouched.refresh_token == ""


@pytest.mark.parametrize(("status", "error"), [(500, "answers 500"), (429, "answers 429")])
async def test_a_provider_that_cannot_now(
    remote: oidc_provider.Provider, clock: Clock, status: int, error: str
) -> None:
    mine, attempt = provider(remote, clock), Attempt()
    code = await code_of(mine, attempt)
    remote.status = status
    with pytest.raises(Unreachable, match=error):
        await mine.answered(code, attempt)
    with pytest.raises(Unreachable, match=error):
        await mine.ask_again("upstream-1", "u-1")


async def test_a_provider_that_does_not_know_central(
    remote: oidc_provider.Provider, clock: Clock
) -> None:
    mine, attempt = provider(remote, clock, client_secret="wrong"), Attempt()
    code = await code_of(mine, attempt)
    with pytest.raises(Unreachable, match="does not take central's client_id"):
        await mine.answered(code, attempt)


async def test_a_refresh_asks_again(remote: oidc_provider.Provider, clock: Clock) -> None:
    mine = provider(remote, clock)
    remote.person["groups"] = ["ops"]
    renewed = await mine.ask_again("upstream-9", "u-1")
    assert renewed.groups == ("acme:ops",)
    assert renewed.refresh_token == "upstream-1"
    assert remote.forms[-1]["refresh_token"] == "upstream-9"
    remote.answer = {"refresh_token": None}
    assert (await mine.ask_again("upstream-9", "u-1")).refresh_token == "upstream-9"


async def test_a_refresh_without_an_id_token_asks_for_the_person(
    remote: oidc_provider.Provider, clock: Clock
) -> None:
    mine = provider(remote, clock)
    remote.answer = {"id_token": None}
    assert (await mine.ask_again("r", "u-1")).groups == ("acme:devs", "acme:ops")
    assert remote.asked[-1] == "/userinfo"
    remote.answer = {"id_token": None, "access_token": None}
    with pytest.raises(Unreachable, match="gave no token"):
        await mine.ask_again("r", "u-1")


async def test_who_is_removed_there_is_out(remote: oidc_provider.Provider, clock: Clock) -> None:
    mine = provider(remote, clock)
    remote.status = 400
    with pytest.raises(Ended, match="the issuer ended it"):
        await mine.ask_again("r", "u-1")
    remote.answer = {"error": "invalid_scope"}
    with pytest.raises(Unreachable, match="answers 400"):
        await mine.ask_again("r", "u-1")


@pytest.mark.parametrize("error", ["access_denied", "interaction_required", "login_required"])
async def test_attack_who_has_to_come_in_person_stays_in_by_refreshing(
    remote: oidc_provider.Provider, clock: Clock, error: str
) -> None:
    remote.status, remote.answer = 403, {"error": error}
    with pytest.raises(Ended):
        await provider(remote, clock).ask_again("r", "u-1")


async def test_attack_a_refresh_that_answers_for_somebody_else(
    remote: oidc_provider.Provider, clock: Clock
) -> None:
    remote.person["sub"] = "u-2"
    with pytest.raises(Refused, match="somebody else"):
        await provider(remote, clock).ask_again("r", "u-1")


async def test_attack_discovery_of_another_issuer(
    remote: oidc_provider.Provider, clock: Clock
) -> None:
    remote.metadata = {"issuer": "https://evil.example"}
    with pytest.raises(Unreachable, match="calls itself otherwise"):
        await provider(remote, clock).login_url(Attempt())


@pytest.mark.parametrize(
    "url",
    [
        None, 5, "", "http://sso.example/token", "ftp://x", "https://", "https://a:0/", "https://[",
        "https://u@a/", "https://a/#f", "https://a b/", "https://ä/", "https://a/" + "x" * 3000,
        "file:///etc/passwd",
    ],
)  # fmt: skip
async def test_attack_endpoints_that_lead_elsewhere(
    remote: oidc_provider.Provider, clock: Clock, url: object
) -> None:
    remote.metadata = {"token_endpoint": url}
    with pytest.raises(Unreachable, match="names no usable token_endpoint"):
        await provider(remote, clock).ask_again("r", "u-1")


def expected(remote: oidc_provider.Provider) -> Expected:
    return Expected(remote.url, oidc_provider.CLIENT)


async def test_keys_are_fetched_once_and_again_when_they_are_old(
    remote: oidc_provider.Provider, clock: Clock
) -> None:
    issuer = provider(remote, clock).issuer
    await asyncio.gather(*(issuer.verify(remote.id_token(), expected(remote)) for _ in range(5)))
    assert remote.asked.count("/keys") == 1
    clock.seconds += FRESH_SECONDS
    await issuer.verify(remote.id_token(), expected(remote))
    assert remote.asked.count("/keys") == 2


async def test_a_key_that_is_new_is_found(remote: oidc_provider.Provider, clock: Clock) -> None:
    issuer = provider(remote, clock).issuer
    await issuer.verify(remote.id_token(), expected(remote))
    old = remote.id_token()
    remote.key = 1
    assert await issuer.verify(remote.id_token(), expected(remote))
    assert remote.asked.count("/keys") == 2
    with pytest.raises(Refused, match="a key that it has not"):
        await issuer.verify(old, expected(remote))


async def test_attack_made_up_keys_do_not_make_central_ask_for_ever(
    remote: oidc_provider.Provider, clock: Clock
) -> None:
    issuer = provider(remote, clock).issuer
    remote.header = {"kid": "made up"}
    for _ in range(3 * FETCHES_A_MINUTE):
        with pytest.raises(Refused, match="a key that it has not"):
            await issuer.verify(remote.id_token(), expected(remote))
    assert remote.asked.count("/keys") == FETCHES_A_MINUTE
    clock.seconds += 10
    remote.header = {}
    assert await issuer.verify(remote.id_token(), expected(remote))


async def test_what_is_no_token_makes_central_ask_nobody(
    remote: oidc_provider.Provider, clock: Clock
) -> None:
    with pytest.raises(Refused):
        await provider(remote, clock).issuer.verify("a.b.c", expected(remote))
    assert remote.asked == []


async def test_keys_of_an_issuer_that_is_down_are_good_for_a_while(
    remote: oidc_provider.Provider, clock: Clock
) -> None:
    issuer = provider(remote, clock).issuer
    await issuer.verify(remote.id_token(), expected(remote))
    remote.broken = "/keys"
    clock.seconds += STALE_SECONDS - 1
    assert await issuer.verify(remote.id_token(), expected(remote))
    clock.seconds += 1
    with pytest.raises(Unreachable, match="/keys answers 500"):
        await issuer.verify(remote.id_token(), expected(remote))


async def test_an_issuer_that_is_down_is_not_asked_by_everybody(
    remote: oidc_provider.Provider, clock: Clock
) -> None:
    remote.broken = "/keys"
    issuer = provider(remote, clock).issuer
    asked = [issuer.verify(remote.id_token(), expected(remote)) for _ in range(20)]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert {str(it) for it in answers} == {
        f"{fetch.shown(remote.url)}/keys answers 500 and no JSON object that is of use"
    }
    assert remote.asked.count("/keys") == 2, "one fetch of two tries"
    for _ in range(20):
        with pytest.raises(Unreachable):
            await issuer.verify(remote.id_token(), expected(remote))
    assert remote.asked.count("/keys") == 2 * FETCHES_A_MINUTE


async def test_who_gives_up_does_not_give_up_for_others(
    remote: oidc_provider.Provider, clock: Clock
) -> None:
    reached, release = asyncio.Event(), asyncio.Event()

    async def stall(_: web.Request) -> None:
        reached.set()
        await release.wait()

    remote.before = stall
    issuer = provider(remote, clock).issuer
    first = asyncio.create_task(issuer.document())
    await reached.wait()
    second = asyncio.create_task(issuer.document())
    await asyncio.sleep(0)
    first.cancel()
    remote.before = None
    release.set()
    assert (await second)["issuer"] == remote.url


async def test_a_provider_that_stalls(remote: oidc_provider.Provider, clock: Clock) -> None:
    async def stall(_: web.Request) -> None:
        await asyncio.sleep(30)

    remote.before = stall
    settings = IssuerSettings("acme", remote.url, "mk8s", allow_http=True)
    issuer = TokenIssuer(
        settings, clock=clock.now, monotonic=clock.ticks, fetcher=Fetcher(seconds=0.05)
    )
    with pytest.raises(Unreachable, match=r"does not answer \(TimeoutError\)"):
        await issuer.document()


async def test_attack_a_redirect_to_elsewhere(remote: oidc_provider.Provider, clock: Clock) -> None:
    async def lead_away(_: web.Request) -> None:
        raise web.HTTPFound("https://evil.example/")

    remote.before = lead_away
    with pytest.raises(Unreachable, match="answers 302"):
        await provider(remote, clock).issuer.document()


@pytest.mark.parametrize("text", ["x" * (fetch.LONGEST_ANSWER + 1), "[]", "no", "[" * 90_000])
async def test_attack_an_answer_that_is_endless_or_none(
    remote: oidc_provider.Provider, clock: Clock, text: str
) -> None:
    async def say(_: web.Request) -> None:
        raise web.HTTPOk(text=text)

    remote.before = say
    with pytest.raises(Unreachable, match=r"more than 1 MiB|no JSON object"):
        await provider(remote, clock).issuer.document()


async def test_attack_an_answer_that_is_packed(
    remote: oidc_provider.Provider, clock: Clock
) -> None:
    bomb = gzip.compress(b"0" * (8 << 20))

    async def say(_: web.Request) -> None:
        raise web.HTTPOk(body=bomb, headers={"Content-Encoding": "gzip"})

    remote.before = say
    with pytest.raises(Unreachable, match="no JSON object"):
        await provider(remote, clock).issuer.document()


async def test_a_second_try_of_what_may_be_repeated(
    remote: oidc_provider.Provider, clock: Clock
) -> None:
    async def fail_once(request: web.Request) -> None:
        remote.before = None
        assert request.transport is not None
        request.transport.close()

    remote.before = fail_once
    assert (await provider(remote, clock).issuer.document())["issuer"] == remote.url


async def test_attack_unknown_keys_while_the_issuer_is_slow(
    remote: oidc_provider.Provider, clock: Clock
) -> None:
    """The stranger waits, and nobody else: neither with fresh keys nor with older ones."""
    mine = provider(remote, clock).issuer
    good = Expected(remote.url, oidc_provider.CLIENT)
    await mine.verify(remote.id_token(), good)
    arrived, go_on = asyncio.Event(), asyncio.Event()

    async def stall(_: web.Request) -> None:
        arrived.set()
        await go_on.wait()

    remote.before = stall
    remote.header = {"kid": "made-up"}
    stranger = asyncio.create_task(mine.verify(remote.id_token(), good))
    await arrived.wait()
    remote.header = {}
    assert (await mine.verify(remote.id_token(), good))["sub"] == "u-1"
    clock.seconds += FRESH_SECONDS
    assert (await mine.verify(remote.id_token(), good))["sub"] == "u-1"
    assert not stranger.done()
    go_on.set()
    with pytest.raises(UnknownKey):
        await stranger


async def test_nobody_there(clock: Clock, unused_tcp_port: int) -> None:
    settings = IssuerSettings("a", f"http://127.0.0.1:{unused_tcp_port}", "m", allow_http=True)
    issuer = TokenIssuer(settings, clock=clock.now, monotonic=clock.ticks)
    with pytest.raises(Unreachable, match="does not answer"):
        await issuer.document()


async def test_a_jobs_issuer_whose_keys_are_a_file(
    remote: oidc_provider.Provider, clock: Clock, tmp_path: Path
) -> None:
    file = tmp_path / "jwks.json"
    settings = FederationSettings("ci", remote.url, "mk8s", jwks_file=file)
    issuer = TokenIssuer(settings, clock=clock.now, monotonic=clock.ticks)
    job = Expected(remote.url, "mk8s", is_client=False)
    with pytest.raises(Unreachable, match="ci: jwks_file: cannot be read"):
        await issuer.verify(remote.id_token(), job)
    file.write_text(json.dumps({"keys": [remote.jwk()]}))
    assert await issuer.verify(remote.id_token(azp="job"), job)
    assert remote.asked == []


def test_all_issuers_of_the_settings() -> None:
    settings = LoginSettings(
        issuers=(IssuerSettings("acme", "https://a.example", "mk8s"),),
        federation=(FederationSettings("ci", "https://ci.example", "mk8s"),),
    )
    found = Providers(settings, CENTRAL, clock=lambda: NOW, monotonic=lambda: 0.0)
    assert (list(found.people), list(found.jobs)) == (["acme"], ["ci"])


def test_the_way_through_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://me:secret@proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", "inside.example")
    assert fetch._way("https://sso.example/x") == (
        "http://proxy.example:3128",
        {"Proxy-Authorization": fetch.basic("me", "secret")},
    )
    assert fetch._way("https://inside.example/x") == (None, None)
    assert fetch._way("http://127.0.0.1:1/x") == (None, None)
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    assert fetch._way("https://sso.example/x") == ("http://proxy.example:3128", None)


async def test_an_authority_of_ones_own(tmp_path: Path) -> None:
    missing = Fetcher(tmp_path / "none.pem")
    with pytest.raises(Unreachable, match=r"does not answer \(FileNotFoundError\)"):
        await missing.get("https://127.0.0.1:1/")


async def test_https_with_an_authority_of_ones_own(tmp_path: Path) -> None:
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)

    async def answer(_: web.Request) -> web.Response:
        return web.json_response({"here": True})

    application = web.Application()
    application.router.add_get("/x", answer)
    server = TestServer(application, scheme="https")
    await server.start_server(ssl=context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    fetcher = Fetcher(tmp_path / "ca.pem")
    for _ in range(2):
        assert await fetcher.get(str(server.make_url("/x"))) == {"here": True}
    with pytest.raises(Unreachable, match="CertificateError"):
        await Fetcher().get(str(server.make_url("/x")))
    await server.close()


def test_the_bounds_are_what_the_documents_say() -> None:
    assert (token_issuer.FRESH_SECONDS, token_issuer.STALE_SECONDS) == (300, 3600)
