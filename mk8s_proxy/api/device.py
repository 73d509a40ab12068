"""A login of a machine without a browser, by a code that a person enters elsewhere (RFC 8628).

The machine asks for a code and then, again and again, for its tokens. The person sees on central's
page which machine asks, from where and by what program, logs in at the issuer, and says yes. Who
was sent a code by somebody else sees a machine that is not theirs (RFC 8628, section 5.4).
"""

import datetime
import re
import secrets
from typing import Any, Final

from aiohttp import web

from mk8s_proxy.api import schemas as login_schemas
from mk8s_proxy.api import sign_in
from mk8s_proxy.api import sso_schemas as schemas
from mk8s_proxy.api.browser import (
    Browser,
    button,
    facts,
    field,
    form,
    hidden,
    link,
    page,
    paragraph,
    read_form,
    refusal,
)
from mk8s_proxy.api.context import ApiContext
from mk8s_proxy.api.endpoint import Access, Audit, Call, Endpoint, too_many
from mk8s_proxy.api.errors import ApiError
from mk8s_proxy.api.schemas import Model
from mk8s_proxy.db import pending_logins
from mk8s_proxy.db.errors import Conflict, NotFound
from mk8s_proxy.db.pending_logins import DEVICE, Pending
from mk8s_proxy.identity.throttle import source_key

PATH: Final = "/auth/device"
ANSWER: Final = f"{PATH}/answer"
"""Where the page's forms go."""
SECONDS: Final = 900
"""For a person to find a browser."""
INTERVAL: Final = 5
LONGEST_INTERVAL: Final = 60
ALPHABET: Final = "BCDFGHJKLMNPQRSTVWXZ"
"""No vowels, so no words; nothing that looks like something else (RFC 8628, section 6.1)."""
_CODE: Final = re.compile(f"[{ALPHABET}]{{8}}")
_TRIES: Final = 5
_WARNING: Final = (
    "Go on only if you began this login yourself, on this machine, just now. Nobody else has a "
    "reason to send you a code: whoever did would act as you."
)

WAITING, SIGNED_IN, APPROVED, DENIED = "waiting", "signed in", "approved", "denied"


async def begin_device(call: Call) -> Model:
    """Begin a login of a machine that has no browser."""
    body, context = call.read(schemas.DeviceRequest), call.context
    is_one_of_many = sign_in.count(call)
    issuers = context.settings.login.issuers
    if not issuers:
        raise ApiError(404, "there is no single sign-on here: log in with a password")
    if body.issuer is not None:
        sign_in.provider_of(context, body.issuer)
    state = {
        "status": WAITING,
        "host": schemas.plain_name(body.host),
        "client": schemas.plain_name(call.user_agent),
        "address": call.source,
        "issuer": body.issuer or "",
        "interval": INTERVAL,
        "asked": 0.0,
    }
    code = sign_in.secret()
    user_code = await _keep(context, code, state, is_one_of_many=is_one_of_many)
    shown = f"{user_code[:4]}-{user_code[4:]}"
    place = context.settings.public_url + PATH
    return schemas.DeviceResponse(
        device_code=code,
        user_code=shown,
        verification_uri=place,
        verification_uri_complete=f"{place}?user_code={shown}",
        expires_in=SECONDS,
        interval=INTERVAL,
    )


async def ask_device(call: Call) -> Model:
    """Ask whether the person has said yes; the tokens come once.

    Until then it is a 400 whose `code` is the word of RFC 8628, section 3.5.
    """
    body, context = call.read(schemas.DeviceTokenRequest), call.context
    device = sign_in.hashed(body.device_code)
    poll = _Poll(context.clock())
    try:
        await pending_logins.change(context.database, DEVICE, device, context.now(), poll.count)
        if poll.word:
            raise _told(poll.word)
        used = await pending_logins.use(context.database, DEVICE, device, context.now())
    except NotFound:
        raise _told("expired_token") from None
    if used.used_at is not None:  # by another request at this moment
        raise _told("expired_token")
    return await sign_in.open_login(call, used.state["login"], label=str(used.state["host"]))


async def show_device_page(call: Call) -> web.Response:
    """The page where a person enters the code of a machine."""
    assert call.request is not None
    browser = Browser(call)
    given = call.request.query.get("user_code", "")[:32]
    return browser.give(_enter(browser, given))


async def answer_device_page(call: Call) -> web.Response:
    """Take a step: look at the machine that asks, sign in, say yes or no."""
    browser = Browser(call)
    try:
        said = await read_form(call, browser)
        found = await _find(call, said.get("user_code", ""))
        return browser.give(await _step(call, browser, said, found))
    except ApiError as error:
        again = form_of_code(browser) if error.code != 429 else ""
        return browser.give(refusal(call, error, again))


async def signed_in(call: Call, browser: Browser, begun: dict[str, Any]) -> web.Response:
    """Show whom a machine would act for, once the issuer has said who it is."""
    context, issuer = call.context, str(begun["issuer"])
    try:
        who = await sign_in.vouched(call, begun)
        user = await sign_in.admit(call, issuer, who)
        kept = sign_in.opening(context, issuer, user, who)
        device = str(begun["purpose"]["device"])
        state = await _change(call, device, _signed_in(kept, browser))
    except ApiError as error:
        return refusal(call, error)
    answer = form(
        browser,
        ANSWER,
        hidden("user_code", str(begun["purpose"]["user_code"])),
        button("step", "yes", "Yes, log this machine in"),
        button("step", "no", "No"),
    )
    asks = paragraph(f"You are {user.email}. This machine wants to act as you:")
    return browser.give(page("Is it yours?", asks, _machine(state), paragraph(_WARNING), answer))


class _Poll:
    """One question of a machine: too soon, or what there is to say."""

    def __init__(self, now: float) -> None:
        self.word = ""
        """Of RFC 8628; "" when the tokens can be had."""
        self._now = now

    def count(self, state: dict[str, Any]) -> dict[str, Any]:
        words = {APPROVED: "", DENIED: "access_denied"}
        self.word = words.get(state["status"], "authorization_pending")
        if self.word == "authorization_pending" and self._is_too_soon(state):
            self.word = "slow_down"
            state["interval"] = min(state["interval"] + INTERVAL, LONGEST_INTERVAL)
        return state | {"asked": self._now}

    def _is_too_soon(self, state: dict[str, Any]) -> bool:
        return bool(self._now - state["asked"] < state["interval"] - 1)


async def _keep(
    context: ApiContext, code: str, state: dict[str, Any], *, is_one_of_many: bool
) -> str:
    """Keep a new device, and return its user code."""
    ends = context.now() + datetime.timedelta(seconds=SECONDS)
    for _ in range(_TRIES):
        user_code = "".join(secrets.choice(ALPHABET) for _ in range(8))
        new = Pending(sign_in.hashed(code), DEVICE, ends, state, user_code)
        try:
            await sign_in.begin_pending(context, new, is_one_of_many=is_one_of_many)
        except Conflict:
            continue
        return user_code
    raise ApiError(429, "no code is free: try again in a minute", retry_after=60)


async def _find(call: Call, user_code: str) -> Pending:
    """The machine of a code. Guesses are few, for one address and for all of them."""
    context = call.context
    for rate, key in ((context.guesses, source_key(call.source)), (context.all_guesses, "")):
        if seconds := rate.take(key):
            raise too_many("this address", seconds)
    code = "".join(it for it in user_code.upper() if it.isalnum())
    unknown = ApiError(404, "there is no such code, or not any more", audit_reason="USER_CODE")
    if not _CODE.fullmatch(code):
        raise unknown
    try:
        found = await pending_logins.find_by_user_code(context.database, code, context.now())
    except NotFound:
        raise unknown from None
    if found.used_at is not None or found.state["status"] in (APPROVED, DENIED):
        raise unknown
    return found


async def _step(call: Call, browser: Browser, said: dict[str, str], found: Pending) -> web.Response:
    step = said.get("step", "")
    if step in ("yes", "no"):
        return await _decide(call, browser, found, step)
    if step == "sign in":
        return await _sign_in(call, browser, said.get("issuer", ""), found)
    return _look(call, browser, found)


def _look(call: Call, browser: Browser, found: Pending) -> web.Response:
    asked = str(found.state["issuer"])
    issuers = [it for it in call.context.settings.login.issuers if asked in ("", it.name)]
    parts = [
        form(
            browser,
            ANSWER,
            hidden("user_code", str(found.user_code)),
            hidden("issuer", it.name),
            button("step", "sign in", f"Sign in at {it.shown}"),
        )
        for it in issuers
    ]
    asks = paragraph("This machine wants to log in:")
    return page("Who asks", asks, _machine(found.state), paragraph(_WARNING), *parts)


async def _sign_in(call: Call, browser: Browser, issuer: str, found: Pending) -> web.Response:
    if found.state["issuer"] not in ("", issuer):
        raise ApiError(400, "the machine asks for another issuer")
    purpose = {"device": found.id, "user_code": found.user_code}
    url = await sign_in.begin(call, browser, issuer, purpose)
    return page("On to the login", link(url, "Go on to the login"), onward=url)


async def _decide(call: Call, browser: Browser, found: Pending, step: str) -> web.Response:
    if step == "no":
        await _change(call, found.id, _decided(browser, DENIED))
        return page(
            "Refused", paragraph("The machine is not logged in. You may close this window.")
        )
    state = await _change(call, found.id, _decided(browser, APPROVED))
    user = await sign_in.living_user(call, str(state["login"]["user"]))
    done = f"{state['host']} is logged in as {user.email}. You may close this window."
    return page("Done", paragraph(done))


async def _change(call: Call, device: str, changed: Any) -> dict[str, Any]:
    """Change what waits, and return what it was before. Raises `ApiError` if it is not as it must
    be for that."""
    context = call.context
    elsewhere = ApiError(409, "this login is not at that step any more: enter the code again")
    try:
        before = await pending_logins.change(
            context.database, DEVICE, device, context.now(), changed
        )
    except NotFound:
        raise elsewhere from None
    if before is None:
        raise elsewhere
    return before


def _signed_in(kept: dict[str, Any], browser: Browser) -> Any:
    """Who signed in last is whom the machine would act for: only that browser can say yes."""

    def change(state: dict[str, Any]) -> dict[str, Any] | None:
        if state["status"] in (APPROVED, DENIED):
            return None
        return state | {"status": SIGNED_IN, "login": kept, "browser": browser.binding}

    return change


def _decided(browser: Browser, status: str) -> Any:
    def change(state: dict[str, Any]) -> dict[str, Any] | None:
        if state["status"] != SIGNED_IN or not browser.is_bound(str(state["browser"])):
            return None
        return state | {"status": status}

    return change


def _machine(state: dict[str, Any]) -> str:
    return facts(
        machine=str(state["host"]), address=str(state["address"]), program=str(state["client"])
    )


def form_of_code(browser: Browser, given: str = "") -> str:
    """The form for a code."""
    code = field("user_code", "Code", given)
    return form(browser, ANSWER, code, button("step", "look", "Go on"))


def _enter(browser: Browser, given: str) -> web.Response:
    asks = paragraph("Enter the code that the other machine shows.")
    return page("Log a machine in", asks, form_of_code(browser, given))


def _told(word: str) -> ApiError:
    texts = {
        "authorization_pending": "nobody has confirmed the code yet: ask again",
        "slow_down": "ask less often",
        "access_denied": "the login was refused in the browser",
        "expired_token": "the code is over: begin the login again",
    }
    return ApiError(400, texts[word], word=word, audit_reason=word.upper())


ENDPOINTS = (
    Endpoint(
        "GET",
        PATH,
        show_device_page,
        "Show the page for the code of a machine",
        Access.PUBLIC,
        media_type="text/html",
    ),
    Endpoint(
        "POST",
        ANSWER,
        answer_device_page,
        "Take a step of the page for the code of a machine",
        Access.PUBLIC,
        Audit.CREDENTIAL,
        refusals=(400, 403, 404, 409, 413, 415),
        verb="update",
        resource="devicecodes",
        media_type="text/html",
    ),
    Endpoint(
        "POST",
        PATH,
        begin_device,
        "Begin a login of a machine without a browser",
        Access.PUBLIC,
        Audit.CREDENTIAL,
        request=schemas.DeviceRequest,
        response=schemas.DeviceResponse,
        refusals=(404,),
        verb="create",
        resource="devicecodes",
    ),
    Endpoint(
        "POST",
        f"{PATH}/token",
        ask_device,
        "Ask for the tokens of a machine",
        Access.PUBLIC,
        Audit.GRANT,
        request=schemas.DeviceTokenRequest,
        response=login_schemas.TokenResponse,
        refusals=(403,),
        verb="create",
        resource="logins",
        is_oauth=True,
    ),
)
