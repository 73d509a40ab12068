"""What was measured: figures by measure, target and name, one value for each round. Pure."""

from collections.abc import Mapping
from typing import Any

from tests.bench.relay.figures import Spread, ratios, spread

_LONGEST_NOTE = 500


class Results:
    """Collects samples and the reasons for missing ones."""

    def __init__(self) -> None:
        self.values: dict[str, dict[str, dict[str, list[float]]]] = {}
        self.notes: list[str] = []

    def add(self, measure: str, target: str, sample: Mapping[str, float]) -> None:
        """One round's figures of one target."""
        figures = self.values.setdefault(measure, {}).setdefault(target, {})
        for name, value in sample.items():
            figures.setdefault(name, []).append(value)

    def note(self, text: str) -> None:
        """Something the reader must know; told once, and shortened."""
        text = text if len(text) <= _LONGEST_NOTE else f"{text[:_LONGEST_NOTE]}..."
        if text not in self.notes:
            self.notes.append(text)

    def of(self, measure: str, target: str, name: str) -> list[float]:
        """The rounds of one figure; empty when it was not measured."""
        return self.values.get(measure, {}).get(target, {}).get(name, [])

    def spread(self, measure: str, target: str, name: str) -> Spread | None:
        """Median, least and greatest of one figure."""
        return spread(self.of(measure, target, name))

    def ratio(self, measure: str, ours: tuple[str, str], theirs: tuple[str, str]) -> Spread | None:
        """The ratio of two (target, figure) pairs."""
        return ratios(self.of(measure, *ours), self.of(measure, *theirs))

    def document(self) -> dict[str, Any]:
        """For JSON: every value of every round."""
        return {"values": self.values, "notes": self.notes}
