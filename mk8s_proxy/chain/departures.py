"""The way out of the chain: tunnel, fair share, row; no request leaves before the journal has it.

Asked by `handler_chain` for each request that was admitted, emptied at the end of the loop tick.
Where the disk is slow, heads wait longer than a tick, and those behind them, too: the loop goes on,
and in the end they leave or are refused.

One person may have a fair share of the streams of a cluster's tunnels. It is always the real person
who pays, whoever they act as, and however many tokens and connections they have.
"""

import logging
import time
from collections.abc import Callable
from typing import Final, Protocol

from mk8s_agent.wire.bulkhead import Bulkhead
from mk8s_agent.wire.limits import IDLE_SHARES, KIB, MIB, Share
from mk8s_agent.wire.stream import Stream
from mk8s_agent.wire.ticks import Ticks
from mk8s_proxy.answers.choose import Between
from mk8s_proxy.chain.ports import AuditLog, Tunnel, Tunnels
from mk8s_proxy.identity.identity import Identity
from mk8s_proxy.kube.status import StatusError, service_unavailable, status_error
from mk8s_proxy.listener.exchange import Exchange
from mk8s_proxy.tunnel.request_block import AUDIT_FIELD

log = logging.getLogger(__name__)

_RELEASE: Final = Bulkhead("chain.release")
_STREAMS: Final = 2_000
_BUFFERED: Final = 64 * MIB
_RETRY_SECONDS: Final = 1
PUT_OFF_SECONDS: Final = 0.005
"""How long the end of a request may wait for the next one, whose rows are then written with its
own: of one after the other that is half of the writes, each of which costs 10 us and more."""
LONG_TARGET: Final = 16 * KIB
"""A longer target counts among its sender's bytes as long as the request lasts."""
_FIELDS_OVERHEAD: Final = 8 * KIB
"""What a block counts beside its bytes at most: 32 for each field (RFC 9113, 6.5.2)."""
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
        self._put_off = False
        """A commit is due in a moment."""
        self._journal = journal
        self._tunnels = tunnels
        self._ticks = ticks
        self._refuse = refuse
        self._opened = opened
        self._broken = broken

    def send(self, exchange: Exchange, between: Between | None, parts: tuple[bytes, bytes]) -> None:
        """Prepares an admitted request; `parts` of its block go before and after the audit id.

        Raises:
            StatusError: no agent is connected, an older one takes no head as long as this, or
                somebody has too much open.
        """
        cluster, entry = exchange.cluster, exchange.entry
        tunnel = self._tunnels.pick(cluster)
        if tunnel is None:
            raise no_tunnel(self._tunnels, cluster, f'no agent of cluster "{cluster}" is connected')
        block = b"%b%b%b%b" % (parts[0], AUDIT_FIELD, entry.audit_id.encode("ascii"), parts[1])
        if len(block) > LONG_TARGET:
            _check_length(tunnel, block, cluster)
        self.shares.take(exchange, tunnel)
        self._journal.intent(entry)
        # from here on nothing raises: a body could follow into a stream that is never opened
        stream = tunnel.prepare()
        stream.share = exchange.front.share
        stream.end_queued = exchange.front.remote_closed
        exchange.back = stream
        if between is None:
            exchange.front.peer, stream.peer = stream, exchange.front
        else:
            between.insert(stream)
        self._heads.append((exchange, tunnel, stream, block))
        if not self._ticks.scheduled:
            self._ticks.schedule()

    def commit(self, *, at_once: bool = True) -> bool:
        """Writes what was noted; lets the heads go whose rows are written, refuses the others.

        Args:
            at_once: also where no head waits; otherwise that is done a little later.

        Returns:
            Whether what was noted is written.
        """
        call_later = self._ticks.call_later
        if not (at_once or self._heads or self._is_late or call_later is None):
            if not self._put_off and self._journal.has_noted:
                self._put_off = True
                call_later(PUT_OFF_SECONDS, self._commit_put_off)
            return not self._put_off
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

    def _commit_put_off(self) -> None:
        self._put_off = False
        self.commit()

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
        """Lets heads go to their tunnels, or refuses their clients."""
        left = time.monotonic()
        refused = False
        for exchange, session, stream, block in heads:
            try:
                gone = stream.peer is None  # the client has left before
                way = session if session.available else self._other_way(exchange, session, block)
                if gone or not written or way is None:
                    refused = self._discard(exchange, session, stream, written) or refused
                    continue
                if way is not session:
                    way.adopt(stream)
                exchange.entry.left = left
                way.open_prepared(stream, block)
                if exchange.stays_open:
                    self._opened(exchange)
            except Exception:  # noqa: BLE001  logged by `failed`
                _RELEASE.failed(exchange, self._broken)
                refused = True
        if refused:
            self.commit()

    def _other_way(self, exchange: Exchange, session: Tunnel, block: bytes) -> Tunnel | None:
        """Where a head goes whose tunnel has begun to drain, or ended, since it was picked: nothing
        of it was sent, so nothing happens twice. Its row is the one it has."""
        other = self._tunnels.pick_again(session.cluster_id)
        if other is None or (exchange.stays_open and other.crowded):
            return None
        fits = len(block) <= LONG_TARGET or len(block) + _FIELDS_OVERHEAD <= other.longest_head
        return other if fits else None

    def _discard(self, exchange: Exchange, session: Tunnel, stream: Stream, written: bool) -> bool:
        """Forgets a head that cannot leave; True when that refused its client."""
        gone = stream.peer is None  # the client has left before
        session.discard_prepared(stream)
        if not gone:
            self._refuse(exchange, written)
        return not gone


class RoleLimits(Protocol):
    """The policy, as far as it says what people may have open."""

    def limits_of(
        self, user: str, cluster: str, streams: int, buffered: int, groups: tuple[str, ...] = ()
    ) -> tuple[int, int]:
        """Requests and waiting bytes of a user on a cluster; the arguments where no role says."""


class Shares:
    """All shares of which something is taken, and some of those that will soon be asked for again.

    Args:
        streams: requests that one person may have open on a cluster, watches included.
        buffered: bytes that may wait for such a person's slow readers, long targets of requests
            included.

    Both hold where no role of the person says something else.
    """

    def __init__(self, streams: int = _STREAMS, buffered: int = _BUFFERED) -> None:
        self._streams = streams
        self._buffered = buffered
        self._policy: RoleLimits | None = None
        self._taken: dict[tuple[str, str], Share] = {}
        self._long: dict[Exchange, int] = {}

    def __len__(self) -> int:
        """Pairs of a person and a cluster with open requests."""
        return sum(share.streams > 0 for share in self._taken.values())

    def follow(self, policy: RoleLimits) -> None:
        """Take the limits of this policy's roles from now on, for what is open, too."""
        self._policy = policy
        for share in self._taken.values():
            self._go_by(share, share.groups)

    def take(self, exchange: Exchange, tunnel: Tunnel) -> None:
        """Counts a request that was admitted, until `give_back`.

        Raises:
            StatusError: 429, the person has as much as they may have; or 503, what is left of the
                tunnel is for short requests, and this is none.
        """
        if exchange.stays_open and tunnel.crowded:
            raise _full(exchange.cluster)
        identity = exchange.identity
        person = identity.original or identity if identity is not None else None  # a stranger
        key = (person.uid if person is not None else "", exchange.cluster)
        share = self._taken.get(key)
        if share is None:
            share = self._taken[key] = self._new_share(key, person)
        elif person is not None and share.groups != person.groups:
            self._go_by(share, person.groups)
        if share.streams and share.streams >= share.most:
            raise _too_many(share.streams, exchange.cluster)
        size = len(exchange.head.target)
        if size > LONG_TARGET:
            self._hold(exchange, share, size)
        share.streams += 1
        exchange.front.share = share

    def _new_share(self, key: tuple[str, str], person: Identity | None) -> Share:
        user, groups = ("", ()) if person is None else (person.user, person.groups)
        share = Share(key, self._buffered, self._streams, user)
        self._go_by(share, groups)
        return share

    def _go_by(self, share: Share, groups: tuple[str, ...]) -> None:
        """Of a person with several logins the groups of the one that asks count, so that nobody has
        more by a login than it gives, nor by one that has ended."""
        share.groups = groups
        if self._policy is not None:
            share.most, share.limit = self._policy.limits_of(
                share.user, share.key[1], self._streams, self._buffered, groups
            )

    def _hold(self, exchange: Exchange, share: Share, size: int) -> None:
        if share.streams and share.used + size > share.limit:
            raise _too_long(exchange.cluster)
        share.used += size
        self._long[exchange] = size

    def give_back(self, exchange: Exchange) -> None:
        """The request is over; called once. Nothing happens when it was not counted.

        Its bytes may still be counted, so its stream keeps the share.
        """
        share = exchange.front.share
        if share is None:
            return
        if self._long:
            share.used -= self._long.pop(exchange, 0)
        share.streams -= 1
        if not share.streams and len(self._taken) > IDLE_SHARES:
            del self._taken[share.key]


def _too_many(streams: int, cluster: str) -> StatusError:
    message = (
        f'you have {streams} requests open on cluster "{cluster}", as many as one person may have: '
        "end some, watches for example (limits.streams_per_identity of central, or a role's limits)"
    )
    return status_error(429, message, retry_after=_RETRY_SECONDS)


def _too_long(cluster: str) -> StatusError:
    message = (
        f'your requests to cluster "{cluster}" hold as many bytes as one person\'s may: end some, '
        "those with long commands or selectors first (limits.buffered_per_identity of central)"
    )
    return status_error(429, message, retry_after=_RETRY_SECONDS)


def _check_length(tunnel: Tunnel, block: bytes, cluster: str) -> None:
    """Refuses a head that would end the tunnel, since an older agent takes no such one."""
    if len(block) + _FIELDS_OVERHEAD > tunnel.longest_head:
        message = f'the agent of cluster "{cluster}" takes no head as long as this: update it'
        raise status_error(431, message)


def no_tunnel(tunnels: Tunnels, cluster: str, otherwise: str) -> StatusError:
    """Why a request finds no tunnel: all are full, or else what `otherwise` says."""
    if tunnels.full(cluster):
        return _full(cluster)
    return service_unavailable(otherwise, retry_after=_RETRY_SECONDS)


def _full(cluster: str) -> StatusError:
    """There is an agent: to say that there is none would send people looking for it."""
    message = f'the tunnels to cluster "{cluster}" carry as many requests as they can: try again'
    return service_unavailable(message, retry_after=_RETRY_SECONDS)
