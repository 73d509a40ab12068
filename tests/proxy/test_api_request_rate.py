"""Floods of the management API: one person, or one address, takes nothing from the others."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mk8s_proxy.db.engine import Database
from mk8s_proxy.identity.request_rate import RequestRate
from mk8s_proxy.settings.model import LimitSettings
from tests.support.management_api import Central

LEAST = 60


@pytest.fixture
async def central(sqlite_database: Database, tmp_path: Path) -> AsyncIterator[Central]:
    limits = LimitSettings(api_per_identity=LEAST, api_per_address=2 * LEAST)
    central = await Central.start(sqlite_database, tmp_path, limits=limits)
    yield central
    await central.close()


async def flood(central: Central, count: int, token: str | None, source: str) -> list[int]:
    return [
        (await central.call("GET", "/auth/whoami", token=token, source=source)).status
        for _ in range(count)
    ]


async def test_attack_a_person_floods_the_api_from_many_addresses(central: Central) -> None:
    dev, admin = await central.token(), await central.admin()
    for number in range(LEAST):
        [status] = await flood(central, 1, dev, f"198.51.100.{number}")
        assert status == 200
    answer = await central.call("GET", "/auth/whoami", token=dev, source="203.0.113.1")
    assert (answer.status, answer.headers["Retry-After"]) == (429, "1")
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.message == "too many requests from you: try again in 1 s"
    assert await flood(central, 1, admin, "203.0.113.1") == [200]
    central.ticks += 1
    assert await flood(central, 2, dev, "203.0.113.1") == [200, 429]


async def test_attack_an_address_floods_the_api_without_a_login(central: Central) -> None:
    dev = await central.token()
    statuses = await flood(central, 2 * LEAST + 3, None, "203.0.113.9")
    assert statuses == [401] * 2 * LEAST + [429] * 3
    answer = await central.call("GET", "/nope", source="203.0.113.9")
    assert answer.message == "too many requests from this address: try again in 1 s"
    assert await flood(central, 1, dev, "203.0.113.10") == [200]


async def test_attack_an_address_changes_within_its_ipv6_network(central: Central) -> None:
    for number in range(2 * LEAST):
        await flood(central, 1, None, f"2001:db8::{number:x}")
    assert await flood(central, 1, None, "2001:db8::ffff") == [429]
    assert await flood(central, 1, None, "2001:db8:0:1::1") == [401]


async def test_attack_a_refused_flood_writes_no_row(central: Central) -> None:
    """What an address is refused costs no disk; what a person is refused is told in the audit."""
    await flood(central, 2 * LEAST, None, "203.0.113.9")
    before = len(central.rows())
    body = {"email": "dev@example.com", "password": "x"}
    answer = await central.call("POST", "/auth/login", body, source="203.0.113.9")
    assert (answer.status, len(central.rows())) == (429, before)


def test_a_bucket_empties_at_once_and_fills_evenly() -> None:
    now = [100.0]
    rate = RequestRate(120, lambda: now[0])
    assert [rate.take("a") for _ in range(122)] == [0] * 120 + [1] * 2
    assert rate.take("b") == 0
    now[0] += 0.5
    assert [rate.take("a") for _ in range(2)] == [0, 1]
    now[0] += 3600
    assert sum(rate.take("a") == 0 for _ in range(130)) == 120


def test_attack_many_senders_take_no_more_memory() -> None:
    rate = RequestRate(60, lambda: 0.0)
    for number in range(25_000):
        rate.take(str(number))
    assert len(rate._full_at) <= 20_000
