"""What shows of an encoded head before it is decoded: how much it is, and who sends it; pure.

Decoding costs 7 ns for each byte that comes out, a check of all of them as much again. A stranger
must not have that for the asking, so of a large head on a connection on which nobody was
authenticated the credential is read first, alone. Its place shows without decoding anything
(RFC 7541, 6): a client that is new here has said nothing yet that the head could refer to.
"""

from typing import Final, NamedTuple

from mk8s_agent.wire.hpack_codec import PREFIXES, Decoder, behind_string, read_rest
from mk8s_proxy.identity.token_claims import LONGEST_TOKEN_BYTES
from mk8s_proxy.listener.refusals import HeaderRefusal
from mk8s_proxy.listener.request_head import bearer

LARGE_HEAD: Final = 4096
"""Encoded bytes of a head from which on the credential is read first. kubectl's are about 1000."""
_CREDENTIAL_BYTES: Final = LONGEST_TOKEN_BYTES + 64
"""Of an encoded credential that is read: no character of a token has more than the 8 bits that it
has unencoded, so one that is longer is nobody's."""
_AUTHORIZATION: Final = 23
_PATHS: Final = (4, 5)
_NAMES: Final = (b"\x0dauthorization", b"\x89\x1d\xa9\x9c\xf6\x1b\xd8\xd2c\xd5")
"""The name, spelled out and Huffman coded."""
_FIELD: Final = b"\x0f\x08"
"""A literal without indexing whose name is Authorization."""


class Survey(NamedTuple):
    """What a walk over an encoded head found."""

    fields: int
    """How many there are, size updates included; no more than one too many are counted."""
    longest: int
    """Bytes of names and values, the target's apart, if every code in them is the shortest."""
    credential: bytes
    """The first Authorization, as it is encoded; empty where there is none to be seen."""


def survey(encoded: bytes, most: int) -> Survey:
    """Walks over a head, no further than one field more than `most`.

    Raises:
        HpackError: it cannot be a head.
    """
    position, number, longest, credential = 0, 0, 0, b""
    while position < len(encoded) and number <= most:
        number += 1
        first = encoded[position]
        position += 1
        index = first & PREFIXES[first]
        if index == PREFIXES[first]:
            index, position = read_rest(encoded, position, index)
        if first >= 0x80 or 0x20 <= first < 0x40:  # known as a whole, or the table's size
            continue
        name = b""
        if not index:
            start, position = position, behind_string(encoded, position)
            name = encoded[start:position]
        start, position = position, behind_string(encoded, position)
        if index not in _PATHS:
            longest += _longest(encoded, start, position) + len(name)
        if not credential and (index == _AUTHORIZATION or name in _NAMES):
            credential = encoded[start:position]
    return Survey(number, longest, credential)


def _longest(encoded: bytes, start: int, end: int) -> int:
    """How long a string may be that is encoded here: the shortest Huffman code has 5 bits."""
    coded = encoded[start : start + 1] >= b"\x80"
    return (end - start) * 8 // 5 if coded else end - start


def bearer_of(seen: Survey) -> bytes:
    """The bearer credential of a head, decoded alone; empty where none is to be seen.

    Raises:
        HeaderRefusal: BAD_AUTHORIZATION: it is no bearer credential.
        HpackError: it cannot be decoded, and so the head cannot.
    """
    if not seen.credential:
        return b""
    if len(seen.credential) > _CREDENTIAL_BYTES:
        raise HeaderRefusal("BAD_AUTHORIZATION")
    return bearer(Decoder(0, 2 * _CREDENTIAL_BYTES).decode(_FIELD + seen.credential)[0][1])
