"""Where JSON values begin and end, in bytes that come in any pieces; pure.

Called by `list_filter` and `watch_filter`. A list may have hundreds of megabytes, and the objects
in it must reach the client as the bytes that the API server wrote; so only brackets outside
strings are counted here, chunk by chunk, with operations that run over whole chunks. One value at
a time is then parsed by `unambiguous`, which also proves that no other reader can read it
differently. Nothing recurses, and no byte is looked at again for each piece it came in.
"""

import json
import re
from itertools import accumulate
from operator import add
from typing import Any, Final

import orjson

_IN_STRING: Final = re.compile(rb'(?:[^"\\]++|\\.)*+("?)', re.DOTALL)
"""What follows within a string, and its end if that is there."""
_BRACKET: Final = re.compile(rb"[{}\[\]]")
_NO_SCALAR: Final = re.compile(rb"[^-+.0-9A-Za-z]|\Z")
_SPACE: Final = re.compile(rb"[ \t\r\n]*+")
_NO_STRUCTURE: Final = bytes(set(range(256)) - set(b'"{}[]'))
_QUOTE: Final = b'"'[0]
_MAXIMUM_SCALAR: Final = 1024
_KEPT_PATTERNS: Final = 4096
_KEPT_LENGTH: Final = 32
_LEAST_STEP: Final = 256

_ESCAPED_BY_GO: Final = (
    (b"\\u003c", b"<"), (b"\\u003e", b">"), (b"\\u0026", b"&"),
    (b"\\u2028", "\u2028".encode()), (b"\\u2029", "\u2029".encode()),
)  # fmt: skip
"""What Go's `encoding/json` writes as escapes and others do not."""


_TOO_DEEP: Final = ("depth limit", "Recursion limit")
"""How orjson's versions say that they do not go deeper."""


class Unfilterable(Exception):
    """The bytes are not the JSON that a filter can judge; nothing more of them may pass."""


class TooDeep(Unfilterable):
    """A value is nested so deep that it cannot be judged."""


def _depths(brackets: bytes) -> list[int]:
    """The depth before a run of brackets, which counts as 0, and after each of them."""
    return list(accumulate((1 if bracket in b"{[" else -1 for bracket in brackets), initial=0))


_OPENING_AS_1: Final = bytes.maketrans(b"{[}]", b"1100")
_OF_EIGHT: Final = [_depths(f"{bits:08b}".encode().translate(bytes.maketrans(b"10", b"[]")))
                    for bits in range(256)]  # fmt: skip
_CHANGE_OF_EIGHT: Final = [depths[-1] for depths in _OF_EIGHT]
_LOWEST_OF_EIGHT: Final = [min(depths) for depths in _OF_EIGHT]


def _lowest_of_many(brackets: bytes) -> int:
    """The lowest depth in a long run: eight brackets a step, or megabytes would stop the loop."""
    length = -(-len(brackets) // 8)
    bits = brackets.translate(_OPENING_AS_1).ljust(8 * length, b"1")  # these only lead up
    eights = int(bits, 2).to_bytes(length, "big")
    before = accumulate(map(_CHANGE_OF_EIGHT.__getitem__, eights), initial=0)
    lowest: int = min(map(add, before, map(_LOWEST_OF_EIGHT.__getitem__, eights)))
    return lowest


class _Depths(dict[bytes, int]):
    """How a run of brackets changes the depth: in the end, or (`lowest`) at its lowest."""

    def __init__(self, *, lowest: bool) -> None:
        self._lowest = lowest

    def __missing__(self, brackets: bytes) -> int:
        if len(brackets) >= _KEPT_LENGTH:
            if self._lowest:
                return _lowest_of_many(brackets)
            return 2 * (brackets.count(b"{") + brackets.count(b"[")) - len(brackets)
        steps = _depths(brackets)
        depth = min(steps) if self._lowest else steps[-1]
        if len(self) < _KEPT_PATTERNS:
            self[brackets] = depth
        return depth


_CHANGES: Final = _Depths(lowest=False)
_LOWEST: Final = _Depths(lowest=True)


class _Outline:
    """The brackets of one chunk that are outside strings.

    The chunk is cut at its quotes; every other piece is outside strings. A cursor walks over these
    pieces, whole ones at a time where it can, so nothing is walked over twice.

    Args:
        data: the chunk.
        position: where to begin, outside a string.
    """

    __slots__ = ("_before", "_brackets", "_data", "_depth", "_index", "_parts", "_place", "_start",
                 "end", "ends_escaped", "ends_in_string")  # fmt: skip

    def __init__(self, data: bytes, position: int) -> None:
        plain = data[position:]
        if b"\\" in plain:  # an escaped quote ends no string: blank it, keeping all places
            plain = plain.replace(b"\\\\", b"  ").replace(b'\\"', b"  ")
        parts = plain.split(b'"')
        self._data = data
        self.ends_in_string = len(parts) % 2 == 0
        self.ends_escaped = self.ends_in_string and plain.endswith(b"\\")
        self._parts = parts
        self._brackets = b'"'.join(parts[::2]).translate(None, _NO_STRUCTURE).split(b'"')
        self._before = list(accumulate(map(_CHANGES.__getitem__, self._brackets), initial=0))
        self.end = self._before[-1]
        # the cursor: the piece that it is in, where that begins, its own place and depth
        self._index = 0
        self._start = position
        self._place = position
        self._depth = 0

    def covers(self, data: bytes, position: int) -> bool:
        """Whether this is the outline of that chunk, and a place in it not yet passed."""
        return self._data is data and position >= self._place

    def level(self, position: int) -> int:
        """The depth just before a place outside strings, to which the cursor goes."""
        while position > self._start + len(self._parts[2 * self._index]):
            self._go_to(self._index + 1)
        passed = self._data[self._place : position].translate(None, _NO_STRUCTURE)
        self._depth += _CHANGES[passed]
        self._place = position
        return self._depth

    def back_at(self, level: int) -> int:
        """Where, behind the cursor, the depth falls to `level` by a closing bracket; -1: nowhere.

        The cursor goes there.
        """
        end = self._fall(level)
        brackets, before = self._brackets, self._before
        for index in range(self._index + 1, len(brackets)):
            if end >= 0:
                break
            if before[index] + _LOWEST[brackets[index]] <= level:
                self._go_to(index)
                end = self._fall(level)
        return end

    def _go_to(self, index: int) -> None:
        passed = self._parts[2 * self._index : 2 * index]
        self._start += sum(map(len, passed)) + len(passed)
        self._index = index
        self._place = self._start
        self._depth = self._before[index]

    def _fall(self, level: int) -> int:
        """`back_at` within the cursor's piece: in steps that grow until one holds the place."""
        piece, place, depth = self._parts[2 * self._index], self._place - self._start, self._depth
        if depth <= level:  # the value begins here, with its own bracket
            place, depth = place + 1, depth + 1
        width, seen = _LEAST_STEP, False
        while place < len(piece):
            brackets = piece[place : place + width].translate(None, _NO_STRUCTURE)
            if depth + _LOWEST[brackets] <= level:
                if width <= _LEAST_STEP:
                    return self._fall_within(place, depth, level)
                seen, width = True, width // 2
                continue
            depth += _CHANGES[brackets]
            place += width
            width = width if seen else 2 * width
        return -1

    def _fall_within(self, place: int, depth: int, level: int) -> int:
        """`_fall` where the place is known to be near."""
        brackets = _BRACKET.finditer(self._parts[2 * self._index], place)
        while depth > level:
            found = next(brackets)
            depth += 1 if found[0] in b"{[" else -1
        self._depth = depth
        self._place = self._start + found.end()
        return self._place


class ValueScanner:
    """Collects one JSON value after another, however their bytes are cut.

    Args:
        limit: bytes that a value may have.
    """

    __slots__ = ("_depth", "_escaped", "_in_string", "_limit", "_outline", "_parts", "_size")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._outline: _Outline | None = None
        self._start()

    def _start(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0
        self._depth = 0
        self._in_string = False
        self._escaped = False

    @property
    def started(self) -> bool:
        """Whether a value has begun and not ended."""
        return self._size > 0

    def feed(self, data: bytes, position: int) -> int:
        """Reads on; a value begins with its own first byte, not with white space.

        Returns:
            Where the value ends, -1 while it does not.

        Raises:
            Unfilterable: it is too long, or none begins here.
        """
        end = self._advance(data, position)
        part = data[position:] if end < 0 else data[position:end]
        self._size += len(part)
        if self._size > self._limit:
            raise Unfilterable(f"a value of more than {self._limit} bytes")
        self._parts.append(part)
        return end

    def take(self) -> bytes:
        """The value that has ended; the scanner is ready for the next one."""
        value = b"".join(self._parts)
        self._start()
        return value

    def _advance(self, data: bytes, position: int) -> int:
        if self._in_string:
            return self._string(data, position)
        if self._depth:
            return self._nest(data, position)
        if not self._size and data[position] == _QUOTE:
            self._in_string = True
            return self._string(data, position + 1)
        if not self._size and data[position] in b"{[":
            return self._nest(data, position)
        return self._scalar(data, position)

    def _string(self, data: bytes, position: int) -> int:
        if self._escaped and position < len(data):
            self._escaped = False
            position += 1
        found = _IN_STRING.match(data, position)
        assert found is not None  # the pattern matches the empty string
        if not found[1]:
            self._escaped = self._escaped or found.end() < len(data)
            return -1
        self._in_string = False
        return self._nest(data, found.end()) if self._depth else found.end()

    def _nest(self, data: bytes, position: int) -> int:
        outline = self._outline
        if outline is None or not outline.covers(data, position):
            outline = self._outline = _Outline(data, position)
        level = outline.level(position) - self._depth
        end = outline.back_at(level)
        if end < 0:
            self._depth = outline.end - level
            self._in_string = outline.ends_in_string
            self._escaped = outline.ends_escaped
            self._outline = None
        return end

    def _scalar(self, data: bytes, position: int) -> int:
        found = _NO_SCALAR.search(data, position)
        assert found is not None  # the pattern matches at the end
        end = found.start()
        if end == position and not self._size:
            raise Unfilterable("no JSON value where one must be")
        if self._size + end - position > _MAXIMUM_SCALAR:
            raise Unfilterable("a number that does not end")
        return end if end < len(data) else -1


def skip_space(data: bytes, position: int) -> int:
    """Where the next byte that is no white space stands, or the length of `data`."""
    found = _SPACE.match(data, position)
    assert found is not None  # the pattern matches the empty string
    return found.end()


def unambiguous(raw: bytes) -> Any:
    """The value that any reader reads from these bytes.

    Two readers could take different ones of two members with the same key. What a parser would
    write again in the same way has no such members; all else is looked at object by object.

    Raises:
        TooDeep: more than about a thousand levels.
        Unfilterable: it is no JSON, or an object has a key twice.
    """
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        if any(words in str(error) for words in _TOO_DEEP):
            raise TooDeep("an object that is nested too deep") from error
        raise Unfilterable("the answer is no JSON") from error
    if not _is_rewritten(raw, value):
        _look_for_twins(raw)
    return value


def _is_rewritten(raw: bytes, value: Any) -> bool:
    """Whether a parser's own writing of the value is the same, but for what Go escapes."""
    plain = raw
    if b"\\u" in raw:
        for escape, character in _ESCAPED_BY_GO:
            plain = plain.replace(escape, character)
    try:
        return orjson.dumps(value) == plain
    except orjson.JSONEncodeError:  # it writes 254 levels, but reads a thousand
        return False


def _look_for_twins(raw: bytes) -> None:
    try:
        json.loads(raw, object_pairs_hook=_no_twins, parse_int=str, parse_float=str)
    except RecursionError as error:
        raise TooDeep("an object that is nested too deep") from error


def _no_twins(pairs: list[tuple[str, Any]]) -> None:
    if len({key for key, _ in pairs}) != len(pairs):
        raise Unfilterable("an object with the same key twice")
