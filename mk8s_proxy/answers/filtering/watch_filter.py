"""The events of a watch, let through or dropped one by one; pure. Called by `interceptor`.

Events are JSON objects behind each other, as metav1.WatchEvent. An event goes out as soon as it is
complete. A name never changes, so an object cannot enter or leave what a user sees but by a change
of the policy, which ends the stream.
"""

from typing import Any, Final

import orjson

from mk8s_proxy.answers.filtering.json_values import TooDeep, Unfilterable, skip_space
from mk8s_proxy.answers.filtering.large_objects import Document, ObjectScanner
from mk8s_proxy.answers.filtering.objects import MAXIMUM_OBJECT, ObjectJudge, identity, member

_CHANGES: Final = frozenset({"ADDED", "MODIFIED", "DELETED"})
_TABLE: Final = frozenset({"kind", "apiVersion", "metadata", "columnDefinitions", "rows"})
_TABLE_GROUP: Final = "meta.k8s.io/"
_OPEN: Final = b"{"[0]


class WatchFilter:
    """Filters one watch.

    Args:
        judge: decides about each object.
    """

    def __init__(self, judge: ObjectJudge) -> None:
        self._judge = judge
        self._scanner = ObjectScanner(MAXIMUM_OBJECT, rows=True)
        self._columns: Any = None
        """Column definitions come with the first event of a table only: they wait here while no
        event was let through."""

    def feed(self, data: bytes, end: bool) -> bytes:
        """Reads on; the arguments and errors are those of `ListFilter.feed`."""
        out: list[bytes] = []
        position, size = 0, len(data)
        while position < size:
            if not self._scanner.started:
                position = skip_space(data, position)
                if position == size:
                    break
                if data[position] != _OPEN:
                    raise Unfilterable("an event that is no object")
            position = self._scanner.feed(data, position)
            if position < 0:
                break
            if shown := self._event(self._scanner.take_object()):
                out += (shown, b"\n")
        if end and self._scanner.started:
            raise Unfilterable("the watch ends within an event")
        return b"".join(out)

    def _event(self, document: Document) -> bytes:
        try:
            return self._shown(document)
        except TooDeep:
            return b""

    def _shown(self, document: Document) -> bytes:
        raw, event = document.raw, document.outline()
        kind = event.get("type")
        if event.keys() != {"type", "object"} or not isinstance(event["object"], dict):
            raise Unfilterable("an event that is none")
        shown: dict[str, Any] = event["object"]
        if kind == "ERROR":
            if shown.get("kind") != "Status":
                raise Unfilterable("an error that is no Status")
            return raw
        if kind != "BOOKMARK" and kind not in _CHANGES:
            raise Unfilterable("an event of an unknown type")
        if _is_table(shown):
            return self._table(document, shown, kind)
        return raw if self._passes(shown, kind) else b""

    def _passes(self, document: dict[str, Any], kind: str) -> bool:
        """A bookmark is about no object; one that is gets judged as such."""
        if kind == "BOOKMARK" and identity(document) == ("", ""):
            return True
        return self._judge.sees(document)

    def _table(self, document: Document, table: dict[str, Any], kind: str) -> bytes:
        if not table.keys() <= _TABLE:
            raise Unfilterable("a table that is none")
        seen = [self._passes(member(row, "object"), kind) for row in _objects(table.get("rows"))]
        columns = table.get("columnDefinitions") or self._columns
        if not any(seen):
            self._columns = columns
            return b""
        added = bool(self._columns) and not table.get("columnDefinitions")
        if all(seen) and not added and not self._judge.strips_rows:
            self._columns = None
            return document.raw
        event = document.changeable()
        self._columns = None
        rows = [row for row, shown in zip(event["object"]["rows"], seen, strict=True) if shown]
        changed = {"columnDefinitions": columns, "rows": [*map(self._judge.shown_row, rows)]}
        return orjson.dumps(event | {"object": event["object"] | changed})


def _is_table(document: dict[str, Any]) -> bool:
    version = document.get("apiVersion")
    in_group = isinstance(version, str) and version.startswith(_TABLE_GROUP)
    return in_group and document.get("kind") == "Table"


def _objects(rows: Any) -> list[dict[str, Any]]:
    if rows is None:
        return []
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise Unfilterable("a table whose rows are none")
    return rows
