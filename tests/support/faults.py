"""Faults on purpose: one exception in one task, where it first waits, or in one call."""

import ast
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

from mk8s_agent.wire.background import Background
from tests.support.tasks import LooseBackground

CHECKOUT = Path(__file__).resolve().parent.parent.parent
PACKAGES = ("mk8s_proxy", "mk8s_agent")


class Fault(Exception):
    """Nobody expects it."""


class Interrupted:
    """Runs a coroutine and raises inside it where it first waits, or behind its end."""

    def __init__(self, work: Any) -> None:
        self.work = work

    def __await__(self) -> Generator[Any, Any, Any]:
        try:
            self.work.send(None)
        except StopIteration:
            raise Fault("on purpose") from None
        waits_for = self.work.throw(Fault("on purpose"))  # mostly this ends it
        while True:
            sent = yield waits_for
            try:
                waits_for = self.work.send(sent)
            except StopIteration as end:
                return end.value


async def interrupted(work: Any) -> Any:
    return await Interrupted(work)


class FaultyTasks:
    """A mix-in of `Background`: the first run of the task `faulty` fails; turns come quickly."""

    def __init__(self, faulty: str) -> None:
        super().__init__()
        self.faulty = faulty
        self.faults = 0
        self.turns: dict[str, int] = {}
        """Turns of periodic tasks that came to their end."""

    def _fail_once(self, name: str, work: Any) -> Any:
        if name != self.faulty or self.faults:
            return work
        self.faults += 1
        return interrupted(work)

    def forever(self, name: str, work: Any) -> None:
        made: Any = super()
        made.forever(name, work if name in self.turns else self._fail_once(name, work))

    def every(self, name: str, seconds: float, turn: Any, **options: Any) -> None:
        self.turns[name] = 0

        async def counted() -> None:
            await self._fail_once(name, turn())
            self.turns[name] += 1

        made: Any = super()
        made.every(name, min(seconds, 0.01), counted, **options)

    def start(self, name: str, work: Any, **options: Any) -> Any:
        made: Any = super()
        return made.start(name, self._fail_once(name, work), **options)


class FaultyBackground(FaultyTasks, Background):
    """Of a whole program."""


class FaultyLooseBackground(FaultyTasks, LooseBackground):
    """Of a part."""


class Once:
    """Calls through to a function, but raises the first time."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.calls = 0

    def __call__(self, *args: Any, **options: Any) -> Any:
        self.calls += 1
        if self.calls == 1:
            raise Fault("on purpose")
        return self.function(*args, **options)


# -- what there is


def calls_in_the_code() -> Iterator[ast.Call]:
    for package in PACKAGES:
        for path in (CHECKOUT / package).rglob("*.py"):
            tree = ast.parse(path.read_text())
            yield from (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def first_word(call: ast.Call) -> str:
    """The literal text that is a call's first argument; "" when it has none."""
    if call.args and isinstance(call.args[0], ast.Constant):
        return str(call.args[0].value)
    return ""


def tasks_of(*starters: str) -> set[str]:
    """The names of all tasks that the two programs start in one of these ways."""
    return {
        first_word(call)
        for call in calls_in_the_code()
        if isinstance(call.func, ast.Attribute) and call.func.attr in starters and first_word(call)
    }


def bulkheads() -> set[str]:
    """The names of all loops over things of many owners."""
    return {
        first_word(call)
        for call in calls_in_the_code()
        if isinstance(call.func, ast.Name) and call.func.id == "Bulkhead"
    }
