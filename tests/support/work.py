"""How much work something is, in lines of Python run: the same on a busy machine as on an idle one.

A loop that is held for long is one that runs many lines in one go. Operations over whole buffers
count as one, as they should: they are a thousand times faster.
"""

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any


def lines_run(work: Callable[[], object]) -> int:
    """Lines of Python that `work` runs, everything that it calls included."""
    count = 0

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count
