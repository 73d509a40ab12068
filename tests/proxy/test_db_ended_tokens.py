"""What a logout leaves in the database, for replicas and restarts, on both databases."""

import asyncio
from datetime import UTC, datetime, timedelta

from mk8s_proxy.db import ended_tokens, logins, tokens, users
from mk8s_proxy.db.ended_tokens import LONGEST_ACCESS, end_token, ended_since
from mk8s_proxy.db.engine import Database
from mk8s_proxy.db.logins import NewLogin
from mk8s_proxy.settings.model import TokenSettings

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(minutes=15)


async def test_readers_see_each_ended_token_once(database: Database) -> None:
    await end_token(database, "t1", LATER, NOW)
    [first] = await ended_since(database, 0)
    assert (first.id, first.expires_at) == ("t1", LATER)
    await end_token(database, "t1", LATER, NOW)
    await end_token(database, "t2", LATER, NOW)
    assert [it.id for it in await ended_since(database, first.number)] == ["t2"]


async def test_a_longer_end_is_told_again(database: Database) -> None:
    await end_token(database, "t1", LATER, NOW)
    [first] = await ended_since(database, 0)
    await end_token(database, "t1", LATER + timedelta(minutes=1), NOW)
    [again] = await ended_since(database, first.number)
    assert again.expires_at == LATER + timedelta(minutes=1)


async def test_no_number_appears_after_a_higher_one_was_read(database: Database) -> None:
    seen: set[str] = set()
    last = 0

    async def read() -> None:
        nonlocal last
        for one in await ended_since(database, last):
            seen.add(one.id)
            last = one.number

    ends = [asyncio.create_task(end_token(database, f"t{n}", LATER, NOW)) for n in range(20)]
    while not all(end.done() for end in ends):
        await read()
    await asyncio.gather(*ends)
    await read()
    assert seen == {f"t{n}" for n in range(20)}


async def test_what_has_expired_long_ago_is_pruned_and_nothing_before(database: Database) -> None:
    await end_token(database, "t1", LATER, NOW)
    await end_token(database, "t2", LATER, LATER)
    assert [it.id for it in await ended_since(database, 0)] == ["t1", "t2"]
    await end_token(database, "t3", LATER + LONGEST_ACCESS, LATER + timedelta(minutes=6))
    assert [it.id for it in await ended_since(database, 0)] == ["t3"]


async def test_an_ended_login_is_noted_for_as_long_as_any_token_could_live(
    database: Database,
) -> None:
    user = await users.create_user(database, "dev@example.com", "", None)
    await tokens.open_login(database, NewLogin("login-1", user.id, LATER), "r1", NOW)
    await logins.end_login(database, "login-1", "logout", NOW)
    [ended] = await ended_since(database, 0)
    assert (ended.id, ended.expires_at) == ("login-1", NOW + LONGEST_ACCESS)


async def end_all(database: Database, subject: str) -> list[str]:
    async with database.transaction() as session:
        return await logins.end_all_within(session, subject, "x", NOW, but="c")


async def test_several_logins_that_end_at_once_have_numbers_of_their_own(
    database: Database,
) -> None:
    for name in ("a", "b", "c", "d"):
        await tokens.open_login(database, NewLogin(name, "somebody", LATER), name, NOW)
    assert sorted(await end_all(database, "somebody")) == ["a", "b", "d"]
    ended = await ended_since(database, 0)
    assert sorted(it.id for it in ended) == ["a", "b", "d"]
    assert [it.number for it in ended] == [1, 2, 3]
    await end_token(database, "t1", LATER, NOW)
    assert [it.id for it in await ended_since(database, 3)] == ["t1"]
    assert await end_all(database, "nobody") == []


def test_no_setting_lets_a_token_live_longer_than_its_end_is_remembered() -> None:
    field = TokenSettings.__dataclass_fields__["access_seconds"]
    assert field.metadata["most"] == ended_tokens.LONGEST_ACCESS.total_seconds()
