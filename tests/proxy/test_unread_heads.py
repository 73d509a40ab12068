"""What shows of an encoded head, compared with its decoded fields."""

import hpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mk8s_agent.wire.hpack_codec import integer
from mk8s_proxy.listener.refusals import HeaderRefusal
from mk8s_proxy.listener.unread_heads import Survey, bearer_of, survey

names = st.sampled_from([b":path", b"accept", b"x-a", b"authorization"])
values = st.text("abcXYZ019-_./", max_size=40).map(str.encode)


@given(st.lists(st.tuples(names, values), max_size=8), st.booleans())
def test_a_survey_says_no_less_than_there_is(
    fields: list[tuple[bytes, bytes]], coded: bool
) -> None:
    block = b"\x20" + bytes(hpack.Encoder().encode(fields, huffman=coded))
    seen = survey(block, 100)
    assert seen.fields == len(fields) + 1
    assert seen.fields == survey(block, seen.fields).fields


def test_a_survey_ends_behind_one_field_too_many() -> None:
    assert survey(b"\x82" * 60_000, 100).fields == 101


def test_an_index_in_several_bytes() -> None:
    assert survey(integer(200, 7, 0x80), 100) == Survey(1, 0, b"")


def test_a_credential_is_read_alone() -> None:
    assert bearer_of(Survey(1, 0, b"")) == b""
    assert bearer_of(Survey(1, 0, b"\x0aBearer dev")) == b"Bearer dev"
    with pytest.raises(HeaderRefusal):
        bearer_of(Survey(1, 0, b"x" * 13_000))
