"""How many requests one sender may make: a token bucket for each, refilled all the time.

Used by the management API, per person and per source address. A bucket holds the requests of a
minute, so that whoever was quiet may send them all at once. Kept is one number for each sender: the
time at which its bucket will be full again (the generic cell rate algorithm, ITU-T I.371).
"""

import math
from collections.abc import Callable

from mk8s_agent.wire.memory import Memory

_PERIOD = 60.0
"""Seconds in which an empty bucket fills up."""
_SENDERS = 20_000
"""Remembered; who was forgotten has a full bucket, which is what most have after a minute."""
_BYTES = 16 << 20


class RequestRate:
    """The buckets of all senders of one kind.

    Args:
        per_minute: requests that each may make.
        clock: monotonic seconds.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float]) -> None:
        self._interval = _PERIOD / per_minute
        self._clock = clock
        self._full_at: Memory[str, float] = Memory(_SENDERS, _BYTES)

    def take(self, sender: str) -> int:
        """Count a request, if it is not one too many.

        Returns:
            Whole seconds until the next one is admitted, 0 if this one is.
        """
        now = self._clock()
        full_at = max(self._full_at.find(sender) or now, now) + self._interval
        if (beyond := full_at - now - _PERIOD) > 1e-6:  # what adding so many intervals may round
            return max(1, math.ceil(beyond))
        self._full_at.keep(sender, full_at, len(sender))
        return 0
