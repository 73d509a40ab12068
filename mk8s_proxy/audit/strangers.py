"""The journal of strangers: refusals of requests whose sender nobody verified.

Anyone who reaches the port can cause as many of them as he likes. So they have files of their own,
which cannot push out rows of identified users; short rows; and a quota for each second. Of what is
beyond it a row tells the number.
"""

# interpreted: no request waits for it

import logging
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final

from mk8s_proxy.audit.event import AuditEntry, AuditFacts
from mk8s_proxy.audit.identifier import new_audit_id
from mk8s_proxy.audit.journal_file import JournalFile
from mk8s_proxy.audit.rows import encode_outcome

log = logging.getLogger(__name__)

MAX_TEXT: Final = 256
"""Characters of a target, a user agent and a reason."""
_MAX_CODES: Final = 64
"""Reason codes that are counted apart; they are our own words, so there are not more."""


class Strangers:
    """Rows of refusals, written once a second; what is noted costs its owner no write.

    Args:
        path: the current file.
        max_bytes: the size at which a new file is started.
        keep: rotated files that are kept.
        rows_per_second: more refusals in a second are only counted.
        clock: seconds since the epoch.

    Raises:
        JournalUnsafeError, OSError: as of `Journal`.
    """

    def __init__(
        self,
        path: Path,
        *,
        max_bytes: int,
        keep: int,
        rows_per_second: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._quota = rows_per_second
        self._clock = clock
        self._rows: list[bytes] = []
        self._left_out: Counter[str] = Counter()
        self._file = JournalFile(
            path, max_bytes=max_bytes, keep=keep, notice=self._notice, clock=clock
        )

    def outcome(self, entry: AuditEntry, now: float) -> None:
        """Note a refusal, or count it."""
        if len(self._rows) >= self._quota:
            known = entry.refusal in self._left_out or len(self._left_out) < _MAX_CODES
            self._left_out[entry.refusal if known else ""] += 1
            return
        facts = entry.facts
        entry.facts = facts._replace(
            request_uri=_short(facts.request_uri),
            user_agent=_short(facts.user_agent),
            client_audit_id=_short(facts.client_audit_id),
            reason=_short(facts.reason),
        )
        self._rows.append(encode_outcome(entry, now))

    def write(self, now: float) -> bool:
        """Write what was noted; may block, for a background thread. Whether it worked."""
        rows, self._rows = self._rows, []
        left_out, self._left_out = self._left_out, Counter()
        if left_out:
            rows.append(self._count(left_out, now))
        try:
            self._file.watch()
            if rows:
                self._file.append(b"".join(rows))
                self._file.sync()
        except OSError as error:
            log.error("journal.strangers_failed rows=%d error=%s", len(rows), error)  # noqa: TRY400
            return False
        return True

    def durable(self) -> tuple[int, int]:
        """Its current file, as `JournalFile.durable` gives it."""
        return self._file.durable()

    def close(self) -> None:
        """Write what was noted, and close."""
        self.write(self._clock())
        self._file.close()

    def _count(self, left_out: Counter[str], now: float) -> bytes:
        codes = ", ".join(f"{code or 'other'}: {count}" for code, count in sorted(left_out.items()))
        return self._own_row("summarize", f"{left_out.total()} refusals left out ({codes})", now)

    def _notice(self, reason: str) -> bytes:
        return self._own_row("reopen", reason, self._clock())

    def _own_row(self, verb: str, reason: str, now: float) -> bytes:
        facts = AuditFacts(
            user="mk8s-central", verb=verb, resource="journals", api_group="mk8s.io",
            name=self._file.path.name, decision="allow", reason=reason,
        )  # fmt: skip
        return encode_outcome(AuditEntry(new_audit_id(), now, facts=facts), now)


def _short(text: str) -> str:
    return text if len(text) <= MAX_TEXT else text[:MAX_TEXT] + "..."
