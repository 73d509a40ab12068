"""Whose requests hold how much of the agent's memory: one share for each identity with open ones.

Asked by the tunnels for each request, and told of its end. Where no more bytes may wait, whoever
holds most makes room (`wire.eviction`), and not somebody else whose answer comes slowly meanwhile.
"""

from mk8s_agent.wire.limits import IDLE_SHARES, BufferBudget, Share


class Owners:
    """All shares of which something is taken, and some of those that will soon be asked for again.

    Args:
        buffers: of the process; nobody's share is smaller, since central has a limit for each.
    """

    def __init__(self, buffers: BufferBudget) -> None:
        self._buffers = buffers
        self._taken: dict[bytes, Share] = {}

    def __len__(self) -> int:
        """Identities with open requests."""
        return sum(share.streams > 0 for share in self._taken.values())

    def take(self, identity: bytes) -> Share:
        """The share of an identity, for one more request.

        Args:
            identity: as central sent it, the same bytes for the same person.
        """
        share = self._taken.get(identity)
        if share is None:
            share = self._taken[identity] = Share(identity, self._buffers.limit)
        share.streams += 1
        return share

    def give_back(self, share: Share) -> None:
        """A request is over; called once for each `take`. Its bytes may still be counted."""
        share.streams -= 1
        if not share.streams and len(self._taken) > IDLE_SHARES:
            del self._taken[share.key]
