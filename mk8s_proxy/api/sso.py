"""Single sign-on through the browser of the machine that logs in: `/auth/sso/*`, `/auth/methods`.

A program listens on a loopback address (RFC 8252) and sends the browser here. Central sends it to
the issuer and, when it is back, to the program with a code, which the program exchanges for tokens
by the verifier that it alone has (RFC 7636). What goes wrong is told to the program, too.
"""

import hmac
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

from aiohttp import web

from mk8s_proxy.api import device, sign_in
from mk8s_proxy.api import schemas as login_schemas
from mk8s_proxy.api import sso_schemas as schemas
from mk8s_proxy.api.browser import Browser, redirect, refusal
from mk8s_proxy.api.context import ApiContext
from mk8s_proxy.api.endings import end_login
from mk8s_proxy.api.endpoint import Access, Audit, Call, Endpoint
from mk8s_proxy.api.errors import ApiError
from mk8s_proxy.api.schemas import Model
from mk8s_proxy.db import logins, pending_logins
from mk8s_proxy.db.errors import NotFound
from mk8s_proxy.identity.oidc.provider import challenge_of
from mk8s_proxy.identity.oidc.providers import CALLBACK

CODE_SECONDS: Final = 60
"""A program that waits exchanges its code at once."""
_LONGEST_STATE: Final = 128


async def auth_methods(call: Call) -> Model:
    """Say how one may log in here."""
    login = call.context.settings.login
    return schemas.AuthMethods(
        passwords=login.passwords,
        issuers=[schemas.IssuerMethod(name=it.name, title=it.shown) for it in login.issuers],
        device=bool(login.issuers),
        federation=[
            schemas.FederationMethod(name=it.name, audience=it.audience) for it in login.federation
        ],
    )


async def begin_sign_in(call: Call) -> web.Response:
    """Send a browser to an issuer. It comes back, and goes on to where the program listens.

    The issuer sends it to central's own address, where it has no cookie of any other one: who comes
    by another one is told at once, instead of after the login there.
    """
    _require_navigation(call)
    query, browser = call.read_query(schemas.SsoStartQuery), Browser(call)
    purpose = {
        "redirect_uri": query.redirect_uri,
        "state": query.state,
        "challenge": query.code_challenge,
    }
    sign_in.provider_of(call.context, query.issuer)
    try:
        _require_own_address(call)
        url = await sign_in.begin(call, browser, query.issuer, purpose)
    except ApiError as error:
        return _tell_program(call, purpose, error)
    return browser.give(redirect(url))


async def end_sign_in(call: Call) -> web.Response:
    """Take a browser back from an issuer, with what the issuer says of the person."""
    assert call.request is not None
    browser = Browser(call)
    try:
        state = call.request.query.get("state", "")[:_LONGEST_STATE]
        begun = await sign_in.come_back(call, browser, call.path["issuer"], state)
    except ApiError as error:
        return refusal(call, error)
    purpose = begun["purpose"]
    if "device" in purpose:
        return await device.signed_in(call, browser, begun)
    try:
        return await _hand_over(call, begun, purpose)
    except ApiError as error:
        return _tell_program(call, purpose, error)


async def exchange_code(call: Call) -> Model:
    """Exchange the code that the browser brought for the tokens of a new login.

    A code that comes a second time has two owners, one of them a thief: its login ends.
    """
    body, context = call.read(schemas.SsoTokenRequest), call.context
    bad = ApiError(401, "the code is not good, or not any more: log in again")
    code = sign_in.hashed(body.code)
    try:
        used = await pending_logins.use(context.database, pending_logins.CODE, code, context.now())
    except NotFound:
        bad.audit_reason = "CODE_UNKNOWN"
        raise bad from None
    kept: dict[str, Any] = used.state["login"]
    if used.used_at is not None:
        raise await _replayed(context, kept, bad)
    challenge = str(used.state["challenge"])
    if body.redirect_uri != used.state["redirect_uri"] or not hmac.compare_digest(
        challenge_of(body.code_verifier), challenge
    ):
        bad.audit_reason = "CODE_OF_ANOTHER"
        raise bad
    answer = await sign_in.open_login(call, kept)
    if await pending_logins.came_again(context.database, code):  # before there was a login to end
        raise await _replayed(context, kept, bad)
    return answer


async def _replayed(context: ApiContext, kept: dict[str, Any], bad: ApiError) -> ApiError:
    ended = await logins.end_login(context.database, str(kept["id"]), logins.REUSED, context.now())
    for login_id in ended:
        end_login(context, login_id)
    bad.audit_reason = "CODE_REPLAYED"
    return bad


def _require_navigation(call: Call) -> None:
    """Any page could hold sixty "images" from here, and leave its reader's whole office no login to
    begin for a minute (Fetch Metadata, which browsers send by themselves)."""
    assert call.request is not None
    if call.request.headers.get("Sec-Fetch-Dest", "document") != "document":
        raise ApiError(403, "open this address in a window of its own", audit_reason="EMBEDDED")


def _require_own_address(call: Call) -> None:
    assert call.request is not None
    own = call.context.settings.public_url
    if _authority(call.request.host) != _authority(urlsplit(own).netloc):
        message = f"log in at {own}, the address that central itself uses"
        raise ApiError(400, message, audit_reason="OTHER_ADDRESS")


def _authority(written: str) -> str:
    return written.lower().removesuffix(":443")


async def _hand_over(call: Call, begun: dict[str, Any], purpose: dict[str, Any]) -> web.Response:
    who = await sign_in.vouched(call, begun)
    issuer = str(begun["issuer"])
    user = await sign_in.admit(call, issuer, who)
    code = sign_in.secret()
    kept = {
        "login": sign_in.opening(call.context, issuer, user, who),
        "challenge": purpose["challenge"],
        "redirect_uri": purpose["redirect_uri"],
    }
    await sign_in.keep(call.context, pending_logins.CODE, code, kept, CODE_SECONDS)
    return _to_program(call, purpose, {"code": code})


def _tell_program(call: Call, purpose: dict[str, Any], error: ApiError) -> web.Response:
    call.refused = error
    word = {400: "invalid_request", 403: "access_denied"}
    word |= dict.fromkeys((429, 503), "temporarily_unavailable")
    told = {"error": word.get(error.code, "server_error"), "error_description": error.message}
    return _to_program(call, purpose, told)


def _to_program(call: Call, purpose: dict[str, Any], answer: dict[str, str]) -> web.Response:
    """RFC 9207: the answer says whose it is."""
    answer |= {"state": purpose["state"], "iss": call.context.settings.public_url}
    return redirect(f"{purpose['redirect_uri']}?{urlencode(answer)}")


ENDPOINTS = (
    Endpoint(
        "GET",
        "/auth/methods",
        auth_methods,
        "Say how one may log in",
        Access.PUBLIC,
        response=schemas.AuthMethods,
    ),
    Endpoint(
        "GET",
        "/auth/sso/start",
        begin_sign_in,
        "Send a browser to log in at an issuer",
        Access.PUBLIC,
        query=schemas.SsoStartQuery,
        status=303,
        refusals=(403, 404),
        media_type="text/html",
    ),
    Endpoint(
        "GET",
        f"{CALLBACK}/{{issuer}}",
        end_sign_in,
        "Take a browser back from an issuer",
        Access.PUBLIC,
        Audit.CREDENTIAL,
        status=303,
        refusals=(400, 403, 409),
        verb="create",
        resource="signins",
        media_type="text/html",
    ),
    Endpoint(
        "POST",
        "/auth/sso/token",
        exchange_code,
        "Exchange the code of a browser for tokens",
        Access.PUBLIC,
        Audit.CREDENTIAL,
        request=schemas.SsoTokenRequest,
        response=login_schemas.TokenResponse,
        refusals=(401, 403),
        verb="create",
        resource="logins",
    ),
)
