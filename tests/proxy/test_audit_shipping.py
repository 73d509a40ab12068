"""From the journal into the database: restarts, lost answers, bad rows, old rows, the lag."""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from mk8s_agent.wire.background import Background
from mk8s_proxy.audit.follower import JournalFollower, owned_by
from mk8s_proxy.audit.journal import Journal
from mk8s_proxy.db import audit_logs, audit_search
from mk8s_proxy.db.audit_logs import Shipped
from mk8s_proxy.db.audit_search import Search
from mk8s_proxy.db.engine import Database, DatabaseUnavailable
from mk8s_proxy.process import audit_shipping as shipping_module
from mk8s_proxy.process.audit_shipping import AuditShipping, LoopLoad
from tests.support.audit_rows import NOON, entry, open_journal


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit" / "journal.jsonl"


@pytest.fixture
async def journal(path: Path) -> AsyncIterator[Journal]:
    opened = open_journal(path, keep=50)
    yield opened
    opened.close()


def shipping(database: Database, journal: Journal, path: Path, **settings: Any) -> AuditShipping:
    follower = JournalFollower(path.parent, owned_by(path, 1, 1), (journal.durable,))
    return AuditShipping(
        database, follower, **({"retention_days": 0, "clock": lambda: NOON} | settings)
    )


def write(journal: Journal, *names: str) -> None:
    for name in names:
        made = entry(name)
        journal.intent(made)
        assert journal.commit()
        journal.outcome(made)
        assert journal.commit()
    assert journal.sync()


async def stored(database: Database) -> list[str]:
    """The audit ids in the order in which they were written, without the journal's own rows."""
    found = await audit_search.follow(database, Search(), after=0, limit=5000, events=False)
    return [it.audit_id for it in found.entries if it.resource != "journals"]


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not holds():  # noqa: ASYNC110  a poll is what is waited for
            await asyncio.sleep(0.01)


async def test_rows_arrive_and_the_lag_is_known(
    database: Database, journal: Journal, path: Path
) -> None:
    ships = shipping(database, journal, path)
    await ships.turn()
    assert ships.counters.lag_seconds == 0
    write(journal, "a", "b")
    await ships.turn()
    assert await stored(database) == ["a", "b"]
    counted = ships.counters
    assert (counted.rows, counted.skipped, counted.waiting_bytes) == (2, 0, 0)


async def test_a_database_that_is_away_costs_nothing_but_time(
    database: Database, journal: Journal, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ships = shipping(database, journal, path)
    await ships.turn()
    write(journal, "a")

    async def away(*_: object, **__: object) -> Shipped:
        raise DatabaseUnavailable("away")

    with monkeypatch.context() as patched:
        patched.setattr(audit_logs, "ship", away)
        with pytest.raises(DatabaseUnavailable):
            await ships.turn()
    assert ships.counters.waiting_bytes > 0
    assert ships.counters.lag_seconds > 0
    assert f"{ships.counters.waiting_bytes} bytes behind" in ships.told()
    write(journal, "b")
    await ships.turn()
    assert await stored(database) == ["a", "b"]


async def test_a_commit_whose_answer_is_lost_is_not_repeated(
    database: Database, journal: Journal, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ships = shipping(database, journal, path)
    write(journal, "a")
    real = audit_logs.ship

    async def lost(*given: Any, **named: Any) -> Shipped:
        await real(*given, **named)
        raise DatabaseUnavailable("the connection broke during the commit")

    with monkeypatch.context() as patched:
        patched.setattr(audit_logs, "ship", lost)
        with pytest.raises(DatabaseUnavailable):
            await ships.turn()
    write(journal, "b")
    await ships.turn()
    assert await stored(database) == ["a", "b"]
    assert ships.counters.waiting_bytes == 0


async def test_rotations_and_restarts_lose_and_repeat_nothing(
    database: Database, path: Path
) -> None:
    names = [f"r{number:03}" for number in range(60)]
    for start in range(0, 60, 15):
        journal = open_journal(path, max_bytes=3000, keep=50)
        ships = shipping(database, journal, path)
        write(journal, *names[start : start + 8])
        await ships.turn()
        write(journal, *names[start + 8 : start + 15])
        if start % 30:
            await ships.turn()
        await asyncio.to_thread(ships._follower.close)
        journal.close()
    assert len(list(path.parent.glob("journal-*.jsonl"))) > 5
    journal = open_journal(path, keep=50)
    await shipping(database, journal, path).turn()
    journal.close()
    assert await stored(database) == names


async def test_two_that_ship_the_same_journal_write_it_once(
    database: Database, journal: Journal, path: Path
) -> None:
    first, second = shipping(database, journal, path), shipping(database, journal, path)
    names = [f"r{number:03}" for number in range(50)]
    for start in range(0, 50, 10):
        write(journal, *names[start : start + 10])
        await asyncio.gather(first.turn(), second.turn())
    assert await stored(database) == names


async def test_the_rest_goes_at_the_end(database: Database, path: Path) -> None:
    journal = open_journal(path, keep=50)
    ships = shipping(database, journal, path)
    await ships.turn()
    made = entry("a")
    journal.outcome(made)
    journal.close()
    await ships.flush()
    assert await stored(database) == ["a"]


async def test_what_is_held_ends_soon_and_begins_nothing(
    sqlite_database: Database, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mk8s_proxy.audit.follower.PIECE_BYTES", 2000)
    journal = open_journal(path, keep=50)
    ships = shipping(sqlite_database, journal, path, retention_days=10)
    names = [f"r{number:02}" for number in range(20)]
    write(journal, *names)
    turn = asyncio.create_task(ships.turn())
    await until(lambda: ships.counters.rows > 0)
    await ships.hold()
    await turn
    held = ships.counters.rows
    assert 0 < held < 20
    await ships.turn()
    await ships.clean()
    assert ships.counters.rows == held
    journal.close()
    await ships.flush()
    assert await stored(sqlite_database) == names


async def test_an_end_without_a_database_says_what_is_left(
    sqlite_database: Database, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    journal = open_journal(path, keep=50)
    ships = shipping(sqlite_database, journal, path)
    await ships.turn()
    write(journal, "a")
    journal.close()
    (path.parent.parent / "central.db").unlink()
    await ships.flush()
    assert "audit.not_shipped" in caplog.text


@pytest.mark.parametrize(
    "bad", [b"no row at all", b'{"kind":"Event","apiVersion":"v","auditID":"x","stage":"y"}']
)
async def test_a_line_that_is_no_row_is_skipped_and_counted(
    database: Database, path: Path, bad: bytes
) -> None:
    journal = open_journal(path, keep=50)
    write(journal, "a")
    with path.open("ab") as file:
        file.write(bad + b"\n")
    journal.close()
    journal = open_journal(path, keep=50)
    write(journal, "b")
    ships = shipping(database, journal, path)
    await ships.turn()
    assert await stored(database) == ["a", "b"]
    assert ships.counters.skipped == 1
    journal.close()


async def test_a_row_that_the_database_refuses_keeps_no_other_back(
    database: Database, journal: Journal, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"r{number:02}" for number in range(21)]
    write(journal, *names)
    made = shipping_module.record_of

    def damaged(*given: Any) -> Any:
        record = made(*given)
        return record._replace(code=1 << 70) if record.audit_id == "r13" else record

    monkeypatch.setattr(shipping_module, "record_of", damaged)
    ships = shipping(database, journal, path)
    await ships.turn()
    assert await stored(database) == [name for name in names if name != "r13"]
    assert ships.counters.skipped >= 1
    assert ships.counters.waiting_bytes == 0
    await ships.turn()
    write(journal, "later")
    await ships.turn()
    assert (await stored(database))[-1] == "later"


async def test_what_is_too_old_is_deleted_and_not_shipped_again(
    database: Database, journal: Journal, path: Path
) -> None:
    now = NOON
    ships = shipping(database, journal, path, retention_days=1, clock=lambda: now)
    write(journal, "a")
    await ships.turn()
    await ships.clean()
    assert await stored(database) == ["a"]
    now += 2 * 86400
    await ships.clean()
    assert await stored(database) == []
    again = shipping(database, journal, path, retention_days=1, clock=lambda: now)
    await again.turn()
    assert await stored(database) == [], "its place was forgotten, its rows are too old"


async def test_without_a_limit_nothing_is_deleted(
    sqlite_database: Database, journal: Journal, path: Path
) -> None:
    ships = shipping(sqlite_database, journal, path, clock=lambda: NOON + 1e9)
    write(journal, "a")
    await ships.turn()
    await ships.clean()
    assert await stored(sqlite_database) == ["a"]


async def test_a_long_backlog_is_several_turns(
    sqlite_database: Database, journal: Journal, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shipping_module, "LONGEST_TURN", -1.0)
    monkeypatch.setattr("mk8s_proxy.audit.follower.PIECE_BYTES", 2000)
    ships = shipping(sqlite_database, journal, path)
    write(journal, "a", "b", "c", "d")
    await ships.turn()
    assert ships.counters.waiting_bytes > 0
    while ships.counters.waiting_bytes:
        await ships.turn()
    assert await stored(sqlite_database) == ["a", "b", "c", "d"]


async def test_rows_wait_while_requests_need_the_processor_but_not_for_long(
    sqlite_database: Database, journal: Journal, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ships = shipping(sqlite_database, journal, path, busy=lambda: True)
    write(journal, "a")
    await ships.turn()
    assert await stored(sqlite_database) == []
    assert ships.counters.lag_seconds > 0
    with monkeypatch.context() as patched:
        patched.setattr(shipping_module, "LONGEST_WAIT", 0.0)
        await ships.turn()
    assert await stored(sqlite_database) == ["a"]
    write(journal, "b")
    journal.close()
    await ships.flush()
    assert await stored(sqlite_database) == ["a", "b"], "at the end nothing waits"


def test_the_load_is_that_since_the_last_look() -> None:
    clock, processor = iter([0.0, 1.0, 2.0]), iter([5.0, 5.1, 5.9])
    load = LoopLoad(clock.__next__, processor.__next__)
    assert not load.is_high()
    assert load.is_high()


async def test_it_runs_in_the_background_and_readiness_knows_its_name(
    sqlite_database: Database, journal: Journal, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shipping_module, "TURN_SECONDS", 0.01)
    monkeypatch.setattr(shipping_module, "OVERDUE_SECONDS", 0.3)
    monkeypatch.setattr(shipping_module, "RETENTION_SECONDS", 0.01)
    ships = shipping(sqlite_database, journal, path, retention_days=10)
    async with Background() as background:
        ships.start(background)
        write(journal, "a")
        await until(lambda: ships.counters.rows == 1)
        await until(lambda: "audit shipping" not in background.unready())

        async def away(*_: object, **__: object) -> Shipped:
            raise DatabaseUnavailable("away")

        with monkeypatch.context() as patched:
            patched.setattr(audit_logs, "ship", away)
            write(journal, "b")
            await until(lambda: "audit shipping" in background.unready())
        await until(lambda: ships.counters.rows == 2)
        await until(lambda: "audit shipping" not in background.unready())


KILLED = textwrap.dedent("""
    import asyncio, sys
    from pathlib import Path
    from mk8s_proxy.db.engine import Database
    from tests.proxy.test_audit_shipping import open_journal, shipping, write

    async def run(url, path, first):
        database = Database(url)
        await database.start()
        journal = open_journal(path, max_bytes=20000, keep=50)
        ships = shipping(database, journal, path)
        number = first
        print("ready", flush=True)
        while True:
            names = [f"r{number + it:06}" for it in range(5)]
            number += 5
            write(journal, *names)
            print(names[-1], flush=True)
            await ships.turn()

    asyncio.run(run(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])))
""")


def run_and_kill(url: str, path: Path, first: int, lines: int) -> None:
    """Ship in a process of its own, and kill it after it has written so many lines."""
    command = [sys.executable, "-c", KILLED, url, str(path), str(first)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "ready\n"
        for _ in range(lines):
            program.stdout.readline()
        os.kill(program.pid, signal.SIGKILL)
        program.stdout.read()


def written(path: Path) -> set[str]:
    """The audit ids of all files of a journal."""
    files = [*path.parent.glob("journal-*.jsonl"), path]
    lines = [line for file in files for line in file.read_bytes().splitlines()]
    return {orjson.loads(line)["auditID"] for line in lines}


@pytest.mark.timeout(300)
async def test_kill_9_loses_and_repeats_no_row(database_url: str, path: Path) -> None:
    for number in range(4):
        await asyncio.to_thread(run_and_kill, database_url, path, 1000 * number, 3 + 4 * number)
    database = Database(database_url)
    await database.start()
    journal = open_journal(path, keep=50)
    await shipping(database, journal, path).turn()
    journal.close()
    found = await stored(database)
    await database.close()
    assert len(found) == len(set(found))
    assert set(found) == {name for name in written(path) if name.startswith("r0")}
    assert len(found) >= 36 * 5


async def test_what_is_switched_off_ships_nothing_and_deletes_nothing(
    database: Database, path: Path
) -> None:
    journal = open_journal(path)
    before = shipping(database, journal, path)
    write(journal, "a")
    await before.turn()
    off = shipping(database, journal, path, on=False, retention_days=1)
    background = Background()
    await background.open()
    off.start(background)
    assert background.unready() == []
    assert "off (audit.database)" in off.told()
    write(journal, "b")
    await background.close()
    journal.close()
    await off.flush()
    assert await stored(database) == ["a"]
