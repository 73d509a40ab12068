"""Where users have logged in from: kept per user, bounded, hashed; on both databases."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from mk8s_proxy.db import users
from mk8s_proxy.db.engine import Database
from mk8s_proxy.db.login_sources import FORGOTTEN, KEPT, is_known, note

NOW = datetime(2026, 1, 1, tzinfo=UTC)
EMAIL = "dev@example.com"


@pytest.fixture
async def user_id(database: Database) -> str:
    return (await users.create_user(database, EMAIL, "Dev", None)).id


async def test_a_source_is_known_to_its_user_only(database: Database, user_id: str) -> None:
    await users.create_user(database, "other@example.com", "", None)
    await note(database, user_id, "192.0.2.1", NOW)
    assert await is_known(database, "DEV@example.com", "192.0.2.1", NOW)
    assert not await is_known(database, EMAIL, "192.0.2.2", NOW)
    assert not await is_known(database, "other@example.com", "192.0.2.1", NOW)
    assert not await is_known(database, "nobody@example.com", "192.0.2.1", NOW)


async def test_the_longest_unused_sources_go(database: Database, user_id: str) -> None:
    for number in range(KEPT + 3):
        await note(database, user_id, f"source {number}", NOW + timedelta(days=number / 100))
    known = [
        number
        for number in range(KEPT + 3)
        if await is_known(database, EMAIL, f"source {number}", NOW)
    ]
    assert known == list(range(3, KEPT + 3))


async def test_a_source_in_use_stays_and_an_old_one_is_forgotten(
    database: Database, user_id: str
) -> None:
    await note(database, user_id, "home", NOW)
    await note(database, user_id, "home", NOW + timedelta(hours=1))  # too soon to be written
    late = NOW + FORGOTTEN
    assert not await is_known(database, EMAIL, "home", late)
    await note(database, user_id, "home", late)
    assert await is_known(database, EMAIL, "home", late)


async def test_no_address_is_stored(database: Database, user_id: str) -> None:
    await note(database, user_id, "192.0.2.1", NOW)
    async with database.session() as session:
        rows = (await session.execute(text("SELECT * FROM login_sources"))).all()
    assert rows
    assert "192.0.2" not in repr(rows)


async def test_logins_at_once_and_of_a_user_who_goes(database: Database, user_id: str) -> None:
    await asyncio.gather(*(note(database, user_id, "home", NOW) for _ in range(5)))
    assert await is_known(database, EMAIL, "home", NOW)
    await users.delete_user(database, user_id)
    await note(database, user_id, "home", NOW)
    assert not await is_known(database, EMAIL, "home", NOW)
