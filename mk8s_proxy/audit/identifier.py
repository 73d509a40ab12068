"""Audit ids: UUIDv7 (RFC 9562, 5.7), in order of creation within a process.

Made by the corridor and the management API, one per request; sent on as Audit-ID so that the API
server's own audit log can be joined with ours.
"""

import os
import time
from collections.abc import Callable
from typing import Final

_RANDOM_BITS: Final = (
    74  # rand_a (12) and rand_b (62), used as one counter: RFC 9562, 6.2, method 2
)
_LOW_BITS: Final = 62
_LOW_MASK: Final = (1 << _LOW_BITS) - 1
_VERSION: Final = 0x7 << 76
_VARIANT: Final = 0b10 << 62
_NANOSECONDS_PER_MILLISECOND: Final = 1_000_000


class AuditIds:
    """Makes ids that only grow. Not thread-safe: one belongs to one event loop."""

    __slots__ = ("_clock", "_counter", "_milliseconds")

    def __init__(self, clock: Callable[[], int] = time.time_ns) -> None:
        self._clock = clock
        self._milliseconds = 0
        self._counter = 0

    def new(self) -> str:
        """The next id. A clock that steps back does not: ids go on from the latest time."""
        now = self._clock() // _NANOSECONDS_PER_MILLISECOND
        if now > self._milliseconds:
            self._milliseconds = now
            # The top bit stays clear, so that counting up within the millisecond cannot overflow.
            self._counter = int.from_bytes(os.urandom(10), "big") >> (80 - _RANDOM_BITS + 1)
        else:
            self._counter += 1
        high, low = self._counter >> _LOW_BITS, self._counter & _LOW_MASK
        value = self._milliseconds << 80 | _VERSION | high << 64 | _VARIANT | low
        text = f"{value:032x}"
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"

    def forget(self) -> None:
        """Start a new random counter at once; a forked worker must not repeat its parent's ids."""
        self._milliseconds = 0


_IDS: Final = AuditIds()
os.register_at_fork(after_in_child=_IDS.forget)


def new_audit_id() -> str:
    """A UUIDv7 in its usual text form; unique, and greater than the ones before it here."""
    return _IDS.new()
