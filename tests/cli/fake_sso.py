"""Central's single sign-on and federation as the CLI sees them; a part of `fake_central`.

The page where a person signs in confirms at once: whoever opens it is sent back with a code.
"""

import base64
import hashlib
import secrets
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from aiohttp import web

Answer = tuple[int, object]
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ACME = {"name": "acme", "title": "Acme"}


@dataclass
class FakeSso:
    """What a test sets, and what it may look at afterwards."""

    passwords: bool = True
    issuers: list[dict[str, str]] = field(default_factory=lambda: [ACME])
    device: bool = True
    federation: list[dict[str, str]] = field(default_factory=list)
    iss: str | None = None
    """Who the answer says it is from; None for the truth."""
    refusal: dict[str, str] = field(default_factory=dict)
    """What the browser comes back with instead of a code."""
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    """What was asked for with each code that is unused."""
    begun: dict[str, Any] = field(default_factory=dict)
    """What differs in the answer that begins a login by code."""
    polls: list[str] = field(default_factory=list)
    """Words that a login by code is answered with, before it is one."""
    job_tokens: set[str] = field(default_factory=set)
    """Tokens of jobs that are taken."""
    job_seconds: float = 900

    def answer(self, request: web.Request, body: Any, url: str) -> Answer | None:
        """None where a login has been opened."""
        match request.path:
            case "/auth/methods":
                return 200, self._methods()
            case "/auth/sso/start":
                return self._start(dict(request.query), url)
            case "/auth/sso/token":
                return self._token(body)
            case "/auth/device":
                return 200, self._device(url) | self.begun
            case "/auth/device/token" if self.polls:
                word = self.polls.pop(0)
                return 400, {"status": 400, "detail": f"told: {word}", "code": word}
            case "/auth/device/token" if body == {"device_code": "device-1"}:
                return None
        return error(400, "no such login")

    def exchange(self, form: dict[str, str]) -> Answer:
        """RFC 8693."""
        if form["grant_type"] != EXCHANGE or form["subject_token"] not in self.job_tokens:
            return error(401, "this token is not trusted here")
        assert form["subject_token_type"] == "urn:ietf:params:oauth:token-type:jwt"
        token = f"access-any-{secrets.token_hex(4)}"
        return 200, {"access_token": token, "expires_in": self.job_seconds, "token_type": "Bearer"}

    def _methods(self) -> dict[str, Any]:
        return {
            "passwords": self.passwords,
            "issuers": self.issuers,
            "device": self.device,
            "federation": self.federation,
        }

    def _start(self, query: dict[str, str], url: str) -> Answer:
        assert query["code_challenge_method"] == "S256"
        assert query["issuer"] in {it["name"] for it in self.issuers}
        back = {"state": query["state"], "iss": url if self.iss is None else self.iss}
        if self.refusal:
            back |= self.refusal
        else:
            code = secrets.token_urlsafe(16)
            self.codes[code] = query
            back["code"] = code
        return 302, f"{query['redirect_uri']}?{urlencode(back)}"

    def _token(self, body: Any) -> Answer | None:
        asked = self.codes.pop(body["code"], None)
        if asked is None or asked["redirect_uri"] != body["redirect_uri"]:
            return error(400, "this code is not known: log in again")
        digest = hashlib.sha256(body["code_verifier"].encode()).digest()
        if base64.urlsafe_b64encode(digest).decode().rstrip("=") != asked["code_challenge"]:
            return error(400, "the verifier is another one")
        return None

    def _device(self, url: str) -> dict[str, Any]:
        return {
            "device_code": "device-1",
            "user_code": "BCDF-GHJK",
            "verification_uri": f"{url}/auth/device",
            "verification_uri_complete": f"{url}/auth/device?user_code=BCDF-GHJK",
            "expires_in": 600,
            "interval": 5,
        }


def error(code: int, message: str) -> Answer:
    return code, {"status": code, "reason": "Refused", "detail": message}
