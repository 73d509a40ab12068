"""The token in the Authorization header: fixed, from a file that is rotated, or from a plugin.

Made by `mk8s_agent.credentials.sources`, asked for every request.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, Protocol

from mk8s_agent.credentials.exec_plugin import ExecCredential, ExecPluginError

_TOKEN_CHECK_SECONDS: Final = 1.0
"""How often a token file is looked at; the kubelet rotates it some minutes before it expires."""
_KEEP_SECONDS: Final = 10.0
"""How long a token outlives what its file holds: who writes in place truncates first."""
_RENEW_BEFORE_SECONDS: Final = 60.0
_RETRY_SECONDS: Final = 10.0
_MAX_TOKEN_CHARACTERS: Final = 65536

log = logging.getLogger(__name__)


class CredentialsGone(Exception):
    """While running: there is no credential now, so no request may be sent."""


class TokenSource(Protocol):
    """One way to get what goes into the Authorization header."""

    def authorization(self) -> bytes:
        """Give the header's value, b"" where a client certificate authenticates instead.

        Raises:
            CredentialsGone: there is none at the moment.
        """
        ...

    def rejected(self) -> None:
        """Be told that the API server answered 401."""
        ...

    async def keep_fresh(self) -> None:
        """Run for as long as the agent does, renewing what has to be renewed ahead of its end."""
        ...


def bearer(token: str, where: str) -> bytes:
    """Give the header value for a token.

    Raises:
        CredentialsGone: the token is empty or could not stand in a header.
    """
    if not token:
        raise CredentialsGone(f"{where} is empty")
    if not (token.isascii() and token.isprintable() and " " not in token):
        raise CredentialsGone(f"{where} holds no token")
    return b"Bearer " + token.encode()


class StaticSource:
    """A token that never changes, or none beside a client certificate."""

    def __init__(self, token: str) -> None:
        self._header = bearer(token, "the token of the kubeconfig") if token else b""

    def authorization(self) -> bytes:
        """Give the value that was configured."""
        return self._header

    def rejected(self) -> None:
        """Do nothing; there is no other token."""

    async def keep_fresh(self) -> None:
        """Wait; there is nothing to renew."""
        await asyncio.Event().wait()


class FileSource:
    """A token in a file that somebody else rotates."""

    def __init__(self, path: Path, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._monotonic = monotonic
        self._next_check = 0.0
        self._seen: tuple[int, int, int] | None = None
        self._header = b""
        self._reason = ""
        self._lost_at: float | None = None
        self._checked = False

    def authorization(self) -> bytes:
        """Give the token that is in the file, looking there at most once in a second."""
        now = self._monotonic()
        if not self._checked or now >= self._next_check:
            self._next_check = now + _TOKEN_CHECK_SECONDS
            self._checked = True
            self._read()
        if not self._header:
            raise CredentialsGone(self._reason)
        return self._header

    def _read(self) -> None:
        try:
            status = self._path.stat()
            seen = (status.st_mtime_ns, status.st_ino, status.st_size)
            if seen == self._seen:
                return
            with self._path.open("r", encoding="ascii", errors="replace") as file:
                token = file.read(_MAX_TOKEN_CHARACTERS).strip()
            self._header = bearer(token, f"the token file {self._path}")
        except OSError as error:
            self._header = b""  # taken away, and not being written
            self._lose(f"cannot read the token file {self._path}: {error.strerror}")
        except CredentialsGone as error:
            self._lose(str(error))
        else:
            self._seen, self._lost_at = seen, None

    def _lose(self, reason: str) -> None:
        self._seen, self._reason = None, reason
        now = self._monotonic()
        if self._lost_at is None:
            self._lost_at = now
            if self._header:
                log.warning("credential.token_file_not_usable", extra={"reason": reason})
        if now - self._lost_at >= _KEEP_SECONDS:
            self._header = b""

    def rejected(self) -> None:
        """Read the file again at the next request, and keep nothing that was refused."""
        self._checked, self._seen = False, None
        if self._lost_at is not None:
            self._header = b""

    async def keep_fresh(self) -> None:
        """Wait; each request looks."""
        await asyncio.Event().wait()


class ExecSource:
    """A token or client certificate that a plugin prints."""

    def __init__(
        self,
        run: Callable[[], Awaitable[ExecCredential]],
        *,
        clock: Callable[[], float] = time.time,
        changed: Callable[[ExecCredential], None],
    ) -> None:
        self._run = run
        self._clock = clock
        self._changed = changed
        self._credential: ExecCredential | None = None
        self._header = b""
        self._renew_at: float | None = 0.0
        self._wanted = asyncio.Event()

    async def renew(self) -> None:
        """Run the plugin.

        Raises:
            ExecPluginError: it gave nothing; what was there stays until it expires.
        """
        credential = await self._run()
        where = "the answer of the credential plugin"
        try:
            header = bearer(credential.token, where) if credential.token else b""
        except CredentialsGone as error:
            raise ExecPluginError(str(error)) from error
        self._renew_at = self._renewal_time(credential)
        self._credential, self._header = credential, header
        self._changed(credential)

    def _renewal_time(self, credential: ExecCredential) -> float | None:
        if credential.expires is None:
            return None
        left = credential.expires - self._clock()
        if left <= 0:
            raise ExecPluginError("the credential plugin gave a credential that has expired")
        return credential.expires - min(_RENEW_BEFORE_SECONDS, left / 10)

    def authorization(self) -> bytes:
        """Give the token that the plugin printed last."""
        if self._credential is None:
            raise CredentialsGone("the credential plugin has not answered")
        expires = self._credential.expires
        if expires is not None and self._clock() >= expires:
            raise CredentialsGone("the credential of the plugin has expired")
        return self._header

    def rejected(self) -> None:
        """Have the plugin run again, as kubectl does."""
        self._wanted.set()

    async def keep_fresh(self) -> None:
        """Run the plugin a minute before its credential ends, and when it was rejected."""
        while True:
            try:
                async with asyncio.timeout(self._seconds_left()):
                    await self._wanted.wait()
            except TimeoutError:
                pass
            try:
                await self.renew()
            except ExecPluginError as error:
                log.warning("credential.not_renewed", extra={"reason": str(error)})
            except Exception:
                log.exception("credential.not_renewed")
            self._wanted.clear()
            # A plugin that fails, or whose credential is refused at once, is not run in a circle.
            await asyncio.sleep(_RETRY_SECONDS)

    def _seconds_left(self) -> float | None:
        if self._renew_at is None:
            return None
        return max(self._renew_at - self._clock(), 0.0)
