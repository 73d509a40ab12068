"""Tokens that central would not make any more: signed with the keys of a test's own central.

For kube tests of expired, forged and premature tokens; they read the database of their world.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import jwt

from mk8s_proxy.db import clusters, keys, tokens, users
from mk8s_proxy.db.engine import Database
from mk8s_proxy.identity.access_token import mint
from mk8s_proxy.identity.identity import BoundCluster
from mk8s_proxy.identity.join_token import hash_join_token, new_join_token
from mk8s_proxy.identity.signing_keys import SigningKey, SigningKeys
from tests.support.databases import vault_of
from tests.support.world import World

LIFE = 900.0
T = TypeVar("T")


def with_database(world: World, work: Callable[[Database], Awaitable[T]]) -> T:
    """The result of `work` on the world's own database, beside its running central."""

    async def opened() -> T:
        database = Database(f"sqlite:///{world.data / 'central.db'}")
        database.vault = vault_of(world.data)
        await database.start()
        try:
            return await work(database)
        finally:
            await database.close()

    return asyncio.run(opened())


def signing_keys(world: World) -> SigningKeys:
    """The keys that this central signs with."""
    records = with_database(world, keys.list_keys)
    return SigningKeys(SigningKey.from_pem(record.kid, record.private_pem) for record in records)


def minted(
    world: World,
    email: str,
    cluster: str | None,
    *,
    ahead: float = 0.0,
    issuer: str = "",
    signer: SigningKeys | None = None,
) -> str:
    """An access token as central would have made it `ahead` seconds from now (or before).

    Args:
        signer: whose keys sign; this central's by default.
    """
    user = with_database(world, lambda database: users.get_by_email(database, email))
    bound = None
    if cluster is not None:
        known = {it.name: it.id for it in with_database(world, clusters.list_clusters)}
        bound = BoundCluster(cluster, known.get(cluster, ""))
    return mint(
        signer or signing_keys(world),
        user=user,
        cluster=bound,
        issuer=issuer or world.url,
        lifetime=LIFE,
        now=time.time() + ahead,
    )[0]


def foreign_keys(kid: str) -> SigningKeys:
    """A key of somebody else, under the name of one of central's."""
    return SigningKeys([SigningKey(kid, SigningKey.generate().private_key)])


def signed_anew(token: str, key: Any, algorithm: str, **header: Any) -> str:
    """The claims of `token` under another signature and header."""
    claims = jwt.decode(token, options={"verify_signature": False})
    kid = jwt.get_unverified_header(token)["kid"]
    return jwt.encode(claims, key, algorithm=algorithm, headers={"kid": kid} | header)


def expired_join_token(world: World, cluster: str) -> str:
    """A join token of a cluster whose time ended a second ago."""
    token = new_join_token()

    async def store(database: Database) -> None:
        record = await clusters.get_by_name(database, cluster)
        ended = datetime.now(UTC) - timedelta(seconds=1)
        await tokens.store_join_token(database, record.id, hash_join_token(token), "", ended)

    with_database(world, store)
    return token
