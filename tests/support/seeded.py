"""What the databases of many tests begin with, made once and then put in as rows.

Called by `management_api.Central.start`, before each of a thousand tests: an administrator and a
developer by the store's own functions are ten transactions, their rows are one.
"""

from typing import Any

import sqlalchemy
from sqlmodel import SQLModel

from mk8s_proxy.db import roles, users
from mk8s_proxy.db.engine import Database
from mk8s_proxy.db.models import Meta

Row = dict[str, Any]
DEVELOPER = [
    {"name": "dev-*", "namespaces": ["*"], "verbs": ["get", "list"], "resources": ["pods"]}
]
_META = SQLModel.metadata.tables[Meta.__tablename__]
_made: list[tuple[list[Row], dict[str, list[Row]]]] = []
"""What `meta` said before, and all rows after."""


async def _rows(database: Database, table: sqlalchemy.Table) -> list[Row]:
    async with database.session() as session:
        found = await session.execute(sqlalchemy.select(table))
        return [dict(row._mapping) for row in found]


async def _by_the_store(database: Database, password_hash: str) -> None:
    await roles.ensure_admin_role(database)
    await roles.put_role(database, "developer", DEVELOPER)
    await users.create_user(database, "admin@example.com", "Ada", password_hash, ["admin"])
    await users.create_user(database, "dev@example.com", "Dev", password_hash, ["developer"])


async def enrol(database: Database, password_hash: str) -> None:
    """An admin and a developer in a database that has neither."""
    before = await _rows(database, _META)
    after = next((rows for meta, rows in _made if meta == before), None)
    if after is None:
        await _by_the_store(database, password_hash)
        tables = SQLModel.metadata.sorted_tables
        _made.append((before, {it.name: await _rows(database, it) for it in tables}))
        return
    async with database.transaction() as session:
        await session.execute(sqlalchemy.delete(_META))
        for name, rows in after.items():
            if rows:
                await session.execute(sqlalchemy.insert(SQLModel.metadata.tables[name]), rows)
