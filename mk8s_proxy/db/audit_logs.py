"""The audit in the database, written by the shipper of each process; `audit_search` reads it.

Whoever writes takes numbers of one counter, and holds the counter's row until its commit. So all
writers come one after the other; a reader that has seen a number has seen all below it; and the
place reached in a journal, which is kept in the same transaction, is always that of the rows.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter
from typing import Any, Final, Protocol

from sqlalchemy import Dialect, Table, bindparam, delete, select, update
from sqlalchemy.exc import DataError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession
from sqlmodel import col

from mk8s_proxy.db.audit_models import AuditEvent, AuditLog, AuditPosition
from mk8s_proxy.db.engine import Database, first_line
from mk8s_proxy.db.errors import StoreError
from mk8s_proxy.db.models import Meta

COUNTER = "audit_logs"
_AT_ONCE = 200
"""Rows of one statement: the event loop, which is held up for less than a millisecond by one,
serves requests between two of them."""
COLUMNS = (
    "audit_id", "stage", "created_at", "user", "user_id", "cluster", "command", "status", "code",
    "duration_ms", "verb", "action", "api_group", "resource", "subresource", "namespace", "name",
    "denied", "source_ip", "delegate",
)  # fmt: skip
_TEXTS_AND_NUMBERS: Final[Callable[["Record"], tuple[Any, ...]]] = attrgetter(
    *[name for name in COLUMNS if name != "created_at"]
)
"""What drivers take as it is."""
_ADDED: Final = ("id", "number", *[it for it in COLUMNS if it != "created_at"], "created_at")
_FIND_IN_LIST: Final = "SELECT audit_id, id, stage FROM audit_logs WHERE audit_id = ANY(%s)"
_FIND_IN_JSON: Final = (
    "SELECT audit_id, id, stage FROM audit_logs WHERE audit_id IN (SELECT value FROM json_each(?))"
)
_COMPLETE = "ResponseComplete"
_LOGS = AuditLog.metadata.tables["audit_logs"]
_EVENTS = AuditEvent.metadata.tables["audit_events"]


class Unstorable(StoreError):
    """The database refuses one of the rows, and would always: nothing of them is written."""


class Record(Protocol):
    """A request as `mk8s_proxy.audit.record` makes it of its row: what `COLUMNS` names, and it."""

    @property
    def audit_id(self) -> str:
        """Of the request; its rows share it."""

    @property
    def stage(self) -> str:
        """RequestReceived, later ResponseComplete."""

    @property
    def created_at(self) -> datetime:
        """When it came."""

    @property
    def event(self) -> str:
        """The row."""


@dataclass(frozen=True, slots=True)
class Shipped:
    """What came of a piece of a journal."""

    position: int
    """How far its file is in the database now: behind the piece, or where another try left it."""
    rows: int
    """Rows added or brought to their end."""


async def positions(database: Database, files: Sequence[str]) -> dict[str, int]:
    """How far files of journals are shipped; those that are not known are left out."""
    row = select(col(AuditPosition.file), col(AuditPosition.position))
    async with database.session() as session:
        found = await session.execute(row.where(col(AuditPosition.file).in_(files)))
        return {row.file: row.position for row in found.all()}


async def ship(
    database: Database,
    *,
    file: str,
    start: int,
    end: int,
    records: Sequence[Record],
    now: datetime,
) -> Shipped:
    """Write a piece of a journal, once: nothing is written unless its file is shipped up to it.

    Args:
        file: the name of the journal's file.
        start, end: the piece's place in it, in bytes.
        records: its requests, each once, in their order.
        now: when this is.

    Raises:
        DatabaseUnavailable: as of `Database.transaction`; the next try finds out what became of it.
        Unstorable: a row has something that the database does not take.
    """
    try:
        return await _ship(database, file, (start, end), records, now)
    except (DataError, OverflowError, UnicodeError) as error:
        raise Unstorable(f"{type(error).__name__}: {first_line(error)}") from error


async def _ship(
    database: Database, file: str, place: tuple[int, int], records: Sequence[Record], now: datetime
) -> Shipped:
    start, end = place
    async with database.transaction() as session:
        first = await _take_numbers(session, len(records))
        standing = await session.get(AuditPosition, file)
        if standing is None:
            standing = AuditPosition(file=file, position=0, moved_at=now)
            session.add(standing)
        if standing.position != start:
            return Shipped(standing.position, 0)
        standing.position, standing.moved_at = end, now
        rows = await _write(session, first, records)
    return Shipped(end, rows)


async def _take_numbers(session: AsyncSession, count: int) -> int:
    """The first of so many numbers; every other writer waits until this transaction ends."""
    counter = update(Meta).where(col(Meta.key) == COUNTER)
    raised = counter.values(counter=col(Meta.counter) + count).returning(col(Meta.counter))
    return int((await session.execute(raised)).scalar_one()) - count + 1


async def _write(session: AsyncSession, first: int, records: Sequence[Record]) -> int:
    connection = await session.connection()
    known = await _known(connection, [record.audit_id for record in records])
    fresh: list[tuple[int, Record]] = []
    ended: list[dict[str, Any]] = []
    for number, record in enumerate(records, first):
        standing = known.get(record.audit_id)
        if standing is None:
            fresh.append((number, record))
        elif standing[1] != _COMPLETE and record.stage == _COMPLETE:
            row = {name: getattr(record, name) for name in COLUMNS}
            ended.append(row | {"number": number, "event": record.event, "log_id": standing[0]})
    for start in range(0, len(fresh), _AT_ONCE):
        await _add(connection, fresh[start : start + _AT_ONCE])
    for start in range(0, len(ended), _AT_ONCE):
        await _end(connection, ended[start : start + _AT_ONCE])
    return len(fresh) + len(ended)


async def _add(connection: AsyncConnection, rows: Sequence[tuple[int, Record]]) -> None:
    """Add requests, each with its number, by the driver's own words: a third of the time."""
    dialect = connection.dialect
    moment = _LOGS.c.created_at.type.dialect_impl(dialect).bind_processor(dialect) or _as_it_is
    logs = [
        (number, number, *_TEXTS_AND_NUMBERS(record), moment(record.created_at))
        for number, record in rows
    ]
    await connection.exec_driver_sql(_insertion(dialect, _LOGS, _ADDED), logs)
    events = [(number, record.event) for number, record in rows]
    await connection.exec_driver_sql(_insertion(dialect, _EVENTS, ("log_id", "event")), events)


def _insertion(dialect: Dialect, table: Table, columns: Sequence[str]) -> str:
    names = ", ".join([dialect.identifier_preparer.quote(name) for name in columns])
    marks = ", ".join([_mark(dialect)] * len(columns))
    return f"INSERT INTO {table.name} ({names}) VALUES ({marks})"  # noqa: S608  names of ours


def _mark(dialect: Dialect) -> str:
    return "?" if dialect.paramstyle == "qmark" else "%s"


def _as_it_is(moment: datetime) -> datetime:
    return moment


async def _known(
    connection: AsyncConnection, audit_ids: Sequence[str]
) -> dict[str, tuple[int, str]]:
    """Id and stage of the requests that are there; one parameter holds all that is asked for."""
    found: str = _FIND_IN_LIST
    asked: tuple[Any, ...] = (list(audit_ids),)
    if connection.dialect.name == "sqlite":
        found, asked = _FIND_IN_JSON, (json.dumps(audit_ids),)
    rows = await connection.exec_driver_sql(found, asked)
    return {row.audit_id: (row.id, row.stage) for row in rows.all()}


async def _end(connection: AsyncConnection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Bring requests to their end."""
    values: dict[str, Any] = {name: bindparam(f"new_{name}") for name in (*COLUMNS, "number")}
    given = [{f"new_{key}": value for key, value in row.items()} for row in rows]
    await connection.execute(
        update(_LOGS).where(_LOGS.c.id == bindparam("new_log_id")).values(**values), given
    )
    await connection.execute(
        update(_EVENTS)
        .where(_EVENTS.c.log_id == bindparam("new_log_id"))
        .values(event=bindparam("new_event")),
        given,
    )


async def delete_older(database: Database, before: datetime, most: int) -> int:
    """Delete requests that began before a time, at most so many of them. Returns their number.

    Places in files that were reached before that time are forgotten with the last of them.
    """
    oldest = select(col(AuditLog.id)).where(col(AuditLog.created_at) < before)
    some = oldest.order_by(col(AuditLog.created_at), col(AuditLog.id)).limit(most)
    async with database.transaction() as session:
        await _take_numbers(session, 0)  # in turn with those who write
        ids = (await session.scalars(some)).all()
        if ids:
            await session.execute(delete(AuditLog).where(col(AuditLog.id).in_(ids)))
        if len(ids) < most:
            forgotten = delete(AuditPosition).where(col(AuditPosition.moved_at) < before)
            await session.execute(forgotten)
    return len(ids)
