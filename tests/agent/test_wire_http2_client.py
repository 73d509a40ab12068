"""The client role of HTTP/2: opening streams, and answers that are not what they should be."""

from typing import Any

import pytest

from mk8s_agent.wire import hpack_codec
from mk8s_agent.wire.http2.client import _LAST_STREAM, Http2Client
from mk8s_agent.wire.limits import BufferBudget, Limits
from mk8s_agent.wire.stream import Stream
from tests.support.legs import NotingLeg
from tests.support.memory import (
    CANCEL,
    NO_ERROR,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    STREAM_CLOSED,
    Frame,
    HandTicks,
    MemoryTransport,
    Peer,
    data,
    goaway,
    goaway_code,
    head,
    headers,
    kinds,
    ping,
    rst_stream,
    settings,
    window_update,
)

HEAD = [(b":method", b"GET"), (b":scheme", b"https"), (b":path", b"/version")]
BLOCK = hpack_codec.block(HEAD)
CALM = 11
OK = [(b":status", b"200")]
HINT = [(b":status", b"103")]


class NotingClient(Http2Client):
    """Notes answers, and hands bodies to the leg of each stream."""

    def __init__(self, limits: Limits) -> None:
        self.socket = MemoryTransport()
        self.hand = HandTicks()
        self.budget = BufferBudget()
        self.answers: list[tuple[int, bytes, bool]] = []
        self.ready_count = 0
        super().__init__(self.socket, self.hand, limits, self.budget)

    def on_response(self, stream: Stream, block: bytes, end: bool) -> None:
        fields = self.decode(block)
        if not fields[0][1].startswith(b"1"):
            stream.head_passed = True
        if fields[0][1] == b"599":
            self.reset(stream, CANCEL)
            return
        self.answers.append((stream.stream_id, fields[0][1], end))

    def on_ready(self) -> None:
        self.ready_count += 1

    def ask(self, *, end: bool = True) -> tuple[Stream, NotingLeg]:
        """A request that leaves at once."""
        stream, leg = self.prepare(), NotingLeg()
        leg.beside(stream)
        stream.end_queued = end
        self.open_prepared(stream, BLOCK)
        return stream, leg


def connect(limits: Limits | None = None) -> tuple[NotingClient, Peer]:
    client = NotingClient(limits or Limits())
    peer = Peer(client, client.socket, client.hand, server=True)
    peer.greet()
    return client, peer


def test_the_first_flight() -> None:
    client = NotingClient(Limits())
    peer = Peer(client, client.socket, client.hand, server=True)
    assert peer.read() == [
        Frame("SETTINGS", 0, {1: 0, 2: 0, 4: 256 << 10, 5: 64 << 10, 6: 192 << 10}),
        Frame("WINDOW_UPDATE", 0, (32 << 20) - 65_535),
    ]
    assert client.starting
    assert not client.ready
    assert not client.available
    assert peer.send(settings({3: 7})) == [Frame("SETTINGS ACK")]
    assert not client.starting
    assert client.ready
    assert client.available
    peer.send(settings({3: 8}))
    assert (client.ready_count, client.peer_max_streams) == (1, 8)


def test_a_request_and_its_answer() -> None:
    client, peer = connect()
    stream, leg = client.ask()
    assert peer.read() == [Frame("HEADERS", 1, HEAD, end=True)]
    assert peer.send(headers(1, OK), data(1, b"v1."), data(1, b"31", end=True)) == []
    assert client.answers == [(1, b"200", False)]
    assert leg.body == b"v1.31"
    assert leg.ended
    assert client.streams == {}
    assert stream.remote_closed


def test_trailers_end_an_answer() -> None:
    client, peer = connect()
    _, leg = client.ask()
    peer.send(headers(1, OK), data(1, b"x"), headers(1, [(b"grpc-status", b"0")], end=True))
    assert leg.ended
    assert client.streams == {}


def test_a_body_waits_for_its_head() -> None:
    client, peer = connect()
    stream, leg = client.prepare(), NotingLeg()
    leg.beside(stream)
    client.send_data(stream, b"came", 4, False)
    client.send_data(stream, b" early", 6, True)
    assert peer.read() == []
    assert client.budget.used == 10
    client.open_prepared(stream, BLOCK)
    assert peer.read() == [Frame("HEADERS", 1, HEAD), Frame("DATA", 1, b"came early", end=True)]
    assert client.budget.used == 0
    assert leg.granted == 10


def test_an_empty_body_that_ended_early_ends_with_the_head() -> None:
    client, peer = connect()
    stream = client.prepare()
    client.send_data(stream, b"", 0, True)
    client.open_prepared(stream, BLOCK)
    assert peer.read() == [Frame("HEADERS", 1, HEAD, end=True)]


def test_a_staged_stream_that_is_not_sent_leaves_nothing() -> None:
    client, peer = connect()
    stream, leg = client.prepare(), NotingLeg()
    front = leg.beside(stream)
    client.send_data(stream, b"x" * 1000, 1000, False)
    client.discard_prepared(stream)
    assert (client.budget.used, client.streams, front.peer) == (0, {}, None)
    client.send_data(stream, b"late", 4, True)
    assert peer.read() == []
    gone = client.prepare()
    client.send_data(gone, b"y", 1, False)
    client.reset(gone, CANCEL)
    assert (peer.read(), client.budget.used) == ([], 0)


def test_informational_heads_are_not_the_answer() -> None:
    client, peer = connect()
    _, leg = client.ask()
    peer.send(headers(1, HINT), headers(1, HINT), headers(1, OK), data(1, b"x", end=True))
    assert [status for _, status, _ in client.answers] == [b"103", b"103", b"200"]
    assert leg.body == b"x"


def test_attack_heads_before_the_final_one_are_counted_by_stream() -> None:
    client, peer = connect(Limits(control_frames=100))
    _, leg = client.ask()
    client.ask()
    peer.read()
    assert peer.send(headers(1, HINT) * 32) == []
    assert peer.send(headers(1, HINT)) == [Frame("RST_STREAM", 1, PROTOCOL_ERROR)]
    assert leg.resets == [PROTOCOL_ERROR]
    peer.send(headers(3, HINT), headers(3, OK, end=True))
    assert client.answers[-1] == (3, b"200", True)
    assert not client.closed


LONG = hpack_codec.block([(b"x", bytes(200))])


def test_attack_a_long_block_of_an_end_with_a_table_ends_the_connection() -> None:
    client, peer = connect(Limits(table_size=4096, header_block=64))
    client.ask()
    assert goaway_code(peer.send(head(1, LONG, pieces=3))) == CALM


def test_attack_long_blocks_of_no_open_stream() -> None:
    client, peer = connect(Limits(header_block=64, control_frames=10))
    stream, _ = client.ask()
    client.reset(stream, CANCEL)
    peer.send(head(1, LONG, pieces=3))
    assert not client.closed
    assert goaway_code(peer.send(head(1, LONG, pieces=3) * 20)) == CALM
    client, peer = connect(Limits(header_block=64))
    assert goaway_code(peer.send(head(1, LONG, pieces=3))) == PROTOCOL_ERROR


HOSTILE = {
    "data before the head": data(1, b"x"),
    "an end before the head": data(1, b"", end=True),
    "empty data before the head": data(1, b""),
    "an end with an informational head": headers(1, HINT, end=True),
    "two heads": headers(1, OK) + headers(1, OK),
    "a window update of zero": window_update(1, 0),
}


@pytest.mark.parametrize("wire", HOSTILE.values(), ids=list(HOSTILE))
def test_a_hostile_answer_ends_its_own_stream(wire: bytes) -> None:
    client, peer = connect()
    (_, leg), (_, other) = client.ask(end=False), client.ask()
    peer.read()
    assert peer.send(wire) == [Frame("RST_STREAM", 1, PROTOCOL_ERROR)]
    assert leg.resets == [PROTOCOL_ERROR]
    assert (leg.body, leg.ended) == (b"", False)
    peer.send(headers(3, OK), data(3, b"fine", end=True))
    assert other.body == b"fine"
    assert client.streams == {}


def test_an_answer_that_is_given_up_while_it_is_read() -> None:
    client, peer = connect()
    _, leg = client.ask(end=False)
    peer.read()
    seen = peer.send(headers(1, [(b":status", b"599")], end=True))
    assert (kinds(seen), client.streams, leg.ended) == (["RST_STREAM"], {}, False)


@pytest.mark.parametrize(
    ("wire", "code"),
    [
        (headers(3, OK), PROTOCOL_ERROR),  # never opened
        (headers(2, OK), PROTOCOL_ERROR),  # ours to open, and never done
        (headers(1, OK, end=True) + headers(1, OK, end=True), STREAM_CLOSED),
        (headers(1, OK, end=True) + data(1, b"x"), STREAM_CLOSED),
    ],
)
def test_answers_that_cannot_be_ended_the_connection_does(wire: bytes, code: int) -> None:
    client, peer = connect()
    client.ask(end=False)
    assert goaway_code(peer.send(wire)) == code
    assert client.closed


def test_an_answer_on_a_stream_that_was_reset_is_dropped() -> None:
    client, peer = connect()
    stream, _ = client.ask()
    client.reset(stream, CANCEL)
    peer.read()
    assert peer.send(headers(1, OK), data(1, b"late", end=True)) == []
    assert client.answers == []
    assert not client.closed


def test_a_server_that_refuses_the_rest_of_an_upload_has_answered() -> None:
    """RFC 9113, 8.1: a whole answer, then RST_STREAM with NO_ERROR."""
    client, peer = connect()
    _, leg = client.ask(end=False)
    peer.send(headers(1, [(b":status", b"413")]), data(1, b"too big", end=True))
    peer.send(rst_stream(1, NO_ERROR))
    assert (leg.body, leg.ended, leg.resets) == (b"too big", True, [])
    assert client.streams == {}


def test_a_reset_before_the_answer_ended_is_passed_on() -> None:
    client, peer = connect()
    _, leg = client.ask()
    peer.send(headers(1, OK), rst_stream(1, NO_ERROR))
    assert leg.resets == [NO_ERROR]


def test_a_goaway_turns_away_what_was_not_begun() -> None:
    client, peer = connect()
    legs = [client.ask()[1] for _ in range(3)]
    client.streams[5].peer = None
    peer.send(goaway(1))
    assert [leg.resets for leg in legs] == [[], [REFUSED_STREAM], []]
    assert not client.available
    peer.send(headers(1, OK, end=True))
    assert legs[0].resets == []
    assert client.socket.closed


def test_no_more_streams_than_the_server_takes() -> None:
    client, peer = connect()
    peer.send(settings({3: 1}))
    client.ask()
    assert not client.available
    peer.send(headers(1, OK, end=True))
    assert client.available


def test_stream_numbers_run_out_before_they_end() -> None:
    client, _ = connect()
    client.table.next_own = _LAST_STREAM + 1
    assert not client.available


def test_a_silent_server_is_asked_and_then_given_up() -> None:
    client, peer = connect()
    _, leg = client.ask()
    peer.read()
    client.second(1.0)  # something was heard in this one
    client.second(9.0)
    assert peer.read() == []
    client.second(1.0)
    assert kinds(peer.read()) == ["PING"]
    peer.send(ping(ack=True))
    client.second(1.0)
    assert peer.read() == []
    client.second(24.0)
    assert not client.socket.aborted
    client.second(2.0)
    assert client.socket.aborted
    assert (client.close_reason, leg.resets) == ("no sign of life from the peer", [2])
    client.second(1.0)


def test_the_role_is_left_open() -> None:
    bare: Any = Http2Client(MemoryTransport(), HandTicks(), Limits(), BufferBudget())
    with pytest.raises(AssertionError):
        bare.on_response(bare.prepare(), b"", True)
