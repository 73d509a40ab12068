"""What filling and searching the audit in the database takes: `python -m tests.bench.bench_audit`.

Fills a database with requests of 200 users on 10 clusters (1,000,000 without `--rows`) as the
shipper does, then asks for filtered pages, each one several times, and prints milliseconds: median
and worst. The target: a filtered page of 1,000,000 rows in less than 300 ms. `--explain` prints the
plan of each. Without `--url` the database is a SQLite file in a temporary folder; a PostgreSQL that
is named must be empty. `--keep FILE` fills that SQLite file once and asks it again later.
"""

import argparse
import asyncio
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import text

from mk8s_proxy.audit.event import AuditEntry, AuditFacts
from mk8s_proxy.audit.identifier import AuditId
from mk8s_proxy.audit.record import AuditRecord, record_of
from mk8s_proxy.audit.rows import encode_outcome
from mk8s_proxy.authz.scopes import Scope, scope_of
from mk8s_proxy.db import audit_logs, audit_search, migrations
from mk8s_proxy.db.audit_search import Search
from mk8s_proxy.db.engine import Database

TARGET = 0.3
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
STEP = timedelta(seconds=2)
PIECE = 400
TURNS = 7
CHANCE = random.Random(1)
USERS = [f"user-{n}@example.com" for n in range(200)]
CLUSTERS = [f"cluster-{n}" for n in range(10)]
NAMESPACES = [f"shop-{n}" for n in range(100)]
VERBS = [("get", 50), ("list", 25), ("watch", 15), ("patch", 5), ("create", 3), ("delete", 2)]
RESOURCES = [("pods", 60), ("services", 20), ("configmaps", 15), ("secrets", 5)]
CODES = [(200, 950), (404, 35), (403, 14), (500, 1)]


def pick(choices: list[tuple]) -> object:  # type: ignore[type-arg]
    """One of some values, as often as their weights say."""
    values, weights = zip(*choices, strict=True)
    return CHANCE.choices(values, weights)[0]


def namespaced(group: str, resource: str) -> bool:
    """Whether a resource lives in namespaces."""
    return scope_of(group, resource) is Scope.NAMESPACED


def row(number: int) -> bytes:
    """The outcome row of a request, as the journal has it."""
    user = CHANCE.choice(USERS)
    verb, resource, code = str(pick(VERBS)), str(pick(RESOURCES)), int(str(pick(CODES)))
    namespace, name = CHANCE.choice(NAMESPACES), f"web-{CHANCE.randrange(5000)}"
    received = (BEGIN + number * STEP).timestamp()
    entry = AuditEntry(AuditId(f"{number:08x}-0000-7000-8000-000000000000"), received, "192.0.2.7")
    entry.facts = AuditFacts(
        "GET",
        f"/api/v1/namespaces/{namespace}/{resource}/{name}",
        "kubectl/v1.32.0 (linux/amd64) kubernetes/8adc0f0",
        user=user,
        uid=f"4b1c2f0e-6f1d-4a55-8f0e-{USERS.index(user):012x}",
        groups=("mk8s:users", "system:authenticated"),
        cluster=CHANCE.choice(CLUSTERS),
        verb=verb,
        namespace=namespace,
        resource=resource,
        subresource="exec" if verb == "create" and resource == "pods" else "",
        name=name,
        decision="forbid" if code == 403 and CHANCE.random() < 0.8 else "allow",
        reason="role developer, rule 2",
    )
    entry.code, entry.duration = code, 0.0123
    return encode_outcome(entry, received)


def pieces(rows: int) -> Iterator[list[AuditRecord]]:
    """The records of all rows, as many at a time as the shipper has."""
    for start in range(0, rows, PIECE):
        yield [record_of(row(n), namespaced) for n in range(start, min(start + PIECE, rows))]


async def fill(database: Database, rows: int) -> None:
    """Ship them; prints how fast, and what one costs, without the making of the rows."""
    spent = processor = longest = 0.0
    position = 0
    for records in pieces(rows):
        watch = asyncio.get_running_loop().create_task(longest_turn())
        began, used = time.perf_counter(), time.process_time()
        end = position + len(records)
        await audit_logs.ship(
            database, file="bench", start=position, end=end, records=records, now=BEGIN
        )
        position = end
        spent += time.perf_counter() - began
        processor += time.process_time() - used
        watch.cancel()
        longest = max(longest, await watch)
    print(f"shipped {rows} rows in {spent:.1f} s: {rows / spent:.0f} a second", flush=True)
    print(f"processor time of this process: {processor / rows * 1e6:.0f} us a row")
    print(f"the event loop was held up for {longest * 1000:.1f} ms of processor time at most")


async def longest_turn() -> float:
    """The most processor time that the event loop spent without a look around, until cancelled."""
    longest, last = 0.0, time.thread_time()
    try:
        while True:
            await asyncio.sleep(0.0005)
            now = time.thread_time()
            longest, last = max(longest, now - last), now
    except asyncio.CancelledError:
        return longest


@dataclass(frozen=True)
class Page:
    """A page that somebody asks for."""

    name: str
    search: Search
    deep: bool = False
    """Far from the newest."""


def pages(rows: int) -> list[Page]:
    """What people look for, and combinations that match hardly anything or nothing."""
    hour = BEGIN + rows * STEP - timedelta(hours=1)
    me = f"4b1c2f0e-6f1d-4a55-8f0e-{7:012x}"
    return [
        Page("everything", Search()),
        Page("everything, in the middle", Search(), deep=True),
        Page("one's own", Search(user_id=me)),
        Page("one's own, in the middle", Search(user_id=me), deep=True),
        Page("--user", Search(user="user-3@example.com")),
        Page("--cluster", Search(cluster="cluster-3")),
        Page("--namespace", Search(namespace="shop-5")),
        Page("--verb delete", Search(action="delete")),
        Page("--verb exec", Search(action="exec")),
        Page("--resource secrets", Search(resource="secrets")),
        Page("--code 500", Search(code=500)),
        Page("--denied", Search(denied=True)),
        Page("--since 1h", Search(since=hour)),
        Page("a day long ago", Search(since=BEGIN, until=BEGIN + timedelta(days=1))),
        Page("--user --since 1h", Search(user="user-3@example.com", since=hour)),
        Page("--cluster --verb", Search(cluster="cluster-3", action="delete")),
        Page("--cluster --code 500", Search(cluster="cluster-3", code=500)),
        Page("two common ones that never meet", Search(code=200, subresource="none")),
        Page("three that hardly meet", Search(cluster="cluster-3", action="get", code=500)),
        Page("common and absent", Search(action="get", cluster="none")),
        Page("denied, but with 200", Search(denied=True, code=200)),
        Page("common, denied, absent user", Search(action="get", denied=False, user="nobody")),
        Page("get, pods, 200, and two rare", Search(
            action="get", resource="pods", code=200, namespace="shop-5", user=USERS[3])),
        Page("one's own, common, never", Search(user_id=me, code=200, subresource="none")),
        Page("own, get with 500, long ago", Search(
            user_id=me, action="get", code=500, until=BEGIN + timedelta(days=1))),
    ]  # fmt: skip


async def ask(database: Database, page: Page, rows: int) -> tuple[list[float], int]:
    """Seconds of each try, and how many were found."""
    before = (BEGIN + rows // 2 * STEP, rows // 2) if page.deep else None
    spent, found = [], 0
    for _ in range(TURNS):
        began = time.perf_counter()
        answer = await audit_search.find(
            database, page.search, before=before, limit=100, events=False
        )
        spent.append(time.perf_counter() - began)
        found = len(answer.entries)
    return spent, found


async def explain(database: Database, page: Page) -> None:
    """Print what is walked, and the plan of the first step."""
    engine = database._engine
    assert engine is not None
    async with database.session() as session:
        walk = await audit_search._choose(session, page.search, None)
        end = await audit_search._end(session, walk, None)
        statement = walk.page(None, end, 101, events=False)
        compiled = statement.compile(engine.sync_engine, compile_kwargs={"literal_binds": True})
        prefix = "EXPLAIN QUERY PLAN " if database.is_sqlite else "EXPLAIN (ANALYZE, COSTS OFF) "
        for line in (await session.execute(text(prefix + str(compiled)))).all():
            print("     ", line[-1])


async def measure(url: str, rows: int, *, explained: bool) -> None:
    """Everything."""
    filled = not migrations.pending(url)
    migrations.upgrade(url)
    database = Database(url)
    await database.start()
    if not filled:
        await fill(database, rows)
    late = 0
    for page in pages(rows):
        spent, found = await ask(database, page, rows)
        late += max(spent) > TARGET
        shown = f"{statistics.median(spent) * 1000:7.1f} ms, worst {max(spent) * 1000:7.1f} ms"
        print(f"{page.name:34} {shown}, {found:3} found", flush=True)
        if explained:
            await explain(database, page)
    print(f"{late} of {len(pages(rows))} pages took longer than {TARGET * 1000:.0f} ms")
    await database.close()


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--url", default="", help="of an empty database")
    parser.add_argument("--keep", default="", help="a SQLite file that stays")
    parser.add_argument("--explain", action="store_true")
    return parser.parse_args(words)


def main() -> None:
    """The command."""
    chosen = arguments()
    with tempfile.TemporaryDirectory() as folder:
        url = chosen.url or f"sqlite:///{Path(chosen.keep or f'{folder}/central.db').absolute()}"
        asyncio.run(measure(url, chosen.rows, explained=chosen.explain))


if __name__ == "__main__":
    main()
