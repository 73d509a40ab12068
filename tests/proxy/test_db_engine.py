"""Connections and migrations: URLs, private files, outages, upgrades on both databases."""

import sqlite3
import stat
import threading
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine, text

from mk8s_proxy.db import migrations, policy
from mk8s_proxy.db.audit_models import AuditLog
from mk8s_proxy.db.engine import (
    WRITE_SECONDS,
    Database,
    DatabaseUnavailable,
    parse_database_url,
    shown_url,
)
from mk8s_proxy.db.models import metadata
from tests.support.postgres import PostgresServer

SECRET = "hunter2hunter2"


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("", "is not a URL"),
        ("no url", "is not a URL"),
        ("mysql://x/y", "is not supported"),
        ("sqlite://", "needs a file"),
        ("sqlite+aiosqlite:///:memory:", "needs a file"),
    ],
)
def test_unusable_urls_say_why(url: str, reason: str) -> None:
    with pytest.raises(DatabaseUnavailable, match=reason):
        Database(url)


@pytest.mark.parametrize(
    ("url", "driver"),
    [
        ("sqlite:////x.db", "sqlite+aiosqlite"),
        ("postgres://x/y", "postgresql+psycopg"),
        ("postgresql+asyncpg://x/y", "postgresql+psycopg"),
    ],
)
def test_the_tested_driver_is_used(url: str, driver: str) -> None:
    assert parse_database_url(url).drivername == driver


def test_the_password_is_never_shown() -> None:
    url = f"postgresql://mk8s:{SECRET}@db/mk8s?password={SECRET}"

    assert shown_url(url) == "postgresql://mk8s:***@db/mk8s"
    assert SECRET not in repr(Database(url))


async def test_outage_is_one_line_without_the_password() -> None:
    url = f"postgresql://mk8s:{SECRET}@127.0.0.1:1/mk8s"

    with pytest.raises(DatabaseUnavailable, match="does not answer") as refusal:
        await Database(url).start()
    assert SECRET not in str(refusal.value)
    assert "\n" not in str(refusal.value)
    with pytest.raises(DatabaseUnavailable, match="does not answer") as refusal:
        migrations.upgrade(url)
    assert SECRET not in str(refusal.value)
    with pytest.raises(DatabaseUnavailable):
        migrations.pending(url)


async def test_an_outage_later_is_told_the_same_way(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/empty.db")
    await database.start()

    with pytest.raises(DatabaseUnavailable, match="no such table"):
        await policy.policy_version(database)
    await database.close()


async def test_start_and_close_may_repeat(database: Database) -> None:
    await database.start()
    await database.close()
    await database.close()
    with pytest.raises(RuntimeError, match="start"):
        await policy.policy_version(database)
    await database.start()

    assert await policy.policy_version(database) == 1


async def test_sqlite_file_is_private(tmp_path: Path) -> None:
    path = tmp_path / "new" / "central.db"

    migrations.upgrade(f"sqlite:///{path}")
    database = Database(f"sqlite:///{path}")
    await database.start()

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert database.is_sqlite
    await database.close()


async def test_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    blocking = tmp_path / "file"
    blocking.touch()

    with pytest.raises(DatabaseUnavailable, match="cannot write"):
        await Database(f"sqlite:///{blocking}/central.db").start()


async def test_a_failed_write_leaves_nothing(database: Database) -> None:
    async def fail_halfway() -> None:
        async with database.transaction() as session:
            await session.execute(text("UPDATE meta SET counter = 77"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail_halfway()

    assert await policy.policy_version(database) == 1


async def test_readers_see_one_moment(database: Database) -> None:
    async with database.session() as reader:
        before = await reader.scalar(text("SELECT counter FROM meta"))
        async with database.transaction() as writer:
            await writer.execute(text("UPDATE meta SET counter = 5"))
        assert await reader.scalar(text("SELECT counter FROM meta")) == before

    assert await policy.policy_version(database) == 5


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/empty.db"
    server: PostgresServer = request.getfixturevalue("postgres_server")
    return server.url(server.create())


def test_upgrade_is_idempotent(empty_url: str) -> None:
    assert migrations.pending(empty_url)
    assert migrations.upgrade(empty_url) == (None, migrations.head_revision())
    assert migrations.upgrade(empty_url) == (migrations.head_revision(),) * 2
    assert not migrations.pending(empty_url)


def test_replicas_may_upgrade_at_once(empty_url: str) -> None:
    befores: list[str | None] = []

    def upgrade() -> None:
        befores.append(migrations.upgrade(empty_url)[0])

    threads = [threading.Thread(target=upgrade) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(befores, key=str) == [migrations.head_revision()] * 2 + [None]


def test_migrations_make_exactly_the_models(empty_url: str) -> None:
    migrations.upgrade(empty_url)
    parsed = parse_database_url(empty_url)
    if parsed.get_backend_name() == "sqlite":
        parsed = parsed.set(drivername="sqlite")
    engine = create_engine(parsed)

    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert AuditLog.__tablename__ in metadata.tables
        assert compare_metadata(context, metadata) == []
    engine.dispose()


def test_database_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/central.db"
    migrations.upgrade(url)
    connection = sqlite3.connect(tmp_path / "central.db")
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.commit()
    connection.close()

    with pytest.raises(DatabaseUnavailable, match='revision "9999"'):
        migrations.upgrade(url)
    assert migrations.current_revision(url) == "9999"


def test_what_is_no_database_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "central.db"
    path.write_text("these are not the tables you are looking for " * 50)

    with pytest.raises(DatabaseUnavailable, match="not a database"):
        migrations.upgrade(f"sqlite:///{path}")


async def test_postgresql_may_stand_behind_a_pool_of_sessions(database: Database) -> None:
    """PgBouncer in transaction mode: no start-up options, and nothing that is left in a session."""
    if database.is_sqlite:
        return
    async with database.transaction() as session:
        shown = [
            (await session.execute(text(f"SHOW {name}"))).scalar_one()
            for name in ("statement_timeout", "idle_in_transaction_session_timeout")
        ]
        assert shown == [f"{WRITE_SECONDS:.0f}s"] * 2, "what was given up does not go on"
    for _ in range(20):
        async with database.session() as session:
            await session.execute(text("SELECT count(*) FROM users WHERE email = :it"), {"it": "x"})
            prepared = await session.execute(text("SELECT count(*) FROM pg_prepared_statements"))
            assert prepared.scalar_one() == 0
