"""A list or table, shortened item by item while it streams; pure. Called by `interceptor`.

The document may be cut anywhere, and may have its members in any order (typed lists begin with
`kind`, custom resources with `apiVersion` and have `items` before `metadata`). One item at a time
is held. Only the members that lists and tables have may pass: anything else could be an object in
disguise.
"""

from collections.abc import Callable
from typing import Final

import orjson

from mk8s_proxy.answers.filtering.json_values import (
    Unfilterable,
    ValueScanner,
    skip_space,
    unambiguous,
)
from mk8s_proxy.answers.filtering.large_objects import ObjectScanner
from mk8s_proxy.answers.filtering.objects import MAXIMUM_OBJECT, ObjectJudge

_LIST_METADATA: Final = frozenset({"selfLink", "resourceVersion", "continue", "shardInfo"})
"""What passes of metav1.ListMeta. `remainingItemCount` counts what the user may not see."""

_MEMBERS: Final = frozenset({"kind", "apiVersion", "metadata", "columnDefinitions"})
_ARRAYS: Final = frozenset({"items", "rows"})
_MAXIMUM_MEMBER: Final = 256 * 1024
"""Bytes of what is no item: metadata, and the columns of a table."""
_MAXIMUM_GAP: Final = 64 * 1024
"""Bytes of white space between two items."""

_OPEN, _CLOSE, _ARRAY, _ARRAY_END, _COMMA, _COLON, _QUOTE = b'{}[],:"'

Seal = Callable[[str], str]
_Step = Callable[[bytes, int], int]


class ListFilter:
    """Filters one list document.

    Args:
        judge: decides about each item.
        seal: makes the page token that the client gets of the API server's.
    """

    def __init__(self, judge: ObjectJudge, seal: Seal) -> None:
        self._judge = judge
        self._seal = seal
        self._scanner = ValueScanner(_MAXIMUM_MEMBER)
        self._items = ObjectScanner(MAXIMUM_OBJECT)
        self._step: _Step = self._document
        self._out: list[bytes] = []
        self._keys: set[str] = set()
        self._key = ""
        self._gap = b""
        self._kept = 0
        self._complete = False

    def feed(self, data: bytes, end: bool) -> bytes:
        """Reads on.

        Args:
            data: the next piece of the answer.
            end: whether it is the last one.

        Returns:
            What may be sent on.

        Raises:
            Unfilterable: the answer is cut short, or no list that can be judged.
        """
        position, size = 0, len(data)
        while position < size:
            position = self._step(data, position)
            if position < 0:
                break
        if end and not self._complete:
            raise Unfilterable("the list ends before its end")
        out = b"".join(self._out)
        self._out.clear()
        return out

    # -- steps: each takes bytes from a place and returns where the next one goes on, -1: nowhere

    def _document(self, data: bytes, position: int) -> int:
        position = self._pass_space(data, position)
        if position < len(data):
            position = self._pass_byte(data, position, _OPEN)
            self._step = self._first_key
        return position

    def _first_key(self, data: bytes, position: int) -> int:
        position = self._pass_space(data, position)
        if position < len(data):
            if data[position] == _CLOSE:
                return self._finish(data, position)
            self._step = self._read_key
        return position

    def _read_key(self, data: bytes, position: int) -> int:
        if not self._scanner.started:
            position = self._pass_space(data, position)
            if position == len(data):
                return -1
            if data[position] != _QUOTE:
                raise Unfilterable("no key where one must be")
        position = self._scanner.feed(data, position)
        if position >= 0:
            raw = self._scanner.take()
            self._key = str(unambiguous(raw))
            if self._key in self._keys:
                raise Unfilterable(f'"{self._key}" twice in the answer')
            self._keys.add(self._key)
            self._out.append(raw)
            self._step = self._colon
        return position

    def _colon(self, data: bytes, position: int) -> int:
        position = self._pass_space(data, position)
        if position < len(data):
            position = self._pass_byte(data, position, _COLON)
            self._step = self._value
        return position

    def _value(self, data: bytes, position: int) -> int:
        position = self._pass_space(data, position)
        if position == len(data):
            return position
        if self._key in _ARRAYS and data[position] == _ARRAY:
            self._kept = 0
            self._step = self._first_item
            return self._pass_byte(data, position, _ARRAY)
        if self._key not in _MEMBERS | _ARRAYS:
            raise Unfilterable(f'the answer is no list: it has "{self._key}"')
        self._step = self._read_value
        return position

    def _read_value(self, data: bytes, position: int) -> int:
        position = self._scanner.feed(data, position)
        if position >= 0:
            self._out.append(self._shown(self._scanner.take()))
            self._step = self._after_value
        return position

    def _after_value(self, data: bytes, position: int) -> int:
        position = self._pass_space(data, position)
        if position == len(data):
            return position
        if data[position] == _CLOSE:
            return self._finish(data, position)
        self._step = self._read_key
        return self._pass_byte(data, position, _COMMA)

    def _first_item(self, data: bytes, position: int) -> int:
        position = self._hold_space(data, position)
        if position == len(data):
            return position
        if data[position] == _ARRAY_END:
            return self._finish_array(data, position)
        return self._begin_item(data, position)

    def _next_item(self, data: bytes, position: int) -> int:
        position = self._hold_space(data, position)
        return position if position == len(data) else self._begin_item(data, position)

    def _begin_item(self, data: bytes, position: int) -> int:
        if data[position] != _OPEN:
            raise Unfilterable("an item that is no object")
        self._step = self._item
        return position

    def _item(self, data: bytes, position: int) -> int:
        position = self._items.feed(data, position)
        if position >= 0:
            item = self._items.take_object()
            kept = self._judge.item(item) if self._key == "items" else self._judge.row(item)
            if kept:
                # The comma of the gap stands before the first item only if others were dropped.
                self._out.append(self._gap if self._kept else self._gap.replace(b",", b""))
                self._out.append(kept)
                self._kept += 1
            self._gap = b""
            self._step = self._after_item
        return position

    def _after_item(self, data: bytes, position: int) -> int:
        position = self._hold_space(data, position)
        if position == len(data):
            return position
        if data[position] == _ARRAY_END:
            return self._finish_array(data, position)
        if data[position] != _COMMA:
            raise Unfilterable("no comma between two items")
        self._gap += b","
        self._step = self._next_item
        return position + 1

    def _finish_array(self, data: bytes, position: int) -> int:
        self._out.append(self._gap)
        self._gap = b""
        self._step = self._after_value
        return self._pass_byte(data, position, _ARRAY_END)

    def _finish(self, data: bytes, position: int) -> int:
        self._complete = True
        self._step = self._nothing
        return self._pass_byte(data, position, _CLOSE)

    def _nothing(self, data: bytes, position: int) -> int:
        position = self._pass_space(data, position)
        if position < len(data):
            raise Unfilterable("something follows the list")
        return position

    # -- parts of steps

    def _pass_space(self, data: bytes, position: int) -> int:
        end = skip_space(data, position)
        if end > position:
            self._out.append(data[position:end])
        return end

    def _pass_byte(self, data: bytes, position: int, byte: int) -> int:
        if data[position] != byte:
            raise Unfilterable(f"no {chr(byte)} where one must be")
        self._out.append(data[position : position + 1])
        return position + 1

    def _hold_space(self, data: bytes, position: int) -> int:
        """White space between items goes on only with the item behind it."""
        end = skip_space(data, position)
        self._gap += data[position:end]
        if len(self._gap) > _MAXIMUM_GAP:
            raise Unfilterable("nothing but white space where an item must be")
        return end

    def _shown(self, raw: bytes) -> bytes:
        """A member of the list itself as the client may see it."""
        value = unambiguous(raw)
        if self._key == "metadata":
            return self._shown_metadata(raw, value)
        if self._key == "columnDefinitions":
            fits = raw == b"null" or isinstance(value, list)
        elif self._key in _ARRAYS:
            fits = raw == b"null"
        else:
            fits = isinstance(value, str)
        if not fits:
            raise Unfilterable(f'the "{self._key}" of the answer is not of its kind')
        return raw

    def _shown_metadata(self, raw: bytes, value: object) -> bytes:
        if not isinstance(value, dict):
            raise Unfilterable('the "metadata" of the answer is no object')
        shown = {key: text for key, text in value.items() if key in _LIST_METADATA}
        fits = (
            _is_shard(text) if key == "shardInfo" else isinstance(text, str)
            for key, text in shown.items()
        )
        if not all(fits):
            raise Unfilterable('the "metadata" of the answer is not that of a list')
        token = shown.get("continue")
        if not token and len(shown) == len(value):
            return raw
        if token:
            shown["continue"] = self._seal(token)
        return orjson.dumps(shown)


def _is_shard(value: object) -> bool:
    """Whether this is metav1.ShardInfo: the client's own selector, given back."""
    if not isinstance(value, dict) or value.keys() != {"selector"}:
        return False
    return isinstance(value["selector"], str)
