"""Which object an item, a row or an event is about; pure. Called by the two filters."""

from collections.abc import Callable
from typing import Any, Final

import orjson

from mk8s_proxy.answers.filtering.json_values import TooDeep, Unfilterable
from mk8s_proxy.answers.filtering.large_objects import Document

Allows = Callable[[str, str], bool]
"""Whether the object of this namespace and name may be seen."""

MAXIMUM_OBJECT: Final = 16 * 1024 * 1024
"""Bytes of one object, row or event; etcd takes 1.5 MiB, aggregated APIs may have larger ones."""

_NOTHING: Final[dict[str, Any]] = {}


def identity(document: dict[str, Any]) -> tuple[str, str]:
    """Namespace and name by an object's metadata, each empty if it says none.

    Raises:
        Unfilterable: they are no strings.
    """
    metadata = member(document, "metadata")
    namespace, name = metadata.get("namespace"), metadata.get("name")
    if not isinstance(namespace, str | None) or not isinstance(name, str | None):
        raise Unfilterable("an object whose name is no text")
    return namespace or "", name or ""


def member(document: dict[str, Any], key: str) -> dict[str, Any]:
    """The object under a key, empty if it is missing or null.

    Raises:
        Unfilterable: it is something else.
    """
    value = document.get(key)
    if value is None:
        return _NOTHING
    if not isinstance(value, dict):
        raise Unfilterable(f'"{key}" is no object')
    return value


class ObjectJudge:
    """Judges items of a list and rows of a table.

    One that is nested too deep to be judged is not shown, and stands in nobody's way.

    Args:
        allows: the user's visibility.
        strip_rows: the client asked for rows without objects; they were only needed here.
    """

    __slots__ = ("_allows", "_strip_rows")

    def __init__(self, allows: Allows, *, strip_rows: bool = False) -> None:
        self._allows = allows
        self._strip_rows = strip_rows

    def item(self, document: Document) -> bytes:
        """The item as it was if it may be seen, else nothing."""
        try:
            return document.raw if self.sees(document.outline()) else b""
        except TooDeep:
            return b""

    def row(self, document: Document) -> bytes:
        """The row to send on, or nothing."""
        try:
            if not self.sees_row(document.outline()):
                return b""
            if not self._strip_rows:
                return document.raw
            return orjson.dumps(self.shown_row(document.whole()))
        except TooDeep:
            return b""

    def sees(self, document: dict[str, Any]) -> bool:
        """Whether an object may be seen; one without a name never."""
        namespace, name = identity(document)
        return bool(name) and self._allows(namespace, name)

    def sees_row(self, row: dict[str, Any]) -> bool:
        """Whether the object of a table's row may be seen."""
        return self.sees(member(row, "object"))

    @property
    def strips_rows(self) -> bool:
        """Whether rows lose their objects."""
        return self._strip_rows

    def shown_row(self, row: dict[str, Any]) -> dict[str, Any]:
        """The row as the client asked for it."""
        return row | {"object": None} if self._strip_rows else row
