"""Audit ids: UUIDv7 (RFC 9562, 5.7), in order of creation within a process.

Made by the handler chain and the management API, one per request; sent on as Audit-ID so that the
API server's own audit log can be joined with ours.
"""

import os
import time
from collections.abc import Callable
from typing import Final, NewType, cast

AuditId = NewType("AuditId", str)
"""A UUID as text, made here and nowhere else: it is written into rows as it is."""

_NANOSECONDS_PER_MILLISECOND: Final = 1_000_000
_SEED_BYTES: Final = 10
_SEEDS: Final = 256
"""Seeds that are fetched from the kernel at once."""

_LOW_BITS: Final = 48
_LOW_SEED: Final = (1 << _LOW_BITS - 1) - 1
_CLOCK_SEQUENCE: Final = (1 << 14) - 1
_VARIANT: Final = 0b10 << 14


class AuditIds:
    """Makes ids that only grow. Not thread-safe: one belongs to one event loop.

    The first id of a millisecond is random in 73 bits, the others count up from it in the last
    group of the text (RFC 9562, 6.2, method 2); so all but that group is made once.
    """

    __slots__ = ("_clock", "_low", "_milliseconds", "_prefix", "_seeds", "_used")

    def __init__(self, clock: Callable[[], int] = time.time_ns) -> None:
        self._clock = clock
        self._milliseconds = -1
        self._prefix = ""
        self._low = 0
        self._seeds = b""
        self._used = 0

    def new(self) -> str:
        """The next id. A clock that steps back does not: ids go on from the latest time."""
        milliseconds = self._clock() // _NANOSECONDS_PER_MILLISECOND
        if milliseconds <= self._milliseconds:
            self._low += 1
            return self._prefix + format(self._low, "012x")
        if self._used == len(self._seeds):
            self._seeds = os.urandom(_SEEDS * _SEED_BYTES)
            self._used = 0
        end = self._used + _SEED_BYTES
        seed = int.from_bytes(self._seeds[self._used : end], "big")
        self._used = end
        self._milliseconds = milliseconds
        # Its top bit stays clear, so that counting up within the millisecond cannot overflow.
        self._low = seed & _LOW_SEED
        sequence = seed >> _LOW_BITS & _CLOCK_SEQUENCE | _VARIANT
        high = seed >> _LOW_BITS + 14 & 0xFFF
        time_high, time_low = milliseconds >> 16, milliseconds & 0xFFFF
        self._prefix = f"{time_high:08x}-{time_low:04x}-7{high:03x}-{sequence:04x}-"
        return self._prefix + format(self._low, "012x")

    def forget(self) -> None:
        """Start a new random counter at once; a forked worker must not repeat its parent's ids."""
        self._milliseconds = -1
        self._used = len(self._seeds)


_IDS: Final = AuditIds()
os.register_at_fork(after_in_child=_IDS.forget)

new_audit_id: Final = cast("Callable[[], AuditId]", _IDS.new)
"""Makes a UUIDv7 in its usual text form; unique, and greater than the ones before it here."""
