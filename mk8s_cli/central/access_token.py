"""An access token as central gave it, and whether it is fresh enough to be used.

Imports nothing: the fast path of `mk8s get-token` reads it for every kubectl command.
"""

REFRESH_SECONDS = 60.0
"""A token with less life is refreshed: kubectl is told 45 s, so 15 s are left to use it."""

BACKWARDS_SECONDS = 5.0
"""A clock that went back further than this since a token came makes its end unknown."""


class AccessToken:
    """A bearer token and the span in which this machine's clock saw it valid, in epoch seconds."""

    __slots__ = ("expires", "obtained", "token")

    def __init__(self, token: str, obtained: float, expires: float) -> None:
        """Keep what central gave; the span is by this machine's clock."""
        self.token = token
        self.obtained = obtained
        self.expires = expires

    def fresh(self, now: float) -> bool:
        """Whether enough life is left; short-lived tokens must keep a third of theirs."""
        return is_fresh(self.obtained, self.expires, now)


def is_fresh(obtained: float, expires: float, now: float) -> bool:
    """Say of a token's span what `AccessToken.fresh` says of a token."""
    margin = min(REFRESH_SECONDS, (expires - obtained) / 3)
    return obtained - BACKWARDS_SECONDS <= now < expires - margin
