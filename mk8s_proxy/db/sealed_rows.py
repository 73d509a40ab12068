"""All secrets of the database at once: is any sealed, and seal what is not, or by another key.

Called by `process.vault` at each start. Rows are locked before they are read, so that nothing that
is removed meanwhile comes back.
"""

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from mk8s_proxy.db import authorities, keys
from mk8s_proxy.db.models import UpstreamToken
from mk8s_proxy.db.sealing import Vault


async def any_sealed(session: AsyncSession) -> bool:
    """Whether somebody needs the key that sealed something here."""
    if await keys.any_sealed(session) or await authorities.any_sealed(session):
        return True
    return await session.scalar(select(col(UpstreamToken.login_id)).limit(1)) is not None


async def seal_all(session: AsyncSession, vault: Vault) -> int:
    """Seal what an older release wrote, or another key sealed; gives how many there were.

    Raises:
        SealError: a secret cannot be opened, or there is no key to seal with.
    """
    changed = await keys.seal_keys(session, vault) + await authorities.seal_authorities(
        session, vault
    )
    held = select(UpstreamToken).order_by(col(UpstreamToken.login_id)).with_for_update()
    for row in await session.scalars(held):
        if again := vault.sealed_again(f"upstream_tokens/{row.login_id}", row.sealed):
            row.sealed = again
            changed += 1
    return changed
