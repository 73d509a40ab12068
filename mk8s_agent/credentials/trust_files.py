"""The files of CA, client certificate and key, which somebody else renews while the agent runs.

Asked by `mk8s_agent.credentials.sources`. A kubelet swaps such files by a link, other tools write
them in place and one after the other: what cannot be used yet is looked at again, and what was
there before stays.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

MAX_PEM_BYTES: Final = 1024 * 1024
LOOK_SECONDS: Final = 2.0
"""How often the files are looked at, at most."""

_Seen = tuple[tuple[int, int, int] | None, ...]


class FileContents(NamedTuple):
    """What is in the files now; None where there is no file."""

    authority: bytes | None
    certificate: bytes | None
    key: bytes | None


class TrustFiles:
    """Looks whether files have changed since what they held was accepted.

    Args:
        authority: the cluster's CA, certificate and key: the client's own; None for no file.
        monotonic: seconds that never jump.
    """

    def __init__(
        self,
        authority: Path | None,
        certificate: Path | None = None,
        key: Path | None = None,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._paths = (authority, certificate, key)
        self._monotonic = monotonic
        self._next_look = 0.0
        self._looked_at: _Seen = ()
        self._accepted = self._signature()
        self._refused: _Seen = ()

    def look(self) -> FileContents | None:
        """Give what is new, seldom; None for nothing.

        Raises:
            OSError: a file cannot be read.
        """
        now = self._monotonic()
        if now < self._next_look:
            return None
        self._next_look = now + LOOK_SECONDS
        self._looked_at = self._signature()
        if self._looked_at == self._accepted:
            return None
        return FileContents(*(None if path is None else _read(path) for path in self._paths))

    def accept(self) -> None:
        """What was given last is in use."""
        self._accepted, self._refused = self._looked_at, ()

    def refuse(self) -> bool:
        """What was given last cannot be used; tells whether that is news."""
        news = self._refused != self._looked_at
        self._refused = self._looked_at
        return news

    def _signature(self) -> _Seen:
        return tuple(_signature(path) for path in self._paths)


def _signature(path: Path | None) -> tuple[int, int, int] | None:
    if path is None:
        return None
    try:
        status = path.stat()
    except OSError:
        return (0, 0, 0)
    return (status.st_mtime_ns, status.st_ino, status.st_size)


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_PEM_BYTES)
