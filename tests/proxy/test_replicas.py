"""Replicas of central share a database, and through it what a client takes from one to another."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mk8s_proxy.answers.filtering.continue_token import TokenExpired
from mk8s_proxy.db import keys
from mk8s_proxy.db.engine import Database
from mk8s_proxy.identity.signing_keys import SigningKey
from mk8s_proxy.process.app import Central
from mk8s_proxy.process.init import AdminChoice, install
from mk8s_proxy.settings.model import Settings


def settings(folder: Path, name: str) -> Settings:
    return Settings(
        data_dir=folder / name,
        database_url=f"sqlite:///{folder / 'shared.db'}",
        public_url="https://central.example.com",
        listen="127.0.0.1:0",
        admin_listen="",
    )


async def rotate(url: str) -> None:
    """Another key signs from now on, and the first one not even verifies."""
    database = Database(url)
    await database.start()
    fresh = SigningKey.generate()
    for old in await keys.list_keys(database):
        await keys.retire_key(database, old.kid, now=datetime(2020, 1, 1, tzinfo=UTC))
    await keys.add_key(database, fresh.kid, fresh.private_pem())
    await database.close()


async def page_tokens(folder: Path) -> None:
    first, second = (Central(settings(folder, name)) for name in ("first", "second"))
    admin = AdminChoice("admin@example.com", "a very long password", lambda _: "")
    await install(first.settings, admin, None, lambda _: None)
    (folder / "second").mkdir(mode=0o700)
    try:
        await first.start()
        await second.start()
        await asyncio.sleep(0)  # their background tasks have begun
        token = first.chain.seal.seal("page two", b"about").encode()
        assert second.chain.seal.unseal(token, b"about") == b"page two"
        await second.stop(0)
        await rotate(first.settings.database_url)
        second = Central(settings(folder, "second"))
        await second.start()
        await asyncio.sleep(0)
        with pytest.raises(TokenExpired):
            second.chain.seal.unseal(token, b"about")
    finally:
        await first.stop(0)
        await second.stop(0)


def test_a_list_goes_on_at_another_replica_until_the_keys_are_rotated(tmp_path: Path) -> None:
    asyncio.run(page_tokens(tmp_path))
