"""A database that does not answer, or is not there any more: refused within seconds."""

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from mk8s_proxy.db import engine, users
from mk8s_proxy.db.engine import Database, DatabaseUnavailable
from mk8s_proxy.db.sealing import new_key
from mk8s_proxy.process.init import AdminChoice, install
from mk8s_proxy.settings.model import Settings
from mk8s_proxy.settings.sealing import SecretsSettings
from tests.support.management_api import PASSWORD as MANAGEMENT_PASSWORD
from tests.support.management_api import Central
from tests.support.postgres import PostgresServer

PASSWORD = "a very long password"


@contextmanager
def frozen(url: str) -> Iterator[None]:
    """Every process that serves this database stands still, the postmaster too."""
    with psycopg.connect(url) as connection:
        found = connection.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
        ).fetchall()
        pids = [pid for (pid,) in found if pid != connection.info.backend_pid]
    parent = int(Path(f"/proc/{pids[0]}/stat").read_text().split()[3]) if pids else 0
    stopped = [pid for pid in [*pids, parent] if pid]
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)


@pytest.fixture
async def postgres(
    postgres_server: PostgresServer, migrated_postgres: str, monkeypatch: pytest.MonkeyPatch
) -> Database:
    for name in ("CONNECT_SECONDS", "READ_SECONDS", "WRITE_SECONDS"):
        monkeypatch.setattr(engine, name, 1)
    return Database(postgres_server.url(postgres_server.create(migrated_postgres)))


async def test_a_frozen_database_is_an_outage_and_is_used_again(postgres: Database) -> None:
    await postgres.start()
    await users.list_users(postgres)
    with frozen(postgres.url):
        for _ in range(2):  # on a connection that was open, then on a new one
            with pytest.raises(DatabaseUnavailable):
                await users.list_users(postgres)
            with pytest.raises(DatabaseUnavailable):
                await users.create_user(postgres, "dev@example.com", "", None)
    await users.list_users(postgres)
    await postgres.close()


async def test_a_frozen_database_does_not_keep_central_from_saying_so(postgres: Database) -> None:
    await postgres.start()
    await users.list_users(postgres)
    with frozen(postgres.url):
        await postgres.close()
        with pytest.raises(DatabaseUnavailable, match="does not answer"):
            await postgres.start()


async def test_a_login_on_a_frozen_database_is_answered(postgres: Database, tmp_path: Path) -> None:
    await postgres.start()
    central = await Central.start(postgres, tmp_path)
    right = {"email": "dev@example.com", "password": MANAGEMENT_PASSWORD}
    refresh = {"refresh_token": (await central.login())["refresh_token"]}
    with frozen(postgres.url):
        for path, body in (("/auth/login", right), ("/auth/refresh", refresh)):
            answer = await central.call("POST", path, body)
            assert answer.status == 503, answer.raw
    assert (await central.call("POST", "/auth/login", right)).status == 200
    await central.close()
    await postgres.close()


@pytest.mark.parametrize("act", ["removed", "replaced"])
async def test_a_sqlite_file_that_is_gone_is_not_written_to(
    sqlite_database: Database, act: str
) -> None:
    path = Path(sqlite_database.url.removeprefix("sqlite:///"))
    aside = path.with_suffix(".aside")
    assert sqlite_database.intact
    path.rename(aside)
    if act == "replaced":
        path.touch(mode=0o600)
    assert not sqlite_database.intact
    with pytest.raises(DatabaseUnavailable, match="removed or replaced"):
        await users.list_users(sqlite_database)
    with pytest.raises(DatabaseUnavailable, match="removed or replaced"):
        await users.create_user(sqlite_database, "dev@example.com", "", None)
    aside.rename(path)
    await users.create_user(sqlite_database, "dev@example.com", "", None)


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_two_init_at_once_both_succeed(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = f"sqlite:///{tmp_path / 'central.db'}"
    if kind == "postgresql":
        server: PostgresServer = request.getfixturevalue("postgres_server")
        url = server.url(server.create())
    secrets = SecretsSettings(key=new_key())
    settings = [
        Settings(
            data_dir=tmp_path / name,
            database_url=url,
            public_url="https://c.example.com",
            secrets=secrets,
        )
        for name in ("one", "two")
    ]
    choice = AdminChoice("admin@example.com", PASSWORD, lambda _: "")
    pins = await asyncio.gather(*(install(it, choice, None, lambda _: None) for it in settings))
    assert pins[0] == pins[1]
    database = Database(url)
    await database.start()
    assert [user.email for user in await users.list_users(database)] == ["admin@example.com"]
    await database.close()
