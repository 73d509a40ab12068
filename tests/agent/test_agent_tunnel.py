"""The agent's end of a tunnel: requests, refusals, and errors of its own in words."""

import pytest

from mk8s_agent.tunnel.session import error_head
from mk8s_agent.wire.hpack_codec import Decoder, block
from mk8s_agent.wire.http2.frames import ErrorCode
from tests.support.agent_side import HEAD, WHO, AgentSide
from tests.support.memory import (
    CANCEL,
    INTERNAL_ERROR,
    NO_ERROR,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    Fields,
    Frame,
    bodies,
    data,
    ended,
    goaway_code,
    headers,
    kinds,
    rst_stream,
)
from tests.support.memory import head as frame_of_head

OK = [(b":status", b"200"), (b"content-type", b"application/json")]


def told(frames: list[Frame], number: int = 3) -> tuple[int, str]:
    """Status and words of the agent's own error."""
    [seen] = [frame for frame in frames if frame.stream == number and frame.kind == "HEADERS"]
    fields = dict(seen.value)
    assert seen.end
    return int(fields[b":status"]), fields[b"mk8s-error"].decode()


async def served() -> AgentSide:
    """An agent whose API server is connected."""
    side = AgentSide().open()
    await side.ask(3)
    side.dialled[0].greet()
    [(number, _)] = side.dialled[0].requests() or [(1, {})]
    side.dialled[0].send(headers(number, OK, end=True))
    side.central.read()
    return side


async def test_the_first_stream_is_the_control_stream() -> None:
    side = AgentSide()
    side.central.greet()
    assert goaway_code(side.central.send(headers(1, HEAD, end=True))) == PROTOCOL_ERROR
    assert side.closed == ["the first stream is not the control stream"]


async def test_a_request_is_made_as_the_user() -> None:
    side = AgentSide().open()
    assert len(side.controls) == 1
    assert side.tunnel.requests == 0
    await side.ask(3, (b"accept", b"*/*"), (b"mk8s-audit-id", b"id-1"))
    assert side.tunnel.requests == 1
    api = side.dialled[0]
    seen = api.greet()
    [head] = [dict(frame.value) for frame in seen if frame.kind == "HEADERS"]
    assert head == {
        b":method": b"GET",
        b":scheme": b"https",
        b":authority": b"192.0.2.1:6443",
        b":path": b"/api/v1/pods",
        b"accept": b"*/*",
        b"impersonate-user": b"dev@example.com",
        b"impersonate-uid": b"u",
        b"impersonate-group": b"system:authenticated",
        b"audit-id": b"id-1",
        b"authorization": b"Bearer agent",
    }
    api.send(headers(1, OK), data(1, b"{}", end=True))
    assert [f for f in side.central.read() if f.stream == 3] == [
        Frame("HEADERS", 3, OK),
        Frame("DATA", 3, b"{}", end=True),
    ]
    assert side.tunnel.requests == 0


def composed(*, method: bytes = b"\x82") -> bytes:
    """A head as central composes it: what repeats comes last."""
    audit_id = b"0199f0a1-7c3e-7abc-8def-000000000001"
    first = [(b":path", b"/api/v1/pods"), (b"mk8s-audit-id", audit_id)]
    return method + b"\x87" + block([*first, (b"mk8s-identity", WHO), (b"accept", b"*/*")])


async def test_the_second_head_of_a_kind_means_the_same_as_the_first() -> None:
    side = await served()
    for number in (5, 7):
        side.central.send(frame_of_head(number, composed(), end=True))
    (one, first), (two, second) = side.dialled[0].requests()
    assert (one, two) == (3, 5)
    assert first == second
    assert second[b"impersonate-user"] == b"dev@example.com"
    assert second[b"authorization"] == b"Bearer agent"


async def test_a_head_that_is_known_opens_no_stream_where_none_may_be_opened() -> None:
    side = await served()
    side.central.send(frame_of_head(5, composed(method=b"\x83")))
    side.dialled[0].requests()
    refused = side.central.send(frame_of_head(5, composed(), end=True))  # as its own trailers
    assert refused[-1] == Frame("RST_STREAM", 5, PROTOCOL_ERROR)
    assert side.dialled[0].peer.read() == [Frame("RST_STREAM", 3, PROTOCOL_ERROR)]
    side.tunnel.drain()
    refused = side.central.send(frame_of_head(7, composed(), end=True))
    assert refused[-1] == Frame("RST_STREAM", 7, REFUSED_STREAM)
    assert side.dialled[0].requests() == []


async def test_a_head_that_is_known_does_not_stand_in_for_the_control_stream() -> None:
    side = AgentSide()
    for _ in range(2):
        side.apiserver.reader.read(Decoder(0, 8192).decode(composed()), True)
    side.central.greet()
    assert goaway_code(side.central.send(frame_of_head(1, composed(), end=True))) == PROTOCOL_ERROR


async def test_a_refused_request_never_leaves() -> None:
    side = await served()
    seen = await side.ask(5, (b"impersonate-group", b"system:masters"))
    code, words = told(seen, 5)
    assert code == 502
    assert "refused" in words
    assert side.dialled[0].requests() == []


async def test_401_of_the_api_server_is_the_agent_s_own_trouble() -> None:
    """kubectl would run its login again for nothing."""
    side = await served()
    await side.ask(5)
    [(number, _)] = side.dialled[0].requests()
    side.dialled[0].send(headers(number, [(b":status", b"401")]), data(number, b"no", end=True))
    code, words = told(side.central.read(), 5)
    assert (code, "token" in words) == (502, True)
    assert side.credentials.rejections == 1
    assert side.dialled[0].connection.streams == {}


@pytest.mark.parametrize(
    "spelling", [b"\x08\x03401", b"\x48\x03401", b"\x18\x82\x68\x01", b"\x20\x08\x03401"]
)
async def test_401_in_every_spelling(spelling: bytes) -> None:
    """Go writes statuses Huffman coded, nginx as they are."""
    assert Decoder(0, 8192).decode(spelling) == [(b":status", b"401")]
    side = await served()
    await side.ask(5)
    side.dialled[0].send(frame_of_head(3, spelling, end=True))
    assert told(side.central.read(), 5)[0] == 502
    assert side.credentials.rejections == 1


async def test_401_for_a_client_that_has_gone() -> None:
    side = await served()
    await side.ask(5)
    stream = side.tunnel.streams[5]
    stream.peer = None
    side.tunnel.relay_head(stream, b"", True, [(b":status", b"401")])
    assert told(side.central.read(), 5)[0] == 502


@pytest.mark.parametrize(
    ("status", "spelling"),
    [(b"200", b"\x88"), (b"404", b"\x8d"), (b"201", b"\x08\x82\x10\x03"), (b"403", b"\x48\x03403")],
)
async def test_an_ordinary_answer_is_relayed_byte_for_byte(status: bytes, spelling: bytes) -> None:
    side = await served()
    await side.ask(5)
    answer = spelling + block([(b"content-type", b"application/json")])
    side.dialled[0].send(frame_of_head(3, answer))
    assert answer in side.transport.written
    side.dialled[0].send(data(3, b"{}"), frame_of_head(3, b"\x00\x01x\x01y", end=True))
    seen = [frame for frame in side.central.read() if frame.stream == 5]
    assert seen[0].value == [(b":status", status), (b"content-type", b"application/json")]
    assert (bodies(seen), ended(seen)) == ({5: b"{}"}, {5})


@pytest.mark.parametrize(
    ("wire", "code"),
    [
        (rst_stream(3, INTERNAL_ERROR), 502),
        (data(3, b"before the head"), 502),
    ],
)
async def test_an_api_server_that_breaks_off_before_the_head(wire: bytes, code: int) -> None:
    """It may have acted on the request: that is not sent again."""
    side = await served()
    await side.ask(5)
    assert side.dialled[0].requests()[0][0] == 3
    side.dialled[0].send(wire)
    assert told(side.central.read(), 5)[0] == code


async def test_an_api_server_that_is_lost_before_the_head() -> None:
    side = await served()
    await side.ask(5, end=False)
    side.dialled[0].connection.connection_lost()
    assert told(side.central.read(), 5)[0] == 502


async def test_an_api_server_that_is_lost_after_the_head_never_looks_complete() -> None:
    side = await served()
    await side.ask(5)
    side.dialled[0].send(headers(3, OK), data(3, b"half"))
    side.dialled[0].connection.connection_lost()
    seen = side.central.read()
    assert bodies(seen) == {5: b"half"}
    assert ended(seen) == set()
    assert seen[-1] == Frame("RST_STREAM", 5, INTERNAL_ERROR)
    assert side.tunnel.requests == 0


async def test_central_cancels() -> None:
    side = await served()
    await side.ask(5)
    side.dialled[0].requests()
    side.central.send(rst_stream(5, CANCEL))
    assert Frame("RST_STREAM", 3, CANCEL) in side.dialled[0].peer.read()
    side.tunnel.reset(side.controls[0].stream, NO_ERROR)


async def test_a_lost_tunnel_cancels_what_it_carried() -> None:
    side = await served()
    await side.ask(5)
    await side.ask(7)
    side.dialled[0].requests()
    side.tunnel.connection_lost()
    assert kinds(side.dialled[0].peer.read()) == ["RST_STREAM", "RST_STREAM"]
    assert side.closed == ["central closed the connection"]
    assert side.dialled[0].connection.streams == {}


async def test_a_body_of_another_length_than_central_said() -> None:
    """More would be a request of its own where the next hop is HTTP/1.1."""
    side = await served()
    post: Fields = [(b":method", b"POST"), *HEAD[1:], (b"mk8s-content-length", b"5")]
    side.central.send(headers(5, post))
    side.dialled[0].requests()
    seen = side.central.send(data(5, b"hello GET /secrets HTTP/1.1"))
    assert seen == [Frame("RST_STREAM", 5, PROTOCOL_ERROR)]
    assert side.dialled[0].peer.read() == [Frame("RST_STREAM", 3, PROTOCOL_ERROR)]


async def test_the_distance_is_measured_from_the_start() -> None:
    side = AgentSide()
    assert "PING" in kinds(side.central.greet())


async def test_a_drain_waits_for_requests() -> None:
    side = await served()
    await side.ask(5)
    side.tunnel.drain()
    assert kinds(side.central.read()) == ["GOAWAY"]
    assert not side.transport.closed
    side.tunnel.fail(ErrorCode.NO_ERROR, "done")
    assert side.closed == ["done"]


def test_words_of_an_error_are_one_short_line() -> None:
    fields = dict(Decoder(0, 8192).decode(error_head(502, "a\r\nb\u202e" + "x" * 1000)))
    assert fields[b"mk8s-error"].startswith(b"a  b?")
    assert len(fields[b"mk8s-error"]) <= 512


async def test_http1_api_server_401_is_the_agent_s_own_trouble_too() -> None:
    side = AgentSide(protocol="http/1.1").open()
    await side.ask(3)
    side.dialled[0].connection.receive(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno")
    assert told(side.central.read())[0] == 502
    assert side.dialled[0].transport.aborted
