"""Streams that stay open: looked at again in time, and ended so that their clients resume."""

import json

import pytest
from chain_for_tests import UNREAD

from mk8s_agent.wire.http2.frames import ErrorCode
from mk8s_agent.wire.stream import Stream
from mk8s_proxy.answers.upgraded_session import UpgradedSession
from mk8s_proxy.chain.long_running import LOOK_SECONDS, LongRunning
from mk8s_proxy.kube.request_info import parse_request_info
from mk8s_proxy.kube.request_target import parse_target
from mk8s_proxy.listener.exchange import Exchange, new_entry
from tests.support.legs import NotingLeg

EXEC = b"/api/v1/namespaces/shop/pods/web/exec?command=sh"


class Scene:
    """Open exchanges, and what the doors say of them."""

    def __init__(self) -> None:
        self.reasons: dict[Exchange, str] = {}
        self.unread: set[Exchange] = set()
        self.ends: dict[Exchange, float] = {}
        self.looks: list[float] = []
        self.now = 0.0
        self.open = LongRunning(self.why, self.why_by_now, lambda it: self.ends.get(it, 1e12))

    def why(self, exchange: Exchange) -> str:
        return self.reasons.get(exchange, "")

    def why_by_now(self, exchange: Exchange) -> str:
        self.looks.append(self.now)
        ended = self.now >= self.ends.get(exchange, 1e12)
        unread = "central cannot read" if exchange in self.unread else ""
        return "the login has expired" if ended else unread or self.why(exchange)

    def second(self, now: float) -> None:
        self.now = now
        self.open.second(now)

    def add(
        self,
        expires: float = 100.0,
        *,
        upgrade: bytes = b"",
        passed: bool = True,
        target: bytes = b"/api/v1/pods?watch=1",
        ends: float = 1e12,
    ) -> Exchange:
        client, tunnel = NotingLeg(), NotingLeg()
        front = Stream(client, 1, 0, 0)
        head = UNREAD._replace(upgrade=upgrade, target=target)
        exchange = Exchange(front, head, new_entry("192.0.2.1"))
        exchange.info = parse_request_info(b"GET", parse_target(b"GET", target))
        self.ends[exchange] = ends
        exchange.back = tunnel.beside(front)
        front.head_passed = passed
        if upgrade == b"websocket" or target.startswith(EXEC + b"&"):
            UpgradedSession(exchange).insert(exchange.back)
            exchange.entry.code = 101
        self.open.add(exchange, expires)
        return exchange


def client_of(exchange: Exchange) -> NotingLeg:
    found = exchange.front.connection
    assert isinstance(found, NotingLeg)
    return found


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_nothing_is_asked_before_its_time(scene: Scene) -> None:
    exchange = scene.add(100.0)
    scene.reasons[exchange] = "expired"
    scene.second(99.0)
    assert list(scene.open.exchanges()) == [exchange]
    assert not client_of(exchange).ended


def test_what_may_go_on_goes_on(scene: Scene) -> None:
    exchange = scene.add(100.0)
    scene.second(101.0)
    assert not client_of(exchange).ended
    assert client_of(exchange).resets == []


def test_a_quiet_watch_ends_cleanly_with_its_closing_event(scene: Scene) -> None:
    exchange = scene.add(100.0)
    exchange.closing_event = b"{}\n"
    scene.reasons[exchange] = "expired"
    scene.second(101.0)  # it may be in the middle of an event
    assert not client_of(exchange).ended
    scene.second(102.0)
    assert (client_of(exchange).body, client_of(exchange).ended) == (b"{}\n", True)
    assert exchange.entry.refusal == "ENDED"
    assert exchange.entry.facts.reason == "expired"


def test_a_watch_that_is_rechecked_just_before_the_second_gets_a_whole_one(scene: Scene) -> None:
    exchange = scene.add(1e12)
    scene.reasons[exchange] = "disabled"
    scene.open.recheck_all()
    scene.second(1.0)
    assert not client_of(exchange).ended
    scene.second(2.0)
    assert client_of(exchange).ended


def test_an_event_that_waits_for_a_slow_client_is_not_cut(scene: Scene) -> None:
    exchange = scene.add(100.0)
    scene.reasons[exchange] = "expired"
    scene.second(101.0)
    exchange.front.sent += 7  # half an event
    scene.second(102.0)
    assert not client_of(exchange).ended
    scene.second(103.0)
    assert client_of(exchange).ended


def test_a_stream_whose_tunnel_is_gone_still_ends(scene: Scene) -> None:
    exchange = scene.add(100.0, upgrade=b"SPDY/3.1", target=EXEC)
    exchange.front.peer = None
    scene.reasons[exchange] = "expired"
    scene.second(101.0)
    assert client_of(exchange).resets == [ErrorCode.INTERNAL_ERROR]


def test_a_watch_that_never_rests_is_reset(scene: Scene) -> None:
    exchange = scene.add(100.0)
    scene.reasons[exchange] = "expired"
    for second in range(101, 140):
        exchange.front.sent += 1
        scene.second(float(second))
    assert client_of(exchange).resets == [ErrorCode.INTERNAL_ERROR]


def test_an_upgraded_stream_without_words_is_cut_at_once(scene: Scene) -> None:
    exchange = scene.add(100.0, upgrade=b"SPDY/3.1", target=EXEC)
    scene.reasons[exchange] = "expired"
    scene.second(101.0)
    assert client_of(exchange).resets == [ErrorCode.INTERNAL_ERROR]


LOG = b"/api/v1/namespaces/shop/pods/web/log?follow=true"


@pytest.mark.parametrize("target", [LOG, b"/api/v1/namespaces/shop/services/web/proxy/big.iso"])
def test_what_nobody_resumes_never_looks_complete(scene: Scene, target: bytes) -> None:
    """`kubectl logs -f` would end with success, and a download would be short."""
    exchange = scene.add(100.0, target=target)
    scene.reasons[exchange] = "logged out"
    scene.open.recheck_all()
    assert client_of(exchange).resets == [ErrorCode.INTERNAL_ERROR]
    assert not client_of(exchange).ended


def test_a_log_goes_on_while_its_tunnel_drains(scene: Scene) -> None:
    exchange = scene.add(target=LOG)
    scene.open.drain("the agent drains")
    for second in (1.0, 2.0):
        scene.second(second)
    assert (client_of(exchange).ended, client_of(exchange).resets) == (False, [])


def test_a_session_outlives_its_token_and_is_looked_at_from_time_to_time(scene: Scene) -> None:
    exchange = scene.add(100.0, upgrade=b"SPDY/3.1", target=EXEC, ends=1000.0)
    for second in range(90, 1000):
        scene.second(float(second))
    assert scene.looks == [100.0, 100.0 + LOOK_SECONDS, 100.0 + 2 * LOOK_SECONDS, 940.0]
    assert client_of(exchange).resets == []
    scene.second(1000.0)
    assert client_of(exchange).resets == [ErrorCode.INTERNAL_ERROR]
    assert exchange.entry.facts.reason == "the login has expired"


def test_where_the_database_cannot_be_read_no_session_outlives_its_token(scene: Scene) -> None:
    """It may hold a logout."""
    exchange = scene.add(100.0)
    scene.unread.add(exchange)
    scene.open.recheck_all()
    for second in (99.0, 100.0, 101.0):
        scene.second(second)
    assert client_of(exchange).ended


def channel_frames(body: bytes) -> list[tuple[int, bytes]]:
    """Opcode and payload of each frame of a server."""
    found = []
    while body:
        size, start = body[1], 2
        if size == 126:
            size, start = int.from_bytes(body[2:4], "big"), 4
        found.append((body[0] & 0xF, body[start : start + size]))
        body = body[start + size :]
    return found


def test_a_shell_is_told_why_it_ends(scene: Scene) -> None:
    exchange = scene.add(100.0, upgrade=b"websocket", target=EXEC)
    exchange.subprotocol = b"v5.channel.k8s.io"
    scene.reasons[exchange] = "logged out: run mk8s login"
    scene.open.recheck_all()
    scene.second(1.0)
    scene.second(2.0)
    (_, told), (opcode, closing) = channel_frames(client_of(exchange).body)
    assert told[:1] == b"\x03"
    status = json.loads(told[1:])
    assert (status["kind"], status["status"]) == ("Status", "Failure")
    assert "logged out: run mk8s login" in status["message"]
    assert (opcode, closing[:2]) == (8, (1000).to_bytes(2, "big"))
    assert client_of(exchange).ended


def test_a_shell_that_answered_a_ping_meanwhile_is_told_all_the_same(scene: Scene) -> None:
    """kubectl pings every five seconds, and the pong is one more frame of the answer."""
    exchange = scene.add(100.0, upgrade=b"websocket", target=EXEC)
    exchange.subprotocol = b"v5.channel.k8s.io"
    scene.reasons[exchange] = "logged out"
    scene.open.recheck_all()
    scene.second(1.0)
    exchange.front.sent += 2
    scene.second(2.0)
    scene.second(3.0)
    (_, told), _close = channel_frames(client_of(exchange).body)
    assert b"logged out" in told


def test_a_port_forward_is_closed_with_the_reason(scene: Scene) -> None:
    exchange = scene.add(100.0, upgrade=b"websocket", target=EXEC)
    exchange.subprotocol = b"SPDY/3.1+portforward.k8s.io"
    scene.reasons[exchange] = "ä" * 100
    scene.open.recheck_all()
    scene.second(1.0)
    scene.second(2.0)
    [(opcode, closing)] = channel_frames(client_of(exchange).body)
    assert (opcode, closing[:2]) == (8, (1008).to_bytes(2, "big"))
    assert closing[2:].decode().startswith("mk8s ended this session: ä")
    assert len(closing) <= 125


@pytest.mark.parametrize("event", [b"", b'{"type":"ERROR"}\n'])
def test_a_watch_over_a_websocket_ends_with_its_event_and_a_close_frame(
    scene: Scene, event: bytes
) -> None:
    exchange = scene.add(100.0, upgrade=b"websocket")
    exchange.closing_event = event
    scene.reasons[exchange] = "expired"
    scene.second(101.0)
    scene.second(102.0)
    *events, (opcode, closing) = channel_frames(client_of(exchange).body)
    assert events == ([(1, event.rstrip())] if event else [])
    assert (opcode, closing[:2]) == (8, (1000).to_bytes(2, "big"))


def say(exchange: Exchange, piece: bytes) -> None:
    """The cluster answers something."""
    back = exchange.back
    assert back is not None
    assert back.peer is not None
    back.peer.connection.send_data(back.peer, piece, len(piece), False)


def test_a_shell_whose_message_never_ends_is_cut(scene: Scene) -> None:
    exchange = scene.add(100.0, upgrade=b"websocket", target=EXEC)
    scene.reasons[exchange] = "logged out"
    say(exchange, b"\x82\x7e\xff\xff")
    scene.open.recheck_all()
    for second in range(1, 5):
        say(exchange, b"more")
        scene.second(float(second))
    assert client_of(exchange).resets == [ErrorCode.INTERNAL_ERROR]
    assert b"logged out" not in client_of(exchange).body


OUTPUT = b"&stdout=true"


@pytest.mark.parametrize(
    ("asked", "protocol", "beginning"),
    [
        (OUTPUT + b"&tty=true", b"v5.channel.k8s.io", b"\x01\r\n"),
        (OUTPUT + b"&tty=1", b"v4.channel.k8s.io", b"\x01\r\n"),
        (OUTPUT + b"&stderr=true", b"v5.channel.k8s.io", b"\x02"),
        (OUTPUT + b"&stderr=true&tty=False", b"v5.channel.k8s.io", b"\x02"),
        (OUTPUT + b"&tty=true", b"channel.k8s.io", b""),
        (OUTPUT, b"v5.channel.k8s.io", b""),
        (b"&stderr=false&tty=true", b"v5.channel.k8s.io", b""),
    ],
)
def test_who_sees_a_command_is_warned_a_minute_before_the_login_ends(
    scene: Scene, asked: bytes, protocol: bytes, beginning: bytes
) -> None:
    exchange = scene.add(100.0, upgrade=b"websocket", target=EXEC + asked, ends=500.0)
    exchange.subprotocol = protocol
    for second in range(100, 500):
        scene.second(float(second))
        assert second >= 440 or not client_of(exchange).body
    told = [payload for _, payload in channel_frames(client_of(exchange).body)]
    assert len(told) == bool(beginning)
    assert all(it.startswith(beginning + b"mk8s: your login ends in 60 seconds") for it in told)
    assert not client_of(exchange).ended


@pytest.mark.parametrize(
    ("asked", "stream", "end"),
    [
        (b"&stdin=true&stdout=true&tty=true", 5, b"\r\n"),
        (b"&stdout=true&stderr=true", 5, b"login\n"),
        (b"&stdin=true&stdout=true&stderr=true", 7, b"login\n"),
    ],
)
def test_so_it_is_over_spdy(scene: Scene, asked: bytes, stream: int, end: bytes) -> None:
    exchange = scene.add(100.0, upgrade=b"SPDY/3.1", target=EXEC + asked, ends=500.0)
    for second in range(100, 500):
        scene.second(float(second))
    told = client_of(exchange).body
    assert told[:5] == stream.to_bytes(4, "big") + b"\0"
    assert int.from_bytes(told[5:8], "big") == len(told) - 8
    assert b"mk8s: your login ends in 60 seconds" in told
    assert told.endswith(end)


def test_a_warning_stands_between_two_messages(scene: Scene) -> None:
    target = EXEC + OUTPUT + b"&tty=true"
    exchange = scene.add(100.0, upgrade=b"websocket", target=target, ends=500.0)
    exchange.subprotocol = b"v5.channel.k8s.io"
    for second in range(100, 450):
        say(exchange, b"st\x82\x06\x01fir" if second > 100 else b"\x82\x06\x01fir")
        scene.second(float(second))
    told = [payload for _, payload in channel_frames(client_of(exchange).body + b"st")]
    [warned] = [it for it in told if it != b"\x01first"]
    assert b"your login ends" in warned


def test_a_command_that_is_ending_is_not_warned(scene: Scene) -> None:
    target = EXEC + OUTPUT + b"&tty=true"
    exchange = scene.add(100.0, upgrade=b"websocket", target=target, ends=500.0)
    exchange.subprotocol = b"v5.channel.k8s.io"
    say(exchange, b"\x82\x06\x01fir")
    scene.second(100.0)
    scene.reasons[exchange] = "disabled"
    scene.open.recheck_all()
    scene.unread.add(exchange)
    scene.second(440.0)
    say(exchange, b"st")
    assert b"your login ends" not in client_of(exchange).body
    assert client_of(exchange).ended


def test_before_an_answer_began_there_is_nothing_to_resume(scene: Scene) -> None:
    exchange = scene.add(100.0, passed=False)
    scene.reasons[exchange] = "expired"
    scene.open.recheck_all()
    assert client_of(exchange).resets == [ErrorCode.INTERNAL_ERROR]


def test_one_that_ended_by_itself_is_forgotten(scene: Scene) -> None:
    exchange = scene.add(100.0)
    scene.reasons[exchange] = "expired"
    scene.open.remove(exchange)
    scene.second(101.0)
    assert len(scene.open) == 0
    assert client_of(exchange).resets == []


def test_ended_ones_do_not_pile_up_until_their_time(scene: Scene) -> None:
    for _ in range(1000):
        scene.open.remove(scene.add(1e12))
    assert len(scene.open._expiries) <= 65


def test_a_drain_ends_the_watches_of_one_tunnel_and_no_upgraded_stream(scene: Scene) -> None:
    mine, other, shell = scene.add(), scene.add(), scene.add(upgrade=b"websocket")
    assert mine.back is not None
    assert shell.back is not None
    shell.back.connection = mine.back.connection
    scene.open.drain("the agent drains", mine.back.connection)
    scene.open.drain("the agent drains", mine.back.connection)  # once more changes nothing
    scene.second(1.0)
    scene.second(2.0)
    assert client_of(mine).ended
    assert not client_of(other).ended
    assert client_of(shell).resets == []


def test_a_drain_of_central_ends_all_watches(scene: Scene) -> None:
    exchanges = [scene.add(), scene.add()]
    exchanges[1].back = None
    scene.open.drain("central stops")
    scene.second(1.0)
    scene.second(2.0)
    assert all(client_of(exchange).ended for exchange in exchanges)


def test_an_exchange_shows_what_it_is(scene: Scene) -> None:
    assert repr(scene.add()) == "<Exchange b'' b'' cluster=''>"
