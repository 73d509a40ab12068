"""The journal: collects the rows of a loop tick and appends them with one write.

The handler chain and the management API hand in entries and call `commit()` before anything leaves;
see the package docstring for what that promises. One event loop owns a journal; only `sync()` may
be called from another thread.
"""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from mk8s_proxy.audit.counts import RequestCounts
from mk8s_proxy.audit.event import AuditEntry, AuditFacts
from mk8s_proxy.audit.identifier import new_audit_id
from mk8s_proxy.audit.journal_file import JournalFile, JournalUnsafeError
from mk8s_proxy.audit.rows import encode_intent, encode_outcome
from mk8s_proxy.audit.strangers import Strangers
from mk8s_proxy.audit.unfinished import closing_row, unfinished
from mk8s_proxy.audit.writer import BatchWriter

__all__ = ["AuditEntry", "Journal", "JournalUnsafeError"]

log = logging.getLogger(__name__)

MAX_KEPT_BYTES = 4 * 1024 * 1024
"""Outcome rows held in memory while the file cannot be written; beyond it the oldest are lost."""
PATIENCE: Final = 0.02
"""Seconds that a write may hold up the event loop."""
STALL_SECONDS = 2.0
"""Requests wait so long for their rows; then they are refused, until the disk is back."""
SYNC_SECONDS = 15.0
"""A sync that takes longer is taken for one that fails."""


class Journal:
    """Append-only JSON lines: what mk8s let through, and what came of it.

    Args:
        path: the current file, such as audit/journal.jsonl; its folder is made if missing.
        max_bytes: the size at which a new file is started.
        keep: rotated files that are kept.
        clock: seconds since the epoch.
        strangers: where refusals of requests without a verified identity go; by default here.
        patience: seconds that `commit` may block.

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
        strangers: Strangers | None = None,
        patience: float = PATIENCE,
    ) -> None:
        self._clock = clock
        self.counts = RequestCounts()
        """What came of all requests, for the metrics."""
        self._strangers = strangers
        self._intents: list[bytes] = []
        self._outcomes: list[bytes] = []
        self._leaving: list[bytes] = []
        """The outcome rows of the batch that is being written."""
        self._began = 0.0
        """When that was begun, by the monotonic clock."""
        self._sync_began = 0.0
        self._write_failed = False
        self._sync_failed = False
        self._closed = False
        self.lost_outcomes = 0
        """Outcome rows given up because the file could not be written for too long."""
        self.failures = 0
        """Commits that failed, late ones too."""
        self._file = JournalFile(
            Path(path), max_bytes=max_bytes, keep=keep, notice=self._notice, clock=clock
        )
        self._open_mark = self._file.path.with_name(self._file.path.name + ".open")
        self._close_unfinished()
        self._writer = BatchWriter(self._append, patience)

    def __repr__(self) -> str:
        state = "healthy" if self.healthy else "FAILING"
        waiting = len(self._intents) + len(self._outcomes) + len(self._leaving)
        return f"<Journal {self._file.path} {state} waiting={waiting} lost={self.lost_outcomes}>"

    @property
    def healthy(self) -> bool:
        """Whether the last write and the last sync worked; for readiness, not for decisions."""
        failed = self._write_failed or self._sync_failed or self._closed
        return not (failed or self._file.trouble or self._stalled() or self._sync_stalls())

    @property
    def has_noted(self) -> bool:
        """Whether a commit would write something."""
        return bool(self._intents or self._outcomes)

    @property
    def lag(self) -> float:
        """For how many seconds the batch has been written that is being written; 0 for none."""
        return time.monotonic() - self._began if self._writer.busy else 0.0

    @property
    def waiting(self) -> bool:
        """Whether the last commit could not be waited for: `finish` says what became of it."""
        return self._writer.busy and not self._stalled()

    def when_late(self, call: Callable[[], object]) -> None:
        """Let this be called, from another thread, when a batch that waits is through."""
        self._writer.on_late = call

    def intent(self, entry: AuditEntry) -> None:
        """Note a request that is about to be sent; it must wait for `commit()` to say True."""
        self._intents.append(encode_intent(entry, self._clock()))

    def outcome(self, entry: AuditEntry) -> None:
        """Note the end of a request, or a refusal; written by the next `commit()`."""
        self.counts.outcome(entry)
        facts = entry.facts
        # A name that was only claimed, as at a login that failed, has no uid.
        if self._strangers is not None and not facts.uid and facts.decision != "allow":
            self._strangers.outcome(entry, self._clock())
        else:
            self._outcomes.append(encode_outcome(entry, self._clock()))

    def commit(self) -> bool:
        """Append everything noted since the last commit by one write.

        Returns:
            True when all of it is in the file. False when none of it is: the requests of the
            intents must be answered 503 and not be sent; outcomes are kept for the next commit.
            But where `waiting` says so, it is not decided yet.
        """
        if self._writer.busy and self.finish() is None:
            return False  # what was noted waits for its turn
        if not (self._intents or self._outcomes):
            return True
        intents, self._intents = self._intents, []
        try:
            if self._closed or self._sync_failed or self._writer.busy or self._sync_began:
                self._refuse_if_unsure()
            self._leaving, self._outcomes = self._outcomes, []
            self._began = time.monotonic()
            # Intents first: a request that ended within this tick must not end before it began.
            self._writer.write(b"".join((*intents, *self._leaving)))
        except OSError as error:
            self._note_failure(error)
            return False
        if self._writer.busy:
            return False
        self._leaving = []
        if self._write_failed:
            self._note_recovery()
        return True

    def finish(self) -> bool | None:
        """What became of the commit that was not waited for.

        Returns:
            True when it is in the file, and when there was none. False when it is not, or will be
            too late: its requests must be answered 503. None when it must be waited for.
        """
        if not self._writer.busy:
            return True
        if not self._writer.poll():
            return False if self._stalled() else None
        try:
            self._writer.result()
        except OSError as error:
            self._note_failure(error)
            return False
        self._leaving = []
        if self._write_failed:
            self._note_recovery()
        return True

    def sync(self) -> bool:
        """Make committed rows survive a crash of the machine, and see whether the file is there.

        May block, for a background thread.

        Returns:
            Whether it worked. Until it does, `commit()` fails.
        """
        self._sync_began = time.monotonic()
        try:
            self._file.watch()
            self._file.sync()
        except OSError:
            log.exception("journal.sync_failed path=%s", self._file.path)
            self._sync_failed = True
            return False
        finally:
            self._sync_began = 0.0
        self._sync_failed = False
        if self._strangers is not None:
            self._strangers.write(self._clock())
        return True

    def durable(self) -> tuple[int, int]:
        """Its current file, as `JournalFile.durable` gives it; for the shipper."""
        return self._file.durable()

    def close(self) -> bool:
        """Commit, sync and close; afterwards every commit fails. Whether all of it worked."""
        if self._closed:
            return True
        committed = self.commit()
        self._closed = True
        try:
            if not self._writer.close(STALL_SECONDS):
                raise OSError("the disk does not answer")  # noqa: TRY301
            self._file.close()
            if committed:
                self._open_mark.unlink(missing_ok=True)
        except OSError:
            log.exception("journal.close_failed path=%s", self._file.path)
            return False
        return committed

    def _append(self, rows: bytes) -> None:
        self._file.append(rows)

    def _stalled(self) -> bool:
        return self._writer.busy and time.monotonic() - self._began > STALL_SECONDS

    def _sync_stalls(self) -> bool:
        began = self._sync_began
        return began > 0 and time.monotonic() - began > SYNC_SECONDS

    def _refuse_if_unsure(self) -> None:
        if self._closed:
            raise OSError("the journal is closed")
        if self._sync_failed:
            raise OSError("the last sync failed: rows might not survive a crash")
        if self._writer.busy:
            raise OSError("the disk does not answer")
        if self._sync_began and self._sync_stalls():
            raise OSError("the disk does not sync")

    def _note_recovery(self) -> None:
        self._write_failed = False
        log.warning("journal.recovered lost_outcomes=%d", self.lost_outcomes)

    def _note_failure(self, error: OSError) -> None:
        if not self._write_failed:  # once, not at every tick of a full disk
            log.error("journal.append_failed path=%s error=%s", self._file.path, error)
        self._write_failed = True
        self.failures += 1
        if not self._writer.busy:  # else its rows may still be written
            self._outcomes[:0], self._leaving = self._leaving, []
        kept = sum(map(len, self._outcomes))
        while kept > MAX_KEPT_BYTES:
            kept -= len(self._outcomes.pop(0))
            self.lost_outcomes += 1

    def _notice(self, reason: str) -> bytes:
        """The row by which the journal speaks of itself."""
        now = self._clock()
        facts = AuditFacts(
            user="mk8s-central", verb="reopen", resource="journals", api_group="mk8s.io",
            name=self._file.path.name, decision="allow", reason=reason,
        )  # fmt: skip
        return encode_outcome(AuditEntry(new_audit_id(), now, facts=facts), now)

    def _close_unfinished(self) -> None:
        """Of requests that were open when the process before was killed, say that in a row."""
        if self._open_mark.exists():
            open_rows = unfinished([*self._file.archives, self._file.path])
            if open_rows:
                now = self._clock()
                log.warning("journal.unfinished requests=%d", len(open_rows))
                self._file.append(b"".join([closing_row(row, now) for row in open_rows]))
        self._open_mark.touch(mode=0o600)
