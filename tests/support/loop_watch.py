"""Watches every event loop of the tests: nothing of ours may hold one for longer than 20 ms.

What counts is the processor time that the loop's own thread spends in one callback, so a busy
machine is nobody's fault. Not counted are the callbacks of the tests themselves (their coroutines
do the work of clients and clusters), the garbage collector, callbacks that import something for the
first time, and code under a tracer of a test's own. How fast the machine is just then, with
coverage or without, is measured by a piece of product code where a callback took long.
"""

import asyncio
import functools
import gc
import statistics
import sys
import time
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any, Final

import pytest_asyncio

from mk8s_agent.wire import hpack_codec

LONGEST: Final = 0.020
"""Seconds of processor time."""
REFERENCE: Final = 0.0008
"""What `_reference` takes on an ordinary machine without coverage. A faster one is no stricter."""
_BLOCK: Final = hpack_codec.block([(b"x-%d" % number, b"value") for number in range(3000)])
_FIELDS: Final = hpack_codec.Decoder(0, 1 << 20).decode(_BLOCK)
_CHECKOUT: Final = Path(__file__).parent.parent.parent
_TESTS: Final = (str(_CHECKOUT / "tests"), str(Path(pytest_asyncio.__file__).parent))
"""Where the tests' own coroutines come from; fixtures are wrapped by the plugin."""
MARK: Final = "holds_loop"
"""Of a test where something of ours may hold the loop; its argument says why."""


class LoopWatch:
    """Measures callbacks from `start` to `stop`."""

    def __init__(self) -> None:
        self.held: list[str] = []
        """What held a loop for too long: who, and for how many milliseconds."""
        self._run: Any = None
        self._collecting = 0.0
        self._collected = 0.0

    def start(self) -> None:
        """Watches every callback from the next one on."""
        self._run = run = asyncio.Handle._run
        watch = self

        def watched(handle: asyncio.Handle) -> None:
            callback = handle._callback  # type: ignore[attr-defined]  # it is gone afterwards
            modules, collected, began = len(sys.modules), watch._collected, time.thread_time()
            run(handle)
            spent = time.thread_time() - began
            if spent > LONGEST and len(sys.modules) == modules and callback is not None:
                watch._judge(callback, spent - (watch._collected - collected))

        asyncio.Handle._run = watched  # type: ignore[method-assign,assignment]
        gc.callbacks.append(self._on_collection)

    def stop(self) -> None:
        """Watches no longer."""
        asyncio.Handle._run = self._run  # type: ignore[method-assign]
        gc.callbacks.remove(self._on_collection)

    def take(self) -> list[str]:
        """What was held since the last time."""
        held, self.held = self.held, []
        return held

    def _on_collection(self, phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            self._collecting = time.thread_time()
        else:
            self._collected += time.thread_time() - self._collecting

    def _judge(self, callback: Any, spent: float) -> None:
        if spent <= LONGEST or isinstance(sys.gettrace(), FunctionType):  # coverage's is none
            return
        owner, where = owner_of(callback)
        if not where or where.startswith(_TESTS):
            return
        scale = max(1.0, statistics.median(_reference() for _ in range(5)) / REFERENCE)
        if spent > LONGEST * scale:
            self.held.append(f"{owner}: {spent * 1000:.0f} ms (this machine: {scale:.1f} x)")


def owner_of(callback: Any) -> tuple[str, str]:
    """Who is called, and the file that they are written in; empty if nobody can tell."""
    while isinstance(callback, functools.partial):
        callback = callback.func
    bound = getattr(callback, "__self__", None)
    if isinstance(bound, asyncio.Task):
        coroutine: Any = bound.get_coro()
        code = getattr(coroutine, "cr_code", None) or getattr(coroutine, "gi_code", None)
        return f"task {coroutine.__qualname__}", _file(code)
    protocol = bound.get_protocol() if isinstance(bound, asyncio.Transport) else None
    if protocol is not None:
        kind = type(protocol)
        module = sys.modules.get(kind.__module__)
        return f"{kind.__qualname__} behind a transport", getattr(module, "__file__", "") or ""
    name = getattr(callback, "__qualname__", repr(callback))
    module = sys.modules.get(getattr(callback, "__module__", None) or "")
    return name, _file(getattr(callback, "__code__", None)) or getattr(module, "__file__", "") or ""


def _file(code: CodeType | None) -> str:
    return code.co_filename if code is not None else ""


def _reference() -> float:
    began = time.thread_time()
    hpack_codec.check_block(_BLOCK, _FIELDS)
    return time.thread_time() - began
