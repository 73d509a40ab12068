"""Client libraries as clients of the runner: each in a program of its own, a driver.

The driver gets kubeconfig and namespace as arguments and prints one JSON line:
`{"client": "name version", "operations": [keys]}`. Then, for each key that it reads as a line, one
JSON line: `{"outcomes": [{"step", "code", "output", "errors"}]}`, or `{"unavailable": reason}`, or
`{"broken": what}`. A process of its own gives each place its own environment, and a library that
hangs can be ended.
"""

import json
import select
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.conformance.operations import TITLES
from tests.conformance.outcome import Outcome, Unavailable
from tests.conformance.place import Place

SECONDS = 90
"""For one operation."""


class Driver:
    """One running driver."""

    def __init__(self, command: Sequence[str], place: Place, namespace: str, folder: Path) -> None:
        self.place = place
        self._log = (folder / "driver.log").open("w+")
        self._process = subprocess.Popen(
            [*command, str(place.kubeconfig), namespace],
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
        assert self._process.stdin is not None
        self._process.stdin.write(key.encode() + b"\n")
        self._process.stdin.flush()
        answer = self._answer()
        if "unavailable" in answer:
            raise Unavailable(answer["unavailable"])
        if "broken" in answer:
            raise RuntimeError(answer["broken"])
        return [Outcome(**outcome) for outcome in answer["outcomes"]]

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
        return {**dict.fromkeys(TITLES, "the library has no such operation"), **known}

    def open(self, place: Place, namespace: str, folder: Path) -> Driver:
        """Start the driver at a place."""
        environment = {**place.environment, **self.environment}
        at = Place(place.name, place.kubeconfig, environment, place.chosen)
        return Driver(self.command, at, namespace, folder)
