"""Brings the journals' rows into the database, and takes old ones out of it. Composed by `app`.

The journal is the audit; the database is where people search it. So nothing here may hold up a
request: while the event loop has much to do, rows wait for up to half a minute; files are read and
rows decoded in a thread that gives way every millisecond, the database gets some rows at a time,
and after each piece of a journal there is a pause as long as it took.

Every process ships what it wrote itself. Where it got to is written together with the rows, so a
kill at any moment, or a commit whose end is unknown, makes no row appear twice or not at all.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar

from mk8s_agent.wire.background import Background
from mk8s_proxy.audit.follower import JournalFollower, Piece, owned_by
from mk8s_proxy.audit.journal import Journal
from mk8s_proxy.audit.record import AuditRecord, latest_rows, record_of
from mk8s_proxy.audit.strangers import Strangers
from mk8s_proxy.authz.scopes import Scope, scope_of
from mk8s_proxy.db import audit_logs
from mk8s_proxy.db.engine import Database
from mk8s_proxy.db.errors import StoreError
from mk8s_proxy.process.worker import Worker
from mk8s_proxy.settings.model import Settings

log = logging.getLogger(__name__)

TURN_SECONDS: Final = 1.0
LONGEST_TURN: Final = 30.0
"""A backlog is shipped in several turns: each one that ends is a success."""
LONGEST_WAIT: Final = 30.0
"""Rows wait no longer for an idle moment."""
BUSY: Final = 0.2
"""The share of its time from which on the event loop has much to do."""
OVERDUE_SECONDS: Final = 900.0
"""Without a turn that succeeded for so long, readiness names the shipping."""
FLUSH_SECONDS: Final = 5.0
"""For what is left when central stops."""
RETENTION_SECONDS: Final = 600.0
"""Between two looks for rows that are too old."""
_DELETED_AT_ONCE: Final = 500
_DELETION_PAUSE: Final = 0.05
_DAY: Final = 86400.0
_SHORTEST_PAUSE: Final = 0.005
_SLICE: Final = 32
"""Rows decoded between two chances for the event loop: about a millisecond."""

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class ShippingCounters:
    """What came of the shipping since the process began, and what it has before it."""

    rows: int = 0
    """Requests added to the database or brought to their end there."""
    skipped: int = 0
    """Rows that are none, or that the database does not take; each is in the log."""
    lost_bytes: int = 0
    """Removed from the folder before they could be read."""
    waiting_bytes: int = 0
    """In the journals and not yet in the database."""
    lag_seconds: float = 0.0
    """Since when there has been something waiting, 0 when nothing is."""


class LoopLoad:
    """How much of its time the event loop's thread works; made and asked in that thread."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        processor: Callable[[], float] = time.thread_time,
    ) -> None:
        self._clock = clock
        self._processor = processor
        self._asked = clock(), processor()

    def is_high(self) -> bool:
        """Whether it was above `BUSY` since this was asked last."""
        before, self._asked = self._asked, (self._clock(), self._processor())
        return self._asked[1] - before[1] > BUSY * (self._asked[0] - before[0])


class AuditShipping:
    """The shipping of one process.

    Args:
        database: where the rows go.
        follower: reads the journals.
        retention_days: rows that are older are deleted, and not shipped; 0 keeps them for ever.
        cleans: whether this process deletes old rows: one of those on a machine is enough.
        on: false leaves the journals where they are, and the database as it is.
        clock: seconds since the epoch.
        busy: whether requests need the processor, so that rows had better wait.
    """

    def __init__(
        self,
        database: Database,
        follower: JournalFollower,
        *,
        retention_days: int,
        cleans: bool = True,
        on: bool = True,
        clock: Callable[[], float] = time.time,
        busy: Callable[[], bool] = bool,
    ) -> None:
        self._database = database
        self._busy = busy
        self._follower = follower
        self._days = retention_days
        self._cleans = cleans
        self._on = on
        self._clock = clock
        self._counted = ShippingCounters()
        self._caught_up = time.monotonic()
        self._reading = threading.Lock()  # a cancelled turn leaves its thread behind
        self._working = asyncio.Lock()
        self._held = False
        self._ending = False

    @property
    def counters(self) -> ShippingCounters:
        """How the shipping stands at this moment."""
        return replace(
            self._counted,
            lost_bytes=self._follower.lost,
            waiting_bytes=self._follower.waiting,
            lag_seconds=self._lag(),
        )

    def _lag(self) -> float:
        return time.monotonic() - self._caught_up if self._follower.waiting else 0.0

    def told(self) -> str:
        """The same in a line, for whoever looks at readiness."""
        if not self._on:
            return "audit in the database: off (audit.database)"
        it = self.counters
        behind = f"{it.lag_seconds:.0f} s and {it.waiting_bytes} bytes behind"
        return f"audit in the database: {behind}, {it.skipped} rows skipped"

    def start(self, background: Background) -> None:
        """Ship from now on, if at all."""
        if not self._on:
            return
        background.every("audit shipping", TURN_SECONDS, self.turn, overdue=OVERDUE_SECONDS)
        if self._cleans and self._days:
            background.every("audit retention", RETENTION_SECONDS, self.clean, overdue=_DAY)

    async def hold(self) -> None:
        """Let what is under way come to its end; whatever would begin now waits for `flush`.

        Cancelled within a transaction, a database's driver would still be at work at the end.
        """
        self._held = True
        async with self._working:
            pass

    async def turn(self) -> None:
        """Ship what there is, for a while. Raises what the database and the files raise."""
        async with self._working:
            if not self._held:
                await self._turn()

    async def _turn(self) -> None:
        deadline = time.monotonic() + LONGEST_TURN
        unknown = await self._in_thread(self._follower.look)
        if unknown:
            self._follower.place(await audit_logs.positions(self._database, unknown))
        if not self._follower.waiting:
            self._caught_up = time.monotonic()
        while not self._had_better_wait():
            piece = await self._in_thread(self._follower.read)
            if piece is None:
                self._caught_up = time.monotonic()
                return
            began = time.monotonic()
            await self._ship(piece)
            if began > deadline or self._held:
                return
            await asyncio.sleep(max(time.monotonic() - began, _SHORTEST_PAUSE))

    def _had_better_wait(self) -> bool:
        return self._busy() and not self._ending and self._lag() < LONGEST_WAIT

    async def flush(self) -> None:
        """Ship the rest: the journals are closed, and nobody else ships any more."""
        self._held, self._ending = False, True
        try:
            async with asyncio.timeout(FLUSH_SECONDS):
                if self._on:
                    await self._in_thread(self._follower.settle)
                    await self._turn()
        except (StoreError, OSError) as error:  # TimeoutError is an OSError
            left = self._follower.waiting
            log.warning("audit.not_shipped", extra={"bytes": left, "reason": str(error)})
        await self._in_thread(self._follower.close)

    async def clean(self) -> None:
        """Delete rows that are too old, some at a time. Raises what the database raises."""
        oldest, some = self._oldest(), _DELETED_AT_ONCE
        while oldest is not None and some:
            async with self._working:
                if self._held:
                    return
                some = await audit_logs.delete_older(self._database, oldest, _DELETED_AT_ONCE)
            await asyncio.sleep(_DELETION_PAUSE)

    # -- one piece

    async def _ship(self, piece: Piece) -> None:
        records, skipped = await self._in_thread(_records, piece.rows)
        oldest = self._oldest()
        if oldest is not None:  # as from files that were put back: deleting is for ever
            records = [record for record in records if record.created_at >= oldest]
        try:
            await self._write(piece, records)
        except audit_logs.Unstorable as error:
            if piece.rows.count(b"\n") > 1:
                await self._ship_halves(piece)
                return
            log.error("audit.row_skipped", extra={"file": piece.file, "reason": str(error)})  # noqa: TRY400
            skipped += len(records)
            await self._write(piece, [])
        self._count(skipped=skipped)

    async def _ship_halves(self, piece: Piece) -> None:
        """One row is at fault: look for it, so that all others are shipped."""
        rows = piece.rows
        cut = rows.find(b"\n", len(rows) // 2) + 1
        if cut in {0, len(rows)}:
            cut = rows.rfind(b"\n", 0, len(rows) - 1) + 1
        middle = piece.start + cut
        await self._ship(Piece(piece.file, piece.start, middle, rows[:cut]))
        await self._ship(Piece(piece.file, middle, piece.end, rows[cut:]))

    async def _write(self, piece: Piece, records: list[AuditRecord]) -> None:
        shipped = await audit_logs.ship(
            self._database,
            file=piece.file,
            start=piece.start,
            end=piece.end,
            records=records,
            now=self._now(),
        )
        self._follower.shipped(piece, shipped.position)
        self._count(rows=shipped.rows)

    def _count(self, *, rows: int = 0, skipped: int = 0) -> None:
        counted = self._counted
        self._counted = replace(
            counted, rows=counted.rows + rows, skipped=counted.skipped + skipped
        )

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)

    def _oldest(self) -> datetime | None:
        return self._now() - timedelta(days=self._days) if self._days else None

    async def _in_thread(self, call: Callable[..., _Result], *arguments: object) -> _Result:
        def locked() -> _Result:
            with self._reading:
                return call(*arguments)

        return await asyncio.to_thread(locked)


def audit_shipping(
    settings: Settings, worker: Worker, database: Database, journal: Journal, strangers: Strangers
) -> AuditShipping:
    """The shipping of a worker's journals; of the first one also of journals that nobody has."""
    path = settings.journal_path
    follower = JournalFollower(
        path.parent,
        owned_by(path, worker.number, worker.count),
        (journal.durable, strangers.durable),
    )
    return AuditShipping(
        database,
        follower,
        retention_days=settings.audit.retention_days,
        cleans=worker.number == 1,
        busy=LoopLoad().is_high,
        on=settings.audit.database,
    )


def _records(rows: bytes) -> tuple[list[AuditRecord], int]:
    """The requests of whole rows, and how many lines are no rows."""
    latest, strange = latest_rows(rows)
    records: list[AuditRecord] = []
    for count, row in enumerate(latest.values()):
        if count % _SLICE == 0:
            time.sleep(0)  # lets the event loop's thread run
        try:
            records.append(record_of(row, _is_namespaced))
        except ValueError as error:
            strange += 1
            log.error("audit.row_skipped", extra={"reason": str(error)})  # noqa: TRY400
    return records, strange


def _is_namespaced(api_group: str, resource: str) -> bool:
    return scope_of(api_group, resource) is Scope.NAMESPACED
