"""The part of central that an agent meets at its join, over real TLS; it answers as told."""

import contextlib
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import trustme
from aiohttp import web

from mk8s_agent.identity.join import JoinRequest
from mk8s_agent.wire import pki
from tests.agent.pki_for_tests import Issuer

TOKEN = "mk8s_jt_canary"


class Central:
    """A central that answers what a test wants, on a port of its own."""

    def __init__(self, authority: trustme.CA, issuer: Issuer) -> None:
        self.authority = authority
        self.issuer = issuer
        self.leaf = authority.issue_cert("localhost", "127.0.0.1")
        self.joins: list[dict[str, Any]] = []
        self.requests = 0
        self.ca_pem = authority.cert_pem.bytes()
        self.answer: Callable[[dict[str, Any]], Awaitable[web.Response]] = self.issue
        self.cluster_id = "c-1"
        self.starts = time.time() - 300
        self.url = ""

    @property
    def pin(self) -> str:
        return pki.spki_pin(self.authority.cert_pem.bytes())

    async def issue(self, body: dict[str, Any]) -> web.Response:
        csr = body["csr"].encode()
        certificate = self.issuer.sign(csr, "c-1", self.starts, self.starts + 86_400)
        return web.json_response(
            {
                "certificate": certificate.decode(),
                "ca_certificate": self.issuer.pem.decode(),
                "cluster_id": self.cluster_id,
                "expires_at": "x",
            }
        )

    async def _ca(self, _: web.Request) -> web.Response:
        self.requests += 1
        return web.Response(body=self.ca_pem)

    async def _join(self, request: web.Request) -> web.Response:
        self.requests += 1
        body = await request.json()
        self.joins.append(body)
        return await self.answer(body)

    @contextlib.asynccontextmanager
    async def serve(self, *, tls: bool = True) -> AsyncIterator[None]:
        application = web.Application()
        application.router.add_get("/ca.pem", self._ca)
        application.router.add_post("/join", self._join)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.leaf.configure_cert(context)
        runner = web.AppRunner(application)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context if tls else None)
        await site.start()
        self.url = f"https://localhost:{runner.addresses[0][1]}"
        try:
            yield
        finally:
            await runner.cleanup()

    def request(self, **changes: Any) -> JoinRequest:
        values = {
            "central_url": self.url,
            "cluster_name": "prod",
            "join_token": TOKEN,
            "ca_pin": self.pin,
        }
        return JoinRequest(**(values | changes))
