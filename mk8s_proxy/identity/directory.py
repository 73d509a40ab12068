"""The users that access tokens may speak for, in memory.

`app.py` fills it from each policy that the feed loads (`PolicyRows.epochs`), so that a disabled
user is refused within one poll although the token is still alive;
`access_token.TokenAuthenticator` asks it, and looks at cached tokens again when its generation
grew.
"""

from collections.abc import Mapping


class UserDirectory:
    """Token epochs of all users that are neither deleted nor disabled.

    It starts empty, so until it was filled every token is refused.
    """

    def __init__(self) -> None:
        self._epochs: dict[str, int] = {}
        self.generation = 0
        """Grows with every change that could turn a good token into a bad one."""

    def __call__(self, uid: str) -> int | None:
        """Return the token epoch of the user, None when deleted or disabled."""
        return self._epochs.get(uid)

    def replace(self, epochs: Mapping[str, int]) -> None:
        """Take the state of the database: user id to token epoch, of enabled users only."""
        fresh = dict(epochs)
        if fresh != self._epochs:
            self._epochs = fresh
            self.generation += 1
