"""Bytes in any pieces become the same frames, and what cannot be read is refused at once."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mk8s_agent.wire.http2.frame_reader import FrameReader, FrameSink
from mk8s_agent.wire.http2.frames import ErrorCode, RemoteProtocolError
from mk8s_agent.wire.limits import Limits
from mk8s_agent.wire.stream import Bytes, Stream
from tests.support.memory import (
    PREFACE,
    SETTINGS_ACK,
    data,
    frame,
    head,
    ping,
    priority,
    rst_stream,
    settings,
    window_update,
)

Seen = list[tuple[Any, ...]]


class NotingSink(FrameSink):
    """Notes what it gets; pieces of one stream's body are joined."""

    def __init__(self) -> None:
        self.seen: Seen = []
        self.streams: dict[int, Stream] = {}
        self.refused: set[int] = set()
        self.pieces = 0
        self.skips = False
        """Whether blocks that are too long are dropped."""

    def begin_data(self, stream_id: int, length: int, flags: int) -> Stream | None:
        if stream_id in self.refused:
            return None
        return self.streams.setdefault(stream_id, Stream(None, stream_id, 0, 0))

    def deliver(self, stream: Stream, data: Bytes, size: int, end: bool) -> None:
        assert len(data) == size
        self.pieces += 1
        body, ended = bytes(data), end
        if self.seen and self.seen[-1][:2] == ("DATA", stream.stream_id):
            body = self.seen.pop()[2] + body
        self.seen.append(("DATA", stream.stream_id, body, ended))

    def drop_padding(self, stream: Stream | None, size: int, empty: bool) -> None:
        self.seen.append(("PADDING", stream and stream.stream_id, size, empty))

    def on_block(self, stream_id: int, block: bytes, end: bool) -> None:
        self.seen.append(("BLOCK", stream_id, block, end))

    def on_long_block(self, stream_id: int) -> None:
        if not self.skips:
            super().on_long_block(stream_id)
        self.seen.append(("LONG", stream_id))

    def on_frame(self, kind: int, stream_id: int, flags: int, payload: bytes) -> None:
        self.seen.append((kind, stream_id, flags, payload))


def reading(limits: Limits | None = None, *, preface: bool = False) -> tuple[FrameReader, Seen]:
    sink = NotingSink()
    return FrameReader(sink, limits or Limits(), preface=preface), sink.seen


START = PREFACE + settings({3: 1})
WIRE: dict[str, tuple[bytes, Seen]] = {
    "settings": (SETTINGS_ACK, [(4, 0, 1, b"")]),
    "a ping": (ping(b"abcdefgh"), [(6, 0, 0, b"abcdefgh")]),
    "a window": (window_update(5, 9), [(8, 5, 0, b"\0\0\0\x09")]),
    "a reset": (rst_stream(3, 8), [(3, 3, 0, b"\0\0\0\x08")]),
    "a priority": (priority(3, 1), [(2, 3, 0, b"\0\0\0\x01\x10")]),
    "an unknown frame": (frame(0xBB, 0xFF, 4, b"?"), [(0xBB, 4, 0xFF, b"?")]),
    "the reserved bit": (frame(0xBB, 0, 1 << 31 | 4), [(0xBB, 4, 0, b"")]),
    "a head": (head(1, b"block", end=True), [("BLOCK", 1, b"block", True)]),
    "a head in pieces": (head(1, b"a block", pieces=4), [("BLOCK", 1, b"a block", False)]),
    "an empty continuation": (
        frame(1, 1, 7, b"x") + frame(9, 0, 7) + frame(9, 4, 7), [("BLOCK", 7, b"x", True)],
    ),
    "a head with everything": (
        frame(1, 0x2C, 3, b"\x02" + b"\x80\0\0\x01\x10" + b"block" + bytes(2)),
        [("BLOCK", 3, b"block", False)],
    ),
    "a padded head": (frame(1, 0x0C, 3, b"\x01block\0"), [("BLOCK", 3, b"block", False)]),
    "a body": (data(1, b"body", end=True), [("DATA", 1, b"body", True)]),
    "a long body": (
        data(1, bytes(5000)) + data(1, b"x" * 5000) + data(1, b"y", end=True),
        [("DATA", 1, bytes(5000) + b"x" * 5000 + b"y", True)],
    ),
    "an end alone": (data(1, end=True), [("DATA", 1, b"", True)]),
    "a padded body": (
        data(1, b"body", end=True, padding=3),
        [("PADDING", 1, 4, False), ("DATA", 1, b"body", True)],
    ),
    "padding alone": (
        data(1, b"", padding=0), [("PADDING", 1, 1, True), ("DATA", 1, b"", False)],
    ),
}  # fmt: skip


@given(
    names=st.lists(st.sampled_from(sorted(WIRE)), max_size=8, unique=True),
    sizes=st.lists(st.integers(1, 6000), min_size=1, max_size=12),
)
def test_however_the_bytes_come_the_frames_are_the_same(names: list[str], sizes: list[int]) -> None:
    wire = START + b"".join(WIRE[name][0] for name in names)
    whole, expected = reading(preface=True)
    whole.receive(wire)
    reader, seen = reading(preface=True)
    position = 0
    while position < len(wire):
        size = sizes[position % len(sizes)]
        reader.receive(wire[position : position + size])
        position += size
    assert seen == expected
    assert not reader.incomplete


@pytest.mark.parametrize(("wire", "expected"), WIRE.values(), ids=list(WIRE))
def test_frames(wire: bytes, expected: Seen) -> None:
    reader, seen = reading()
    reader.receive(settings() + wire)
    assert seen[1:] == expected


def test_a_body_is_handed_on_while_its_frame_arrives_and_a_run_as_one_piece() -> None:
    sink = NotingSink()
    reader = FrameReader(sink, Limits(), preface=False)
    reader.receive(settings() + data(1, bytes(100))[:50])
    assert sink.seen[1:] == [("DATA", 1, bytes(41), False)]
    reader.receive(bytes(59))
    sink.pieces = 0
    reader.receive(data(3, bytes(5000)) * 4 + data(5, bytes(5000)))
    assert sink.pieces == 2


def test_a_body_that_nobody_takes_is_passed_over() -> None:
    sink = NotingSink()
    sink.refused = {1}
    reader = FrameReader(sink, Limits(), preface=False)
    reader.receive(settings() + data(1, b"x") + data(1, bytes(6000)) + data(1, b"x", padding=1))
    reader.receive(data(1, bytes(100))[:20])
    reader.receive(bytes(89) + ping())
    assert [seen[0] for seen in sink.seen] == [4, "PADDING", 6]


@pytest.mark.parametrize("missing", [PREFACE[:10], START[:-1], START + frame(1, 0, 1, b"x")])
def test_what_has_begun_is_waited_for(missing: bytes) -> None:
    reader, _ = reading(preface=True)
    reader.receive(missing)
    assert reader.incomplete


def test_a_closed_reader_reads_no_further() -> None:
    sink = NotingSink()
    reader = FrameReader(sink, Limits(), preface=False)
    real = sink.on_frame

    def close(*arguments: Any) -> None:
        real(*arguments)
        reader.close()

    sink.on_frame = close  # type: ignore[method-assign]
    reader.receive(settings() + ping() + ping()[:3])
    assert len(sink.seen) == 1
    assert not reader.incomplete


FS, PE, CALM = ErrorCode.FRAME_SIZE_ERROR, ErrorCode.PROTOCOL_ERROR, ErrorCode.ENHANCE_YOUR_CALM
S = settings()
BAD: dict[str, tuple[bytes, ErrorCode]] = {
    "another protocol": (b"GET / HTTP/1.1\r\n\r\n", PE),
    "no settings first": (PREFACE + ping(), PE),
    "an acknowledgement first": (PREFACE + SETTINGS_ACK, PE),
    "too long a frame": (START + frame(0xBB, 0, 0, bytes(1025)), FS),
    "too long a body": (START + data(1, bytes(1025))[:9], FS),
    "a head on stream 0": (START + frame(1, 4, 0, b""), PE),
    "continuation of nothing": (START + frame(9, 4, 1, b""), PE),
    "a ping within a block": (START + frame(1, 0, 1, b"x") + ping(), PE),
    "another stream's continuation": (START + frame(1, 0, 1, b"x") + frame(9, 4, 3, b""), PE),
    "a head that depends on itself": (START + frame(1, 0x24, 3, b"\0\0\0\x03\x10"), PE),
    "the same, padded": (START + frame(1, 0x2C, 3, b"\0\0\0\0\x03\x10"), PE),
    "a head too short for its priority": (START + frame(1, 0x24, 3, b"\0\0"), FS),
    "padding longer than its body": (START + frame(0, 8, 1, b"\x05abc"), PE),
    "padding without a length": (START + frame(0, 8, 1, b""), FS),
    "a short ping": (START + frame(6, 0, 0, bytes(7)), FS),
    "continuations without end": (
        START + frame(1, 0, 1, b"x") + frame(9, 0, 1, b"") * 5, CALM,
    ),
    "a block without end": (START + frame(1, 0, 1, bytes(900)) + frame(9, 0, 1, bytes(900)), CALM),
}  # fmt: skip


@pytest.mark.parametrize(("wire", "code"), BAD.values(), ids=list(BAD))
def test_attack_what_cannot_be_read(wire: bytes, code: ErrorCode) -> None:
    limits = Limits(max_frame=1024, continuations=4, header_block=1500)
    reader, _ = reading(limits, preface=True)
    with pytest.raises(RemoteProtocolError) as refusal:
        reader.receive(wire)
    assert refusal.value.code is code


SHORT = Limits(max_frame=1024, continuations=4, header_block=1500)


@pytest.mark.parametrize("pieces", [[b""] * 9, [bytes(900)] * 3, [bytes(900)] * 100])
def test_attack_a_long_block_is_dropped_and_the_next_one_is_read(pieces: list[bytes]) -> None:
    sink = NotingSink()
    sink.skips = True
    reader = FrameReader(sink, SHORT, preface=False)
    reader.receive(settings() + frame(1, 1, 1, b"x"))
    for piece in pieces:
        reader.receive(frame(9, 0, 1, piece))
    assert reader.incomplete
    reader.receive(frame(9, 4, 1, b"x") + head(3, b"block", pieces=3))
    assert sink.seen[1:] == [("LONG", 1), ("BLOCK", 3, b"block", False)]
    assert not reader.incomplete


def test_attack_a_long_block_that_ends_where_it_gets_too_long() -> None:
    sink = NotingSink()
    sink.skips = True
    reader = FrameReader(sink, SHORT, preface=False)
    reader.receive(settings() + frame(1, 1, 1, bytes(900)) + frame(9, 4, 1, bytes(900)) + ping())
    assert [seen[0] for seen in sink.seen[1:]] == ["LONG", 6]


@pytest.mark.parametrize("piece", [b"", bytes(1024)])
def test_attack_a_dropped_block_without_end_ends_the_connection(piece: bytes) -> None:
    sink = NotingSink()
    sink.skips = True
    reader = FrameReader(sink, SHORT, preface=False)
    reader.receive(settings() + frame(1, 1, 1, b"x"))
    with pytest.raises(RemoteProtocolError, match="without end"):
        reader.receive(frame(9, 0, 1, piece) * 20_000)


def test_a_dropped_block_is_not_interrupted_either() -> None:
    sink = NotingSink()
    sink.skips = True
    reader = FrameReader(sink, SHORT, preface=False)
    with pytest.raises(RemoteProtocolError, match="interrupted"):
        reader.receive(settings() + frame(1, 0, 1, b"") + frame(9, 0, 1) * 9 + ping())


def test_a_sink_that_does_nothing_is_a_mistake() -> None:
    class Bare(FrameSink):
        pass

    bare, stream = Bare(), Stream(None, 1, 0, 0)
    for call in (
        lambda: bare.begin_data(1, 0, 0),
        lambda: bare.deliver(stream, b"", 0, False),
        lambda: bare.drop_padding(None, 0, False),
        lambda: bare.on_block(1, b"", False),
        lambda: bare.on_frame(6, 0, 0, b""),
    ):
        with pytest.raises(AssertionError):
            call()
