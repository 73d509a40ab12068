"""A column of the table: a client that can open a session at a place and do operations in it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from tests.conformance.outcome import Outcome
from tests.conformance.place import Place


class Session(Protocol):
    """One run of the operations at one place."""

    def perform(self, key: str) -> list[Outcome]:
        """Do the operation of a row.

        Raises:
            Unavailable: this client or this API server cannot.
        """
        ...

    def close(self) -> None:
        """End whatever the session started."""
        ...


class Client(Protocol):
    """One kubectl, one library, one tool."""

    @property
    def name(self) -> str:
        """The column's title."""
        ...

    def keys(self) -> Mapping[str, str]:
        """Rows that the client knows; the value says why not, "" that it does."""
        ...

    def open(self, place: Place, namespace: str, folder: Path) -> Session:
        """Begin a session; `folder` is for its files."""
        ...
