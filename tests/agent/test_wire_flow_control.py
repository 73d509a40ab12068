"""Windows hop by hop, credit, turns, frames that grow and split, ticks: who waits, and for what."""

import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mk8s_agent.wire import hpack_codec
from mk8s_agent.wire.http2 import flow_control, health
from mk8s_agent.wire.http2.server import Http2Server
from mk8s_agent.wire.limits import EARLY, FRONT, HIGH_WATER, KIB, QUANTUM, SMALL, TUNNEL, Limits
from mk8s_agent.wire.stream import Stream, join, own, part
from mk8s_agent.wire.ticks import Ticks
from mk8s_agent.wire.waiting import WaitingRoom
from tests.agent.test_wire_http2_client import BLOCK, NotingClient, connect
from tests.agent.test_wire_http2_server import GET, OK, NotingServer, serve
from tests.support.legs import NotingLeg
from tests.support.memory import (
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    STREAM_CLOSED,
    Frame,
    HandTicks,
    MemoryTransport,
    Peer,
    bodies,
    data,
    ended,
    goaway_code,
    headers,
    kinds,
    ping,
    rst_stream,
    settings,
    window_update,
)


def answering(*numbers: int, limits: Limits | None = None) -> tuple[NotingServer, Peer]:
    """Streams whose answers have begun."""
    server, peer = serve(limits)
    for number in numbers:
        peer.send(headers(number, GET, end=True))
        server.relay_head(server.streams[number], OK, False)
    peer.read()
    return server, peer


def send(server: NotingServer, number: int, body: bytes, *, end: bool = False) -> None:
    server.send_data(server.streams[number], body, len(body), end)


# -- what the peer takes


def test_no_byte_leaves_beyond_the_window_of_a_stream() -> None:
    server, peer = answering(1)
    send(server, 1, b"a" * 65_535 + b"b" * 10, end=True)
    [seen] = list(bodies(peer.read()).values())
    assert seen == b"a" * 65_535
    assert server.budget.used == 10
    peer.send(window_update(0, 100))
    assert peer.read() == []
    assert peer.send(window_update(1, 4)) == [Frame("DATA", 1, b"bbbb")]
    assert peer.send(window_update(1, 100)) == [Frame("DATA", 1, b"b" * 6, end=True)]
    assert (server.budget.used, server.streams) == (0, {})


def test_no_byte_leaves_beyond_the_window_of_the_connection() -> None:
    server, peer = answering(1, 3)
    peer.send(settings({4: 1 << 20}))
    send(server, 1, b"a" * 65_000)
    send(server, 3, b"b" * 1000, end=True)
    assert {n: len(body) for n, body in bodies(peer.read()).items()} == {1: 65_000, 3: 535}
    assert bodies(peer.send(window_update(0, 65))) == {3: b"b" * 65}
    assert ended(peer.send(window_update(0, 1000))) == {3}


def test_a_smaller_initial_window_makes_windows_negative() -> None:
    server, peer = answering(1)
    send(server, 1, b"a" * 60_000)
    peer.send(settings({4: 10_000}))
    send(server, 1, b"b" * 10)
    assert peer.read() == []
    assert peer.send(window_update(1, 50_000)) == []
    assert bodies(peer.send(window_update(1, 10))) == {1: b"b" * 10}
    peer.send(settings({4: 20_000}))
    assert server.streams[1].send_window == 10_000


def test_the_end_of_a_body_needs_no_window() -> None:
    server, peer = answering(1)
    send(server, 1, b"a" * 65_535)
    peer.read()
    send(server, 1, b"", end=True)
    assert peer.read() == [Frame("DATA", 1, b"", end=True)]


def test_an_end_behind_bytes_that_wait_comes_after_them() -> None:
    server, peer = answering(1)
    send(server, 1, b"a" * 65_535)
    send(server, 1, b"b")
    send(server, 1, b"", end=True)
    send(server, 1, b"never")
    peer.read()
    peer.send(window_update(0, 10))
    assert peer.send(window_update(1, 10)) == [Frame("DATA", 1, b"b", end=True)]


@given(st.lists(st.integers(1, 20_000), max_size=20), st.lists(st.integers(1, 9000), max_size=60))
def test_whatever_the_windows_bytes_leave_in_order_and_never_too_many(
    writes: list[int], updates: list[int]
) -> None:
    server, peer = answering(1)
    peer.send(window_update(0, 1 << 24))
    body = bytes(number % 251 for number in range(sum(writes)))
    allowed, at, seen = 65_535, 0, b""
    for write, update in zip(writes, updates + [0] * len(writes), strict=False):
        send(server, 1, body[at : at + write])
        at += write
        seen += bodies(peer.read()).get(1, b"")
        assert seen == body[: min(at, allowed)]
        if update:
            allowed += update
            seen += bodies(peer.send(window_update(1, update))).get(1, b"")
    assert server.budget.used == at - len(seen)


# -- what we take


def test_a_stream_window_that_is_exceeded_ends_the_connection() -> None:
    _, peer = serve(Limits(stream_window=100_000), hands_on=False)
    peer.send(headers(1, GET), data(1, bytes(60_000)), data(1, bytes(40_000)))
    assert goaway_code(peer.send(data(1, b"x"))) == FLOW_CONTROL_ERROR


def test_a_connection_window_that_is_exceeded_ends_the_connection() -> None:
    limits = Limits(stream_window=1 << 20, connection_window=100_000, max_frame=200_000)
    _, peer = serve(limits)
    peer.send(headers(1, GET))
    assert goaway_code(peer.send(data(1, bytes(100_001)))) == FLOW_CONTROL_ERROR


def test_padding_counts_and_is_credited_at_once() -> None:
    server, peer = serve(Limits(stream_window=300), hands_on=False)
    assert peer.send(headers(1, GET), data(1, b"x", padding=199)) == [
        Frame("WINDOW_UPDATE", 1, 200)
    ]
    assert server.streams[1].receive_window == 299
    peer.send(data(1, b"x" * 250))
    assert goaway_code(peer.send(data(1, b"x", padding=60))) == FLOW_CONTROL_ERROR


def test_credit_is_given_only_when_bytes_were_handed_on() -> None:
    server, peer = serve(Limits(stream_window=1000), hands_on=False)
    assert peer.send(headers(1, GET), data(1, bytes(900))) == []
    stream = server.streams[1]
    server.grant(stream, 400)
    assert peer.read() == []  # in large steps
    server.grant(stream, 100)
    assert peer.read() == [Frame("WINDOW_UPDATE", 1, 500)]
    assert stream.receive_window == 600
    peer.send(data(1, bytes(500), end=True))
    server.grant(stream, 900)
    assert peer.read() == []  # who has ended sends no more


def test_connection_credit_is_given_on_receipt_so_no_stream_stalls_another() -> None:
    limits = Limits(stream_window=40_000, connection_window=70_000)
    _, peer = serve(limits, hands_on=False)
    seen = peer.send(headers(1, GET), data(1, bytes(34_999)), data(1, b"x"), headers(3, GET))
    assert seen == [Frame("WINDOW_UPDATE", 0, 35_000)]


def test_bytes_that_nobody_takes_are_credited() -> None:
    server, peer = serve(Limits(stream_window=1000))
    peer.send(headers(1, GET))
    server.streams[1].peer = None
    assert peer.send(data(1, bytes(600))) == [Frame("WINDOW_UPDATE", 1, 600)]


def test_windows_grow_with_the_distance_and_only_where_they_are_what_limits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [100.0]
    monkeypatch.setattr(flow_control.time, "monotonic", lambda: now[0])
    limits = Limits(stream_window=1000, widest_window=10_000)
    server, peer = serve(limits)
    server.windows.round_trip = 0.1
    peer.send(headers(1, GET))
    assert peer.send(data(1, bytes(500))) == [Frame("WINDOW_UPDATE", 1, 500)]  # slowly used
    now[0] += 0.1
    assert peer.send(data(1, bytes(500))) == [Frame("WINDOW_UPDATE", 1, 3500)]  # 4000 in all
    now[0] += 0.1
    assert peer.send(data(1, bytes(2000))) == [Frame("WINDOW_UPDATE", 1, 8000)]  # the widest
    now[0] += 0.1
    assert peer.send(data(1, bytes(5000))) == [Frame("WINDOW_UPDATE", 1, 5000)]
    server.windows.round_trip = 0.001
    now[0] += 0.001
    assert peer.send(data(1, bytes(5000))) == [Frame("WINDOW_UPDATE", 1, 5000)]


def test_what_one_stream_found_out_the_next_need_not_but_only_if_it_is_limited(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [100.0]
    monkeypatch.setattr(flow_control.time, "monotonic", lambda: now[0])
    server, peer = serve(Limits(stream_window=1000, widest_window=100_000))
    server.windows.round_trip = 0.1
    for stream_id in (1, 3, 5):
        peer.send(headers(stream_id, GET))
        peer.send(data(stream_id, bytes(500)))
    now[0] += 0.1
    assert peer.send(data(1, bytes(500))) == [Frame("WINDOW_UPDATE", 1, 3500)]
    now[0] += 0.05
    assert peer.send(data(1, bytes(2000))) == [Frame("WINDOW_UPDATE", 1, 14_000)]  # 16,000 in all
    assert peer.send(data(3, bytes(500))) == [Frame("WINDOW_UPDATE", 3, 15_500)]  # at once
    now[0] += 1.0
    assert peer.send(data(5, bytes(500))) == [Frame("WINDOW_UPDATE", 5, 500)]  # no need


def test_the_least_of_the_last_round_trips_is_the_distance(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [100.0]
    monkeypatch.setattr(health.time, "monotonic", lambda: now[0])
    server, peer = serve(TUNNEL)

    def measure(seconds: float) -> float:
        server.ping()
        asked = peer.read()[-1]
        now[0] += seconds
        peer.send(ping(asked.value, ack=True))
        return server.windows.round_trip

    assert measure(0.5) == 0.5  # a busy process; the distance is much less
    assert measure(0.25) == 0.25
    assert [measure(0.5) for _ in range(7)] == [0.25] * 7
    assert measure(0.5) == 0.5  # the network has changed


def test_a_tunnel_is_measured_several_times_at_once_in_the_beginning() -> None:
    server, peer = serve(TUNNEL)
    server.ping()
    [asked] = peer.read()
    for _ in range(3):
        [asked] = peer.send(ping(asked.value, ack=True))
        assert asked.kind == "PING"
    assert peer.send(ping(asked.value, ack=True)) == []


def test_the_distance_of_a_tunnel_is_measured_again() -> None:
    server, peer = serve(TUNNEL)
    server.second(10.0)
    assert kinds(peer.read()) == ["PING"]


# -- two hops


class Hop(Http2Server):
    """A relay in the small: what comes on the server goes out on a client connection."""

    def __init__(self, back: NotingClient, hand: HandTicks) -> None:
        self.socket = MemoryTransport()
        self.back = back
        super().__init__(self.socket, hand, Limits(stream_window=1000), back.budget)

    def on_request(self, stream: Stream, fields: Any, end: bool) -> None:
        behind = self.back.prepare()
        behind.end_queued = end
        join(stream, behind)
        self.back.open_prepared(behind, BLOCK)


def test_windows_go_hop_by_hop() -> None:
    """The sender gets credit when the next hop's reader took the bytes, not when they came."""
    client, far = connect()
    hop = Hop(client, client.hand)
    near = Peer(hop, hop.socket, client.hand)
    near.greet()
    far.send(settings({4: 300}))
    near.send(headers(1, GET))
    assert near.send(data(1, bytes(1000))) == []
    assert bodies(far.read()) == {1: bytes(300)}
    assert client.budget.used == 700
    assert far.send(window_update(1, 200)) != []
    assert near.read() == [Frame("WINDOW_UPDATE", 1, 500)]
    far.send(window_update(1, 10_000))
    assert near.read() == [Frame("WINDOW_UPDATE", 1, 500)]
    assert client.budget.used == 0


# -- turns


def test_waiting_streams_take_turns() -> None:
    server, peer = answering(1, 3, 5)
    peer.send(settings({4: 1 << 24}))
    server.socket.full = True
    server.ping()
    peer.read()
    for number in (1, 3, 5):
        for _ in range(12):
            send(server, number, bytes([number]) * (QUANTUM // 4))
    peer.send(window_update(0, 1 << 24))
    order: list[int] = []
    for _ in range(10):
        server.writable()
        order += [seen.stream for seen in peer.read() if seen.kind == "DATA" and seen.value]
    turns = [n for at, n in enumerate(order) if at == 0 or order[at - 1] != n]
    assert sorted(turns[:3]) == [1, 3, 5]
    assert turns[3:6] == turns[:3]
    assert server.budget.used == 0


def test_a_small_first_answer_goes_before_bulk() -> None:
    server, peer = answering(1, 3, 5)
    peer.send(settings({4: 1 << 24}))
    send(server, 1, bytes(65_535))
    send(server, 1, bytes(10_000))
    send(server, 3, bytes(SMALL + 1), end=True)
    send(server, 5, b"small", end=True)
    peer.read()
    order = [seen.stream for seen in peer.send(window_update(0, 1 << 20)) if seen.kind == "DATA"]
    assert order[0] == 5
    assert order[-1] == 3


def test_a_full_socket_is_waited_for() -> None:
    server, peer = answering(1)
    peer.send(settings({4: 1 << 24}), window_update(0, 1 << 24))
    server.socket.full = True
    send(server, 1, bytes(HIGH_WATER + 1))
    send(server, 1, b"later")
    assert len(bodies(peer.read())[1]) == HIGH_WATER + 1
    assert server.budget.used == 5
    server.writable()
    assert bodies(peer.read()) == {1: b"later"}
    server.socket.full = False
    server.writable()
    peer.read()


def test_much_output_does_not_wait_for_the_end_of_the_tick() -> None:
    server, peer = answering(1)
    peer.send(settings({4: 1 << 24}), window_update(0, 1 << 24))
    send(server, 1, bytes(EARLY - 100))
    assert server.socket.take() == b""
    send(server, 1, bytes(100))
    early = server.socket.take()
    assert len(early) > EARLY
    send(server, 1, b"not in the frames that have left", end=True)
    assert ended(peer.read()) == {1}


def test_a_socket_that_fails_early_costs_its_own_connection(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, peer = answering(1)
    peer.send(settings({4: 1 << 24}), window_update(0, 1 << 24))

    def broken(wire: bytes) -> bool:
        raise RuntimeError("the handle is closed")

    monkeypatch.setattr(server.socket, "write", broken)
    send(server, 1, bytes(EARLY))  # the sender, another connection, hears nothing of it
    assert server.socket.aborted
    assert "connection.crashed" in caplog.text


def test_bytes_of_a_stream_that_has_gone_do_not_leave() -> None:
    server, peer = answering(1, 3)
    peer.send(settings({4: 1 << 24}))
    send(server, 1, bytes(65_535))
    send(server, 1, b"gone")
    send(server, 3, b"here")
    peer.read()
    peer.send(rst_stream(1))
    assert bodies(peer.send(window_update(0, 1000))) == {3: b"here"}
    assert server.budget.used == 0


def test_more_than_the_budget_ends_the_stream_and_its_peer() -> None:
    server, peer = answering(1)
    server.budget.limit = 100
    send(server, 1, bytes(65_535))
    send(server, 1, bytes(100))
    send(server, 1, b"x")
    assert peer.read()[-1] == Frame("RST_STREAM", 1, ENHANCE_YOUR_CALM)
    assert server.legs[1].resets == [ENHANCE_YOUR_CALM]
    assert server.budget.used == 0


# -- frames


def test_neighbours_of_a_stream_grow_into_one_frame() -> None:
    server, peer = answering(1, 3)
    send(server, 1, b"a" * 10_000)
    send(server, 1, b"b" * 6000)
    send(server, 1, b"c" * 400)  # does not fit the peer's 16 KiB any more
    send(server, 3, b"d")
    send(server, 1, b"e")
    send(server, 1, b"", end=True)
    server.ping()
    send(server, 3, b"f")
    seen = peer.read()
    assert [(s.kind, s.stream, len(s.value), s.end) for s in seen] == [
        ("DATA", 1, 16_000, False),
        ("DATA", 1, 400, False),
        ("DATA", 3, 1, False),
        ("DATA", 1, 1, True),
        ("PING", 0, 8, False),
        ("DATA", 3, 1, False),
    ]


@pytest.mark.parametrize("most", [16_384, 50_000, 1 << 20])
def test_no_frame_is_longer_than_the_peer_takes(most: int) -> None:
    server, peer = answering(1)
    peer.send(settings({5: most, 4: 1 << 24}), window_update(0, 1 << 24))
    body = bytes(range(256)) * 2048
    send(server, 1, body, end=True)
    seen = peer.read()
    assert bodies(seen) == {1: body}
    assert ended(seen) == {1}
    sizes = [size for kind, size in peer.reader.sizes if kind == "DATA"]
    assert max(sizes) == min(most, 256 * KIB)


def test_a_split_frame_may_still_grow() -> None:
    server, peer = answering(1)
    send(server, 1, b"a" * 20_000)
    send(server, 1, b"b")
    assert [len(seen.value) for seen in peer.read()] == [16_384, 3617]


@pytest.mark.parametrize("at", range(40))
def test_a_frame_is_cut_through_at_every_position(at: int) -> None:
    """What has arrived of a frame is handed on at once; the end only with its last byte."""
    server, peer = serve()
    wire = headers(1, GET) + data(1, b"0123456789", end=True) + ping()
    start = len(wire) - 17 - 19
    server.receive(wire[: start + at])
    leg = server.legs[1]
    arrived = min(max(at - 9, 0), 10)
    assert leg.body == b"0123456789"[:arrived]
    assert leg.ended is (at >= 19)
    server.receive(wire[start + at :])
    assert leg.body == b"0123456789"
    assert kinds(peer.read()) == ["PING ACK"]


def test_frames_of_a_stream_that_arrive_together_are_one_piece() -> None:
    server, peer = serve()
    peer.send(headers(1, GET), headers(3, GET))
    run = data(1, b"a" * 5000) + data(1, b"") + data(1, b"b" * 7000) + data(1, b"c")
    peer.send(run + data(3, b"d" * 5000) + data(1, b"e" * 5000) + ping() + data(1, b"f" * 5000))
    peer.send(data(1, b"g" * 5000) + data(1, b"h" * 6000)[:1009])
    assert server.legs[1].pieces == [12_001, 5000, 5000, 5000, 1000]
    assert server.legs[3].pieces == [5000]
    assert server.legs[1].body[:12_001] == b"a" * 5000 + b"b" * 7000 + b"c"


def test_the_last_frame_of_a_body_is_a_piece_of_its_own() -> None:
    server, peer = serve()
    peer.send(headers(1, GET), data(1, b"a" * 5000) + data(1, b"b" * 5000, end=True))
    assert server.legs[1].pieces == [5000, 5000]
    assert server.legs[1].ended
    twice = data(1, b"b" * 5000, end=True) * 2
    server, peer = serve()
    assert goaway_code(peer.send(headers(1, GET), twice)) == STREAM_CLOSED


@pytest.mark.parametrize(
    ("last", "code"),
    [(17_000, FRAME_SIZE_ERROR), (9000, FLOW_CONTROL_ERROR)],
    ids=["a frame that is too long", "more than the window"],
)
def test_a_run_of_frames_hides_nothing_that_is_forbidden(last: int, code: int) -> None:
    server, peer = serve(Limits(stream_window=20_000, max_frame=16_384))
    run = data(1, b"a" * 6000) + data(1, b"b" * 6000) + data(1, b"c" * last)
    assert goaway_code(peer.send(headers(1, GET), run)) == code
    assert b"c" not in server.legs[1].body


@given(
    st.lists(st.tuples(st.integers(0, 9000), st.sampled_from([1, 3]), st.booleans()), max_size=12),
    st.integers(2000, 60_000),
)
def test_bodies_pass_unchanged_in_runs_of_frames(
    frames: list[tuple[int, int, bool]], step: int
) -> None:
    server, _ = serve()
    wire = headers(1, GET) + headers(3, GET)
    sent = {1: b"", 3: b""}
    for number, (size, stream, interrupted) in enumerate(frames):
        piece = bytes((number,)) * size
        sent[stream] += piece
        wire += data(stream, piece) + (ping() if interrupted else b"")
    for start in range(0, len(wire), step):
        server.receive(wire[start : start + step])
    assert {stream: leg.body for stream, leg in server.legs.items()} == sent


@given(st.lists(st.integers(0, 700), min_size=1, max_size=8), st.integers(1, 300))
def test_bodies_pass_unchanged_however_they_are_cut(sizes: list[int], step: int) -> None:
    server, _ = serve()
    body = b""
    wire = headers(1, GET)
    for number, size in enumerate(sizes):
        piece = bytes((number,)) * size
        body += piece
        wire += data(1, piece, end=number == len(sizes) - 1)
    for start in range(0, len(wire), step):
        server.receive(wire[start : start + step])
    assert server.legs[1].body == body
    assert server.legs[1].ended


def test_a_reset_stream_takes_no_more_of_its_frame() -> None:
    server, peer = serve()
    wire = headers(1, GET) + data(1, bytes(1000))
    server.receive(wire[:-500])
    server.reset(server.streams[1], 8)
    server.receive(wire[-500:])
    assert len(server.legs[1].body) == 500
    peer.send(ping())
    assert not server.closed


def test_a_small_part_of_a_large_read_is_not_kept_with_all_of_it() -> None:
    read = bytes(100_000)
    assert own(memoryview(read)[:600], 600) == bytes(600)
    assert isinstance(own(memoryview(read)[:600], 600), bytes)
    most = memoryview(read)[:60_000]
    assert own(most, 60_000) is most
    assert own(b"abc", 3) == b"abc"


def test_the_budget_for_window_updates_follows_what_was_sent() -> None:
    """`kubectl logs` of a large log: Go reads 4 KiB at a time, two WINDOW_UPDATEs for each."""
    server, peer = answering(1, limits=FRONT)
    for _ in range(400):
        send(server, 1, bytes(64_000))
        size = len(bodies(peer.read())[1])
        updates = [window_update(n, 4000) for _ in range(size // 4000) for n in (0, 1)]
        peer.send(*updates)
    assert not server.closed
    server.floods.frames = 1 << 30  # and whoever was sent much may not flood for ever
    server.second(10.0)
    assert server.floods.frames == FRONT.control_frames * 16


# -- the waiting room


def wait_in(room: WaitingRoom, server: NotingServer, number: int = 1) -> Stream:
    front = server.streams[number]
    part(front)
    return room.admit(front)


def test_a_body_waits_for_its_connection() -> None:
    server, peer = serve()
    client, far = connect()
    room = WaitingRoom(server.budget)
    peer.send(headers(1, GET))
    stream = wait_in(room, server)
    assert peer.send(data(1, bytes(200_000)[:60_000]), data(1, b"end", end=True)) == []
    assert server.budget.used == 60_003

    def forward(front: Stream) -> None:
        behind = client.prepare()
        join(front, behind)
        client.open_prepared(behind, BLOCK)

    room.leave(stream, forward)
    seen = far.read()
    assert bodies(seen) == {1: bytes(60_000) + b"end"}
    assert ended(seen) == {1}
    assert server.budget.used == 0
    room.leave(stream, forward)
    assert far.read() == []


def test_an_end_without_bytes_waits_too() -> None:
    server, peer = serve()
    room, leg = WaitingRoom(server.budget), NotingLeg()
    peer.send(headers(1, GET))
    stream = wait_in(room, server)
    peer.send(data(1, b""), data(1, b"", end=True))
    room.leave(stream, lambda front: join(front, Stream(leg, 1, 0, 0)))
    assert leg.ended


def test_a_front_that_has_gone_leaves_the_room_empty() -> None:
    server, peer = serve()
    room = WaitingRoom(server.budget)
    peer.send(headers(1, GET))
    stream = wait_in(room, server)
    peer.send(data(1, b"body"), rst_stream(1))
    assert server.budget.used == 0
    assert room.turn_away(stream) is None
    room.leave(stream, lambda _: pytest.fail("nobody is there"))


def test_a_front_that_is_answered_takes_no_more() -> None:
    server, peer = serve()
    room = WaitingRoom(server.budget)
    peer.send(headers(1, GET))
    stream = wait_in(room, server)
    peer.send(data(1, b"body"))
    room.leave(stream, lambda front: None)
    assert server.budget.used == 0
    room.send_data(stream, b"late", 4, True)
    room.grant(stream, 4)
    assert server.budget.used == 0


def test_the_room_keeps_within_the_budget() -> None:
    server, peer = serve()
    server.budget.limit = 100
    room = WaitingRoom(server.budget)
    peer.send(headers(1, GET), headers(3, GET))
    gone = wait_in(room, server, 3)
    wait_in(room, server)
    seen = peer.send(data(1, bytes(101)))
    assert seen == [Frame("RST_STREAM", 1, ENHANCE_YOUR_CALM)]
    gone.peer = None
    room.send_data(gone, bytes(101), 101, False)
    with pytest.raises(AssertionError):
        room.relay_head(gone, b"", True)


# -- ticks


def test_one_write_for_each_tick() -> None:
    server, peer = answering(1, 3)
    writes: list[bytes] = []
    server.socket.write = lambda data: bool(writes.append(data))  # type: ignore[method-assign]
    for number in (1, 3):
        send(server, number, b"x")
    server.ping()
    peer.ticks.turn()
    assert len(writes) == 1
    server.flush()
    assert len(writes) == 1


def test_hooks_run_first_and_their_output_leaves_in_the_same_tick() -> None:
    server, _ = answering(1)
    calls: list[Any] = []
    ticks = server.hand
    ticks.before_flush.append(lambda: send(server, 1, b"from the hook"))
    ticks.schedule()
    ticks.schedule()
    assert len(ticks.calls) == 1
    ticks.calls.pop()()
    assert b"from the hook" in server.socket.take()
    assert calls == []


def test_what_fails_in_a_tick_costs_itself_only(caplog: pytest.LogCaptureFixture) -> None:
    """A hook that raised stopped the ticks, and so the whole process, for good."""
    caplog.set_level(logging.CRITICAL)
    scheduled: list[Any] = []
    ticks = Ticks(scheduled.append)

    def fail() -> None:
        raise RuntimeError("boom")

    ticks.before_flush.append(fail)
    broken, sound = NotingServer(Limits()), NotingServer(Limits())
    broken.flush = fail  # type: ignore[method-assign]
    for _ in range(2):
        ticks.mark(broken)
        ticks.mark(sound)
        sound.ping()
        assert len(scheduled) == 1
        scheduled.pop()()
        assert sound.socket.take()
    assert broken.socket.aborted
    assert not sound.socket.gone


def test_a_response_block_is_relayed_as_it_is() -> None:
    server, peer = serve()
    peer.send(headers(1, GET, end=True))
    fields = [(b":status", b"201"), (b"etag", b'"1"')]
    server.relay_head(server.streams[1], hpack_codec.block(fields), True, fields)
    assert peer.read() == [Frame("HEADERS", 1, fields, end=True)]


def test_an_end_waits_for_the_socket_too() -> None:
    server, peer = answering(1)
    server.socket.full = True
    server.ping()
    peer.read()
    send(server, 1, b"", end=True)
    assert peer.read() == []
    server.socket.full = False
    server.writable()
    assert peer.read() == [Frame("DATA", 1, b"", end=True)]


def test_settings_wake_those_who_wait() -> None:
    server, peer = answering(1, 3)
    send(server, 1, bytes(60_000))
    send(server, 3, bytes(10_000))
    peer.read()
    assert bodies(peer.send(settings({4: 100_000}))) == {}  # the connection's window holds them
    server.outbound.window += 4465
    assert bodies(peer.send(settings({}))) == {3: bytes(4465)}


def test_a_request_waits_for_the_socket_behind_its_head() -> None:
    client, peer = connect()
    client.socket.full = True
    client.ping()
    peer.read()
    stream = client.prepare()
    client.send_data(stream, b"body", 4, True)
    client.open_prepared(stream, BLOCK)
    assert kinds(peer.read()) == ["HEADERS"]
    client.writable()
    assert bodies(peer.read()) == {1: b"body"}


def test_ends_and_padding_for_nobody() -> None:
    server, peer = serve()
    peer.send(headers(1, GET), headers(3, GET), headers(5, GET))
    server.streams[1].peer = None
    peer.send(data(1, b"", end=True))
    assert server.streams[1].remote_closed
    server.reset(server.streams[3], 8)
    peer.send(data(3, b"x", padding=3))
    server.streams[5].peer = None
    server.end_both(server.streams[5], 8)
    assert list(server.streams) == [1]
    assert not server.closed


def test_an_answer_whose_length_its_reader_knows() -> None:
    client, peer = connect()
    stream, leg = client.ask()
    real = client.on_response

    def with_length(stream: Stream, block: bytes, end: bool) -> None:
        real(stream, block, end)
        stream.length_left = 3

    client.on_response = with_length  # type: ignore[method-assign]
    peer.send(headers(1, [(b":status", b"200")]), data(1, b"abc"))
    assert (leg.body, stream.length_left) == (b"abc", 0)
    peer.send(data(1, b"d"))
    assert (leg.body, leg.resets) == (b"abc", [1])
