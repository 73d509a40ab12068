"""What one person may have of one cluster at a time: a fair share of the streams of its tunnels.

Asked by `handler_chain` for each request that leaves, and told of its end. It is always the real
person who pays, whoever they act as, and however many tokens and connections they have.
"""

from typing import Final

from mk8s_agent.wire.limits import KIB, MIB, Share
from mk8s_proxy.chain.ports import Tunnel, Tunnels
from mk8s_proxy.kube.status import StatusError, service_unavailable, status_error
from mk8s_proxy.listener.exchange import Exchange

_STREAMS: Final = 2_000
_BUFFERED: Final = 64 * MIB
_RETRY_SECONDS: Final = 1
LONG_TARGET: Final = 16 * KIB
"""A longer target counts among its sender's bytes as long as the request lasts."""
_FIELDS_OVERHEAD: Final = 8 * KIB
"""What a block counts beside its bytes at most: 32 for each field (RFC 9113, 6.5.2)."""


class Shares:
    """All shares of which something is taken; the others take no memory.

    Args:
        streams: requests that one person may have open on a cluster, watches included.
        buffered: bytes that may wait for such a person's slow readers, long targets of requests
            included.
    """

    def __init__(self, streams: int = _STREAMS, buffered: int = _BUFFERED) -> None:
        self._streams = streams
        self._buffered = buffered
        self._taken: dict[tuple[str, str], Share] = {}
        self._long: dict[Exchange, int] = {}

    def __len__(self) -> int:
        """Pairs of a person and a cluster with open requests."""
        return len(self._taken)

    def take(self, exchange: Exchange, tunnel: Tunnel) -> None:
        """Counts a request that was admitted, until `give_back`.

        Raises:
            StatusError: 429, the person has as much as they may have; or 503, what is left of the
                tunnel is for short requests, and this is none.
        """
        if exchange.stays_open and tunnel.crowded:
            raise _full(exchange.cluster)
        identity = exchange.identity
        owner = (identity.original or identity).uid if identity is not None else ""  # strangers
        key = (owner, exchange.cluster)
        share = self._taken.get(key)
        if share is None:
            share = self._taken[key] = Share(key, self._buffered)
        elif share.streams >= self._streams:
            raise _too_many(share.streams, exchange.cluster)
        size = len(exchange.head.target)
        if size > LONG_TARGET:
            self._hold(exchange, share, size)
        share.streams += 1
        exchange.front.share = share

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
        if not share.streams:
            del self._taken[share.key]


def _too_many(streams: int, cluster: str) -> StatusError:
    message = (
        f'you have {streams} requests open on cluster "{cluster}", as many as one person may have: '
        "end some, watches for example (limits.streams_per_identity of central)"
    )
    return status_error(429, message, retry_after=_RETRY_SECONDS)


def _too_long(cluster: str) -> StatusError:
    message = (
        f'your requests to cluster "{cluster}" hold as many bytes as one person\'s may: end some, '
        "those with long commands or selectors first (limits.buffered_per_identity of central)"
    )
    return status_error(429, message, retry_after=_RETRY_SECONDS)


def check_length(tunnel: Tunnel, block: bytes, cluster: str) -> None:
    """Refuses a head that would end the tunnel, since an older agent takes no such one.

    Raises:
        StatusError: 431.
    """
    if len(block) > LONG_TARGET and len(block) + _FIELDS_OVERHEAD > tunnel.longest_head:
        message = f'the agent of cluster "{cluster}" takes no head as long as this: update it'
        raise status_error(431, message)


def pick_tunnel(tunnels: Tunnels, cluster: str) -> Tunnel:
    """The tunnel for a request.

    Raises:
        StatusError: there is none, or none with room.
    """
    tunnel = tunnels.pick(cluster)
    if tunnel is not None:
        return tunnel
    raise no_tunnel(tunnels, cluster, f'no agent of cluster "{cluster}" is connected')


def no_tunnel(tunnels: Tunnels, cluster: str, otherwise: str) -> StatusError:
    """Why a request finds no tunnel: all are full, or else what `otherwise` says."""
    if tunnels.full(cluster):
        return _full(cluster)
    return service_unavailable(otherwise, retry_after=_RETRY_SECONDS)


def _full(cluster: str) -> StatusError:
    """There is an agent: to say that there is none would send people looking for it."""
    message = f'the tunnels to cluster "{cluster}" carry as many requests as they can: try again'
    return service_unavailable(message, retry_after=_RETRY_SECONDS)
