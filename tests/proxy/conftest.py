"""Opens the database fixtures of tests/support for the tests of central."""

from collections.abc import Iterator

import pytest

from tests.oracle.process import PROGRAM, Oracle, program
from tests.support.databases import (
    database,
    database_url,
    migrated_postgres,
    migrated_sqlite,
    sqlite_database,
    sqlite_url,
)
from tests.support.postgres import postgres_server

__all__ = [
    "database",
    "database_url",
    "migrated_postgres",
    "migrated_sqlite",
    "postgres_server",
    "sqlite_database",
    "sqlite_url",
]


@pytest.fixture(scope="session")
def oracle() -> Iterator[Oracle]:
    """Kubernetes's own library, running."""
    built = program()
    if built is None:
        pytest.skip(f"set {PROGRAM} to what `python -m tests.oracle.build` prints")
    with Oracle(built) as running:
        yield running
