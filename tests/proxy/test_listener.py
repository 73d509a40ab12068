"""Who gets which connection: server names, ALPN, client certificates, over real TLS."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from mk8s_agent.wire import pki, tls
from mk8s_agent.wire.limits import HIGH_WATER
from mk8s_proxy.identity.ca import CertificateAuthority
from mk8s_proxy.listener import server as server_module
from mk8s_proxy.listener.connection_limits import ConnectionLimits
from mk8s_proxy.listener.server import Contexts, Listener, Makers
from mk8s_proxy.settings.networks import parse_networks

SERVER_CA = CertificateAuthority.create("server")
AGENT_CA = CertificateAuthority.create("agent")
KEY = pki.new_key()
KEY_PEM = pki.key_to_pem(KEY)
NAMES = ["localhost", "127.0.0.1", tls.TUNNEL_SERVER_NAME]
CHAIN = SERVER_CA.issue_server(NAMES, KEY)
OWN_CA = CertificateAuthority.create("server")
OWN_CHAIN = OWN_CA.issue_server(NAMES, KEY)


class Served:
    """A connection that says its kind and echoes."""

    def __init__(self, kind: str, transport: Any) -> None:
        self.kind, self.transport = kind, transport
        self.seconds = 0.0
        self.authenticated = False
        self.drained = 0
        transport.write(kind.encode())

    def receive(self, data: bytes) -> None:
        self.transport.write(data)

    def writable(self) -> None: ...

    def connection_lost(self) -> None: ...

    def second(self, elapsed: float) -> None:
        self.seconds += elapsed

    def drain(self) -> None:
        self.drained += 1
        self.transport.close()


class House:
    def __init__(self) -> None:
        self.served: list[Served] = []
        self.port = 0
        self.listener = Listener(
            Contexts(
                tls.server_context(CHAIN, KEY_PEM),
                tls.tunnel_server_context(CHAIN, KEY_PEM, AGENT_CA.certificate_pem),
                tls.server_context(OWN_CHAIN, KEY_PEM),
            ),
            Makers(self._maker("h2"), self._maker("http/1.1"), self._maker("tunnel")),
            limits=ConnectionLimits(100, 100),
            handshake_seconds=5.0,
        )

    def _maker(self, kind: str) -> Any:
        def make(transport: Any) -> Served:
            self.served.append(Served(kind, transport))
            return self.served[-1]

        return make

    async def speak(self, context: ssl.SSLContext, name: str | None) -> str:
        """What a client is told; "" when it is not let in."""
        try:
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", self.port, ssl=context, server_hostname=name or ""
            )
        except (ssl.SSLError, ConnectionError):
            return ""
        try:
            return (await asyncio.wait_for(reader.read(20), 20)).decode()
        except (ssl.SSLError, ConnectionError):
            return ""
        finally:
            writer.transport.abort()


@pytest.fixture
async def house() -> AsyncIterator[House]:
    house = House()
    house.port = await house.listener.listen("127.0.0.1", 0)
    yield house
    house.listener.drain()
    house.listener.abort()
    await asyncio.sleep(0.01)


def client(*alpn: str, identity: tuple[bytes, bytes] | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=SERVER_CA.certificate_pem.decode())
    if alpn:
        context.set_alpn_protocols(list(alpn))
    if identity is not None:
        tls._load(context, *identity)
    return context


def agent(authority: CertificateAuthority = AGENT_CA, **options: Any) -> tuple[bytes, bytes]:
    key = pki.new_key()
    signed = authority.sign_agent(
        pki.csr(key, "prod"), "0a1b2c3d-0000-4000-8000-000000000000", **options
    )
    return signed.certificate_pem, pki.key_to_pem(key)


@pytest.mark.parametrize(
    ("alpn", "kind"),
    [
        (("h2", "http/1.1"), "h2"),
        (("http/1.1",), "http/1.1"),
        ((), "http/1.1"),  # kubectl's upgrades
        (("mk8s-tunnel/1",), "http/1.1"),  # no tunnel under a public name
        (("spdy/3",), "http/1.1"),
    ],
)
@pytest.mark.parametrize("name", ["localhost", "127.0.0.1"])
async def test_public_names(house: House, alpn: tuple[str, ...], kind: str, name: str) -> None:
    assert await house.speak(client(*alpn), name) == kind


async def test_no_server_name_is_public(house: House) -> None:
    context = client("h2")
    context.check_hostname = False
    assert await house.speak(context, None) == "h2"


def trusting_own(*alpn: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=OWN_CA.certificate_pem.decode())
    context.set_alpn_protocols(list(alpn))
    return context


async def test_the_port_for_own_programs_shows_our_own_certificate(house: House) -> None:
    house.port = await house.listener.listen_to_own()
    assert await house.speak(trusting_own("h2"), "127.0.0.1") == "h2"
    assert await house.speak(client("h2"), "127.0.0.1") == ""


async def test_no_tunnel_by_the_port_for_own_programs(house: House) -> None:
    house.port = await house.listener.listen_to_own()
    context = trusting_own("mk8s-tunnel/1")
    tls._load(context, *agent())
    assert await house.speak(context, tls.TUNNEL_SERVER_NAME) == "http/1.1"
    assert house.served[0].transport.peer_certificate() == b""


async def test_nobody_is_believed_on_the_port_for_own_programs(house: House) -> None:
    """Behind a balancer on the same machine, everybody else from there must say who is behind."""
    house.listener.balancers = parse_networks("127.0.0.0/8")
    house.port = await house.listener.listen_to_own()
    assert await house.speak(trusting_own("h2"), "127.0.0.1") == "h2"


async def test_an_agent(house: House) -> None:
    identity = agent()
    context = client("mk8s-tunnel/1", identity=identity)
    assert await house.speak(context, tls.TUNNEL_SERVER_NAME) == "tunnel"
    own = tls.tunnel_client_context(SERVER_CA.certificate_pem, *identity)
    assert await house.speak(own, tls.TUNNEL_SERVER_NAME) == "tunnel"


async def test_an_agent_s_certificate_is_worth_nothing_under_a_public_name(house: House) -> None:
    assert await house.speak(client("h2", identity=agent()), "localhost") == "h2"
    assert house.served[0].transport.peer_certificate() == b""


@pytest.mark.parametrize("alpn", [("h2",), ("http/1.1",), ()])
async def test_another_protocol_on_the_tunnel_name(house: House, alpn: tuple[str, ...]) -> None:
    context = client(*alpn, identity=agent())
    assert await house.speak(context, tls.TUNNEL_SERVER_NAME) == ""
    assert house.served == []


NOT_AGENTS = {
    "no certificate": lambda: None,
    "another authority": lambda: agent(CertificateAuthority.create("agent")),
    "the authority of the servers": lambda: (SERVER_CA.issue_server(["x"], KEY), KEY_PEM),
    "an expired one": lambda: agent(life=timedelta(seconds=1)),
    "the authority itself": lambda: (AGENT_CA.certificate_pem, AGENT_CA.key_pem),
}


@pytest.mark.parametrize("identity", NOT_AGENTS.values(), ids=list(NOT_AGENTS))
async def test_e11_who_is_no_agent_gets_no_tunnel(
    house: House, identity: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = identity()
    if identity is NOT_AGENTS["an expired one"]:
        await asyncio.sleep(1.2)
    context = client("mk8s-tunnel/1", identity=shown)
    assert await house.speak(context, tls.TUNNEL_SERVER_NAME) == ""
    assert house.served == []


class Crowd:
    """Connections that stay open until the test is over."""

    def __init__(self, house: House) -> None:
        self._house = house
        self.all: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def stranger(self) -> asyncio.StreamReader:
        """One more client whom nobody has authenticated."""
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self._house.port, ssl=client("h2"), server_hostname="localhost"
        )
        self.all.append((reader, writer))
        assert await reader.readexactly(2) == b"h2"
        return reader

    async def known(self) -> asyncio.StreamReader:
        """One more of somebody."""
        reader = await self.stranger()
        self._house.served[-1].authenticated = True
        return reader

    async def silent(self) -> asyncio.StreamReader:
        """One more that does not even say hello."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._house.port)
        self.all.append((reader, writer))
        return reader


@pytest.fixture
async def crowd(house: House) -> AsyncIterator[Crowd]:
    crowd = Crowd(house)
    yield crowd
    for _, writer in crowd.all:
        writer.transport.abort()


async def has_ended(reader: asyncio.StreamReader) -> bool:
    try:
        return await asyncio.wait_for(reader.read(1), 20) == b""
    except (ConnectionError, ssl.SSLError):
        return True


async def test_attack_idle_strangers_make_room_for_who_comes(house: House, crowd: Crowd) -> None:
    """The oldest of nobody goes, never one on which somebody was authenticated."""
    house.listener.limits.clients = 3
    known, first, second = await crowd.known(), await crowd.stranger(), await crowd.stranger()
    third = await crowd.stranger()
    assert await has_ended(first)
    await crowd.stranger()
    assert await has_ended(second)
    assert not known.at_eof()
    assert not third.at_eof()


async def test_attack_connections_that_fill_everything_leave_room_for_agents(
    house: House, crowd: Crowd
) -> None:
    house.listener.limits.clients = 2
    people = [await crowd.known() for _ in range(2)]
    silent = [await crowd.silent() for _ in range(20)]
    assert await house.speak(client("h2"), "localhost") == ""  # nobody else can go
    agents = client("mk8s-tunnel/1", identity=agent())
    assert await house.speak(agents, tls.TUNNEL_SERVER_NAME) == "tunnel"
    assert await has_ended(silent[0])
    assert not any(person.at_eof() for person in people)


async def test_attack_one_address_does_not_take_all_connections(
    house: House, crowd: Crowd, caplog: pytest.LogCaptureFixture
) -> None:
    house.listener.limits.per_address = 2
    known, stranger = await crowd.known(), await crowd.stranger()
    await crowd.known()
    assert await has_ended(stranger)
    silent = [await crowd.silent() for _ in range(3)]
    assert await has_ended(silent[0])
    assert await house.speak(client("h2"), "localhost") == ""
    agents = client("mk8s-tunnel/1", identity=agent())
    assert await house.speak(agents, tls.TUNNEL_SERVER_NAME) == "tunnel"
    assert not known.at_eof()
    house.listener.second(1.0)
    house.listener.second(1.0)
    [line] = [one for one in caplog.records if one.message == "listener.full"]
    assert line.__dict__["ended"]["connections_per_address"] >= 3


async def test_where_no_place_is_left_at_all_the_newcomer_ends_before_any_work(
    house: House, crowd: Crowd
) -> None:
    house.listener.limits.clients = 1
    agents = client("mk8s-tunnel/1", identity=agent())
    await crowd.known()
    for _ in range(16):
        crowd.all.append(
            await asyncio.open_connection(
                "127.0.0.1", house.port, ssl=agents, server_hostname=tls.TUNNEL_SERVER_NAME
            )
        )
        assert await crowd.all[-1][0].readexactly(6) == b"tunnel"
    assert await has_ended(await crowd.silent())
    assert await house.speak(agents, tls.TUNNEL_SERVER_NAME) == ""


async def test_who_brings_many_clients_has_no_limit_of_its_own(house: House, crowd: Crowd) -> None:
    house.listener.limits.per_address = 1
    house.listener.proxies = parse_networks("127.0.0.1")
    first, second = await crowd.known(), await crowd.known()
    assert not first.at_eof()
    assert not second.at_eof()


async def test_what_is_no_tls_is_turned_away(house: House) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    await asyncio.wait_for(reader.read(), 20)
    writer.close()
    assert house.served == []


async def test_a_hello_in_single_bytes(house: House) -> None:
    outgoing, incoming = ssl.MemoryBIO(), ssl.MemoryBIO()
    tunnel = client("mk8s-tunnel/1", identity=agent())
    shake = tunnel.wrap_bio(incoming, outgoing, server_hostname=tls.TUNNEL_SERVER_NAME)
    reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
    for _ in range(20):
        try:
            shake.do_handshake()
            break
        except ssl.SSLWantReadError:
            hello = outgoing.read()
            for byte in hello[:600]:
                writer.write(bytes((byte,)))
                await writer.drain()
                await asyncio.sleep(0)
            writer.write(hello[600:])
            incoming.write(await asyncio.wait_for(reader.read(20_000), 20))
    writer.write(outgoing.read())
    for _ in range(100):
        if house.served:
            break
        await asyncio.sleep(0.01)
    assert [served.kind for served in house.served] == ["tunnel"]
    writer.close()


@pytest.mark.skipif(not hasattr(socket, "TCP_NOTSENT_LOWAT"), reason="Linux and macOS only")
async def test_what_the_network_cannot_take_yet_does_not_pile_up_in_the_kernel(
    house: House,
) -> None:
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", house.port, ssl=client("h2"), server_hostname="localhost"
    )
    assert await reader.readexactly(2) == b"h2"
    tcp = house.served[0].transport._socket.get_extra_info("socket")
    assert tcp.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == HIGH_WATER
    writer.transport.abort()


async def test_sockets_of_clients_are_kept_alive(house: House) -> None:
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", house.port, ssl=client("h2"), server_hostname="localhost"
    )
    assert await reader.readexactly(2) == b"h2"
    tcp = house.served[0].transport._socket.get_extra_info("socket")
    assert tcp.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    assert 15 <= tcp.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) <= 30
    writer.transport.abort()


async def test_a_client_that_has_vanished_is_given_up(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HTTP/1.1 has no PING: the kernel knows that nothing is acknowledged any more."""
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", house.port, ssl=client("h2"), server_hostname="localhost"
    )
    assert await reader.readexactly(2) == b"h2"
    house.listener.second(10.0)
    assert not house.served[0].transport.closing
    monkeypatch.setattr(server_module, "is_gone", lambda _: True)
    house.listener.second(9.0)
    assert not house.served[0].transport.closing
    house.listener.second(1.0)
    assert house.served[0].transport.closing
    house.listener.second(10.0)
    writer.transport.abort()


async def test_the_clock_and_the_drain_reach_every_connection(house: House) -> None:
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", house.port, ssl=client("h2"), server_hostname="localhost"
    )
    silent = await asyncio.open_connection("127.0.0.1", house.port)
    assert await reader.read(2) == b"h2"
    house.listener.second(1.5)
    house.listener.drain()
    assert house.served[0].seconds == 1.5
    assert house.served[0].drained == 1
    assert await asyncio.wait_for(reader.read(), 20) == b""
    house.listener.abort()
    writer.transport.abort()
    silent[1].close()


async def test_an_inherited_socket_is_listened_on_and_stays_its_owners(house: House) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        host, port = bound.getsockname()
        assert await house.listener.listen(host, port, bound.fileno()) == port
        reader, writer = await asyncio.open_connection(
            host, port, ssl=client("h2"), server_hostname="localhost"
        )
        assert await reader.readexactly(2) == b"h2"
        writer.transport.abort()
        house.listener.drain()
        assert bound.getsockname() == (host, port)


async def test_an_address_in_use_is_told_in_one_line(house: House, tmp_path: Path) -> None:
    taken = socket.create_server(("127.0.0.1", 0))
    with pytest.raises(OSError, match=str(taken.getsockname()[1])):
        await house.listener.listen("127.0.0.1", taken.getsockname()[1])
    taken.close()


async def told(house: House, first: bytes) -> tuple[str, str]:
    """What a client behind a balancer is told, and whom the listener takes it for."""
    with socket.create_connection(("127.0.0.1", house.port)) as plain:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in (first[:20], first[20:]):
            plain.sendall(piece)
            await asyncio.sleep(0.05)  # so that they arrive as two

        def shake() -> str:
            plain.settimeout(20)
            try:
                with client("h2").wrap_socket(plain, server_hostname="localhost") as secure:
                    return secure.recv(20).decode()
            except (ssl.SSLError, ConnectionError):
                return ""

        answer = await asyncio.to_thread(shake)
    source = house.served[-1].transport.peer_address if house.served else ""
    return answer, source


LOCAL = b"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"
PROXIED = b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x07\xc0\x00\x02\x01\x12\x34\x20\xfb"


async def test_a_balancer_says_who_the_client_is(house: House) -> None:
    house.listener.balancers = parse_networks("127.0.0.0/8")
    assert await told(house, PROXIED) == ("h2", "192.0.2.7")


async def test_attack_one_client_behind_a_balancer_pays_for_itself(house: House) -> None:
    """Whoever the balancer names has a limit, not the balancer."""
    house.listener.balancers = parse_networks("127.0.0.0/8")
    house.listener.limits.per_address = 0
    assert (await told(house, PROXIED))[0] == ""
    assert house.listener.limits.ended == {"connections_per_address": 1}


async def test_a_balancer_s_own_connections_are_its_own(house: House) -> None:
    """A health check (LOCAL) names nobody, and the balancer has no limit."""
    house.listener.balancers = parse_networks("127.0.0.0/8")
    house.listener.limits.per_address = 0
    assert await told(house, LOCAL) == ("h2", "127.0.0.1")


async def test_attack_a_balancer_is_not_gone_around(house: House) -> None:
    """From its address nothing is taken without the header, nor with half of one."""
    house.listener.balancers = parse_networks("127.0.0.1")
    assert (await told(house, b""))[0] == ""
    assert (await told(house, PROXIED[:-1] + b"\x16\x03"))[0] == ""


async def test_attack_a_client_that_speaks_the_proxy_protocol_is_not_believed(
    house: House,
) -> None:
    house.listener.balancers = parse_networks("192.0.2.0/24")
    assert (await told(house, PROXIED))[0] == ""
    assert await told(house, b"") == ("h2", "127.0.0.1")
