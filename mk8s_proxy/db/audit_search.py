"""Searching the audit in the database. Called by the management API.

No search takes long, whatever it looks for. Of the filters the one with the fewest rows is walked
along its index, the newest rows first; the others are tried on these rows. Which one that is, is
counted, up to some thousands, for each search: statistics know nothing of a value that is rare
only lately. Where all have many rows and they hardly ever meet, a search ends after a while with
what it has, and says from where it can be continued.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Integer,
    Row,
    Select,
    cast,
    func,
    literal,
    or_,
    select,
)
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from mk8s_proxy.db.audit_logs import COLUMNS, COUNTER
from mk8s_proxy.db.audit_models import AuditEvent, AuditLog
from mk8s_proxy.db.engine import Database
from mk8s_proxy.db.errors import NotFound
from mk8s_proxy.db.models import Meta, UtcDateTime

WALKED_ROWS = 2000
"""Looked at before the time is; also how far the rows of a filter are counted."""
WALK_SECONDS = 0.1
"""A search that has taken so long ends after the rows that it is at."""
FOLLOWED_NUMBERS = 20000
"""Looked at by one step of a follower."""
_BY_VALUE = ("user_id", "user", "namespace", "resource", "cluster", "code", "action", "denied")
"""Filters with an index, in the order in which they are walked where all have many rows."""


AuditEntry = Row[Any]
"""A request as it is stored: all that `COLUMNS` names, its `id`, its `number`, which grows with
each change of any row, and as `event` the row of the journal where it was asked for, else ""."""


@dataclass(frozen=True, slots=True)
class Search:
    """What to look for; "" and None are anything."""

    user_id: str = ""
    user: str = ""
    cluster: str = ""
    action: str = ""
    """A verb as roles name it."""
    api_group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    code: int | None = None
    code_class: int | None = None
    """The hundred of a code: 4 for all from 400 to 499."""
    denied: bool | None = None
    since: datetime | None = None
    until: datetime | None = None

    @property
    def values(self) -> Mapping[str, str | int | bool]:
        """Columns with the values that they must have."""
        given = {name: getattr(self, name) for name in (*_BY_VALUE, "api_group", "subresource")}
        return {name: value for name, value in given.items() if value not in {"", None}}

    def times(self) -> list[ColumnElement[bool]]:
        """The conditions on the time."""
        began = col(AuditLog.created_at)
        found = [] if self.since is None else [began >= self.since]
        return found if self.until is None else [*found, began < self.until]


Place = tuple[datetime, int]
"""Time and id of a row: pages end there."""


@dataclass(frozen=True, slots=True)
class Found:
    """Some requests."""

    entries: list[AuditEntry]
    more: Place | None
    """From where to go on; None when there is nothing behind."""
    newest: int
    """The greatest number that there was at that moment."""


async def find(
    database: Database, search: Search, *, before: Place | None, limit: int, events: bool
) -> Found:
    """The newest requests, newest first, behind a place where an earlier page ended.

    There may be fewer than `limit`, or none, with more behind them.
    """
    began, place = time.monotonic(), before
    entries: list[AuditEntry] = []
    async with database.session() as session:
        newest = await _newest(session)
        walk = await _choose(session, search, before)
        while True:
            end = await _end(session, walk, place)
            page = walk.page(place, end, limit + 1 - len(entries), events=events)
            entries += await _read(session, page)
            if len(entries) > limit:
                last = entries[limit - 1]
                return Found(entries[:limit], (last.created_at, last.id), newest)
            place = end
            if end is None or time.monotonic() - began > WALK_SECONDS:
                return Found(entries, end, newest)


async def follow(
    database: Database, search: Search, *, after: int, limit: int, events: bool
) -> Found:
    """What was written after a number, in that order; `newest` is the next number to give."""
    number = col(AuditLog.number)
    async with database.session() as session:
        newest = min(await _newest(session), after + FOLLOWED_NUMBERS)
        conditions = _tried_all(search, search.values)
        rows = _rows(events=events).where(number > after, number <= newest, *conditions)
        rows = rows.where(*_tried_times(search)).order_by(number).limit(limit)
        entries = await _read(session, rows)
    if len(entries) == limit:
        newest = entries[-1].number
    return Found(entries, None, max(newest, after))


async def get(database: Database, audit_id: str, user_id: str) -> AuditEntry:
    """One request, with its row.

    Args:
        audit_id: its id.
        user_id: whose it must be; "" is anybody's.

    Raises:
        NotFound: there is none.
    """
    row = _rows(events=True).where(col(AuditLog.audit_id) == audit_id)
    if user_id:
        row = row.where(_tried("user_id", user_id))
    async with database.session() as session:
        found = await _read(session, row)
    if not found:
        raise NotFound("audit entry", audit_id)
    return found[0]


# -- the walk along an index


@dataclass(frozen=True, slots=True)
class Walk:
    """A search along the index of one filter."""

    along: list[ColumnElement[bool]]
    """The conditions that choose the rows that are looked at: one value, and times."""
    tried: list[ColumnElement[bool]]
    """The conditions that are tried on them."""
    bounded: bool
    """Whether there may be too many of them to look at all."""

    def page(
        self, before: Place | None, end: Place | None, limit: int, *, events: bool
    ) -> Select[Any]:
        """The statement for the rows behind one place, up to another one."""
        rows = _rows(events=events).where(*self.along, *self.tried, *_between(before, end))
        return rows.order_by(*_newest_first()).limit(limit)


async def _choose(session: AsyncSession, search: Search, before: Place | None) -> Walk:
    """Find the filter with the fewest rows."""
    values = dict(search.values)
    times = search.times()
    counts = await _counts(session, values, [*times, *_between(before, None)])
    chosen = min(counts, key=lambda name: counts[name], default=next(iter(values), ""))
    along = [_column(chosen) == values.pop(chosen)] if chosen in _BY_VALUE else []
    tried = _tried_all(search, values)
    bounded = bool(tried) and counts.get(chosen, WALKED_ROWS) >= WALKED_ROWS
    return Walk([*along, *times], tried, bounded)


async def _counts(
    session: AsyncSession,
    values: Mapping[str, str | int | bool],
    when: list[ColumnElement[bool]],
) -> dict[str, int]:
    """How many rows filters have, up to `WALKED_ROWS`, until one has few; of one alone nothing."""
    counts: dict[str, int] = {}
    candidates = [name for name in _BY_VALUE if name in values] if len(values) > 1 else []
    for name in candidates:
        conditions = [_column(name) == values[name], *when]
        some = select(literal(1)).select_from(AuditLog).where(*conditions).limit(WALKED_ROWS)
        counts[name] = await session.scalar(select(func.count()).select_from(some.subquery())) or 0
        if counts[name] < WALKED_ROWS // 10:
            break
    return counts


async def _end(session: AsyncSession, walk: Walk, before: Place | None) -> Place | None:
    """The place behind the rows that are looked at next; None when that are all."""
    if not walk.bounded:
        return None
    keys = select(col(AuditLog.created_at), col(AuditLog.id))
    rows = keys.where(*walk.along, *_between(before, None)).order_by(*_newest_first())
    row = (await session.execute(rows.offset(WALKED_ROWS - 1).limit(1))).first()
    return None if row is None else (row.created_at, row.id)


def _between(before: Place | None, end: Place | None) -> list[ColumnElement[bool]]:
    """Behind one place (older), and up to another one. Both databases use the time's part."""
    began, log_id = col(AuditLog.created_at), col(AuditLog.id)
    found: list[ColumnElement[bool]] = []
    if before is not None:
        moment = literal(before[0], UtcDateTime())
        found += [began <= moment, or_(began < moment, log_id < before[1])]
    if end is not None:
        moment = literal(end[0], UtcDateTime())
        found += [began >= moment, or_(began > moment, log_id >= end[1])]
    return found


def _newest_first() -> tuple[ColumnElement[Any], ColumnElement[Any]]:
    return col(AuditLog.created_at).desc(), col(AuditLog.id).desc()


def _tried(name: str, value: str | int | bool) -> ColumnElement[bool]:
    """A condition that no database uses an index for: which one is walked was counted."""
    column = _column(name)
    if isinstance(value, bool):
        return cast(column, Integer) == int(value)
    plain: ColumnElement[Any] = column + 0 if isinstance(value, int) else column.concat("")
    return plain == value


def _tried_all(search: Search, values: Mapping[str, str | int | bool]) -> list[ColumnElement[bool]]:
    """The conditions of values, and of the class of codes, which has no index."""
    tried = [_tried(name, value) for name, value in values.items()]
    if search.code_class is None:
        return tried
    code, first = _column("code") + 0, search.code_class * 100
    return [*tried, code >= first, code < first + 100]


def _tried_times(search: Search) -> list[ColumnElement[bool]]:
    """The times that a follower asks for, which are tried on the rows of the numbers."""
    began = func.coalesce(*[col(AuditLog.created_at)] * 2, type_=UtcDateTime())
    found = [] if search.since is None else [began >= search.since]
    return found if search.until is None else [*found, began < search.until]


# -- rows


async def _newest(session: AsyncSession) -> int:
    return await session.scalar(select(col(Meta.counter)).where(col(Meta.key) == COUNTER)) or 0


def _column(name: str) -> Any:
    return AuditLog.metadata.tables["audit_logs"].c[name]


def _rows(*, events: bool) -> Select[Any]:
    columns = [_column(name) for name in ("id", "number", *COLUMNS)]
    if not events:
        return select(*columns, literal("").label("event"))
    joined = select(*columns, col(AuditEvent.event))
    return joined.join_from(AuditLog, AuditEvent, col(AuditEvent.log_id) == col(AuditLog.id))


async def _read(session: AsyncSession, rows: Select[Any]) -> list[AuditEntry]:
    return list((await session.execute(rows)).all())
