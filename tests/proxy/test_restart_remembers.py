"""What central must not forget when it is killed: who is out, while their tokens would be good."""

import asyncio
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mk8s_proxy.db import users
from mk8s_proxy.db.logins import NewLogin
from mk8s_proxy.identity import refresh
from mk8s_proxy.identity.identity import Login
from tests.support.out_again import BY_SERVICE_TOKEN, House, Victim, ways_out
from tests.support.postgres import PostgresServer

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="it kills workers by their pids"),
    pytest.mark.timeout(300),
]

OUT_OF_CENTRAL = (
    "logout", "disabled", "removed", "password", "lock user", "lock group", "lock login",
    *BY_SERVICE_TOKEN,
)  # fmt: skip
"""Ways out of central itself; those of roles and clusters are out of what is behind it."""
ASKED = 8
"""Times, so that each worker is likely to answer."""


@pytest.fixture(params=["sqlite", "postgresql"])
def house(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[House]:
    url = ""
    if request.param == "postgresql":
        server: PostgresServer = request.getfixturevalue("postgres_server")
        url = server.url(server.create())
    house = House(tmp_path, url)
    try:
        house.build(len(OUT_OF_CENTRAL) + 2, cluster=False)
        yield house
    finally:
        house.close()


async def answers(house: House, token: str) -> set[int]:
    asked = [house.ask("GET", "/auth/whoami", token=token, at=turn) for turn in range(ASKED)]
    return {status for status, _ in await asyncio.gather(*asked)}


async def child_of(house: House, parent: Victim) -> str:
    """An access token of what a login delegated."""
    now = datetime.now(UTC)
    ends = now + timedelta(hours=1)
    async with house.database() as database:
        user = await users.get_by_email(database, parent.email)
        new = NewLogin("child", user.id, ends, "delegation", parent=parent.login)
        await refresh.open_login(database, new, now=now)
    return house.mint(user, Login("child", ends.timestamp()))


async def until(house: House, token: str, expected: set[int]) -> None:
    async with asyncio.timeout(30):
        while not await answers(house, token) <= expected:  # noqa: ASYNC110  a poll of processes
            await asyncio.sleep(0.1)


async def test_attack_central_is_killed_so_that_it_forgets_who_is_out(house: House) -> None:
    await house.enter()
    try:
        *those, parent, innocent = await house.victims(len(OUT_OF_CENTRAL) + 2)
        tokens = {
            name: victim.service_token if name in BY_SERVICE_TOKEN else victim.token
            for name, victim in zip(OUT_OF_CENTRAL, those, strict=True)
        }
        child = tokens["child of a logout"] = await child_of(house, parent)
        ways = ways_out(house)
        for token in (*tokens.values(), innocent.token):
            await until(house, token, {200})
        for name, victim in zip(OUT_OF_CENTRAL, those, strict=True):
            await ways[name](victim)
        await ways["logout"](parent)
        for token in tokens.values():
            await until(house, token, {401, 403})
        house.kill_and_start_again()
        for name, token in tokens.items():
            assert await answers(house, token) <= {401, 403}, name
        assert await answers(house, child) == {401}
        assert await answers(house, innocent.token) == {200}
    finally:
        await house.leave()
