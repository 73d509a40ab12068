"""Signing keys in force: as the database says, turned over by time, retired by themselves."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mk8s_proxy.db import keys as store
from mk8s_proxy.db.engine import Database
from mk8s_proxy.db.errors import StoreError
from mk8s_proxy.db.keys import KeyRecord
from mk8s_proxy.identity.key_rotation import Rotation
from mk8s_proxy.identity.signing_keys import SigningKey, SigningKeys
from mk8s_proxy.process.app import Central
from mk8s_proxy.process.init import AdminChoice, install
from mk8s_proxy.process.key_feed import KeyFeed
from mk8s_proxy.settings.model import Settings

START = datetime(2027, 1, 1, tzinfo=UTC)
OLD, NEW = (SigningKey.generate().private_pem() for _ in range(2))


class Replica:
    """A feed, its keys, and what it told."""

    def __init__(self, database: Database) -> None:
        self.now = START.timestamp()
        self.keys = SigningKeys()
        self.signing: list[str] = []
        self.retired: list[str] = []
        self.feed = KeyFeed(
            database,
            self.keys,
            Rotation(settle=100, verify=1000),
            lambda now: self.signing.append(self.keys.signing(now).kid),
            retired=self.retired.append,
            clock=lambda: self.now,
        )

    async def turn(self, seconds: float) -> str:
        """The key that signs so many seconds after the start."""
        self.now = START.timestamp() + seconds
        await self.feed.turn()
        return self.signing[-1]


def two() -> tuple[KeyRecord, ...]:
    old = KeyRecord("old", OLD, START - timedelta(days=1), None)
    return KeyRecord("new", NEW, START, None), old


async def test_keys_turn_over_and_the_old_one_is_retired(sqlite_database: Database) -> None:
    for record in two():
        await store.add_key(sqlite_database, record.kid, record.private_pem, record.created_at)
    replica = Replica(sqlite_database)
    replica.feed.take(tuple(await store.list_keys(sqlite_database)))
    assert replica.signing == ["old"]
    assert replica.keys.public("new") is not None, "published before it signs"
    assert [await replica.turn(when) for when in (99, 100, 1099)] == ["old", "new", "new"]
    assert replica.keys.public("old") is not None
    other = Replica(sqlite_database)
    other.feed.take(tuple(await store.list_keys(sqlite_database)))
    for seconds in (1100, 1101, 1105):
        await replica.turn(seconds)
        assert replica.keys.public("old") is None
    await other.turn(1110)
    assert (replica.retired, other.retired) == (["old"], []), "it was one of them, once"
    (_, old) = await store.list_keys(sqlite_database)
    assert (old.kid, old.private_pem) == ("old", "")
    assert old.retired_at == START + timedelta(seconds=1100)


async def test_a_key_that_has_ended_is_gone_without_the_database(tmp_path: Path) -> None:
    replica = Replica(Database(f"sqlite:///{tmp_path / 'missing' / 'central.db'}"))
    replica.feed.take(two())
    with pytest.raises((StoreError, RuntimeError)):
        await replica.turn(1100)
    assert replica.keys.public("old") is None
    assert replica.keys.public("new") is not None


async def test_a_key_that_cannot_be_read_leaves_the_former_ones(
    sqlite_database: Database,
) -> None:
    replica = Replica(sqlite_database)
    replica.feed.take(two())
    with pytest.raises(ValueError, match="PEM"):
        replica.feed.take((KeyRecord("odd", "no key", START, None),))
    assert await replica.turn(1) == "old"


async def test_a_key_that_time_retired_leaves_a_row(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, listen="127.0.0.1:0", admin_listen="")
    await install(settings, AdminChoice(None, "correct horse battery", str), None, lambda _: None)
    central = Central(settings)
    await central.start()
    try:
        central._key_feed._retired("k1")
        row = json.loads(settings.journal_path.read_text().splitlines()[-1])
    finally:
        await central.stop(0)
    assert (row["verb"], row["responseStatus"]["code"]) == ("retire", 200)
    assert (row["objectRef"]["resource"], row["objectRef"]["name"]) == ("signingkeys", "k1")
    assert row["user"]["username"] == "mk8s-central"
