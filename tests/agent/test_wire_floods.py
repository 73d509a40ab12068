"""The attacks that cost an HTTP/2 peer much and the attacker little, each by its name.

None may cost more than the attacker's own connection. The limits are those towards kubectl.
"""

from typing import Any

import pytest

from mk8s_agent.wire import hpack_codec
from mk8s_agent.wire.limits import BUDGET_SECONDS, FRONT
from tests.agent.test_wire_http2_server import GET, OK, NotingServer, serve
from tests.support.memory import (
    ENHANCE_YOUR_CALM,
    PROTOCOL_ERROR,
    SETTINGS_ACK,
    Frame,
    Peer,
    bodies,
    data,
    frame,
    goaway,
    goaway_code,
    head,
    headers,
    kinds,
    ping,
    priority,
    rst_stream,
    settings,
    stateless,
    window_update,
)

HEAD = headers(1, GET)


def test_attack_windows_of_many_streams_changed_again_and_again() -> None:
    """Each change is work for every stream, so it counts as so many frames."""
    _, peer = front()
    peer.send(*(headers(1 + 2 * number, GET) for number in range(100)))
    changed = flood(peer, settings({4: 1}) + settings({4: 65_535}), 100)
    assert changed < FRONT.control_frames / 200


def front() -> tuple[NotingServer, Peer]:
    return serve(FRONT)


def flood(peer: Peer, wire: bytes, most: int) -> int:
    """Sends the same again and again; how often until the connection ends with the right word."""
    for number in range(most):
        seen = peer.send(wire)
        if peer.connection.closed:
            assert goaway_code(seen) == ENHANCE_YOUR_CALM
            assert peer.transport.closed
            return number
    raise AssertionError("the flood was never stopped")


FLOODS = {
    "PING": ping(),
    "SETTINGS": settings({4: 65_535}),
    "PRIORITY": priority(9),
    "empty DATA": data(1),
    "empty padded DATA": data(1, padding=5),
    "WINDOW_UPDATE": window_update(0, 1),
    "WINDOW_UPDATE of a stream": window_update(1, 1),
    "GOAWAY": goaway(0),
    "unknown frames": frame(0x7F, 0, 0),
}


@pytest.mark.parametrize("wire", FLOODS.values(), ids=list(FLOODS))
def test_flood_of_frames_that_cost_the_sender_nothing(wire: bytes) -> None:
    server, peer = front()
    peer.send(HEAD)
    assert flood(peer, wire, 5000) <= FRONT.control_frames
    assert server.streams == {}
    assert server.legs[1].resets == [2]


def test_an_ordinary_client_never_meets_these_limits() -> None:
    server, peer = front()
    peer.send(HEAD)
    for _ in range(20):
        peer.send(*[ping()] * 500, *[settings()] * 500, SETTINGS_ACK)
        server.second(BUDGET_SECONDS)
    assert not server.closed


def test_rapid_reset_cve_2023_44487() -> None:
    server, peer = front()
    opened = 0
    for number in range(1, 2001, 2):
        peer.send(headers(number, GET, end=True), rst_stream(number))
        opened += 1
        if server.closed:
            break
    assert opened == FRONT.resets + 1
    assert len(server.requests) == opened
    assert all(leg.resets == [8] for leg in list(server.legs.values())[:-1])  # work cancelled
    assert server.streams == {}


def test_rapid_reset_is_counted_for_a_period() -> None:
    server, peer = front()
    for number in range(1, 4001, 2):
        if number % 200 == 1:
            server.second(BUDGET_SECONDS)
        peer.send(headers(number, GET, end=True), rst_stream(number))
    assert not server.closed


MADE = {
    "a window update of zero": lambda n: headers(n, GET) + window_update(n, 0),
    "a window that overflows": lambda n: headers(n, GET) + window_update(n, (1 << 31) - 1),
    "more streams than allowed": lambda n: headers(n, GET),
}


@pytest.mark.parametrize("shape", MADE.values(), ids=list(MADE))
def test_made_you_reset_cve_2025_8671(shape: Any) -> None:
    """The server is brought to reset the streams itself, which costs it as much."""
    server, peer = front()
    for number in range(1, 4000, 2):
        seen = peer.send(shape(number))
        if server.closed:
            break
    assert goaway_code(seen) == ENHANCE_YOUR_CALM
    assert number <= 2 * (FRONT.resets + FRONT.max_streams) + 1
    assert server.streams == {}


def test_made_you_reset_by_a_body_that_is_too_long() -> None:
    server, peer = front()
    for number in range(1, 4000, 2):
        peer.send(headers(number, GET))
        server.streams[number].length_left = 0
        peer.send(data(number, b"x"))
        if server.closed:
            break
    assert number == 2 * FRONT.resets + 1
    assert all(leg.resets == [PROTOCOL_ERROR] for leg in list(server.legs.values())[:-1])


@pytest.mark.parametrize(
    ("first", "more"),
    [
        (b"\x82", b""),  # CVE-2024-27316: empty ones
        (b"\x82", b"\x84"),
        (b"\x82", b"\x00\x01x\x7f\x80\x7e" + bytes(16_000)),  # CVE-2023-45288: long ones
    ],
)
def test_continuation_flood(first: bytes, more: bytes) -> None:
    server, peer = front()
    peer.send(frame(1, 0, 1, first))
    assert flood(peer, frame(9, 0, 1, more), 100) <= FRONT.continuations
    assert server.requests == []
    assert server.decode(b"\x88")


def test_hpack_bomb_cve_2016_6581() -> None:
    server, peer = front()
    entry = b"\x40\x01x" + hpack_codec.integer(4000, 7) + b"v" * 4000
    peer.send(head(1, entry, end=True))
    seen = peer.send(head(3, b"\xbe" * 10_000, end=True))
    assert goaway_code(seen) == 9
    assert len(server.requests) == 1


def test_a_head_of_very_many_small_fields() -> None:
    server, peer = front()
    seen = peer.send(head(1, b"\x95" * 16_000, end=True))  # "age", one byte each
    assert goaway_code(seen) == 9
    assert server.requests == []


def fill(server: NotingServer, number: int, size: int) -> None:
    stream = server.streams[number]
    server.relay_head(stream, OK, False)
    server.send_data(stream, bytes(size), size, False)


def test_zero_window_reader() -> None:
    """A client that never opens its windows holds what its windows let in, and nobody else up."""
    server, peer = front()
    peer.send(settings({4: 0}), headers(1, GET, end=True), headers(3, GET, end=True))
    fill(server, 1, 50_000)
    assert bodies(peer.read()) == {}
    assert server.budget.used == 50_000
    for _ in range(30):
        server.second(10.0)  # as long as memory is plenty it may take its time
    assert kinds(peer.read()) == []
    fill(server, 3, 10)
    assert bodies(peer.send(window_update(3, 10))) == {3: bytes(10)}

    server.budget.limit = 60_000
    server.second(10.0)
    assert peer.read() == [Frame("RST_STREAM", 1, ENHANCE_YOUR_CALM)]
    assert server.legs[1].resets == [ENHANCE_YOUR_CALM]
    assert server.budget.used == 0
    assert list(server.streams) == [3]


def test_zero_window_readers_are_cut_only_when_they_take_nothing() -> None:
    server, peer = front()
    server.budget.limit = 60_000
    peer.send(settings({4: 0}), headers(1, GET, end=True))
    fill(server, 1, 50_000)
    for _ in range(20):
        peer.send(window_update(1, 1))
        server.second(10.0)
    assert list(server.streams) == [1]


def test_slow_reader_of_the_socket() -> None:
    """A client that stops reading is waited for no longer than the write deadline."""
    server, peer = front()
    peer.send(headers(1, GET, end=True))
    server.socket.full = True
    fill(server, 1, 10)
    peer.read()
    server.second(1.0)
    server.second(FRONT.write_seconds)
    assert not server.socket.aborted
    server.second(1.0)
    assert server.socket.aborted
    assert server.close_reason == "the peer stopped reading"
    assert server.legs[1].resets == [2]


def test_slow_reader_that_sends_pings() -> None:
    """The answers to its PINGs went for progress, so it was never given up."""
    server, peer = front()
    peer.send(headers(1, GET, end=True))
    server.socket.full = True
    fill(server, 1, 10)
    peer.read()
    for _ in range(14):
        peer.send(ping())
        server.second(5.0)
    assert server.socket.aborted


def test_slow_reader_that_reads_in_the_end() -> None:
    server, peer = front()
    peer.send(headers(1, GET, end=True))
    server.socket.full = True
    fill(server, 1, 10)
    peer.read()
    for _ in range(10):
        server.second(50.0)
        server.writable()
        server.ping()
        peer.read()
    assert not server.socket.aborted


def test_a_whole_head_may_be_large() -> None:
    """The limits stop floods, not `kubectl exec` with a long command."""
    server, peer = front()
    fields = [*GET, (b"x", b"v" * 60_000)]
    peer.send(head(1, stateless(fields), end=True, pieces=5))
    assert server.requests == [(fields, True)]
