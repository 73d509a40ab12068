"""The client role of HTTP/1.1: framing both ways, upgrades, and upstreams that misbehave."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mk8s_agent.wire.http1_leg import Http1Leg
from mk8s_agent.wire.http1_upstream import Http1Upstream
from mk8s_agent.wire.http2.frames import ErrorCode
from mk8s_agent.wire.limits import HIGH_WATER, BufferBudget
from mk8s_agent.wire.stream import Fields, Stream
from tests.support.legs import NotingLeg
from tests.support.memory import ENHANCE_YOUR_CALM, HandTicks, MemoryTransport

HOST: Fields = [(b"host", b"api:6443")]


class Scene:
    """A connection to a server that the test plays, and the stream that gets the answers."""

    def __init__(self) -> None:
        self.socket = MemoryTransport()
        self.ticks = HandTicks()
        self.budget = BufferBudget()
        self.idle: list[Http1Upstream] = []
        self.lost: list[Http1Upstream] = []
        self.connection = Http1Upstream(
            self.socket, self.ticks, self.budget, on_idle=self.idle.append, on_lost=self.lost.append
        )
        self.leg = NotingLeg()
        self.front = Stream(self.leg, 1, 0, 0)

    def ask(
        self,
        method: bytes = b"GET",
        *,
        length: int = -1,
        end: bool = True,
        upgrade: bytes = b"",
        fields: Fields = HOST,
    ) -> bytes:
        self.leg = NotingLeg()
        self.front = Stream(self.leg, 1, 0, 0)
        self.connection.send_request(
            self.front, method, b"/x?y", fields, length=length, end=end, upgrade=upgrade
        )
        return self.read()

    def read(self) -> bytes:
        self.ticks.turn()
        return self.socket.take()

    def send(self, data: bytes) -> None:
        self.connection.receive(data)
        self.ticks.turn()

    def body(self, data: bytes, *, end: bool = False) -> bytes:
        """The front sends a piece of body."""
        back = self.front.peer
        assert back is not None
        back.connection.send_data(back, data, len(data), end)
        return self.read()

    @property
    def head(self) -> Fields:
        [(_, _, fields)] = self.leg.heads
        assert fields is not None
        return fields


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A: b\r\n\r\nhello"


def test_a_request_and_its_answer() -> None:
    scene = Scene()
    assert scene.ask() == b"GET /x?y HTTP/1.1\r\nhost: api:6443\r\n\r\n"
    scene.send(OK)
    assert scene.head == [(b":status", b"200"), (b"content-length", b"5"), (b"x-a", b"b")]
    assert (scene.leg.body, scene.leg.ended) == (b"hello", True)
    assert scene.idle == [scene.connection]


def test_keep_alive() -> None:
    scene = Scene()
    for number in range(1, 4):
        scene.ask()
        scene.send(OK)
        assert scene.leg.body == b"hello"
        assert len(scene.idle) == number
    assert not scene.socket.gone


@pytest.mark.parametrize(
    ("method", "length", "end", "framing"),
    [
        (b"GET", -1, True, b""),
        (b"HEAD", 0, True, b""),
        (b"POST", -1, True, b"Content-Length: 0\r\n"),
        (b"POST", 0, True, b"Content-Length: 0\r\n"),
        (b"POST", 7, False, b"Content-Length: 7\r\n"),
        (b"POST", -1, False, b"Transfer-Encoding: chunked\r\n"),
    ],
)
def test_framing_of_requests(method: bytes, length: int, end: bool, framing: bytes) -> None:
    head = Scene().ask(method, length=length, end=end)
    assert head == method + b" /x?y HTTP/1.1\r\nhost: api:6443\r\n" + framing + b"\r\n"


def test_a_chunked_body() -> None:
    scene = Scene()
    scene.ask(b"POST", end=False)
    assert scene.body(b"hello") == b"5\r\nhello\r\n"
    assert scene.body(b"") == b""
    assert scene.body(b"x" * 16, end=True) == b"10\r\n" + b"x" * 16 + b"\r\n0\r\n\r\n"
    assert scene.leg.granted == 21
    scene.send(OK)
    assert scene.idle


def test_a_body_of_known_length() -> None:
    scene = Scene()
    scene.ask(b"POST", length=5, end=False)
    assert scene.body(b"he") == b"he"
    assert scene.body(b"llo", end=True) == b"llo"
    scene.send(OK)
    assert scene.idle


def test_an_interim_answer_is_none() -> None:
    scene = Scene()
    scene.ask()
    scene.send(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n")
    assert scene.leg.heads == []
    scene.send(OK)
    assert scene.head[0] == (b":status", b"200")


@given(st.integers(1, 60))
def test_answers_however_they_are_cut(step: int) -> None:
    wire = (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
        b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n"
        b"3\r\none\r\n4;x=y\r\ntwo!\r\n0\r\nTrailer: z\r\n\r\n"
    )
    scene = Scene()
    scene.ask()
    for start in range(0, len(wire), step):
        scene.send(wire[start : start + step])
    assert scene.head == [(b":status", b"201")]
    assert (scene.leg.body, scene.leg.ended, len(scene.idle)) == (b"onetwo!", True, 1)


ANSWERS = {
    b"hello": OK,
    b"": b"HTTP/1.1 204 No Content\r\n\r\n",
    b"chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"6;x\r\nchunks\r\n0\r\nX-B: trailer\r\n\r\n",
    b"late": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 No\r\nContent-Length: 4\r\n\r\nlate",
}


@given(st.lists(st.sampled_from(sorted(ANSWERS)), max_size=6), st.integers(1, 60))
def test_one_answer_leaves_nothing_for_the_next(expected: list[bytes], step: int) -> None:
    """One parser reads all answers of a connection."""
    scene = Scene()
    for number, body in enumerate(expected, start=1):
        scene.ask()
        wire = ANSWERS[body]
        for start in range(0, len(wire), step):
            scene.send(wire[start : start + step])
        assert (scene.leg.body, scene.leg.ended) == (body, True)
        assert b"x-b" not in dict(scene.head)
        assert len(scene.idle) == number


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
def test_answers_without_a_body(status: bytes) -> None:
    scene = Scene()
    scene.ask()
    scene.send(b"HTTP/1.1 " + status + b"\r\n\r\n")
    assert scene.leg.heads[0][1]
    assert scene.idle


def test_head_requests() -> None:
    scene = Scene()
    scene.ask(b"HEAD")
    scene.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
    assert scene.leg.ended
    assert (b"content-length", b"5") in scene.head
    assert scene.socket.closed  # the parser waits for a body that does not come
    assert not scene.idle


def test_hop_by_hop_and_internal_fields_stay_here() -> None:
    scene = Scene()
    scene.ask()
    scene.send(
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\nKeep-Alive: x\r\n"
        b"mk8s-error: forged\r\nMK8S-Upgrade: websocket\r\nX: y\r\n\r\n"
    )
    assert scene.head == [(b":status", b"200"), (b"content-length", b"0"), (b"x", b"y")]


def test_connection_close_is_honoured() -> None:
    scene = Scene()
    scene.ask()
    scene.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
    assert scene.leg.ended
    assert scene.socket.closed
    assert scene.idle == []


def test_an_answer_before_the_whole_request() -> None:
    scene = Scene()
    scene.ask(b"POST", length=100, end=False)
    scene.body(b"half")
    scene.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
    assert (scene.leg.ended, scene.leg.resets) == (True, [])
    assert scene.socket.closed
    assert scene.front.peer is None


def test_an_answer_that_begins_before_the_request_ends() -> None:
    scene = Scene()
    scene.ask(b"POST", end=False)
    scene.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n")
    scene.body(b"rest", end=True)
    scene.send(b"0\r\n\r\n")
    assert scene.leg.ended
    assert scene.idle


# -- truncation


@pytest.mark.parametrize(
    "wire",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nframed by the end of the connection",
    ],
)
def test_a_truncated_answer_never_looks_complete(wire: bytes) -> None:
    scene = Scene()
    scene.ask()
    scene.send(wire)
    scene.connection.connection_lost()
    scene.connection.connection_lost()
    assert not scene.leg.ended
    assert scene.leg.resets == [2]
    assert scene.lost == [scene.connection]


def test_a_lost_connection_that_nobody_used() -> None:
    scene = Scene()
    scene.connection.connection_lost()
    assert scene.lost == [scene.connection]
    scene.connection.flush()
    scene.connection._put(b"x")
    assert scene.read() == b""


def test_a_lost_connection_whose_front_has_gone() -> None:
    scene = Scene()
    scene.ask()
    scene.front.peer = None
    assert scene.connection.stream is not None
    scene.connection.stream.peer = None
    scene.send(OK[:-2])
    scene.connection.connection_lost()
    assert scene.leg.resets == []


# -- upstreams that misbehave


@pytest.mark.parametrize(
    "wire",
    [
        b"\x15\x03\x01\x00\x02\x02\x46",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;" + b"x" * 300,
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nx",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"v" * 300_000,
    ],
)
def test_an_answer_that_is_none_ends_the_connection(wire: bytes) -> None:
    scene = Scene()
    scene.ask()
    scene.send(wire)
    assert scene.leg.resets == [1]
    assert not scene.leg.ended
    assert scene.socket.aborted


def test_an_answer_that_nobody_asked_for() -> None:
    scene = Scene()
    scene.send(OK)
    assert scene.socket.aborted


def test_response_splitting_bytes_behind_an_answer_never_reach_the_next_request() -> None:
    """Somebody else's request could be sent from `on_idle`, before the rest was looked at."""
    scene = Scene()
    asked: list[bytes] = []

    def ask_again(connection: Http1Upstream) -> None:
        asked.append(scene.ask())

    scene.connection._on_idle = ask_again
    scene.ask()
    first = scene.leg
    scene.send(OK + b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged")
    assert first.body == b"hello"
    assert asked == []
    assert scene.socket.aborted
    scene.send(b"more")
    assert scene.leg is first


def test_a_front_that_goes_cancels_by_closing() -> None:
    scene = Scene()
    scene.ask(b"POST", length=10, end=False)
    back = scene.front.peer
    assert back is not None
    back.connection.reset(back, 8)
    assert scene.socket.aborted
    back.connection.reset(back, 8)
    assert scene.leg.resets == []


# -- upgrades

SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\nX: y\r\n\r\n"


def upgraded(answer: bytes = SWITCH % b"SPDY/3.1") -> Scene:
    scene = Scene()
    head = scene.ask(b"POST", end=False, upgrade=b"SPDY/3.1")
    assert head == (
        b"POST /x?y HTTP/1.1\r\nhost: api:6443\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n"
        b"Content-Length: 0\r\n\r\n"
    )
    assert scene.body(b"early") == b""  # nothing before the 101
    scene.send(answer)
    return scene


@pytest.mark.parametrize("token", [b"SPDY/3.1", b"spdy/3.1"])
def test_after_101_with_the_right_token_both_directions_are_bytes(token: bytes) -> None:
    scene = upgraded(SWITCH % token + b"server first")
    assert scene.read() == b"early"
    assert scene.head == [(b":status", b"200"), (b"mk8s-upgrade", b"SPDY/3.1"), (b"x", b"y")]
    assert scene.leg.body == b"server first"
    assert scene.body(b"GET / HTTP/1.1\r\n\r\n") == b"GET / HTTP/1.1\r\n\r\n"
    scene.send(b"\x80\x03")
    assert scene.leg.body == b"server first\x80\x03"


NO_SWITCH = {
    "another token": SWITCH % b"websocket",
    "no token": b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    "two tokens": SWITCH.replace(b"X: y", b"Upgrade: h2c") % b"SPDY/3.1",
    "302": b"HTTP/1.1 302 Found\r\nLocation: http://evil/\r\nContent-Length: 0\r\n\r\n",
}  # fmt: skip


@pytest.mark.parametrize("answer", NO_SWITCH.values(), ids=list(NO_SWITCH))
def test_cve_2018_1002105_and_cve_2020_8559_no_bytes_without_the_switch(answer: bytes) -> None:
    scene = upgraded(answer)
    assert scene.leg.resets == [1]
    assert scene.leg.heads == []
    assert scene.socket.aborted
    assert scene.read() == b""  # what the client pipelined never reaches the API server
    assert scene.budget.used == 0


PLAIN = {
    "200": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "200 that looks switched": (SWITCH % b"SPDY/3.1").replace(b"101", b"200") + b"ok",
}


@pytest.mark.parametrize("answer", PLAIN.values(), ids=list(PLAIN))
def test_cve_2018_1002105_a_plain_answer_to_an_upgrade_is_one(answer: bytes) -> None:
    scene = upgraded(answer)
    assert scene.head[0] == (b":status", b"200")
    assert not {name for name, _ in scene.head} & {b"mk8s-upgrade", b"upgrade", b"connection"}
    assert scene.leg.body == b"ok"
    assert scene.read() == b""  # still no byte of the client for the API server


def test_a_refused_upgrade_is_relayed_and_the_connection_is_not_used_again() -> None:
    scene = upgraded(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
    assert scene.head[0] == (b":status", b"403")
    assert (scene.leg.body, scene.leg.ended) == (b"no", True)
    assert scene.socket.closed
    assert scene.read() == b""
    assert scene.budget.used == 0
    assert scene.idle == []


def test_an_upgraded_stream_ends_with_its_connection() -> None:
    scene = upgraded()
    scene.connection.connection_lost()
    assert (scene.leg.ended, scene.leg.resets) == (True, [])


def test_an_upgraded_stream_ends_with_its_client() -> None:
    scene = upgraded()
    scene.read()
    assert scene.body(b"bye", end=True) == b"bye"
    assert scene.socket.closed


def test_an_upgrade_that_is_lost_before_its_answer() -> None:
    scene = Scene()
    scene.ask(b"POST", end=False, upgrade=b"SPDY/3.1")
    scene.body(b"early", end=True)
    scene.connection.connection_lost()
    assert scene.leg.resets == [2]
    assert scene.budget.used == 0


# -- backpressure


def test_an_upstream_that_does_not_read_slows_the_body() -> None:
    scene = Scene()
    scene.ask(b"POST", length=1 << 20, end=False)
    scene.socket.full = True
    scene.body(b"x")
    scene.body(bytes(1000))
    assert (scene.budget.used, scene.leg.granted) == (1000, 1)
    scene.socket.full = False
    scene.connection.writable()
    assert scene.read() == bytes(1000)
    assert (scene.budget.used, scene.leg.granted) == (0, 1001)
    scene.body(bytes(HIGH_WATER + 1))
    scene.body(b"", end=True)
    assert scene.front.peer is not None


def test_a_body_over_the_budget_is_given_up() -> None:
    scene = Scene()
    scene.ask(b"POST", length=1 << 20, end=False)
    scene.socket.full = True
    scene.body(b"x")
    scene.budget.limit = 10
    scene.body(bytes(11))
    assert scene.leg.resets == [ENHANCE_YOUR_CALM]
    assert scene.socket.aborted
    assert scene.budget.used == 0


def test_a_client_that_does_not_read_stops_the_reading() -> None:
    scene = Scene()
    scene.ask()
    back = scene.front.peer
    assert back is not None
    scene.front.pending_bytes = HIGH_WATER + 1
    scene.send(b"HTTP/1.1 200 OK\r\nContent-Length: 900000\r\n\r\nx")
    assert not scene.socket.reading
    scene.connection.grant(back, 1)
    assert not scene.socket.reading
    scene.front.pending_bytes = HIGH_WATER // 4
    scene.connection.grant(back, 1)
    assert scene.socket.reading


def test_bytes_for_nobody_are_read_and_dropped() -> None:
    scene = Scene()
    scene.ask()
    assert scene.front.peer is not None
    scene.front.peer.peer = None
    scene.send(OK)
    assert scene.leg.body == b""
    late: Any = Stream(scene.connection, 1, 0, 0)
    late.local_closed = True
    scene.connection.send_data(late, b"x", 1, True)
    assert scene.read() == b""


def test_the_two_ends_differ() -> None:
    bare: Any = Http1Leg(MemoryTransport(), HandTicks(), BufferBudget())
    stream = Stream(bare, 1, 0, 0)
    with pytest.raises(AssertionError):
        bare._message_sent(stream)
    with pytest.raises(AssertionError):
        bare._abandon(stream, 0)
    bare._drop_pending(stream)
    bare._pass_on(b"x", end=False)


@pytest.mark.parametrize("clean", [True, False])
def test_an_answer_that_ends_with_the_connection_is_complete_only_if_its_server_says_so(
    clean: bool,
) -> None:
    scene = Scene()
    scene.ask(upgrade=b"websocket")
    scene.send(b"HTTP/1.1 403 Forbidden\r\nContent-Type: text/plain\r\n\r\nmust not upgrade")
    scene.socket.clean_end = clean
    scene.connection.connection_lost()
    assert bytes(scene.leg.body) == b"must not upgrade"
    assert scene.leg.ended is clean
    assert bool(scene.leg.resets) is not clean


def test_bytes_behind_a_switch_that_nobody_asked_for_end_the_connection() -> None:
    """httptools says so only behind a 101, which is judged before; this is the second lock."""
    scene = Scene()
    scene.ask()
    scene.connection._after_switch(b"raw")
    assert scene.leg.body == b""
    assert scene.leg.resets == [ErrorCode.PROTOCOL_ERROR]
    assert scene.socket.aborted


def test_a_bad_answer_for_a_front_that_has_gone_ends_the_connection() -> None:
    scene = Scene()
    scene.ask()
    assert scene.connection.stream is not None
    scene.connection.stream.peer = None
    scene.send(b"no HTTP at all\r\n\r\n")
    assert scene.socket.aborted
    assert scene.leg.resets == []


def test_ending_both_halves_resets_the_front_and_closes_the_connection() -> None:
    scene = Scene()
    scene.ask()
    stream = scene.connection.stream
    assert stream is not None
    scene.connection.end_both(stream, ErrorCode.ENHANCE_YOUR_CALM)
    assert scene.leg.resets == [ErrorCode.ENHANCE_YOUR_CALM]
    assert scene.socket.aborted
