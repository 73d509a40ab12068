"""Upgraded connections of the demo API: frames, port-forward without kubectl, bad input."""

import asyncio
import ssl
import struct
import zlib
from collections.abc import AsyncIterator

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mk8s_cli.demo_api import spdy
from mk8s_cli.demo_api.inlet import CHUNK_BYTES, Inlet
from mk8s_cli.demo_api.spdy import SpdyConnection, SpdyStream, control
from tests.demo.conftest import Client

TUNNEL = "SPDY/3.1+portforward.k8s.io"
GO_AWAY = control(spdy.GOAWAY, struct.pack(">II", 0, spdy.PROTOCOL_ERROR))


class SpdyClient:
    """The client's half, enough to talk to the server's."""

    def __init__(self) -> None:
        self.deflate = zlib.compressobj(zdict=spdy.dictionary())

    def headers(self, **headers: str) -> bytes:
        block = struct.pack(">I", len(headers))
        for name, value in headers.items():
            block += b"".join(
                struct.pack(">I", len(word)) + word.encode() for word in (name, value)
            )
        return self.deflate.compress(block) + self.deflate.flush(zlib.Z_SYNC_FLUSH)

    def open(self, stream: int, **headers: str) -> bytes:
        head = struct.pack(">IIH", stream, 0, 0)
        return control(spdy.SYN_STREAM, head + self.headers(**headers))

    def pair(self, stream: int, port: str) -> bytes:
        """Both streams of a forwarded connection; data is the second."""
        request = {"port": port, "requestid": str(stream)}
        error = self.open(stream, streamtype="error", **request)
        return error + self.open(stream + 2, streamtype="data", **request)


def data(stream: int, raw: bytes = b"", *, end: bool = False) -> bytes:
    return struct.pack(">II", stream, (spdy.FIN if end else 0) << 24 | len(raw)) + raw


class Served:
    """The server's half: what it sent, and which streams it was told of."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.streams: list[SpdyStream] = []
        self.connection = SpdyConnection(self.send, self.opened)

    async def send(self, raw: bytes) -> None:
        self.written.append(raw)

    def opened(self, stream: SpdyStream) -> None:
        if stream.headers.get("streamtype") == "odd":
            raise ValueError("nobody wants it")
        self.streams.append(stream)

    async def receive(self, *pieces: bytes) -> None:
        async def received() -> AsyncIterator[bytes]:
            for piece in pieces:
                yield piece

        await self.connection.receive(received())


class TestSpdy:
    async def test_frames_in_any_pieces(self) -> None:
        client = SpdyClient()
        ping = control(spdy.PING, struct.pack(">I", 1))
        raw = client.open(1, StreamType="Error") + client.open(3, streamtype="stdin") + ping
        raw += data(3, b"hi") + data(3, b" you", end=True) + data(3, b"late") + data(9, b"nobody")
        raw += control(4, struct.pack(">I", 0))  # SETTINGS say nothing to us
        for pieces in ([raw], [bytes([byte]) for byte in raw]):
            served = Served()
            await served.receive(*pieces)
            assert [stream.headers for stream in served.streams] == [
                {"streamtype": "error"},
                {"streamtype": "stdin"},
            ]
            assert await served.streams[1].inlet.reader.read() == b"hi you"
            assert served.written[2:] == [ping]

    async def test_replies(self) -> None:
        served = Served()

        async def received() -> AsyncIterator[bytes]:
            yield SpdyClient().open(5, streamtype="stdout")
            (stream,) = served.streams
            await stream.send(b"ab")
            await stream.send(b"c", end=True)
            with pytest.raises(ConnectionResetError):
                await stream.send(b"d")

        await served.connection.receive(received())
        reply, *frames = served.written
        assert struct.unpack(">HH", reply[:4]) == (0x8003, spdy.SYN_REPLY)
        inflate = zlib.decompressobj(zdict=spdy.dictionary())
        assert inflate.decompress(reply[12:]) == struct.pack(">I", 0)
        assert frames == [data(5, b"ab"), data(5, b"c", end=True)]

    async def test_a_stream_that_nobody_wants_is_reset_alone(self) -> None:
        client, served = SpdyClient(), Served()
        await served.receive(client.open(1, streamtype="odd"), client.open(3, streamtype="data"))
        assert control(spdy.RST_STREAM, struct.pack(">II", 1, spdy.CANCEL)) in served.written
        assert [stream.headers["streamtype"] for stream in served.streams] == ["data"]

    async def test_a_reset_stream_ends_and_cannot_be_written(self) -> None:
        served = Served()
        reset = control(spdy.RST_STREAM, struct.pack(">II", 1, spdy.CANCEL))
        await served.receive(SpdyClient().open(1, streamtype="data"), data(1, b"x"), reset)
        assert await served.streams[0].inlet.reader.read() == b"x"
        with pytest.raises(ConnectionResetError):
            await served.streams[0].send(b"y")

    async def test_goaway_ends_it_without_a_word(self) -> None:
        served = Served()
        await served.receive(control(spdy.GOAWAY, bytes(8)) + control(spdy.PING, bytes(4)))
        assert served.written == []

    @pytest.mark.parametrize(
        "raw",
        [
            b"\x80\x03\x00\x01\x00\x00\x00\x02" + bytes(2),  # no room for a stream id
            b"\x80\x02\x00\x01\x00\x00\x00\x04\x00\x00\x00\x01",  # SPDY/2
            b"\x80\x03\x00\x01\x00\x00\x00\x0c" + bytes(12),  # a header block that is none
            data(1)[:5] + b"\xff\xff\xff",  # 16 MiB in one frame
        ],
    )
    async def test_violations_are_told_and_end_the_connection(self, raw: bytes) -> None:
        served = Served()
        await served.receive(SpdyClient().open(1, streamtype="stdin"), raw)
        assert served.written[1:] == [GO_AWAY]
        assert await served.streams[0].inlet.reader.read() == b""

    async def test_a_stream_twice(self) -> None:
        client, served = SpdyClient(), Served()
        await served.receive(client.open(1), client.open(1))
        assert served.written[1:] == [GO_AWAY]

    async def test_header_bomb_attack(self) -> None:
        served, client = Served(), SpdyClient()
        await served.receive(client.open(1, bomb="0" * (8 << 20)))
        assert served.written == [GO_AWAY]

    async def test_stream_flood_attack(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(spdy, "MAX_STREAMS", 3)
        client, served = SpdyClient(), Served()
        await served.receive(*[client.open(number) for number in (1, 3, 5, 7)])
        assert len(served.streams) == 3
        assert served.written[-1] == GO_AWAY

    @given(st.binary(max_size=80))
    async def test_any_bytes_are_frames_or_a_violation(self, raw: bytes) -> None:
        for body in (raw, b"\x80\x03" + raw):
            served = Served()
            await served.receive(body)
            assert served.connection.streams == {}


async def test_who_feeds_waits_for_who_reads() -> None:
    inlet = Inlet()
    feeding = asyncio.create_task(inlet.feed(bytes(3 * CHUNK_BYTES)))
    await asyncio.sleep(0)
    assert not feeding.done()
    await inlet.reader.readexactly(2 * CHUNK_BYTES)
    await feeding
    feeding = asyncio.create_task(inlet.feed(bytes(3 * CHUNK_BYTES)))
    await asyncio.sleep(0)
    inlet.end()  # nobody will read it: who feeds must not wait for ever
    await feeding
    await inlet.feed(bytes(3 * CHUNK_BYTES))
    assert len(await inlet.reader.read()) == 4 * CHUNK_BYTES


# --- port-forward ---


@pytest.fixture
async def path(demo: Client) -> str:
    pods = (await demo("GET", "/api/v1/namespaces/shop/pods"))["items"]
    return f"/api/v1/namespaces/shop/pods/{pods[0]['metadata']['name']}/portforward"


@pytest.fixture
async def tunnel(demo: Client, path: str) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    async with demo.session.ws_connect(demo.server.url + path, protocols=[TUNNEL]) as socket:
        assert socket.protocol == TUNNEL
        yield socket


async def frames_until(socket: aiohttp.ClientWebSocketResponse, *ended: int) -> dict[int, bytes]:
    """What came on each stream, once these have ended."""
    found: dict[int, bytes] = {}
    waiting = set(ended)
    while waiting:
        frame = await socket.receive_bytes()
        number, rest = struct.unpack_from(">II", frame)
        if number < 1 << 31:
            found[number] = found.get(number, b"") + frame[8:]
            waiting -= {number} if rest >> 24 & spdy.FIN else set()
    return found


async def test_connections_in_one_tunnel_do_not_mix(
    tunnel: aiohttp.ClientWebSocketResponse,
) -> None:
    client = SpdyClient()
    ask = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    await tunnel.send_bytes(client.pair(1, "7") + client.pair(5, "8080") + client.pair(9, "81"))
    await tunnel.send_bytes(data(3, b"echo") + data(7, ask) + data(3, b" this", end=True))
    found = await frames_until(tunnel, 1, 3, 5, 7, 9, 11)
    assert (found[1], found[3], found[5], found[11]) == (b"", b"echo this", b"", b"")
    assert found[7].startswith(b"HTTP/1.1 200 OK\r\n")
    assert found[7].partition(b"\r\n\r\n")[2].startswith(b"hello from web-")
    assert b"error forwarding port 81 to pod web-" in found[9]
    assert b"connection refused" in found[9]


@pytest.mark.parametrize("end", [True, False])
async def test_what_is_no_http_is_told(tunnel: aiohttp.ClientWebSocketResponse, end: bool) -> None:
    raw = b"\x16\x03\x01" if end else bytes(100_000)
    await tunnel.send_bytes(SpdyClient().pair(1, "8080") + data(3, raw, end=end))
    assert b"400 Bad Request" in (await frames_until(tunnel, 3))[3]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"streamtype": "data", "requestid": "1"},
        {"streamtype": "data", "port": "0", "requestid": "1"},
        {"streamtype": "data", "port": "65536", "requestid": "1"},
        {"streamtype": "data", "port": "8" * 5000, "requestid": "1"},
        {"streamtype": "stdin", "port": "80", "requestid": "1"},
    ],
)
async def test_senseless_streams_are_reset_and_others_go_on(
    tunnel: aiohttp.ClientWebSocketResponse, headers: dict[str, str]
) -> None:
    client = SpdyClient()
    await tunnel.send_bytes(client.open(1, **headers) + client.pair(3, "7") + data(5, end=True))
    seen = [await tunnel.receive_bytes(), await tunnel.receive_bytes()]
    assert seen[1] == control(spdy.RST_STREAM, struct.pack(">II", 1, spdy.CANCEL))
    await frames_until(tunnel, 3, 5)


async def test_two_halves_of_one_kind_are_reset(tunnel: aiohttp.ClientWebSocketResponse) -> None:
    client, same = SpdyClient(), {"streamtype": "data", "port": "7", "requestid": "1"}
    await tunnel.send_bytes(client.open(1, **same) + client.open(3, **same))
    seen = [await tunnel.receive_bytes() for _ in range(3)]
    assert seen[2] == control(spdy.RST_STREAM, struct.pack(">II", 3, spdy.CANCEL))


async def test_a_violation_in_a_tunnel_ends_it_and_no_other(
    demo: Client, path: str, tunnel: aiohttp.ClientWebSocketResponse
) -> None:
    await tunnel.send_bytes(SpdyClient().pair(1, "7"))
    async with demo.session.ws_connect(demo.server.url + path, protocols=[TUNNEL]) as other:
        await other.send_bytes(b"\xff" * 20)
        assert await other.receive_bytes() == GO_AWAY
        assert (await other.receive()).type is aiohttp.WSMsgType.CLOSE
    async with demo.session.ws_connect(demo.server.url + path, protocols=[TUNNEL]) as other:
        await other.send_str("text")
        closed = await other.receive()
        assert (closed.type, closed.data) == (aiohttp.WSMsgType.CLOSE, 1003)
    await tunnel.send_bytes(data(3, b"still here", end=True))
    assert (await frames_until(tunnel, 1, 3))[3] == b"still here"


async def test_port_forward_over_spdy_without_websocket(demo: Client, path: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=demo.server.ca_pem.decode())
    host, port = demo.server.url.removeprefix("https://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port), ssl=context)
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {demo.server.token}\r\n"
        "Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\nContent-Length: 0\r\n"
        "X-Stream-Protocol-Version: portforward.k8s.io\r\n\r\n"
    )
    writer.write(head.encode())
    answer = await reader.readuntil(b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 101")
    assert b"X-Stream-Protocol-Version: portforward.k8s.io" in answer
    writer.write(SpdyClient().pair(1, "7") + data(3, b"x" * 500_000, end=True))
    found: dict[int, bytes] = {1: b"", 3: b""}
    ended: set[int] = set()
    while ended != {1, 3}:
        first, second = struct.unpack(">II", await reader.readexactly(8))
        body = await reader.readexactly(second & 0xFFFFFF)
        if first in found:
            found[first] += body
            ended |= {first} if second >> 24 else set()
    assert found == {1: b"", 3: b"x" * 500_000}
    writer.write(b"\xff" * 20)
    assert await reader.read() == GO_AWAY
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ({}, "Upgrade request required"),
        ({"Upgrade": "SPDY/3.1", "X-Stream-Protocol-Version": "v4.channel.k8s.io"}, "v4.channel"),
        ({"Upgrade": "websocket", "Sec-WebSocket-Protocol": "portforward.k8s.io"}, TUNNEL),
    ],
)
async def test_port_forward_without_its_protocol_is_refused(
    demo: Client, path: str, headers: dict[str, str], words: str
) -> None:
    upgrade = {"Connection": "Upgrade", **headers} if headers else {}
    async with demo.session.post(demo.server.url + path, headers=upgrade) as response:
        assert response.status == 400
        assert words in (await response.json())["message"]
    await demo("POST", path.replace("/web-", "/absent-"), code=404)
