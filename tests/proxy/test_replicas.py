"""Replicas of central share a database, and through it what a client takes from one to another."""

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mk8s_proxy.answers.filtering.continue_token import TokenExpired
from mk8s_proxy.db import agents, clusters, keys, logins, service_tokens, users
from mk8s_proxy.db.agents import Issued
from mk8s_proxy.db.service_tokens import NewSecret, NewServiceToken
from mk8s_proxy.identity.access_token import mint
from mk8s_proxy.identity.identity import BoundCluster, Login, Unauthenticated
from mk8s_proxy.identity.service_token import hash_service_token, new_service_token
from mk8s_proxy.identity.signing_keys import SigningKey
from mk8s_proxy.process.app import Central
from mk8s_proxy.process.init import AdminChoice, install
from mk8s_proxy.settings.model import PolicySettings, Settings
from mk8s_proxy.settings.sealing import SecretsSettings


def settings(folder: Path, name: str) -> Settings:
    return Settings(
        data_dir=folder / name,
        database_url=f"sqlite:///{folder / 'shared.db'}",
        secrets=SecretsSettings(key_file=folder / "secret.key"),
        public_url="https://central.example.com",
        listen="127.0.0.1:0",
        admin_listen="",
    )


def replica(folder: Path, name: str) -> Central:
    chosen = dataclasses.replace(settings(folder, name), policy=PolicySettings(poll_seconds=0.05))
    (folder / name).mkdir(mode=0o700, exist_ok=True)
    return Central(chosen)


@pytest.fixture
async def two(tmp_path: Path) -> AsyncIterator[tuple[Central, Central]]:
    first, second = replica(tmp_path, "first"), replica(tmp_path, "second")
    admin = AdminChoice("admin@example.com", "a very long password", lambda _: "")
    await install(first.settings, admin, None, lambda _: None)
    await first.start()
    await second.start()
    yield first, second
    await first.stop(0)
    await second.stop(0)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110  a poll is what is waited for
            await asyncio.sleep(0.01)


async def token_of(central: Central, login: str, cluster: BoundCluster | None = None) -> bytes:
    user = await users.get_by_email(central.database, "admin@example.com")
    token, _ = mint(
        central.keys,
        user=user,
        cluster=cluster,
        issuer=central.settings.public_url,
        lifetime=900,
        now=time.time(),
        login=Login(login, time.time() + 3600) if login else None,
    )
    return f"Bearer {token}".encode()


def accepts(central: Central, authorization: bytes) -> bool:
    try:
        central.authenticator.authenticate(authorization)
    except Unauthenticated:
        return False
    return True


async def test_attack_a_copied_token_goes_on_at_another_replica_after_the_logout(
    two: tuple[Central, Central], tmp_path: Path
) -> None:
    first, second = two
    token, other = await token_of(first, "login-1"), await token_of(first, "login-2")
    assert accepts(second, token)
    looked_at: list[str] = []
    second.chain.long_running.recheck = looked_at.append  # type: ignore[method-assign]
    await logins.end_login(first.database, "login-1", logins.LOGOUT, datetime.now(UTC))
    await until(lambda: not accepts(second, token) and looked_at == ["login-1"])
    assert accepts(second, other)
    restarted = replica(tmp_path, "third")
    await restarted.start()
    await asyncio.sleep(0)  # its background tasks have begun
    try:
        assert not accepts(restarted, token)
        assert accepts(restarted, other)
    finally:
        await restarted.stop(0)


async def test_attack_a_cluster_added_again_under_its_name_is_another_one_everywhere(
    two: tuple[Central, Central],
) -> None:
    first, second = two
    old = await clusters.create_cluster(first.database, "prod")
    await until(lambda: second.tunnels.knows(old.id))
    await clusters.delete_cluster(first.database, old.id)
    new = await clusters.create_cluster(first.database, "prod")
    await until(lambda: second.tunnels.knows(new.id))
    assert not second.tunnels.knows(old.id)
    bound = await token_of(second, "", BoundCluster("prod", old.id))
    identity = second.authenticator.authenticate(bound)
    with pytest.raises(Unauthenticated, match="made for another cluster"):
        identity.require_cluster("prod", second.policies.current.cluster_id("prod"))


async def test_attack_a_revoked_agent_goes_on_at_another_replica(
    two: tuple[Central, Central],
) -> None:
    first, second = two
    cluster = await clusters.create_cluster(first.database, "prod")
    end = datetime.now(UTC) + timedelta(days=1)
    await agents.record_joined(first.database, cluster.id, Issued("a1", "", "", end))
    await agents.revoke(first.database, "a1", "a test")
    await until(lambda: second.tunnels.is_revoked("a1"))


async def test_attack_a_revoked_service_token_goes_on_at_another_replica(
    two: tuple[Central, Central], tmp_path: Path
) -> None:
    first, second = two
    token, now = new_service_token(), datetime.now(UTC)
    new = NewServiceToken("ci", ("admin",), (), "", "")
    secret = NewSecret(hash_service_token(token.encode()), now + timedelta(days=1))
    made = await service_tokens.create(first.database, new, secret, now)
    bearer = f"Bearer {token}".encode()
    await until(lambda: accepts(first, bearer) and accepts(second, bearer))
    identity = second.authenticator.authenticate(bearer)
    access, _ = mint(
        second.keys,
        user=dataclasses.replace(
            await users.get_by_email(second.database, "admin@example.com"),
            id=made.id,
            email=identity.user,
        ),
        cluster=None,
        issuer=second.settings.public_url,
        lifetime=900,
        now=time.time(),
        login=identity.of_login,
    )
    minted = f"Bearer {access}".encode()
    assert accepts(first, minted)
    looked_at: list[str] = []
    second.chain.long_running.recheck = looked_at.append  # type: ignore[method-assign]
    await service_tokens.revoke(first.database, made.id, datetime.now(UTC))
    for replica_ in two:
        await until(lambda it=replica_: not accepts(it, bearer) and not accepts(it, minted))
    await until(lambda: looked_at == [identity.login])
    restarted = replica(tmp_path, "third")
    await restarted.start()
    await asyncio.sleep(0)  # its background tasks have begun
    try:
        assert not accepts(restarted, bearer)
        assert not accepts(restarted, minted)
    finally:
        await restarted.stop(0)


async def publish(central: Central) -> str:
    """A further key, from so long ago that it signs as soon as replicas read it."""
    fresh = SigningKey.generate()
    an_hour_ago = datetime.now(UTC) - timedelta(hours=1)
    await keys.rotate_key(
        central.database, fresh.kid, fresh.private_pem(), now=an_hour_ago, settle_seconds=0
    )
    return fresh.kid


async def test_a_list_goes_on_at_another_replica_until_its_key_is_retired(
    two: tuple[Central, Central],
) -> None:
    first, second = two
    old = first.keys.signing(time.time()).kid
    token = first.chain.seal.seal("page two", b"about").encode()
    assert second.chain.seal.unseal(token, b"about") == b"page two"

    new = await publish(first)
    await until(lambda: all(it.keys.signing(time.time()).kid == new for it in two))
    assert second.chain.seal.unseal(token, b"about") == b"page two", "sealed by the old key"
    later = second.chain.seal.seal("page three", b"about").encode()
    assert first.chain.seal.unseal(later, b"about") == b"page three"

    await keys.retire_key(first.database, old)
    await until(lambda: all(it.keys.public(old) is None for it in two))
    for replica in two:
        assert replica.chain.seal.unseal(later, b"about") == b"page three"
        with pytest.raises(TokenExpired):
            replica.chain.seal.unseal(token, b"about")


async def test_attack_a_token_of_a_stolen_key_goes_on_at_another_replica(
    two: tuple[Central, Central],
) -> None:
    first, second = two
    old, token = first.keys.signing(time.time()).kid, await token_of(first, "login-1")
    assert accepts(second, token)
    new = await publish(first)
    rechecked: list[bool] = []
    second.chain.long_running.recheck_all = lambda: rechecked.append(True)  # type: ignore[method-assign]
    await keys.retire_key(first.database, old)
    await until(lambda: not accepts(second, token) and bool(rechecked))
    # Until its own next poll the first replica signs with the key that was taken away.
    await until(lambda: first.keys.signing(time.time()).kid == new)
    assert accepts(second, await token_of(first, "login-1"))
