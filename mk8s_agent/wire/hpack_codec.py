"""The one door to HPACK (RFC 7541): decoding by a library, stateless encoding by hand.

Blocks on tunnels and towards API servers are stateless: no entry of a dynamic table is ever
referred to, so a block means the same on every connection, and encoding one is concatenation.

The decoder is jh2's (Rust). Its module is private, so it is pinned exactly and
imported here only; `hpack` (pure Python, ten times slower) takes over where it is missing.
"""

# compiled: every head that comes or leaves over HTTP/2

import importlib
import os
from collections.abc import Callable, Iterable
from typing import Any, Final

from mk8s_agent.wire.memory import Memory

Fields = list[tuple[bytes, bytes]]

_STATIC_NAMES: Final[dict[bytes, int]] = {
    b":authority": 1, b":method": 2, b":path": 4, b":scheme": 6, b":status": 8,
    b"accept-encoding": 16, b"accept": 19, b"allow": 22, b"authorization": 23,
    b"cache-control": 24, b"content-encoding": 26, b"content-length": 28, b"content-type": 31,
    b"date": 33, b"etag": 34, b"if-match": 39, b"if-modified-since": 40, b"if-none-match": 41,
    b"last-modified": 44, b"location": 46, b"retry-after": 53, b"server": 54, b"user-agent": 58,
    b"vary": 59, b"www-authenticate": 61,
}  # fmt: skip
"""Names that have an index of their own (RFC 7541, appendix A)."""

_WHOLE_FIELDS: Final[dict[tuple[bytes, bytes], bytes]] = {
    (b":method", b"GET"): b"\x82", (b":method", b"POST"): b"\x83",
    (b":scheme", b"http"): b"\x86", (b":scheme", b"https"): b"\x87",
    (b":status", b"200"): b"\x88", (b":status", b"204"): b"\x89", (b":status", b"206"): b"\x8a",
    (b":status", b"304"): b"\x8b", (b":status", b"400"): b"\x8c", (b":status", b"404"): b"\x8d",
    (b":status", b"500"): b"\x8e",
}  # fmt: skip

_FIELD_OVERHEAD: Final = 32
"""What a field counts beside its bytes (RFC 9113, 6.5.2); jh2 counts the bytes only."""

_LONGEST_INTEGER: Final = 5
"""Bytes behind its prefix that are read of an HPACK integer; a longer one is not understood."""

_UNCOUNTED_BYTES: Final = 8192
"""A block that is longer has its fields counted before the library reads it. A field may take one
byte, and the library builds all of them first: 190 ms of the loop for a block of 192 KiB."""

_MOST_UPDATES: Final = 2
"""The smallest size that the table had in between, and the one that it has now."""

_LONGEST_SHORT: Final = 126
_SIZES: Final = tuple([bytes((size,)) for size in range(_LONGEST_SHORT + 1)])
"""The length of a short value, as HPACK writes it."""

_KEPT_NAME_BYTES: Final = 64
"""Names are as long as their sender likes: only short ones are kept encoded."""

_names: Final[Memory[bytes, bytes]] = Memory(4096, 2 << 20)
"""Names, encoded. Buys 13 to 27 % of a request in central (compiled 4 to 8 %)."""


class HpackError(Exception):
    """A header block that cannot be decoded; the connection's HPACK state is lost with it."""


def integer(value: int, prefix_bits: int, first: int = 0) -> bytes:
    """An HPACK integer (RFC 7541, 5.1); `first` holds the bits before the prefix."""
    most = (1 << prefix_bits) - 1
    if value < most:
        return bytes((first | value,))
    out = bytearray((first | most,))
    value -= most
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


_PSEUDO_NAMES: Final = {
    name: integer(index, 4) for name, index in _STATIC_NAMES.items() if name.startswith(b":")
}


def literal(name: bytes, value: bytes) -> bytes:
    """One field as a literal without indexing (RFC 7541, 6.2.2), never Huffman coded."""
    size = len(value)
    encoded = _names.find(name) or _PSEUDO_NAMES.get(name) or _encode_name(name)
    if size <= _LONGEST_SHORT:
        return encoded + _SIZES[size] + value
    return encoded + integer(size, 7) + value


def _encode_name(name: bytes) -> bytes:
    """The part of a literal before its value, kept for the next one of this name."""
    index = _STATIC_NAMES.get(name)
    encoded = integer(index, 4) if index else b"\x00" + integer(len(name), 7) + name
    if len(name) <= _KEPT_NAME_BYTES and not name.startswith(b":"):  # they may be whole fields
        _names.keep(name, encoded, 2 * len(name) + 80)
    return encoded


def field(name: bytes, value: bytes) -> bytes:
    """One field in its shortest stateless form: an index where the static table has all of it."""
    return _WHOLE_FIELDS.get((name, value)) or literal(name, value)


def block(fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A stateless header block of `fields`, in order."""
    parts: list[bytes] = []
    for name, value in fields:
        encoded = _names.find(name)
        size = len(value)
        if encoded is None or size > _LONGEST_SHORT:
            parts.append(_WHOLE_FIELDS.get((name, value)) or literal(name, value))
        else:
            parts += (encoded, _SIZES[size], value)
    return b"".join(parts)


NO_TABLE, NEEDS_TABLE, CHANGES_TABLE = range(3)

_LAST_STATIC: Final = 61


_CODE_BITS: Final = bytes((
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
))  # fmt: skip
"""How many bits the Huffman code of each byte has (RFC 7541, appendix B)."""


PREFIXES: Final = bytes(
    0x7F if first & 0x80 else 0x3F if first & 0x40 else 0x1F if first & 0x20 else 0x0F
    for first in range(256)
)
"""The bits of a field's first byte that belong to its integer (RFC 7541, 6)."""

_USES: Final = bytes(
    CHANGES_TABLE
    if 0x20 <= first < 0x80
    else NEEDS_TABLE
    if first > 0x80 | _LAST_STATIC
    else NO_TABLE
    for first in range(256)
)
"""What a field does with the table, by its first byte: 0x20 sets its size, 0x40 adds to it."""


def check_block(encoded: bytes, fields: Fields) -> int:
    """Refuses what the decoding library lets pass, and says what a block does with the table.

    A size update stands before the first field or nowhere (RFC 7541, 4.2); a Huffman code is padded
    by ones, fewer than eight (5.2); an integer has an end that can be seen (5.1).

    Args:
        encoded: a block that was decoded.
        fields: what it was decoded to.

    Returns:
        NO_TABLE: the block means the same everywhere. NEEDS_TABLE: it refers to the dynamic table,
        so it means the same as long as that does not change. CHANGES_TABLE: the next block may
        mean something else.

    Raises:
        HpackError: it breaks one of these rules.
    """
    use, number, position = NO_TABLE, 0, 0
    coded: list[tuple[bytes, int, int]] = []
    while position < len(encoded):
        first = encoded[position]
        position += 1
        use |= _USES[first]
        if 0x80 <= first < 0xFF:  # most fields: known as a whole (6.1), and named by one byte
            number += 1
            continue
        index = first & PREFIXES[first]
        if index == PREFIXES[first]:
            index, position = read_rest(encoded, position, index)
            if index > _LAST_STATIC:
                use |= NEEDS_TABLE
        if 0x20 <= first < 0x40:  # the table's size (6.3)
            if number:
                raise HpackError("a size update behind a field")
            continue
        strings = () if first & 0x80 else fields[number][1 if index else 0 :]  # else 6.2
        number += 1
        for text in strings:
            mark = encoded[position]
            length, position = mark & 127, position + 1
            if length == 127:
                length, position = read_rest(encoded, position, 127)
            position += length
            if mark & 0x80:
                coded.append((text, length, encoded[position - 1]))
    _check_padding(coded)
    return min(use, CHANGES_TABLE)


def _check_padding(coded: list[tuple[bytes, int, int]]) -> None:
    """Refuses Huffman codes whose padding is not all ones (RFC 7541, 5.2).

    Args:
        coded: what strings were decoded to, how many bytes they have, and the last of these.
    """
    for text, length, last in coded:
        # 256 is 1 modulo 255, so this number is the sum of its bytes modulo 255: of all bits. The
        # library takes no padding of a byte or more, so the difference tells how long it is.
        bits = int.from_bytes(text.translate(_CODE_BITS), "big") % 255
        padding = (8 * length - bits) % 255
        ones = (1 << padding) - 1
        if padding > 7 or (padding and last & ones != ones):
            raise HpackError("Huffman padding that is not all ones")


def read_rest(encoded: bytes, position: int, value: int) -> tuple[int, int]:
    """An HPACK integer whose prefix is full of ones (RFC 7541, 5.1), and where it ends.

    Args:
        encoded: the block.
        position: behind the prefix.
        value: of the prefix: what is larger goes on in more bytes.
    """
    shift = 0
    for byte in encoded[position : position + _LONGEST_INTEGER]:
        position += 1
        value += (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, position
    raise HpackError("an integer that is too long")


def has_more_fields(encoded: bytes, most: int) -> bool:
    """Whether a block has more fields (and size updates) than `most`, having looked at no more.

    A byte is enough for a field that is known, and decoding gives each its objects. What is broken
    in it the library will say.
    """
    position, size = 0, len(encoded)
    for _ in range(most):
        if position >= size:
            return False
        first = encoded[position]
        position += 1
        prefix = PREFIXES[first]
        index = first & prefix
        if index == prefix:
            index, position = read_rest(encoded, position, prefix)
        if first < 0x80 and not 0x20 <= first < 0x40:
            if not index:
                position = behind_string(encoded, position)
            position = behind_string(encoded, position)
    return position < size


def _check_count(encoded: bytes, most: int) -> None:
    if has_more_fields(encoded, most):
        raise HpackError("too many header fields")


def _check_updates(encoded: bytes) -> None:
    """Refuses a block that begins with more than two size updates: there is no reason for more
    (RFC 7541, 4.2), and thousands of them cost more than the request behind them."""
    position, size = 0, len(encoded)
    for _ in range(_MOST_UPDATES):
        if position >= size or not 0x20 <= encoded[position] < 0x40:
            return
        value = encoded[position] & 0x1F
        position += 1
        if value == 0x1F:
            value, position = read_rest(encoded, position, value)
    if position < size and 0x20 <= encoded[position] < 0x40:
        raise HpackError("more than two size updates")


def behind_string(encoded: bytes, position: int) -> int:
    """Where a string ends that begins here; the end of the block where there is none."""
    if position >= len(encoded):
        return position
    length = encoded[position] & 127
    position += 1
    if length == 127:
        length, position = read_rest(encoded, position, 127)
    return position + length


class Decoder:
    """The receiving half of HPACK for one connection.

    Args:
        table_size: what we advertised as SETTINGS_HEADER_TABLE_SIZE; with 0 every block that
            refers to or makes a dynamic entry that later blocks need is an error.
        max_list: decoded bytes (names, values and 32 for each field) that end the connection.
    """

    __slots__ = ("_decode", "_most")

    def __init__(self, table_size: int, max_list: int, library: str = "") -> None:
        self._decode = _decoding(table_size, max_list, library)
        self._most = max_list // _FIELD_OVERHEAD

    def decode(self, encoded: bytes, counted: bool = False) -> Fields:
        """The fields of a block, in order.

        Args:
            encoded: the block.
            counted: somebody has seen that it has few fields.

        Raises:
            HpackError: anything that is not a valid block within the limits.
        """
        try:
            if encoded and 0x20 <= encoded[0] < 0x40:
                _check_updates(encoded)
            if not counted and len(encoded) > _UNCOUNTED_BYTES:
                _check_count(encoded, self._most)
            decoded = self._decode(encoded, True)
        except (HpackError, KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # jh2 panics on some hostile bytes: that is no Exception
            raise HpackError(f"invalid header block: {type(error).__name__}") from error
        if len(decoded) > self._most:
            raise HpackError("too many header fields")
        return [(name, value) for name, value, _never_indexed in decoded]


_Decode = Callable[[bytes, bool], list[tuple[bytes, bytes, bool]]]
"""Name, value and whether it is never indexed, of each field; the flag asks for bytes."""


def _decoding(table_size: int, max_list: int, library: str) -> _Decode:
    """A decode function of the named library ("jh2" or "hpack"), or of the best one there is."""
    if library != "hpack":
        try:
            return _jh2_decoding(table_size, max_list)
        except ImportError:
            if library:
                raise
    return _hpack_decoding(table_size, max_list)


def _jh2_decoding(table_size: int, max_list: int) -> _Decode:
    # It panics on a block that ends within a field. Where this is "1", the first panic writes a
    # backtrace: half a second of the loop for the symbols, by a stranger's few bytes.
    os.environ["RUST_BACKTRACE"] = "0"
    codec: Any = importlib.import_module("jh2._hazmat").Decoder(max_list)
    codec.max_allowed_table_size = table_size
    codec.decode(integer(table_size, 5, 0x20), True)  # its table shrinks by a size update only
    decode: _Decode = codec.decode
    return decode


def _hpack_decoding(table_size: int, max_list: int) -> _Decode:
    codec: Any = importlib.import_module("hpack").Decoder(max_list)
    codec.max_allowed_table_size = table_size
    codec.header_table_size = table_size
    decode = codec.decode

    def decode_block(encoded: bytes, raw: bool) -> list[tuple[bytes, bytes, bool]]:
        return [(bytes(name), bytes(value), False) for name, value in decode(encoded, raw=raw)]

    return decode_block
