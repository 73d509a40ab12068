"""`GET /version` of a cluster without a credential, where central's settings say so.

Called by `handler_chain` before anybody is authenticated. The agent asks as system:anonymous, so
what comes of it is the cluster's own word (`system:public-info-viewer` allows it by default). What
strangers can cause by it has a bound: few requests, each with a row, nothing of theirs in them but
the two fields that say what they are and read.
"""

import time
from collections.abc import Callable
from typing import Final

from mk8s_proxy.chain.addresses import Address
from mk8s_proxy.identity.identity import Identity
from mk8s_proxy.kube.status import status_error
from mk8s_proxy.listener.exchange import Exchange, facts_of
from mk8s_proxy.tunnel.request_block import request_parts

NOBODY: Final = Identity("system:anonymous", "", (), 0.0, "", "", 0)
"""As whom the agent asks; the cluster adds the group system:unauthenticated."""
BURST: Final = 30
"""Requests of all strangers together that may come at once; one more comes each second."""

_PATHS: Final = frozenset((b"/version", b"/version/"))
_QUERIES: Final = (b"", b"timeout=32s")
"""What client-go asks with."""
_FIELDS: Final = frozenset((b"accept", b"user-agent"))
_LONGEST: Final = 256
_REASON: Final = "anonymous_version: the cluster decides"


class AnonymousVersion:
    """Lets strangers ask which version a cluster has.

    Args:
        clock: seconds that never jump.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._left = float(BURST)
        self._looked = clock()

    def asked(self, exchange: Exchange, address: Address) -> bool:
        """Whether it is this and nothing else, of a cluster that the address names."""
        head = exchange.head
        path, _, query = address.target.raw.partition(b"?")
        if path not in _PATHS or query not in _QUERIES or not address.route.cluster:
            return False
        plain = exchange.front.remote_closed and not (head.upgrade or head.impersonation)
        return plain and head.method in (b"GET", b"HEAD")

    def admit(self, exchange: Exchange, address: Address) -> tuple[bytes, bytes]:
        """The block for the tunnel (see `request_parts`); the exchange has no identity.

        Raises:
            StatusError: 429, strangers ask too often.
        """
        exchange.prefix, exchange.info = address.route.prefix, address.info
        exchange.cluster = address.route.cluster
        self._take()
        exchange.recurring = None
        head = exchange.head
        kept = [it for it in head.forwarded if it[0] in _FIELDS and len(it[1]) <= _LONGEST]
        exchange.head = head._replace(forwarded=tuple(kept), content_length=-1)
        exchange.entry.facts = facts_of(exchange, "allow", _REASON)
        return request_parts(exchange, NOBODY, address.path_block)

    def _take(self) -> None:
        now = self._clock()
        self._left = min(self._left + now - self._looked, BURST)
        self._looked = now
        if self._left < 1:
            raise status_error(429, "too many ask without a login: run mk8s login", retry_after=1)
        self._left -= 1
