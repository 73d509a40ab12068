"""Fault isolation of loops over things that belong to different people: a bulkhead for each item.

A connection, a tunnel, an open stream or a row whose code raises costs itself only: it is given up,
loudly, and the loop goes on with the others, whose deadlines and rights are due just the same.
Both programs use it; the tests fail one item of each bulkhead in `BULKHEADS`.
"""

import logging
import sys
from collections.abc import Callable, Iterable
from typing import Final, TypeVar

log = logging.getLogger(__name__)

Item = TypeVar("Item")

BULKHEADS: Final[dict[str, "Bulkhead"]] = {}
"""All of this process, by name: what is imported has made its own."""


class Bulkhead:
    """One loop over items of many owners; made once, by the module of the loop.

    Args:
        name: of the loop, for the log; no other one has it.
    """

    __slots__ = ("failures", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.failures = 0
        """Items that were given up since the process began."""
        assert name not in BULKHEADS, name
        BULKHEADS[name] = self

    def each(
        self,
        items: Iterable[Item],
        do: Callable[[Item], object],
        give_up: Callable[[Item], object] | None = None,
    ) -> None:
        """Do it with each item, whatever happens to the ones before.

        Args:
            items: a snapshot, where `do` or `give_up` changes what it is taken from.
            do: may raise.
            give_up: ends an item whose `do` raised; without one it is only skipped.
        """
        for item in items:
            try:
                do(item)
            except Exception:  # noqa: BLE001  logged by `failed`
                self.failed(item, give_up)

    def failed(self, item: Item, give_up: Callable[[Item], object] | None = None) -> None:
        """To be called where an item's exception is handled: logs it and gives the item up.

        Never raises, so that hot loops can have their `try` in line.
        """
        self.failures += 1
        error = sys.exception()
        extra = {
            "loop": self.name,
            "item": type(item).__name__,
            "reason": say(error) if error is not None else "",
            "failures": self.failures,
        }
        log.error("item.failed", extra=extra, exc_info=error)
        if give_up is None:
            return
        try:
            give_up(item)
        except Exception:
            log.exception("item.not_given_up", extra=extra)


def say(error: BaseException) -> str:
    """An exception in one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
