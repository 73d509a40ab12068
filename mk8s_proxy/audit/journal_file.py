"""The file under the journal: append-only, private, locked to one process, rotated by size.

It is watched: a file that was removed, moved away or cut by somebody else, or whose sync failed,
gets no further row. A new one begins, with what the old one got since its last good sync and a row
that says what happened. Only `mk8s_proxy.audit.journal` uses it; its methods may be called from
two threads, of which one waits while the other works.
"""

# interpreted: a door to the disk, it waits more than it works

import fcntl
import logging
import os
import re
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from mk8s_agent.wire.volume_modes import others_write

log = logging.getLogger(__name__)

# O_NONBLOCK means nothing to a file; without it the start would hang on a named pipe.
_APPEND: Final = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_TAIL_BLOCK: Final = 64 * 1024
_COPY_BLOCK: Final = 1024 * 1024
_MAX_RETIRED: Final = 8
"""Rotated files that wait for their last sync before the oldest is closed without it."""


class JournalUnsafeError(OSError):
    """The journal may not be written where the settings say; the message says what to change."""


class JournalFile:
    """Whole batches of rows, or nothing of them.

    Args:
        path: the current file; rotated ones get a time and a number into their names.
        max_bytes: the size at which it is rotated.
        keep: rotated files that are kept, at least 1; of those that could not be synced, as many.
        notice: makes the row that says why a new file begins.
        clock: seconds since the epoch.

    Raises:
        JournalUnsafeError: others could write it, or another process does.
        OSError: it cannot be opened.
    """

    def __init__(
        self,
        path: Path,
        *,
        max_bytes: int,
        keep: int,
        notice: Callable[[str], bytes],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.path = path
        self.trouble = ""
        """Why the file may not be written until a new one begins."""
        self._max_bytes = max_bytes
        self._keep = max(keep, 1)
        self._notice = notice
        self._clock = clock
        self._rotate_at = max_bytes
        self._rotations = 0
        self._torn = False
        self._renamed = True  # the folder's entry of a new file needs a sync of its own
        self._retired: list[int] = []
        self._lock = threading.Lock()
        _make_folder(path.parent)
        self._descriptor = _open(path)
        self._size = _cut_torn_row(self._descriptor, path)
        self._synced = self._size
        """Bytes of it that a crash of the machine cannot take any more."""

    @property
    def archives(self) -> list[Path]:
        """The rotated files, oldest first: their names sort by time, then by number."""
        return self._named("")

    def durable(self) -> tuple[int, int]:
        """The current file and how many bytes of it nothing can take back any more.

        Returns:
            A descriptor of the caller's own, and the number of bytes that were synced.
        """
        with self._lock:
            return os.dup(self._descriptor), self._synced

    def append(self, rows: bytes) -> None:
        """Append whole rows by one write, or leave the file as it was.

        Raises:
            OSError: nothing of it is in the file.
        """
        with self._lock:
            if self._torn:
                self._cut_back()
            if self._size and self._size + len(rows) > self._rotate_at:
                self._look()
                if not self.trouble:
                    self._rotate()
            if self.trouble:
                self._begin_anew()
            self._write(rows)

    def watch(self) -> None:
        """See whether the file is still the journal; begin a new one if it is not.

        Raises:
            OSError: it is not, and no other could be begun.
        """
        with self._lock:
            self._look()
            if self.trouble:
                self._begin_anew()

    def sync(self) -> None:
        """Make everything appended so far survive a crash of the machine.

        Raises:
            OSError: what was appended since the last sync may be lost. A later sync that works
                would not bring it back, so the next thing that is done here begins a new file.
        """
        with self._lock:
            current, size = os.dup(self._descriptor), self._size
            retired, self._retired = self._retired, []
            renamed, self._renamed = self._renamed, False
        try:
            self._sync_all([*retired, current])
            if size <= self._size:  # else a new file has begun
                self._synced = size
            if renamed:
                self._sync_all([os.open(self.path.parent, os.O_RDONLY | os.O_CLOEXEC)])
        except OSError:
            self._renamed = self._renamed or renamed
            raise

    def _sync_all(self, descriptors: list[int]) -> None:
        """Sync and close them all."""
        try:
            for descriptor in descriptors:
                os.fsync(descriptor)
        except OSError as error:
            # The kernel forgets what it could not write: the next sync would find nothing to do.
            self.trouble = f"it could not be synced: {error}"
            raise
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def close(self) -> None:
        """Sync and close; the file must not be used afterwards."""
        try:
            self.sync()
        finally:
            os.close(self._descriptor)

    def _write(self, rows: bytes) -> None:
        try:
            written = os.write(self._descriptor, rows)
        except OSError:
            self._torn = True
            self._cut_back()
            raise
        if written != len(rows):
            self._torn = True
            self._cut_back()
            raise OSError(f"{self.path}: only {written} of {len(rows)} bytes fitted")
        self._size += written

    def _cut_back(self) -> None:
        """Remove what a failed write left; until that works, nothing is appended."""
        os.ftruncate(self._descriptor, self._size)
        self._torn = False

    # -- beginning anew

    def _look(self) -> None:
        """Whether rows still go where the path says."""
        ours = os.fstat(self._descriptor)
        try:
            named = self.path.lstat()
        except FileNotFoundError:
            self.trouble = "it was removed" if not ours.st_nlink else "it was moved away"
            return
        if (named.st_dev, named.st_ino) != (ours.st_dev, ours.st_ino):
            self.trouble = "another file was put in its place"
        elif ours.st_size < self._size and not self._torn:
            self.trouble = "it was cut by somebody else"

    def _begin_anew(self) -> None:
        """Go on in a new file: with what may be lost of this one, and a row that says why.

        Raises:
            OSError: that is impossible; the next call tries again.
        """
        why, old = self.trouble, self._descriptor
        log.error("journal.begun_anew path=%s reason=%s", self.path, why)
        self._cut_back_quietly()
        unsafe = self._unsynced_rows()
        if _is_file(self.path, old):
            self._adopt(self._exchange(aside=True), 0)
        else:
            descriptor = _open(self.path)
            self._adopt(descriptor, _cut_torn_row(descriptor, self.path))
        self.trouble = ""
        try:
            self._write(self._notice(f"a new journal begins, of the one before {why}") + unsafe)
        except OSError:
            self.trouble = why
            raise
        self._remove_oldest()

    def _cut_back_quietly(self) -> None:
        try:
            self._cut_back()
        except OSError as error:  # the file is left behind, and its torn row with it
            log.warning("journal.torn path=%s error=%s", self.path, error)

    def _unsynced_rows(self) -> bytes:
        """What the file got since its last good sync, if it can still be read: about a second."""
        parts, position = [], self._synced
        try:
            while part := os.pread(self._descriptor, _COPY_BLOCK, position):
                parts.append(part)
                position += len(part)
        except OSError as error:
            log.error("journal.rows_lost path=%s error=%s", self.path, error)  # noqa: TRY400
        rows = b"".join(parts)
        return rows[: rows.rfind(b"\n") + 1]

    # -- rotation

    def _rotate(self) -> None:
        """Start a new file; on failure go on with this one and try again a tenth later."""
        try:
            descriptor = self._exchange()
        except OSError as error:
            self._rotate_at = self._size + max(self._max_bytes // 10, 1)
            log.warning("journal.rotation_failed path=%s error=%s", self.path, error)
            return
        self._adopt(descriptor, 0)
        self._remove_oldest()

    def _exchange(self, *, aside: bool = False) -> int:
        """Put a new file at the path and the old one into the archive; the new descriptor."""
        fresh = self.path.with_name(self.path.name + ".next")
        fresh.unlink(missing_ok=True)
        descriptor = _open(fresh)
        archive = self._archive_name(".unsynced" if aside else "")
        try:
            self.path.rename(archive)
            try:
                fresh.rename(self.path)
            except OSError:
                archive.rename(self.path)
                raise
        except OSError:
            os.close(descriptor)
            raise
        return descriptor

    def _adopt(self, descriptor: int, size: int) -> None:
        self._retired.append(self._descriptor)
        self._descriptor = descriptor
        self._renamed = True
        if len(self._retired) > _MAX_RETIRED or self.trouble:
            os.close(self._retired.pop(-1 if self.trouble else 0))
        self._size = self._synced = size
        self._torn = False
        self._rotate_at = self._max_bytes

    def _archive_name(self, mark: str) -> Path:
        moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(self._clock()))
        while True:
            self._rotations += 1
            name = f"{self.path.stem}-{moment}-{self._rotations:06d}{mark}{self.path.suffix}"
            archive = self.path.with_name(name)
            if not archive.exists():
                return archive

    def _named(self, mark: str) -> list[Path]:
        stem, suffix = re.escape(self.path.stem), re.escape(mark + self.path.suffix)
        ours = re.compile(rf"{stem}-[0-9]{{8}}T[0-9]{{6}}Z-[0-9]{{6,}}{suffix}")
        return sorted(path for path in self.path.parent.iterdir() if ours.fullmatch(path.name))

    def _remove_oldest(self) -> None:
        """Keep the newest archives, and the newest that could not be synced."""
        try:
            for archive in self._named("")[: -self._keep] + self._named(".unsynced")[: -self._keep]:
                archive.unlink()
        except OSError as error:
            log.warning("journal.cleaning_failed path=%s error=%s", self.path, error)


def _is_file(path: Path, descriptor: int) -> bool:
    """Whether a path names the file that is open here."""
    try:
        return os.path.samestat(path.lstat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _make_folder(folder: Path) -> None:
    """The folder, private if it is made here; whoever can write to it could replace the journal."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    facts = folder.stat()
    if others_write(facts):
        raise JournalUnsafeError(
            f"{folder}: others may write to the journal's folder: run 'chmod go-w {folder}'"
        )
    if facts.st_uid not in {os.geteuid(), 0}:
        raise JournalUnsafeError(f"{folder}: the journal's folder belongs to another user")


def _open(path: Path) -> int:
    """Open for appending, mode 0600, and lock; a link or another kind of file is refused."""
    if path.is_symlink():
        raise JournalUnsafeError(f"{path}: the journal must not be a symbolic link")
    descriptor = os.open(path, _APPEND, 0o600)
    try:
        _check_file(os.fstat(descriptor), path)
        os.fchmod(descriptor, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise JournalUnsafeError(
            f"{path}: another process writes this journal: stop it or set another audit.path"
        ) from None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _check_file(facts: os.stat_result, path: Path) -> None:
    if not stat.S_ISREG(facts.st_mode) or facts.st_uid != os.geteuid():
        raise JournalUnsafeError(f"{path}: the journal must be a plain file of its own user")


def _cut_torn_row(descriptor: int, path: Path) -> int:
    """Cut off a row that a crash left half written; the size of what remains."""
    size = os.fstat(descriptor).st_size
    end = size
    with path.open("rb") as reader:
        while end:
            start = max(end - _TAIL_BLOCK, 0)
            reader.seek(start)
            newline = reader.read(end - start).rfind(b"\n")
            end = start + newline + 1 if newline >= 0 else start
            if newline >= 0:
                break
    if end != size:
        log.warning("journal.torn_row_removed path=%s bytes=%d", path, size - end)
        os.ftruncate(descriptor, end)
    return end
