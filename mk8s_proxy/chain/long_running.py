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

from mk8s_agent.wire.bulkhead import Bulkhead
from mk8s_agent.wire.http2.frames import ErrorCode
from mk8s_agent.wire.stream import abort_connection, part
from mk8s_proxy.listener.exchange import Exchange

log = logging.getLogger(__name__)

_CHECKED: Final = Bulkhead("long_running.checked")
_ENDING: Final = Bulkhead("long_running.ending")
_DRAINED: Final = Bulkhead("long_running.drained")
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
        exchange.head = exchange.head._replace(authorization=b"", forwarded=(), target=b"")
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
        waited = [it for it in self._ending if it not in self._begun]
        _ENDING.each(waited, self._go_on_ending, self.break_off)
        expired: list[Exchange] = []
        while self._expiries and self._expiries[0][0] <= now:
            exchange = heapq.heappop(self._expiries)[2]
            if exchange in self._open:
                expired.append(exchange)
        _CHECKED.each(expired, self._check, self.break_off)
        self._begun.clear()

    def recheck(self, credential: str) -> None:
        """A token or a login was ended: asks again of its own exchanges, and nobody else's."""
        own = list(self._by_credential.get(credential, ()))
        _CHECKED.each(own, self._check, self.break_off)

    def recheck_all(self) -> None:
        """The policy or the users changed."""
        _CHECKED.each(list(self._open), self._check, self.break_off)

    def drain(self, reason: str, tunnel: object = None) -> None:
        """Ends watches and logs between two events, where their clients resume elsewhere.

        Args:
            reason: for the log.
            tunnel: only the exchanges of this tunnel; None means all. Upgraded streams cannot be
                resumed, so they go on until their connection ends.
        """
        concerned = [it for it in self._open if tunnel is None or _passes(it, tunnel)]
        resumable = [it for it in concerned if not it.head.upgrade]
        _DRAINED.each(resumable, lambda it: self._begin_to_end(it, reason), self.break_off)

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

    def _go_on_ending(self, exchange: Exchange) -> None:
        if exchange in self._ending:  # what ended before it may have ended it, too
            self._try_to_end(exchange, *self._ending[exchange])

    def break_off(self, exchange: Exchange) -> None:
        """Nobody knows whether it may go on: that is a no. Its connection goes if it must."""
        exchange.entry.refusal = exchange.entry.refusal or "INTERNAL"
        try:
            self._end(exchange, clean=False)
        except Exception:
            log.exception("stream.not_ended", extra={"audit_id": exchange.entry.audit_id})
            self.remove(exchange)
            abort_connection(exchange.front)

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


def _passes(exchange: Exchange, tunnel: object) -> bool:
    return exchange.back is not None and exchange.back.connection is tunnel
