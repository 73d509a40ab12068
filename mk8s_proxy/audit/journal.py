"""The journal: collects the rows of a loop tick and appends them with one write.

The handler chain and the management API hand in entries and call `commit()` before anything leaves;
see the package docstring for what that promises. One event loop owns a journal; only `sync()` may
be called from another thread.
"""

import logging
import time
from collections.abc import Callable
from pathlib import Path

from mk8s_proxy.audit.event import AuditEntry
from mk8s_proxy.audit.journal_file import JournalFile, JournalUnsafeError
from mk8s_proxy.audit.rows import encode_intent, encode_outcome

__all__ = ["AuditEntry", "Journal", "JournalUnsafeError"]

log = logging.getLogger(__name__)

MAX_KEPT_BYTES = 4 * 1024 * 1024
"""Outcome rows held in memory while the file cannot be written; beyond it the oldest are lost."""


class Journal:
    """Append-only JSON lines: what mk8s let through, and what came of it.

    Args:
        path: the current file, such as audit/journal.jsonl; its folder is made if missing.
        max_bytes: the size at which a new file is started.
        keep: rotated files that are kept.
        clock: seconds since the epoch.

    Raises:
        JournalUnsafeError: others could write the file, or another process does.
        OSError: the file cannot be opened.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        max_bytes: int,
        keep: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._clock = clock
        self._intents: list[bytes] = []
        self._outcomes: list[bytes] = []
        self._write_failed = False
        self._sync_failed = False
        self._closed = False
        self.lost_outcomes = 0
        """Outcome rows given up because the file could not be written for too long."""
        self._file = JournalFile(Path(path), max_bytes=max_bytes, keep=keep, clock=clock)

    def __repr__(self) -> str:
        state = "healthy" if self.healthy else "FAILING"
        waiting = len(self._intents) + len(self._outcomes)
        return f"<Journal {self._file.path} {state} waiting={waiting} lost={self.lost_outcomes}>"

    @property
    def healthy(self) -> bool:
        """Whether the last write and the last sync worked; for readiness, not for decisions."""
        return not (self._write_failed or self._sync_failed or self._closed)

    def intent(self, entry: AuditEntry) -> None:
        """Note a request that is about to be sent; it must wait for `commit()` to say True."""
        self._intents.append(encode_intent(entry, self._clock()))

    def outcome(self, entry: AuditEntry) -> None:
        """Note the end of a request, or a refusal; written by the next `commit()`."""
        self._outcomes.append(encode_outcome(entry, self._clock()))

    def commit(self) -> bool:
        """Append everything noted since the last commit by one write.

        Returns:
            True when all of it is in the file. False when none of it is: the requests of the
            intents must be answered 503 and not be sent; outcomes are kept for the next commit.
        """
        if not (self._intents or self._outcomes):
            return True
        intents, self._intents = self._intents, []
        try:
            if self._closed or self._sync_failed:
                self._refuse_to_write()
            # Intents first: a request that ended within this tick must not end before it began.
            self._file.append(b"".join((*intents, *self._outcomes)))
        except OSError as error:
            self._note_failure(error)
            return False
        self._outcomes.clear()
        if self._write_failed:
            self._write_failed = False
            log.warning("journal.recovered lost_outcomes=%d", self.lost_outcomes)
        return True

    def sync(self) -> bool:
        """Make committed rows survive a crash of the machine; may block, for a background thread.

        Returns:
            Whether it worked. Until it does, `commit()` fails.
        """
        try:
            self._file.sync()
        except OSError:
            log.exception("journal.sync_failed path=%s", self._file.path)
            self._sync_failed = True
            return False
        self._sync_failed = False
        return True

    def close(self) -> bool:
        """Commit, sync and close; afterwards every commit fails. Whether all of it worked."""
        if self._closed:
            return True
        committed = self.commit()
        self._closed = True
        try:
            self._file.close()
        except OSError:
            log.exception("journal.close_failed path=%s", self._file.path)
            return False
        return committed

    def _refuse_to_write(self) -> None:
        if self._closed:
            raise OSError("the journal is closed")
        raise OSError("the last sync failed: rows might not survive a crash")

    def _note_failure(self, error: OSError) -> None:
        if not self._write_failed:  # once, not at every tick of a full disk
            log.error("journal.append_failed path=%s error=%s", self._file.path, error)
        self._write_failed = True
        kept = sum(map(len, self._outcomes))
        while kept > MAX_KEPT_BYTES:
            kept -= len(self._outcomes.pop(0))
            self.lost_outcomes += 1
