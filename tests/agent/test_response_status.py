"""Which answers pass undecoded: never one whose status an agent has to know."""

import hpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mk8s_agent.apiserver.response_status import passes_unread
from mk8s_agent.wire.hpack_codec import Decoder, HpackError, block

LOOKED_AT = [*range(100, 200), 401]


def written(status: int, *, huffman: bool, first: int) -> bytes:
    """A head as an HPACK library writes it; `first` says what tables may do with the field."""
    field = (b"x", b"%d" % status, True)
    name_bytes = len(b"\x10\x01x")  # Huffman coded or not
    value = bytes(hpack.Encoder().encode([field], huffman=huffman))[name_bytes:]
    return bytes((first,)) + value + block([(b"content-type", b"application/json")])


@pytest.mark.parametrize("first", [0x08, 0x18, 0x48])
@pytest.mark.parametrize("huffman", [True, False])
def test_every_status_in_every_spelling(first: int, huffman: bool) -> None:
    for status in range(100, 600):
        head = written(status, huffman=huffman, first=first)
        assert Decoder(0, 8192).decode(head)[0] == (b":status", b"%d" % status)
        assert passes_unread(head) == (status not in LOOKED_AT)


def test_statuses_of_the_static_table() -> None:
    for first in range(256):
        try:
            [field] = Decoder(0, 8192).decode(bytes((first,)))
        except (HpackError, ValueError):
            continue
        assert passes_unread(bytes((first,))) == (field[0] == b":status")


@pytest.mark.parametrize(
    "head",
    [b"", b"\x20\x88", b"\x08", b"\x08\x03", b"\x08\x0320", b"\x08\x04200 ", b"\x08\x03600",
     b"\x00\x07:status\x03200", b"\x07\x03200", b"\x09\x03200", b"\x82\x88"],
)  # fmt: skip
def test_what_is_not_certain_is_decoded(head: bytes) -> None:
    assert not passes_unread(head)


@given(
    st.sampled_from([0x08, 0x18, 0x48, 0x88, 0x20]).flatmap(
        lambda first: st.binary(max_size=6).map(lambda rest: bytes((first,)) + rest)
    )
)
def test_no_bytes_hide_a_status_that_matters(head: bytes) -> None:
    if not passes_unread(head):
        return
    try:
        fields = Decoder(0, 8192).decode(head)
    except HpackError:
        return  # central will not be able to decode it either
    assert fields[0][0] == b":status"
    assert int(fields[0][1]) not in LOOKED_AT
