"""Whoever may not go on is out of every open stream, at both processes of one central.

How fast is measured by `tests.bench.bench_out_again`; here it is only within ten seconds, however
busy the machine is. Real processes: workers on SQLite, replicas on PostgreSQL.
"""

import asyncio
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mk8s_proxy.db import logins
from tests.support.out_again import BY_SERVICE_TOKEN, STREAMS, House, Stream, Victim, ways_out
from tests.support.postgres import PostgresServer

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="it asks /proc which worker has a socket"),
    pytest.mark.timeout(400),
]

MOST_SECONDS = 10.0
PEOPLE = 16


@pytest.fixture(params=["sqlite", "postgresql"])
def house(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[House]:
    url = ""
    if request.param == "postgresql":
        server: PostgresServer = request.getfixturevalue("postgres_server")
        url = server.url(server.create())
    house = House(tmp_path, url)
    try:
        house.build(PEOPLE)
        yield house
    finally:
        house.close()


async def all_end(name: str, streams: list[Stream]) -> None:
    done, still = await asyncio.wait([it.ended for it in streams], timeout=MOST_SECONDS)
    left = [(it.kind, it.process) for it in streams if it.ended in still]
    assert not left, f"{name}: still open after {MOST_SECONDS} s"
    assert len(done) == 2 * len(STREAMS)


async def go_on(streams: list[Stream]) -> None:
    for stream in streams:
        assert not stream.ended.done(), (stream.kind, stream.process)


async def test_everything_that_is_open_ends_at_both_processes(house: House) -> None:
    await house.enter()
    try:
        ways = ways_out(house)
        *those, expiring, bystander = await house.victims(len(ways) + 2)
        bystanders = await house.open_all(bystander.token)
        opened: dict[str, tuple[Victim, list[Stream]]] = {}
        for name, victim in zip(ways, those, strict=True):
            token = victim.service_token if name in BY_SERVICE_TOKEN else victim.token
            opened[name] = victim, await house.open_all(token)
        for name, (victim, streams) in opened.items():
            await go_on(streams)
            await ways[name](victim)
            await all_end(name, streams)
        await go_on(bystanders)
        await an_expiry(house, expiring)
        await go_on(bystanders)
        lock = {"kind": "cluster", "target": "bench", "reason": "a test"}
        await house.do("POST", "/locks", lock)
        await all_end("lock cluster", bystanders)
    finally:
        await house.leave()


async def an_expiry(house: House, victim: Victim) -> None:
    """Its streams end with the login, which was over before anybody said so."""
    seconds = 12.0  # to open what shall end
    ends = datetime.now(UTC) + timedelta(seconds=seconds)
    async with house.database() as database:
        again = await house.victim(database, victim.number, ends)
    streams = await house.open_all(again.token)
    await asyncio.sleep(max(0.0, ends.timestamp() - time.time()))
    await all_end("expiry", streams)


async def test_a_login_that_ends_behind_both_backs(house: House) -> None:
    """As by a third replica, or by a worker that died before it told anybody."""
    await house.enter()
    try:
        [victim] = await house.victims(1)
        streams = await house.open_all(victim.token)
        async with house.database() as database:
            await logins.end_login(database, victim.login, logins.LOGOUT, datetime.now(UTC))
        await all_end("logout", streams)
    finally:
        await house.leave()
