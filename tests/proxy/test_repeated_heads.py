"""A head that is remembered reads as if it were new, and what is refused stays refused."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mk8s_proxy.listener import request_head
from mk8s_proxy.listener.head_limits import TARGET_BYTES, HeadLimits, head_bytes
from mk8s_proxy.listener.refusals import HeaderRefusal
from mk8s_proxy.listener.request_head import (
    Field,
    RequestHead,
    read_http2_head,
    read_repeated_head,
)

TOKEN = (b"authorization", b"Bearer a.b.c")


@pytest.fixture(autouse=True)
def nothing_known() -> Iterator[None]:
    request_head._repeated.clear()
    yield
    request_head._repeated.clear()


def head(target: bytes, *fields: Field, method: bytes = b"GET") -> list[Field]:
    return [
        (b":authority", b"central.example.com"),
        (b":method", method),
        (b":path", target),
        (b":scheme", b"https"),
        *fields,
    ]


def outcome(read: object, fields: list[Field], end: bool) -> RequestHead | tuple[str, str]:
    try:
        return read(fields, end)  # type: ignore[operator,no-any-return]  # either of two functions
    except HeaderRefusal as refusal:
        return refusal.reason, refusal.message


NAMES = st.sampled_from(
    [b":authority", b":method", b":path", b":scheme", b"accept", b"authorization", b"te",
     b"content-length", b"cookie", b"impersonate-user", b"x-custom", b"connection", b"Upper"]
)  # fmt: skip
VALUES = st.sampled_from(
    [b"central.example.com", b"GET", b"POST", b"/api", b"/api/v1?x=1", b"https", b"0", b"7",
     b"Bearer a.b.c", b"trailers", b"alice", b"", b" x", b"/a b", b"/\x01", b"no-slash"]
)  # fmt: skip
ANY = st.lists(st.tuples(NAMES, VALUES), max_size=8)
PLAIN = st.builds(head, VALUES, st.just(TOKEN), st.tuples(NAMES, VALUES))


@given(st.lists(st.tuples(st.one_of(PLAIN, ANY), st.booleans()), max_size=6))
def test_remembered_and_new_are_the_same(heads: list[tuple[list[Field], bool]]) -> None:
    for fields, end in [*heads, *heads]:
        assert outcome(read_repeated_head, fields, end) == outcome(read_http2_head, fields, end)


def test_the_second_head_is_not_read_again() -> None:
    first = read_repeated_head(head(b"/api/v1/pods", TOKEN), True)
    second = read_repeated_head(head(b"/version", TOKEN), True)
    assert second == first._replace(target=b"/version")
    assert second.forwarded is first.forwarded


def test_the_credential_of_somebody_else_is_another_head() -> None:
    mine = read_repeated_head(head(b"/api", TOKEN), True)
    other = read_repeated_head(head(b"/api", (b"authorization", b"Bearer x.y.z")), True)
    assert mine.authorization == b"Bearer a.b.c"
    assert other.authorization == b"Bearer x.y.z"


@pytest.mark.parametrize("target", [b"api", b"/a b", b"/\x7f", b"*"])
def test_an_illegal_target_behind_a_known_head(target: bytes) -> None:
    read_repeated_head(head(b"/api", TOKEN), True)
    with pytest.raises(HeaderRefusal):
        read_repeated_head(head(target, TOKEN), True)


def test_a_known_head_with_too_long_a_target() -> None:
    read_repeated_head(head(b"/api", TOKEN), True)
    refused = head(b"/" + b"a" * TARGET_BYTES, TOKEN)
    with pytest.raises(HeaderRefusal) as caught:
        read_repeated_head(refused, True)
    assert caught.value.reason == "HEADER_TOO_LARGE"


def test_the_longest_target_counts_the_same() -> None:
    for size in (TARGET_BYTES, TARGET_BYTES - 1):
        fields = head(b"/" + b"a" * size, TOKEN)
        expected = outcome(read_http2_head, fields, True)
        assert isinstance(expected, RequestHead) == (size < TARGET_BYTES)
        read_repeated_head(head(b"/", TOKEN), True)
        assert outcome(read_repeated_head, fields, True) == expected


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_head._repeated, "most_entries", 5)
    for number in range(20):
        read_repeated_head(head(b"/api", (b"x-custom", b"%d" % number)), True)
        assert len(request_head._repeated) <= 5
    request_head._repeated.clear()
    read_repeated_head(head(b"/api", (b"x-custom", b"v" * 5000)), True)
    assert len(request_head._repeated) == 0


def test_heads_of_strangers_fill_no_more_than_their_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_head._repeated, "most_bytes", 10_000)
    for number in range(50):
        read_repeated_head(head(b"/api", (b"x-custom", b"%d" % number * 1000)), True)
        assert request_head._repeated.size <= 10_000
    assert len(request_head._repeated) > 0


def test_a_smaller_limit_holds_for_a_head_that_came_before() -> None:
    fields = head(b"/" + b"a" * 1000, TOKEN)
    read_repeated_head(fields, True)
    counted = head_bytes(fields) - 1001
    fitting = HeadLimits(counted, 1001)
    assert read_repeated_head(fields, True, fitting) == read_http2_head(fields, True)
    for limits in (HeadLimits(counted - 1, 1001), HeadLimits(counted, 1000)):
        with pytest.raises(HeaderRefusal) as refused:
            read_repeated_head(fields, True, limits)
        assert refused.value.reason == "HEADER_TOO_LARGE"
