"""A login at an issuer of people's: through the browser of this machine, or by a code on another.

Called by the login; central does the talking to the issuer. Through the browser: authorization code
with PKCE (RFC 7636) and a loopback redirect (RFC 8252). By a code: RFC 8628 with central as the
server. Whatever central says is checked before a person is sent there.
"""

import base64
import hashlib
import secrets
import socket
import sys
import time
from urllib.parse import urlencode, urlsplit

from mk8s_cli.central.api import Central, Document, Grant, grant, text
from mk8s_cli.login import browser
from mk8s_cli.login.loopback import Callback, Loopback
from mk8s_cli.terminal.errors import CliError, Refused, Unreachable
from mk8s_cli.terminal.progress import waiting
from mk8s_cli.terminal.screen import note, one_line
from mk8s_cli.terminal.validation import (
    CENTRAL_URL,
    DEVICE_CODE_PAGE,
    TOKEN,
    USER_CODE,
    central_url,
)

LONGEST_WAIT_SECONDS = 900.0
"""For a code to be confirmed, whatever central says."""
SHORTEST_INTERVAL, LONGEST_INTERVAL = 1.0, 60.0
INTERVAL_SECONDS = 5.0
SLOWER_SECONDS = 5.0
"""What slow_down adds (RFC 8628, 3.5)."""
LONGEST_HOST = 64
LONGEST_TOLD = 300
LONGEST_CODE = 2048
_BAD_REQUEST, _TOO_MANY = 400, 429


def by_browser(central: Central, issuer: str) -> Grant:
    """Log in through the browser.

    Raises:
        CliError: nobody came back in time, or it was refused.
    """
    state, verifier = secrets.token_urlsafe(32), secrets.token_urlsafe(48)
    with Loopback(state) as loopback:
        query = {
            "issuer": issuer,
            "redirect_uri": loopback.redirect_uri,
            "state": state,
            "code_challenge": _challenge(verifier),
            "code_challenge_method": "S256",
        }
        browser.show(f"{central.transport.central}/auth/sso/start?{urlencode(query)}")
        answer = loopback.wait()
    body = {
        "code": _code(answer, central.transport.central),
        "code_verifier": verifier,
        "redirect_uri": loopback.redirect_uri,
    }
    with waiting("logging in"):
        return grant(central.call("POST", "/auth/sso/token", body), "")


def by_device(central: Central, issuer: str) -> Grant:
    """Log in by a code that is entered in a browser anywhere.

    Raises:
        CliError: it was refused, or nobody confirmed it in time.
    """
    asked = {"host": socket.gethostname()[:LONGEST_HOST]}
    if issuer:
        asked["issuer"] = issuer
    begun = central.call("POST", "/auth/device", asked)
    code = text(begun, "device_code")
    if not TOKEN.fullmatch(code):
        raise _strange("device_code is none")
    _tell_code(begun, central.transport.central)
    patience = min(_seconds(begun, "expires_in", LONGEST_WAIT_SECONDS), LONGEST_WAIT_SECONDS)
    interval = _seconds(begun, "interval", INTERVAL_SECONDS)
    interval = min(max(interval, SHORTEST_INTERVAL), LONGEST_INTERVAL)
    return _poll(central, code, interval, time.monotonic() + patience)


def _challenge(verifier: str) -> str:
    digest = hashlib.sha256(verifier.encode()).digest()
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def _code(answer: Callback, central: str) -> str:
    """Return the code, if it is of our central."""
    if not _is_address(answer.issuer, central):
        # Another one's code would be sent to ours, or ours to another (mix-up, RFC 9207).
        told = one_line(answer.issuer)[:LONGEST_TOLD] or "nobody"
        raise CliError(
            f"the answer is refused: it is from {told} instead of {central}; "
            "log in at the address that central itself uses (public_url)"
        )
    if answer.error or not answer.code:
        why = one_line(answer.description or answer.error)[:LONGEST_TOLD] or "it holds no code"
        raise CliError(f"the login was refused: {why}")
    if len(answer.code) > LONGEST_CODE or not TOKEN.fullmatch(answer.code):
        raise _strange("the code is none")
    return answer.code


def _tell_code(begun: Document, central: str) -> None:
    user_code = text(begun, "user_code")
    if not USER_CODE.fullmatch(user_code):
        raise _strange("user_code is none")
    page = _page(text(begun, "verification_uri"), central)
    note("open this page in a browser on any machine and enter the code:")
    print(f"{page}\n{user_code}", file=sys.stderr, flush=True)
    if complete := text(begun, "verification_uri_complete"):
        note("or open it with the code in it:")
        print(_page(complete, central), file=sys.stderr, flush=True)
    note("waiting for the login there (Ctrl-C stops)")


def _page(url: str, central: str) -> str:
    """Return the address of a page of central's; nobody is sent anywhere else."""
    if not DEVICE_CODE_PAGE.fullmatch(url) or not _is_address(_origin(url), central):
        raise CliError(
            f"central's answer is refused: the page for the code is not at {central}; "
            "log in at the address that central itself uses (public_url)"
        )
    return url


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _is_address(url: str, central: str) -> bool:
    """Whether `url` is central's address, in whatever spelling."""
    return CENTRAL_URL.fullmatch(url.rstrip("/")) is not None and central_url(url) == central


def _poll(central: Central, code: str, interval: float, ends: float) -> Grant:
    while time.monotonic() + interval < ends:
        time.sleep(interval)
        try:
            return grant(central.call("POST", "/auth/device/token", {"device_code": code}), "")
        except Unreachable as error:
            note(f"{error}; trying again")
            interval = min(interval * 2, LONGEST_INTERVAL)
        except Refused as refused:
            interval += _slower(refused)
    raise _too_late()


def _slower(refused: Refused) -> float:
    """Return how much longer to wait before the next question; raise if there is none to ask."""
    if refused.word == "authorization_pending":
        return 0.0
    if refused.word == "slow_down" or refused.code == _TOO_MANY:
        return max(SLOWER_SECONDS, min(refused.retry_after or 0.0, LONGEST_INTERVAL))
    if refused.word == "access_denied":
        raise CliError("the login was refused in the browser") from refused
    if refused.word == "expired_token":
        raise _too_late() from refused
    raise refused


def _too_late() -> CliError:
    return CliError("nobody confirmed the code in time: log in again")


def _seconds(document: Document, key: str, default: float) -> float:
    value = document.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return default
    return float(value) if value > 0 else default


def _strange(what: str) -> CliError:
    return CliError(f"central's answer is refused: {what}")
