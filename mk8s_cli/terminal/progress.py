"""A line for whoever waits: shown on a terminal after one second, silent in scripts.

Called around the calls to central that may take long.
"""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

AFTER_SECONDS = 1.0


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Say `what` on stderr if the block is still running after a second; wipe it at the end."""
    if not sys.stderr.isatty():
        yield
        return
    shown = threading.Event()

    def show() -> None:
        shown.set()
        sys.stderr.write(f"{what} ...")
        sys.stderr.flush()

    timer = threading.Timer(AFTER_SECONDS, show)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        if shown.is_set():
            sys.stderr.write("\r\x1b[2K")
            sys.stderr.flush()
