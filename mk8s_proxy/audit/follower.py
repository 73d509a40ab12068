"""Reads journals for the database: every file once, in order, no row before it is there to stay.

Used by the shipper (`mk8s_proxy.process.shipping`), in a thread; it only reads. A file is known by
its first row, which never changes and is nobody else's, however the file is moved or renamed; so
the place reached in each file can be kept in the database, under that name.

Of a file that still grows only synced bytes are read: what a failed write left may be cut off
again, and what the machine forgets in a crash must not be in the database. A file that is removed
while it is read is read to its end, since it is open; but a backlog keeps only so many of them.
"""

# interpreted: no request waits for it

import logging
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from mk8s_proxy.audit.unfinished import HEAD

log = logging.getLogger(__name__)

PIECE_BYTES: Final = 512 * 1024
"""Read at once: some hundred rows. The longest row has to fit (8 KiB of URI, 64 groups)."""
MAX_OPEN: Final = 64
"""Files with rows that are still to be shipped; those behind them wait in the folder."""
MAX_REMOVED: Final = 2
"""Of these, files that were removed: holding more would use the disk up behind the rotation."""
MAX_NAME: Final = 64
"""Characters of the name of a file; our audit ids have 36."""
_FIRST_ROW: Final = 4096

Durable = Callable[[], tuple[int, int]]
"""A descriptor of a journal's current file, and the bytes of it that may be read."""
_Identity = tuple[int, int]
"""Device and inode."""


class Piece(NamedTuple):
    """Whole rows of one file."""

    file: str
    """The name of the file in the database."""
    start: int
    end: int
    """Positions in bytes."""
    rows: bytes


@dataclass(slots=True)
class _Followed:
    """A file with rows that may still be to be shipped."""

    descriptor: int
    size: int
    """Bytes that may be read."""
    grows: bool
    key: str = ""
    """Its first row's id; "" while there is none."""
    position: int | None = None
    """Bytes that were shipped; None until the database has said it."""
    path: Path | None = None
    """Where it was found; None for one that a journal handed over."""

    @property
    def waiting(self) -> int:
        return max(self.size - (self.position or 0), 0)


class JournalFollower:
    """The journals of one process, and those that nobody else follows.

    Args:
        folder: where they are.
        owns: whether a file of this name in the folder is to be shipped by this process.
        journals: give the current files of the journals that this process writes.
    """

    def __init__(
        self, folder: Path, owns: Callable[[str], bool], journals: Sequence[Durable]
    ) -> None:
        self.lost = 0
        """Bytes that were removed before they could be read."""
        self._folder = folder
        self._owns = owns
        self._journals = journals
        self._files: dict[_Identity, _Followed] = {}
        self._more = False
        """Whether there are rotated files for which there was no room."""
        self._done: set[str] = set()
        """Names of rotated files of which everything is shipped."""
        self._unreadable: set[str] = set()
        """Names of those that could not be opened, which is told once."""

    @property
    def waiting(self) -> int:
        """Bytes that may be read and are not shipped."""
        return sum(file.waiting for file in list(self._files.values()))  # asked by other threads

    def look(self) -> list[str]:
        """See what is there. Returns the files whose positions are not known here.

        Raises:
            OSError: the folder cannot be read.
        """
        current = [durable() for durable in self._journals]
        identities = [_identity(descriptor) for descriptor, _ in current]
        for identity, file in self._files.items():
            if file.grows and identity not in identities:
                file.grows, file.size = False, os.fstat(file.descriptor).st_size
        self._find_rotated()
        for identity, (descriptor, size) in zip(identities, current, strict=True):
            self._take_current(identity, descriptor, size)
        self._forget_removed()
        self._name()
        return [file.key for file in self._files.values() if file.key and file.position is None]

    def settle(self) -> None:
        """The journals are closed: what is in their files is there to stay."""
        for file in self._files.values():
            file.grows, file.size = False, os.fstat(file.descriptor).st_size
        self._journals = ()
        self._name()

    def place(self, positions: Mapping[str, int]) -> None:
        """Learn what the database has of the files that `look` told; the others are new."""
        for file in self._files.values():
            if file.position is None and file.key:
                file.position = positions.get(file.key, 0)

    def read(self) -> Piece | None:
        """The next rows that are not shipped; None when there are none.

        Raises:
            OSError: a file cannot be read.
        """
        for identity, file in sorted(self._files.items(), key=_order):
            if file.grows and self._more:
                break
            piece = _next_piece(file) if file.position is not None else None
            if piece is not None:
                return piece
            if not file.grows:
                self._drop(identity)
        return None

    def shipped(self, piece: Piece, position: int) -> None:
        """Go on behind a piece, or wherever the database says that the file was shipped to."""
        for file in self._files.values():
            if file.key == piece.file:
                file.position = position

    def close(self) -> None:
        """Close all files."""
        for identity in list(self._files):
            self._drop(identity)

    # -- finding files

    def _find_rotated(self) -> None:
        names = sorted(path.name for path in self._folder.iterdir() if self._owns(path.name))
        self._done.intersection_update(names)
        self._unreadable.intersection_update(names)
        unknown = [name for name in names if name not in self._done]
        for name in unknown[:MAX_OPEN]:
            self._take_rotated(self._folder / name)
        self._more = len(unknown) > MAX_OPEN

    def _take_rotated(self, path: Path) -> None:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError as error:  # removed in between, or no file of ours
            if path.name not in self._unreadable:
                self._unreadable.add(path.name)
                log.warning("audit.unreadable", extra={"path": str(path), "reason": str(error)})
            return
        identity = _identity(descriptor)
        known = self._files.get(identity)
        if known is not None:
            os.close(descriptor)
            known.path = path
            return
        size = os.fstat(descriptor).st_size
        self._files[identity] = _Followed(descriptor, size, grows=False, path=path)

    def _take_current(self, identity: _Identity, descriptor: int, size: int) -> None:
        known = self._files.get(identity)
        if known is None:
            self._files[identity] = _Followed(descriptor, size, grows=True)
            return
        os.close(descriptor)
        known.size, known.grows = size, True

    def _forget_removed(self) -> None:
        removed = [
            identity
            for identity, file in self._files.items()
            if not file.grows and os.fstat(file.descriptor).st_nlink == 0
        ]
        for identity in removed[:-MAX_REMOVED]:
            lost = self._files[identity].waiting
            self.lost += lost
            log.error("audit.rows_lost", extra={"bytes": lost, "file": self._files[identity].key})
            self._drop(identity)

    def _name(self) -> None:
        for file in self._files.values():
            if not file.key and file.size:
                file.key = _first_id(file.descriptor)

    def _drop(self, identity: _Identity) -> None:
        file = self._files.pop(identity)
        os.close(file.descriptor)
        if file.path is not None and not file.grows:
            self._done.add(file.path.name)


def _order(entry: tuple[_Identity, _Followed]) -> tuple[bool, str]:
    """Rotated files first, by their names, which sort by time.

    One that is not in the folder any more was the oldest: rotation removes in that order.
    """
    _, file = entry
    return file.grows, file.path.name if file.path is not None else ""


def _identity(descriptor: int) -> _Identity:
    facts = os.fstat(descriptor)
    return facts.st_dev, facts.st_ino


def _first_id(descriptor: int) -> str:
    """The audit id of a file's first row, which names the file; "" while it has none."""
    head = HEAD.match(os.pread(descriptor, _FIRST_ROW, 0))
    name = head[1].decode("ascii", "replace") if head else ""
    return name if len(name) <= MAX_NAME and name.isprintable() else ""


def _next_piece(file: _Followed) -> Piece | None:
    """The next whole rows of a file. What is no row, and longer than any, is passed over."""
    start, most = file.position or 0, min(file.waiting, PIECE_BYTES)
    read = os.pread(file.descriptor, most, start) if most else b""
    end = read.rfind(b"\n") + 1
    if not end and len(read) == PIECE_BYTES:
        end = len(read)
    return Piece(file.key, start, start + end, read[:end]) if end else None


def owned_by(journal: Path, worker: int, workers: int) -> Callable[[str], bool]:
    """Which rotated files beside a journal a worker has to ship.

    Its own, and the first worker those of nobody: there may have been more workers, or only one.

    Args:
        journal: the worker's current file.
        worker: its number, from 1.
        workers: how many there are.
    """
    several = workers > 1
    base = journal.stem.removesuffix(f"-{worker}") if several else journal.stem
    name_of_file = re.compile(
        rf"{re.escape(base)}(?:-(?P<number>[1-9][0-9]?))?(?:-strangers)?"
        rf"(?P<rotated>-[0-9]{{8}}T[0-9]{{6}}Z-[0-9]{{6,}}(?:\.unsynced)?)?"
        rf"{re.escape(journal.suffix)}"
    )
    numbers = range(1, workers + 1) if several else range(1)

    def owns(name: str) -> bool:
        found = name_of_file.fullmatch(name)
        if found is None:
            return False
        number = int(found["number"] or 0)
        if number == (worker if several else 0):
            return found["rotated"] is not None
        return worker == 1 and number not in numbers

    return owns
