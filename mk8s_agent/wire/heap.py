"""Keeps the memory of relayed pieces in the process, and returns what a crowd of them left."""

import ctypes
from typing import Final

from mk8s_agent.wire.limits import MIB

_KEPT: Final = 2 * MIB
"""Twice as much may stay unused at the end of the heap: what a few pieces need on their way."""


_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
"""Of mallopt, in glibc's malloc.h."""

_MUCH: Final = 32 * MIB
"""What is worth the look for unused pages."""


def keep_heap() -> None:
    """Once at the start: what glibc keeps, and what it gives back to the kernel (mallopt(3)).

    By default it returns the end of the heap beyond 128 KiB, and a piece of a body takes more: each
    one had its pages faulted in anew, at a tenth of an agent's CPU. And it raises both thresholds
    whenever a larger block is freed that it had mapped, up to 32 MiB: after one large object of a
    list, blocks of that size came from the heap, which then kept 80 MiB for ever. Told once, they
    stay: larger blocks are mapped each for itself. Other C libraries are not affected.
    """
    told = getattr(ctypes.CDLL(None), "mallopt", None)
    if told is not None:
        told(_M_MMAP_THRESHOLD, _KEPT)
        told(_M_TRIM_THRESHOLD, 2 * _KEPT)


def give_back() -> None:
    """Returns unused pages to the kernel, also those between others that are in use.

    glibc does that by itself at the end of the heap only. Other C libraries are not affected.
    It takes tens of milliseconds: not for the loop's thread.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(2 * _KEPT)


class HeapWatch:
    """Gives memory back when much has waited for slow readers and waits no more."""

    def __init__(self) -> None:
        self._most = 0

    def second(self, waiting: int) -> None:
        """Once a second, beside the loop: gives back what is worth it."""
        if self.is_worth_it(waiting):
            give_back()

    def is_worth_it(self, waiting: int) -> bool:
        """Whether it is, where `waiting` bytes are kept for slow readers now."""
        if waiting > self._most:
            self._most = waiting
        elif self._most >= _MUCH and waiting <= self._most >> 2:
            self._most = waiting
            return True
        return False
