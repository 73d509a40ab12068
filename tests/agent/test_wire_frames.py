"""Frames as bytes, checked against a reader and builders written from RFC 9113 alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mk8s_agent.wire.http2 import frames
from mk8s_agent.wire.http2.frames import ErrorCode, RemoteProtocolError
from tests.support import memory
from tests.support.memory import Frame, FrameReader

streams = st.integers(0, frames.MAX_STREAM_ID)


@given(st.integers(0, 255), streams, st.binary(max_size=300))
def test_a_frame_is_its_header_and_its_payload(flags: int, stream_id: int, payload: bytes) -> None:
    whole = frames.frame(frames.HEADERS, flags, stream_id, payload)
    assert whole == memory.frame(1, flags, stream_id, payload)
    high, low, kind, seen_flags, seen_stream = frames.unpack_header(b"xy" + whole, 2)
    assert (high << 8 | low, kind, seen_flags, seen_stream) == (len(payload), 1, flags, stream_id)


def test_lengths_use_all_three_bytes() -> None:
    assert frames.frame(0, 0, 1, bytes(0x010203))[:3] == b"\x01\x02\x03"


def test_what_other_readers_see() -> None:
    written = (
        frames.window_update(5, 70_000)
        + frames.rst_stream(7, ErrorCode.CANCEL)
        + frames.goaway(9, ErrorCode.ENHANCE_YOUR_CALM, "calm down")
        + frames.settings({frames.INITIAL_WINDOW_SIZE: 1 << 18, frames.ENABLE_PUSH: 0})
    )
    assert FrameReader().feed(written) == [
        Frame("WINDOW_UPDATE", 5, 70_000),
        Frame("RST_STREAM", 7, 8),
        Frame("GOAWAY", 9, 11),
        Frame("SETTINGS", 0, {4: 1 << 18, 2: 0}),
    ]


def test_the_words_in_a_goaway_are_bounded() -> None:
    assert len(frames.goaway(1, 0, "ä" * 1000)) == 9 + 8 + 256


def test_settings_are_read_in_order() -> None:
    payload = memory.settings({1: 0, 5: 16384, 99: 7})[9:]
    assert frames.read_settings(payload) == [(1, 0), (5, 16384), (99, 7)]


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (b"\x00" * 5, ErrorCode.FRAME_SIZE_ERROR),
        (memory.settings({4: 1 << 31})[9:], ErrorCode.FLOW_CONTROL_ERROR),
        (memory.settings({5: 16383})[9:], ErrorCode.PROTOCOL_ERROR),
        (memory.settings({5: 1 << 24})[9:], ErrorCode.PROTOCOL_ERROR),
        (memory.settings({2: 2})[9:], ErrorCode.PROTOCOL_ERROR),
    ],
)
def test_settings_out_of_range_are_refused(payload: bytes, code: ErrorCode) -> None:
    with pytest.raises(RemoteProtocolError) as refusal:
        frames.read_settings(payload)
    assert refusal.value.code is code
    assert str(refusal.value).startswith(code.name)


def test_settings_at_the_edges_are_taken() -> None:
    edges = {2: 1, 4: (1 << 31) - 1, 5: (1 << 24) - 1}
    assert dict(frames.read_settings(memory.settings(edges)[9:])) == edges


@pytest.mark.parametrize(
    ("kind", "stream_id", "size"),
    [
        (frames.PRIORITY, 1, 5),
        (frames.RST_STREAM, 1, 4),
        (frames.SETTINGS, 0, 12),
        (frames.PING, 0, 8),
        (frames.GOAWAY, 0, 8),
        (frames.GOAWAY, 0, 300),
        (frames.WINDOW_UPDATE, 0, 4),
        (frames.WINDOW_UPDATE, 7, 4),
        (0xF0, 0, 1),
        (0xF0, 3, 0),
    ],
)
def test_frames_of_the_right_shape(kind: int, stream_id: int, size: int) -> None:
    frames.check_shape(kind, 0, stream_id, bytes(size))


FS, PE = ErrorCode.FRAME_SIZE_ERROR, ErrorCode.PROTOCOL_ERROR


@pytest.mark.parametrize(
    ("kind", "flags", "stream_id", "payload", "code"),
    [
        (frames.PRIORITY, 0, 0, bytes(5), PE),
        (frames.PRIORITY, 0, 1, bytes(4), FS),
        (frames.PRIORITY, 0, 5, b"\x80\0\0\x05\x10", PE),
        (frames.RST_STREAM, 0, 0, bytes(4), PE),
        (frames.RST_STREAM, 0, 1, bytes(3), FS),
        (frames.SETTINGS, 0, 1, b"", PE),
        (frames.SETTINGS, frames.ACK, 0, bytes(6), FS),
        (frames.PING, 0, 1, bytes(8), PE),
        (frames.PING, frames.ACK, 0, bytes(9), FS),
        (frames.GOAWAY, 0, 1, bytes(8), PE),
        (frames.GOAWAY, 0, 0, bytes(7), FS),
        (frames.WINDOW_UPDATE, 0, 0, bytes(5), FS),
        (frames.WINDOW_UPDATE, 0, 1, b"", FS),
    ],
)
def test_frames_of_another_shape_end_the_connection(
    kind: int, flags: int, stream_id: int, payload: bytes, code: ErrorCode
) -> None:
    with pytest.raises(RemoteProtocolError) as refusal:
        frames.check_shape(kind, flags, stream_id, payload)
    assert refusal.value.code is code


@given(st.binary(max_size=64), st.integers(0, 255), st.booleans())
def test_padding_and_priority_are_cut_off(body: bytes, padding: int, priority: bool) -> None:
    flags = frames.PADDED | (frames.WITH_PRIORITY if priority else 0)
    payload = bytes((padding,)) + b"PRIOR" * priority + body + bytes(padding)
    assert frames.strip_padding(payload, flags) == body
    assert frames.strip_padding(b"PRIOR" * priority + body, flags & ~frames.PADDED) == body


@pytest.mark.parametrize(
    ("payload", "flags", "code"),
    [
        (b"", frames.PADDED, ErrorCode.FRAME_SIZE_ERROR),
        (b"\x01", frames.PADDED, ErrorCode.PROTOCOL_ERROR),
        (b"\xffabc", frames.PADDED, ErrorCode.PROTOCOL_ERROR),
        (b"abcd", frames.WITH_PRIORITY, ErrorCode.FRAME_SIZE_ERROR),
        (b"\0abcd", frames.PADDED | frames.WITH_PRIORITY, ErrorCode.FRAME_SIZE_ERROR),
        (b"\x02PRIORx", frames.PADDED | frames.WITH_PRIORITY, ErrorCode.PROTOCOL_ERROR),
    ],
)
def test_padding_longer_than_its_frame_is_refused(
    payload: bytes, flags: int, code: ErrorCode
) -> None:
    with pytest.raises(RemoteProtocolError) as refusal:
        frames.strip_padding(payload, flags)
    assert refusal.value.code is code


@given(st.binary(max_size=64), st.integers(0, 255))
def test_any_payload_is_stripped_or_refused(payload: bytes, flags: int) -> None:
    try:
        stripped = frames.strip_padding(payload, flags)
    except RemoteProtocolError:
        return
    assert stripped in payload
