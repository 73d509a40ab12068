"""Objects of megabytes, judged while they arrive; pure. Called by the two filters.

To parse one at its end would hold up everybody for a fifth of a second. So a large one is read in
segments between two commas. Each is put into the brackets that are open around it and parsed like a
small object, which proves all of it to be JSON; of what is read only the outline is kept, with the
members that say what the object is about. Two members with one key are found where they could
name it differently: in the outline. What is deeper is the object's own content.

Of the event of a watch that is a table the outline has what its rows are about, too.
"""

import secrets
from typing import Any, Final

import orjson

from mk8s_proxy.answers.filtering.json_values import (
    TooDeep,
    Unfilterable,
    ValueScanner,
    unambiguous,
)

LARGE: Final = 128 * 1024
"""Bytes from which on an object is read in segments."""
SEGMENT: Final = 64 * 1024
_OUTLINE_LEVELS: Final = 3
"""The deepest that matters is the metadata of the object of an event, or of a row."""
_OUTLINE_MEMBERS: Final = 10_000
_ROWS: Final = "rows"
_COLUMNS: Final = "columnDefinitions"
_MOST_ROWS: Final = 1000
"""Of a table that is one event of a watch; API servers send one row in each."""
_REWRITTEN: Final = 1024 * 1024
"""Bytes of a large object up to which it can be changed: parsing them takes 15 ms at worst."""
_MOST_LEVELS: Final = 512
_PAIRED_LEVELS: Final = 64
_MOST_LEFT: Final = 4096
_BRACKETS: Final = bytes(set(range(256)) - set(b"{}[]"))
_CLOSING: Final = {b"{"[0]: b"}"[0], b"["[0]: b"]"[0]}
_SPACE: Final = b" \t\r\n"
_BEGINS: Final = (b"{", b"[")
_ENDS: Final = (b"}", b"]")

_KEY: Final = secrets.token_hex(16)
"""Under which a container stands in the one around it while a segment is parsed: no other key."""


class _Open:
    """A container that has begun and not ended.

    Args:
        bracket: with which it began.
        outline: what is kept of its members, or of the rows that it is; None if nothing is.
        levels: how much deeper that goes.
        rows: whether it may have rows that are outlined.
    """

    __slots__ = ("bracket", "levels", "outline", "rows")

    def __init__(
        self, bracket: int, outline: dict[str, Any] | list[Any] | None, levels: int, *, rows: bool
    ) -> None:
        self.bracket = bracket
        self.outline = outline
        self.levels = levels
        self.rows = rows


class LargeObject:
    """Reads one object in pieces of any size.

    Args:
        rows: it may be an event about a table.
    """

    __slots__ = ("_open", "_outline", "_parts", "_rows", "_size", "_too_deep", "_wanted")

    def __init__(self, *, rows: bool = False) -> None:
        self._rows = rows
        self._open: list[_Open] = []
        self._outline: dict[str, Any] | None = None
        self._parts: list[bytes] = []
        self._size = 0
        self._wanted = SEGMENT
        self._too_deep = False

    def feed(self, data: bytes) -> None:
        """Reads on.

        Raises:
            Unfilterable: it is no JSON, or says twice what it is about.
        """
        if self._too_deep:
            return
        self._parts.append(data)
        self._size += len(data)
        if self._size < self._wanted:
            return
        text = b"".join(self._parts)
        cut = _last_comma(text)
        if cut < 0:  # a long string
            self._parts = [text]
            self._wanted = 2 * self._size
            return
        self._read(text[:cut])
        self._parts = [text[cut + 1 :]]
        self._size = len(text) - cut - 1
        self._wanted = self._size + SEGMENT

    def finish(self) -> dict[str, Any]:
        """The object has ended: its outline, where lists are empty and deeper objects, too.

        Raises:
            TooDeep: it cannot be judged.
            Unfilterable: as by `feed`.
        """
        if not self._too_deep:
            self._read(b"".join(self._parts))
        if self._too_deep:
            raise TooDeep("an object that is nested too deep")
        if self._open or self._outline is None:
            raise Unfilterable("the answer is no JSON")
        return self._outline

    def _read(self, segment: bytes) -> None:
        try:
            self._judge(segment)
        except TooDeep:
            self._too_deep = True
            self._parts = []

    def _judge(self, segment: bytes) -> None:
        """Reads what stands between two commas, or before the first, or behind the last one."""
        closed, opened = _brackets_of(segment)
        bare = segment.strip(_SPACE)
        behind_comma = self._outline is not None
        if not bare or bare.endswith(_BEGINS) or (behind_comma and bare.startswith(_ENDS)):
            raise Unfilterable("the answer is no JSON")  # a comma with nothing on one side
        left = len(self._open) - closed
        if left < 0 or len(self._open) + len(opened) > _MOST_LEVELS:
            raise (Unfilterable if left < 0 else TooDeep)("an object that cannot be judged")
        around = self._open[max(left - 1, 0) :]
        value = unambiguous(_document(around, segment, closed, opened))
        self._take(value, around)
        del self._open[left:]
        self._open_more(value, opened)

    def _take(self, value: Any, around: list[_Open]) -> None:
        """Adds to the outline what a segment says: `value` is that of the outermost around it."""
        if self._outline is None:
            if not isinstance(value, dict):
                raise Unfilterable("an item that is no object")
            self._outline = _outlined(value, _OUTLINE_LEVELS, rows=self._rows)
            return
        innermost = len(around) - 1
        for place, container in enumerate(around):
            outline = container.outline
            if isinstance(outline, dict):
                _merge(outline, value, container.levels, rows=container.rows)
            elif outline is not None:
                outline += _outlined_rows(value if place == innermost else value[1:])
                _check_rows(outline)
            value = value.get(_KEY) if isinstance(value, dict) else value[0]

    def _open_more(self, value: Any, opened: list[int]) -> None:
        """Remembers the containers that a segment leaves open: each the last in the one before."""
        if not self._open and opened:
            self._open.append(_Open(opened[0], self._outline, _OUTLINE_LEVELS - 1, rows=self._rows))
            opened = opened[1:]
        for bracket in opened:
            if isinstance(value, dict):
                key, value = next(reversed(value.items()))
                self._open.append(_member_of(self._open[-1], key, bracket))
            else:
                value = value[-1]
                self._open.append(_row_of(self._open[-1], bracket))


def _member_of(container: _Open, key: str, bracket: int) -> _Open:
    """What is left open under a key of an object."""
    outline, levels = container.outline, container.levels - 1
    kept = outline.get(key) if isinstance(outline, dict) else None
    if isinstance(kept, dict) and levels >= 0:
        return _Open(bracket, kept, levels, rows=container.rows)
    if isinstance(kept, list) and isinstance(outline, dict):
        if _has_rows(container.levels, container.rows, key):
            return _Open(bracket, kept, _OUTLINE_LEVELS - 1, rows=False)
        outline[key] = []  # not all of it is here
    return _Open(bracket, None, 0, rows=False)


def _row_of(container: _Open, bracket: int) -> _Open:
    """What is left open as the last element of a list."""
    outline = container.outline
    last = outline[-1] if isinstance(outline, list) and outline else None
    return _Open(bracket, last if isinstance(last, dict) else None, container.levels, rows=False)


class ObjectScanner(ValueScanner):
    """Collects one object after another, and reads the large ones while they arrive.

    Args:
        limit: bytes of one.
        rows: they may be events about tables.
    """

    __slots__ = ("_large", "_rows")

    def __init__(self, limit: int, *, rows: bool = False) -> None:
        super().__init__(limit)
        self._rows = rows
        self._large: LargeObject | None = None

    def feed(self, data: bytes, position: int) -> int:
        """Reads on (see `ValueScanner.feed`)."""
        end = super().feed(data, position)
        large = self._large
        if large is not None:
            large.feed(self._parts[-1])
        elif self._size > LARGE:
            large = self._large = LargeObject(rows=self._rows)
            for part in self._parts:
                large.feed(part)
        return end

    def take_object(self) -> "Document":
        """The object that has ended; the scanner is ready for the next one."""
        large, self._large = self._large, None
        return Document(self.take(), large)


class Document:
    """An object as it came.

    Args:
        raw: all of it.
        large: what has been read of a large one.
    """

    __slots__ = ("_large", "_outline", "raw")

    def __init__(self, raw: bytes, large: LargeObject | None = None) -> None:
        self.raw = raw
        self._large = large
        self._outline: Any = None

    def outline(self) -> dict[str, Any]:
        """What it is about: all of a small one.

        Raises:
            TooDeep, Unfilterable: it cannot be judged.
        """
        if self._outline is None:
            self._outline = self.whole() if self._large is None else self._large.finish()
        outline: dict[str, Any] = self._outline
        return outline

    def whole(self) -> Any:
        """All of it; takes long for a large one.

        Raises:
            TooDeep, Unfilterable: it cannot be judged.
        """
        return unambiguous(self.raw)

    def changeable(self) -> Any:
        """All of one whose outline is known, to be written anew; nothing is twice in that.

        Raises:
            TooDeep: it is so large that it would hold up others.
        """
        if self._large is None:
            return self.outline()
        if len(self.raw) > _REWRITTEN:
            raise TooDeep("an object that is too large to be changed")
        return orjson.loads(self.raw)


def _last_comma(text: bytes) -> int:
    """Where the last comma outside strings stands in a text that begins outside them; or -1."""
    plain = text
    if b"\\" in plain:  # an escaped quote ends no string: blank it, keeping all places
        plain = plain.replace(b"\\\\", b"  ").replace(b'\\"', b"  ")
    end = len(plain)
    parts = plain.split(b'"')
    for index in range(len(parts) - 1, -1, -1):
        begin = end - len(parts[index])
        found = -1 if index % 2 else plain.rfind(b",", begin, end)
        if found >= 0:
            return found
        end = begin - 1
    return -1


def _brackets_of(segment: bytes) -> tuple[int, list[int]]:
    """How many containers around a segment it closes, and with what it opens those it leaves open.

    Raises:
        TooDeep: more than can be looked at.
        Unfilterable: a bracket is closed by another one.
    """
    plain = segment
    if b"\\" in plain:
        plain = plain.replace(b"\\\\", b"  ").replace(b'\\"', b"  ")
    brackets, before = b"".join(plain.split(b'"')[::2]).translate(None, _BRACKETS), -1
    for _ in range(_PAIRED_LEVELS):  # what opens and closes within it, from the inside out
        if len(brackets) == before:
            break
        before = len(brackets)
        brackets = brackets.replace(b"{}", b"").replace(b"[]", b"")
    if len(brackets) > _MOST_LEFT:
        raise TooDeep("an object that is nested too deep")
    closed = 0
    opened: list[int] = []
    for bracket in brackets:
        if bracket in _CLOSING:
            opened.append(bracket)
        elif not opened:
            closed += 1
        elif _CLOSING[opened.pop()] != bracket:
            raise Unfilterable("the answer is no JSON")
    return closed, opened


def _document(around: list[_Open], segment: bytes, closed: int, opened: list[int]) -> bytes:
    """A segment as JSON of its own, within the containers that it is in."""
    before = []
    for number, container in enumerate(around):
        if number and around[number - 1].bracket == b"{"[0]:
            before.append(b'"%b":' % _KEY.encode())
        before.append(bytes((container.bracket,)))
    left = [one.bracket for one in around[: len(around) - closed]] + opened
    return b"".join((*before, segment, bytes(_CLOSING[one] for one in reversed(left))))


def _outlined(value: dict[str, Any], levels: int, *, rows: bool) -> dict[str, Any]:
    outline: dict[str, Any] = {}
    _merge(outline, value, levels - 1, rows=rows)
    return outline


def _outlined_rows(rows: list[Any]) -> list[Any]:
    """What rows are about; what is no object is none."""
    return [
        _outlined(row, _OUTLINE_LEVELS, rows=False) if isinstance(row, dict) else None
        for row in rows
    ]


def _has_rows(levels: int, rows: bool, key: str) -> bool:
    """Whether a list is the rows of an event's table: what is in the event's object."""
    return rows and levels == _OUTLINE_LEVELS - 2 and key == _ROWS


def _check_rows(outline: list[Any]) -> None:
    if len(outline) > _MOST_ROWS:
        raise TooDeep("an event with too many rows")


def _merge(outline: dict[str, Any], value: dict[str, Any], levels: int, *, rows: bool) -> None:
    """Adds members to what is kept of an object, and what is `levels` deeper."""
    for key, member in value.items():
        if key == _KEY:
            continue
        if key in outline:
            raise Unfilterable("an object with the same key twice")
        if isinstance(member, dict):
            outline[key] = _outlined(member, levels, rows=rows) if levels > 0 else {}
        elif not isinstance(member, list):
            outline[key] = member
        elif _has_rows(levels, rows, key):
            _check_rows(member)
            outline[key] = _outlined_rows(member)
        else:
            outline[key] = member if rows and key == _COLUMNS else []
    if len(outline) > _OUTLINE_MEMBERS:
        raise TooDeep("an object with too many members")
