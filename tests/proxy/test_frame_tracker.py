"""Where messages end, compared with a reader that has all of them before it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mk8s_proxy.kube.frame_tracker import FrameTracker, SpdyTracker, WebSocketTracker
from tests.support.work import lines_run

CONTROL = 8


def spdy(payload: bytes) -> bytes:
    return b"\x00\x00\x00\x05\x01" + len(payload).to_bytes(3, "big") + payload


def websocket(opcode: int, payload: bytes, final: bool = True) -> bytes:
    first, size = bytes((opcode | 0x80 * final,)), len(payload)
    if size < 126:
        return first + bytes((size,)) + payload
    if size < 1 << 16:
        return first + b"\x7e" + size.to_bytes(2, "big") + payload
    return first + b"\x7f" + size.to_bytes(8, "big") + payload


SIZES = st.sampled_from([0, 1, 2, 7, 125, 126, 300, 70_000])
FRAMES = st.lists(st.tuples(st.sampled_from([0, 1, 2, 9, 10]), SIZES, st.booleans()), max_size=6)
CUTS = st.lists(st.integers(1, 400) | st.just(65_536), min_size=1, max_size=6)


def pieces(wire: bytes, cuts: list[int]) -> list[bytes]:
    """The wire in pieces of these sizes, again and again."""
    found, number = [], 0
    while wire:
        size = cuts[number % len(cuts)]
        found.append(wire[:size])
        wire, number = wire[size:], number + 1
    return found


def check(tracker: FrameTracker, wire: bytes, ends: set[int], cuts: list[int]) -> None:
    place = 0
    for piece in pieces(wire, cuts):
        within = [end - place for end in ends if place < end <= place + len(piece)]
        assert tracker.walk(memoryview(piece), len(piece)) == min(within, default=-1)
        place += len(piece)
        assert tracker.between is (place in ends)


@given(st.lists(SIZES, max_size=6), CUTS)
def test_spdy(sizes: list[int], cuts: list[int]) -> None:
    wire, ends = b"", set()
    for size in sizes:
        wire += spdy(bytes(size))
        ends.add(len(wire))
    check(SpdyTracker(), wire, ends, cuts)


def test_a_ping_within_a_message_and_within_its_own_header() -> None:
    begun, ping, ended = websocket(1, b"a", False), websocket(9, b""), websocket(0, b"b")
    ends = {len(begun + ping + ended)}
    check(WebSocketTracker(), begun + ping + ended, ends, [1])


@given(FRAMES, CUTS)
def test_websocket(frames: list[tuple[int, int, bool]], cuts: list[int]) -> None:
    wire, ends, unfinished = b"", set(), False
    for opcode, size, final in frames:
        wire += websocket(opcode, bytes(size % 126 if opcode >= CONTROL else size), final)
        if opcode < CONTROL:
            unfinished = not final
        if not unfinished:
            ends.add(len(wire))
    check(WebSocketTracker(), wire, ends, cuts)


@pytest.mark.parametrize(
    "header",
    [b"\x82\x81", b"\x82\x7f" + (65_535).to_bytes(8, "big"), b"\x82\x7f" + b"\xff" * 8],
    ids=["masked", "longer than need be", "longer than can be"],
)
def test_attack_what_no_server_writes_has_no_place_for_words(header: bytes) -> None:
    tracker = WebSocketTracker()
    assert tracker.walk(header, len(header)) == -1
    assert tracker.walk(header * 10_000, 10_000 * len(header)) == -1
    assert not tracker.between


@pytest.mark.parametrize("empty", [b"\x82\x00", b"\x02\x00", b"\x82\x7e\x00\x00"])
def test_attack_empty_frames_without_end_cost_little_each(empty: bytes) -> None:
    tracker = WebSocketTracker()
    piece = empty * 10_000
    assert lines_run(lambda: tracker.walk(piece, len(piece))) < 10_000 * 13


def test_a_tracker_knows_its_protocol() -> None:
    with pytest.raises(NotImplementedError):
        FrameTracker().walk(b"x", 1)
    with pytest.raises(NotImplementedError):
        FrameTracker().read_header(b"")
