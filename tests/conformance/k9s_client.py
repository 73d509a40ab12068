"""k9s as a client of the runner, when its binary is present: MK8S_TEST_K9S or PATH."""

import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.conformance.outcome import Outcome
from tests.conformance.place import Place
from tests.conformance.terminal import Terminal

LISTED = "MK8S_TEST_K9S"


@dataclass(slots=True)
class K9sSession:
    """One run at one place."""

    binary: str
    place: Place
    namespace: str
    folder: Path

    def perform(self, key: str) -> list[Outcome]:
        """Start it in a terminal, look for the pods, leave."""
        words = [self.binary, "-n", self.namespace, "-c", "pods", "--headless", "--logoless"]
        terminal = Terminal(words, self.place.environment, self.folder)
        seen = [name for name in ("web", "quiet") if terminal.wait_for(rf"\b{name}\b")]
        terminal.type(":q\r")
        code = terminal.end()
        denied = re.search(r"(?i)(forbidden|unauthorized|cannot connect)", terminal.seen)
        said = f"pods {seen}, complaint {denied[0] if denied else 'none'}"
        return [Outcome(key, code, said)]

    def close(self) -> None:
        """Nothing stays."""


@dataclass(frozen=True, slots=True)
class K9sClient:
    """One binary."""

    binary: str
    name: str = "k9s"

    def keys(self) -> Mapping[str, str]:
        """Its rows."""
        return {"k9s-start": ""}

    def open(self, place: Place, namespace: str, folder: Path) -> K9sSession:
        """Begin at a place."""
        return K9sSession(self.binary, place, namespace, folder)


def client() -> K9sClient | str:
    """The client, or why there is none."""
    binary = os.environ.get(LISTED) or shutil.which("k9s")
    return K9sClient(binary) if binary else f"no k9s: set {LISTED}"
