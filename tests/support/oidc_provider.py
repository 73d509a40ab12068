"""A small OpenID provider on loopback, which does as the test says: also what no good one does.

Browsers are not needed: it logs in whoever comes, as `person`. Everything it hands out is recorded.
"""

import base64
import hashlib
import json
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode

import jwt
from aiohttp import web
from aiohttp.test_utils import TestServer
from cryptography.hazmat.primitives.asymmetric import rsa

CLIENT = "mk8s"
SECRET = "a secret: of +the client"
_KEYS = [rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(2)]
"""Making one takes long: tests that rotate have the second one."""


def person(**more: Any) -> dict[str, Any]:
    """Claims of somebody who may log in."""
    return {
        "sub": "u-1",
        "email": "Ann@Example.com",
        "email_verified": True,
        "name": "Ann",
        "groups": ["devs", "ops"],
    } | more


@dataclass
class Provider:
    """What it says, and what it was asked."""

    person: dict[str, Any] = field(default_factory=person)
    metadata: dict[str, Any] = field(default_factory=dict)
    """Over the ordinary discovery document."""
    token: dict[str, Any] = field(default_factory=dict)
    """Over the claims of the next ID tokens."""
    answer: dict[str, Any] = field(default_factory=dict)
    """Over the answers of the token endpoint; None leaves something out."""
    header: dict[str, Any] = field(default_factory=dict)
    status: int = 200
    """Of the token endpoint."""
    broken: str = ""
    """The path of what answers 500."""
    clock: Callable[[], float] = time.time
    key: int = 0
    """Which of the keys signs; it is the only one that is published."""
    asked: list[str] = field(default_factory=list)
    forms: list[dict[str, str]] = field(default_factory=list)
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    sends_iss: bool = True
    before: Callable[[web.Request], Awaitable[None]] | None = None
    """Awaited before each answer: to stall."""
    url: str = ""

    async def start(self) -> TestServer:
        application = web.Application(middlewares=[self._note])
        router = application.router
        router.add_get("/.well-known/openid-configuration", self._document)
        router.add_get("/keys", self._jwks)
        router.add_get("/authorize", self._authorize)
        router.add_post("/token", self._token)
        router.add_get("/userinfo", self._user_info)
        server = TestServer(application)
        await server.start_server()
        self.url = str(server.make_url("")).rstrip("/")
        return server

    def jwk(self) -> dict[str, Any]:
        public = _KEYS[self.key].public_key()
        made: dict[str, Any] = jwt.algorithms.RSAAlgorithm.to_jwk(public, as_dict=True)
        return made | {"kid": f"key-{self.key}", "alg": "RS256", "use": "sig"}

    def id_token(self, **claims: Any) -> str:
        now = int(self.clock())
        said = {"iss": self.url, "aud": CLIENT, "iat": now, "exp": now + 300}
        said |= self.person | claims | self.token
        said = {name: value for name, value in said.items() if value is not None}
        header = {"kid": f"key-{self.key}"} | self.header
        return jwt.encode(said, _KEYS[self.key], algorithm="RS256", headers=header)

    @web.middleware
    async def _note(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.asked.append(request.path)
        if self.before is not None:
            await self.before(request)
        if request.path == self.broken:
            return web.Response(status=500, text="broken")
        response: web.StreamResponse = await handler(request)
        return response

    async def _document(self, _: web.Request) -> web.Response:
        document = {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/keys",
            "userinfo_endpoint": f"{self.url}/userinfo",
            "authorization_response_iss_parameter_supported": self.sends_iss,
        } | self.metadata
        return web.json_response({k: v for k, v in document.items() if v is not None})

    async def _jwks(self, _: web.Request) -> web.Response:
        return web.json_response({"keys": [self.jwk()]})

    async def _authorize(self, request: web.Request) -> web.Response:
        """Where a browser comes: it is sent back at once, logged in."""
        code = secrets.token_urlsafe(8)
        self.codes[code] = dict(request.query)
        back = {"code": code, "state": request.query["state"]}
        if self.sends_iss:
            back["iss"] = self.url
        raise web.HTTPFound(f"{request.query['redirect_uri']}?{urlencode(back)}")

    async def _token(self, request: web.Request) -> web.Response:
        form = dict(parse_qsl(await request.text(), strict_parsing=True))
        self.forms.append(form)
        client, password = self._client(request, form)
        if (client, password) not in ((CLIENT, SECRET), (CLIENT, "")):
            return web.json_response({"error": "invalid_client"}, status=401)
        if self.status != 200:
            return web.json_response({"error": "invalid_grant"} | self.answer, status=self.status)
        claims: dict[str, Any] = {}
        if form["grant_type"] == "authorization_code":
            asked = self.codes.pop(form["code"], None)
            if asked is None or not self._is_for(asked, form):
                return web.json_response({"error": "invalid_grant"}, status=400)
            claims = {"nonce": asked["nonce"]}
        body = {
            "access_token": "upstream-access",
            "token_type": "Bearer",
            "id_token": self.id_token(**claims),
            "refresh_token": f"upstream-{len(self.forms)}",
        } | self.answer
        return web.json_response({k: v for k, v in body.items() if v is not None})

    @staticmethod
    def _client(request: web.Request, form: dict[str, str]) -> tuple[str, str]:
        scheme, _, value = request.headers.get("Authorization", "").partition(" ")
        if scheme != "Basic":
            return form.get("client_id", ""), form.get("client_secret", "")
        user, _, password = base64.b64decode(value).decode().partition(":")
        return unquote(user), unquote(password)

    @staticmethod
    def _is_for(asked: dict[str, str], form: dict[str, str]) -> bool:
        digest = hashlib.sha256(form["code_verifier"].encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).decode().rstrip("=")
        return (challenge, form["redirect_uri"]) == (asked["code_challenge"], asked["redirect_uri"])

    async def _user_info(self, request: web.Request) -> web.Response:
        assert request.headers["Authorization"] == "Bearer upstream-access"
        return web.Response(text=json.dumps(self.person), content_type="application/json")
