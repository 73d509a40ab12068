"""Client libraries as clients of the runner: each in a program of its own, a driver.

The driver gets kubeconfig and namespace as arguments and prints one JSON line:
`{"client": "name version", "operations": [keys]}`. Then, for each key that it reads as a line, one
JSON line: `{"outcomes": [{"step", "code", "output", "errors"}]}`, or `{"unavailable": reason}`, or
`{"broken": what}`. In "informer-restart" it first says `{"ready": true}`, once its informer of the
ConfigMaps labelled app=lasting is in step, and gets a line when all has happened (`restart.py`). A
process of its own gives each place its own environment, and a library that hangs can be ended.
"""

import json
import select
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tests.conformance.operations import NO_OPERATION, TITLES
from tests.conformance.outcome import Outcome, Unavailable
from tests.conformance.place import Place

RESTART = "informer-restart"
SECONDS = 90
"""For one operation."""


class Driver:
    """One running driver."""

    def __init__(
        self,
        command: Sequence[str],
        place: Place,
        namespace: str,
        folder: Path,
        last_words: Sequence[str] = (),
    ) -> None:
        self.place = place
        self.namespace = namespace
        self._log = (folder / "driver.log").open("w+")
        self._process = subprocess.Popen(
            [*command, str(place.kubeconfig), namespace, *last_words],
            env=dict(place.environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            cwd=folder,
        )
        self.hello = self._answer()

    def perform(self, key: str) -> list[Outcome]:
        """Have one operation done.

        Raises:
            Unavailable: the library or the server cannot.
            RuntimeError: it broke, or took too long.
        """
        answer = self._live_through(key) if key == RESTART else self._ask(key)
        if "unavailable" in answer:
            raise Unavailable(answer["unavailable"])
        if "broken" in answer:
            raise RuntimeError(answer["broken"])
        return [Outcome(**outcome) for outcome in answer["outcomes"]]

    def _live_through(self, key: str) -> dict[str, Any]:
        restart = self.place.restart
        assert restart is not None
        restart.prepare(self.namespace)
        answer = self._ask(key)
        if not answer.get("ready"):
            return answer
        restart.happen(self.namespace)
        return self._ask("on")

    def _ask(self, line: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """End the driver."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._log):
            if stream is not None:
                stream.close()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], SECONDS)
        line = self._process.stdout.readline() if ready else b""
        if not line:
            self._log.seek(0)
            reason = "ended" if ready else f"took over {SECONDS} s"
            self._process.kill()
            raise RuntimeError(f"the driver {reason}: {self._log.read()[-600:]}")
        answer: dict[str, Any] = json.loads(line)
        return answer


@dataclass(slots=True)
class DriverClient:
    """A library, by the command of its driver."""

    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    last_words: Sequence[str] = ()
    """Arguments behind kubeconfig and namespace."""
    name: str = ""
    _keys: tuple[str, ...] = ()

    def introduce(self) -> "DriverClient":
        """Ask the driver for its name and rows.

        Raises:
            RuntimeError: it cannot start.
        """
        with tempfile.TemporaryDirectory() as folder:
            home = Path(folder)
            driver = self.open(Place("", home / "none", self.environment), "none", home)
            driver.close()
        self.name = driver.hello["client"]
        self._keys = tuple(driver.hello["operations"])
        return self

    def keys(self) -> Mapping[str, str]:
        """Rows that the driver knows."""
        known = {key: "" for key in self._keys if key in TITLES}
        return {**dict.fromkeys(TITLES, NO_OPERATION), **known}

    def open(self, place: Place, namespace: str, folder: Path) -> Driver:
        """Start the driver at a place."""
        environment = {**place.environment, **self.environment}
        at = replace(place, environment=environment)
        return Driver(self.command, at, namespace, folder, self.last_words)
