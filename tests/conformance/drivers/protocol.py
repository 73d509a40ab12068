"""The driver's side of `driver_client.py` for drivers in Python: noting steps, answering lines."""

import json
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any, TypeVar

Operation = TypeVar("Operation", bound=Callable[[Any], None])


class Missing(Exception):
    """The library or the server has no such thing; the text is the reason."""


class Notes:
    """The steps of one operation."""

    def __init__(self, failure: type[Exception] | tuple[type[Exception], ...]) -> None:
        self._failure = failure
        self.outcomes: list[dict[str, Any]] = []

    def note(self, step: str, output: object, code: int = 0, errors: str = "") -> None:
        """Note one step; anything but text is shown as JSON."""
        text = output if isinstance(output, str) else shown(output)
        self.outcomes.append({"step": step, "code": code, "output": text, "errors": errors})

    def call(self, step: str, function: Callable[..., Any], *words: Any, **named: Any) -> Any:
        """Call the library and note its answer, or its API error; the answer, None for an error."""
        try:
            answer = function(*words, **named)
        except self._failure as error:
            status, body = self.told(error)
            self.note(step, "", status or -1, body)
            return None
        self.note(step, answer)
        return answer

    @staticmethod
    def told(error: Exception) -> tuple[int, str]:
        """HTTP status and body of a library's error; libraries' notes override it."""
        return 0, str(error)


def shown(value: object) -> str:
    """Any answer as text with stable order."""
    return json.dumps(value, indent=1, sort_keys=True, default=str)


_real = sys.stdout


def restarted() -> None:
    """Tell that the informer is in step, and return when the agent has been away and is back."""
    print(json.dumps({"ready": True}), file=_real, flush=True)
    sys.stdin.readline()


def until(condition: Callable[[], bool], what: str, *, seconds: float = 60) -> None:
    """Return once the condition holds.

    Raises:
        RuntimeError: it never did; `what` says what was waited for.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"waited {seconds:.0f} s for {what}")
        time.sleep(0.05)


def registrar(
    operations: dict[str, Callable[[Any], None]],
) -> Callable[[str], Callable[[Operation], Operation]]:
    """A decorator that puts the operation of a row into the table that `serve` gets."""

    def operation(key: str) -> Callable[[Operation], Operation]:
        def register(function: Operation) -> Operation:
            operations[key] = function
            return function

        return register

    return operation


def serve(
    client: str, operations: dict[str, Callable[[Any], None]], notes: Callable[[], Notes]
) -> None:
    """Answer keys from standard input until its end."""
    sys.stdout = sys.stderr
    print(json.dumps({"client": client, "operations": list(operations)}), file=_real, flush=True)
    for line in sys.stdin:
        noted = notes()
        try:
            operations[line.strip()](noted)
            answer: dict[str, Any] = {"outcomes": noted.outcomes}
        except Missing as missing:
            answer = {"unavailable": str(missing)}
        except Exception as error:  # noqa: BLE001 - told to the runner, which judges
            traceback.print_exc()
            answer = {"broken": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=_real, flush=True)
