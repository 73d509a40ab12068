"""What one client saw of one operation, and what a pair of such sightings amounts to.

Every module of the runner speaks in these values; `compare.py` turns two lists of outcomes into a
cell of the table.
"""

from dataclasses import dataclass, field
from enum import StrEnum


class Unavailable(Exception):
    """An operation that this client or this API server cannot do; the text is the reason."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One step of an operation, as its client told it."""

    step: str
    """What was done, for the difference's message."""
    code: int
    """Exit code of a program, HTTP status of a library's error, 0 for success."""
    output: str = ""
    errors: str = ""
    facts: tuple[str, ...] = ()
    """Requests that the client logged: method, path, status; in no order."""


class Verdict(StrEnum):
    SAME = "same"
    DIFFERS = "differs"
    UNAVAILABLE = "not available"


@dataclass(frozen=True, slots=True)
class Cell:
    """One operation with one client."""

    verdict: Verdict
    reason: str = ""
    """Why it is not available, or the first difference."""
    steps: int = 0
    """How many steps were compared."""
    seconds: float = 0.0


@dataclass(slots=True)
class Matrix:
    """All cells: by operation, then by client."""

    clients: list[str] = field(default_factory=list)
    cells: dict[str, dict[str, Cell]] = field(default_factory=dict)
    server: str = ""
    """The real API server's version, e.g. 1.37.2; "" without one."""
    left_out: dict[str, str] = field(default_factory=dict)
    """Why there is no column, in words, by its title."""

    def put(self, operation: str, client: str, cell: Cell) -> None:
        """Enter one cell; a client gets its column with its first one."""
        if client not in self.clients:
            self.clients.append(client)
        self.cells.setdefault(operation, {})[client] = cell

    def count(self, verdict: Verdict) -> int:
        """How many cells have this verdict."""
        return sum(cell.verdict is verdict for row in self.cells.values() for cell in row.values())
