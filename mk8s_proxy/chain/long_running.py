"""Streams that outlive a decision: watches, followed logs, exec, port-forward.

A short request is decided once. One that stays open is looked at again when its token ends and
whenever the policy or the users change, and it ends when it would not be allowed any more.
The handler chain adds such exchanges here; `app` calls `second` and `recheck_all`.
"""

import heapq
import itertools
import logging
from collections.abc import Callable
from typing import Final

from mk8s_agent.wire.frames import ErrorCode
from mk8s_agent.wire.stream import part
from mk8s_proxy.listener.exchange import Exchange

log = logging.getLogger(__name__)

_QUIET_TRIES: Final = 10
"""Seconds to wait for a moment between two events before a watch is broken off."""

Recheck = Callable[[Exchange], str]
"""Why an exchange may not go on, "" when it may."""


class LongRunning:
    """All open long-running exchanges.

    Args:
        recheck: asks the doors again, without side effects.
    """

    def __init__(self, recheck: Recheck) -> None:
        self._recheck = recheck
        self._open: dict[Exchange, tuple[str, ...]] = {}
        self._by_credential: dict[str, set[Exchange]] = {}
        self._expiries: list[tuple[float, int, Exchange]] = []
        self._order = itertools.count()
        self._ending: dict[Exchange, tuple[int, int]] = {}
        self._begun: set[Exchange] = set()
        """Those of `_ending` that have not been watched for a whole second yet."""

    def __len__(self) -> int:
        """Open exchanges."""
        return len(self._open)

    def add(self, exchange: Exchange, expires: float, credentials: tuple[str, ...] = ()) -> None:
        """A long-running exchange was let through.

        Args:
            exchange: the exchange.
            expires: when its token ends: epoch seconds, leeway included.
            credentials: ids of its token and its login, for `recheck`.
        """
        self._open[exchange] = credentials
        for credential in credentials:
            self._by_credential.setdefault(credential, set()).add(exchange)
        heapq.heappush(self._expiries, (expires, next(self._order), exchange))

    def remove(self, exchange: Exchange) -> None:
        """An exchange ended by itself; its place in the heap goes when its time comes."""
        for credential in self._open.pop(exchange, ()):
            self._by_credential[credential].discard(exchange)
            if not self._by_credential[credential]:
                del self._by_credential[credential]
        self._ending.pop(exchange, None)
        self._begun.discard(exchange)
        if len(self._expiries) > 64 and len(self._expiries) > 4 * len(self._open):
            self._expiries = [item for item in self._expiries if item[2] in self._open]
            heapq.heapify(self._expiries)

    def second(self, now: float) -> None:
        """Once a second: ends what has expired. `now` is epoch seconds."""
        for exchange, (seen, tries) in list(self._ending.items()):
            if exchange not in self._begun:
                self._try_to_end(exchange, seen, tries)
        while self._expiries and self._expiries[0][0] <= now:
            exchange = heapq.heappop(self._expiries)[2]
            if exchange in self._open:
                self._check(exchange)
        self._begun.clear()

    def recheck(self, credential: str) -> None:
        """A token or a login was ended: asks again of its own exchanges, and nobody else's."""
        for exchange in list(self._by_credential.get(credential, ())):
            self._check(exchange)

    def recheck_all(self) -> None:
        """The policy or the users changed."""
        for exchange in list(self._open):
            self._check(exchange)

    def drain(self, reason: str, tunnel: object = None) -> None:
        """Ends watches and logs between two events, where their clients resume elsewhere.

        Args:
            reason: for the log.
            tunnel: only the exchanges of this tunnel; None means all. Upgraded streams cannot be
                resumed, so they go on until their connection ends.
        """
        for exchange in list(self._open):
            back = exchange.back
            concerned = tunnel is None or (back is not None and back.connection is tunnel)
            if concerned and not exchange.head.upgrade:
                self._begin_to_end(exchange, reason)

    def _check(self, exchange: Exchange) -> None:
        reason = self._recheck(exchange)
        if reason:
            entry = exchange.entry
            entry.refusal = "ENDED"
            entry.facts = entry.facts._replace(reason=reason)
            self._begin_to_end(exchange, reason)

    def _begin_to_end(self, exchange: Exchange, reason: str) -> None:
        if exchange in self._ending:
            return
        log.info("stream.ended", extra={"audit_id": exchange.entry.audit_id, "reason": reason})
        self._ending[exchange] = (-1, 0)
        self._begun.add(exchange)
        self._try_to_end(exchange, -1, 0)

    def _try_to_end(self, exchange: Exchange, seen: int, tries: int) -> None:
        """Ends a stream between two events, where its client can resume; upgraded ones at once."""
        front = exchange.front
        quiet = front.sent == seen and front.pending is None
        if exchange.head.upgrade or not front.head_passed or tries >= _QUIET_TRIES:
            self._end(exchange, clean=False)
        elif quiet:
            self._end(exchange, clean=True)
        else:
            self._ending[exchange] = (front.sent, tries + 1)

    def _end(self, exchange: Exchange, *, clean: bool) -> None:
        front = exchange.front
        self._ending.pop(exchange, None)
        back = part(front)
        if back is not None:
            back.connection.reset(back, ErrorCode.CANCEL)
        if clean:
            closing_event = exchange.closing_event
            front.connection.send_data(front, closing_event, len(closing_event), True)
        else:
            front.connection.reset(front, ErrorCode.INTERNAL_ERROR)
