"""The way out of the chain: tunnel, fair share, row; no request leaves before the journal has it.

Asked by `handler_chain` for each request that was admitted, emptied at the end of the loop tick.
Where the disk is slow, heads wait longer than a tick, and those behind them, too: the loop goes on,
and in the end they leave or are refused.

One person may have a fair share of the streams of a cluster's tunnels. It is always the real person
who pays, whoever they act as, and however many tokens and connections they have.
"""

import logging
from collections.abc import Callable
from typing import Final, Protocol

from mk8s_agent.wire.bulkhead import Bulkhead
from mk8s_agent.wire.limits import MIB, Share
from mk8s_agent.wire.stream import Stream, join
from mk8s_agent.wire.ticks import Ticks
from mk8s_proxy.answers.interceptor import Interceptor
from mk8s_proxy.chain.ports import AuditLog, Tunnel, Tunnels
from mk8s_proxy.kube.status import StatusError, service_unavailable, status_error
from mk8s_proxy.listener.exchange import Exchange
from mk8s_proxy.tunnel.request_block import AUDIT_FIELD

log = logging.getLogger(__name__)

_RELEASE: Final = Bulkhead("chain.release")
_STREAMS: Final = 2_000
_BUFFERED: Final = 64 * MIB
_RETRY_SECONDS: Final = 1
Head = tuple[Exchange, Tunnel, Stream, bytes]
"""Whose it is, where it goes, its stream there, and its block."""


class Departures:
    """The way out of the chain.

    Args:
        journal: where the rows are.
        tunnels: where requests go.
        ticks: at whose end they leave.
        refuse: answers a request that cannot leave; the flag says whether its row is written.
        opened: told of each that leaves and may stay open for hours.
        broken: ends one whose release raised.
    """

    def __init__(
        self,
        journal: AuditLog,
        tunnels: Tunnels,
        ticks: Ticks,
        refuse: Callable[[Exchange, bool], None],
        opened: Callable[[Exchange], None],
        broken: Callable[[Exchange], None],
    ) -> None:
        self.shares = Shares()
        """What one person may have open; `app` gives it the limits of the settings."""
        self._heads: list[Head] = []
        """Of this tick: their rows are noted, and not written."""
        self._late: list[Head] = []
        """Their rows are being written, for longer than could be waited for."""
        self._is_late = False
        """The disk has still to say what became of the last commit."""
        self._journal = journal
        self._tunnels = tunnels
        self._ticks = ticks
        self._refuse = refuse
        self._opened = opened
        self._broken = broken

    def send(
        self, exchange: Exchange, interceptor: Interceptor | None, parts: tuple[bytes, bytes]
    ) -> None:
        """Prepares an admitted request; `parts` of its block go before and after the audit id.

        Raises:
            StatusError: no agent is connected, or somebody has too much open.
        """
        cluster, entry = exchange.cluster, exchange.entry
        tunnel = self._tunnels.pick(cluster)
        if tunnel is None:
            raise no_tunnel(self._tunnels, cluster, f'no agent of cluster "{cluster}" is connected')
        self.shares.take(exchange, tunnel)
        block = b"%b%b%b%b" % (parts[0], AUDIT_FIELD, entry.audit_id.encode("ascii"), parts[1])
        self._journal.intent(entry)
        # from here on nothing raises: a body could follow into a stream that is never opened
        stream = tunnel.prepare()
        stream.share = exchange.front.share
        stream.end_queued = exchange.front.remote_closed
        exchange.back = stream
        if interceptor is None:
            join(exchange.front, stream)
        else:
            interceptor.insert(stream)
        self._heads.append((exchange, tunnel, stream, block))
        self._ticks.schedule()

    def commit(self) -> bool:
        """Writes what was noted; lets the heads go whose rows are written, refuses the others.

        Returns:
            Whether what was noted is written.
        """
        while self._is_late:
            if not self._release_late():
                return False
        heads, self._heads = self._heads, []
        try:
            written = self._journal.commit()
        except Exception:
            log.exception("journal.crashed")
            written = False
        self._is_late = not written and self._journal.waiting
        if self._is_late:
            self._late = heads
        elif heads:
            self._release(heads, written)
        return written

    def _release_late(self) -> bool:
        """The same for the commit that was not waited for; False while nothing is known of it."""
        try:
            written = self._journal.finish()
        except Exception:
            log.exception("journal.crashed")
            written = False
        if written is None:
            return False
        self._is_late = False
        late, self._late = self._late, []
        if late:
            self._release(late, written)
        return True

    def _release(self, heads: list[Head], written: bool) -> None:
        refused = False
        for head in heads:
            try:
                refused = self._release_one(head, written) or refused
            except Exception:  # noqa: BLE001  logged by `failed`
                _RELEASE.failed(head[0], self._broken)
                refused = True
        if refused:
            self.commit()

    def _release_one(self, head: Head, written: bool) -> bool:
        """Lets one head go to its tunnel; True when its client was refused instead."""
        exchange, session, stream, block = head
        if stream.peer is not None and written and session.available:
            session.open_prepared(stream, block)
            if exchange.stays_open:
                self._opened(exchange)
            return False
        gone = stream.peer is None  # the client has left before
        session.discard_prepared(stream)
        if not gone:
            self._refuse(exchange, written)
        return not gone


class RoleLimits(Protocol):
    """The policy, as far as it says what people may have open."""

    def limits_of(self, user: str, cluster: str, streams: int, buffered: int) -> tuple[int, int]:
        """Requests and waiting bytes of a user on a cluster; the arguments where no role says."""


class Shares:
    """All shares of which something is taken; the others take no memory.

    Args:
        streams: requests that one person may have open on a cluster, watches included.
        buffered: bytes that may wait for such a person's slow readers.

    Both hold where no role of the person says something else.
    """

    def __init__(self, streams: int = _STREAMS, buffered: int = _BUFFERED) -> None:
        self._streams = streams
        self._buffered = buffered
        self._policy: RoleLimits | None = None
        self._taken: dict[tuple[str, str], Share] = {}

    def __len__(self) -> int:
        """Pairs of a person and a cluster with open requests."""
        return len(self._taken)

    def follow(self, policy: RoleLimits) -> None:
        """Take the limits of this policy's roles from now on, for what is open, too."""
        self._policy = policy
        for share in self._taken.values():
            share.most, share.limit = self._limits_of(share.user, share.key[1])

    def _limits_of(self, user: str, cluster: str) -> tuple[int, int]:
        if self._policy is None:
            return self._streams, self._buffered
        return self._policy.limits_of(user, cluster, self._streams, self._buffered)

    def take(self, exchange: Exchange, tunnel: Tunnel) -> None:
        """Counts a request that was admitted, until `give_back`.

        Raises:
            StatusError: 429, the person has as many as they may have; or 503, what is left of the
                tunnel is for short requests, and this is none.
        """
        if exchange.stays_open and tunnel.crowded:
            raise _full(exchange.cluster)
        identity = exchange.identity
        assert identity is not None
        person = identity.original or identity
        key = (person.uid, exchange.cluster)
        share = self._taken.get(key)
        if share is None:
            most, buffered = self._limits_of(person.user, exchange.cluster)
            share = self._taken[key] = Share(key, buffered, most, person.user)
        elif share.streams >= share.most:
            raise _too_many(share.streams, exchange.cluster)
        share.streams += 1
        exchange.front.share = share

    def give_back(self, exchange: Exchange) -> None:
        """The request is over; called once. Nothing happens when it was not counted.

        Its bytes may still be counted, so its stream keeps the share.
        """
        share = exchange.front.share
        if share is None:
            return
        share.streams -= 1
        if not share.streams:
            del self._taken[share.key]


def _too_many(streams: int, cluster: str) -> StatusError:
    message = (
        f'you have {streams} requests open on cluster "{cluster}", as many as one person may have: '
        "end some, watches for example (limits.streams_per_identity of central, or a role's limits)"
    )
    return status_error(429, message, retry_after=_RETRY_SECONDS)


def no_tunnel(tunnels: Tunnels, cluster: str, otherwise: str) -> StatusError:
    """Why a request finds no tunnel: all are full, or else what `otherwise` says."""
    if tunnels.full(cluster):
        return _full(cluster)
    return service_unavailable(otherwise, retry_after=_RETRY_SECONDS)


def _full(cluster: str) -> StatusError:
    """There is an agent: to say that there is none would send people looking for it."""
    message = f'the tunnels to cluster "{cluster}" carry as many requests as they can: try again'
    return service_unavailable(message, retry_after=_RETRY_SECONDS)
