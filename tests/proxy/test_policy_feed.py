"""The policy feed: fresh as the database, and shut when it cannot be."""

import asyncio
import logging

import pytest
from sqlalchemy import text

from mk8s_proxy.authz.attributes import Attributes
from mk8s_proxy.authz.policy import PolicyError, parse_role
from mk8s_proxy.db import clusters, roles, users
from mk8s_proxy.db.engine import Database
from mk8s_proxy.process.policy_feed import LARGE_POLICY_RULES, PolicyFeed, PolicyNotLoaded
from mk8s_proxy.settings.model import PolicySettings

RULES = [{"name": "prod", "namespaces": ["*"], "verbs": ["get"], "resources": ["pods"]}]
GET_POD = Attributes(
    verb="get",
    api_group="",
    resource="pods",
    subresource="",
    namespace="shop",
    name="web",
    path="/api/v1/namespaces/shop/pods/web",
    is_resource_request=True,
)
USER = "dev@example.com"


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def feed(sqlite_database: Database, clock: Clock) -> PolicyFeed:
    feed = PolicyFeed(sqlite_database, PolicySettings(lease_seconds=60), clock=clock)
    await feed.start()
    return feed


def allowed(feed: PolicyFeed) -> bool:
    return feed.current.decide(USER, (), "prod", GET_POD).allowed


async def grant(database: Database) -> users.UserRecord:
    await roles.put_role(database, "viewer", RULES)
    await clusters.create_cluster(database, "prod")
    return await users.create_user(database, USER, "Dev", None, ["viewer"])


async def test_nothing_is_decided_before_the_first_load(sqlite_database: Database) -> None:
    feed = PolicyFeed(sqlite_database, PolicySettings())

    assert not feed.fresh(0.0)
    with pytest.raises(PolicyNotLoaded):
        _ = feed.current
    with pytest.raises(PolicyNotLoaded):
        _ = feed.rows


async def test_a_change_is_in_force_after_refresh(
    feed: PolicyFeed, sqlite_database: Database
) -> None:
    assert not allowed(feed)

    user = await grant(sqlite_database)
    await feed.refresh()

    assert allowed(feed)
    assert feed.rows.epochs == {user.id: 0}
    assert list(feed.rows.cluster_names.values()) == ["prod"]
    assert f"version={feed.current.version}" in repr(feed)


async def test_disabled_user_is_gone_after_refresh(
    feed: PolicyFeed, sqlite_database: Database
) -> None:
    user = await grant(sqlite_database)
    await users.set_disabled(sqlite_database, user.id, True)
    await feed.refresh()

    assert not allowed(feed)
    assert feed.rows.epochs == {}


async def test_an_unchanged_policy_is_not_compiled_again(feed: PolicyFeed) -> None:
    before = feed.current

    await feed.refresh()

    assert feed.current is before


async def test_stale_policy_stops_deciding_when_its_lease_ends(
    feed: PolicyFeed,
    sqlite_database: Database,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    await sqlite_database.close()
    clock.now += 59
    await feed.refresh()
    await feed.refresh()

    assert feed.fresh(clock.now)
    assert not feed.fresh(clock.now + 1)
    assert [record.getMessage() for record in caplog.records].count("policy.stale") == 1

    await sqlite_database.start()
    await feed.refresh()

    assert feed.fresh(clock.now + 59)
    assert caplog.records[-1].getMessage() == "policy.recovered"


async def test_broken_policy_is_not_taken_and_the_last_good_one_expires(
    feed: PolicyFeed, sqlite_database: Database, clock: Clock
) -> None:
    await grant(sqlite_database)
    await feed.refresh()
    good = feed.current

    await roles.put_role(sqlite_database, "broken", [{"verbs": ["gets"]}])
    clock.now += 60
    await feed.refresh()

    assert feed.current is good
    assert not feed.fresh(clock.now)
    with pytest.raises(PolicyError, match='role "broken"'):
        await PolicyFeed(sqlite_database, PolicySettings()).start()


async def test_lease_counts_from_the_question_not_from_the_answer(
    sqlite_database: Database, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed = PolicyFeed(sqlite_database, PolicySettings(lease_seconds=60), clock=clock)
    await feed.start()

    async def slow_answer(database: Database) -> int:
        clock.now += 100
        return feed.rows.version

    monkeypatch.setattr("mk8s_proxy.process.policy_feed.policy_version", slow_answer)
    await feed.refresh()

    assert not feed.fresh(clock.now)


async def test_listeners_hear_each_new_snapshot(
    feed: PolicyFeed, sqlite_database: Database
) -> None:
    heard: list[int] = []
    feed.on_change(lambda changed: heard.append(changed.current.version))

    await grant(sqlite_database)
    await feed.refresh()
    await feed.refresh()

    assert heard == sorted(set(heard))
    assert len(heard) == 2


async def test_a_large_policy_compiles_too(feed: PolicyFeed, sqlite_database: Database) -> None:
    await grant(sqlite_database)
    await roles.put_role(sqlite_database, "large", RULES * (LARGE_POLICY_RULES + 1))

    await feed.refresh()

    assert allowed(feed)


async def test_the_loop_brings_changes_by_itself(sqlite_database: Database) -> None:
    feed = PolicyFeed(sqlite_database, PolicySettings(poll_seconds=0.05))
    await feed.start()
    changed = asyncio.Event()
    feed.on_change(lambda loaded: changed.set() if USER in loaded.rows.user_roles else None)

    running = asyncio.create_task(feed.run())
    await grant(sqlite_database)
    await asyncio.wait_for(changed.wait(), 30)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert allowed(feed)


async def test_a_change_that_another_worker_tells_of_is_looked_for_at_once(
    sqlite_database: Database,
) -> None:
    feed = PolicyFeed(sqlite_database, PolicySettings(poll_seconds=30))
    await feed.start()
    loop = asyncio.create_task(feed.run())
    try:
        await grant(sqlite_database)
        changed = asyncio.Event()
        feed.on_change(lambda _: changed.set() if allowed(feed) else None)
        assert not changed.is_set()
        feed.hurry()
        async with asyncio.timeout(10):
            await changed.wait()
    finally:
        loop.cancel()


async def test_an_empty_database_is_no_policy(sqlite_database: Database) -> None:
    async with sqlite_database.transaction() as session:
        await session.execute(text("DELETE FROM meta"))

    with pytest.raises(Exception, match="policy version"):
        await PolicyFeed(sqlite_database, PolicySettings()).start()


def test_the_built_in_admin_may_do_everything_but_act_as_others() -> None:
    (rule,) = parse_role(roles.ADMIN_ROLE, roles.ADMIN_RULES).rules

    assert rule.cluster == "*"
    assert {"nodes/proxy", "serviceaccounts/token"} <= set(rule.resources)
    assert not rule.impersonate_users
