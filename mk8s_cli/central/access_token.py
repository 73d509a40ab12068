"""An access token as central gave it, and whether it is fresh enough to be used.

Imports nothing: the fast path of `mk8s get-token` reads it for every kubectl command.
"""

from typing import NamedTuple

REFRESH_SECONDS = 60.0
"""A token with less life is refreshed: kubectl is told 45 s, so 15 s are left to use it."""

BACKWARDS_SECONDS = 5.0
"""A clock that went back further than this since a token came makes its end unknown."""


class AccessToken(NamedTuple):
    """A bearer token and the span in which this machine's clock saw it valid, in epoch seconds."""

    token: str
    obtained: float
    expires: float

    def fresh(self, now: float) -> bool:
        """Whether enough life is left; short-lived tokens must keep a third of theirs."""
        margin = min(REFRESH_SECONDS, (self.expires - self.obtained) / 3)
        return self.obtained - BACKWARDS_SECONDS <= now < self.expires - margin
