"""Streams that outlive a decision: watches, followed logs, exec, port-forward.

A short request is decided once. One that stays open is looked at again when its token ends, from
then on from time to time, and whenever the policy, the logins or the users change. It ends when it
would not be allowed any more: with its login, not with the token that opened it.
However many are open, the other work of the process goes on in between: they are looked at, and
ended, some at a time.
The handler chain adds such exchanges here; `app` calls `second`, `recheck` and `recheck_all`.
"""

import heapq
import itertools
import logging
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Final

from mk8s_agent.wire.bulkhead import Bulkhead
from mk8s_agent.wire.http2.frames import ErrorCode
from mk8s_agent.wire.stream import abort_connection, part
from mk8s_agent.wire.ticks import CallLater
from mk8s_proxy.answers.upgraded_session import session_of
from mk8s_proxy.chain.farewell import Output, is_resumed, last_words, output_of, warning
from mk8s_proxy.listener.exchange import Exchange

log = logging.getLogger(__name__)

_CHECKED: Final = Bulkhead("long_running.checked")
_ENDING: Final = Bulkhead("long_running.ending")
_DRAINED: Final = Bulkhead("long_running.drained")
AT_ONCE: Final = 100
"""Exchanges that are looked at or ended in one go; a new policy has no decision at hand yet."""
PACE_SECONDS: Final = 0.2
"""Between two looks at those that are ending: whether a moment between two events has come."""
_LOOKS: Final = 3
"""Of one that may not go on: at the last it is broken off, for its client would see more."""
_DRAIN_SECONDS: Final = 10
"""The same of one that could go on elsewhere, and that has to rest for a second."""
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
        later: the loop's `call_later`; without it all is done at once, and `second` is the pace.
    """

    def __init__(
        self, recheck: Recheck, look: Recheck, ends: Ends, later: CallLater | None = None
    ) -> None:
        self._recheck = recheck
        self._look = look
        self._ends = ends
        self._open: dict[Exchange, tuple[str, ...]] = {}
        self._by_credential: dict[str, set[Exchange]] = {}
        self._expiries: list[tuple[float, int, Exchange]] = []
        self._outputs: dict[Exchange, Output] = {}
        """Where somebody would see a warning."""
        self._order = itertools.count()
        self._later = later
        self._looks_per_second = 1 if later is None else round(1 / PACE_SECONDS)
        self._sweep: dict[Exchange, None] = {}
        """Those that are still to be asked about since something has changed."""
        self._sweeping = False
        self._ending: dict[Exchange, _Ending] = {}
        self._begun: set[Exchange] = set()
        """Those of `_ending` that have not been watched from one look to the next yet."""
        self._pacing = False

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
        self._sweep.pop(exchange, None)
        self._ending.pop(exchange, None)
        self._begun.discard(exchange)
        self._outputs.pop(exchange, None)
        if len(self._expiries) > 64 and len(self._expiries) > 4 * len(self._open):
            self._expiries = [item for item in self._expiries if item[2] in self._open]
            heapq.heapify(self._expiries)

    def second(self, now: float) -> None:
        """Once a second: ends what has expired. `now` is epoch seconds."""
        if self._later is None:
            self._look_at_endings()
        due: list[Exchange] = []
        while self._expiries and self._expiries[0][0] <= now:
            exchange = heapq.heappop(self._expiries)[2]
            if exchange in self._open:
                due.append(exchange)
        self._in_turns(_CHECKED, due, lambda it: self._look_again(it, now))
        if self._later is None:
            self._begun.clear()

    def _look_again(self, exchange: Exchange, now: float) -> None:
        """Its time has come: it ends, or is looked at again some time later."""
        if exchange not in self._open or self._check(exchange, self._look):
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
        self._in_turns(_CHECKED, own, self._check_open)

    def recheck_all(self) -> None:
        """The policy or the users changed. Those that wait since the last time keep their turn, so
        that each has one however often that is."""
        self._sweep |= dict.fromkeys(self._open)
        if not self._sweeping:
            self._go_on_sweeping()

    def _go_on_sweeping(self) -> None:
        due = list(itertools.islice(self._sweep, AT_ONCE))
        for exchange in due:
            del self._sweep[exchange]
        _CHECKED.each(due, self._check_open, self.break_off)
        self._sweeping = bool(self._sweep)
        if self._sweeping:
            self._soon(self._go_on_sweeping)

    def _in_turns(
        self, bulkhead: Bulkhead, items: Sequence[Exchange], do: Callable[[Exchange], object]
    ) -> None:
        """Does it with each, while others get their turn in between."""
        bulkhead.each(items[:AT_ONCE], do, self.break_off)
        if rest := items[AT_ONCE:]:
            self._soon(lambda: self._in_turns(bulkhead, rest, do))

    def _soon(self, do: Callable[[], None]) -> None:
        if self._later is None:
            do()
        else:
            self._later(0.0, do)

    def _check_open(self, exchange: Exchange) -> None:
        if exchange in self._open:  # what ended before it may have ended it, too
            self._check(exchange, self._recheck)

    def drain(self, reason: str, tunnel: object = None) -> None:
        """Ends watches between two events: their clients resume elsewhere.

        Args:
            reason: for the log. An answer that has not begun is waited for.
            tunnel: only the exchanges of this tunnel; None means all. What cannot be resumed goes
                on until its connection ends.
        """
        concerned = [it for it in self._open if tunnel is None or _passes(it, tunnel)]
        resumable = [it for it in concerned if not it.head.upgrade and is_resumed(it)]
        drain = partial(self._begin_to_end, reason=reason, drain=True)
        _DRAINED.each(resumable, drain, self.break_off)

    def _check(self, exchange: Exchange, recheck: Recheck) -> bool:
        """Whether it was ended, because it may not go on."""
        reason = recheck(exchange)
        if reason:
            entry = exchange.entry
            entry.refusal = "ENDED"
            entry.facts = entry.facts._replace(reason=reason)
            self._begin_to_end(exchange, reason)
        return bool(reason)

    def _begin_to_end(self, exchange: Exchange, reason: str, *, drain: bool = False) -> None:
        known = self._ending.get(exchange)
        if known is not None and (drain or known.most <= _LOOKS):
            return
        log.info("stream.ended", extra={"audit_id": exchange.entry.audit_id, "reason": reason})
        words = last_words(exchange, reason)
        if words is None or not (drain or exchange.front.head_passed):
            self._end(exchange, clean=False)
            return
        exchange.closing_event = words
        a_second = self._looks_per_second
        rest, most = (a_second, _DRAIN_SECONDS * a_second) if drain else (1, _LOOKS)
        self._ending[exchange] = _Ending(rest, most, exchange.front.sent)
        session = session_of(exchange)
        if session is not None:
            session.end_with(words)
        self._keep_pace(exchange)

    def _keep_pace(self, exchange: Exchange) -> None:
        if self._later is None or self._pacing:
            self._begun.add(exchange)
        elif self._ending:
            self._pacing = True
            self._later(PACE_SECONDS, self._look_at_endings)

    def _look_at_endings(self) -> None:
        """Ends streams between two events or messages; one that is never quiet is broken off."""
        waited = [it for it in self._ending if it not in self._begun]
        self._in_turns(_ENDING, waited, self._try_to_end)
        if self._later is None:
            return
        self._begun.clear()
        self._pacing = bool(self._ending)
        if self._pacing:
            self._later(PACE_SECONDS, self._look_at_endings)

    def _try_to_end(self, exchange: Exchange) -> None:
        ending, front = self._ending.get(exchange), exchange.front
        if ending is None:  # what ended before it may have ended it, too
            return
        ending.looks += 1
        ending.quiet = ending.quiet + 1 if front.sent == ending.seen else 0
        ending.seen = front.sent
        rests = front.head_passed and front.pending is None and session_of(exchange) is None
        if ending.quiet >= ending.rest and rests:
            self._end(exchange, clean=True)
        elif ending.looks >= ending.most:
            self._end(exchange, clean=False)

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


class _Ending:
    """One that is about to end.

    Args:
        rest: looks from one to the next of which it must have been quiet.
        most: looks at most.
        seen: bytes that it had sent at the last one.
    """

    __slots__ = ("looks", "most", "quiet", "rest", "seen")

    def __init__(self, rest: int, most: int, seen: int) -> None:
        self.rest = rest
        self.most = most
        self.seen = seen
        self.quiet = 0
        self.looks = 0


def _passes(exchange: Exchange, tunnel: object) -> bool:
    return exchange.back is not None and exchange.back.connection is tunnel
