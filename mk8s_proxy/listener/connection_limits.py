"""How many connections there may be, from where, and which one ends when there are too many.

Used by `server` for every socket that it accepts. Strangers pay, not people: where one is too
many, the oldest goes on which nobody was ever authenticated, which is the newcomer itself if all
others are somebody's. Clients never get the places that are kept for tunnels, so that agents get
in however full it is. Who is a client shows in the ClientHello; until then a socket is arriving.
"""

from collections import Counter
from typing import Final, Protocol

_RESERVE: Final = 16
"""Places for tunnels and for sockets that have said nothing yet, or a tenth if that is more."""


class Counted(Protocol):
    """A connection as it is counted."""

    @property
    def authenticated(self) -> bool:
        """Whether somebody was authenticated on it; once true, it stays so."""

    def abort(self) -> None:
        """Ends it at once."""


class _Places:
    """Some of the connections, strangers apart and by age."""

    __slots__ = ("_known", "_strangers")

    def __init__(self) -> None:
        self._strangers: dict[Counted, None] = {}
        self._known: set[Counted] = set()

    def __len__(self) -> int:
        return len(self._strangers) + len(self._known)

    def add(self, connection: Counted) -> None:
        self._strangers[connection] = None

    def discard(self, connection: Counted) -> None:
        self._strangers.pop(connection, None)
        self._known.discard(connection)

    def oldest_stranger(self) -> Counted:
        """Who goes. There is one: the newcomer at least, who cannot be authenticated yet.

        Each connection is passed over once, when it is found to be somebody's.
        """
        while True:
            oldest = next(iter(self._strangers))
            if not oldest.authenticated:
                return oldest
            del self._strangers[oldest]
            self._known.add(oldest)


class ConnectionLimits:
    """Counts the connections of one listener.

    Args:
        clients: open client connections.
        per_address: of these, from one address (IPv6: from one /64); and as many more may be
            arriving from there.
    """

    def __init__(self, clients: int, per_address: int) -> None:
        self.clients = clients
        self.per_address = per_address
        self.ended: Counter[str] = Counter()
        """What was ended since somebody last looked, by the setting that says why."""
        self._all = _Places()
        self._clients = _Places()
        self._arriving_from: dict[str, _Places] = {}
        self._clients_from: dict[str, _Places] = {}
        self._source_of: dict[Counted, str] = {}

    def arrive(self, connection: Counted) -> bool:
        """A socket was accepted; False when it is one too many and was ended."""
        self._source_of[connection] = ""
        most = self.clients + max(_RESERVE, self.clients // 10)
        return self._enter(self._all, connection, most, "connections")

    def arrive_from(self, connection: Counted, source: str) -> bool:
        """It is known where the socket comes from; False when it was ended.

        Args:
            source: what counts as one address (see `identity.throttle.source_key`).
        """
        self._source_of[connection] = source
        places = self._arriving_from.setdefault(source, _Places())
        return self._enter(places, connection, self.per_address, "connections_per_address")

    def is_client(self, connection: Counted) -> bool:
        """It turned out to be a client's; False when that is one too many and it was ended."""
        source = self._source_of.get(connection, "")
        self.is_tunnel(connection)
        if not self._enter(self._clients, connection, self.clients, "connections"):
            return False
        if not source:
            return True
        places = self._clients_from.setdefault(source, _Places())
        return self._enter(places, connection, self.per_address, "connections_per_address")

    def is_tunnel(self, connection: Counted) -> None:
        """It turned out to be an agent's: no client's limit is its own."""
        _leave(self._arriving_from, self._source_of.get(connection, ""), connection)

    def remove(self, connection: Counted) -> None:
        """It has ended. More than once is no mistake."""
        source = self._source_of.pop(connection, "")
        self._all.discard(connection)
        self._clients.discard(connection)
        _leave(self._arriving_from, source, connection)
        _leave(self._clients_from, source, connection)

    def _enter(self, places: _Places, connection: Counted, most: int, setting: str) -> bool:
        places.add(connection)
        if len(places) <= most:
            return True
        leaving = places.oldest_stranger()
        self.ended[setting] += 1
        self.remove(leaving)  # at once: its socket tells of its end later
        leaving.abort()
        return leaving is not connection


def _leave(places: dict[str, _Places], source: str, connection: Counted) -> None:
    """An address without a connection leaves nothing behind."""
    found = places.get(source)
    if found is not None:
        found.discard(connection)
        if not len(found):
            del places[source]
