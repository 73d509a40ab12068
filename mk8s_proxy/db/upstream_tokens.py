"""The issuers' refresh tokens of logins, sealed. Called by the endpoints of single sign-on.

A refresh of a login asks the issuer again with it; what the issuer then says of the person's groups
is noted in the login's row.
"""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from mk8s_proxy.db.engine import Database
from mk8s_proxy.db.models import Login, UpstreamToken
from mk8s_proxy.db.sealing import Vault

TAKEN_SECONDS: Final = 60.0
"""After so long whoever took a token is thought to be gone; asking takes less."""
_PLACE: Final = "upstream_tokens/"


async def keep(database: Database, login_id: str, token: str) -> None:
    """Keep the token of a login. Raises :class:`SealError` without a key to seal it with."""
    async with database.transaction() as session:
        await _put(session, database.vault, login_id, token)


async def take(database: Database, login_id: str, now: datetime) -> str:
    """The token of a login, for one who asks: many are good for one use.

    Returns:
        "" where there is none, or somebody else took it a moment ago; whoever takes it gives one
        back by `keep` or `renew`.

    Raises:
        SealError: it cannot be opened.
    """
    async with database.transaction() as session:
        row = select(UpstreamToken).where(col(UpstreamToken.login_id) == login_id)
        locked = row.with_for_update().execution_options(populate_existing=True)
        found = await session.scalar(locked)
        if found is None:
            return ""
        token, taken = json.loads(database.vault.open(_PLACE + login_id, found.sealed))
        if now.timestamp() - taken < TAKEN_SECONDS:
            return ""
        found.sealed = _sealed(database.vault, login_id, token, now.timestamp())
        return str(token)


async def renew(database: Database, login_id: str, token: str, groups: Sequence[str]) -> None:
    """Keep what the issuer said at a refresh: the next token, and the groups."""
    async with database.transaction() as session:
        login = await session.get(Login, login_id)
        if login is None:  # forgotten just now
            return
        login.groups = list(groups)
        await _put(session, database.vault, login_id, token)


async def _put(session: AsyncSession, vault: Vault, login_id: str, token: str) -> None:
    sealed = _sealed(vault, login_id, token, 0.0)
    row = await session.get(UpstreamToken, login_id)
    if row is None:
        session.add(UpstreamToken(login_id=login_id, sealed=sealed))
    else:
        row.sealed = sealed


def _sealed(vault: Vault, login_id: str, token: str, taken: float) -> str:
    """With the moment at which somebody took it to ask, 0 for nobody."""
    return vault.seal(_PLACE + login_id, json.dumps([token, taken]))
