"""Refresh tokens on both databases: one use each, one family each, no winner of a race."""

import asyncio
import datetime

import pytest
from sqlalchemy import text

from mk8s_proxy.db import users
from mk8s_proxy.db.engine import Database
from mk8s_proxy.identity import refresh
from mk8s_proxy.identity.refresh import RefreshRefused

NOW = datetime.datetime(2027, 1, 15, tzinfo=datetime.UTC)


async def issued(database: Database) -> refresh.RefreshToken:
    user = await users.create_user(database, "dev@example.com", "Dev", None)
    return await refresh.issue(database, user.id, lifetime=3600, now=NOW)


async def reason(database: Database, token: str, now: datetime.datetime = NOW) -> str:
    with pytest.raises(RefreshRefused) as caught:
        await refresh.rotate(database, token, now=now)
    assert str(caught.value) == "the login has ended: run mk8s login"
    return caught.value.reason


async def test_a_token_becomes_the_next_one(database: Database) -> None:
    first = await issued(database)
    second = await refresh.rotate(database, first.token, now=NOW)
    assert second.token != first.token
    assert (second.family_id, second.user_id) == (first.family_id, first.user_id)
    assert second.expires_at == first.expires_at, "a login is not prolonged by using it"


async def test_reuse_of_a_token_ends_its_family(database: Database) -> None:
    first = await issued(database)
    second = await refresh.rotate(database, first.token, now=NOW)
    assert await reason(database, first.token) == "REFRESH_REUSED"
    assert await reason(database, second.token) == "REFRESH_REUSED"


async def test_race_of_a_thief_and_an_owner(database: Database) -> None:
    first = await issued(database)
    results = await asyncio.gather(
        *(refresh.rotate(database, first.token, now=NOW) for _ in range(4)),
        return_exceptions=True,
    )
    won = [result for result in results if isinstance(result, refresh.RefreshToken)]
    assert len(won) <= 1
    lost = [result for result in results if isinstance(result, RefreshRefused)]
    assert len(won) + len(lost) == 4
    for token in won:
        assert await reason(database, token.token) == "REFRESH_REUSED"


async def test_a_token_expires(database: Database) -> None:
    first = await issued(database)
    late = NOW + datetime.timedelta(seconds=3600)
    assert await reason(database, first.token, late) == "REFRESH_EXPIRED"


async def test_logout_ends_the_family(database: Database) -> None:
    first = await issued(database)
    second = await refresh.rotate(database, first.token, now=NOW)
    assert await refresh.end(database, first.token, now=NOW) == (first.family_id, first.user_id)
    assert await reason(database, second.token) == "REFRESH_REUSED"


@pytest.mark.parametrize("token", ["", "x", "mk8s_rt_" + "A" * 43, "mk8s_rt_" + "A" * 42 + "\n"])
async def test_tokens_never_issued(sqlite_database: Database, token: str) -> None:
    assert await reason(sqlite_database, token) == "REFRESH_UNKNOWN"
    with pytest.raises(RefreshRefused):
        await refresh.end(sqlite_database, token, now=NOW)


async def test_the_owner_is_known_without_using_the_token_up(sqlite_database: Database) -> None:
    first = await issued(sqlite_database)
    assert await refresh.owner(sqlite_database, first.token) == first.user_id
    assert await refresh.rotate(sqlite_database, first.token, now=NOW)


async def test_a_stolen_database_has_no_tokens(sqlite_database: Database) -> None:
    first = await issued(sqlite_database)
    async with sqlite_database.session() as session:
        rows = (await session.execute(text("SELECT * FROM refresh_tokens"))).all()
    assert len(rows) == 1
    assert first.token not in str(rows)
    assert first.token.removeprefix(refresh.PREFIX) not in str(rows)


async def test_repr_shows_no_token(sqlite_database: Database) -> None:
    first = await issued(sqlite_database)
    assert first.token not in repr(first)
