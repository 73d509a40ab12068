"""The limits of the settings as a client meets them: a whole central, TLS, both HTTP versions."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from mk8s_agent.wire import hpack_codec
from mk8s_proxy.db import clusters, roles, users
from mk8s_proxy.process.app import Central
from mk8s_proxy.process.init import AdminChoice, install
from mk8s_proxy.settings.model import LimitSettings, Settings
from tests.support.work import HELD_TOO_LONG, LoopMonitor

HEADERS, RST_STREAM, SETTINGS, GOAWAY = 1, 3, 4, 7
MAX_CONCURRENT_STREAMS, MAX_HEADER_LIST_SIZE = 3, 6
REFUSED_STREAM = 7
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
LIMITS = LimitSettings(streams_per_connection=2, header_list_bytes=8192, target_bytes=20_000)


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    head = len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big")
    return head + payload


def request(size: int = 0) -> bytes:
    """A header block of about this size."""
    fields = [
        (b":method", b"GET"),
        (b":scheme", b"https"),
        (b":authority", b"localhost"),
        (b":path", b"/k8s/prod/api/v1/pods"),
    ]
    return hpack_codec.block([*fields, (b"x-long", b"x" * size)])


@pytest.fixture
async def central(tmp_path: Path) -> AsyncIterator[Central]:
    settings = Settings(
        data_dir=tmp_path / "data", listen="127.0.0.1:0", admin_listen="", limits=LIMITS
    )
    await install(settings, AdminChoice(None, "correct horse battery", str), None, lambda _: None)
    running = Central(settings)
    await running.start()
    yield running
    await running.stop(0)


class Client:
    """One connection; it trusts whoever answers."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def frame(self) -> tuple[int, int, bytes]:
        """Kind, stream and payload of the next frame."""
        head = await self.reader.readexactly(9)
        payload = await self.reader.readexactly(int.from_bytes(head[:3], "big"))
        return head[3], int.from_bytes(head[5:], "big"), payload

    async def wait(self, kind: int) -> tuple[int, bytes]:
        while True:
            seen, stream, payload = await self.frame()
            if seen == kind:
                return stream, payload


@contextlib.asynccontextmanager
async def client(central: Central, protocol: str) -> AsyncIterator[Client]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols([protocol])
    reader, writer = await asyncio.open_connection("127.0.0.1", central.port, ssl=context)
    yield Client(reader, writer)
    writer.transport.abort()


async def told(connection: Client) -> dict[int, int]:
    """What central announces in its SETTINGS."""
    connection.writer.write(PREFACE + frame(SETTINGS, 0, 0))
    _, payload = await connection.wait(SETTINGS)
    entries = [payload[place : place + 6] for place in range(0, len(payload), 6)]
    return {int.from_bytes(e[:2], "big"): int.from_bytes(e[2:], "big") for e in entries}


async def test_http2_clients_are_told_the_limits_of_the_settings(central: Central) -> None:
    async with client(central, "h2") as connection:
        settings = await told(connection)
    assert settings[MAX_CONCURRENT_STREAMS] == 2
    assert settings[MAX_HEADER_LIST_SIZE] == 28192


async def test_a_stream_above_the_limit_is_refused(central: Central) -> None:
    async with client(central, "h2") as connection:
        await told(connection)
        for stream in (1, 3, 5):  # their heads are cut by END_HEADERS, their bodies never end
            post = request().replace(b"\x82", b"\x83", 1)
            connection.writer.write(frame(HEADERS, 4, stream, post))
        stream, code = await connection.wait(RST_STREAM)
    assert (stream, int.from_bytes(code, "big")) == (5, REFUSED_STREAM)


@pytest.fixture
def loop_monitor() -> Iterator[LoopMonitor]:
    monitor = LoopMonitor()
    monitor.start()
    yield monitor
    monitor.stop()


async def test_attack_heads_over_the_limit_hold_the_loop_for_nobody(
    central: Central, loop_monitor: LoopMonitor
) -> None:
    """As many as one connection may send before it has to go, in one piece."""
    block = request() + b"".join(hpack_codec.block([(b"x%d" % n, b"y")]) for n in range(500))
    async with client(central, "h2") as connection:
        await told(connection)
        heads = (frame(HEADERS, 5, stream, block) for stream in range(1, 201, 2))
        connection.writer.write(b"".join(heads))
        await connection.wait(GOAWAY)
    assert 0 < loop_monitor.most < HELD_TOO_LONG, (loop_monitor.most, loop_monitor.by)


async def status_of(connection: Client, stream: int, size: int) -> bytes:
    connection.writer.write(frame(HEADERS, 5, stream, request(size)))
    _, block = await connection.wait(HEADERS)
    return dict(hpack_codec.Decoder(0, 1 << 20).decode(block))[b":status"]


@pytest.mark.parametrize(("size", "status"), [(7000, b"401"), (9000, b"431")])
async def test_http2_heads_are_measured_by_the_setting(
    central: Central, size: int, status: bytes
) -> None:
    async with client(central, "h2") as connection:
        await told(connection)
        assert await status_of(connection, 1, size) == status


@pytest.mark.parametrize(("size", "status"), [(7000, b"401"), (9000, b"431")])
async def test_http1_heads_are_measured_by_the_setting(
    central: Central, size: int, status: bytes
) -> None:
    async with client(central, "http/1.1") as connection:
        head = b"GET /k8s/prod/api/v1/pods HTTP/1.1\r\nHost: localhost\r\nX-Long: "
        connection.writer.write(head + b"x" * size + b"\r\n\r\n")
        line = await connection.reader.readline()
    assert line.split()[1] == status


async def test_limits_of_roles_count_as_soon_as_the_policy_is_loaded(central: Central) -> None:
    rules = [{"name": "*", "namespaces": ["*"], "verbs": ["get"], "resources": ["pods"]}]
    await roles.put_role(central.database, "many", rules, {"streams": 5000})
    await users.create_user(central.database, "dev@example.com", "", None, ["many"])
    await clusters.create_cluster(central.database, "prod", {})
    await central.policies.refresh()

    def limits(user: str) -> tuple[int, int]:
        shares = central.chain.departures.shares
        assert shares._policy is not None
        return shares._policy.limits_of(user, "prod", shares._streams, shares._buffered)

    assert limits("dev@example.com") == (5000, 64 << 20)
    await roles.put_role(central.database, "many", rules, {"streams": 50})
    await central.policies.refresh()
    assert limits("dev@example.com") == (50, 64 << 20)
    assert limits("admin@example.com") == (2000, 64 << 20)
