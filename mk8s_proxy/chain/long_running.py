"""Streams that outlive a decision: watches, followed logs, exec, port-forward.

A short request is decided once. One that stays open is looked at again when its token ends, from
then on from time to time, and whenever the policy, the logins or the users change. It ends when it
would not be allowed any more: with its login, not with the token that opened it.
The handler chain adds such exchanges here; `app` calls `second` and `recheck_all`.
"""

import heapq
import itertools
import logging
from collections.abc import Callable, Collection
from typing import Final

from mk8s_agent.wire.bulkhead import Bulkhead
from mk8s_agent.wire.http2.frames import ErrorCode
from mk8s_agent.wire.stream import abort_connection, part
from mk8s_proxy.answers.upgraded_session import session_of
from mk8s_proxy.chain.farewell import Output, is_resumed, last_words, output_of, warning
from mk8s_proxy.listener.exchange import Exchange

log = logging.getLogger(__name__)

_CHECKED: Final = Bulkhead("long_running.checked")
_ENDING: Final = Bulkhead("long_running.ending")
_DRAINED: Final = Bulkhead("long_running.drained")
_QUIET_TRIES: Final = 10
"""Seconds to wait for a moment between two events before a watch is broken off."""

_QUIET_TRIES_UPGRADED: Final = 2
"""The same for other streams, which would go on to do what is not allowed any more."""
LOOK_SECONDS: Final = 300.0
"""Between two looks at a stream that has outlived its token."""
WARNING_SECONDS: Final = 60
"""Before a login ends, who sees the output of its commands is told."""

Recheck = Callable[[Exchange], str]
"""Why an exchange may not go on, "" when it may."""
Ends = Callable[[Exchange], float]
"""When an exchange ends at the latest, in epoch seconds."""


class LongRunning:
    """All open long-running exchanges.

    Args:
        recheck: asks the doors again, without side effects.
        look: the same, and whether they know what has happened since.
        ends: with the login.
    """

    def __init__(self, recheck: Recheck, look: Recheck, ends: Ends) -> None:
        self._recheck = recheck
        self._look = look
        self._ends = ends
        self._open: dict[Exchange, tuple[str, ...]] = {}
        self._by_credential: dict[str, set[Exchange]] = {}
        self._expiries: list[tuple[float, int, Exchange]] = []
        self._outputs: dict[Exchange, Output] = {}
        """Where somebody would see a warning."""
        self._order = itertools.count()
        self._ending: dict[Exchange, tuple[int, int]] = {}
        self._begun: set[Exchange] = set()
        """Those of `_ending` that have not been watched for a whole second yet."""

    def __len__(self) -> int:
        """Open exchanges."""
        return len(self._open)

    def exchanges(self) -> Collection[Exchange]:
        """All that are open."""
        return self._open.keys()

    def add(self, exchange: Exchange, expires: float, credentials: tuple[str, ...] = ()) -> None:
        """A long-running exchange was let through.

        Args:
            exchange: the exchange.
            expires: when its token ends: epoch seconds, leeway included.
            credentials: ids of its token and its login, for `recheck`.
        """
        if exchange.head.upgrade and (output := output_of(exchange)) is not None:
            self._outputs[exchange] = output
        exchange.head = exchange.head._replace(authorization=b"", forwarded=(), target=b"")
        self._open[exchange] = credentials
        for credential in credentials:
            self._by_credential.setdefault(credential, set()).add(exchange)
        self._look_at(exchange, expires)

    def _look_at(self, exchange: Exchange, when: float) -> None:
        heapq.heappush(self._expiries, (when, next(self._order), exchange))

    def remove(self, exchange: Exchange) -> None:
        """An exchange ended by itself; its place in the heap goes when its time comes."""
        for credential in self._open.pop(exchange, ()):
            self._by_credential[credential].discard(exchange)
            if not self._by_credential[credential]:
                del self._by_credential[credential]
        self._ending.pop(exchange, None)
        self._begun.discard(exchange)
        self._outputs.pop(exchange, None)
        if len(self._expiries) > 64 and len(self._expiries) > 4 * len(self._open):
            self._expiries = [item for item in self._expiries if item[2] in self._open]
            heapq.heapify(self._expiries)

    def second(self, now: float) -> None:
        """Once a second: ends what has expired. `now` is epoch seconds."""
        waited = [it for it in self._ending if it not in self._begun]
        _ENDING.each(waited, self._go_on_ending, self.break_off)
        due: list[Exchange] = []
        while self._expiries and self._expiries[0][0] <= now:
            exchange = heapq.heappop(self._expiries)[2]
            if exchange in self._open:
                due.append(exchange)
        _CHECKED.each(due, lambda it: self._look_again(it, now), self.break_off)
        self._begun.clear()

    def _look_again(self, exchange: Exchange, now: float) -> None:
        """Its time has come: it ends, or is looked at again some time later."""
        if self._check(exchange, self._look):
            return
        ends = self._ends(exchange)
        if ends - WARNING_SECONDS <= now < ends:
            self._warn(exchange, round(ends - now))
        soon = now < ends - WARNING_SECONDS
        self._look_at(exchange, min(now + LOOK_SECONDS, ends - WARNING_SECONDS if soon else ends))

    def _warn(self, exchange: Exchange, seconds: int) -> None:
        """Tells somebody who sees the output of a command, between two messages."""
        output, session = self._outputs.get(exchange), session_of(exchange)
        if output is None or session is None or exchange in self._ending:
            return
        if told := warning(exchange, output, seconds):
            session.say(told)

    def recheck(self, credential: str) -> None:
        """A token or a login was ended: asks again of its own exchanges, and nobody else's."""
        own = list(self._by_credential.get(credential, ()))
        _CHECKED.each(own, lambda it: self._check(it, self._recheck), self.break_off)

    def recheck_all(self) -> None:
        """The policy or the users changed."""
        _CHECKED.each(list(self._open), lambda it: self._check(it, self._recheck), self.break_off)

    def drain(self, reason: str, tunnel: object = None) -> None:
        """Ends watches between two events: their clients resume elsewhere.

        Args:
            reason: for the log.
            tunnel: only the exchanges of this tunnel; None means all. What cannot be resumed goes
                on until its connection ends.
        """
        concerned = [it for it in self._open if tunnel is None or _passes(it, tunnel)]
        resumable = [it for it in concerned if not it.head.upgrade and is_resumed(it)]
        _DRAINED.each(resumable, lambda it: self._begin_to_end(it, reason), self.break_off)

    def _check(self, exchange: Exchange, recheck: Recheck) -> bool:
        """Whether it was ended, because it may not go on."""
        reason = recheck(exchange)
        if reason:
            entry = exchange.entry
            entry.refusal = "ENDED"
            entry.facts = entry.facts._replace(reason=reason)
            self._begin_to_end(exchange, reason)
        return bool(reason)

    def _begin_to_end(self, exchange: Exchange, reason: str) -> None:
        if exchange in self._ending:
            return
        log.info("stream.ended", extra={"audit_id": exchange.entry.audit_id, "reason": reason})
        words = last_words(exchange, reason)
        if words is None:
            self._end(exchange, clean=False)
            return
        exchange.closing_event = words
        self._ending[exchange] = (-1, 0)
        self._begun.add(exchange)
        session = session_of(exchange)
        if session is not None:
            session.end_with(words)
        else:
            self._try_to_end(exchange, -1, 0)

    def _try_to_end(self, exchange: Exchange, seen: int, tries: int) -> None:
        """Ends a stream between two events or messages; one that is never quiet is broken off."""
        front = exchange.front
        quiet = front.sent == seen and front.pending is None and session_of(exchange) is None
        limit = _QUIET_TRIES_UPGRADED if exchange.head.upgrade else _QUIET_TRIES
        if quiet and front.head_passed:
            self._end(exchange, clean=True)
        elif not front.head_passed or tries >= limit:
            self._end(exchange, clean=False)
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
