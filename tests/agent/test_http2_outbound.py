"""What is sent, by streams that are played: the peer's windows, turns, one write per tick."""

from typing import Any

import pytest

from mk8s_agent.wire.http2.frames import ErrorCode, RemoteProtocolError
from mk8s_agent.wire.http2.health import FloodBudget
from mk8s_agent.wire.http2.outbound import Outbound
from mk8s_agent.wire.limits import QUANTUM, BufferBudget, Limits
from mk8s_agent.wire.stream import Stream
from tests.support.memory import FrameReader, HandTicks, MemoryTransport, bodies, ended, kinds, ping

MAX_WINDOW = (1 << 31) - 1


class Owner:
    """The connection of the streams."""

    def __init__(self) -> None:
        self.dropped: list[int] = []
        self.cut: list[tuple[int, int]] = []

    def drop(self, stream: Stream) -> None:
        self.dropped.append(stream.stream_id)

    def end_both(self, stream: Stream, code: int) -> None:
        self.cut.append((stream.stream_id, code))


class Scene:
    def __init__(self, *, budget: int = 1 << 20) -> None:
        self.transport, self.ticks = MemoryTransport(), HandTicks()
        self.buffers, self.floods = BufferBudget(budget), FloodBudget(Limits())
        self.outbound = Outbound(self.transport, self.ticks, Limits(), self.buffers, self.floods)
        self.owner = Owner()
        self.reader = FrameReader()

    def stream(self, number: int, window: int = 1 << 20) -> Stream:
        return Stream(self.owner, number, window, 0)

    def send(self, stream: Stream, size: int, *, end: bool = False) -> None:
        self.outbound.send_data(stream, bytes(size), size, end)

    def read(self) -> list[Any]:
        self.ticks.turn()
        return self.reader.feed(self.transport.take())


def test_a_tick_is_one_write() -> None:
    scene = Scene()
    writes: list[int] = []
    real = scene.transport.write
    scene.transport.write = lambda sent: (writes.append(len(sent)), real(sent))[1]  # type: ignore[method-assign]
    scene.outbound.put(ping())
    scene.send(scene.stream(1), 10)
    scene.send(scene.stream(3), 10)
    assert kinds(scene.read()) == ["PING", "DATA", "DATA"]
    assert writes == [17 + 2 * 19]


def test_the_last_byte_is_told_to_the_stream_s_connection() -> None:
    scene = Scene()
    stream = scene.stream(1)
    scene.send(stream, 5, end=True)
    assert scene.owner.dropped == []  # the other direction is open
    other = scene.stream(3)
    other.remote_closed = True
    scene.send(other, 0, end=True)
    assert scene.owner.dropped == [3]
    assert ended(scene.read()) == {1, 3}


def test_windows_hold_back_what_is_too_much() -> None:
    scene = Scene()
    narrow, wide = scene.stream(1, 10), scene.stream(3)
    scene.outbound.window = 100
    scene.send(narrow, 25, end=True)
    scene.send(wide, 200)
    assert {n: len(body) for n, body in bodies(scene.read()).items()} == {1: 10, 3: 90}
    assert scene.buffers.used == 15 + 110
    scene.outbound.widen(narrow, 15)
    scene.outbound.widen_all(1000)
    scene.outbound.resume()
    frames = scene.read()
    assert {n: len(body) for n, body in bodies(frames).items()} == {1: 15, 3: 110}
    assert ended(frames) == {1}
    assert scene.buffers.used == 0


def test_a_full_socket_and_turns() -> None:
    scene = Scene(budget=1 << 30)
    scene.outbound.window = 1 << 30
    scene.transport.full = True
    first, second = scene.stream(1), scene.stream(3)
    scene.outbound.put(ping())
    scene.ticks.turn()
    assert scene.outbound.blocked
    for stream in (first, second):
        for _ in range(3):
            scene.send(stream, QUANTUM)
    scene.read()
    scene.transport.full = False
    scene.outbound.writable()
    sent = [seen.stream for seen in scene.read()]
    assert sent.index(3) < len(sent) - 1 - sent[::-1].index(1)  # neither waits for all of the other
    scene.outbound.writable()
    scene.read()
    assert scene.buffers.used == 0


def test_more_than_the_process_can_keep_ends_the_stream() -> None:
    scene = Scene(budget=100)
    scene.send(scene.stream(1, 0), 101)
    assert scene.owner.cut == [(1, ErrorCode.ENHANCE_YOUR_CALM)]
    assert scene.buffers.used == 0


@pytest.mark.parametrize(
    ("increment", "code"),
    [(0, ErrorCode.PROTOCOL_ERROR), (MAX_WINDOW, ErrorCode.FLOW_CONTROL_ERROR)],
)
def test_attack_a_window_for_all_that_cannot_be(increment: int, code: ErrorCode) -> None:
    with pytest.raises(RemoteProtocolError) as refusal:
        Scene().outbound.widen_all(increment)
    assert refusal.value.code is code


def test_attack_a_stream_s_window_beyond_all_numbers() -> None:
    scene = Scene()
    stream = scene.stream(1, 1)
    scene.outbound.widen(stream, MAX_WINDOW - 1)
    with pytest.raises(RemoteProtocolError) as refusal:
        scene.outbound.widen(stream, 1)
    assert refusal.value.code is ErrorCode.FLOW_CONTROL_ERROR


def test_what_is_sent_earns_the_peer_frames() -> None:
    scene = Scene()
    before = scene.floods.frames
    scene.send(scene.stream(1), 10 * 1024)
    assert scene.floods.frames == before + 11


def test_a_peer_that_reads_nothing_is_noticed() -> None:
    scene = Scene()
    assert not scene.outbound.stalled(100.0)  # it has nothing to read
    scene.transport.full = True
    scene.outbound.put(ping())
    scene.read()
    assert not scene.outbound.stalled(59.0)
    assert not scene.outbound.stalled(1.0)
    assert scene.outbound.stalled(1.0)
    scene.outbound.writable()
    scene.transport.full = True
    assert not scene.outbound.stalled(100.0)


def test_a_table_of_another_size_is_answered_once() -> None:
    scene = Scene()
    scene.outbound.allow_table(4096)
    scene.outbound.send_headers(scene.stream(1), b"\x88", False)
    scene.outbound.allow_table(0)
    for number in (3, 5):
        scene.outbound.send_headers(scene.stream(number), b"\x88", False)
    scene.ticks.turn()
    blocks = scene.transport.take()
    assert blocks == (
        b"\0\0\x01\x01\x04\0\0\0\x01\x88" + b"\0\0\x02\x01\x04\0\0\0\x03\x20\x88"
        + b"\0\0\x01\x01\x04\0\0\0\x05\x88"
    )  # fmt: skip


def test_frames_are_as_long_as_the_peer_allows() -> None:
    scene = Scene()
    scene.outbound.allow_frames(1 << 24)
    scene.send(scene.stream(1), 60_000)
    assert [len(seen.value) for seen in scene.read()] == [60_000]
    assert "waiting=0" in repr(scene.outbound)
