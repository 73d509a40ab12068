"""k9s as a client of the runner: built from the Go module proxy, or MK8S_TEST_K9S."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.conformance import golang
from tests.conformance.outcome import Outcome
from tests.conformance.place import Place
from tests.conformance.restart import START, Restart
from tests.conformance.screen import Screen
from tests.conformance.terminal import Terminal

RESTART = "informer-restart"
LISTED = "MK8S_TEST_K9S"
VERSION = "v0.50.16"
COMPLAINT = re.compile(r"(?i)(forbidden|unauthorized|cannot connect)")
ESCAPE = "\x1b"


def shows(text: str, name: str) -> bool:
    """Whether a name is a word of the screen."""
    return re.search(rf"(?<![\w-]){name}(?![\w-])", text) is not None


def names(screen: Screen, *wanted: str) -> str:
    """Those of the wanted names that the screen shows once all are there, or after a while."""
    screen.wait_for(lambda text: all(shows(text, name) for name in wanted))
    return " ".join(name for name in wanted if shows(screen.text, name))


@dataclass(slots=True)
class K9sSession:
    """One run at one place."""

    binary: str
    place: Place
    namespace: str
    folder: Path

    def perform(self, key: str) -> list[Outcome]:
        """Start it in a terminal, do as a person does, leave."""
        resource = "configmaps" if key == RESTART else "pods"
        words = ["-n", self.namespace, "-c", resource, "--headless", "--logoless"]
        if key == RESTART:
            self._restart.prepare(self.namespace)
        terminal = Terminal([self.binary, *words], self.place.environment, self.folder)
        screen = Screen(terminal)
        try:
            found = OPERATIONS[key](self, terminal, screen)
        finally:
            terminal.type(":q\r")
            code = terminal.end()
        denied = COMPLAINT.search(terminal.seen)
        complaint = denied[0] if denied and key != RESTART else "none"
        return [Outcome(step, code, told, complaint) for step, told in found.items()]

    @property
    def _restart(self) -> Restart:
        assert self.place.restart is not None
        return self.place.restart

    def start(self, _: Terminal, screen: Screen) -> dict[str, str]:
        """The pods are shown."""
        return {"pods": names(screen, "web", "quiet")}

    def use(self, terminal: Terminal, screen: Screen) -> dict[str, str]:
        """Description, logs and the deletion of a pod."""
        found = {"pods": names(screen, "web", "quiet")}
        terminal.type("/quiet\r")
        found["filtered"] = str(screen.wait_for(lambda text: not shows(text, "web")))
        terminal.type("d")
        found["described"] = str(screen.wait_for(lambda text: "Service Account:" in text))
        terminal.type(ESCAPE)
        screen.wait_for(lambda text: "Service Account:" not in text)
        terminal.type("l")
        found["logs"] = str(screen.wait_for(lambda text: "line 5" in text))
        terminal.type(ESCAPE)
        screen.wait_for(lambda text: "line 5" not in text)
        return found

    def live_through(self, _: Terminal, screen: Screen) -> dict[str, str]:
        """The view is true again after the agent's restart."""
        found = {"before": names(screen, *START)}
        self._restart.happen(self.namespace)
        found["after"] = names(screen, "stays", "changes", "comes", "last")
        found["gone"] = str(screen.wait_for(lambda text: not shows(text, "goes")))
        return found

    def close(self) -> None:
        """Nothing stays."""


OPERATIONS: dict[str, Callable[[K9sSession, Terminal, Screen], dict[str, str]]] = {
    "k9s-start": K9sSession.start,
    "k9s-use": K9sSession.use,
    RESTART: K9sSession.live_through,
}


@dataclass(frozen=True, slots=True)
class K9sClient:
    """One binary."""

    binary: str
    name: str

    def keys(self) -> Mapping[str, str]:
        """Its rows."""
        return dict.fromkeys(OPERATIONS, "")

    def open(self, place: Place, namespace: str, folder: Path) -> K9sSession:
        """Begin at a place."""
        return K9sSession(self.binary, place, namespace, folder)


def client() -> K9sClient | str:
    """The client, or why there is none."""
    binary, problem = golang.program("github.com/derailed/k9s", VERSION, LISTED)
    return problem or K9sClient(binary, f"k9s {VERSION.removeprefix('v')}")
