"""Ended tokens and logins, refused until the last of their tokens has expired anyway; pure.

Kept by `access_token.TokenAuthenticator`. This is no memory that may forget: whatever is here stays
until its time has come, however many follow. What bounds it is what they cost: each ended login
was a login once, throttled and with a password, and is kept no longer than an access token lives.
"""

# compiled: every request asks it

from collections.abc import Callable
from typing import Final

_PERIOD: Final = 60
"""Seconds whose endings are forgotten together."""
_AT_ONCE: Final = 2048
"""Endings that one second forgets: the clock has other work."""


class Revocations:
    """Ids of tokens (`jti`) and logins (`sid`), each with the end of its last token.

    Adding one, asking for one and forgetting one cost the same however many there are.
    """

    def __init__(self) -> None:
        self._ends: dict[str, float] = {}
        self._by_period: dict[int, list[str]] = {}
        self.end_of: Callable[[str], float | None] = self._ends.get
        """Until when an id is refused, in epoch seconds; None if it is not."""

    def __len__(self) -> int:
        return len(self._ends)

    def add(self, ended: str, expires: float) -> bool:
        """Refuses an id until `expires` (epoch seconds), or longer if it already is.

        Returns:
            Whether it was not refused before.
        """
        known = self._ends.get(ended)
        if known is not None and known >= expires:
            return False
        self._ends[ended] = expires
        period = int(expires // _PERIOD)
        if known is None or int(known // _PERIOD) != period:
            self._by_period.setdefault(period, []).append(ended)
        return known is None

    def forget(self, now: float) -> None:
        """Once a second: gives up what has expired at `now`, a bounded number."""
        current = int(now // _PERIOD)
        for period in [period for period in self._by_period if period < current][:1]:
            ended = self._by_period[period]
            for _ in range(min(len(ended), _AT_ONCE)):
                self._forget_one(ended.pop(), now)
            if not ended:
                del self._by_period[period]

    def _forget_one(self, ended: str, now: float) -> None:
        """An id that was added again with a later end has another place, and stays."""
        if self._ends.get(ended, now) < now:
            del self._ends[ended]
