"""Passwords: bcrypt, off the event loop, as slow for strangers as for users.

Used by the management API (login, new users) and by `mk8s-central init`.
bcrypt reads 72 bytes and stops; so that a long pass phrase counts whole, what bcrypt gets is
base64(HMAC-SHA256(fixed key, password)): 44 bytes without NUL. The fixed key is no secret; it
makes our intermediate hashes useless with lists of plain SHA-256 hashes of other leaks.
"""

import asyncio
import base64
import contextlib
import functools
import hashlib
import hmac
import os
import sys
import threading
import unicodedata
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

import bcrypt

SHORTEST = 12
"""Fewest characters of a password, NIST SP 800-63B section 5.1.1.2 asks for 8 at least."""

LONGEST = 1024
"""Most characters of a password: nobody types more, and hashing megabytes is an attack."""

ROUNDS = 12
"""bcrypt cost: about a quarter of a second of one core."""

NICENESS: Final = 10
"""Of the threads that hash: the event loop, which everybody waits for, goes before them."""

_T = TypeVar("_T")

_PREFIX = "bcrypt-hmac-sha256:"
_KEY = b"mk8s password 1"


class TooManyChecks(Exception):
    """So many passwords are waiting that this one would wait for seconds: answer 429."""


def hash_password(password: str, *, rounds: int = ROUNDS) -> str:
    """Hash a password for the database. Takes a quarter of a second: not on the event loop."""
    return _PREFIX + bcrypt.hashpw(_prepare(password), bcrypt.gensalt(rounds)).decode()


def check_password(password: str, stored: str | None, *, rounds: int = ROUNDS) -> bool:
    """Compare a password with the stored hash, taking the same time when there is none.

    Args:
        password: What was typed.
        stored: Column password_hash, None for an unknown user or one without a password.
        rounds: Cost of the dummy comparison; that of the stored hashes.
    """
    hashed = (stored or "").removeprefix(_PREFIX)
    usable = stored is not None and stored.startswith(_PREFIX)
    try:
        matches = bcrypt.checkpw(_prepare(password), hashed.encode() if usable else _dummy(rounds))
    except ValueError:  # a hash that bcrypt did not write
        return False
    return matches and usable


def at_once(processes: int = 1) -> int:
    """How many passwords one of so many processes looks at at once: half of the cores are left to
    everything else."""
    if sys.platform == "linux":
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    return max(cores // 2 // processes, 1)


def step_back() -> None:
    """Lower the priority of the calling thread, where threads have one of their own: on Linux."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)


class PasswordHasher:
    """The two functions above as coroutines, a few at a time in threads of low priority.

    Args:
        rounds: bcrypt's cost.
        workers: so many compute at once, so that logins leave cores to the handler chain.
        waiting: so many queue up, so that a flood is answered at once instead of after minutes.
    """

    def __init__(self, *, rounds: int = ROUNDS, workers: int = 1, waiting: int = 32) -> None:
        self._rounds = rounds
        self._workers = asyncio.Semaphore(workers)
        self._free = workers + waiting
        self._threads = ThreadPoolExecutor(workers, "passwords", initializer=step_back)

    async def hash(self, password: str) -> str:
        """Hash a password for the database.

        Raises:
            TooManyChecks: Too many are waiting.
        """
        return await self._run(functools.partial(hash_password, password, rounds=self._rounds))

    async def check(self, password: str, stored: str | None) -> bool:
        """Compare a password with the stored hash, None for no such user.

        Raises:
            TooManyChecks: Too many are waiting.
        """
        check = functools.partial(check_password, password, stored, rounds=self._rounds)
        return await self._run(check)

    async def _run(self, work: Callable[[], _T]) -> _T:
        async with self._place():
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    @contextlib.asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        if self._free <= 0:
            raise TooManyChecks
        self._free -= 1
        try:
            async with self._workers:
                yield
        finally:
            self._free += 1


def _prepare(password: str) -> bytes:
    """Normalise as RFC 8265 section 4.2 (NFC), then shorten to what bcrypt reads."""
    text = unicodedata.normalize("NFC", password).encode("utf-8", "surrogatepass")
    return base64.b64encode(hmac.digest(_KEY, text, hashlib.sha256))


def _dummy(rounds: int) -> bytes:
    """Return a well-formed hash of that cost which no password is known to have."""
    return b"$2b$%02d$%s" % (rounds, b"." * 53)
