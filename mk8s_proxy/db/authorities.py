"""The certificate authorities as they are stored: rows of ``meta``, their private keys sealed.

Called by :mod:`mk8s_proxy.identity.authorities`, which knows what the certificates mean, and by the
policy feed's reading. A row is called after what its authority signs for, "server" or "agent".
"""

import json
from dataclasses import dataclass, field

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from mk8s_proxy.db import meta
from mk8s_proxy.db.engine import Database
from mk8s_proxy.db.errors import StoreError
from mk8s_proxy.db.models import Meta
from mk8s_proxy.db.sealing import Vault, is_sealed

_PREFIX = "ca."


@dataclass(frozen=True, slots=True)
class AuthorityRecord:
    """An authority as stored."""

    certificate_pem: str
    private_pem: str = field(repr=False)
    """A secret: never logged, never shown."""


async def read_authorities(session: AsyncSession, vault: Vault) -> dict[str, AuthorityRecord]:
    """All of them by name, within a reading that is under way.

    Raises:
        SealError: a key cannot be opened.
        StoreError: a row is damaged.
    """
    return {
        name: AuthorityRecord(parts["certificate"], vault.open(_place(name), parts["key"]))
        for name, parts in (await _rows(session)).items()
    }


async def load_authorities(database: Database) -> dict[str, AuthorityRecord]:
    """All of them by name. Raises as `read_authorities`."""
    async with database.session() as session:
        return await read_authorities(session, database.vault)


async def keep_authority(database: Database, name: str, record: AuthorityRecord) -> bool:
    """Store an authority unless there is one of this name; whether it was stored."""
    fresh = _sealed(name, record, database.vault)
    return await meta.keep_meta(database, _PREFIX + name, fresh) == fresh


async def replace_authority(database: Database, name: str, record: AuthorityRecord) -> None:
    """Store an authority in place of the one of this name, or of none."""
    fresh = _sealed(name, record, database.vault)
    await meta.replace_meta(database, _PREFIX + name, fresh)


async def seal_authorities(session: AsyncSession, vault: Vault) -> int:
    """Seal what an older release wrote, or another key sealed; gives how many there were.

    Raises:
        SealError: a key cannot be opened, or there is none to seal with.
    """
    changed = 0
    held = select(Meta).where(col(Meta.key).startswith(_PREFIX)).order_by(col(Meta.key))
    for row in await session.scalars(held.with_for_update()):
        parts = _parts(row.key, row.value)
        if again := vault.sealed_again(f"meta/{row.key}", parts["key"]):
            row.value = json.dumps({**parts, "key": again})
            changed += 1
    return changed


async def any_sealed(session: AsyncSession) -> bool:
    """Whether the private key of any authority is sealed."""
    return any(is_sealed(parts["key"]) for parts in (await _rows(session)).values())


async def _rows(session: AsyncSession) -> dict[str, dict[str, str]]:
    found = select(col(Meta.key), col(Meta.value)).where(col(Meta.key).startswith(_PREFIX))
    rows = (await session.execute(found.order_by(col(Meta.key)))).all()
    return {key.removeprefix(_PREFIX): _parts(key, value) for key, value in rows}


def _parts(key: str, value: str) -> dict[str, str]:
    try:
        parts: dict[str, str] = json.loads(value)
        usable = all(isinstance(parts[name], str) for name in ("certificate", "key"))
    except (ValueError, KeyError, TypeError):
        usable = False
    if not usable:
        name = key.removeprefix(_PREFIX)
        raise StoreError(f"the stored {name} CA is damaged; restore it from a backup")
    return parts


def _sealed(name: str, record: AuthorityRecord, vault: Vault) -> str:
    key = vault.seal(_place(name), record.private_pem)
    return json.dumps({"certificate": record.certificate_pem, "key": key})


def _place(name: str) -> str:
    return f"meta/{_PREFIX}{name}"
