"""One request to an issuer: bounded in time and size, without redirects; the door of this room.

Called by `token_issuer` and `provider`. HTTPS_PROXY and NO_PROXY count as for every other program
of Kubernetes. A connection is not kept: there is one request in some minutes.
"""

import asyncio
import base64
import json
import os
import random
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp

from mk8s_agent.wire import tls
from mk8s_agent.wire.egress_proxy import EgressProxies
from mk8s_proxy.identity.oidc.errors import Unreachable

SECONDS: Final = 8.0
"""For one whole request. A person waits for two of them at most."""
LONGEST_ANSWER: Final = 1 << 20
_PAUSE: Final = 0.3
"""Seconds before the second try at most."""
_HEADERS: Final = {
    "Accept": "application/json",
    "Accept-Encoding": "identity",
    "User-Agent": "mk8s-central",
}
_FAILURES: Final = (aiohttp.ClientError, TimeoutError, OSError, ValueError)


@dataclass(frozen=True, slots=True)
class Answer:
    """What an issuer said."""

    status: int
    body: dict[str, Any]
    """Of JSON; empty where it is no JSON object."""


class Fetcher:
    """The way to one issuer.

    Args:
        ca_file: PEM of the authority to trust; None for the system's.
        seconds: for one request.
    """

    def __init__(self, ca_file: Path | None = None, *, seconds: float = SECONDS) -> None:
        self._ca_file = ca_file
        self._seconds = seconds
        self._context: ssl.SSLContext | None = None

    async def get(self, url: str, *, token: str = "") -> dict[str, Any]:
        """Fetch a JSON object, trying twice; `token` is a bearer token that the issuer gave.

        Raises:
            Unreachable: There is none to be had.
        """
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        try:
            answer = await self._request("GET", url, headers, None)
        except Unreachable:
            answer = None
        if answer is None or answer.status >= 500:
            await asyncio.sleep(random.uniform(0, _PAUSE))  # noqa: S311
            answer = await self._request("GET", url, headers, None)
        if answer.status != 200 or not answer.body:
            raise Unreachable(
                f"{shown(url)} answers {answer.status} and no JSON object that is of use"
            )
        return answer.body

    async def post(
        self, url: str, form: Mapping[str, str], *, password: tuple[str, str] | None = None
    ) -> Answer:
        """Send a form, once: what it carries may be good for one use.

        Args:
            url: where to.
            form: what.
            password: of HTTP Basic.

        Raises:
            Unreachable: There was no answer.
        """
        headers = {"Authorization": basic(*password)} if password else {}
        return await self._request("POST", url, headers, form)

    async def _request(
        self, method: str, url: str, headers: Mapping[str, str], form: Mapping[str, str] | None
    ) -> Answer:
        try:
            async with asyncio.timeout(self._seconds):
                return await self._answer(method, url, {**_HEADERS, **headers}, form)
        except _FAILURES as error:
            # Its text may name a proxy with its password.
            kind = type(error).__name__
            raise Unreachable(f"{shown(url)} does not answer ({kind})") from None

    async def _answer(
        self, method: str, url: str, headers: Mapping[str, str], form: Mapping[str, str] | None
    ) -> Answer:
        proxy, proxy_headers = _way(url)
        async with (
            # What is packed would be unpacked before anybody counts its bytes.
            aiohttp.ClientSession(
                cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False
            ) as session,
            session.request(
                method,
                url,
                headers=headers,
                data=form,
                ssl=await self._tls(url),
                proxy=proxy,
                proxy_headers=proxy_headers,
                allow_redirects=False,
            ) as response,
        ):
            return Answer(response.status, _object(await _bounded(response)))

    async def _tls(self, url: str) -> ssl.SSLContext | bool:
        if urlsplit(url).scheme != "https":
            return True
        if self._context is None:  # to read the system's authorities takes some 20 ms
            self._context = await asyncio.to_thread(self._new_context)
        return self._context

    def _new_context(self) -> ssl.SSLContext:
        authority = self._ca_file.read_bytes() if self._ca_file else b""
        return tls.apiserver_context(authority, http2=False)


async def _bounded(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > LONGEST_ANSWER:
            raise Unreachable(f"{shown(str(response.url))} answers with more than 1 MiB")
    return bytes(body)


def _object(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def shown(url: str) -> str:
    """A URL without what may be secret in it."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}{parts.path}"


def basic(user: str, password: str) -> str:
    """The value of HTTP Basic."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def _way(url: str) -> tuple[str | None, dict[str, str] | None]:
    """The proxy on the way, and what it wants to see."""
    parts = urlsplit(url)
    proxies = EgressProxies.of_environment(os.environ)
    proxy = proxies.to(parts.hostname or "", parts.port or 443) if parts.scheme == "https" else None
    if proxy is None:
        return None, None
    headers = {"Proxy-Authorization": basic(proxy.user, proxy.password)} if proxy.user else None
    return str(proxy), headers
