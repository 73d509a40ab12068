"""A tunnel whose agent is hostile: only its own stream suffers, or its own tunnel, nobody else.

In every test another stream of another cluster goes on, on the same client connection.
"""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from mk8s_agent.wire import control
from mk8s_agent.wire.control import Heartbeat, encode_message
from mk8s_proxy.tunnel.session import agent_error
from tests.support.front_door import PODS, Central, Http2Person, request
from tests.support.memory import (
    CANCEL,
    INTERNAL_ERROR,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    Frame,
    bodies,
    data,
    frame,
    goaway,
    goaway_code,
    head,
    headers,
    kinds,
    ping,
    rst_stream,
    window_update,
)

OK = [(b":status", b"200")]
STAGING = b"/k8s/staging" + PODS
EXEC = PODS + b"/web/exec?command=sh"


class Scene:
    """One client that asks two clusters; the agent of `prod` is the hostile one."""

    def __init__(self, folder: Path) -> None:
        self.central = Central(folder)
        self.hostile, self.sound = self.central.agent("prod"), self.central.agent("staging")
        self.person = self.central.http2()
        self.other = self.person.ask(STAGING)
        self.mine = self.person.ask()
        self.stream = self.hostile.request()[0]

    def code(self) -> int:
        return self.person.answer(self.mine).code

    def check_the_other(self) -> None:
        """The other cluster's answer still comes."""
        assert not self.person.connection.closed
        self.person.send(window_update(0, 1 << 20))
        number = self.sound.request()[0]
        self.sound.send(headers(number, OK), data(number, b"sound", end=True))
        answer = self.person.answer(self.other)
        assert (answer.code, answer.body, answer.ended) == (200, b"sound", True)
        assert self.central.budget.used == 0


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def fields(*more: tuple[bytes, bytes], status: bytes = b"200") -> bytes:
    return headers(3, [(b":status", status), *more])


NOT_RELAYED = {
    "a block that is no HPACK": head(3, b"\x80"),
    "a block cut inside an integer": head(3, b"\x88\x7f"),
    "a block that refers to an earlier one": head(3, b"\x88\xbe"),
    "no status": headers(3, [(b"x", b"y")]),
    "an empty head": head(3, b""),
    "a status of words": fields(status=b"abc"),
    "status 0": fields(status=b"000"),
    "a line end in a value": fields((b"x", b"a\r\nset-cookie: b")),
    "a bare line feed": fields((b"x", b"a\nb")),
    "an upper-case name": fields((b"X-Y", b"z")),
    "a colon in a name": fields((b"a:b", b"z")),
    "a second status": fields((b":status", b"200")),
    "a redirect": fields((b"location", b"https://evil.example.com/"), status=b"302"),
    "a redirect within the cluster": fields((b"location", b"/api/v1/x"), status=b"307"),
    "a protocol that nobody asked for": fields((b"mk8s-upgrade", b"websocket")),
    "an empty protocol": fields((b"mk8s-upgrade", b"")),
    "two lengths": fields((b"content-length", b"1"), (b"content-length", b"2")),
    "a length of words": fields((b"content-length", b"one")),
    "an end before its body": headers(3, [*OK, (b"content-length", b"5")], end=True),
}


@pytest.mark.parametrize("wire", NOT_RELAYED.values(), ids=list(NOT_RELAYED))
def test_a_head_that_is_not_relayed(scene: Scene, wire: bytes) -> None:
    seen = scene.hostile.send(wire)
    ended_already = wire[4] & 1
    assert ended_already or Frame("RST_STREAM", 3, CANCEL) in seen
    answer = scene.person.answer(scene.mine)
    assert answer.code == 502
    assert answer.ended
    assert "cannot be relayed" in answer.status["message"]
    assert not scene.hostile.session.closed
    scene.check_the_other()


HUGE = b"\x88" + b"".join(b"\x00\x01x\x7f\x81\x7c" + bytes(16_000) for _ in range(38))
"""600 KiB, as a pod behind a proxy subresource can have them."""


@pytest.mark.parametrize("pieces", [10, 38, 200])
def test_attack_a_pod_s_huge_head_ends_its_own_stream_only(scene: Scene, pieces: int) -> None:
    seen = scene.hostile.send(head(3, HUGE, pieces=pieces))
    assert Frame("RST_STREAM", 3, CANCEL) in seen
    assert not scene.hostile.session.closed
    answer = scene.person.answer(scene.mine)
    assert (answer.code, answer.ended) == (502, True)
    assert "its head is too large" in answer.status["message"]
    scene.hostile.send(head(3, HUGE, pieces=pieces))  # nobody's any more
    assert not scene.hostile.session.closed
    scene.check_the_other()


def test_attack_huge_trailers_end_their_own_stream_only(scene: Scene) -> None:
    scene.hostile.send(headers(3, OK), data(3, b"x"), head(3, HUGE, pieces=20, end=True))
    answer = scene.person.answer(scene.mine)
    assert (answer.code, answer.ended, answer.reset) == (200, False, INTERNAL_ERROR)
    assert not scene.hostile.session.closed
    scene.check_the_other()


def test_attack_a_head_of_very_many_fields_ends_its_own_stream_only(scene: Scene) -> None:
    scene.hostile.send(head(3, b"\x88" + b"\x95" * 30_000))  # "age", one byte each
    assert scene.code() == 502
    assert not scene.hostile.session.closed
    scene.check_the_other()


def test_attack_informational_heads_without_end_cost_their_own_stream_only(scene: Scene) -> None:
    hint = headers(3, [(b":status", b"103"), (b"link", b"</x>")])
    scene.hostile.send(hint * 32)
    assert scene.code() == 0
    seen = scene.hostile.send(hint * 10_000)
    assert seen.count(Frame("RST_STREAM", 3, CANCEL)) == 1
    assert "too many heads" in scene.person.answer(scene.mine).status["message"]
    assert not scene.hostile.session.closed
    scene.check_the_other()


def test_attack_a_huge_head_of_the_control_stream_ends_the_tunnel(tmp_path: Path) -> None:
    agent = Central(tmp_path).agent()
    assert goaway_code(agent.send(head(1, HUGE, pieces=20))) == PROTOCOL_ERROR


BREAKS_THE_STREAM = {
    "DATA before HEADERS": data(3, b"x"),
    "an end before HEADERS": data(3, b"", end=True),
    "an informational head with an end": headers(3, [(b":status", b"103")], end=True),
    "a reset before an answer": rst_stream(3, INTERNAL_ERROR),
    "a window that overflows": window_update(3, (1 << 31) - 1),
}


@pytest.mark.parametrize("wire", BREAKS_THE_STREAM.values(), ids=list(BREAKS_THE_STREAM))
def test_a_stream_that_breaks_before_its_answer(scene: Scene, wire: bytes) -> None:
    scene.hostile.send(wire)
    answer = scene.person.answer(scene.mine)
    assert (answer.code, answer.ended) == (502, True)
    assert b"retry-after" not in answer.fields  # it may have been processed
    assert not scene.hostile.session.closed
    scene.check_the_other()


BREAKS_LATER = {
    "a second head": fields(),
    "more than it promised": data(3, b"12345678901"),
    "less than it promised": data(3, b"123", end=True),
    "trailers before the end of the body": headers(3, [(b"x", b"y")], end=True),
    "a reset": rst_stream(3, REFUSED_STREAM),
}


@pytest.mark.parametrize("wire", BREAKS_LATER.values(), ids=list(BREAKS_LATER))
def test_an_answer_that_was_cut_short_never_looks_complete(scene: Scene, wire: bytes) -> None:
    scene.hostile.send(fields((b"content-length", b"10")), data(3, b"12345"), wire)
    answer = scene.person.answer(scene.mine)
    assert (answer.code, answer.ended, answer.reset) == (200, False, INTERNAL_ERROR)
    assert len(answer.body) <= 10
    scene.check_the_other()
    assert scene.hostile.session.streams.keys() == {1}


ENDS_THE_TUNNEL = {
    "an answer on a stream that was never opened": (headers(99, OK), PROTOCOL_ERROR),
    "an answer on a stream of its own": (headers(2, OK), PROTOCOL_ERROR),
    "DATA on an idle stream": (data(99, b"x"), PROTOCOL_ERROR),
    "DATA on stream 0": (data(0, b"x"), PROTOCOL_ERROR),
    "a push promise": (frame(5, 4, 3, b"\0\0\0\x04\x88"), PROTOCOL_ERROR),
    "a frame over the limit": (frame(0, 0, 3, bytes(70_000)), 6),
    "more than its window": (fields() + data(3, bytes(60_000)) * 600, 3),
    "an end of the control stream": (data(1, b"", end=True), 0),
    "trailers of the control stream": (headers(1, [(b"x", b"y")], end=True), 0),
    "a reset of the control stream": (rst_stream(1), PROTOCOL_ERROR),
    "a control message that is none": (data(1, b"\0\0\0\x02{]"), PROTOCOL_ERROR),
    "a control message without end": (data(1, b"\xff\xff\xff\xff"), PROTOCOL_ERROR),
}


@pytest.mark.parametrize(("wire", "code"), ENDS_THE_TUNNEL.values(), ids=list(ENDS_THE_TUNNEL))
def test_a_broken_rule_ends_the_tunnel_and_nothing_else(
    scene: Scene, wire: bytes, code: int
) -> None:
    seen = scene.hostile.send(wire)
    assert goaway_code(seen) == code
    assert scene.central.closed == [scene.hostile.session]
    assert scene.central.registry.pick("prod") is None
    answer = scene.person.answer(scene.mine)
    assert answer.code in (200, 502)
    assert answer.ended is (answer.code == 502)
    scene.check_the_other()


def test_a_control_stream_that_ends_with_its_head(tmp_path: Path) -> None:
    central = Central(tmp_path)
    agent = central.agent()
    agent.session.control.stream.head_passed = False
    assert goaway_code(agent.send(headers(1, OK, end=True))) == 0


@pytest.mark.parametrize(
    "name",
    [b"set-cookie", b"alt-svc", b"strict-transport-security", b"transfer-encoding", b"connection",
     b"mk8s-identity", b"mk8s-audit-id"],
)  # fmt: skip
def test_fields_for_central_s_own_origin_are_dropped(scene: Scene, name: bytes) -> None:
    scene.hostile.send(fields((name, b"x"), (b"etag", b"1")), data(3, b"y", end=True))
    answer = scene.person.answer(scene.mine)
    assert answer.fields == {b"etag": b"1"}
    scene.check_the_other()


def test_informational_heads_are_not_for_the_client(scene: Scene) -> None:
    scene.hostile.send(headers(3, [(b":status", b"103"), (b"link", b"</x>")]))
    assert scene.code() == 0
    scene.hostile.send(headers(3, OK, end=True))
    assert scene.code() == 200
    scene.check_the_other()


def test_a_proxied_answer_cannot_act_as_a_page_of_central(tmp_path: Path) -> None:
    central = Central(tmp_path)
    agent, person = central.agent(), central.http2()
    number = person.ask(b"/k8s/prod/api/v1/namespaces/shop/services/web/proxy/x")
    location = b"/api/v1/namespaces/shop/services/web/proxy/x/"
    agent.send(headers(3, [(b":status", b"301"), (b"location", location)], end=True))
    answer = person.answer(number)
    assert answer.code == 301
    assert answer.fields[b"location"] == b"/k8s/prod" + location
    assert answer.fields[b"content-security-policy"] == b"sandbox"


# -- errors of the agent itself


@pytest.mark.parametrize(
    ("status", "code", "retry"), [(b"503", 503, b"1"), (b"502", 502, None), (b"200", 502, None)]
)
def test_an_error_of_the_agent(scene: Scene, status: bytes, code: int, retry: bytes | None) -> None:
    line = b"the API server cannot be reached"
    scene.hostile.send(headers(3, [(b":status", status), (b"mk8s-error", line)], end=True))
    answer = scene.person.answer(scene.mine)
    assert (answer.code, answer.fields.get(b"retry-after")) == (code, retry)
    assert line.decode() in answer.status["message"]
    scene.check_the_other()


def test_an_error_text_is_shown_harmless() -> None:
    error = agent_error(502, b"\x1b[31m\xff" + b"x" * 2000)
    assert error.message.isprintable()
    assert len(error.message) <= 600


# -- upgrades over a tunnel


@pytest.mark.parametrize(
    "answer",
    [
        [(b":status", b"200"), (b"mk8s-upgrade", b"websocket")],
        [(b":status", b"302"), (b"location", b"/api/v1/x")],
        [(b":status", b"304")],
    ],
)
def test_cve_2018_1002105_and_cve_2020_8559_no_splice_without_the_switch(
    tmp_path: Path, answer: list[tuple[bytes, bytes]]
) -> None:
    central = Central(tmp_path)
    agent, person = central.agent(), central.http1()
    lines = (b"Connection: Upgrade", b"Upgrade: SPDY/3.1")
    person.send(request(b"/k8s/prod" + EXEC, *lines, method=b"POST"))
    agent.send(headers(3, answer))
    seen = person.send(request(b"/k8s/prod/api/v1/secrets", token=b"second"))
    assert seen.startswith(b"HTTP/1.1 502 ")
    assert b"101" not in seen
    later = agent.requests()
    assert b"second" not in b"".join(bodies(later).values())
    assert not any(frame.kind == "HEADERS" and frame.stream > 3 for frame in later)


def test_an_upgrade_that_is_answered_as_a_plain_request(tmp_path: Path) -> None:
    """The client gets the answer, and what it sends behind its request is nobody's."""
    central = Central(tmp_path)
    agent, person = central.agent(), central.http1()
    lines = (b"Connection: Upgrade", b"Upgrade: SPDY/3.1")
    person.send(request(b"/k8s/prod" + EXEC, *lines, method=b"POST"))
    person.send(request(b"/k8s/prod/api/v1/secrets", token=b"second"))
    agent.send(headers(3, OK), data(3, b"plain", end=True))
    seen = person.read()
    assert seen.startswith(b"HTTP/1.1 200 ")
    assert b"plain" in seen
    assert b"upgrade" not in seen.lower()
    assert person.transport.closed
    later = agent.requests()
    assert b"second" not in b"".join(bodies(later).values())
    assert not any(frame.kind == "HEADERS" and frame.stream > 3 for frame in later)


# -- life


def test_a_tunnel_that_is_lost_answers_for_its_requests(scene: Scene) -> None:
    late = scene.person.ask(end=False, method=b"POST")
    scene.hostile.session.connection_lost()
    assert scene.code() == 502
    assert scene.person.answer(late).code == 502
    assert scene.central.closed == [scene.hostile.session]
    scene.check_the_other()
    assert "CLOSED" in repr(scene.hostile.session)


def test_a_draining_tunnel_keeps_its_requests_and_takes_no_new_ones(scene: Scene) -> None:
    session = scene.hostile.session
    scene.hostile.send(goaway((1 << 31) - 1))
    assert scene.central.drained == [session]
    assert scene.person.get().code == 503
    assert not scene.hostile.transport.closed
    scene.hostile.send(headers(3, OK, end=True))
    assert scene.code() == 200
    assert scene.hostile.transport.closed
    scene.check_the_other()
    assert "DRAINING" in repr(session)


def test_a_tunnel_that_drains_in_two_steps_loses_nothing(scene: Scene) -> None:
    scene.hostile.send(goaway((1 << 31) - 1), ping(b"leaving?"))
    assert Frame("PING ACK", 0, b"leaving?") in scene.hostile.unseen
    scene.hostile.send(goaway(3))
    assert scene.central.drained == [scene.hostile.session]  # once
    scene.hostile.send(headers(3, OK, end=True))
    assert scene.code() == 200
    assert scene.hostile.transport.closed
    scene.check_the_other()


def test_what_the_agent_refused_may_be_sent_again(scene: Scene) -> None:
    scene.hostile.send(goaway(1))
    answer = scene.person.answer(scene.mine)
    assert (answer.code, answer.fields[b"retry-after"]) == (503, b"1")
    scene.check_the_other()


def test_a_silent_agent_is_given_up(scene: Scene) -> None:
    scene.hostile.session.second(1.0)
    scene.hostile.session.second(10.0)
    assert "PING" in kinds(scene.hostile.peer.read())
    scene.hostile.session.second(16.0)
    assert scene.hostile.transport.aborted
    assert scene.code() == 502
    scene.check_the_other()


def test_control_messages_go_both_ways(scene: Scene) -> None:
    seen: list[object] = []
    scene.hostile.session.control.on_message = seen.append
    beat = Heartbeat(1_800_000_000.0, 3)
    scene.hostile.send(data(1, encode_message(beat)[:5]), data(1, encode_message(beat)[5:]))
    assert seen == [beat]
    scene.hostile.session.control.send(control.Drain())
    scene.hostile.session.control.grant(scene.hostile.session.control.stream, 1)
    assert bodies(scene.hostile.peer.read()) == {1: encode_message(control.Drain())}
    scene.check_the_other()


def test_messages_before_anybody_listens_are_dropped(scene: Scene) -> None:
    scene.hostile.session.control.on_message = None
    scene.hostile.send(data(1, encode_message(Heartbeat(1.0, 1))))
    scene.check_the_other()


def test_a_slow_client_slows_the_tunnel_s_stream_only(scene: Scene) -> None:
    """Window is given back to the agent only for what the client took."""
    scene.hostile.send(fields())
    for _ in range(4):
        scene.hostile.send(*[data(3, bytes(16_000))] * 4)
    session = scene.hostile.session
    left = session.streams[3].receive_window
    assert scene.central.budget.used == 256_000 - 65_535
    assert left < 256 * 1024 - 128_000
    seen = scene.hostile.peer.read()
    assert not any(frame.kind == "WINDOW_UPDATE" and frame.stream == 3 for frame in seen)
    scene.person.send(window_update(0, 1 << 20))
    assert session.streams[3].receive_window > left
    scene.hostile.send(data(3, b"", end=True))
    assert len(scene.person.answer(scene.mine).body) == 256_000
    scene.check_the_other()


hostile_frames = st.builds(
    frame,
    st.integers(0, 10),
    st.integers(0, 255),
    st.sampled_from([0, 1, 2, 3, 5, 7]),
    st.one_of(st.binary(max_size=40), st.sampled_from([b"\x88", b"\x88\x00\x01x\x01y"])),
)


@examples(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(wire=st.lists(hostile_frames, max_size=12))
def test_any_frames_of_an_agent_cost_nobody_else_anything(
    tmp_path_factory: pytest.TempPathFactory, wire: list[bytes]
) -> None:
    scene = Scene(tmp_path_factory.mktemp("hostile"))
    for one in wire:
        scene.hostile.send(one)
    person: Http2Person = scene.person
    person.read()
    scene.check_the_other()
    assert all(answer.heads <= 1 for answer in person.answers.values())
    scene.central.journal.close()
