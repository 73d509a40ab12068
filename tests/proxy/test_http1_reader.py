"""Heads of HTTP/1.1 that were seen before: they must mean what they mean when read anew."""

import re
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from mk8s_proxy.listener import http1_reader
from mk8s_proxy.listener.head_limits import HeadLimits
from mk8s_proxy.listener.http1_reader import BadChunk, ChunkedBody, read_anew, read_request
from mk8s_proxy.listener.refusals import HeaderRefusal

LINE = b"GET /api/v1/pods HTTP/1.1"
LINES = (b"Host: a.example", b"Authorization: Bearer abc", b"Accept: */*", b"User-Agent: x")


def head(*lines: bytes, line: bytes = LINE) -> bytes:
    return b"\r\n".join([line, *lines, b"", b""])


FIRST = head(*LINES)


@pytest.fixture(autouse=True)
def _nothing_known() -> Iterator[None]:
    http1_reader._known.clear()
    yield
    http1_reader._known.clear()


def outcome(read: object, raw: bytes) -> object:
    """What a reader makes of a head: the request, or its reason to refuse."""
    assert callable(read)
    try:
        return read(raw)
    except HeaderRefusal as refusal:
        return refusal.reason, refusal.message


def test_a_known_head_is_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    read_request(FIRST)
    other = FIRST.replace(b"/api/v1/pods", b"/api/v1/nodes?watch=1")
    expected = read_anew(other)
    monkeypatch.setattr(http1_reader, "check_http1_head", None)
    assert read_request(other) == expected
    assert expected.head.target == b"/api/v1/nodes?watch=1"


def test_targets_are_not_kept() -> None:
    read_request(FIRST.replace(b"/pods", b"/secrets/mine"))
    assert len(http1_reader._known) == 1
    assert b"secret" not in repr(http1_reader._known).encode()


@pytest.mark.parametrize(
    "unlike",
    [
        head(*LINES[:1], *LINES[2:]),
        head(*LINES, line=b"POST /api/v1/pods HTTP/1.1"),
        head(*LINES, b"Transfer-Encoding: chunked", line=b"POST / HTTP/1.1"),
        head(*LINES, b"Content-Length: 5", line=b"POST / HTTP/1.1"),
        head(*LINES, b"Connection: Upgrade", b"Upgrade: SPDY/3.1", line=b"POST / HTTP/1.1"),
        head(*LINES, b"Connection: close"),
        head(*LINES, b"Connection: close, keep-alive"),
        head(*LINES, b"X: " + b"y" * 1024),
        head(*LINES, b"Expect: 100-continue"),
        head(*LINES, b"authorization: Bearer abc"),
        head(LINES[0], b"authorization: Bearer abc", *LINES[2:]),
        head(LINES[0], b"AUTHORIZATION: Bearer abc", *LINES[2:]),
        head(LINES[0], b"Authorization: bearer abc", *LINES[2:]),
        head(LINES[0], b"Authorization: Bearer abc ", *LINES[2:]),
        head(LINES[0], b"Authorization: Bearer  abc", *LINES[2:]),
        head(LINES[0], b"Authorization: Bearer", *LINES[2:]),
        head(LINES[0], b"Authorization: Bearer ", *LINES[2:]),
        head(LINES[0], b"Authorization: Bearer ==", *LINES[2:]),
        head(LINES[0], b"Authorization: Bearer a b", *LINES[2:]),
        head(LINES[0], b"Authorization: Bearer a\0b", *LINES[2:]),
        head(LINES[0], b"Authorization: Bearer a\rb", *LINES[2:]),
        head(LINES[0], b"Authorization: Bearer a\nX: b", *LINES[2:]),
        head(LINES[0], b"Authorization: Bearer " + b"a" * 60_000, *LINES[2:]),
        head(LINES[0], b"Authorization: Bearer " + b"a" * 65_000, *LINES[2:]),
        head(LINES[0], b"Authorization: Bearer " + b"a" * 66_000, *LINES[2:]),
        head(*LINES, line=b"GET http://a/ HTTP/1.1"),
        head(*LINES, line=b"GET  / HTTP/1.1"),
        head(*LINES, line=b"GET / HTTP/1.0"),
        head(*LINES, line=b"GET /\xff HTTP/1.1"),
        head(*LINES, line=b"GET /\t HTTP/1.1"),
        head(*LINES, line=b"GET /a\nb HTTP/1.1"),
        head(*LINES, line=b"GET / a HTTP/1.1"),
        head(*LINES, line=b"GET /"),
        head(*LINES, line=b"GET /" + b"a" * 64_500 + b" HTTP/1.1"),
        b"",
        b"\r\n\r\n",
    ],
    ids=range(36),
)
def test_what_differs_from_a_known_head(unlike: bytes) -> None:
    read_request(FIRST)
    for _ in range(2):
        assert outcome(read_request, unlike) == outcome(read_anew, unlike)


def test_request_smuggling_behind_a_known_head() -> None:
    """A body must not be taken for the next request because a head like it had none."""
    framed = head(*LINES, b"Content-Length: 5", line=b"POST / HTTP/1.1")
    for _ in range(2):
        assert read_request(framed).head.content_length == 5
    chunked = head(*LINES, b"Transfer-Encoding: chunked", line=b"POST / HTTP/1.1")
    for _ in range(2):
        assert read_request(chunked).chunked
    read_request(head(*LINES, line=b"POST / HTTP/1.1"))
    read_request(head(*LINES))
    for _ in range(2):
        assert read_request(head(*LINES, b"Content-Length: 5")).head.content_length == 5


def test_credential_mix_up_between_users_with_the_same_client() -> None:
    users = [head(LINES[0], b"Authorization: Bearer t%d" % n, *LINES[2:]) for n in range(50)]
    for number, raw in enumerate(users * 2):
        assert read_request(raw).head.authorization == b"Bearer t%d" % (number % 50)
    assert len(http1_reader._known) == 50


def test_memory_exhaustion_by_heads_that_never_come_again() -> None:
    for number in range(5000):
        read_request(head(*LINES, b"X: %d" % number))
    assert len(http1_reader._known) <= 4096
    http1_reader._known.clear()
    read_request(head(*LINES, b"X: " + b"y" * http1_reader._KNOWN_BYTES))
    assert len(http1_reader._known) == 0


LINES_OF_HEADS = st.sampled_from(
    [
        *LINES, b"authorization: Bearer abc", b"Authorization: Bearer xy=", b"Host: b", b"X:",
        b"Authorization: Basic abc", b"Connection: close", b"Connection: keep-alive", b"X : y",
        b"Content-Length: 0", b"Content-Length: 3", b"Transfer-Encoding: chunked", b"TE: trailers",
        b"Impersonate-User: a", b"Mk8s-Identity: a", b"Origin: https://a.example", b" folded",
        b"Upgrade: websocket", b"Connection: Upgrade", b"Sec-WebSocket-Version: 13", b"X\x00: y",
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", b"Expect: 100-continue", b"Cookie: a=b",
    ]
)  # fmt: skip
METHODS = st.sampled_from([b"GET", b"POST", b"HEAD", b"DELETE", b"get", b""])
TARGETS = st.from_regex(re.compile(rb"[!-~ ]{0,3}|/[!-~]{0,20}|/[\x00-\xff]{0,9}"), fullmatch=True)


@given(
    lines=st.lists(LINES_OF_HEADS, max_size=6),
    method=METHODS,
    other=METHODS,
    target=TARGETS,
)
@examples(max_examples=300)
def test_the_short_way_and_the_long_way_agree(
    lines: list[bytes], method: bytes, other: bytes, target: bytes
) -> None:
    first = head(b"Host: a", *lines, line=method + b" /a HTTP/1.1")
    again = head(b"Host: a", *lines, line=b"%b %b HTTP/1.1" % (method, target))
    third = head(b"Host: a", *lines, line=b"%b %b HTTP/1.1" % (other, target))
    for raw in (first, again, third, again):
        assert outcome(read_request, raw) == outcome(read_anew, raw)


@given(raw=st.binary(max_size=60), at=st.integers(0, len(FIRST)), drop=st.integers(0, 4))
@examples(max_examples=300)
def test_a_damaged_known_head(raw: bytes, at: int, drop: int) -> None:
    read_request(FIRST)
    damaged = FIRST[:at] + raw + FIRST[at + drop :]
    assert outcome(read_request, damaged) == outcome(read_anew, damaged)


def test_every_target_that_passes_is_one_to_llhttp_too() -> None:
    """Else a known head would be taken with a target that llhttp refuses."""
    visible = range(0x21, 0x7F)
    for first in visible:
        for second in visible:
            target = bytes((0x2F, first, second))
            assert read_anew(head(*LINES, line=b"GET %b HTTP/1.1" % target)).head.target == target


# -- chunked bodies


def test_chunks() -> None:
    pieces: list[bytes] = []
    body = ChunkedBody(pieces.append)
    body.feed(b"3\r\nabc\r\n")
    assert pieces == [b"abc"]
    body.feed(b"2\r\nde\r\n0\r\nX: trailer\r\n\r\n")
    assert b"".join(pieces) == b"abcde"
    assert body.done
    assert not body.more


def test_request_smuggling_behind_chunks_is_seen() -> None:
    body = ChunkedBody(lambda data: None)
    body.feed(b"0\r\n\r\nGET / HTTP/1.1\r\n")
    assert body.done
    assert body.more


def test_broken_chunks() -> None:
    with pytest.raises(BadChunk):
        ChunkedBody(lambda data: None).feed(b"zz\r\n")


@pytest.mark.parametrize("limit", [8192, 9000, 16_384, 65_536])
def test_a_smaller_limit_holds_for_a_head_that_came_before(limit: int) -> None:
    read_request(FIRST)
    for limits in (HeadLimits(8192, limit), HeadLimits(200, limit)):
        for size in range(0, limit + 1024, 512):
            raw = FIRST.replace(b"/pods", b"/" + b"a" * size)
            seen = outcome(lambda head, it=limits: read_request(head, it), raw)
            assert seen == outcome(lambda head, it=limits: read_anew(head, it), raw)
