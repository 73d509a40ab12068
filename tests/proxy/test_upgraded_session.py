"""Upgraded sessions end in words, between two messages, however busy they are."""

import json
import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from mk8s_agent.wire.limits import HIGH_WATER
from mk8s_agent.wire.stream import Stream
from mk8s_proxy.answers.upgraded_session import UpgradedSession
from tests.support.front_door import PODS, Agent, Central, Http1Person, policy, request
from tests.support.memory import CANCEL, data, headers, kinds, rst_stream

PATH = b"/k8s/prod" + PODS + b"/web/"
UPGRADE = (b"Connection: Upgrade", b"Upgrade: SPDY/3.1", b"Content-Length: 0")
NOTHING = policy({"roles": [], "users": []})
GOAWAY = struct.pack(">HHIII", 0x8003, 7, 8, 0, 0)


def frame(number: int, payload: bytes, flags: int = 0) -> bytes:
    """A DATA frame."""
    return struct.pack(">II", number, flags << 24 | len(payload)) + payload


OUTPUT = frame(5, b"some output\n")


class Session:
    """An exec under way."""

    def __init__(
        self, central: Central, what: bytes = b"exec?command=sh", protocol: bytes = b"v4"
    ) -> None:
        self.central = central
        self.agent: Agent = central.agent()
        self.person: Http1Person = central.http1()
        self.person.send(request(PATH + what, *UPGRADE, method=b"POST"))
        self.stream, _ = self.agent.request()
        self.protocol = protocol + b".channel.k8s.io"

    def switch(self) -> "Session":
        head = [(b":status", b"200"), (b"mk8s-upgrade", b"SPDY/3.1")]
        named = (b"x-stream-protocol-version", self.protocol)
        self.agent.send(headers(self.stream, [*head, named]))
        assert self.person.read().startswith(b"HTTP/1.1 101 ")
        return self

    def say(self, piece: bytes) -> bytes:
        self.agent.send(data(self.stream, piece))
        return self.person.read()

    def forbid(self) -> bytes:
        """The role is taken away."""
        self.central.policies.current = NOTHING
        self.central.chain.long_running.recheck_all()
        return self.person.read()

    def seconds(self, number: int) -> None:
        for second in range(number):
            self.central.chain.long_running.second(float(second))


@pytest.fixture
def central(tmp_path: Path) -> Central:
    return Central(tmp_path)


def frames(body: bytes) -> list[tuple[int, int, bytes]]:
    """Stream, flags and payload of each DATA frame before GOAWAY."""
    found = []
    while body != GOAWAY:
        number, size = struct.unpack_from(">II", body)
        flags, size = size >> 24, size & 0xFFFFFF
        found.append((number, flags, body[8 : 8 + size]))
        body = body[8 + size :]
    return found


def told(body: bytes) -> str:
    """What the last words say on the error stream."""
    first, *others = frames(body)
    assert first[:2] == (1, 1)
    assert others == [(number, 1, b"") for number in (3, 5, 7, 9)]
    return first[2].decode()


@pytest.mark.parametrize("what", [b"exec?command=sh", b"attach?stdout=true"])
@pytest.mark.parametrize("protocol", [b"v4", b"v5"])
def test_the_reason_is_a_status_on_the_error_stream(
    central: Central, what: bytes, protocol: bytes
) -> None:
    session = Session(central, what, protocol).switch()
    assert session.say(OUTPUT) == OUTPUT
    status = json.loads(told(session.forbid()))
    assert (status["kind"], status["status"], status["reason"]) == (
        "Status",
        "Failure",
        "Forbidden",
    )
    assert status["message"].startswith("mk8s ended this session: no longer allowed: ")
    assert session.person.transport.closed
    assert kinds(session.agent.requests()) == ["RST_STREAM"]
    [_, row] = central.rows()
    assert row["annotations"]["mk8s.io/refusal"] == "ENDED"
    assert len(central.chain.long_running) == 0


def test_older_protocols_get_a_sentence(central: Central) -> None:
    session = Session(central, protocol=b"v3").switch()
    assert told(session.forbid()).startswith("mk8s ended this session: ")


def test_a_frame_under_way_is_ended_first(central: Central) -> None:
    session = Session(central).switch()
    session.say(OUTPUT[:10])
    assert session.forbid() == b""
    rest = session.say(OUTPUT[10:] + OUTPUT)
    assert rest.startswith(OUTPUT[10:])
    assert "mk8s ended this session" in told(rest[len(OUTPUT) - 10 :])
    assert session.person.transport.closed


def test_a_session_that_never_rests_ends_too(central: Central) -> None:
    session = Session(central).switch()
    session.say(OUTPUT * 100 + OUTPUT[:3])
    session.forbid()
    rest = session.say(OUTPUT[3:] + OUTPUT * 100)
    assert "mk8s ended this session" in told(rest[len(OUTPUT) - 3 :])


def test_a_frame_that_does_not_end_is_not_waited_for(central: Central) -> None:
    session = Session(central).switch()
    session.say(OUTPUT[:10])
    session.forbid()
    session.seconds(4)
    assert session.person.transport.aborted


def test_a_client_that_does_not_read_is_not_waited_for(central: Central) -> None:
    session = Session(central).switch()
    session.person.transport.full = True
    session.say(OUTPUT)
    session.forbid()
    assert not session.person.transport.gone
    session.seconds(4)
    assert session.person.transport.aborted


def test_before_the_switch_there_are_no_words(central: Central) -> None:
    session = Session(central)
    assert b"HTTP/1.1 502 " in session.forbid()


def test_a_plain_answer_is_no_session(central: Central) -> None:
    session = Session(central)
    session.agent.send(headers(session.stream, [(b":status", b"400"), (b"content-length", b"9")]))
    session.say(b"too")
    assert session.person.transport.written == b""
    session.forbid()
    assert session.person.transport.aborted


def test_port_forward_is_broken_off(central: Central) -> None:
    session = Session(central, b"portforward").switch()
    assert session.forbid() == b""
    assert session.person.transport.aborted


def test_a_cluster_that_breaks_off(central: Central) -> None:
    session = Session(central).switch()
    session.agent.send(rst_stream(session.stream, CANCEL))
    session.person.read()
    assert session.person.transport.aborted
    assert len(central.chain.long_running) == 0


def test_a_cluster_that_ends(central: Central) -> None:
    session = Session(central).switch()
    session.agent.send(data(session.stream, OUTPUT, end=True))
    assert session.person.read() == OUTPUT
    assert session.person.transport.closed


def test_a_client_that_leaves(central: Central) -> None:
    session = Session(central).switch()
    session.person.connection.connection_lost()
    central.ticks.turn()
    assert kinds(session.agent.requests()) == ["RST_STREAM"]
    session.seconds(2)


def test_a_client_that_leaves_at_once(central: Central) -> None:
    person, agent = central.http1(), central.agent()
    person.connection.receive(request(PATH + b"exec?command=sh", *UPGRADE, method=b"POST"))
    person.connection.connection_lost()
    central.ticks.turn()
    assert agent.requests() == []


def test_attack_a_client_that_sends_much_is_slowed_as_ever(central: Central) -> None:
    session = Session(central).switch()
    piece: Any = frame(3, bytes(60_000))
    for _ in range(2 * (256 << 10) // len(piece) + 2 * HIGH_WATER // len(piece)):
        session.person.send(piece)
    assert not session.person.transport.reading


def message(payload: bytes, opcode: int = 0x82) -> bytes:
    """A frame of a server."""
    if len(payload) < 126:
        return bytes((opcode, len(payload))) + payload
    return bytes((opcode, 126)) + len(payload).to_bytes(2, "big") + payload


class WebSocket(Session):
    """The same, as newer kubectls speak it."""

    def __init__(self, central: Central) -> None:
        self.central = central
        self.agent = central.agent()
        self.person = central.http1()
        lines = (
            b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13",
            b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
            b"Sec-WebSocket-Protocol: v5.channel.k8s.io",
        )  # fmt: skip
        self.person.send(request(PATH + b"exec?command=yes&stdout=true&stderr=true", *lines))
        self.stream, _ = self.agent.request()

    def switch(self) -> "WebSocket":
        head = [(b":status", b"200"), (b"mk8s-upgrade", b"websocket")]
        more = [(b"sec-websocket-protocol", b"v5.channel.k8s.io"),
                (b"sec-websocket-accept", b"ICX+Yqv66kxgM0FcWaLWlFLwTAI=")]  # fmt: skip
        self.agent.send(headers(self.stream, [*head, *more]))
        assert self.person.read().startswith(b"HTTP/1.1 101 ")
        return self


YES = message(b"\x01" + b"y\n" * 4000)


@pytest.mark.parametrize(
    ("before", "rest"),
    [(YES[:1], YES[1:]), (YES[:3], YES[3:]), (YES[:-1], YES[-1:]), (YES, b""),
     (message(b"\x01be", 0x02) + message(b"", 0x89), message(b"gun", 0x80))],
    ids=["in an opcode", "in a length", "in a payload", "between", "in a fragmented message"],
)  # fmt: skip
def test_a_websocket_that_talks_without_pause_is_told_between_two_messages(
    central: Central, before: bytes, rest: bytes
) -> None:
    """`kubectl exec -- yes`, when its user logs out."""
    session = WebSocket(central).switch()
    session.say(YES * 3 + before)
    said = session.forbid()
    if rest:
        assert said == b""
        said = session.say(rest + YES * 3)
        assert said.startswith(rest)
    told, closed = said[len(rest) :].split(b"\x88")
    assert told[4:5] == b"\x03"
    assert "mk8s ended this session" in json.loads(told[5:])["message"]
    assert b"mk8s ended" in closed
    assert session.person.transport.closed


@given(st.lists(st.binary(max_size=20), max_size=8), st.lists(st.integers(1, 30), min_size=1))
@examples(max_examples=60, deadline=None)
def test_every_byte_passes_as_it_came(
    tmp_path_factory: pytest.TempPathFactory, payloads: list[bytes], sizes: list[int]
) -> None:
    central = Central(tmp_path_factory.mktemp("central"))
    session = Session(central).switch()
    wire = b"".join(frame(5, payload) for payload in payloads)
    seen, start, number = b"", 0, 0
    while start < len(wire):
        size = sizes[number % len(sizes)]
        seen += session.say(wire[start : start + size])
        start, number = start + size, number + 1
    assert seen == wire
    assert "mk8s ended" in told(session.forbid())
    central.journal.close()


class Leg:
    """The client's connection, which notes what it is asked for."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def send_data(self, *_: object) -> None:
        self.calls.append("data")

    def reset(self, *_: object) -> None:
        self.calls.append("reset")


def parted() -> tuple[UpgradedSession, Leg]:
    """A session whose two sides know nothing of each other any more."""
    leg = Leg()
    front: Any = Stream(leg, 1, 0, 0)  # type: ignore[arg-type]
    head = SimpleNamespace(upgrade=b"SPDY/3.1")
    return UpgradedSession(SimpleNamespace(front=front, head=head)), leg  # type: ignore[arg-type]


def test_words_are_sent_where_the_cluster_has_gone_already() -> None:
    session, leg = parted()
    session.end_with(b"words")
    assert leg.calls == ["data"]


def test_a_reset_behind_the_end_changes_nothing() -> None:
    session, leg = parted()
    session.reset(Stream(leg, 3, 0, 0), CANCEL)  # type: ignore[arg-type]
    assert leg.calls == []
