"""How much work something is, in lines of Python run: the same on a busy machine as on an idle one.

A loop that is held for long is one that runs many lines in one go. Operations over whole buffers
count as one, as they should: they are a thousand times faster.
"""

import asyncio
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, Final

HELD_TOO_LONG: Final = 200_000
"""Lines of our own code in one turn of the loop: 20 ms at 100 ns each."""


def lines_run(work: Callable[[], object], *, in_modules: tuple[str, ...] = ("",)) -> int:
    """Lines of Python that `work` runs, everything that it calls included.

    Args:
        work: what to do.
        in_modules: with what the names of the modules begin whose lines count.
    """
    count = 0

    def count_line(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal count
        count += event == "line"
        return count_line

    def enter(frame: FrameType, event: str, argument: Any) -> Any:
        counts = str(frame.f_globals.get("__name__", "")).startswith(in_modules)
        return count_line if counts else None

    before = sys.gettrace()
    sys.settrace(enter)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


class LoopMonitor:
    """Watches asyncio's own loop: the longest that our code held it between `start` and `stop`."""

    def __init__(self) -> None:
        self.most = 0
        """Lines of mk8s that one callback ran."""
        self.by = ""
        """Which callback that was."""
        self._run: Any = asyncio.Handle._run

    def start(self) -> None:
        """Watches every callback from the next one on."""
        run, monitor = self._run, self

        def watched(handle: asyncio.Handle) -> None:
            lines = lines_run(lambda: run(handle), in_modules=("mk8s_",))
            if lines > monitor.most:
                monitor.most, monitor.by = lines, repr(handle)

        asyncio.Handle._run = watched  # type: ignore[method-assign,assignment]

    def stop(self) -> None:
        """Watches no longer."""
        asyncio.Handle._run = self._run  # type: ignore[method-assign]
