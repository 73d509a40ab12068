"""Fresh, migrated databases for tests; opened by tests/proxy/conftest.py.

`database` runs a test twice, on SQLite and on PostgreSQL; `sqlite_database` is the quick one for
tests that only need some database. Each test gets its own, copied from one migrated once.
"""

import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mk8s_proxy.db import engine, migrations
from mk8s_proxy.db.engine import Database
from mk8s_proxy.db.sealing import Vault, parse_keys
from tests.support.postgres import PostgresServer

VAULT = Vault([bytes(32)])
"""What the databases of tests are opened with."""


def vault_of(data_dir: Path) -> Vault:
    """The vault of a central that was installed there."""
    return Vault(parse_keys((data_dir / "secret.key").read_text()))


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("migrated") / "central.db"
    migrations.upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def migrated_postgres(postgres_server: PostgresServer) -> str:
    name = postgres_server.create()
    migrations.upgrade(postgres_server.url(name))
    return name


@pytest.fixture
def sqlite_url(migrated_sqlite: Path, tmp_path: Path) -> str:
    path = tmp_path / "central.db"
    shutil.copy(migrated_sqlite, path)
    return f"sqlite:///{path}"


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a migrated database that nobody has opened yet, on each of the two kinds."""
    if request.param == "sqlite":
        yield request.getfixturevalue("sqlite_url")
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    name = server.create(request.getfixturevalue("migrated_postgres"))
    yield server.url(name)
    server.drop(name)


@contextmanager
def patience() -> Iterator[None]:
    """A busy machine is no outage: how long a database is waited for has tests of its own."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("CONNECT_SECONDS", "READ_SECONDS", "WRITE_SECONDS"):
            patch.setattr(engine, name, 60)
        yield


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    database.vault = VAULT
    with patience():
        await database.start()
        yield database
        await database.close()


@pytest.fixture
async def sqlite_database(sqlite_url: str) -> AsyncIterator[Database]:
    database = Database(sqlite_url)
    database.vault = VAULT
    with patience():
        await database.start()
        yield database
        await database.close()
