"""Keeps tunnels to central open: dials, dials again, replaces, drains.

Made by ``mk8s_agent.main``, which hands it ``connect``; it knows nothing of what a tunnel is but
`TunnelHandle`. How long to wait depends on what went wrong. Central that is not there is asked
again within a second for as long as it takes, since a refused connection costs nobody anything and
people wait for it; central that is there and says no is asked less and less often. Waits are drawn
at random below a ceiling that doubles, so a thousand agents do not come back at once.

Central may be several processes behind one address, each of which serves only through tunnels of
its own; which one answers a dial is not ours to choose. So a tunnel to a process that is reached
by another one already is replaced by another try, less and less often, until all are reached; and
the last tunnel to a process is not drained while that goes on, for there is no other way to it.
"""

import asyncio
import dataclasses
import logging
import random
import ssl
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

from mk8s_agent.wire.background import Background, OwnedTasks
from mk8s_agent.wire.bulkhead import Bulkhead

TUNNELS: Final = 2
"""So that one may end without a gap, and two replicas of central can be reached."""
CONNECT_SECONDS: Final = 10.0
FIRST_PAUSE: Final = 0.1
ABSENT_PAUSE: Final = 0.8
"""Longest pause while central is out of reach."""
REFUSED_PAUSE: Final = 30.0
"""Longest pause while central refuses, or is not trusted."""
MOST_TUNNELS: Final = 64
"""Held at most, however many processes central says that it is."""
_LEFT: Final = -1
"""Instead of a generation: we have drained the tunnel."""
_LINGERS: Final = -2
"""Instead of a generation: we shall, once another one reaches the same process."""
LINGER_SECONDS: Final = 30.0
"""That is waited for so long: which one a dial reaches may be a matter of the balancer's liking."""
STEADY_SECONDS: Final = 10.0
"""A tunnel that lived so long was a success; a shorter one counts as a refusal."""

_DRAIN: Final = Bulkhead("dialer.drain")
_CUT: Final = Bulkhead("dialer.cut")

log = logging.getLogger(__name__)


class TunnelRefused(Exception):
    """Raised by ``connect``: central is there and does not want this tunnel. Says why."""


class TunnelHandle(Protocol):
    """One open tunnel, as the dialer sees it."""

    closed: asyncio.Future[str]
    """Done when the tunnel is gone, with the reason; never with an exception."""
    draining: asyncio.Future[None]
    """Done when central has asked for a replacement; the tunnel goes on until `closed`."""

    @property
    def instance(self) -> str:
        """Which process of central is at the other end; "" when it did not tell."""
        ...

    @property
    def instances(self) -> int:
        """How many processes central consists of; 0 when it did not tell."""
        ...

    def drain(self) -> None:
        """Send GOAWAY: take no new stream, end when those that are open have ended."""
        ...

    def close(self) -> None:
        """End at once."""
        ...


@dataclasses.dataclass(slots=True)
class Backoff:
    """How long to wait before the next try; one for each place of a tunnel."""

    draw: Callable[[float, float], float] = random.uniform
    _ceiling: float = FIRST_PAUSE

    def reset(self) -> None:
        """Begin again: it worked."""
        self._ceiling = FIRST_PAUSE

    def pause(self, error: BaseException | None) -> float:
        """Give the seconds to wait after a failure; None stands for a tunnel that ended early."""
        longest = ABSENT_PAUSE if error is not None and is_absence(error) else REFUSED_PAUSE
        ceiling = min(self._ceiling, longest)
        self._ceiling = min(ceiling * 2, REFUSED_PAUSE)
        # never zero: a loop that fails at once must not take the whole processor
        return self.draw(FIRST_PAUSE / 2, ceiling)


def is_absence(error: BaseException) -> bool:
    """Tell whether central was not reached at all, or left in the middle of a handshake."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
            return True
        if isinstance(seen, (ssl.SSLError, TunnelRefused)):
            return False
        if isinstance(seen, OSError):  # TimeoutError and a failed name lookup among them
            return True
        seen = seen.__cause__ or seen.__context__
    return False


class Dialer:
    """Keeps ``tunnels`` tunnels open until `drain`, and one to each process of central.

    Args:
        connect: opens one tunnel and returns when central has accepted it. Called anew for each, so
            that it uses the identity of the moment. Whatever it raises is logged and tried again.
        background: where the places of tunnels are kept.
        tunnels: how many.
        draw: random number between two, for the pauses.
        monotonic: seconds that never jump.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[TunnelHandle]],
        background: Background,
        tunnels: int = TUNNELS,
        *,
        draw: Callable[[float, float], float] = random.uniform,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connect = connect
        self._tunnels = tunnels
        self._draw = draw
        self._monotonic = monotonic
        self._live: dict[TunnelHandle, int] = {}
        """Open tunnels, oldest first, with the generation of the identity that dialled each."""
        self._generation = 0
        self._places: set[int] = set()
        self._tasks = OwnedTasks(background)
        loop = asyncio.get_running_loop()
        self._stopping: asyncio.Future[None] = loop.create_future()
        self._replace: asyncio.Future[None] = loop.create_future()
        self._last_reason = ""

    @property
    def connected(self) -> int:
        """Tunnels that take new requests."""
        return len(self._serving())

    async def run(self) -> None:
        """Keep the tunnels open; returns after `drain`, when the last one has ended."""
        self._fill()
        await self._tasks.ended()
        while self._live:
            await asyncio.wait([handle.closed for handle in self._live])

    def replace(self) -> None:
        """Open each tunnel anew, then drain the old one: the identity has changed."""
        self._generation += 1
        self._replace.set_result(None)
        self._replace = asyncio.get_running_loop().create_future()

    async def drain(self, seconds: float) -> int:
        """Leave politely: dial no more, let requests end, close what is left after ``seconds``.

        Returns:
            The number of tunnels that had to be cut.
        """
        self._stop()
        _DRAIN.each(list(self._live), lambda handle: handle.drain(), lambda it: it.close())
        if self._live:
            await asyncio.wait([handle.closed for handle in self._live], timeout=seconds)
        return self.cut()

    def cut(self) -> int:
        """Close all tunnels at once, requests included; gives their number."""
        self._stop()
        left = [handle for handle in self._live if not handle.closed.done()]
        _CUT.each(left, lambda handle: handle.close())
        return len(left)

    def _stop(self) -> None:
        if not self._stopping.done():
            self._stopping.set_result(None)

    # -- how many, and to whom

    @property
    def _wanted(self) -> int:
        told = max((handle.instances for handle in self._live), default=0)
        return max(self._tunnels, min(told, MOST_TUNNELS))

    def _fill(self) -> None:
        """Begin to keep the places that are not kept yet."""
        for place in range(self._wanted):
            if place not in self._places:
                self._places.add(place)
                self._tasks.start("tunnel.place", self._keep(place), fields={"place": place})

    def _serving(self) -> list[TunnelHandle]:
        open_now = (it for it, generation in self._live.items() if generation >= 0)
        return [it for it in open_now if not (it.closed.done() or it.draining.done())]

    def _spare(self, handle: TunnelHandle) -> bool:
        """Whether an older tunnel reaches the same process, while some process is not reached, or
        only by one that is to go: replicas do not tell how many they are."""
        serving = self._serving()
        oldest = next((it for it in serving if it.instance == handle.instance), handle)
        known = {it.instance for it, state in self._live.items() if state != _LEFT}
        there = max(handle.instances, len(known))
        return oldest is not handle and len({it.instance for it in serving}) < there

    def _outdated(self, handle: TunnelHandle) -> bool:
        """Whether it has to be replaced, whomever the next one reaches."""
        return handle.draining.done() or self._live.get(handle) != self._generation

    def _choose(self, old: TunnelHandle | None, fresh: TunnelHandle) -> TunnelHandle:
        """Which of the two stays; the other one goes."""
        stays = fresh
        if old is not None and not old.closed.done():
            known = {it.instance for it in self._serving() if it is not fresh}
            stays = fresh if self._outdated(old) or fresh.instance not in known else old
            self._let_go(old if stays is fresh else fresh)
        self._leave_reached()
        return stays

    def _let_go(self, handle: TunnelHandle) -> None:
        """To be drained once its process is reached by another one, or in a while; or at once,
        where central leaves itself."""
        if handle.draining.done() or handle not in self._live:
            self._leave(handle)
            return
        self._live[handle] = _LINGERS
        asyncio.get_running_loop().call_later(LINGER_SECONDS, self._leave, handle)

    def _leave_reached(self) -> None:
        reached = {it.instance for it in self._serving()}
        for handle in [it for it, state in self._live.items() if state == _LINGERS]:
            if handle.instance in reached:
                self._leave(handle)

    def _leave(self, handle: TunnelHandle) -> None:
        if handle in self._live:
            self._live[handle] = _LEFT
        handle.drain()

    # -- one place

    async def _keep(self, place: int) -> None:
        backoff, search = Backoff(self._draw), Backoff(self._draw)
        held: TunnelHandle | None = None
        try:
            while not self._stopping.done() and (held is not None or place < self._wanted):
                try:
                    held = await self._take_turn(held, backoff, search)
                except Exception as error:
                    log.exception("tunnel.turn_failed", extra={"place": place})
                    await self._rest(backoff.pause(error))
        finally:
            self._places.discard(place)

    async def _take_turn(
        self, held: TunnelHandle | None, backoff: Backoff, search: Backoff
    ) -> TunnelHandle | None:
        """Dial and keep what came of it; gives the tunnel that the next turn is to replace."""
        fresh = await self._dial(backoff)
        if fresh is None:
            return held
        try:
            held, opened = self._choose(held, fresh), self._monotonic()
            held = await self._serve(held, search)
        except Exception:
            self._leave(fresh)  # nobody would watch over it
            raise
        if held is not None and not self._outdated(held):
            return held  # it waited for its next try already
        if self._monotonic() - opened >= STEADY_SECONDS:
            backoff.reset()
        else:
            await self._rest(backoff.pause(None))
        return held

    async def _dial(self, backoff: Backoff) -> TunnelHandle | None:
        generation = self._generation
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                handle = await self._connect()
        except Exception as error:  # noqa: BLE001  whatever goes wrong with one try, go on trying
            self._complain(error)
            await self._rest(backoff.pause(error))
            return None
        self._last_reason = ""
        self._live[handle] = generation
        handle.closed.add_done_callback(lambda _: self._live.pop(handle, None))
        if self._stopping.done():
            handle.close()
        else:
            self._fill()
        log.info("tunnel.opened", extra={"tunnels": self.connected})
        return handle

    async def _serve(self, handle: TunnelHandle, search: Backoff) -> TunnelHandle | None:
        """Wait until the place needs another tunnel; give the one to replace then, if any."""
        events: set[asyncio.Future[Any]] = {
            *(handle.closed, handle.draining),
            *(self._replace, self._stopping),
        }
        await self._until_needed(handle, events, search)
        if handle.closed.done():
            log.info("tunnel.closed", extra={"reason": str(handle.closed.result())})
            return None
        if self._stopping.done():
            return None
        if self._outdated(handle):
            by = "central" if handle.draining.done() else "agent"
            log.info("tunnel.replacing", extra={"by": by})
        return handle

    async def _until_needed(
        self, handle: TunnelHandle, events: set[asyncio.Future[Any]], search: Backoff
    ) -> None:
        """Return when something happened, or when it is time for another try at a process."""
        while self._live.get(handle) == self._generation:
            spare = self._spare(handle)
            if not spare:
                search.reset()
            pause = search.pause(None) if spare else None
            done, _ = await asyncio.wait(events, timeout=pause, return_when=asyncio.FIRST_COMPLETED)
            if done or self._spare(handle):
                return

    async def _rest(self, seconds: float) -> None:
        await asyncio.wait([self._stopping], timeout=seconds)

    def _complain(self, error: Exception) -> None:
        reason = str(error) or type(error).__name__
        if reason != self._last_reason:  # once, not ten times in a second
            self._last_reason = reason
            log.warning("tunnel.not_opened", extra={"reason": reason, "advice": "will try again"})
