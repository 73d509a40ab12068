"""What runs beside the requests: every task of central and of the agent starts here.

There are three kinds. An endless task (`Background.forever`) that ends unasked ends the process:
what it kept up to date would be out of date for ever, and whoever supervises the process starts it
again. A periodic task (`Background.every`) survives its turns: a failed one is tried again soon,
and readiness names the task once its last success is too long ago. A short task
(`OwnedTasks.start`) serves one message, request or dial and ends with its owner.

No exception is silent, not even one of a callback that the event loop calls.
"""

import asyncio
import collections
import contextlib
import logging
import random
import time
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Final, Self

from mk8s_agent.wire.bulkhead import say

log = logging.getLogger(__name__)

FIRST_RETRY: Final = 1.0
LONGEST_RETRY: Final = 300.0
"""Seconds between tries of a turn that failed, where turns are further apart than that."""
GRACE: Final = 10.0
"""Seconds beyond two turns before a periodic task counts as overdue."""

Work = Coroutine[Any, Any, object]
Turn = Callable[[], Coroutine[Any, Any, object]]
Failed = Callable[[BaseException], object]


class Background:
    """All tasks of one process, in one task group.

    Args:
        monotonic: seconds that never jump.
        draw: random number between two, for the pauses.
    """

    def __init__(
        self,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        draw: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self.reason = ""
        """Why the process has to end although nobody asked; "" while it need not."""
        self.failures: collections.Counter[str] = collections.Counter()
        """Exceptions by the name of the task; those of callbacks are under "loop"."""
        self._monotonic = monotonic
        self._draw = draw
        self._ended: list[str] = []
        self._periodic: list[Periodic] = []
        self._asked = False
        self._end = asyncio.Event()
        self._closing = asyncio.Event()
        self._group: asyncio.TaskGroup | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._holder: asyncio.Task[None] | None = None
        self._handler_before: Any = None

    # -- life

    async def open(self) -> None:
        """Begin to take tasks, and to hear of exceptions in callbacks of the loop."""
        loop = asyncio.get_running_loop()
        self._handler_before = loop.get_exception_handler()
        loop.set_exception_handler(self._callback_failed)
        opened = asyncio.Event()
        # The group must be left by the task that entered it, and `open` and `close` may be called
        # by two.
        self._holder = loop.create_task(self._hold(opened), name="background")
        await opened.wait()

    async def _hold(self, opened: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as group:
            self._group = group
            opened.set()
            await self._closing.wait()
            self._group = None  # whatever would begin now is not begun
            for task in self._tasks:
                task.cancel()

    async def close(self) -> None:
        """Cancel all tasks and wait for their end; may be called before `open`, and twice."""
        self.ask_to_end()
        self._closing.set()
        holder, self._holder = self._holder, None
        if holder is not None:
            await holder
            asyncio.get_running_loop().set_exception_handler(self._handler_before)

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    # -- the end of the process

    def ask_to_end(self) -> None:
        """The process is to drain and end: endless tasks may end from now on."""
        self._asked = True
        self._end.set()

    @property
    def asked_to_end(self) -> bool:
        """Whether somebody has asked."""
        return self._asked

    async def until_end(self) -> str:
        """Wait until the process is to end; gives `reason`, "" when somebody asked for it."""
        await self._end.wait()
        return self.reason

    def unready(self) -> list[str]:
        """The names of endless tasks that have ended and of periodic ones that are overdue."""
        now = self._monotonic()
        overdue = [it.name for it in self._periodic if now - it.succeeded > it.overdue]
        return self._ended + overdue

    # -- endless tasks

    def forever(self, name: str, work: Work) -> None:
        """Run what must never end by itself; if it does, the process ends with the reason."""
        self._start(name, self._keep(name, work), work)

    async def _keep(self, name: str, work: Work) -> None:
        try:
            await work
            reason = "it returned"
        except asyncio.CancelledError:
            if asked_by_cancel():
                raise
            reason = "what it waited for was cancelled"
        except Exception as error:
            self.failures[name] += 1
            log.exception("task.failed", extra={"task": name})
            reason = say(error)
        if self._end.is_set():  # what still runs may end, too: the process drains
            return
        self._ended.append(name)
        self.reason = f"the task {name!r} ended: {reason}"
        log.critical("process.ending", extra={"task": name, "reason": reason})
        self._end.set()

    # -- periodic tasks

    def every(self, name: str, seconds: float, turn: Turn, *, overdue: float = 0.0) -> None:
        """Call `turn` again and again, the first time after `seconds`.

        Args:
            overdue: readiness names the task when the last success is so many seconds ago; by
                default two turns and some grace.
        """
        periodic = Periodic(name, seconds, overdue or 2 * seconds + GRACE, self._monotonic())
        self._periodic.append(periodic)
        self.forever(name, self._repeat(periodic, turn))

    async def _repeat(self, periodic: "Periodic", turn: Turn) -> None:
        while True:
            await asyncio.sleep(periodic.pause(self._draw))
            try:
                await turn()
            except asyncio.CancelledError as error:
                if asked_by_cancel():
                    raise
                self._turn_failed(periodic, error)
            except Exception as error:  # noqa: BLE001  logged there
                self._turn_failed(periodic, error)
            else:
                periodic.failed = 0
                periodic.succeeded = self._monotonic()

    def _turn_failed(self, periodic: "Periodic", error: BaseException) -> None:
        self.failures[periodic.name] += 1
        periodic.failed += 1
        extra = {
            "task": periodic.name,
            "reason": say(error),
            "in_a_row": periodic.failed,
            "failures": self.failures[periodic.name],
        }
        # The trace once; the same one each second would hide everything else.
        log.error("task.turn_failed", extra=extra, exc_info=error if periodic.failed == 1 else None)

    # -- short tasks

    def start(
        self,
        name: str,
        work: Work,
        *,
        failed: Failed | None = None,
        seconds: float | None = None,
        fields: dict[str, object] | None = None,
    ) -> asyncio.Task[None] | None:
        """Run something short; `OwnedTasks` is for those who start more than one.

        Args:
            failed: told of the exception after it was logged.
            seconds: the task has at most; what takes longer fails with `TimeoutError`.
            fields: for the log.

        Returns:
            The task, which never raises; None when the process ends, and nothing begins any more.
        """
        return self._start(name, self._once(name, work, failed, seconds, fields or {}), work)

    async def _once(
        self,
        name: str,
        work: Work,
        failed: Failed | None,
        seconds: float | None,
        fields: dict[str, object],
    ) -> None:
        try:
            async with asyncio.timeout(seconds):
                await work
        except asyncio.CancelledError as error:
            if asked_by_cancel():
                raise
            self._task_failed(name, error, failed, fields)
        except Exception as error:  # noqa: BLE001  logged there
            self._task_failed(name, error, failed, fields)

    def _task_failed(
        self, name: str, error: BaseException, failed: Failed | None, fields: dict[str, object]
    ) -> None:
        self.failures[name] += 1
        extra = {"task": name, "reason": say(error), "failures": self.failures[name]}
        log.error("task.failed", extra=fields | extra, exc_info=error)
        if failed is None:
            return
        try:
            failed(error)
        except Exception:
            log.exception("task.failed", extra={"task": name})

    def _start(
        self, name: str, guarded: Coroutine[Any, Any, None], work: Work
    ) -> asyncio.Task[None] | None:
        if self._group is None:
            guarded.close()
            work.close()
            return None
        task = self._group.create_task(guarded, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        # Cancelled before its first step it would never await the work, and the work never begin.
        task.add_done_callback(lambda _: _close(work))
        return task

    # -- callbacks

    def _callback_failed(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """The loop's exception handler: call_soon, call_later, add_reader, protocols."""
        self.failures["loop"] += 1
        error = context.get("exception")
        extra = {
            "what": context.get("message", ""),
            "reason": say(error) if error is not None else "",
            "failures": self.failures["loop"],
        }
        log.error("loop.callback_failed", extra=extra, exc_info=error)


class Periodic:
    """What is known of one periodic task; times are in seconds."""

    __slots__ = ("failed", "name", "overdue", "seconds", "succeeded")

    def __init__(self, name: str, seconds: float, overdue: float, now: float) -> None:
        self.name = name
        self.seconds = seconds
        self.overdue = overdue
        self.succeeded = now
        """When a turn succeeded last, at first when the task was made."""
        self.failed = 0
        """Turns that failed since then."""

    def pause(self, draw: Callable[[float, float], float]) -> float:
        """How long to wait for the next turn; after a failure longer and longer, up to a turn."""
        if not self.failed:
            return self.seconds
        ceiling = FIRST_RETRY * 2.0 ** min(self.failed - 1, 16)
        ceiling = min(ceiling, LONGEST_RETRY, self.seconds)
        return draw(ceiling / 2, ceiling)


class OwnedTasks:
    """The short tasks of one owner: a tunnel, an upstream, whatever ends before the process."""

    __slots__ = ("_background", "_tasks")

    def __init__(self, background: Background) -> None:
        self._background = background
        self._tasks: set[asyncio.Task[None]] = set()

    def start(
        self,
        name: str,
        work: Work,
        *,
        failed: Failed | None = None,
        seconds: float | None = None,
        fields: dict[str, object] | None = None,
    ) -> None:
        """Run something short; the arguments are those of `Background.start`."""
        task = self._background.start(name, work, failed=failed, seconds=seconds, fields=fields)
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def ended(self) -> None:
        """Wait until none is left."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def cancel(self) -> None:
        """The owner ends, and they with it."""
        for task in self._tasks:
            task.cancel()


def asked_by_cancel() -> bool:
    """Whether a `CancelledError` is meant for this task, and not for what it waits for."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


def _close(work: Work) -> None:
    """End what never began. One that has ended has nothing to close, and says so where compiled."""
    with contextlib.suppress(AttributeError):
        work.close()
