"""The agent's connections to its API server: who waits, who dials, who is turned away."""

import asyncio
import ssl
from typing import Any

import pytest

from mk8s_agent.apiserver import dial as apiserver_dial
from mk8s_agent.apiserver import pool as module
from mk8s_agent.apiserver.dial import ApiServerDial
from mk8s_agent.apiserver.pool import ApiServer
from mk8s_agent.wire.stream import Stream
from tests.support.agent_side import AgentSide, Credentials
from tests.support.memory import Frame, bodies, data, ended, goaway, headers, kinds, rst_stream
from tests.support.memory import head as frame_of_head
from tests.support.tasks import LooseBackground

OK = [(b":status", b"200")]
UPGRADE = (b"mk8s-upgrade", b"SPDY/3.1")
HTTP1_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n"


def words(frames: list[Frame], number: int) -> tuple[int, str]:
    [seen] = [frame for frame in frames if frame.stream == number and frame.kind == "HEADERS"]
    fields = dict(seen.value)
    return int(fields[b":status"]), fields.get(b"mk8s-error", b"").decode()


async def test_requests_wait_for_the_first_connection_and_share_it() -> None:
    side = AgentSide().open()
    for number in (3, 5, 7):
        await side.ask(number)
    assert len(side.dialled) == 1
    assert len(side.apiserver.waiting) == 3
    seen = side.dialled[0].greet()
    assert [frame.stream for frame in seen if frame.kind == "HEADERS"] == [1, 3, 5]
    assert not side.apiserver.waiting
    await side.ask(9)
    assert [number for number, _ in side.dialled[0].requests()] == [7]


async def test_settings_that_come_with_the_handshake() -> None:
    """TLS 1.2 servers speak first: nobody served those who waited."""
    side = AgentSide().open()
    side.at_once = lambda dialled: dialled.greet() and None
    await side.ask(3)
    assert not side.apiserver.waiting
    assert len(side.dialled[0].connection.streams) == 1


async def test_a_body_that_came_while_dialling() -> None:
    side = AgentSide().open()
    side.gate = asyncio.Event()
    await side.ask(3, end=False)
    side.central.send(data(3, b"early "), data(3, b"body", end=True))
    assert side.budget.used == 10
    side.gate.set()
    await side.settle()
    seen = side.dialled[0].greet()
    assert bodies(seen) == {1: b"early body"}
    assert ended(seen) == {1}
    assert side.budget.used == 10  # kept for another try, until the answer begins
    side.dialled[0].send(headers(1, OK, end=True))
    assert side.budget.used == 0


async def test_a_client_that_goes_while_dialling() -> None:
    side = AgentSide().open()
    await side.ask(3, end=False)
    side.central.send(data(3, b"body"), rst_stream(3))
    assert kinds(side.dialled[0].greet()) == ["SETTINGS", "WINDOW_UPDATE", "SETTINGS ACK"]
    assert side.budget.used == 0


async def test_an_api_server_that_cannot_be_reached() -> None:
    side = AgentSide().open()
    side.unreachable = "192.0.2.1:6443: Connection refused"
    code, text = words(await side.ask(3), 3)
    assert code == 503
    assert text == "the API server cannot be reached: 192.0.2.1:6443: Connection refused"
    side.unreachable = ""
    await side.ask(5)
    assert len(side.dialled) == 1


async def test_a_client_that_has_gone_is_not_turned_away() -> None:
    side = AgentSide().open()
    side.gate, side.unreachable = asyncio.Event(), "gone"
    await side.ask(3)
    side.central.send(rst_stream(3))
    side.gate.set()
    await side.settle()
    assert side.central.read() == []


async def test_a_server_that_closes_before_it_speaks_is_not_dialled_for_ever() -> None:
    side = AgentSide().open()
    await side.ask(3)
    side.dialled[0].connection.connection_lost()
    await side.settle()
    assert words(side.central.read(), 3)[0] == 503
    assert len(side.dialled) == 1


@pytest.mark.parametrize("protocol", ["h2", "http/1.1"])
async def test_a_server_that_closes_at_once(protocol: str) -> None:
    side = AgentSide(protocol=protocol).open()
    side.at_once = lambda dialled: dialled.connection.connection_lost()
    assert words(await side.ask(3), 3)[0] == 503
    assert side.apiserver._connections == []
    assert side.apiserver._idle == []


async def test_a_server_that_never_speaks_is_given_up() -> None:
    side = AgentSide().open()
    await side.ask(3)
    for _ in range(26):
        side.apiserver.second(1.0)
    assert side.dialled[0].transport.aborted
    assert words(side.central.read(), 3)[0] == 503


async def test_a_full_connection_gets_a_second_beside_it() -> None:
    side = AgentSide().open()
    await side.ask(3)
    side.dialled[0].greet({3: 1})
    await side.ask(5)
    await side.ask(7)
    assert len(side.dialled) == 2
    side.dialled[1].greet({3: 1})
    await side.settle()
    assert len(side.dialled) == 3
    side.dialled[0].send(headers(1, OK, end=True))  # a place is free again
    assert not side.apiserver.waiting
    assert len(side.dialled[0].connection.streams) == 1


async def test_a_free_place_does_not_move_all_who_wait() -> None:
    """Ten thousand waited, and each answer moved each of them."""
    side = AgentSide().open()
    await side.ask(3)
    side.dialled[0].greet({3: 1})
    side.gate = asyncio.Event()
    for number in range(5, 105, 2):
        await side.ask(number)
    moved: list[Stream] = []
    real = side.apiserver._room.leave

    def leave(stream: Stream, forward: Any) -> None:
        moved.append(stream)
        real(stream, forward)

    side.apiserver._room.leave = leave  # type: ignore[method-assign]
    side.dialled[0].send(headers(1, OK, end=True))
    assert len(moved) == 1
    assert len(side.apiserver.waiting) == 49


async def test_a_goaway_moves_new_requests_to_a_new_connection() -> None:
    side = AgentSide().open()
    await side.ask(3)
    side.dialled[0].greet()
    side.dialled[0].send(goaway(1))
    await side.ask(5)
    assert len(side.dialled) == 2
    side.dialled[0].send(headers(1, OK, end=True))
    assert side.dialled[0].transport.closed
    side.dialled[0].connection.connection_lost()
    assert len(side.apiserver._connections) == 1


async def test_a_lost_connection_is_dialled_again_for_those_who_wait() -> None:
    side = AgentSide().open()
    await side.ask(3)
    side.dialled[0].greet({3: 1})
    side.gate = asyncio.Event()
    await side.ask(5)
    side.dialled[0].connection.connection_lost()
    side.gate.set()
    await side.settle()
    assert len(side.dialled) == 2
    assert len(side.apiserver.waiting) == 2  # and for the one that was lost


async def test_no_more_wait_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_WAITING", 2)
    side = AgentSide().open()
    for number in (3, 5):
        await side.ask(number)
    assert words(await side.ask(7), 7) == (503, "too many requests wait for the API server")


async def test_without_a_credential_nothing_is_sent() -> None:
    side = AgentSide().open()
    await side.ask(3)
    side.credentials.token = None
    seen = side.dialled[0].greet()
    assert "HEADERS" not in kinds(seen)
    assert "not authorised" in words(side.central.read(), 3)[1]
    side.credentials.token = b""  # a client certificate authenticates
    await side.ask(5)
    assert b"authorization" not in side.dialled[0].requests()[0][1]


async def test_a_new_credential_is_used_from_the_next_request_on() -> None:
    side = AgentSide().open()
    await side.ask(3)
    [head] = [dict(frame.value) for frame in side.dialled[0].greet() if frame.kind == "HEADERS"]
    assert head[b"authorization"] == b"Bearer agent"
    for number, token in enumerate([b"Bearer rotated", b"Bearer agent", b"", b"Bearer rotated"]):
        side.credentials.token = token
        await side.ask(5 + 2 * number)
        [(_, seen)] = side.dialled[0].requests()
        assert seen.get(b"authorization", b"") == token


async def test_a_prefix_of_all_paths() -> None:
    """An API server behind another proxy, as kubeconfigs of Rancher have it."""
    for protocol in ("h2", "http/1.1"):
        side = AgentSide(protocol=protocol, prefix="/k8s/clusters/c1").open()
        await side.ask(3)
        if protocol == "h2":
            [head] = [it for it in side.dialled[0].greet() if it.kind == "HEADERS"]
            assert dict(head.value)[b":path"] == b"/k8s/clusters/c1/api/v1/pods"
        else:
            head_bytes = side.dialled[0].transport.take()
            assert head_bytes.startswith(b"GET /k8s/clusters/c1/api/v1/pods HTTP/1.1\r\n")


# -- HTTP/1.1


async def test_an_api_server_without_http2() -> None:
    side = AgentSide(protocol="http/1.1").open()
    await side.ask(3)
    await side.ask(5)
    assert len(side.dialled) == 2
    for number in range(2):
        head = side.dialled[number].transport.take()
        assert head.count(b"authorization: Bearer agent\r\n") == 1
        assert head.count(b"host: 192.0.2.1:6443\r\n") == 1
        assert b":authority" not in head
        side.dialled[number].connection.receive(HTTP1_OK)
    assert bodies(side.central.read()) == {3: b"ok", 5: b"ok"}
    assert len(side.apiserver._idle) == 2
    await side.ask(7)
    assert len(side.dialled) == 2
    side.credentials.token = None
    assert "not authorised" in words(await side.ask(9), 9)[1]
    side.apiserver._idle[:] = []


async def test_spare_connections_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_IDLE_HTTP1", 1)
    side = AgentSide(protocol="http/1.1").open()
    await side.ask(3)
    await side.ask(5)
    for dialled in side.dialled:
        dialled.connection.receive(HTTP1_OK)
    assert [dialled.transport.closed for dialled in side.dialled] == [False, True]
    side.dialled[0].connection.connection_lost()
    side.dialled[1].connection.connection_lost()
    assert side.apiserver._idle == []


# -- upgrades


async def test_an_upgrade_has_a_connection_of_its_own() -> None:
    side = AgentSide().open()
    await side.ask(3, UPGRADE, end=False)
    [dialled] = side.dialled
    side.central.send(data(3, b"early"))
    head = dialled.transport.take()
    assert b"Upgrade: SPDY/3.1\r\n" in head
    assert b"impersonate-user: dev@example.com\r\n" in head
    assert b"early" not in head
    dialled.connection.receive(SWITCH)
    side.ticks.turn()
    assert dialled.transport.take() == b"early"
    [seen] = [frame for frame in side.central.read() if frame.kind == "HEADERS"]
    assert (b"mk8s-upgrade", b"SPDY/3.1") in seen.value


@pytest.mark.parametrize("asked", [True, False])
async def test_the_api_server_is_its_own_origin_where_central_asks_for_one(asked: bool) -> None:
    side = AgentSide().open()
    origin = [(b"mk8s-origin", b"own")] if asked else []
    await side.ask(3, (b"mk8s-upgrade", b"websocket"), *origin, end=False)
    head = side.dialled[0].transport.take().lower().split(b"\r\n")
    [host] = [line.removeprefix(b"host: ") for line in head if line.startswith(b"host: ")]
    origins = [line for line in head if b"origin" in line]
    assert origins == ([b"origin: https://" + host] if asked else [])


async def test_the_end_of_an_upgrade_leaves_nothing() -> None:
    side = AgentSide().open()
    await side.ask(3, UPGRADE, end=False)
    side.dialled[0].connection.receive(SWITCH + b"bye")
    side.dialled[0].connection.connection_lost()
    seen = side.central.read()
    assert (bodies(seen), ended(seen)) == ({3: b"bye"}, {3})
    side.central.send(rst_stream(3, 0))  # central's answer to the end
    assert side.tunnel.requests == 0


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n", b"junk\r\n"]
)
async def test_an_upgrade_that_is_answered_otherwise(answer: bytes) -> None:
    side = AgentSide().open()
    await side.ask(3, UPGRADE, end=False)
    side.dialled[0].connection.receive(answer)
    assert words(side.central.read(), 3)[0] == 502


async def test_an_upgrade_that_is_answered_as_a_plain_request() -> None:
    side = AgentSide().open()
    await side.ask(3, UPGRADE, end=False)
    side.dialled[0].connection.receive(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nplain")
    seen = side.central.read()
    assert bodies(seen) == {3: b"plain"}
    [answered] = [frame.value for frame in seen if frame.kind == "HEADERS"]
    assert dict(answered)[b":status"] == b"200"
    assert b"mk8s-upgrade" not in dict(answered)


async def test_an_upgrade_without_an_api_server() -> None:
    side = AgentSide().open()
    side.unreachable = "refused"
    assert words(await side.ask(3, UPGRADE, end=False), 3)[0] == 503


@pytest.mark.parametrize("unreachable", ["", "refused"])
async def test_an_upgrade_whose_client_has_gone(unreachable: str) -> None:
    side = AgentSide().open()
    side.gate, side.unreachable = asyncio.Event(), unreachable
    await side.ask(3, UPGRADE, end=False)
    side.central.send(rst_stream(3))
    side.gate.set()
    await side.settle()
    assert [dialled.transport.closed for dialled in side.dialled] == ([] if unreachable else [True])
    assert side.central.read() == []


# -- the rest


async def test_informational_heads_stop_here() -> None:
    side = AgentSide().open()
    await side.ask(3)
    side.dialled[0].greet()
    side.dialled[0].send(headers(1, [(b":status", b"103")]))
    assert [frame for frame in side.central.read() if frame.stream == 3] == []
    side.dialled[0].send(headers(1, [(b":status", b"199")]))
    assert [frame for frame in side.central.read() if frame.stream == 3] == []
    side.dialled[0].send(headers(1, [(b":status", b"404")], end=True))
    assert words(side.central.read(), 3)[0] == 404


async def test_a_head_without_a_field_is_for_central_to_refuse() -> None:
    side = AgentSide().open()
    await side.ask(3)
    side.dialled[0].greet()
    side.dialled[0].send(frame_of_head(1, b"\x20", end=True))
    assert Frame("HEADERS", 3, [], end=True) in side.central.read()


HINT = headers(1, [(b":status", b"103"), (b"link", b"</x>")])
FIELD = b"\x00\x01x\x7f\x81\x7c" + bytes(16_000)
ATTACKS = {
    "a head that cannot be decoded": (frame_of_head(1, b"\x08\x7f", end=True), 1),
    "a huge head": (frame_of_head(1, b"\x88" + FIELD * 38, pieces=50), 1),
    "a head of too many fields": (frame_of_head(1, b"\x08\x03401" + b"\x95" * 30_000), 1),
    "103s without end": (HINT, 150_000),
}


@pytest.mark.parametrize(("wire", "times"), ATTACKS.values(), ids=list(ATTACKS))
async def test_attack_a_pod_s_answer_ends_its_own_stream_only(wire: bytes, times: int) -> None:
    side = AgentSide().open()
    await side.ask(3)
    await side.ask(5)
    side.dialled[0].greet()
    seen = side.dialled[0].send(wire * times)
    assert [frame.stream for frame in seen if frame.kind == "RST_STREAM"] == [1]
    code, text = words(side.central.read(), 3)
    assert code == 502
    assert text == "the API server's answer is malformed, or its head is too large"
    assert not side.dialled[0].connection.closed
    side.dialled[0].send(headers(3, OK), data(3, b"ok", end=True))
    assert bodies(side.central.read()) == {5: b"ok"}


async def test_an_answer_for_a_client_that_has_gone() -> None:
    side = AgentSide().open()
    await side.ask(3)
    side.dialled[0].greet()
    side.dialled[0].connection.streams[1].peer = None
    side.dialled[0].send(headers(1, OK, end=True))
    assert side.dialled[0].connection.streams == {}


async def test_the_end_of_the_agent() -> None:
    side, other = AgentSide().open(), AgentSide(protocol="http/1.1").open()
    await side.ask(3)
    side.gate = asyncio.Event()
    await side.ask(5, UPGRADE, end=False)
    side.apiserver.close()
    assert side.dialled[0].transport.closed
    await other.ask(3)
    other.dialled[0].connection.receive(HTTP1_OK)
    other.apiserver.close()
    assert other.dialled[0].transport.closed
    await asyncio.sleep(0)


async def test_contexts_follow_the_client_certificate(monkeypatch: pytest.MonkeyPatch) -> None:
    credentials: Any = Credentials()
    plain = ApiServerDial(credentials)
    first = plain.contexts()
    assert plain.contexts() is first
    credentials.generation += 1
    second = plain.contexts()
    assert second is not first
    assert all(isinstance(context, ssl.SSLContext) for context in second)
    asked: list[Any] = []

    async def dial(*args: Any, **options: Any) -> str:
        asked.append((args[:3], options))
        return "connection"

    monkeypatch.setattr(apiserver_dial, "dial_tls", dial)
    assert await plain(print, http2=False) == "connection"
    assert asked == [(("192.0.2.1", 6443, second[1]), {"server_name": "192.0.2.1", "proxy": None})]


def test_a_literal_address_is_written_as_one() -> None:
    side = AgentSide()
    side.credentials.host = "2001:db8::1"
    server = ApiServer(
        side.credentials, side.ticks, side.budget, lambda *_: None, LooseBackground()
    )
    assert server._authority == b"[2001:db8::1]:6443"
