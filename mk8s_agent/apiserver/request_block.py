"""The head of a request, read from the bytes that came through the tunnel; no I/O.

Called by `mk8s_agent.tunnel.session` for every stream. Central writes what differs from request to
request first, and behind it what repeats: on whose behalf, and the client's headers. What the
second part becomes for the API server depends on nothing but its bytes, so it is kept under these
bytes; for the first part one regular expression is enough. Whatever does not look exactly like that
is decoded and read field by field, by `mk8s_agent.apiserver.request`, which alone decides what is
refused: here nothing is known that did not pass there.
"""

import re
from typing import Final

from mk8s_agent.apiserver.request import Carried, Request, read_request
from mk8s_agent.wire import headers, hpack_codec
from mk8s_agent.wire.memory import Memory
from mk8s_agent.wire.stream import Fields

_AUDIT_ID: Final = hpack_codec.literal(headers.AUDIT_ID, b"-" * 36)[:-36]
_LENGTH: Final = hpack_codec.literal(headers.LENGTH, b"")[:-1]
_OUR_AUDIT_ID: Final = hpack_codec.literal(b"audit-id", b"-" * 36)[:-36]
_OUR_LENGTH: Final = hpack_codec.literal(b"content-length", b"")[:-1]
_FIRST_PART: Final = re.compile(
    rb"(((?:[\x82\x83]|\x02\x03PUT|\x02\x04HEAD|\x02\x05PATCH|\x02\x06DELETE)\x87)"
    rb"\x04([\x01-\x7e]|\x7f[\x80-\xff]?[\x00-\x7f])"
    rb"((?:/(?![./])[!$&-.0-:<->@-\[\]-~\"]*+)++(?:\?[\x21-\x7e]*+)?+))"
    + re.escape(_AUDIT_ID)
    + rb"([\x21-\x7e]{36})(?:"
    + re.escape(_LENGTH)
    + rb"(([\x01-\x12])(0|[1-9][0-9]*+)))?+"
)
"""Method and scheme, path, audit id, length of the body. Strings of HPACK carry their size in
front; that it is the true one is checked apart. A path that must be looked at more closely is none
here (`request.read_request` does): with "%", a backslash, "#" or ";" in it, "/." or "//"."""
_SIZES: Final = {size: hpack_codec.integer(size, 7) for size in range(2048)}
"""Of the paths that are read here."""

_LONGEST_KEPT: Final = 4 * 1024
"""Of a second part. A field takes three bytes at least and counts 49 at most once it is decoded, so
whatever is recognised is well within the limit of a tunnel (`wire.limits.AGENT`)."""
_PIECES: Final = 160
"""What an entry's objects take beside their bytes."""
_KEPT: Final = 65536
_KEPT_BYTES: Final = 24 * 1024 * 1024
"""10,000 people with one kind of client each take about half of it."""


class RequestReader:
    """Reads heads, and remembers the parts that repeat.

    Args:
        prefix: of all paths of the API server.
        most_kept: bytes that all of what is remembered may take.
    """

    def __init__(self, prefix: bytes = b"", most_kept: int = _KEPT_BYTES) -> None:
        self._prefix = prefix
        self._carried: Memory[bytes, tuple[bytes, bytes]] = Memory(_KEPT, most_kept)
        # Takes the agent's part of a request from 17 to 8 us (compiled from 9 to 3.5).

    def recognise(self, block: bytes, end: bool) -> Request | None:
        """The request of a head whose parts are all known; None for any other, good or bad."""
        match = _FIRST_PART.match(block)
        if match is None:
            return None
        found = self._carried.find(block[match.end() :])
        head, method, size, path, audit_id, length, length_size, digits = match.groups()
        if found is None or _SIZES.get(len(path)) != size:
            return None
        carried, identity = found
        if self._prefix:
            head = method + hpack_codec.literal(b":path", self._prefix + path)
        if digits is None:
            block = head + _OUR_AUDIT_ID + audit_id + carried
            return Request(block, -1, b"", False, end, identity)
        if length_size[0] != len(digits) or (end and digits != b"0"):
            return None
        block = head + _OUR_AUDIT_ID + audit_id + _OUR_LENGTH + length + carried
        return Request(block, int(digits), b"", False, end, identity)

    def read(self, fields: Fields, end: bool) -> Request:
        """The request of a decoded head.

        Raises:
            RequestRefused: see `request.read_request`.
        """
        request, carried = read_request(fields, end, self._prefix)
        if carried.identity != headers.ANONYMOUS:  # what it is for has to be looked at each time
            self._learn(fields, carried)
        return request

    def _learn(self, fields: Fields, carried: Carried) -> None:
        """Keeps what a second part became, if that is how the head ended."""
        second_part = [(headers.IDENTITY, carried.identity), *carried.fields]
        if fields[-len(second_part) :] != second_part:
            return
        key = hpack_codec.literal(*second_part[0]) + carried.fields_block
        if len(key) <= _LONGEST_KEPT:
            size = len(key) + len(carried.block) + len(carried.identity) + _PIECES
            self._carried.keep(key, (carried.block, carried.identity), size)
