"""Credentials that work once, raced on both databases."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from mk8s_proxy.db import clusters, logins, tokens, users
from mk8s_proxy.db.engine import Database
from mk8s_proxy.db.errors import Expired, JoinTokenExpired, JoinTokenUsed, NotFound, RefreshReused
from mk8s_proxy.db.logins import NewLogin
from mk8s_proxy.db.models import RefreshToken

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(minutes=15)


@pytest.fixture
async def cluster_id(database: Database) -> str:
    return (await clusters.create_cluster(database, "prod")).id


@pytest.fixture
async def user_id(database: Database) -> str:
    return (await users.create_user(database, "dev@example.com", "Dev", None)).id


async def join_token(database: Database, cluster_id: str, token_hash: str = "j1") -> None:
    await tokens.store_join_token(database, cluster_id, token_hash, "root@example.com", LATER)


async def refresh_token(database: Database, user_id: str, token_hash: str = "r1") -> None:
    await tokens.open_login(database, NewLogin("login-1", user_id, LATER), token_hash, NOW)


async def use(database: Database, token_hash: str, successor: str) -> tokens.RefreshRecord:
    """Use a token up, and let `successor` follow it."""
    return await tokens.use_refresh(database, token_hash, NOW, lambda _: successor)


async def test_join_token_names_its_cluster(database: Database, cluster_id: str) -> None:
    await join_token(database, cluster_id)

    joined = await tokens.use_join_token(database, "j1", NOW)

    assert (joined.cluster_id, joined.cluster_name) == (cluster_id, "prod")
    assert joined.created_by == "root@example.com"


async def test_join_token_replay_is_refused(database: Database, cluster_id: str) -> None:
    await join_token(database, cluster_id)
    await tokens.use_join_token(database, "j1", NOW)

    with pytest.raises(JoinTokenUsed, match="used already") as refusal:
        await tokens.use_join_token(database, "j1", NOW)
    assert refusal.value.cluster_id == cluster_id


async def test_two_racing_joins_exactly_one_wins(database: Database, cluster_id: str) -> None:
    for number in range(5):
        token_hash = f"race-{number}"
        await join_token(database, cluster_id, token_hash)

        results = await asyncio.gather(
            *(tokens.use_join_token(database, token_hash, NOW) for _ in range(4)),
            return_exceptions=True,
        )

        won = [result for result in results if isinstance(result, tokens.JoinRecord)]
        lost = [result for result in results if isinstance(result, JoinTokenUsed)]
        assert (len(won), len(lost)) == (1, 3), results


async def test_expired_join_token_is_refused(database: Database, cluster_id: str) -> None:
    await join_token(database, cluster_id)

    with pytest.raises(JoinTokenExpired, match="expired"):
        await tokens.use_join_token(database, "j1", LATER)


async def test_unknown_join_token_is_refused(database: Database) -> None:
    with pytest.raises(NotFound, match="join token"):
        await tokens.use_join_token(database, "guess", NOW)


async def test_join_token_of_a_removed_cluster_is_refused(
    database: Database, cluster_id: str
) -> None:
    await join_token(database, cluster_id)
    await clusters.delete_cluster(database, cluster_id)

    with pytest.raises(NotFound):
        await tokens.use_join_token(database, "j1", NOW)
    with pytest.raises(NotFound, match="cluster"):
        await join_token(database, cluster_id, "j2")


async def test_refresh_token_works_once(database: Database, user_id: str) -> None:
    await refresh_token(database, user_id)

    used = await tokens.use_refresh(database, "r1", NOW)

    assert (used.login_id, used.user_id, used.expires_at) == ("login-1", user_id, LATER)


async def test_stolen_refresh_token_ends_the_whole_login(database: Database, user_id: str) -> None:
    await refresh_token(database, user_id, "r1")
    await use(database, "r1", "r2")

    with pytest.raises(RefreshReused) as refusal:
        await tokens.use_refresh(database, "r1", NOW)

    assert (refusal.value.login_id, refusal.value.user_id) == ("login-1", user_id)
    with pytest.raises(RefreshReused):
        await tokens.use_refresh(database, "r2", NOW)


async def test_two_racing_refreshes_one_wins_and_the_login_ends(
    database: Database, user_id: str
) -> None:
    await refresh_token(database, user_id, "r1")

    results = await asyncio.gather(
        *(use(database, "r1", f"next-{number}") for number in range(2)), return_exceptions=True
    )

    won = [result for result in results if isinstance(result, tokens.RefreshRecord)]
    lost = [result for result in results if isinstance(result, RefreshReused)]
    assert (len(won), len(lost)) == (1, 1), results
    for number in range(2):  # one of them was never stored
        with pytest.raises((RefreshReused, NotFound)):
            await tokens.use_refresh(database, f"next-{number}", NOW)


async def test_expired_refresh_token_is_refused_without_revoking(
    database: Database, user_id: str
) -> None:
    await refresh_token(database, user_id)

    with pytest.raises(Expired, match="log in again"):
        await tokens.use_refresh(database, "r1", LATER)

    assert (await tokens.use_refresh(database, "r1", NOW)).user_id == user_id


async def test_unknown_refresh_token_is_refused(database: Database) -> None:
    with pytest.raises(NotFound):
        await tokens.use_refresh(database, "guess", NOW)
    with pytest.raises(NotFound):
        await tokens.login_of(database, "guess")


async def test_logout_ends_the_login(database: Database, user_id: str) -> None:
    await refresh_token(database, user_id)
    login = await tokens.login_of(database, "r1")

    await logins.end_login(database, login.id, logins.LOGOUT, NOW)

    assert login.subject == user_id
    with pytest.raises(RefreshReused):
        await tokens.use_refresh(database, "r1", NOW)


async def test_times_must_have_a_zone(database: Database, cluster_id: str) -> None:
    naive = NOW.replace(tzinfo=None)

    with pytest.raises(Exception, match="aware times only"):
        await tokens.store_join_token(database, cluster_id, "j1", "root@example.com", naive)


async def until_blocked(database: Database, waiting: asyncio.Task[object]) -> None:
    """Return when PostgreSQL says that a statement waits for a lock; fail if it need not wait."""
    blocked = text(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    while True:
        async with database.session() as session:
            if await session.scalar(blocked):
                return
        assert not waiting.done(), "it passed the other transaction unseen"


only_postgresql = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
"""SQLite has one writer at a time; only PostgreSQL lets two meet."""


@pytest.fixture
async def raced_login(database: Database, user_id: str) -> str:
    """A login whose first token was used."""
    await refresh_token(database, user_id, "first")
    await use(database, "first", "second")
    return "login-1"


@only_postgresql
async def test_use_of_a_token_waits_for_an_end_under_way(
    database: Database, raced_login: str
) -> None:
    async with database.transaction() as thief:
        await logins.lock_login(thief, raced_login)
        winner = asyncio.create_task(use(database, "second", "third"))
        await until_blocked(database, winner)
        await logins.end_within(thief, [raced_login], logins.REUSED, NOW)

    with pytest.raises(RefreshReused):
        await winner
    with pytest.raises(NotFound):
        await tokens.use_refresh(database, "third", NOW)


@only_postgresql
async def test_end_waits_for_a_use_under_way(database: Database, raced_login: str) -> None:
    async with database.transaction() as winner:
        await logins.lock_login(winner, raced_login)
        thief = asyncio.create_task(tokens.use_refresh(database, "first", NOW))
        await until_blocked(database, thief)
        winner.add(RefreshToken(login_id=raced_login, token_hash="third"))

    with pytest.raises(RefreshReused):
        await thief
    with pytest.raises(RefreshReused):
        await tokens.use_refresh(database, "third", NOW)


@only_postgresql
async def test_login_that_is_forgotten_meanwhile_is_unknown(
    database: Database, raced_login: str
) -> None:
    async with database.transaction() as session:
        login = await logins.lock_login(session, raced_login)
        late = asyncio.create_task(use(database, "second", "third"))
        await until_blocked(database, late)
        await session.delete(login)

    with pytest.raises(NotFound):
        await late
