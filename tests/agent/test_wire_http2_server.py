"""The server role of HTTP/2: what a client may do, and what costs it its stream or connection."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mk8s_agent.wire import hpack_codec
from mk8s_agent.wire.http2.connection import Http2Connection
from mk8s_agent.wire.http2.frames import ErrorCode
from mk8s_agent.wire.http2.server import LEAVE_SECONDS, Http2Server
from mk8s_agent.wire.limits import BufferBudget, Limits
from mk8s_agent.wire.stream import Fields, Stream
from tests.support.legs import NotingLeg
from tests.support.memory import (
    CANCEL,
    COMPRESSION_ERROR,
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    INTERNAL_ERROR,
    NO_ERROR,
    PREFACE,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    SETTINGS_ACK,
    STREAM_CLOSED,
    Frame,
    HandTicks,
    MemoryTransport,
    Peer,
    bodies,
    data,
    ended,
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
    status,
    window_update,
)

GET: Fields = [
    (b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"a"), (b":path", b"/"),
]  # fmt: skip
OK = hpack_codec.block([(b":status", b"200")])


class NotingServer(Http2Server):
    """Joins each request to a leg that notes what comes."""

    def __init__(self, limits: Limits, *, hands_on: bool = True) -> None:
        self.socket = MemoryTransport()
        self.hand = HandTicks()
        self.budget = BufferBudget()
        super().__init__(self.socket, self.hand, limits, self.budget)
        self.hands_on = hands_on
        self.requests: list[tuple[Fields, bool]] = []
        self.legs: dict[int, NotingLeg] = {}
        self.closed_streams: list[int] = []
        self.lost = 0

    def on_request(self, stream: Stream, fields: Fields, end: bool) -> None:
        self.requests.append((fields, end))
        leg = self.legs[stream.stream_id] = NotingLeg(hands_on=self.hands_on)
        leg.beside(stream)

    def on_stream_closed(self, stream: Stream) -> None:
        self.closed_streams.append(stream.stream_id)

    def on_lost(self) -> None:
        self.lost += 1


def serve(limits: Limits | None = None, **options: Any) -> tuple[NotingServer, Peer]:
    """A server whose client has sent its preface and settings."""
    server = NotingServer(limits or Limits(), **options)
    peer = Peer(server, server.socket, server.hand)
    peer.greet()
    return server, peer


def test_both_sides_say_their_settings() -> None:
    server = NotingServer(Limits(table_size=4096))
    peer = Peer(server, server.socket, server.hand)
    assert peer.read() == [
        Frame("SETTINGS", 0, {1: 4096, 3: 100, 4: 256 << 10, 5: 64 << 10, 6: 192 << 10}),
        Frame("WINDOW_UPDATE", 0, (32 << 20) - 65_535),
    ]
    assert peer.send(PREFACE, settings()) == [Frame("SETTINGS ACK")]
    assert peer.send(SETTINGS_ACK) == []


def test_a_request_and_its_answer() -> None:
    server, peer = serve()
    assert peer.send(headers(1, GET, end=True)) == []
    assert server.requests == [(GET, True)]
    stream = server.streams[1]
    server.relay_head(stream, OK, False)
    server.send_data(stream, b"hello", 5, False)
    server.send_data(stream, b"", 0, True)
    assert peer.read() == [
        Frame("HEADERS", 1, [(b":status", b"200")]),
        Frame("DATA", 1, b"hello", end=True),  # one frame: neighbours are merged
    ]
    assert server.streams == {}
    assert server.closed_streams == [1]
    server.relay_head(stream, OK, True)
    server.send_data(stream, b"late", 4, True)
    assert peer.read() == []


def test_a_body_is_handed_on_and_its_trailers_are_dropped() -> None:
    server, peer = serve()
    peer.send(headers(1, GET), data(1, b"one"), data(1, b"two", padding=7))
    peer.send(headers(1, [(b"x-checksum", b"1")], end=True))
    assert server.legs[1].body == b"onetwo"
    assert server.legs[1].ended
    assert server.streams[1].remote_closed


@given(st.integers(0, 400))
def test_the_preface_and_frames_come_in_any_pieces(cut: int) -> None:
    wire = PREFACE + settings() + headers(1, GET) + data(1, b"x" * 200) + data(1, b"y", end=True)
    server = NotingServer(Limits())
    cut = min(cut, len(wire))
    for piece in (wire[:cut], wire[cut:]):
        server.receive(piece)
    assert server.legs[1].body == b"x" * 200 + b"y"
    assert server.legs[1].ended
    assert not server.socket.gone


def test_byte_by_byte() -> None:
    server = NotingServer(Limits())
    for byte in PREFACE + settings() + headers(1, GET) + data(1, b"abc", end=True):
        server.receive(bytes((byte,)))
    assert server.legs[1].body == b"abc"


@pytest.mark.parametrize("pieces", [2, 5, 17])
def test_a_long_head_comes_in_continuation_frames(pieces: int) -> None:
    server, peer = serve()
    fields = [*GET, (b"x", b"v" * 3000)]
    peer.send(headers(1, fields, end=True, pieces=pieces))
    assert server.requests == [(fields, True)]


def test_padding_and_priority_of_a_head() -> None:
    server, peer = serve()
    block = stateless(GET)
    peer.send(frame(1, 4 | 8 | 0x20, 1, b"\x03" + b"\x80\x00\x00\x00\x10" + block + b"\0\0\0"))
    peer.send(priority(3), priority(1))
    assert server.requests == [(GET, False)]
    assert not server.closed


def test_a_long_answer_head_leaves_in_frames_the_peer_takes() -> None:
    server, peer = serve()
    peer.send(headers(1, GET, end=True))
    fields = [(b":status", b"200"), (b"x", b"v" * 40_000)]
    server.relay_head(server.streams[1], hpack_codec.block(fields), True)
    assert peer.read() == [Frame("HEADERS", 1, fields, end=True)]
    sizes = [size for kind, size in peer.reader.sizes if kind in ("HEADERS", "CONTINUATION")]
    assert sizes[:2] == [16_384, 16_384]
    assert len(sizes) == 3


def test_a_peer_with_a_smaller_table_is_told_that_ours_is_empty() -> None:
    """RFC 7541, 4.2: strict decoders refuse the first block otherwise."""
    server, peer = serve()
    peer.send(settings({1: 0}), headers(1, GET, end=True), headers(3, GET, end=True))
    peer.reader._decoder.max_allowed_table_size = 0  # hpack insists on the update now
    for number in (1, 3):
        server.relay_head(server.streams[number], OK, True)
    assert [status(seen) for seen in peer.read()] == [200, 200]


def test_settings_and_pings_are_answered() -> None:
    _, peer = serve()
    assert peer.send(ping(b"abcdefgh"), settings({3: 5, 99: 1})) == [
        Frame("PING ACK", 0, b"abcdefgh"),
        Frame("SETTINGS ACK"),
    ]
    assert peer.send(ping(b"unasked!", ack=True)) == []


def test_a_pong_measures_the_distance() -> None:
    server, peer = serve()
    server.ping()
    [asked] = peer.read()
    assert asked.kind == "PING"
    assert server.windows.round_trip == 0.0
    peer.send(ping(asked.value, ack=True))
    measured = server.windows.round_trip
    assert measured > 0.0
    peer.send(ping(asked.value, ack=True))
    assert server.windows.round_trip == measured


def test_unknown_frames_are_ignored() -> None:
    server, peer = serve()
    assert peer.send(frame(0x2A, 0xFF, 7, b"whatever"), ping()) == [
        Frame("PING ACK", 0, b"12345678")
    ]
    assert not server.closed


# -- what ends a connection

BROKEN = {
    "no preface": (b"GET / HTTP/1.1\r\n\r\n", PROTOCOL_ERROR),
    "the preface of another protocol": (b"PRI * HTTP/2.1\r\n", PROTOCOL_ERROR),
    "no settings first": (PREFACE + ping(), PROTOCOL_ERROR),
}
G = headers(1, GET)
BROKEN_LATER = {
    "a frame over our limit": (frame(0x2A, 0, 0, bytes(65_537)), FRAME_SIZE_ERROR),
    "data on stream 0": (data(0, b"x"), PROTOCOL_ERROR),
    "padded data on stream 0": (data(0, b"x", padding=1), PROTOCOL_ERROR),
    "data on an idle stream": (data(1, b"x"), PROTOCOL_ERROR),
    "data after the end": (headers(1, GET, end=True) + data(1, b"x"), STREAM_CLOSED),
    "data on a closed stream": (G + rst_stream(1) + data(1, b"x"), STREAM_CLOSED),
    "bad padding of data": (G + frame(0, 8, 1, b"\x09x"), PROTOCOL_ERROR),
    "headers on stream 0": (headers(0, GET), PROTOCOL_ERROR),
    "headers on an even stream": (headers(2, GET), PROTOCOL_ERROR),
    "headers on a lower stream": (headers(5, GET) + headers(3, GET), STREAM_CLOSED),
    "headers on a closed stream": (G + rst_stream(1) + headers(1, GET), STREAM_CLOSED),
    "trailers after the end": (
        headers(1, GET, end=True) + headers(1, [(b"x", b"y")], end=True), STREAM_CLOSED,
    ),
    "a head that depends on itself": (
        frame(1, 4 | 0x20, 1, b"\0\0\0\x01\x10" + stateless(GET)), PROTOCOL_ERROR,
    ),
    "a padded head that depends on itself": (
        frame(1, 4 | 8 | 0x20, 1, b"\0\0\0\0\x01\x10" + stateless(GET)), PROTOCOL_ERROR,
    ),
    "a block that is no HPACK": (head(1, b"\x80"), COMPRESSION_ERROR),
    "a block cut inside an integer": (head(1, b"\xff"), COMPRESSION_ERROR),
    "a block interrupted by a ping": (frame(1, 0, 1, b"\x82") + ping(), PROTOCOL_ERROR),
    "a block interrupted by another stream's": (
        frame(1, 0, 1, b"\x82") + frame(9, 4, 3, b"\x84"), PROTOCOL_ERROR,
    ),
    "a continuation out of place": (frame(9, 4, 1, b"\x84"), PROTOCOL_ERROR),
    "priority on stream 0": (priority(0), PROTOCOL_ERROR),
    "a priority of four bytes": (frame(2, 0, 1, bytes(4)), FRAME_SIZE_ERROR),
    "a stream that depends on itself": (priority(3, 3), PROTOCOL_ERROR),
    "a reset of stream 0": (rst_stream(0), PROTOCOL_ERROR),
    "a reset of an idle stream": (rst_stream(7), PROTOCOL_ERROR),
    "a reset of an idle stream of ours": (rst_stream(2), PROTOCOL_ERROR),
    "a reset of three bytes": (G + frame(3, 0, 1, bytes(3)), FRAME_SIZE_ERROR),
    "settings on a stream": (frame(4, 0, 1), PROTOCOL_ERROR),
    "an acknowledgement with a payload": (frame(4, 1, 0, bytes(6)), FRAME_SIZE_ERROR),
    "settings of five bytes": (frame(4, 0, 0, bytes(5)), FRAME_SIZE_ERROR),
    "a push promise": (frame(5, 4, 1, bytes(8)), PROTOCOL_ERROR),
    "a ping on a stream": (frame(6, 0, 1, bytes(8)), PROTOCOL_ERROR),
    "a ping of seven bytes": (frame(6, 0, 0, bytes(7)), FRAME_SIZE_ERROR),
    "a goaway on a stream": (frame(7, 0, 1, bytes(8)), PROTOCOL_ERROR),
    "a goaway of seven bytes": (frame(7, 0, 0, bytes(7)), FRAME_SIZE_ERROR),
    "a window update of zero for all": (window_update(0, 0), PROTOCOL_ERROR),
    "a window over 2^31": (window_update(0, (1 << 31) - 1), FLOW_CONTROL_ERROR),
    "a window update of an idle stream": (window_update(1, 1), PROTOCOL_ERROR),
    "settings that overflow a window": (
        G + window_update(1, (1 << 31) - 70_000) + settings({4: 1 << 20}), FLOW_CONTROL_ERROR,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("wire", "code"), BROKEN.values(), ids=list(BROKEN))
def test_a_broken_start_ends_the_connection(wire: bytes, code: int) -> None:
    server = NotingServer(Limits())
    peer = Peer(server, server.socket, server.hand)
    assert goaway_code(peer.send(wire)) == code
    assert server.socket.closed


@pytest.mark.parametrize(("wire", "code"), BROKEN_LATER.values(), ids=list(BROKEN_LATER))
def test_a_broken_rule_ends_the_connection(wire: bytes, code: int) -> None:
    server, peer = serve()
    assert goaway_code(peer.send(wire)) == code
    assert server.closed
    assert server.lost == 1
    assert server.streams == {}
    assert [leg.resets for leg in server.legs.values() if not leg.ended] in ([], [[2]], [[8]])
    assert peer.send(ping()) == []  # and nothing more is taken


def test_what_comes_behind_the_end_of_a_connection_is_not_looked_at() -> None:
    """A head in the same read opened a stream that nobody would ever close."""
    server, peer = serve()
    peer.send(headers(1, GET), frame(0, 0, 1, bytes(100))[:50])
    server.legs[1].send_data = lambda *_: server.fail(ErrorCode.INTERNAL_ERROR, "stop")  # type: ignore[method-assign]
    peer.send(bytes(59), headers(3, GET))
    assert len(server.requests) == 1
    assert server.streams == {}


# -- what ends a stream


def test_a_window_update_of_zero_ends_its_stream() -> None:
    server, peer = serve()
    seen = peer.send(headers(1, GET), headers(3, GET), window_update(1, 0))
    assert seen == [Frame("RST_STREAM", 1, PROTOCOL_ERROR)]
    assert server.legs[1].resets == [PROTOCOL_ERROR]
    assert list(server.streams) == [3]


def test_a_stream_window_over_the_maximum_ends_its_stream() -> None:
    _, peer = serve()
    seen = peer.send(headers(1, GET), window_update(1, (1 << 31) - 1))
    assert seen == [Frame("RST_STREAM", 1, FLOW_CONTROL_ERROR)]


@pytest.mark.parametrize("sent", [b"toolong", b"few"])
def test_a_body_of_another_length_than_promised_ends_its_stream(sent: bytes) -> None:
    server, peer = serve()
    peer.send(headers(1, GET))
    server.streams[1].length_left = 5
    assert peer.send(data(1, sent, end=True)) == [Frame("RST_STREAM", 1, PROTOCOL_ERROR)]
    assert not server.legs[1].ended
    assert server.legs[1].resets == [PROTOCOL_ERROR]
    assert server.streams == {}  # it stayed for ever, END_STREAM having come


def test_a_body_of_the_promised_length_passes() -> None:
    server, peer = serve()
    peer.send(headers(1, GET))
    server.streams[1].length_left = 5
    peer.send(data(1, b"hel"), data(1, b"lo"), data(1, b"", end=True))
    assert server.legs[1].ended


def test_what_is_on_its_way_to_a_stream_that_was_reset_here_is_forgiven() -> None:
    server, peer = serve()
    peer.send(headers(1, GET), headers(3, GET))
    server.reset(server.streams[1], CANCEL)
    assert peer.read() == [Frame("RST_STREAM", 1, CANCEL)]
    later = peer.send(data(1, b"late"), window_update(1, 5), headers(1, [(b"x", b"y")], end=True))
    assert later == []
    assert not server.closed
    assert peer.send(rst_stream(1), ping()) == [Frame("PING ACK", 0, b"12345678")]


def test_only_so_many_resets_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mk8s_agent.wire.http2.stream_table.STRAYS", 3)
    server, peer = serve()
    for number in (1, 3, 5, 7, 9):
        peer.send(headers(number, GET))
        server.reset(server.streams[number], CANCEL)
    assert list(server.table._reset_here) == [5, 7, 9]


def test_a_reset_reaches_the_other_half() -> None:
    server, peer = serve()
    peer.send(headers(1, GET), rst_stream(1, CANCEL))
    assert server.legs[1].resets == [CANCEL]
    assert server.closed_streams == [1]
    peer.send(rst_stream(1, CANCEL))
    assert not server.closed


@pytest.mark.parametrize("code", [NO_ERROR, CANCEL])
def test_a_cancelled_watch_is_cancelled_whatever_the_code(code: int) -> None:
    """With NO_ERROR it went on upstream, unseen and uncounted."""
    server, peer = serve()
    peer.send(headers(1, GET, end=True), rst_stream(1, code))
    assert server.legs[1].resets == [code]


def test_a_reset_without_a_peer_is_only_noted() -> None:
    server, peer = serve()
    peer.send(headers(1, GET))
    server.streams[1].peer = None
    peer.send(data(1, b"nobody takes it"), rst_stream(1))
    assert server.streams == {}


def test_a_lost_connection_ends_every_stream() -> None:
    server, peer = serve()
    peer.send(headers(1, GET), headers(3, GET, end=True), headers(5, GET))
    server.streams[5].peer = None
    server.connection_lost()
    server.connection_lost()
    assert [leg.resets for leg in server.legs.values()] == [[INTERNAL_ERROR], [INTERNAL_ERROR], []]
    assert server.lost == 1
    server.fail(ErrorCode.INTERNAL_ERROR, "again")
    server.flush()
    assert peer.read() == []


# -- leaving


def test_a_drain_lets_open_streams_end() -> None:
    server, peer = serve()
    peer.send(headers(1, GET, end=True))
    server.drain()
    server.drain()
    assert peer.read() == [Frame("GOAWAY", 1, NO_ERROR)]
    assert peer.send(headers(3, GET, end=True)) == [Frame("RST_STREAM", 3, REFUSED_STREAM)]
    assert not server.socket.closed
    server.relay_head(server.streams[1], OK, True)
    assert ended(peer.read()) == {1}
    assert server.socket.closed


def test_a_drain_of_an_idle_connection_closes_it() -> None:
    server, peer = serve()
    server.drain()
    assert kinds(peer.read()) == ["GOAWAY"]
    assert server.socket.closed


LEAVES = [Frame("GOAWAY", (1 << 31) - 1, NO_ERROR), Frame("PING", 0, b"leaving?")]


def test_streams_that_cross_the_news_of_leaving_are_served() -> None:
    server, peer = serve()
    peer.send(headers(1, GET, end=True))
    server.leave()
    server.leave()
    assert peer.read() == LEAVES
    assert peer.send(headers(3, GET), headers(5, GET, end=True)) == []
    assert peer.send(ping(b"leaving?", ack=True)) == [Frame("GOAWAY", 5, NO_ERROR)]
    assert peer.send(headers(7, GET, end=True)) == [Frame("RST_STREAM", 7, REFUSED_STREAM)]
    peer.send(data(3, b"a body behind both", end=True))
    assert server.legs[3].body == b"a body behind both"
    for number in (1, 3, 5):
        assert not server.socket.closed
        server.relay_head(server.streams[number], OK, True)
    assert ended(peer.read()) == {1, 3, 5}
    assert server.socket.closed


def test_only_the_answer_to_the_news_ends_the_wait_for_it() -> None:
    server, peer = serve()
    assert peer.send(ping(b"leaving?", ack=True)) == []  # nobody asked
    server.ping()
    [asked] = peer.read()
    peer.send(headers(1, GET, end=True))
    server.leave()
    assert peer.read() == LEAVES
    assert peer.send(ping(asked.value, ack=True), ping(b"leaving?")) == [
        Frame("PING ACK", 0, b"leaving?")
    ]
    assert not server.draining
    assert kinds(peer.send(ping(b"leaving?", ack=True))) == ["GOAWAY"]
    assert peer.send(ping(b"leaving?", ack=True)) == []
    server.second(LEAVE_SECONDS)
    assert peer.read() == []


def test_a_peer_that_does_not_answer_the_news_is_not_waited_for() -> None:
    server, peer = serve()
    server.second(100.0)
    peer.send(headers(1, GET, end=True))
    server.leave()
    server.second(LEAVE_SECONDS - 1.0)
    assert peer.read() == LEAVES
    server.second(1.0)
    assert peer.read() == [Frame("GOAWAY", 1, NO_ERROR)]


def test_who_drains_or_is_gone_leaves_no_more() -> None:
    server, peer = serve()
    peer.send(headers(1, GET, end=True))
    server.drain()
    peer.read()
    server.leave()
    assert peer.read() == []
    gone, peer = serve()
    gone.connection_lost()
    gone.leave()
    assert peer.read() == []


def test_a_client_that_leaves_gets_its_answers() -> None:
    server, peer = serve()
    peer.send(headers(1, GET, end=True), goaway(0))
    assert server.draining
    assert not server.socket.closed
    server.relay_head(server.streams[1], OK, False)
    server.send_data(server.streams[1], b"all of it", 9, True)
    assert bodies(peer.read()) == {1: b"all of it"}
    assert server.socket.closed


def test_more_streams_than_allowed_are_refused_and_may_be_sent_again() -> None:
    server, peer = serve(Limits(max_streams=2))
    seen = peer.send(*[headers(number, GET) for number in (1, 3, 5)])
    assert seen == [Frame("RST_STREAM", 5, REFUSED_STREAM)]
    peer.send(rst_stream(1))
    assert peer.send(data(5, b"on its way", end=True), headers(7, GET)) == []
    assert list(server.streams) == [3, 7]


def test_reset_of_a_stream_that_has_ended_says_nothing() -> None:
    server, peer = serve()
    peer.send(headers(1, GET, end=True))
    stream = server.streams[1]
    server.relay_head(stream, OK, True)
    peer.read()
    server.reset(stream, CANCEL)
    server.end_both(stream, CANCEL)
    assert peer.read() == []


def test_the_base_classes_leave_their_roles_open() -> None:
    transport, ticks, budget = MemoryTransport(), HandTicks(), BufferBudget()
    bare = Http2Connection(transport, ticks, Limits(), budget, server=True)
    stream = Stream(bare, 1, 0, 0)
    with pytest.raises(AssertionError):
        bare.on_block(1, b"", True)
    with pytest.raises(AssertionError):
        Http2Server(transport, ticks, Limits(), budget).on_request(stream, [], True)
    bare.on_goaway(0, first=True)
    assert "Stream 1 --" in repr(stream)
    assert "0 of" in repr(budget)


@given(st.lists(st.binary(max_size=60), max_size=5))
def test_any_bytes_end_in_order_or_in_a_goaway(pieces: list[bytes]) -> None:
    server, peer = serve()
    for piece in pieces:
        seen = peer.send(piece)
        if server.closed:
            assert goaway_code(seen) in (*range(10), ENHANCE_YOUR_CALM)
            return


frames_of_any_kind = st.builds(
    frame, st.integers(0, 10), st.integers(0, 255), st.integers(0, 9), st.binary(max_size=40)
)


@given(st.lists(frames_of_any_kind, max_size=30))
def test_any_frames_end_in_order_or_in_a_goaway(wire: list[bytes]) -> None:
    server, peer = serve()
    peer.send(headers(1, GET), *wire)
    if server.closed:
        assert server.streams == {}
    assert server.budget.used == 0
