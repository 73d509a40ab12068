"""Refresh tokens on both databases: one use each, one login each, no winner of a race."""

import asyncio
import datetime

import pytest
from sqlalchemy import text

from mk8s_proxy.db import logins, users
from mk8s_proxy.db.engine import Database
from mk8s_proxy.db.errors import NotFound
from mk8s_proxy.identity import refresh
from mk8s_proxy.identity.refresh import RefreshRefused

NOW = datetime.datetime(2027, 1, 15, tzinfo=datetime.UTC)


async def issued(database: Database) -> refresh.RefreshToken:
    user = await users.create_user(database, "dev@example.com", "Dev", None)
    return await refresh.issue(database, user.id, lifetime=3600, now=NOW)


async def reason(database: Database, token: str, now: datetime.datetime = NOW) -> str:
    with pytest.raises(RefreshRefused) as caught:
        await refresh.rotate(database, token, now=now)
    assert str(caught.value).endswith(": run mk8s login")
    return caught.value.reason


async def test_a_token_becomes_the_next_one(database: Database) -> None:
    first = await issued(database)
    second = await refresh.rotate(database, first.token, now=NOW)
    assert second.token != first.token
    assert (second.login_id, second.user_id) == (first.login_id, first.user_id)
    assert second.expires_at == first.expires_at, "a login is not prolonged by using it"


async def test_reuse_of_a_token_ends_its_login(database: Database) -> None:
    first = await issued(database)
    second = await refresh.rotate(database, first.token, now=NOW)
    assert await reason(database, first.token) == "REFRESH_REUSED"
    assert await reason(database, second.token) == "REFRESH_REUSED"


ATTEMPT, OTHER_ATTEMPT = "a" * 43, "b" * 43


async def test_a_lost_answer_is_given_again_for_the_same_attempt(database: Database) -> None:
    first = await issued(database)
    lost = await refresh.rotate(database, first.token, now=NOW, attempt=ATTEMPT)
    again = await refresh.rotate(database, first.token, now=NOW, attempt=ATTEMPT)
    assert again == lost
    following = await refresh.rotate(database, again.token, now=NOW, attempt=OTHER_ATTEMPT)
    assert following.token not in {first.token, again.token}


async def test_repeats_that_meet_get_the_same_token(database: Database) -> None:
    first = await issued(database)
    results = await asyncio.gather(
        *(refresh.rotate(database, first.token, now=NOW, attempt=ATTEMPT) for _ in range(4))
    )
    assert len({result.token for result in results}) == 1


@pytest.mark.parametrize("attempt", ["", OTHER_ATTEMPT])
async def test_attack_a_stolen_token_without_its_attempt_ends_the_login(
    database: Database, attempt: str
) -> None:
    first = await issued(database)
    second = await refresh.rotate(database, first.token, now=NOW, attempt=ATTEMPT)
    with pytest.raises(RefreshRefused, match="used from two places") as caught:
        await refresh.rotate(database, first.token, now=NOW, attempt=attempt)
    assert (caught.value.reason, caught.value.login) == ("REFRESH_REUSED", first.login_id)
    with pytest.raises(RefreshRefused, match="used from two places"):
        await refresh.rotate(database, second.token, now=NOW, attempt=OTHER_ATTEMPT)


async def test_attack_a_used_token_comes_after_its_successor_was_used(database: Database) -> None:
    first = await issued(database)
    second = await refresh.rotate(database, first.token, now=NOW, attempt=ATTEMPT)
    third = await refresh.rotate(database, second.token, now=NOW, attempt=ATTEMPT)
    with pytest.raises(RefreshRefused, match="used from two places"):
        await refresh.rotate(database, first.token, now=NOW, attempt=ATTEMPT)
    assert await reason(database, third.token) == "REFRESH_REUSED"


async def test_attack_a_whole_stored_login_is_copied(database: Database) -> None:
    """Both repeat the first use; at the next one each has an attempt of its own."""
    first = await issued(database)
    shared = await refresh.rotate(database, first.token, now=NOW, attempt=ATTEMPT)
    assert await refresh.rotate(database, first.token, now=NOW, attempt=ATTEMPT) == shared
    await refresh.rotate(database, shared.token, now=NOW, attempt="c" * 43)
    with pytest.raises(RefreshRefused, match="used from two places"):
        await refresh.rotate(database, shared.token, now=NOW, attempt="d" * 43)


async def test_attack_a_token_cannot_be_worked_out_of_the_one_before(
    sqlite_database: Database,
) -> None:
    first = await issued(sqlite_database)
    successor = refresh._Successor(first.token, ATTEMPT)
    successor.name("00000000-0000-0000-0000-000000000000")
    real = await refresh.rotate(sqlite_database, first.token, now=NOW, attempt=ATTEMPT)
    assert successor.token != real.token


async def test_a_login_that_was_ended_is_not_brought_back_by_a_repeat(database: Database) -> None:
    first = await issued(database)
    await refresh.rotate(database, first.token, now=NOW, attempt=ATTEMPT)
    await refresh.end(database, first.token, now=NOW)
    with pytest.raises(RefreshRefused, match="by a logout"):
        await refresh.rotate(database, first.token, now=NOW, attempt=ATTEMPT)


async def test_a_repeat_expires_with_the_login(sqlite_database: Database) -> None:
    first = await issued(sqlite_database)
    await refresh.rotate(sqlite_database, first.token, now=NOW, attempt=ATTEMPT)
    late = NOW + datetime.timedelta(seconds=3600)
    with pytest.raises(RefreshRefused):
        await refresh.rotate(sqlite_database, first.token, now=late, attempt=ATTEMPT)


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


async def test_logout_ends_the_login(database: Database) -> None:
    first = await issued(database)
    second = await refresh.rotate(database, first.token, now=NOW)
    assert await refresh.end(database, first.token, now=NOW) == ([first.login_id], first.user_id)
    with pytest.raises(RefreshRefused, match="ended by a logout") as caught:
        await refresh.rotate(database, second.token, now=NOW)
    assert caught.value.reason == "REFRESH_REUSED"


async def test_the_login_says_where_it_stands(database: Database) -> None:
    user = await users.create_user(database, "dev@example.com", "Dev", None)
    first = await refresh.issue(database, user.id, lifetime=3600, now=NOW, client="mk8s/1.0")
    later = NOW + datetime.timedelta(seconds=60)
    await refresh.rotate(database, first.token, now=later)
    login = await logins.get_login(database, first.login_id)
    assert (login.subject, login.source, login.client) == (user.id, "password", "mk8s/1.0")
    assert (login.opened_at, login.last_seen) == (NOW, later)
    assert (login.ends_at, login.ended_at, login.ended_why) == (first.expires_at, None, "")
    await refresh.end(database, first.token, now=later)
    login = await logins.get_login(database, first.login_id)
    assert (login.ended_at, login.ended_why) == (later, "logout")
    with pytest.raises(NotFound):
        await logins.get_login(database, "unknown")


async def test_logins_are_forgotten_some_days_after_their_end(sqlite_database: Database) -> None:
    first = await issued(sqlite_database)
    for days, kept in ((6, True), (8, False)):
        late = NOW + datetime.timedelta(days=days)
        await refresh.issue(sqlite_database, first.user_id, lifetime=60, now=late)
        assert await reason(sqlite_database, first.token, late) == (
            "REFRESH_EXPIRED" if kept else "REFRESH_UNKNOWN"
        )


@pytest.mark.parametrize("token", ["", "x", "mk8s_rt_" + "A" * 43, "mk8s_rt_" + "A" * 42 + "\n"])
async def test_tokens_never_issued(sqlite_database: Database, token: str) -> None:
    assert await reason(sqlite_database, token) == "REFRESH_UNKNOWN"
    with pytest.raises(RefreshRefused):
        await refresh.end(sqlite_database, token, now=NOW)


async def test_the_login_is_known_without_using_the_token_up(sqlite_database: Database) -> None:
    first = await issued(sqlite_database)
    login = await refresh.login_of(sqlite_database, first.token)
    assert (login.id, login.subject) == (first.login_id, first.user_id)
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
