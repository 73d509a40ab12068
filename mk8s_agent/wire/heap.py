"""Keeps the memory of relayed pieces in the process, instead of returning and fetching it."""

from typing import Final

from mk8s_agent.wire.limits import MIB

_KEPT: Final = 2 * MIB
"""Twice as much may stay unused at the end of the heap: what a few pieces need on their way."""


def keep_heap() -> None:
    """Once at the start: makes glibc keep what it would give back to the kernel.

    By default it returns the end of the heap beyond 128 KiB, and a piece of a body takes more: each
    one had its pages faulted in anew, at a tenth of an agent's CPU. glibc raises both of its
    thresholds when a block is freed that it had mapped (mallopt(3), M_MMAP_THRESHOLD); whether
    start-up happened to free a large one was chance. Other C libraries are not affected.
    """
    bytes(_KEPT)
