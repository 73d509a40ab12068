"""Trailers: read, dropped, and refused where the message would be malformed with them."""

import pytest

from mk8s_agent.wire.http2.trailers import well_formed
from tests.agent.test_wire_http2_client import OK as ANSWER
from tests.agent.test_wire_http2_client import connect
from tests.agent.test_wire_http2_server import GET, serve
from tests.support.memory import PROTOCOL_ERROR, Fields, Frame, data, head, headers

GOOD: list[Fields] = [
    [],
    [(b"grpc-status", b"0"), (b"grpc-message", b"")],
    [(b"x_odd!name", b"two words"), (b"x", b"\xc3\xa4")],
]
BAD: dict[str, Fields] = {
    "a pseudo-header field": [(b":path", b"/")],
    "a status": [(b"grpc-status", b"0"), (b":status", b"200")],
    "an unknown pseudo-header field": [(b":x", b"")],
    "upper case": [(b"X-Sum", b"1")],
    "no name": [(b"", b"1")],
    "a space in a name": [(b"a b", b"1")],
    "connection": [(b"connection", b"close")],
    "keep-alive": [(b"keep-alive", b"1")],
    "proxy-connection": [(b"proxy-connection", b"close")],
    "transfer-encoding": [(b"transfer-encoding", b"chunked")],
    "upgrade": [(b"upgrade", b"websocket")],
    "te": [(b"te", b"trailers")],
    "another length": [(b"content-length", b"3")],
    "another host": [(b"host", b"h")],
    "a line feed": [(b"x", b"a\nb")],
    "a carriage return": [(b"x", b"a\r")],
    "a zero": [(b"x", b"\0")],
    "a space in front": [(b"x", b" a")],
    "a tab behind": [(b"x", b"a\t")],
}


@pytest.mark.parametrize("fields", GOOD)
def test_trailers_that_may_stand_there(fields: Fields) -> None:
    assert well_formed(fields)


@pytest.mark.parametrize("fields", BAD.values(), ids=list(BAD))
def test_trailers_that_may_not(fields: Fields) -> None:
    assert not well_formed(fields)


@pytest.mark.parametrize("fields", BAD.values(), ids=list(BAD))
def test_attack_a_request_with_malformed_trailers_is_reset(fields: Fields) -> None:
    server, peer = serve()
    peer.send(headers(1, GET), data(1, b"body"))
    assert peer.send(headers(1, fields, end=True)) == [Frame("RST_STREAM", 1, PROTOCOL_ERROR)]
    assert server.legs[1].resets == [PROTOCOL_ERROR]
    assert not server.legs[1].ended
    assert not server.closed


def test_trailers_without_an_end_are_malformed() -> None:
    server, peer = serve()
    peer.send(headers(1, GET))
    assert peer.send(headers(1, [(b"x", b"y")])) == [Frame("RST_STREAM", 1, PROTOCOL_ERROR)]
    assert not server.closed


@pytest.mark.parametrize("fields", BAD.values(), ids=list(BAD))
def test_attack_an_answer_with_malformed_trailers_never_looks_complete(fields: Fields) -> None:
    client, peer = connect()
    _, leg = client.ask()
    peer.send(headers(1, ANSWER), data(1, b"body"))
    assert peer.send(headers(1, fields, end=True)) == [Frame("RST_STREAM", 1, PROTOCOL_ERROR)]
    assert (leg.ended, leg.resets) == (False, [PROTOCOL_ERROR])
    assert not client.closed


@pytest.mark.parametrize(
    "block",
    [
        b"\xbe",
        b"\x00\xff",
        b"\x40\x7f",
        b"\x00\x01a\x01b\x20",  # a size update at the end (RFC 7541, 4.2)
        b"\x00\x01a\x81\x18",  # Huffman padded with zeros (5.2)
    ],
)
def test_attack_trailers_that_cannot_be_read_cost_their_own_stream(block: bytes) -> None:
    client, peer = connect()
    (_, leg), (_, other) = client.ask(), client.ask()
    peer.send(headers(1, ANSWER), headers(3, ANSWER))
    assert peer.send(head(1, block, end=True)) == [Frame("RST_STREAM", 1, PROTOCOL_ERROR)]
    assert (leg.ended, leg.resets, other.resets) == (False, [PROTOCOL_ERROR], [])
    assert not client.closed
