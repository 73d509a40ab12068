"""HPACK: what we write every decoder reads alike, and no bytes of a peer do more than fail."""

import contextlib
import os
import subprocess
import sys

import hpack
import pytest
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from hypothesis import given
from hypothesis import strategies as st

from mk8s_agent.wire import hpack_codec
from mk8s_agent.wire.hpack_codec import (
    CHANGES_TABLE,
    NEEDS_TABLE,
    NO_TABLE,
    Decoder,
    HpackError,
    check_block,
    has_more_fields,
)
from tests.support.memory import stateless
from tests.support.work import HELD_TOO_LONG, lines_run

LIBRARIES = ("jh2", "hpack")
names = st.one_of(
    st.sampled_from(sorted(hpack_codec._STATIC_NAMES)),
    st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=200).map(str.encode),
)
fields = st.lists(st.tuples(names, st.binary(max_size=400)), max_size=20)
either = pytest.mark.parametrize("library", LIBRARIES)


@either
@given(fields)
def test_our_blocks_say_the_same_to_both_libraries(
    library: str, written: list[tuple[bytes, bytes]]
) -> None:
    assert Decoder(0, 1 << 20, library).decode(hpack_codec.block(written)) == written
    # and again, so that neither the cache nor a decoder's state makes a difference
    assert Decoder(4096, 1 << 20, library).decode(hpack_codec.block(written)) == written


@either
@given(st.lists(fields, max_size=5), st.booleans())
def test_blocks_with_a_dynamic_table_are_followed(
    library: str, heads: list[list[tuple[bytes, bytes]]], huffman: bool
) -> None:
    encoder, decoder = hpack.Encoder(), Decoder(4096, 1 << 20, library)
    for written in heads:
        assert decoder.decode(encoder.encode(written, huffman=huffman)) == written


@given(st.lists(st.binary(max_size=120), max_size=6))
def test_hostile_bytes_are_read_alike_or_refused(blocks: list[bytes]) -> None:
    """jh2 is more lenient in two known places, so it may take what hpack refuses, never more."""
    rust, pure = (Decoder(0, 8192, library) for library in LIBRARIES)
    for block in blocks:
        try:
            told = pure.decode(block)
        except HpackError:
            with contextlib.suppress(HpackError):
                rust.decode(block)
            return  # the state of one of them may differ from here on
        assert rust.decode(block) == told


@either
@pytest.mark.parametrize("value", [0, 1, 14, 15, 16, 126, 127, 128, 254, 255, 300, 16_383, 70_000])
def test_lengths_at_every_edge_of_an_integer(library: str, value: int) -> None:
    written = [(b"x", b"v" * value), (b"n" * max(value, 1), b"")]
    assert Decoder(0, 1 << 20, library).decode(hpack_codec.block(written)) == written


def test_an_integer_of_the_rfc() -> None:
    assert hpack_codec.integer(10, 5) == b"\x0a"  # RFC 7541, C.1.1
    assert hpack_codec.integer(1337, 5) == b"\x1f\x9a\x0a"  # C.1.2
    assert hpack_codec.integer(42, 8) == b"\x2a"  # C.1.3
    assert hpack_codec.integer(3, 4, 0x10) == b"\x13"


@either
def test_nothing_is_left_behind_in_the_table(library: str) -> None:
    """With a table of size 0, a block that refers to an earlier one cannot be decoded."""
    decoder = Decoder(0, 8192, library)
    assert decoder.decode(b"\x40\x01x\x01y") == [(b"x", b"y")]  # literal "with indexing"
    with pytest.raises(HpackError):
        decoder.decode(b"\xbe")  # the first entry of the dynamic table


@either
def test_a_table_may_not_be_made_larger_than_advertised(library: str) -> None:
    assert Decoder(0, 8192, library).decode(b"\x20\x88") == [(b":status", b"200")]
    with pytest.raises(HpackError):
        Decoder(0, 8192, library).decode(b"\x3f\xe1\x1f\x88")  # size update to 4096
    with pytest.raises(HpackError):
        Decoder(4096, 8192, library).decode(b"\x3f\xe2\x1f\x88")  # to 4097


@either
@pytest.mark.parametrize(
    "block",
    [
        b"\x80",  # index 0
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f",  # an index without end
        b"\x00\x7f\xff\xff\xff\xff\xff\xff\xff\xff\x7f",  # a name longer than memory
        b"\x00\x05ab",  # cut short
        b"\x00",
        b"\x00\x81\xff\x00",  # Huffman: an unfinished symbol
        b"\x00\x84\xff\xff\xff\xff\x00",  # Huffman: the end symbol inside a string
    ],
)
def test_malformed_blocks_are_refused(library: str, block: bytes) -> None:
    with pytest.raises(HpackError, match="invalid header block"):
        Decoder(4096, 8192, library).decode(block)


@either
@pytest.mark.parametrize("block", [b"\x7f", b"\xff", b"\x00", b"\x00\x01x", b"\x1f", b"\x3f", b"@"])
def test_a_block_cut_inside_an_integer_fails_and_does_not_panic(library: str, block: bytes) -> None:
    """jh2 panics here (a BaseException): uncaught it would pass every `except Exception`."""
    decoder = Decoder(4096, 8192, library)
    with pytest.raises(HpackError):
        decoder.decode(block)
    assert decoder.decode(b"\x88") == [(b":status", b"200")]


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_whoever_stops_the_program_stops_it(stop: type[BaseException]) -> None:
    decoder = Decoder(0, 8192)

    def stopped(_block: bytes, _raw: bool) -> list[tuple[bytes, bytes, bool]]:
        raise stop

    decoder._decode = stopped
    with pytest.raises(stop):
        decoder.decode(b"")


@either
def test_hpack_bomb_cve_2016_6581(library: str) -> None:
    """A large entry in the table, referred to again and again, in a few kilobytes."""
    decoder = Decoder(4096, 65_536, library)
    decoder.decode(b"\x40\x01x" + hpack_codec.integer(4000, 7) + b"v" * 4000)
    with pytest.raises(HpackError):
        decoder.decode(b"\xbe" * 10_000)


@either
def test_the_list_limit_counts_32_bytes_for_each_field(library: str) -> None:
    one = (b"x", b"y")
    assert len(Decoder(0, 34 * 10, library).decode(stateless([one] * 10))) == 10
    with pytest.raises(HpackError):
        Decoder(0, 34 * 10, library).decode(stateless([one] * 11))


@either
def test_quadratic_integers_cve_2026_59980(library: str) -> None:
    with pytest.raises(HpackError):
        Decoder(4096, 65_536, library).decode(b"\xff" * 60_000 + b"\x01")


def test_the_pure_library_takes_over_where_jh2_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    real = hpack_codec.importlib.import_module

    def without_jh2(name: str) -> object:
        if name.startswith("jh2"):
            raise ImportError(name)
        return real(name)

    monkeypatch.setattr(hpack_codec.importlib, "import_module", without_jh2)
    assert Decoder(0, 8192).decode(b"\x88") == [(b":status", b"200")]
    with pytest.raises(ImportError):
        Decoder(0, 8192, "jh2")


class TestKeptNames:
    @pytest.fixture(autouse=True)
    def _own_names(self) -> None:
        hpack_codec._names.clear()

    def test_whole_fields_of_the_static_table_are_one_byte(self) -> None:
        for (name, value), encoded in hpack_codec._WHOLE_FIELDS.items():
            assert hpack.Decoder().decode(encoded, raw=True) == [(name, value)]
            assert hpack_codec.field(name, value) == encoded

    def test_a_kept_name_is_encoded_the_same(self) -> None:
        for name in (b"accept", b"x-custom", b"n" * 64, b"n" * 300):
            first, second = hpack_codec.literal(name, b"v"), hpack_codec.literal(name, b"v")
            assert first == second
            assert hpack.Decoder().decode(second, raw=True) == [(name, b"v")]

    def test_long_names_are_not_kept(self) -> None:
        """A client may send names of 60 KiB, each new one: they must not stay in memory."""
        hpack_codec.field(b"n" * 60_000, b"")
        assert len(hpack_codec._names) == 0

    def test_what_is_kept_is_bounded(self) -> None:
        for number in range(5000):
            hpack_codec.field(b"x-%d" % number, b"v")
        assert len(hpack_codec._names) <= 4096


# -- what a block does with the table

SEEDED = b"".join(b"\x40\x01" + name + b"\x01v" for name in (b"a", b"b", b"c"))
"""Three entries for the table: c is 62, b is 63, a is 64."""
PROBE = b"\xbe\xbf\xc0"


def seeded(library: str) -> Decoder:
    decoder = Decoder(4096, 8192, library)
    decoder.decode(SEEDED)
    return decoder


def strings(longest: int = 200) -> st.SearchStrategy[bytes]:
    return st.binary(max_size=longest).map(lambda text: hpack_codec.integer(len(text), 7) + text)


def representation(first: int, prefix_bits: int) -> st.SearchStrategy[bytes]:
    """A field that begins like this: of a table's name, or of a new one."""
    named = st.builds(
        lambda index, value: hpack_codec.integer(index, prefix_bits, first) + value,
        st.integers(1, 66),
        strings(),
    )
    new = st.builds(lambda name, value: bytes((first,)) + name + value, strings(), strings())
    return named | new


INDEXED = st.integers(0, 200).map(lambda index: hpack_codec.integer(index, 7, 0x80))
ADDED = representation(0x40, 6)
NOT_ADDED = representation(0x00, 4) | representation(0x10, 4)
RESIZED = st.integers(0, 5000).map(lambda size: hpack_codec.integer(size, 5, 0x20))
QUIET = st.lists(INDEXED | NOT_ADDED, max_size=6).map(b"".join)
BLOCKS = st.lists(INDEXED | NOT_ADDED | ADDED | RESIZED | st.binary(max_size=3), max_size=6).map(
    b"".join
)


@either
@given(block=QUIET | BLOCKS)
def test_a_block_that_is_said_to_leave_the_table_leaves_it(library: str, block: bytes) -> None:
    """Else a remembered block could mean another user than it says (`listener.recurring`)."""
    decoder = seeded(library)
    before = decoder.decode(PROBE)
    try:
        said = decoder.decode(block)
    except HpackError:
        return
    try:
        use = check_block(block, said)
    except HpackError:
        return
    if use == CHANGES_TABLE:
        return
    assert decoder.decode(PROBE) == before
    assert decoder.decode(block) == said
    if use == NO_TABLE:
        assert Decoder(4096, 8192, library).decode(block) == said


@given(fields)
def test_our_own_blocks_need_no_table(written: list[tuple[bytes, bytes]]) -> None:
    assert check_block(hpack_codec.block(written), written) == NO_TABLE


V = [(b"n", b"v")]


@pytest.mark.parametrize(
    ("block", "fields", "use"),
    [
        (b"", [], NO_TABLE),
        (b"\x82\xbd", V * 2, NO_TABLE),
        (b"\xbe", V, NEEDS_TABLE),
        (b"\xff\x00", V, NEEDS_TABLE),
        (b"\x0f\x30\x01v", V, NEEDS_TABLE),
        (b"\x1f\x2e\x01v", V, NO_TABLE),
        (b"\x10\x01n\x01v\xbe", V * 2, NEEDS_TABLE),
        (b"\xbe\x41\x01v", V * 2, CHANGES_TABLE),
        (b"\x41\x01v\xbe", V * 2, CHANGES_TABLE),
        (b"\x20", [], CHANGES_TABLE),
        (b"\x3f\xe1\x1f\x20\x82", V, CHANGES_TABLE),
    ],
)
def test_what_a_block_does_with_the_table(
    block: bytes, fields: list[tuple[bytes, bytes]], use: int
) -> None:
    assert check_block(block, fields) == use


def test_the_lengths_of_huffman_codes() -> None:
    assert list(hpack_codec._CODE_BITS) == REQUEST_CODES_LENGTH[:256]


def huffman_literal(text: bytes, padding: int = -1) -> bytes:
    """`accept` with a Huffman coded value; `padding` takes the place of the last bits."""
    coded = bytearray(HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH).encode(text))
    free = -sum(REQUEST_CODES_LENGTH[byte] for byte in text) % 8
    if padding >= 0 and free:
        coded[-1] = coded[-1] & ~((1 << free) - 1) | padding & ((1 << free) - 1)
    return b"\x0f\x04" + hpack_codec.integer(len(coded), 7, 0x80) + coded


@either
@given(text=st.binary(max_size=1500))
def test_any_huffman_code_is_taken_with_its_own_padding(library: str, text: bytes) -> None:
    block, fields = huffman_literal(text), [(b"accept", text)]
    assert Decoder(4096, 1 << 20, library).decode(block) == fields
    assert check_block(block, fields) == NO_TABLE


@given(text=st.binary(max_size=300), padding=st.integers(0, 127))
def test_attack_huffman_padding_that_another_parser_refuses(text: bytes, padding: int) -> None:
    block = huffman_literal(text, padding)
    if block == huffman_literal(text):
        return
    with pytest.raises(HpackError, match="padding"):
        check_block(block, [(b"accept", text)])


@pytest.mark.parametrize("update", [b"\x20", b"\x3f\xe1\x1f", b"\x21"])
@pytest.mark.parametrize("before", [b"\x82", b"\x20\x82", b"\x41\x01v"])
def test_attack_a_size_update_behind_a_field(before: bytes, update: bytes) -> None:
    with pytest.raises(HpackError, match="size update"):
        check_block(before + update, V)


def test_attack_an_integer_without_an_end() -> None:
    with pytest.raises(HpackError, match="too long"):
        check_block(b"\xff\x80\x80\x80\x80\x80\x00", V)


def test_attack_a_block_that_ends_within_a_field_writes_no_backtrace() -> None:
    """The first one takes half a second of the loop, where people have asked Rust for it."""
    code = (
        "from mk8s_agent.wire.hpack_codec import Decoder, HpackError\n"
        "try: Decoder(4096, 4096).decode(b'\\x40\\x05:path\\x05/')\n"
        "except HpackError as error: print(error)\n"
        "try: Decoder(4096, 4096).decode(b'\\x40\\x05:path')\n"
        "except HpackError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"RUST_BACKTRACE": "1"},
        capture_output=True,
        text=True,
    )
    assert done.stdout.count("invalid header block") == 2, done.stderr
    assert "backtrace:" not in done.stderr


NOTHING = b"\x40\x00\x00"
"""A field without name and value, put into the table; index 62 names it then."""


@either
@pytest.mark.parametrize(
    "block",
    [
        NOTHING + b"\xbe" * 190_000,
        b"\x00\x00\x00" * 60_000,
        b"\x84" * 190_000,
        hpack_codec.block([(b"x-%d" % number, b"") for number in range(20_000)]),
    ],
    ids=["of the table", "literals", "static", "names"],
)
def test_attack_very_many_fields_are_refused_before_they_are_made(
    library: str, block: bytes
) -> None:
    decoder = Decoder(4096, 192 << 10, library)

    def refused() -> None:
        with pytest.raises(HpackError, match="too many header fields"):
            decoder.decode(block)

    assert lines_run(refused, in_modules=("mk8s_agent", "hpack")) < HELD_TOO_LONG


@either
@pytest.mark.parametrize("update", [b"\x20", b"\x3f\xe1\x1f", b"\x20\x3f\xe1\x1f"])
def test_attack_size_updates_without_end(library: str, update: bytes) -> None:
    block = update * 2000 + b"\x82"
    with pytest.raises(HpackError, match="more than two size updates"):
        Decoder(4096, 192 << 10, library).decode(block)


@either
@pytest.mark.parametrize("block", [b"\x20", b"\x20\x3f\xe1\x1f", b"\x20\x3f\xe1\x1f\x82"])
def test_two_size_updates_are_one_change(library: str, block: bytes) -> None:
    assert Decoder(4096, 4096, library).decode(block) == [(b":method", b"GET")][: len(block) // 5]


@either
def test_a_long_block_of_few_fields_is_read(library: str) -> None:
    written = [(b"x", b"y" * 70_000), (b":path", b"/" * 200), (b"long" * 40, b"z" * 300)]
    block = hpack_codec.block(written)
    assert Decoder(4096, 192 << 10, library).decode(block) == written


@pytest.mark.parametrize(
    "block", [b"\x40\x05:path\x05/", b"\x40\x05:path", b"\x40", b"\x41\x7f\x10"]
)
def test_what_is_broken_the_library_says(block: bytes) -> None:
    hpack_codec._check_count(block, 2)
    with pytest.raises(HpackError, match="invalid header block"):
        Decoder(4096, 192 << 10).decode(hpack_codec.literal(b"x", b"y" * 9000) + block)


@given(block=QUIET | BLOCKS)
def test_fields_are_counted_as_they_are_decoded(block: bytes) -> None:
    """Never more than the library finds; size updates are counted beside them."""
    try:
        number = len(seeded("hpack").decode(block))
    except HpackError:
        return
    updates = len(block)  # at most
    hpack_codec._check_count(block, number + updates)
    if number > 1:
        with pytest.raises(HpackError, match="too many"):
            hpack_codec._check_count(block, number - 1)


@pytest.mark.parametrize("huffman", [False, True])
def test_fields_are_counted_without_decoding(huffman: bool) -> None:
    written = [(b":method", b"GET"), (b"x", b"y" * 500), (b"name", b"value"), (b"accept", b"")]
    encoder = hpack.Encoder()
    for _ in range(2):  # as literals, then from the table
        block = bytes(encoder.encode(written, huffman=huffman))
        assert not has_more_fields(block, 4)
        assert has_more_fields(block, 3)


def test_attack_a_field_may_be_one_byte() -> None:
    assert has_more_fields(b"\x82" * 60_000, 100)
    assert lines_run(lambda: has_more_fields(b"\x82" * 60_000, 100)) < 2000


@pytest.mark.parametrize(
    "block", [b"\x00", b"\x00\x05ab", b"\x00\x01a\xff\x01", b"\x40\x7f\x80\x01"]
)
def test_blocks_that_are_cut_are_the_decoders_to_refuse(block: bytes) -> None:
    assert not has_more_fields(block, 1)
    with pytest.raises(HpackError):
        Decoder(4096, 1 << 16).decode(block)


def test_attack_an_index_without_end_is_not_counted() -> None:
    with pytest.raises(HpackError):
        has_more_fields(b"\xff" + b"\x80" * 2000, 100)
