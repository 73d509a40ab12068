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
CONFIG = "k9s: {skipLatestRevCheck: true, splashless: true, ui: {headless: true, logoless: true}}\n"
COMPLAINT = re.compile(r"(?i)(forbidden|unauthorized|cannot connect)")
ESCAPE, INTERRUPT = "\x1b", "\x03"
Shown = Callable[[str], bool]


def shows(*names: str) -> Shown:
    """Whether all names are words of the screen."""
    return lambda text: all(re.search(rf"(?<![\w-]){name}(?![\w-])", text) for name in names)


def hides(name: str) -> Shown:
    """Whether a name is no word of the screen."""
    return lambda text: not shows(name)(text)


@dataclass(slots=True)
class K9sSession:
    """One run at one place."""

    binary: str
    place: Place
    namespace: str
    folder: Path

    def perform(self, key: str) -> list[Outcome]:
        """Start it in a terminal, do as a person does, leave."""
        if key == RESTART:
            self._restart.prepare(self.namespace)
        (self.folder / "config.yaml").write_text(CONFIG)
        resource = "configmaps" if key == RESTART else "pods"
        command = [self.binary, "-n", self.namespace, "-c", resource]
        environment = {**self.place.environment, "K9S_CONFIG_DIR": str(self.folder)}
        with Terminal(command, environment, self.folder) as terminal:
            try:
                found = OPERATIONS[key](self, terminal, Screen(terminal))
            finally:
                terminal.type(INTERRUPT)
                code = terminal.end()
        denied = COMPLAINT.search(terminal.seen)
        complaint = denied[0] if denied and key != RESTART else "none"
        return [Outcome(step, code, "seen", complaint) for step in found]

    @property
    def _restart(self) -> Restart:
        assert self.place.restart is not None
        return self.place.restart

    def start(self, _: Terminal, screen: Screen) -> list[str]:
        """The pods are shown."""
        see(screen, shows("web", "quiet", "Running"), "the pods")
        return ["pods"]

    def use(self, terminal: Terminal, screen: Screen) -> list[str]:
        """Description and logs of a pod."""
        see(screen, shows("web", "quiet"), "the pods")
        terminal.type("/quiet\r")
        see(screen, lambda text: hides("web")(text) and shows("quiet")(text), "the filtered pods")
        for key, page in (("d", r"Service Account:?"), ("l", "line 5")):
            terminal.type(key)
            see(screen, shows(page), page)
            terminal.type(ESCAPE)
            see(screen, shows("READY"), "the pods again")
        return ["filtered", "described", "logs"]

    def live_through(self, _: Terminal, screen: Screen) -> list[str]:
        """The view is true again after the agent's restart."""
        see(screen, shows(*START), "the objects of the start")
        self._restart.happen(self.namespace)
        see(screen, shows("stays", "changes", "comes", "last"), "what happened after the restart")
        see(screen, hides("goes"), "that an object is gone")
        return ["before", "after"]

    def close(self) -> None:
        """Nothing stays."""


def see(screen: Screen, shown: Shown, what: str) -> None:
    """Wait for something on the screen.

    Raises:
        RuntimeError: it is not there; two screens without it would prove nothing.
    """
    if not screen.wait_for(shown):
        raise RuntimeError(f"k9s does not show {what}: {screen.text}")


OPERATIONS: dict[str, Callable[[K9sSession, Terminal, Screen], list[str]]] = {
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
