"""Logouts of other processes, and of the time before this one began, brought to the authenticator.

`app` makes it and gives `look` to the policy feed, so that it is read before the first request and
with every look at the policy's version; a database that cannot be read ends the policy's lease.
"""

from collections.abc import Callable

from mk8s_proxy.db.ended_tokens import ended_since
from mk8s_proxy.db.engine import Database


class EndedTokens:
    """What this process has read of the ended tokens.

    Args:
        database: where they are.
        revoke: told the id of each, and the epoch seconds until which it counts.
    """

    def __init__(self, database: Database, revoke: Callable[[str, float], object]) -> None:
        self._database = database
        self._revoke = revoke
        self._read = 0

    async def look(self) -> None:
        """Read what is new. Raises what the database raises."""
        while ended := await ended_since(self._database, self._read):
            for one in ended:
                self._revoke(one.id, one.expires_at.timestamp())
            self._read = ended[-1].number
