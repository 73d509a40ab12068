"""A stand-in for kube-apiserver over real TLS: /version and one Secret, with a bearer token."""

import base64
import contextlib
import hashlib
import json
import ssl
from collections.abc import AsyncIterator
from typing import Any

import trustme
from aiohttp import web

from mk8s_agent.credentials.sources import (
    ApiServerCredentials,
)
from mk8s_agent.credentials.token_sources import (
    StaticSource,
)


class ApiServerForTests:
    """Serves on a port of its own; what it holds can be changed while it runs."""

    def __init__(self) -> None:
        self.authority = trustme.CA()
        self.token = "service-account"
        self.version: object = {"gitVersion": "v1.31.2"}
        self.discovery: dict[str, object] = {}
        """Aggregated discovery by path; without it the paths are not there."""
        self.unchanged: list[str] = []
        """Paths of it that were answered with 304."""
        self.always_unchanged = False
        self.secret: dict[str, str] | None = {}
        self.refuse_patch = False
        self.patches: list[str] = []
        self.port = 0

    @contextlib.asynccontextmanager
    async def serve(self) -> AsyncIterator[ApiServerCredentials]:
        """Run, and give credentials that fit."""
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._answer)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.authority.issue_cert("kubernetes.default", "127.0.0.1").configure_cert(context)
        runner = web.AppRunner(application)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        self.port = runner.addresses[0][1]
        try:
            yield self.credentials()
        finally:
            await runner.cleanup()

    def credentials(self, **changes: Any) -> ApiServerCredentials:
        """Give the credentials of an agent in this server's cluster."""
        values: dict[str, Any] = {
            "description": "test",
            "host": "127.0.0.1",
            "port": self.port,
            "path_prefix": "",
            "tls_server_name": "kubernetes.default",
            "ca_pem": self.authority.cert_pem.bytes(),
            "insecure_skip_tls_verify": False,
            "source": StaticSource(self.token),
            "client_certificate": None,
        }
        return ApiServerCredentials(**(values | changes))

    def _discover(self, path: str, known: str) -> web.Response:
        text = json.dumps(self.discovery[path])
        etag = f'"{hashlib.sha256(text.encode()).hexdigest()}"'
        if known == etag or self.always_unchanged:
            self.unchanged.append(path)
            return web.Response(status=304, headers={"ETag": etag})
        return web.Response(text=text, content_type="application/json", headers={"ETag": etag})

    def review(self, kind: str, body: Any, headers: Any) -> tuple[int, Any]:
        """The answer to a review; this one has none."""
        return 404, {"kind": "Status"}

    async def _answer(self, request: web.Request) -> web.Response:
        path = request.path.removeprefix("/prefix")
        if request.method == "GET" and "Content-Type" in request.headers:
            return web.Response(status=406)  # as kube-apiserver 1.20 does
        if path == "/version":
            if isinstance(self.version, bytes):
                return web.Response(body=self.version)
            return web.json_response(self.version)
        if request.headers.get("Authorization") != f"Bearer {self.token}":
            return web.Response(status=401)
        if request.method == "POST" and path.startswith("/apis/authorization.k8s.io/v1/"):
            assert request.content_type == "application/json"
            kind, body = path.rpartition("/")[2], await request.json()
            status, answer = self.review(kind, body, request.headers)
            if isinstance(answer, bytes):
                return web.Response(status=status, body=answer)
            return web.json_response(answer, status=status)
        if path in self.discovery:
            assert "as=APIGroupDiscoveryList" in request.headers["Accept"]
            return self._discover(path, request.headers.get("If-None-Match", ""))
        if path != "/api/v1/namespaces/mk8s/secrets/identity" or self.secret is None:
            return web.json_response({"kind": "Status"}, status=404)
        if request.method == "PATCH":
            return await self._patch(request)
        return web.json_response({"kind": "Secret", "data": self.secret or None})

    async def _patch(self, request: web.Request) -> web.Response:
        assert self.secret is not None
        assert request.content_type == "application/merge-patch+json"
        self.patches.append(request.query_string)
        if self.refuse_patch:
            return web.json_response({"kind": "Status"}, status=403)
        patch = json.loads(await request.text())
        for name, value in patch.get("data", {}).items():
            base64.b64decode(value, validate=True)
            self.secret[name] = value
        return web.json_response({"kind": "Secret", "data": self.secret})
