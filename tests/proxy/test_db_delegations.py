"""Delegations in both databases: none outlives the login that it is of, whoever is faster."""

import asyncio
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest

from mk8s_proxy.db import logins, users
from mk8s_proxy.db.engine import Database
from mk8s_proxy.db.errors import Expired
from mk8s_proxy.identity import refresh
from mk8s_proxy.identity.refresh import RefreshRefused, RefreshToken

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)


@pytest.fixture
async def owner(database: Database) -> RefreshToken:
    user = await users.create_user(database, "dev@example.com", "Dev", None, [])
    return await refresh.issue(database, user.id, lifetime=3600, now=NOW)


async def delegate(database: Database, owner: RefreshToken, number: int = 0) -> RefreshToken:
    new = logins.NewLogin(
        f"child-{number}", owner.user_id, LATER, logins.DELEGATION,
        narrowing="{}", parent=owner.login_id,
    )  # fmt: skip
    return await refresh.open_delegation(database, new, now=NOW)


async def is_open(database: Database, token: RefreshToken) -> bool:
    return (await logins.get_login(database, token.login_id)).ended_at is None


async def test_a_login_that_has_ended_delegates_nothing(
    database: Database, owner: RefreshToken
) -> None:
    await logins.end_login(database, owner.login_id, logins.LOGOUT, NOW)
    with pytest.raises(Expired):
        await delegate(database, owner)


async def test_a_login_that_is_over_delegates_nothing(
    database: Database, owner: RefreshToken
) -> None:
    new = logins.NewLogin("child", owner.user_id, LATER, logins.DELEGATION, parent=owner.login_id)
    with pytest.raises(Expired):
        await refresh.open_delegation(database, new, now=owner.expires_at)


async def test_an_end_tells_what_has_ended_with_it(database: Database, owner: RefreshToken) -> None:
    child = await delegate(database, owner)
    ended = await logins.end_login(database, owner.login_id, logins.LOGOUT, NOW)
    assert set(ended) == {owner.login_id, child.login_id}
    found = await logins.get_login(database, child.login_id)
    assert found.ended_why == logins.PARENT_ENDED


async def test_attack_a_delegation_is_opened_while_its_owner_logs_out(
    database: Database, owner: RefreshToken
) -> None:
    async def opened(number: int) -> RefreshToken | None:
        with suppress(Expired):
            return await delegate(database, owner, number)
        return None

    ending = asyncio.ensure_future(logins.end_login(database, owner.login_id, logins.LOGOUT, NOW))
    found = await asyncio.gather(*(opened(number) for number in range(6)))
    await ending
    children = [it for it in found if it is not None]
    assert not any([await is_open(database, child) for child in children])


async def test_attack_a_delegation_is_renewed_while_its_owner_logs_out(
    database: Database, owner: RefreshToken
) -> None:
    """Neither waits for the other for ever, and nothing is open at the end."""
    children = [await delegate(database, owner, number) for number in range(6)]

    async def renewed(token: RefreshToken) -> None:
        with suppress(RefreshRefused):
            await refresh.rotate(database, token.token, now=NOW)

    ending = logins.end_login(database, owner.login_id, logins.LOGOUT, NOW)
    async with asyncio.timeout(30):
        await asyncio.gather(*map(renewed, children), ending)
    assert not any([await is_open(database, child) for child in children])
