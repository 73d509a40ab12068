"""One small HTTPS request on a connection of its own: for what the agent itself has to ask.

The join, the agent's own Secret and the version of Kubernetes go this way: by `dial_tls`, so that
proxies and trust are those of the tunnels and of the requests of users. Redirects are not followed.
"""

import asyncio
import ssl
from collections.abc import Mapping
from typing import Final, NamedTuple

import httptools

from mk8s_agent.wire.dial import dial_tls
from mk8s_agent.wire.egress_proxy import Proxy
from mk8s_agent.wire.transport import TlsTransport

_MAX_HEAD: Final = 64 * 1024


class CallError(Exception):
    """There was a connection, and no whole answer; the sentence says why."""


class Place(NamedTuple):
    """Whom to ask."""

    host: str
    port: int
    context: ssl.SSLContext
    server_name: str
    proxy: Proxy | None = None

    @property
    def authority(self) -> str:
        """For the header Host."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == 443 else f"{host}:{self.port}"


class Answer(NamedTuple):
    """Status, headers with lower-case names, body."""

    status: int
    headers: dict[str, str]
    body: bytes


async def https_call(
    place: Place,
    method: str,
    target: str,
    headers: Mapping[str, str],
    body: bytes = b"",
    *,
    limit: int,
    seconds: float,
) -> Answer:
    """Send one request and give the answer.

    Args:
        target: path and query.
        limit: bytes that the answer's body may have.
        seconds: for the whole of it.

    Raises:
        DialError: no connection, or no trust.
        CallError: no answer, not in time, or too long a one.
    """
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[Answer] = loop.create_future()
    head = _head(place, method, target, headers, body)
    try:
        async with asyncio.timeout(seconds):
            call = await dial_tls(
                place.host,
                place.port,
                place.context,
                lambda transport: _Call(transport, outcome, head + body, limit),
                server_name=place.server_name,
                seconds=seconds,
                proxy=place.proxy,
            )
            try:
                return await outcome
            finally:
                call.transport.close()
    except TimeoutError as error:
        raise CallError("timed out") from error


def _head(place: Place, method: str, target: str, headers: Mapping[str, str], body: bytes) -> bytes:
    fields = {"Host": place.authority, "Connection": "close", **headers}
    if body or method not in ("GET", "HEAD"):
        fields["Content-Length"] = str(len(body))
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {it}" for name, it in fields.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


class _Call:
    """The connection: writes the request at once and reads one answer."""

    def __init__(
        self, transport: TlsTransport, outcome: asyncio.Future[Answer], request: bytes, limit: int
    ) -> None:
        self.transport = transport
        self._outcome = outcome
        self._limit = limit
        self._headers: dict[str, str] = {}
        self._head_bytes = 0
        self._body = bytearray()
        self._parser = httptools.HttpResponseParser(self)
        transport.write(request)

    def receive(self, data: bytes) -> None:
        """Bytes of the answer."""
        if self._outcome.done():
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._fail("the answer is not HTTP")
        self._head_bytes += len(data)
        if self._head_bytes > _MAX_HEAD + 2 * self._limit:
            self._fail(f"the answer is longer than {self._limit} bytes")

    def writable(self) -> None:
        """Nothing waits: the request was written at once."""

    def connection_lost(self) -> None:
        """The answer broke off, unless it is there."""
        self._fail("the connection was closed before the answer was complete")

    def on_header(self, name: bytes, value: bytes) -> None:
        """A field of the head."""
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, data: bytes) -> None:
        """A part of the body."""
        self._body += data
        if len(self._body) > self._limit:
            self._fail(f"the answer is longer than {self._limit} bytes")

    def on_message_complete(self) -> None:
        """The answer is whole; an informational one only says that there will be one."""
        status = self._parser.get_status_code()
        if status < 200:
            self._headers.clear()
        elif not self._outcome.done():
            self._outcome.set_result(Answer(status, self._headers, bytes(self._body)))

    def _fail(self, reason: str) -> None:
        if not self._outcome.done():
            self._outcome.set_exception(CallError(reason))
