"""The runner's side of a driver: a restart happens when the informer is in step, not before."""

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.driver_client import RESTART, DriverClient
from tests.conformance.place import Place
from tests.conformance.terminal import Terminal
from tests.support.processes import private_environment

DRIVER = """
import json, sys
def say(value): print(json.dumps(value), flush=True)
say({"client": "double 1", "operations": ["watch", "informer-restart", "of another time"]})
for line in sys.stdin:
    if line.strip() == "informer-restart":
        if "early" in sys.argv:
            say({"broken": "no list"})
            continue
        say({"ready": True})
        said = sys.stdin.readline().strip()
        say({"outcomes": [{"step": said, "code": 0, "output": "known", "errors": ""}]})
    else:
        say({"unavailable": "it is old"})
"""


@dataclass
class Restarting:
    """What is done for a driver, in its order."""

    done: list[str] = field(default_factory=list)

    def prepare(self, namespace: str) -> None:
        self.done.append(f"prepare {namespace}")

    def happen(self, namespace: str) -> None:
        self.done.append(f"happen {namespace}")


def place_with(restart: Any, folder: Path) -> Place:
    return Place("double", folder / "none", private_environment(folder), restart=restart)


def client(*words: str) -> DriverClient:
    return DriverClient([sys.executable, "-c", DRIVER], last_words=words)


def test_a_driver_lives_through_a_restart(tmp_path: Path) -> None:
    restart = Restarting()
    driver = client().open(place_with(restart, tmp_path), "here", tmp_path)
    try:
        (outcome,) = driver.perform(RESTART)
    finally:
        driver.close()
    assert (outcome.step, outcome.output) == ("on", "known")
    assert restart.done == ["prepare here", "happen here"]


def test_nothing_is_restarted_for_an_informer_that_never_was(tmp_path: Path) -> None:
    restart = Restarting()
    driver = client("early").open(place_with(restart, tmp_path), "here", tmp_path)
    try:
        with pytest.raises(RuntimeError, match="no list"):
            driver.perform(RESTART)
    finally:
        driver.close()
    assert restart.done == ["prepare here"]


def test_a_driver_introduces_itself_with_rows_that_there_are() -> None:
    found = client().introduce()
    assert found.name == "double 1"
    assert [key for key, reason in found.keys().items() if not reason] == ["watch", RESTART]


def test_a_screen_is_what_is_seen_last(tmp_path: Path) -> None:
    pytest.importorskip("pyte", reason="install the extra `conformance`")
    from tests.conformance.screen import Screen  # noqa: PLC0415 - needs pyte

    words = ["sh", "-c", r"printf 'first\033[2J\033[Hsecond'; read _ < /dev/tty"]
    with Terminal(words, private_environment(tmp_path), tmp_path) as terminal:
        screen = Screen(terminal)
        assert screen.wait_for(lambda text: "second" in text)
        assert "first" in terminal.seen
        assert "first" not in screen.text
        terminal.type("\r")
        assert terminal.end() == 0


def test_a_program_ends_with_its_terminal(tmp_path: Path) -> None:
    words = ["sh", "-c", "echo $$; exec sleep 300"]
    with Terminal(words, private_environment(tmp_path), tmp_path) as terminal:
        assert terminal.wait_for(r"\d+\r\n")
    with pytest.raises(ProcessLookupError):
        os.kill(int(terminal.seen), 0)
