"""Opens the database fixtures of tests/support for the tests of central."""

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
