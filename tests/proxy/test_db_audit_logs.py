"""The audit in the database, on both: written once, found by every filter, deleted by age."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from mk8s_proxy.audit.record import AuditRecord
from mk8s_proxy.db import audit_logs, audit_search
from mk8s_proxy.db.audit_logs import Shipped, Unstorable
from mk8s_proxy.db.audit_search import AuditEntry, Search
from mk8s_proxy.db.engine import Database
from mk8s_proxy.db.errors import NotFound
from tests.support.audit_rows import NOON, entry, record

NOW = datetime.fromtimestamp(NOON, UTC)


async def ship(
    database: Database, *records: AuditRecord, start: int = 0, file: str = "f", end: int = 0
) -> Shipped:
    return await audit_logs.ship(
        database, file=file, start=start, end=end or start + 10, records=records, now=NOW
    )


async def found(database: Database, **search: Any) -> list[str]:
    answer = await audit_search.find(
        database, Search(**search), before=None, limit=100, events=False
    )
    return shown(answer.entries)


def shown(entries: Sequence[AuditEntry]) -> list[str]:
    return [it.audit_id for it in entries]


async def test_a_piece_is_written_once(database: Database) -> None:
    assert await audit_logs.positions(database, ["f"]) == {}
    rows = [record(entry(name, at=at)) for at, name in enumerate("abc")]
    assert await ship(database, *rows) == Shipped(10, 3)
    assert await ship(database, *rows) == Shipped(10, 0), "as after a commit whose end is unknown"
    assert await audit_logs.positions(database, ["f", "other"]) == {"f": 10}
    assert await found(database) == ["c", "b", "a"]
    assert await ship(database, start=77) == Shipped(10, 0), "a gap is told, not jumped"


async def test_the_same_rows_from_another_file_are_there_already(database: Database) -> None:
    row = record(entry("a"))
    await ship(database, row)
    assert await ship(database, row, file="g") == Shipped(10, 0)
    assert await found(database) == ["a"]


async def test_an_end_completes_its_beginning_and_nothing_undoes_it(database: Database) -> None:
    beginning, end = record(entry("a"), ended=False), record(entry("a", code=404))
    await ship(database, beginning)
    running = await audit_search.get(database, "a", "")
    assert (running.status, running.code) == ("running", 0)
    assert await ship(database, end, start=10) == Shipped(20, 1)
    await ship(database, beginning, start=20)
    ended = await audit_search.get(database, "a", "")
    assert (ended.status, ended.code, ended.duration_ms) == ("failure", 404, 250)
    assert ended.id == running.id
    assert ended.number > running.number
    assert '"ResponseComplete"' in ended.event


async def test_everything_of_a_record_is_kept(database: Database) -> None:
    made = record(entry("a", api_group="apps", resource="deployments", subresource="scale"))
    await ship(database, made)
    kept = await audit_search.get(database, "a", "")
    assert {name: getattr(kept, name) for name in made._fields} == made._asdict()


async def test_writers_come_one_after_the_other(database: Database) -> None:
    """Whoever follows by number misses nothing, however the commits of several writers lie."""
    seen: list[str] = []
    after = 0

    async def follow() -> None:
        nonlocal after
        answer = await audit_search.follow(
            database, Search(), after=after, limit=1000, events=False
        )
        seen.extend(shown(answer.entries))
        after = answer.newest

    async def write(file: str) -> None:
        for number in range(8):
            made = [record(entry(f"{file}{number}-{it}")) for it in range(3)]
            await ship(database, *made, file=file, start=number * 10)

    writers = [asyncio.create_task(write(file)) for file in "xyz"]
    while not all(it.done() for it in writers):
        await follow()
    await asyncio.gather(*writers)
    await follow()
    assert len(seen) == 72
    assert len(set(seen)) == 72


ROWS = [
    entry("other", at=1, user="ops@example.com", uid="u-ops"),
    entry("staging", at=2, cluster="staging"),
    entry("delete", at=3, verb="delete"),
    entry("scale", at=4, resource="deployments", api_group="apps", subresource="scale"),
    entry("exec", at=5, verb="create", subresource="exec"),
    entry("kube-system", at=6, namespace="kube-system"),
    entry("missing", at=7, code=404),
    entry("refused", at=8, code=403, decision="forbid"),
    entry("plain", at=9),
]


@pytest.mark.parametrize(
    ("search", "expected"),
    [
        ({"user": "ops@example.com"}, ["other"]),
        ({"user_id": "u-ops"}, ["other"]),
        ({"cluster": "staging"}, ["staging"]),
        ({"action": "delete"}, ["delete"]),
        ({"resource": "deployments"}, ["scale"]),
        ({"resource": "deployments", "api_group": "apps"}, ["scale"]),
        ({"resource": "deployments", "api_group": "batch"}, []),
        ({"action": "exec"}, ["exec"]),
        ({"action": "create"}, []),
        ({"subresource": "exec"}, ["exec"]),
        ({"namespace": "shop", "subresource": "exec", "code": 200}, ["exec"]),
        ({"namespace": "kube-system"}, ["kube-system"]),
        ({"code": 404}, ["missing"]),
        ({"code_class": 4}, ["refused", "missing"]),
        ({"code_class": 4, "denied": False}, ["missing"]),
        ({"code_class": 5}, []),
        ({"denied": True}, ["refused"]),
        ({"denied": False, "code": 403}, []),
        ({"since": NOW + timedelta(seconds=8)}, ["plain", "refused"]),
        ({"until": NOW + timedelta(seconds=3)}, ["staging", "other"]),
        ({"user": "x' OR '1'='1"}, []),
    ],
)
async def test_filters(database: Database, search: dict[str, Any], expected: list[str]) -> None:
    await ship(database, *[record(it) for it in ROWS])
    assert await found(database, **search) == expected


@pytest.mark.parametrize("walked", [4000, 5, 1])
@pytest.mark.parametrize("search", [Search(), Search(user_id="u-dev", cluster="prod")])
async def test_pages_meet_without_a_gap_and_without_an_overlap(
    database: Database, search: Search, walked: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_search, "WALKED_ROWS", walked)
    names = [f"r{number:02}" for number in range(20)]
    # Three of each time, shipped in another order than they began.
    made = [record(entry(name, at=number // 3)) for number, name in enumerate(names)]
    await ship(database, *made[10:])
    await ship(database, *made[:10], file="g")
    pages: list[AuditEntry] = []
    answer = None
    while answer is None or answer.more is not None:
        before = None if answer is None else answer.more
        answer = await audit_search.find(database, search, before=before, limit=4, events=False)
        pages += answer.entries
    assert sorted(shown(pages)) == names
    times = [it.created_at for it in pages]
    assert times == sorted(times, reverse=True)


async def test_a_row_of_somebody_else_is_not_there(database: Database) -> None:
    await ship(database, record(entry("a")))
    assert (await audit_search.get(database, "a", "u-dev")).user == "dev@example.com"
    for name, user_id in (("a", "u-ops"), ("absent", "")):
        with pytest.raises(NotFound):
            await audit_search.get(database, name, user_id)


async def test_what_is_old_is_deleted_some_at_a_time(database: Database) -> None:
    await ship(database, *[record(entry(f"r{it}", at=it)) for it in range(6)])
    cutoff = NOW + timedelta(seconds=4)
    assert await audit_logs.delete_older(database, cutoff, 3) == 3
    assert await found(database) == ["r5", "r4", "r3"]
    assert await audit_logs.positions(database, ["f"]) == {"f": 10}
    assert await audit_logs.delete_older(database, cutoff, 3) == 1
    assert await audit_logs.positions(database, ["f"]) == {}, "its file has nothing newer"
    assert await audit_logs.delete_older(database, cutoff, 3) == 0
    assert await found(database) == ["r5", "r4"]
    async with database.session() as session:
        assert await session.scalar(text("SELECT count(*) FROM audit_events")) == 2


async def test_a_row_that_cannot_be_stored_says_so_and_leaves_nothing(database: Database) -> None:
    bad = record(entry("b"))._replace(code=1 << 70)
    with pytest.raises(Unstorable):
        await ship(database, record(entry("a")), bad)
    assert await found(database) == []
    assert await audit_logs.positions(database, ["f"]) == {}
    assert await ship(database, record(entry("a"))) == Shipped(10, 1)


@pytest.mark.parametrize(
    "column", ["user", "cluster", "command", "status", "duration_ms", "created_at"]
)
async def test_the_described_columns_are_there_for_sql(database: Database, column: str) -> None:
    await ship(database, record(entry("a")))
    async with database.session() as session:
        [value] = (await session.scalars(text(f'SELECT "{column}" FROM audit_logs'))).all()
    assert value


async def test_filters_that_hardly_meet_take_several_short_steps(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_search, "WALKED_ROWS", 5)
    monkeypatch.setattr(audit_search, "WALK_SECONDS", -1.0)
    rows = [record(entry(f"r{it:02}", at=it, code=404 if it == 3 else 200)) for it in range(30)]
    rows += [record(entry(f"s{it:02}", at=it, code=404, cluster="other")) for it in range(30)]
    await ship(database, *rows)
    seen: list[list[str]] = []
    answer = None
    while answer is None or answer.more is not None:
        answer = await audit_search.find(
            database,
            Search(cluster="prod", code=404),
            before=None if answer is None else answer.more,
            limit=10,
            events=False,
        )
        seen.append(shown(answer.entries))
    assert [name for page in seen for name in page] == ["r03"]
    assert len(seen) > 4


@pytest.mark.parametrize(
    ("search", "along"),
    [
        ({"cluster": "prod", "user": "ops@example.com"}, "user"),
        ({"cluster": "staging", "user": "dev@example.com"}, "cluster"),
        ({"cluster": "prod", "namespace": "absent", "user": "dev@example.com"}, "namespace"),
        ({"denied": True, "action": "get"}, "denied"),
        ({"subresource": "exec", "api_group": "apps"}, None),
    ],
)
async def test_the_rarest_filter_is_walked(
    database: Database,
    search: dict[str, Any],
    along: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(audit_search, "WALKED_ROWS", 20)
    await ship(database, *[record(it) for it in ROWS])
    async with database.session() as session:
        walk = await audit_search._choose(session, Search(**search), None)
    names = [condition.left.name for condition in walk.along]  # type: ignore[attr-defined]
    assert names == ([along] if along else [])
    assert len(walk.tried) == len(search) - len(names)


async def test_a_follower_goes_on_in_steps(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_search, "FOLLOWED_NUMBERS", 4)
    await ship(database, *[record(it) for it in ROWS])
    after, seen = 0, []
    for _ in range(10):
        answer = await audit_search.follow(
            database, Search(since=NOW + timedelta(seconds=7)), after=after, limit=2, events=True
        )
        seen += shown(answer.entries)
        after = answer.newest
    assert seen == ["missing", "refused", "plain"]
    classes = await audit_search.follow(
        database, Search(code_class=4), after=0, limit=9, events=False
    )
    assert shown(classes.entries) == []  # they are behind the first step
    classes = await audit_search.follow(
        database, Search(code_class=4), after=classes.newest, limit=9, events=False
    )
    assert shown(classes.entries) == ["missing", "refused"]
    assert after == len(ROWS)
    behind = await audit_search.follow(
        database, Search(until=NOW), after=10**9, limit=2, events=False
    )
    assert (behind.entries, behind.newest) == ([], 10**9)


ALONE = [
    Search(user="a"), Search(user_id="a"), Search(cluster="a"), Search(action="a"),
    Search(resource="a"), Search(namespace="a"), Search(code=1), Search(denied=True),
    Search(since=NOW), Search(), Search(user="a", since=NOW, until=NOW),
]  # fmt: skip


@pytest.mark.parametrize("search", ALONE, ids=lambda it: ",".join(it.values) or "times")
async def test_every_filter_alone_has_an_index(database: Database, search: Search) -> None:
    """No page that one filter chooses reads or sorts other rows: the plan says so."""
    engine = database._engine
    assert engine is not None
    async with database.session() as session:
        walk = await audit_search._choose(session, search, None)
        statement = walk.page(None, None, 10, events=False)
        compiled = statement.compile(engine.sync_engine, compile_kwargs={"literal_binds": True})
        prefix = "EXPLAIN QUERY PLAN " if database.is_sqlite else "EXPLAIN "
        if not database.is_sqlite:  # of an empty table it would read everything
            await session.execute(text("SET LOCAL enable_seqscan = off"))
            await session.execute(text("SET LOCAL enable_sort = off"))
            await session.execute(text("SET LOCAL enable_bitmapscan = off"))
        lines = (await session.execute(text(prefix + str(compiled)))).all()
    plan = "\n".join(str(line[-1]) for line in lines)
    assert f"ix_audit_logs_{next(iter(search.values), 'created_at')}" in plan, plan
    assert "TEMP B-TREE" not in plan, plan
    assert "Sort" not in plan, plan
