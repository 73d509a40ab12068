"""Logins that come at once: those beyond what may be guessed wait for the ones before them.

Used by the management API around `throttle`. A job that logs in a hundred times in parallel has
the right password each time, and so have the others behind one address; whether that is so is known
once the first ones have been looked at. Until then the next ones wait, some seconds at most and not
too many of one source; what turns out wrong is refused by the throttle as if it had come later.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

from mk8s_proxy.identity.throttle import LoginThrottle, Throttled, account_key, source_key

WAITING_OF_SOURCE: Final = 200
WAITING: Final = 2000
PATIENCE_SECONDS: Final = 20.0
_STALE_SECONDS: Final = 30.0
"""After so long without a change what another worker has begun was lost with it."""
_MANY: Final = 4096

Tell = Callable[[str, str, str], object]
"""Takes "begin" or "end", the source and the account of an attempt, for `note` of other workers."""


def _nobody(_event: str, _source: str, _account: str) -> None:
    """There are no other workers."""


class LoginQueue:
    """The attempts whose passwords are being looked at, and those that wait for them.

    Args:
        throttle: says who has guessed too often.
        tell: told when an attempt begins and ends.
        clock: seconds that never jump.
    """

    def __init__(
        self,
        throttle: LoginThrottle,
        tell: Tell = _nobody,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.throttle = throttle
        self._tell = tell
        self._clock = clock
        self._open: dict[str, tuple[int, float]] = {}
        """Attempts under way by source and by account, and when that changed last."""
        self._waiting: dict[asyncio.Future[None], tuple[str, str]] = {}

    @asynccontextmanager
    async def attempt(
        self, account: str, source: str, is_known: Callable[[], Awaitable[bool]]
    ) -> AsyncIterator[None]:
        """Admit an attempt, which is under way within the block.

        Args:
            account: The email address as given.
            source: The client's address.
            is_known: Whether the account has logged in from there; asked when it matters.

        Raises:
            Throttled: Not before some seconds.
        """
        keys = source_key(source), account_key(account)
        await self._admit(account, source, keys, is_known)
        self.note("begin", *keys)
        self._tell("begin", *keys)
        try:
            yield
        finally:
            self.note("end", *keys)
            self._tell("end", *keys)

    def note(self, event: str, source: str, account: str) -> None:
        """Take the begin or end of an attempt, of this worker or one that another told."""
        change, now = (1 if event == "begin" else -1), self._clock()
        for key in (source, account):
            count = self._under_way(key) + change
            if count > 0:
                self._open[key] = (count, now)
            else:
                self._open.pop(key, None)
        if len(self._open) > _MANY:
            self._open = {key: it for key, it in self._open.items() if self._under_way(key)}
        if event != "begin":
            self._wake(source, account)

    async def _admit(
        self,
        account: str,
        source: str,
        keys: tuple[str, str],
        is_known: Callable[[], Awaitable[bool]],
    ) -> None:
        deadline = self._clock() + PATIENCE_SECONDS
        known, asked = False, False
        while True:
            try:
                self.throttle.admit(account, source, known=known)
            except Throttled as refused:
                if refused.account_only and not asked:
                    known, asked = await is_known(), True
                elif not await self._turn(keys, deadline):
                    raise
            else:
                return

    async def _turn(self, keys: tuple[str, str], deadline: float) -> bool:
        """Wait until an attempt ends that this one could depend on; False if there is none."""
        source, account = keys
        left = deadline - self._clock()
        if left <= 0 or not (self._under_way(source) or self._under_way(account)):
            return False
        of_source = sum(1 for other, _ in self._waiting.values() if other == source)
        if len(self._waiting) >= WAITING or of_source >= WAITING_OF_SOURCE:
            return False
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[turn] = keys
        try:
            async with asyncio.timeout(left):
                await turn
        except TimeoutError:
            return False
        finally:
            self._waiting.pop(turn, None)
        return True

    def _wake(self, source: str, account: str) -> None:
        for turn, keys in self._waiting.items():
            if not turn.done() and (keys[0] == source or keys[1] == account):
                turn.set_result(None)

    def _under_way(self, key: str) -> int:
        count, changed = self._open.get(key, (0, 0.0))
        return count if self._clock() - changed < _STALE_SECONDS else 0
