"""Request heads that are longer than most, while they arrive: who sends them pays with its own.

Asked by client connections for each piece of such a head, before anybody can know whose it is: the
credential stands behind the target. So what all of them hold together has a bound, and what comes
from one address, too. Where it is too much, the head goes that began first: an honest one is whole
within moments, and one that drips has had its time.
"""

from typing import Final, Protocol

from mk8s_agent.wire.limits import MIB

_BYTES: Final = 32 * MIB
_BYTES_OF_SOURCE: Final = 8 * MIB


class Holder(Protocol):
    """A connection with the beginning of a long head."""

    def give_up_head(self) -> None:
        """Refuses the head: others need the room. It has left already."""


class LongHeads:
    """The beginnings of long heads of all client connections, oldest first.

    Args:
        most: bytes of all of them.
        of_source: bytes of those from one address; a proxy or balancer that is listed has many.
    """

    def __init__(self, most: int = _BYTES, of_source: int = _BYTES_OF_SOURCE) -> None:
        self._most = most
        self._of_source = of_source
        self._held: dict[Holder, tuple[str, int]] = {}
        self._by_source: dict[str, dict[Holder, None]] = {}
        self.size = 0
        """Bytes of all."""

    def __len__(self) -> int:
        return len(self._held)

    def hold(self, holder: Holder, source: str, size: int) -> None:
        """So much of a head is there; somebody's is given up where it is too much.

        Args:
            holder: whose head it is. It may be the one that has to give up.
            source: what counts as one address (see `identity.throttle.source_key`); "" for a proxy
                that brings the requests of many clients.
            size: bytes of the head so far.
        """
        before = self._held.get(holder)
        self._held[holder] = source, size  # keeps its place: its age is that of its first piece
        self.size += size - (before[1] if before else 0)
        own = self._by_source.setdefault(source, {})
        own[holder] = None
        if source and sum(self._held[it][1] for it in own) > self._of_source:
            self._evict(next(iter(own)))
        if self.size > self._most:
            self._evict(next(iter(self._held)))

    def _evict(self, oldest: Holder) -> None:
        self.leave(oldest)
        oldest.give_up_head()

    def leave(self, holder: Holder) -> None:
        """The head is whole, or gone. More than once is no mistake."""
        source, size = self._held.pop(holder, ("", 0))
        self.size -= size
        own = self._by_source.get(source)
        if own is not None:
            own.pop(holder, None)
            if not own:
                del self._by_source[source]
