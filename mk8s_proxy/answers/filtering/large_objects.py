"""Objects of megabytes, judged while they arrive; pure. Called by the two filters.

To parse one at its end would hold up everybody for a fifth of a second. So a large one is read in
segments between two commas. Each is put into the brackets that are open around it and parsed like a
small object, which proves all of it to be JSON; of what is read only the outline is kept, with the
members that say what the object is about. Two members with one key are found where they could
name it differently: in the outline. What is deeper is the object's own content.
"""

import secrets
from typing import Any, Final

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
        outline: what is kept of its members; None if nothing is.
    """

    __slots__ = ("bracket", "outline")

    def __init__(self, bracket: int, outline: dict[str, Any] | None) -> None:
        self.bracket = bracket
        self.outline = outline


class LargeObject:
    """Reads one object in pieces of any size."""

    __slots__ = ("_open", "_outline", "_parts", "_size", "_too_deep", "_wanted")

    def __init__(self) -> None:
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
            self._outline = _outlined(value, _OUTLINE_LEVELS)
            return
        for depth, container in enumerate(around, len(self._open) - len(around)):
            if container.outline is not None:
                _merge(container.outline, value, _OUTLINE_LEVELS - depth - 1)
            value = value.get(_KEY) if isinstance(value, dict) else value[0]

    def _open_more(self, value: Any, opened: list[int]) -> None:
        """Remembers the containers that a segment leaves open: each the last in the one before."""
        if not self._open and opened:
            self._open.append(_Open(opened[0], self._outline))
            opened = opened[1:]
        outline = self._open[-1].outline if self._open else None
        for bracket in opened:
            if isinstance(value, dict):
                key, value = next(reversed(value.items()))
                kept = outline.get(key) if outline is not None else None
                outline = kept if isinstance(kept, dict) else None
            else:
                value, outline = value[-1], None
            if len(self._open) >= _OUTLINE_LEVELS:
                outline = None
            self._open.append(_Open(bracket, outline))


class ObjectScanner(ValueScanner):
    """Collects one object after another, and reads the large ones while they arrive."""

    __slots__ = ("_large",)

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self._large: LargeObject | None = None

    def feed(self, data: bytes, position: int) -> int:
        """Reads on (see `ValueScanner.feed`)."""
        end = super().feed(data, position)
        large = self._large
        if large is not None:
            large.feed(self._parts[-1])
        elif self._size > LARGE:
            large = self._large = LargeObject()
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


def _outlined(value: dict[str, Any], levels: int) -> dict[str, Any]:
    outline: dict[str, Any] = {}
    _merge(outline, value, levels - 1)
    return outline


def _merge(outline: dict[str, Any], value: dict[str, Any], levels: int) -> None:
    """Adds members to what is kept of an object, and what is `levels` deeper."""
    for key, member in value.items():
        if key == _KEY:
            continue
        if key in outline:
            raise Unfilterable("an object with the same key twice")
        if isinstance(member, dict):
            outline[key] = _outlined(member, levels) if levels > 0 else {}
        else:
            outline[key] = [] if isinstance(member, list) else member
    if len(outline) > _OUTLINE_MEMBERS:
        raise TooDeep("an object with too many members")
