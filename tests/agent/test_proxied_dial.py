"""The agent behind a proxy, over real sockets: to central at the join, to both for the rest."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import trustme

from mk8s_agent.apiserver.own_requests import ApiServerUnreachable, kubernetes_version
from mk8s_agent.identity.join import JoinError, join
from mk8s_agent.main import loop_factory
from mk8s_agent.wire import tls
from mk8s_agent.wire.dial import DialError
from mk8s_agent.wire.egress_proxy import Proxy
from mk8s_agent.wire.https_call import CallError, Place, https_call
from tests.agent.api_server_for_tests import ApiServerForTests
from tests.agent.central_for_tests import Central
from tests.agent.pki_for_tests import Issuer
from tests.support.forward_proxy import ForwardProxy

SECRET = "hunter2"
REFUSAL = b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n" + b"x" * 100_000


@pytest.fixture(params=[asyncio.new_event_loop, loop_factory()], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[[Coroutine[Any, Any, None]], None]:
    def run_it(work: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(work)

    return run_it


@pytest.fixture
def proxy_authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> trustme.CA:
    """An authority that the system's store holds."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "system.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "system.pem"))
    return authority


@contextlib.asynccontextmanager
async def proxied(scheme: str, authority: trustme.CA) -> AsyncIterator[tuple[ForwardProxy, Proxy]]:
    context = None
    if scheme == "https":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)
    async with ForwardProxy(socks=scheme == "socks5").serve(context) as proxy:
        user = "" if scheme == "socks5" else "u"
        yield proxy, Proxy(scheme, "127.0.0.1", proxy.port, user, SECRET)


@pytest.mark.parametrize("scheme", ["http", "https", "socks5"])
def test_the_join_and_the_api_server_through_a_proxy(
    run: Callable[[Coroutine[Any, Any, None]], None], proxy_authority: trustme.CA, scheme: str
) -> None:
    async def scenario() -> None:
        central = Central(trustme.CA(), Issuer())
        # a name that only the proxy knows
        central.leaf = central.authority.issue_cert("central.invalid")
        api_server = ApiServerForTests()
        async with proxied(scheme, proxy_authority) as (proxy, through):
            async with central.serve():
                central.url = central.url.replace("localhost", "central.invalid")
                request = central.request(proxy=through)
                assert (await join(request, print)).cluster_id == "c-1"
            async with api_server.serve() as credentials:
                credentials.host, credentials.proxy = "api.invalid", through
                assert await kubernetes_version(credentials) == "v1.31.2"
            assert all(b".invalid" in head for head in proxy.heads)
            assert len(proxy.heads) == 3

    run(scenario())


def test_a_proxy_that_wants_credentials_is_named_and_they_are_not(
    run: Callable[[Coroutine[Any, Any, None]], None],
) -> None:
    async def scenario() -> None:
        async with ForwardProxy(answer=REFUSAL).serve() as proxy:
            through = Proxy("http", "127.0.0.1", proxy.port, "u", SECRET)
            words = "127.0.0.1:[0-9]+ answered 407 Proxy Authentication Required"
            request = Central(trustme.CA(), Issuer()).request(
                central_url="https://central.invalid", proxy=through, seconds=0.0
            )
            with pytest.raises(JoinError, match=words) as refused:
                await join(request, print)
            credentials = ApiServerForTests().credentials(host="h.invalid", port=1, proxy=through)
            with pytest.raises(ApiServerUnreachable, match=words) as unreachable:
                await kubernetes_version(credentials)
        assert SECRET not in f"{refused.value}{unreachable.value}{request!r}{credentials!r}"

    run(scenario())


def place(port: int, scheme: str = "http") -> Place:
    context = tls.apiserver_context(b"", insecure=True, http2=False)
    return Place("central.invalid", 443, context, "central", Proxy(scheme, "127.0.0.1", port))


async def call(where: Place, seconds: float = 5.0) -> Any:
    return await https_call(where, "GET", "/", {}, limit=1000, seconds=seconds)


async def test_a_proxy_that_says_nothing_costs_its_time_only() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:  # it never accepts
        with pytest.raises((DialError, CallError)):
            await call(place(server.getsockname()[1]), 0.1)
        await asyncio.sleep(0)


async def test_a_proxy_that_hangs_up() -> None:
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    with pytest.raises(DialError, match="the proxy closed the connection"):
        await call(place(server.sockets[0].getsockname()[1]))
    server.close()


async def test_a_proxy_whose_certificate_nobody_trusts() -> None:
    async with proxied("https", trustme.CA()) as (proxy, _):
        with pytest.raises(DialError, match="through the proxy https://127"):
            await call(place(proxy.port, "https"))
        assert proxy.heads == []


async def test_a_name_that_dns_cannot_know_is_dialled_by_nobody() -> None:
    with pytest.raises(DialError, match="is no name"):
        await call(place(1)._replace(host="ü" * 70))


# -- the call itself


@contextlib.asynccontextmanager
async def answering(*parts: bytes) -> AsyncIterator[Place]:
    """A server that says the same to everybody."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)

    writers: list[asyncio.StreamWriter] = []

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            for part in parts:
                writer.write(part)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(say, "127.0.0.1", 0, ssl=context)
    trusted = tls.apiserver_context(authority.cert_pem.bytes(), http2=False)
    yield Place("127.0.0.1", server.sockets[0].getsockname()[1], trusted, "localhost")
    server.close()
    for writer in writers:
        writer.transport.abort()
    await asyncio.sleep(0.01)


async def test_an_informational_answer_is_none() -> None:
    final = b"HTTP/1.1 200 OK\r\nX: 2\r\nContent-Length: 2\r\n\r\nok"
    async with answering(b"HTTP/1.1 103 Early\r\nY: 1\r\n\r\n", final) as where:
        answer = await call(where)
    assert (answer.status, answer.body) == (200, b"ok")
    assert answer.headers == {"x": "2", "content-length": "2"}


async def test_what_follows_the_answer_is_not_read() -> None:
    final = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    async with answering(final + final, b"x" * 100) as where:
        assert (await call(where)).body == b"ok"


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n" + b"x" * 1001], "longer than 1000"),
        ([b"HTTP/1.1 200 OK\r\n", *[b"X: " + b"y" * 20_000 + b"\r\n"] * 4], "longer than 1000"),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nx"], "closed before"),
        ([b"SSH-2.0\r\n\r\n"], "HTTP"),
        ([b"HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"], "not HTTP"),
    ],
)
async def test_answers_that_are_none(parts: list[bytes], words: str) -> None:
    async with answering(*parts) as where:
        with pytest.raises(CallError, match=words):
            await call(where)


def test_the_authority_of_the_usual_port_has_none() -> None:
    where = place(1)
    assert where.authority == "central.invalid"
    assert where._replace(host="::1", port=1).authority == "[::1]:1"
