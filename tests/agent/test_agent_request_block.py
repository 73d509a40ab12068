"""Heads that are read without being decoded: never another request than the one decoded.

The general way, an HPACK library and `read_request`, is the reference for all of it.
"""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mk8s_agent.apiserver import request_block as module
from mk8s_agent.apiserver.request import Request, RequestRefused, read_request, request_line
from mk8s_agent.apiserver.request_block import RequestReader
from mk8s_agent.wire import headers, hpack_codec
from mk8s_agent.wire.hpack_codec import Decoder, HpackError, literal
from mk8s_agent.wire.limits import AGENT
from tests.support.relay import Relay

WHO = json.dumps({"user": "dev@example.com", "uid": "u1", "groups": ["mk8s:users"]}).encode()
IDENTITY = literal(b"mk8s-identity", WHO)
ACCEPT = literal(b"accept", b"*/*")
AUDIT_ID = b"0199f0a1-7c3e-7abc-8def-000000000001"
GET, POST, HTTPS = b"\x82", b"\x83", b"\x87"


def composed(
    *,
    method: bytes = GET,
    path: bytes = b"/api/v1/pods",
    audit_id: bytes = AUDIT_ID,
    length: bytes | None = None,
    tail: bytes = IDENTITY + ACCEPT,
) -> bytes:
    """A head as central writes it."""
    parts = [method, HTTPS, literal(b":path", path), literal(b"mk8s-audit-id", audit_id)]
    if length is not None:
        parts.append(literal(b"mk8s-content-length", length))
    return b"".join([*parts, tail])


def general(block: bytes, end: bool, prefix: bytes = b"") -> Request | str:
    """The request of a head, or why there is none."""
    try:
        return read_request(Decoder(0, AGENT.header_list).decode(block), end, prefix)[0]
    except (HpackError, RequestRefused) as error:
        return type(error).__name__


def learned(reader: RequestReader, block: bytes, end: bool) -> None:
    try:
        reader.read(Decoder(0, AGENT.header_list).decode(block), end)
    except (HpackError, RequestRefused):
        return


def knowing(*blocks: bytes, prefix: bytes = b"") -> RequestReader:
    reader = RequestReader(prefix)
    for block in blocks:
        learned(reader, block, False)
    return reader


METHODS = {
    b"GET": GET, b"POST": POST, b"PUT": b"\x02\x03PUT", b"HEAD": b"\x02\x04HEAD",
    b"PATCH": b"\x02\x05PATCH", b"DELETE": b"\x02\x06DELETE",
}  # fmt: skip


@pytest.mark.parametrize("prefix", [b"", b"/k8s/clusters/c1"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("length", [None, b"0", b"9", b"10", b"9" * 18])
def test_what_repeats_is_recognised(prefix: bytes, method: bytes, length: bytes | None) -> None:
    assert hpack_codec.field(b":method", method) == METHODS[method]
    reader = knowing(composed(), prefix=prefix)
    for size in (1, 126, 127, 128, 254, 255, 2047):
        block = composed(method=METHODS[method], path=b"/".ljust(size, b"p"), length=length)
        request = reader.recognise(block, False)
        assert request is not None
        assert request == general(block, False, prefix)


def test_a_head_that_was_not_seen_is_not_recognised() -> None:
    assert RequestReader().recognise(composed(), True) is None
    assert knowing(composed()).recognise(composed(tail=IDENTITY), True) is None


OTHERWISE = {
    "a path that is too long to be worth it": composed(path=b"/".ljust(2048, b"p")),
    "a space in the path": composed(path=b"/ HTTP/1.1"),
    "a line end in the path": composed(path=b"/\r\nx: y"),
    "no slash": composed(path=b"api"),
    "an empty path": composed(path=b""),
    "an unknown method": composed(method=b"\x02\x07CONNECT"),
    "a method of another size": composed(method=b"\x02\x04PUT"),
    "two methods": GET + composed(),
    "an update of the table's size": b"\x20" + composed(),
    "plain http": composed().replace(b"\x82\x87", b"\x82\x86"),
    "an audit id of another size": composed(audit_id=b"id-1"),
    "an audit id with a line end": composed(audit_id=AUDIT_ID[:-2] + b"\r\n"),
    "no audit id": composed().replace(literal(b"mk8s-audit-id", AUDIT_ID), b""),
    "two audit ids": composed(tail=literal(b"mk8s-audit-id", AUDIT_ID) + IDENTITY + ACCEPT),
    "a path longer than it says": composed().replace(b"\x04\x0c/api", b"\x04\x0b/api"),
    "a path shorter than it says": composed().replace(b"\x04\x0c/api", b"\x04\x0d/api"),
    "a size in more bytes than it needs": composed(path=b"/".ljust(127, b"p")).replace(
        b"\x04\x7f\x00", b"\x04\x7f\x80\x00"
    ),
    "a length longer than it says": composed(length=b"12").replace(b"\x0212", b"\x0112"),
    "a length shorter than it says": composed(length=b"12").replace(b"\x0212", b"\x0312"),
    "a length with a zero in front": composed(length=b"012"),
    "a length that is none": composed(length=b"+1"),
    "an empty length": composed(length=b""),
    "a length without end": composed(length=b"1" * 19),
    "an upgrade": composed(tail=literal(b"mk8s-upgrade", b"websocket") + IDENTITY + ACCEPT),
    "nothing behind": composed(tail=b""),
    "a dot segment": composed(path=b"/api/v1/../x"),
    "an encoded one": composed(path=b"/api/v1/%2e%2e/x"),
    "an encoded slash": composed(path=b"/api/v1/x%2Fexec"),
    "an empty segment": composed(path=b"/api//v1"),
    "a backslash": composed(path=b"/api\\v1"),
    "an empty head": b"",
}


@pytest.mark.parametrize("block", OTHERWISE.values(), ids=list(OTHERWISE))
def test_what_looks_otherwise_is_left_to_the_general_way(block: bytes) -> None:
    reader = knowing(composed())
    assert reader.recognise(composed(), False) is not None
    assert reader.recognise(block, False) is None
    learned(reader, block, False)
    assert reader.recognise(block, False) is None


def test_a_length_without_a_body_is_no_way_to_a_second_request() -> None:
    reader = knowing(composed())
    assert reader.recognise(composed(method=POST, length=b"5"), False) is not None
    assert reader.recognise(composed(method=POST, length=b"5"), True) is None
    assert reader.recognise(composed(method=POST, length=b"0"), True) is not None


FORGED = {
    "a credential": IDENTITY + literal(b"authorization", b"Bearer stolen"),
    "a ready-made identity": IDENTITY + literal(b"impersonate-user", b"admin"),
    "a group behind a line end": IDENTITY + literal(b"x", b"y\r\nImpersonate-Group: a"),
    "two identities": IDENTITY + IDENTITY,
    "the agent itself": literal(b"mk8s-identity", WHO.replace(b"dev@example.com", b"system:a")),
    "a second path": IDENTITY + literal(b":path", b"/"),
    "a second method": IDENTITY + b"\x83",
    "an authority": IDENTITY + literal(b":authority", b"evil"),
    "a field of a dynamic table": IDENTITY + b"\xbe",
    "cut short": IDENTITY[:-1],
}


@pytest.mark.parametrize("tail", FORGED.values(), ids=list(FORGED))
def test_what_was_refused_is_never_known(tail: bytes) -> None:
    reader = knowing(composed(tail=tail))
    assert len(reader._carried) == 0
    assert reader.recognise(composed(tail=tail), False) is None


UNKEPT = {
    "an upgrade behind the identity": IDENTITY + literal(b"mk8s-upgrade", b"websocket"),
    "a length behind the identity": IDENTITY + literal(b"mk8s-content-length", b"5"),
    "a field that is not known yet": IDENTITY + literal(b"mk8s-later", b"1"),
    "a client's header before the identity": ACCEPT + IDENTITY,
    "more than is kept": IDENTITY + literal(b"x", b"v" * 4096),
}


@pytest.mark.parametrize("tail", UNKEPT.values(), ids=list(UNKEPT))
def test_what_says_more_than_it_may_is_read_each_time(tail: bytes) -> None:
    reader = knowing(composed(tail=tail))
    assert isinstance(general(composed(tail=tail), False), Request)
    assert len(reader._carried) == 0


def test_another_spelling_is_read_each_time() -> None:
    """Two spellings of one part: only central's own is taken for what it says."""
    spelt = composed(tail=IDENTITY + b"\x00\x06accept\x03*/*")
    reader = knowing(spelt)
    assert reader.recognise(spelt, False) is None
    assert reader.recognise(composed(), False) == general(spelt, False)


def widening(field: bytes) -> float:
    """How much more a field counts once decoded."""
    if field[0] < 0x0F:
        return 0  # pseudo headers, which are not kept
    [(name, value)] = Decoder(0, 8192).decode(field)
    return (len(name) + len(value) + 32) / len(field)


def test_the_widest_head_that_is_recognised_is_within_the_limit_of_a_tunnel() -> None:
    """The decoder that was passed by would have counted 32 bytes for each field."""
    shortest = max((literal(name, b"") for name in hpack_codec._STATIC_NAMES), key=widening)
    tail = IDENTITY + shortest * ((module._LONGEST_KEPT - len(IDENTITY)) // len(shortest))
    block = composed(path=b"/".ljust(2047, b"p"), length=b"9" * 18, tail=tail)
    for library in ("jh2", "hpack"):
        assert len(Decoder(0, AGENT.header_list // 2, library).decode(block)) > 1000
    reader = knowing(block)
    assert reader.recognise(block, False) == general(block, False)


def test_what_is_kept_is_bounded_and_the_oldest_goes_first() -> None:
    reader = RequestReader(most_kept=10_000)
    blocks = [composed(tail=IDENTITY + literal(b"x", b"%d" % number)) for number in range(100)]
    for block in blocks:
        learned(reader, block, False)
        assert reader.recognise(block, False) is not None
        assert reader._carried.size <= 10_000
    assert reader.recognise(blocks[0], False) is None
    assert reader.recognise(blocks[-2], False) is not None


def test_what_central_writes_is_recognised(tmp_path: Path) -> None:
    """Both ends agree on the order of fields; otherwise nothing would be wrong, but slow."""
    relay = Relay(tmp_path, 1)
    for size in (0, 0, 5000):
        relay.open_request(size, 10)
        relay.ticks.turn()
        sent = bytes(relay.down.source.written)
        block = sent[9 : 9 + int.from_bytes(sent[:3], "big")]
        known = relay.apiserver.reader.recognise(block, size == 0)
        relay.settle()
        assert (known is None) == (len(relay.client.halves) == 1)
    relay.finish()
    relay.central.journal.close()


# -- any bytes

paths = st.sampled_from(
    [b"/", b"/api/v1/pods?watch=1", b"/".ljust(127, b"p"), b"/%20", b"/ ", b"x"]
)
tails = st.lists(
    st.sampled_from(
        [IDENTITY, ACCEPT, literal(b"x", b"y"), b"\x82", b"\x20", literal(b"host", b"evil"),
         literal(b"mk8s-upgrade", b"SPDY/3.1"), literal(b"mk8s-content-length", b"7"),
         b"\x00\x06accept\x03*/*", IDENTITY[:-3]],
    ),
    max_size=4,
).map(b"".join)  # fmt: skip
heads = st.builds(
    composed,
    method=st.sampled_from([*METHODS.values(), b"\x02\x03GET", b"\x02\x05TRACE"]),
    path=paths,
    audit_id=st.sampled_from([AUDIT_ID, b"", b"a b".ljust(36), b"\0" * 36]),
    length=st.sampled_from([None, b"0", b"5", b"05", b"1" * 18, b"1" * 19, b"x"]),
    tail=st.one_of(st.just(IDENTITY + ACCEPT), tails),
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A head with some of its bytes replaced by others."""
    block = draw(heads)
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, min(len(block), 130)))
        gone = draw(st.integers(0, 3))
        block = block[:at] + draw(st.binary(max_size=3)) + block[at + gone :]
    return block


@given(
    st.lists(st.tuples(st.one_of(heads, damaged()), st.booleans()), min_size=1, max_size=6),
    st.sampled_from([b"", b"/c1"]),
)
def test_any_bytes_are_read_as_the_general_way_reads_them(
    blocks: list[tuple[bytes, bool]], prefix: bytes
) -> None:
    reader = knowing(composed(), prefix=prefix)
    for block, end in blocks:
        request = reader.recognise(block, end)
        if request is not None:
            assert request == general(block, end, prefix)
        learned(reader, block, end)
        request = reader.recognise(block, end)
        if request is not None:
            assert request == general(block, end, prefix)


NOBODY = literal(b"mk8s-identity", headers.ANONYMOUS)


@pytest.mark.parametrize("path", [b"/version", b"/version/", b"/version?timeout=32s"])
@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
def test_nobody_asks_for_the_version(method: bytes, path: bytes) -> None:
    block = composed(method=METHODS[method], path=path, tail=NOBODY + ACCEPT)
    request = general(block, True)
    assert isinstance(request, Request)
    fields = request_line(request)[2]
    assert [it for it in fields if it[0].startswith(b"impersonate-")] == [
        (b"impersonate-user", b"system:anonymous")
    ]


BEYOND_VERSION = {
    "another path": composed(path=b"/api", tail=NOBODY),
    "a path that begins so": composed(path=b"/version/../api", tail=NOBODY),
    "another method": composed(method=METHODS[b"DELETE"], path=b"/version", tail=NOBODY),
    "an upgrade": composed(path=b"/version", tail=literal(b"mk8s-upgrade", b"websocket") + NOBODY),
    "a group": composed(
        path=b"/version", tail=NOBODY.replace(b'"groups":[]', b'"groups":["system:masters"]')
    ),
    "another spelling": composed(path=b"/version", tail=NOBODY.replace(b'":[', b'": [')),
}


@pytest.mark.parametrize("block", BEYOND_VERSION.values(), ids=list(BEYOND_VERSION))
def test_attack_nobody_asks_for_nothing_else(block: bytes) -> None:
    """Also not once the version was asked for: what is known is read anew each time."""
    reader = RequestReader()
    learned(reader, composed(path=b"/version", tail=NOBODY), True)
    assert len(reader._carried) == 0
    assert reader.recognise(block, True) is None
    assert general(block, True) in ("RequestRefused", "HpackError")


def test_attack_nobody_sends_a_body() -> None:
    assert general(composed(path=b"/version", tail=NOBODY), False) == "RequestRefused"
