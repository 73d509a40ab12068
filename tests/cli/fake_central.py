"""Central's management API as the CLI sees it, over real TLS, in a thread of the test process.

It keeps the promises that the CLI leans on: refresh tokens serve once, a second use ends the login
unless it is the same attempt while the token that it gave is unused.
"""

import asyncio
import json
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any
from urllib.parse import parse_qsl

import trustme
from aiohttp import web

from mk8s_proxy.identity.service_token import new_service_token
from tests.cli.fake_sso import FakeSso, error

EMAIL, PASSWORD = "dev@example.com", "correct horse"
SERVICE_TOKEN = new_service_token()
Answer = tuple[int, object]


def cluster(name: str, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "labels": {"env": name},
        "status": "connected",
        "agents": 2,
        "agent_version": "0.1.0",
        "kubernetes_version": "v1.32.4",
        "last_seen": "2026-01-02T03:04:05Z",
        "verbs": ["get", "list"],
        **more,
    }


LISTS = frozenset({"/clusters", "/users", "/roles", "/groups", "/tokens", "/logins", "/locks"})


@dataclass
class FakeCentral:
    """What a test sets, and what it may look at afterwards."""

    authority: trustme.CA = field(default_factory=trustme.CA)
    names: tuple[str, ...] = ("127.0.0.1", "localhost")
    clusters: list[dict[str, Any]] = field(
        default_factory=lambda: [cluster("dev"), cluster("prod")]
    )
    users: list[dict[str, Any]] = field(default_factory=list)
    identities: list[dict[str, Any]] = field(default_factory=list)
    """Whom issuers mean by each of them."""
    roles: list[dict[str, Any]] = field(default_factory=list)
    permissions: list[dict[str, Any]] = field(default_factory=list)
    tokens: list[dict[str, Any]] = field(default_factory=list)
    groups: list[dict[str, Any]] = field(default_factory=list)
    logins: list[dict[str, Any]] = field(default_factory=list)
    locks: list[dict[str, Any]] = field(default_factory=list)
    lock_ends: str | None = None
    cluster_rbac: list[dict[str, Any]] = field(default_factory=list)
    rbac_notes: list[dict[str, Any]] = field(default_factory=list)
    login: dict[str, Any] = field(default_factory=lambda: {"id": "login-1"})
    about: dict[str, Any] = field(default_factory=dict)
    """What `whoami` says beside the usual."""
    delegation: dict[str, Any] = field(
        default_factory=lambda: {
            "id": "0198b0c2-7a10-7c11-9d0a-5d2f1c3b4a59",
            "delegate": "robot/0198",
            "ends_at": "2126-01-02T03:04:05Z",
            "narrowing": {
                "clusters": ["d*"], "namespaces": ["shop"],
                "verbs": ["get", "list"], "resources": ["pods"],
            },
        }
    )  # fmt: skip
    admin: bool = False
    email: str = EMAIL
    password: str = PASSWORD
    must_change: bool = False
    clock_offset: float = 0.0
    expires_in: float = 900
    overrides: dict[str, list[Answer]] = field(default_factory=dict)
    """"METHOD /path" to answers given before the usual ones."""
    calls: list[tuple[str, str, Any]] = field(default_factory=list)
    queries: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    """Path and parameters of each call."""
    refresh_token: str = ""
    used: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Refresh token to the attempt that used it and the token that it gave."""
    lost_answers: int = 0
    """How many answers to refreshes are lost on their way: the connection breaks instead."""
    headers: dict[str, str] = field(default_factory=dict)
    """Added to every answer."""
    published: str | None = None
    """What `GET /ca.pem` answers in place of the authority."""
    takes_service_token: bool = True
    sso: FakeSso | None = None
    """What it offers beside passwords; None for an older central, which offers nothing else."""
    port: int = 0

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def authority_pem(self) -> str:
        return self.authority.cert_pem.bytes().decode()

    def count(self, method: str, path: str) -> int:
        return sum((method, path) == call[:2] for call in self.calls)

    def body(self, method: str, path: str) -> Any:
        """The body of the last such call."""
        return next(body for *call, body in reversed(self.calls) if call == [method, path])

    @contextmanager
    def running(self) -> Iterator["FakeCentral"]:
        """Serve until the block ends."""
        loop = asyncio.new_event_loop()
        runner = loop.run_until_complete(self._start(loop))
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        try:
            yield self
        finally:
            asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(10)
            loop.call_soon_threadsafe(loop.stop)
            thread.join(10)
            loop.close()

    async def _start(self, loop: asyncio.AbstractEventLoop) -> web.AppRunner:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.authority.issue_cert(*self.names).configure_cert(context)
        application = web.Application(client_max_size=1 << 20)
        application.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", self.port, ssl_context=context, backlog=256)
        await site.start()
        self.port = runner.addresses[0][1]
        return runner

    async def _handle(self, request: web.Request) -> web.Response:
        content = await request.read()
        is_form = request.content_type == "application/x-www-form-urlencoded"
        decoded = dict(parse_qsl(content.decode())) if is_form else json.loads(content or b"null")
        body: Any = decoded
        self.calls.append((request.method, request.path, body))
        self.queries.append((request.path, dict(request.query)))
        waiting = self.overrides.get(f"{request.method} {request.path}")
        code, answer = (
            waiting.pop(0)
            if waiting
            else self._other_sources(request, body) or self._answer(request, body)
        )
        if request.path == "/auth/refresh" and self.lost_answers:
            self.lost_answers -= 1
            assert request.transport is not None
            request.transport.abort()
        headers = {"Date": formatdate(self._now(), usegmt=True), **self.headers}
        if code == 302:
            return web.Response(status=code, headers={**headers, "Location": str(answer)})
        if isinstance(answer, str):
            return web.Response(status=code, text=answer, headers=headers)
        if code == 204:
            return web.Response(status=code, headers=headers)
        return web.json_response(answer, status=code, headers=headers)

    def _now(self) -> float:
        return time.time() + self.clock_offset

    def _answer(self, request: web.Request, body: Any) -> Answer:
        method, path = request.method, request.path
        if path == "/ca.pem":
            return 200, self.authority_pem if self.published is None else self.published
        if path == "/auth/login":
            if body != {"email": EMAIL, "password": self.password}:
                return error(401, "wrong email or password")
            return error(403, "must be changed") if self.must_change else (200, self._grant(""))
        if path == "/auth/password":
            if (body["email"], body["password"]) != (EMAIL, self.password):
                return error(401, "wrong email or password")
            self.password, self.must_change = body["new_password"], False
            return 204, None
        if path == "/auth/refresh":
            return self._refresh(body)
        if path == "/auth/logout":
            self.refresh_token = ""
            return 204, None
        bearer = request.headers.get("Authorization", "")
        if bearer == f"Bearer {SERVICE_TOKEN}" and self.takes_service_token:
            return self._of_service_token(path, body) or self._authenticated(method, path, body)
        if not bearer.startswith("Bearer access-"):
            return error(401, "no token: ask for one")
        return self._ends(method, path) or self._authenticated(method, path, body)

    def _other_sources(self, request: web.Request, body: Any) -> Answer | None:
        """Logins without a password; None for what is none. An older central has none at all."""
        is_exchange = request.path == "/auth/token" and "grant_type" in body
        of_sso = ("/auth/sso/", "/auth/device", "/auth/methods")
        if not is_exchange and not request.path.startswith(of_sso):
            return None
        if self.sso is None:
            return error(404, "there is no such endpoint: see /openapi.json")
        if is_exchange:
            return self.sso.exchange(body)
        answer = self.sso.answer(request, body, self.url)
        return (200, self._grant("")) if answer is None else answer

    def _of_service_token(self, path: str, body: Any) -> Answer | None:
        if path == "/auth/whoami":
            user = {"id": "t1", "email": "token:ci", "name": ""}
            about = {"roles": ["developer"], "clusters": [], "admin": False}
            login = {"source": "service_token", "client": "", "opened_at": "2026-01-02T03:04:05Z"}
            ends = {"ends_at": "2126-01-02T03:04:05Z"}
            return 200, {"user": user, **about, "login": {**login, **ends}}
        return self._cluster_token(body) if path == "/auth/token" else None

    def _cluster_token(self, body: Any) -> Answer:
        name = body["cluster"]
        if name not in {item["name"] for item in self.clusters}:
            return error(404, "no such cluster")
        number = len(self.calls)
        token = {"access_token": f"access-{name}-{number}", "expires_in": self.expires_in}
        return 200, {**token, "token_type": "Bearer", "cluster": name}

    def _ends(self, method: str, path: str) -> Answer | None:
        if path == "/delegations":
            made = {"access_token": "access-delegated", "refresh_token": "refresh-delegated"}
            user = {"email": EMAIL, "roles": []}
            return 201, {**made, "expires_in": 900, "user": user, "delegation": self.delegation}
        if method != "DELETE":
            return None
        if path == "/logins" or (path.endswith("/logins") and self.admin):
            return 200, {"ended": 2 if path == "/logins" else 3}
        return (204, None) if path.startswith("/logins/") else None

    def _authenticated(self, method: str, path: str, body: Any) -> Answer:
        if path == "/auth/whoami":
            named = {"id": "1", "email": self.email, "name": "Dev"}
            about = {"user": named, "roles": ["developer"], "login": self.login, **self.about}
            return 200, {**about, "clusters": [], "admin": self.admin}
        if path == "/auth/token":
            return self._cluster_token(body)
        if path.endswith("/permissions"):
            return 200, {"cluster": path.split("/")[2], "rules": self.permissions}
        if method == "GET" and path in LISTS:
            return 200, {path[1:]: getattr(self, path[1:]), "next_cursor": None}
        if method == "POST" and (made := self._made(path, body)):
            return 201, made
        if not self.admin:
            return error(403, "only administrators may do this")
        if method == "GET" and path.endswith(("/rbac", "/identities")):
            of_cluster = {"items": self.cluster_rbac, "notes": self.rbac_notes}
            return 200, of_cluster if path.endswith("/rbac") else {"identities": self.identities}
        if (method, path) == ("POST", "/rbac"):
            return 200, {"changes": self._rbac(body), "dry_run": body["dry_run"]}
        if path.endswith("/join-token") or (method, path) == ("POST", "/clusters"):
            return 201, {
                "join_token": "join-1",
                "join_expires_at": "2026-01-02T03:04:05Z",
                "ca_pin": f"sha256:{'0' * 64}",
                "central_url": self.url,
                "command": "AGENT_TOKEN=join-1 mk8s-agent",
            }
        return (204, None) if method == "DELETE" else (200, body)

    def _made(self, path: str, body: Any) -> dict[str, Any] | None:
        if path == "/locks":
            return {**body, "id": "lock-1", "expires_at": self.lock_ends}
        if path.startswith("/tokens"):
            return {"name": "ci", "expires_at": "2026-03-02T03:04:05.123Z", "token": SERVICE_TOKEN}
        return None

    def _rbac(self, body: Any) -> list[dict[str, str]]:
        """Compare with what is there, as central does; a dry run is never kept here either."""
        stored = {it.get("name"): it.get("clusters") for it in self.roles}
        held = {it["email"]: it.get("roles", []) for it in self.users}
        changes = []
        for role in body["roles"]:
            known = role["name"] in stored
            same = stored.get(role["name"]) == role["clusters"]
            action = "unchanged" if same else "changed" if known else "created"
            changes.append({"kind": "role", "name": role["name"], "action": action, "detail": ""})
        for user in body["users"]:
            before, after = held.get(user["email"]), user["roles"]
            action = "created" if before is None else "unchanged" if before == after else "changed"
            told = ", ".join(after) or "none"
            detail = f"roles: {told}" if before is None else f"roles: {', '.join(before)} -> {told}"
            changes.append(
                {"kind": "user", "name": user["email"], "action": action, "detail": detail}
            )
        return changes

    def _refresh(self, body: Any) -> Answer:
        given, name, attempt = (
            body.get(key, "") for key in ("refresh_token", "cluster", "attempt")
        )
        if given in self.used:
            if attempt and self.used[given] == (attempt, self.refresh_token):
                return 200, self._grant(name, self.refresh_token)
            self.refresh_token = ""
            return error(401, "this refresh token was used before")
        if not given or given != self.refresh_token:
            return error(401, "this login has ended")
        if name and name not in {item["name"] for item in self.clusters}:
            return error(404, f"cluster {name} is unknown or not yours")
        grant = self._grant(name)
        self.used[given] = (attempt, self.refresh_token)
        return 200, grant

    def _grant(self, name: str, refresh_token: str = "") -> dict[str, Any]:
        number = len(self.calls)
        self.refresh_token = refresh_token or f"refresh-{number}"
        return {
            "access_token": f"access-{name or 'any'}-{number}",
            "token_type": "Bearer",
            "expires_in": self.expires_in,
            "refresh_token": self.refresh_token,
            "user": {"id": "1", "email": self.email, "name": "Dev", "roles": ["developer"]},
        }
