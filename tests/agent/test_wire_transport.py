"""Sockets and TLS over loopback, with an authority made for the test."""

import asyncio
import contextlib
import hashlib
import itertools
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from mk8s_agent.wire import tls
from mk8s_agent.wire import transport as module
from mk8s_agent.wire.dial import DialError, TlsClientTransport, dial_tls
from mk8s_agent.wire.transport import SocketTransport, TlsTransport

CA = trustme.CA()
LEAF = CA.issue_cert("localhost")
CHAIN = b"".join(pem.bytes() for pem in LEAF.cert_chain_pems)
CA_PEM = CA.cert_pem.bytes()


class Noting:
    """A connection that notes what it gets."""

    def __init__(self, transport: Any) -> None:
        self.transport = transport
        self.received = b""
        self.lost = asyncio.Event()
        self.drained = 0
        self.on_data: Callable[[Noting, bytes], None] | None = None
        self.arrived = asyncio.Event()

    def receive(self, data: bytes) -> None:
        self.received += data
        self.arrived.set()
        if self.on_data is not None:
            self.on_data(self, data)

    def writable(self) -> None:
        self.drained += 1

    def connection_lost(self) -> None:
        self.lost.set()

    async def until(self, size: int) -> bytes:
        while len(self.received) < size:
            self.arrived.clear()
            await self.arrived.wait()
        return self.received


async def until(check: Callable[[], bool]) -> None:
    for _ in range(4000):
        if check():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it never happened")


class ServerTransport(TlsTransport):
    """A TLS server with one context."""

    def __init__(self, house: "House") -> None:
        super().__init__(house.accepted, house.handshake_seconds)
        self.house = house
        house.transports.append(self)

    def _received_hello(self, data: bytes) -> bool:
        if self._tls is None:
            self.begin(self.house.context, None, server=True)
        return True


class House:
    """A server on loopback."""

    def __init__(self) -> None:
        self.context = tls.server_context(CHAIN, LEAF.private_key_pem.bytes())
        self.handshake_seconds = 5.0
        self.transports: list[ServerTransport] = []
        self.connections: list[Noting] = []
        self.on_data: Callable[[Noting, bytes], None] | None = None
        self.refuse = False
        self.port = 0
        self.server: asyncio.Server | None = None

    def accepted(self, transport: SocketTransport) -> Noting | None:
        if self.refuse:
            return None
        connection = Noting(transport)
        connection.on_data = self.on_data
        self.connections.append(connection)
        return connection

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        self.server = await loop.create_server(lambda: ServerTransport(self), "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]

    async def dial(self, context: ssl.SSLContext | None = None, **options: Any) -> Noting:
        context = context or tls.apiserver_context(CA_PEM)
        return await dial_tls(
            "127.0.0.1", self.port, context, Noting, **({"server_name": "localhost"} | options)
        )

    async def served(self, count: int = 1) -> list[Noting]:
        """The connections, once there are so many: a server ends its handshake after its client."""
        await until(lambda: len(self.connections) >= count)
        return self.connections

    async def close(self) -> None:
        assert self.server is not None
        self.server.close()
        for transport in self.transports:
            if transport._socket is not None:
                transport.abort()
        await asyncio.sleep(0)


@pytest.fixture
async def house() -> AsyncIterator[House]:
    house = House()
    await house.open()
    yield house
    await house.close()


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LINGER", 0.05)
    monkeypatch.setattr(module, "_STALLED", 0.3)


def echo(connection: Noting, data: bytes) -> None:
    connection.transport.write(data)


async def test_a_handshake_and_bytes_both_ways(house: House) -> None:
    house.on_data = echo
    client = await house.dial()
    assert client.transport.protocol == "h2"
    assert client.transport.peer_certificate()
    client.transport.write(b"hello")
    assert await client.until(5) == b"hello"
    [server] = await house.served()
    assert server.transport.protocol == "h2"
    assert server.transport.peer_certificate() == b""
    assert server.transport.peer_address == "127.0.0.1"
    client.transport.close()
    client.transport.close()
    await server.lost.wait()
    await client.lost.wait()


@pytest.mark.skipif(not hasattr(socket, "TCP_NOTSENT_LOWAT"), reason="Linux and macOS only")
async def test_what_the_network_cannot_take_yet_does_not_pile_up_in_the_kernel(
    house: House,
) -> None:
    client = await house.dial()
    tcp = client.transport._socket.get_extra_info("socket")
    most = tcp.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT)
    assert most == module.HIGH_WATER
    client.transport.abort()


async def test_alpn_is_the_server_s_choice_of_what_is_offered(house: House) -> None:
    for http2, protocol in ((True, "h2"), (False, "http/1.1")):
        client = await house.dial(tls.apiserver_context(CA_PEM, http2=http2))
        assert client.transport.protocol == protocol
        client.transport.abort()
    bare = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    CA.configure_trust(bare)
    client = await house.dial(bare)
    assert client.transport.protocol == ""
    client.transport.abort()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_big_bodies_both_ways_are_intact(house: House, version: ssl.TLSVersion) -> None:
    house.on_data = echo
    context = tls.apiserver_context(CA_PEM)
    context.minimum_version = context.maximum_version = version
    client = await house.dial(context)
    body = bytes(range(256)) * 40_000  # 10 MB
    for start in range(0, len(body), 1 << 20):
        client.transport.write(body[start : start + (1 << 20)])
    back = await asyncio.wait_for(client.until(len(body)), 30)
    assert hashlib.sha256(back).digest() == hashlib.sha256(body).digest()
    assert client.drained > 0
    client.transport.abort()


async def test_a_writer_hears_when_to_wait(house: House) -> None:
    client = await house.dial()
    [server] = await house.served()
    client.transport.pause_reading()
    await until(lambda: server.transport.write(bytes(1 << 20)))
    assert server.drained == 0
    client.transport.resume_reading()
    await client.until(1 << 20)
    await until(lambda: server.drained > 0)
    client.transport.abort()


async def test_everything_written_leaves_before_the_close(house: House) -> None:
    """A slow reader lost the end of an answer two seconds after it was written."""
    client = await house.dial()
    [server] = await house.served()
    client.transport.pause_reading()
    size = 0
    while not server.transport.write(bytes(1 << 20)):
        size += 1 << 20
        await asyncio.sleep(0)
    size += 1 << 20
    server.transport.close()
    await asyncio.sleep(module._LINGER * 3)
    client.transport.resume_reading()
    assert len(await asyncio.wait_for(client.until(size), 20)) == size
    await asyncio.wait_for(client.lost.wait(), 20)
    assert server.transport.write(b"late") in (True, False)


async def test_a_reader_that_takes_nothing_is_not_waited_for(house: House) -> None:
    client = await house.dial()
    [server] = await house.served()
    client.transport.pause_reading()
    await until(lambda: server.transport.write(bytes(1 << 20)))
    server.transport.close()
    await asyncio.wait_for(server.lost.wait(), 20)
    client.transport.abort()


async def test_a_peer_that_does_not_close_is_not_waited_for(house: House) -> None:
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", house.port, ssl=tls.apiserver_context(CA_PEM), server_hostname="localhost"
    )
    [server] = await house.served()
    server.transport.write(b"bye")
    server.transport.close()
    assert await reader.read() == b"bye"  # and close_notify: no truncation
    await asyncio.wait_for(server.lost.wait(), 20)
    writer.transport.abort()


async def test_close_notify_of_the_peer_closes(house: House) -> None:
    _, writer = await asyncio.open_connection(
        "127.0.0.1", house.port, ssl=tls.apiserver_context(CA_PEM), server_hostname="localhost"
    )
    [server] = await house.served()
    writer.write(b"last words")
    writer.close()
    await server.until(10)
    await asyncio.wait_for(server.lost.wait(), 20)
    await writer.wait_closed()


@pytest.mark.parametrize(
    "garbage", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\x01\xff", bytes(99)]
)
async def test_garbage_costs_only_its_connection(house: House, garbage: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
    writer.write(garbage)
    await asyncio.wait_for(reader.read(), 20)
    writer.close()
    assert house.transports[0].failure
    assert house.connections == []
    client = await house.dial()
    client.transport.abort()


async def test_garbage_after_the_handshake_ends_the_connection(house: House) -> None:
    client = await house.dial()
    [server] = await house.served()
    client.transport._socket.write(b"\x17\x03\x03\x00\x20" + bytes(32))
    await asyncio.wait_for(server.lost.wait(), 20)
    assert server.received == b""
    assert server.transport.failure


async def test_slowloris_of_the_handshake(house: House) -> None:
    house.handshake_seconds = 0.1
    reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
    writer.write(b"\x16\x03\x01")
    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
        await asyncio.wait_for(reader.readexactly(1), 20)
    assert house.transports[0].failure == "the TLS handshake took too long"
    writer.close()


async def test_an_exception_costs_only_its_connection(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    client, other = await house.dial(), await house.dial()

    def fail(_connection: Noting, data: bytes) -> None:
        raise RuntimeError("a bug")

    await house.served(2)
    house.connections[0].on_data = fail
    house.connections[1].on_data = echo
    client.transport.write(b"x")
    await asyncio.wait_for(client.lost.wait(), 20)
    other.transport.write(b"sound")
    assert await other.until(5) == b"sound"
    other.transport.abort()


async def test_an_exception_while_writing_costs_only_its_connection(
    house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    client = await house.dial()
    [server] = await house.served()

    def fail() -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(server, "writable", fail)
    server.transport.resume_writing()
    await asyncio.wait_for(client.lost.wait(), 20)


async def test_a_connection_that_is_refused_after_the_handshake(house: House) -> None:
    house.refuse = True
    client = await house.dial()
    await asyncio.wait_for(client.lost.wait(), 20)


async def test_an_aborted_transport_takes_nothing_more(house: House) -> None:
    client = await house.dial()
    client.transport.abort()
    client.transport.write(b"x")
    client.transport.pause_reading()
    client.transport.resume_reading()
    client.transport.buffer_updated(5)
    client.transport.resume_writing()
    await asyncio.wait_for(client.lost.wait(), 20)
    client.transport.resume_writing()
    assert client.received == b""


# -- dialling


async def test_a_certificate_of_another_authority(house: House) -> None:
    with pytest.raises(DialError, match="certificate verify failed"):
        await house.dial(tls.apiserver_context(trustme.CA().cert_pem.bytes()))


async def test_a_certificate_of_another_name(house: House) -> None:
    with pytest.raises(DialError, match=r"[Hh]ostname mismatch"):
        await house.dial(server_name="other.example.com")
    insecure = tls.apiserver_context(b"", insecure=True)
    client = await house.dial(insecure, server_name="other.example.com")
    client.transport.abort()


async def test_nobody_listens(house: House) -> None:
    house.port = 1
    with pytest.raises(DialError, match=r"127\.0\.0\.1:1"):
        await house.dial()


async def test_a_server_that_never_answers() -> None:
    server = socket.create_server(("127.0.0.1", 0))  # it never accepts
    port = server.getsockname()[1]
    context = tls.apiserver_context(CA_PEM)
    with pytest.raises(DialError, match=r"within 0\.1 seconds"):
        await dial_tls("127.0.0.1", port, context, Noting, server_name="x", seconds=0.1)
    server.close()
    await asyncio.sleep(0)


async def test_a_server_that_closes_during_the_handshake() -> None:
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    context = tls.apiserver_context(CA_PEM)
    with pytest.raises(DialError) as failure:
        await dial_tls("127.0.0.1", port, context, Noting, server_name="x")
    assert "closed" in str(failure.value) or "reset" in str(failure.value).lower()
    server.close()


async def test_a_dial_that_nobody_waits_for_any_more() -> None:
    server = socket.create_server(("127.0.0.1", 0))  # it never accepts
    port = server.getsockname()[1]
    context = tls.apiserver_context(CA_PEM)
    task = asyncio.create_task(dial_tls("127.0.0.1", port, context, Noting, server_name="x"))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    server.close()
    await asyncio.sleep(0)


async def test_system_trust_and_client_certificates() -> None:
    leaf = CA.issue_cert("client@example.com")
    chain = b"".join(pem.bytes() for pem in leaf.cert_chain_pems)
    context = tls.apiserver_context(b"", (chain, leaf.private_key_pem.bytes()))
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.options & ssl.OP_NO_TICKET


# -- plain sockets


async def test_a_plain_socket_on_a_private_path(tmp_path: Any) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readexactly(5))
        await reader.read()
        writer.close()

    path = str(tmp_path / "s")
    server = await asyncio.start_unix_server(answer, path)
    made: list[Noting] = []

    def make(transport: SocketTransport) -> Noting:
        made.append(Noting(transport))
        return made[-1]

    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_unix_connection(lambda: SocketTransport(make), path)
    [client] = made
    assert client.transport.peer_address == ""
    client.transport.write(b"hello")
    assert await client.until(5) == b"hello"
    client.transport.close()
    await asyncio.wait_for(client.lost.wait(), 20)
    assert transport.is_closing()
    server.close()


def test_a_transport_without_tls_has_neither_protocol_nor_certificate() -> None:
    transport = TlsTransport(lambda _: None)
    assert transport.protocol == ""
    assert transport.peer_certificate() == b""
    assert transport._received_hello(b"") is False
    transport._hello()


# -- records


class NotingSocket:
    """A loop's transport: what is written to it, and whether it was aborted."""

    def __init__(self) -> None:
        self.written = b""
        self.aborted = False

    def set_write_buffer_limits(self, high: int, low: int) -> None:
        pass

    def get_extra_info(self, name: str) -> None:
        return None

    def write(self, wire: bytes) -> None:
        self.written += wire

    def take(self) -> bytes:
        taken, self.written = self.written, b""
        return taken

    def can_write_eof(self) -> bool:
        return False

    def close(self) -> None:
        self.aborted = True

    def abort(self) -> None:
        self.aborted = True


class RecordTest:
    """A TLS client of ours without a loop, and the server's end of its TLS."""

    def __init__(self, version: ssl.TLSVersion) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.maximum_version = version
        context.num_tickets = 2
        LEAF.configure_cert(context)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.server = context.wrap_bio(self.incoming, self.outgoing, server_side=True)
        trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        CA.configure_trust(trusting)
        self.made: list[Noting] = []
        self.client = TlsClientTransport(self._make, trusting, "localhost")
        self.socket: Any = NotingSocket()
        self.client.connection_made(self.socket)

    def _make(self, transport: Any) -> Any:
        self.made.append(Noting(transport))
        return self.made[-1]

    def shake_hands(self) -> None:
        """Until the server is done; what it sent last is still on its way."""
        for _ in range(2):
            self.incoming.write(self.socket.take())
            try:
                self.server.do_handshake()
            except ssl.SSLWantReadError:
                self.give(self.outgoing.read())
            else:
                return

    def give(self, wire: bytes) -> None:
        """One read of the loop."""
        if wire:
            self.client.get_buffer(-1)[: len(wire)] = wire
            self.client.buffer_updated(len(wire))


VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@pytest.mark.parametrize("version", VERSIONS)
@given(
    st.lists(st.binary(min_size=1, max_size=40_000), max_size=4),
    st.lists(st.integers(1, 30_000), min_size=1),
)
async def test_records_may_arrive_in_any_pieces(
    version: ssl.TLSVersion, bodies: list[bytes], cuts: list[int]
) -> None:
    test = RecordTest(version)
    test.shake_hands()
    for body in bodies:
        test.server.write(body)
    with contextlib.suppress(ssl.SSLError):
        test.server.unwrap()
    wire = test.outgoing.read()
    for size in itertools.cycle(cuts):
        test.give(wire[:size])
        wire = wire[size:]
        if not wire:
            break
    assert test.made[0].received == b"".join(bodies)
    assert test.client.clean_end
    assert not test.client.failure


# -- what connections share


class Exchange(RecordTest):
    """A handshake and then a body of the server's, to be given in pieces."""

    def __init__(self, version: ssl.TLSVersion, body: bytes) -> None:
        super().__init__(version)
        self.body = body
        self._shaken = False
        self._wire = b""

    def turn(self, size: int) -> None:
        """At most so many bytes more for the client, if the server has any."""
        self.incoming.write(self.socket.take())
        if not self._wire:
            self._serve()
        piece, self._wire = self._wire[:size], self._wire[size:]
        self.give(piece)

    def _serve(self) -> None:
        with contextlib.suppress(ssl.SSLWantReadError):
            if self._shaken:
                self.server.write(self.body)
                self.body = b""
            else:
                self.server.do_handshake()
                self._shaken = True
        self._wire = self.outgoing.read()

    @property
    def done(self) -> bool:
        return not self.body and not self._wire


def assert_nothing_is_left() -> None:
    assert module._TO_TLS.pending == module._FROM_TLS.pending == 0


@pytest.mark.parametrize("version", VERSIONS)
@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(1, 3000)), max_size=60),
    st.lists(st.binary(min_size=1, max_size=40_000), min_size=3, max_size=3),
)
async def test_connections_do_not_see_each_other_s_bytes(
    version: ssl.TLSVersion, turns: list[tuple[int, int]], bodies: list[bytes]
) -> None:
    exchanges = [Exchange(version, body) for body in bodies]
    for who, size in turns:
        exchanges[who].turn(size)
        assert_nothing_is_left()
    for exchange in exchanges:
        while not exchange.done:
            exchange.turn(3000)
    assert [exchange.made[0].received for exchange in exchanges] == bodies


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(
            b"\x17\x02\x00\x00\x20" + bytes(32), id="another version, refused by its header"
        ),
        pytest.param(b"\x17\x03\x03\x00\x20" + bytes(32), id="forged"),
        pytest.param(b"\x17\x03\x03\xff\xff" + bytes(32), id="too long"),
    ],
)
@pytest.mark.parametrize("shaken", [True, False])
async def test_a_broken_record_poisons_no_other_connection(broken: bytes, shaken: bool) -> None:
    bad = RecordTest(ssl.TLSVersion.TLSv1_3)
    if shaken:
        bad.shake_hands()
        bad.give(bad.outgoing.read())
    bad.give(broken)
    assert bad.client.failure
    assert_nothing_is_left()
    sound = Exchange(ssl.TLSVersion.TLSv1_3, b"sound")
    while not sound.done:
        sound.turn(3000)
    assert sound.made[0].received == b"sound"


async def test_the_answer_of_one_tls_does_not_leave_by_another_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A relay writes to other connections while it handles what one of them received."""
    first, second = RecordTest(ssl.TLSVersion.TLSv1_3), RecordTest(ssl.TLSVersion.TLSv1_3)
    for test in (first, second):
        test.shake_hands()
        test.give(test.outgoing.read())
        test.socket.take()

    class Answering:
        """As OpenSSL does to a KeyUpdate."""

        def read(self, _size: int, buffer: memoryview) -> int:
            module._TO_TLS.read()
            module._FROM_TLS.write(b"answer")
            buffer[:7] = b"relayed"
            return 7

    monkeypatch.setattr(first.client, "_tls", Answering())
    first.made[0].on_data = lambda _, data: second.made[0].transport.write(data)
    first.give(b"\x17\x03\x03\x00\x07ignored")
    assert first.socket.take() == b"answer"
    second.incoming.write(second.socket.take())
    assert second.server.read() == b"relayed"


async def test_what_a_failed_write_left_is_sent_by_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    test = RecordTest(ssl.TLSVersion.TLSv1_3)
    test.shake_hands()
    test.give(test.outgoing.read())

    class Failing:
        def write(self, _data: bytes) -> None:
            module._FROM_TLS.write(b"half")
            raise ssl.SSLError("a failure")

    monkeypatch.setattr(test.client, "_tls", Failing())
    with pytest.raises(ssl.SSLError):
        test.client.write(b"x")
    assert_nothing_is_left()


# -- records, one by one


@pytest.mark.parametrize("cut", range(1, 8))
async def test_the_header_of_a_record_may_arrive_in_two_pieces(cut: int) -> None:
    test = RecordTest(ssl.TLSVersion.TLSv1_3)
    test.shake_hands()
    test.give(test.outgoing.read())
    test.server.write(b"first")
    test.server.write(b"second")
    wire = test.outgoing.read()
    middle = len(wire) // 2 + cut
    test.give(wire[:cut])
    test.give(wire[cut:middle])
    test.give(wire[middle:])
    assert test.made[0].received == b"firstsecond"


async def test_a_record_longer_than_any_is_not_waited_for() -> None:
    test = RecordTest(ssl.TLSVersion.TLSv1_3)
    test.shake_hands()
    test.give(test.outgoing.read())
    test.give(b"\x17\x03\x03\xff\xff")
    assert test.socket.aborted
    assert "too long" in test.client.failure


async def test_a_forged_record_ends_the_connection() -> None:
    test = RecordTest(ssl.TLSVersion.TLSv1_3)
    test.shake_hands()
    test.give(test.outgoing.read())
    test.give(b"\x17\x03\x03\x00\x20" + bytes(32))
    assert test.socket.aborted
    assert test.made[0].received == b""
