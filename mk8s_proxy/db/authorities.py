"""The certificate authorities as they are stored: rows of ``meta``, their private keys sealed.

Called by :mod:`mk8s_proxy.identity.authorities`, which knows what the certificates mean, and by the
policy feed's reading. A row is called after what its authority signs for, "server" or "agent"; that
of an authority which follows another one has ".next" behind it, until it takes that one's place.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from mk8s_proxy.db import meta
from mk8s_proxy.db.engine import Database
from mk8s_proxy.db.errors import Conflict, StoreError
from mk8s_proxy.db.meta import raise_policy_version
from mk8s_proxy.db.models import Meta
from mk8s_proxy.db.sealing import Vault, is_sealed

NEXT: Final = ".next"
_PREFIX: Final = "ca."


@dataclass(frozen=True, slots=True)
class AuthorityRecord:
    """An authority as stored."""

    certificate_pem: str
    private_pem: str = field(repr=False)
    """A secret: never logged, never shown."""
    ways: tuple[str, ...] = ()
    """Certificates (PEM) by which older authorities vouch for this one, the latest first."""
    made_at: datetime | None = None
    """When it was published as the next one or took its place; None of an installation's first."""
    former_pem: str = ""
    """The certificate of the one whose place it took, where that may still be shown for a while."""


async def read_authorities(session: AsyncSession, vault: Vault) -> dict[str, AuthorityRecord]:
    """All of them by name, within a reading that is under way.

    Raises:
        SealError: a key cannot be opened.
        StoreError: a row is damaged.
    """
    return {name: _record(name, parts, vault) for name, parts in (await _rows(session)).items()}


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


async def publish_next(database: Database, following: Mapping[str, AuthorityRecord]) -> None:
    """Store the authorities that are to follow those of these names.

    Raises:
        Conflict: some follow already.
    """
    rows = [
        Meta(key=_PREFIX + name + NEXT, value=_sealed(name + NEXT, record, database.vault))
        for name, record in following.items()
    ]
    async with database.transaction() as session:
        await raise_policy_version(session)
        if any(name.endswith(NEXT) for name in await _rows(session)):
            raise Conflict("a rotation is under way already; it ends with: mk8s admin ca retire")
        session.add_all(rows)


async def promote_next(database: Database, now: datetime) -> None:
    """Let those that follow take the place of the ones before, whose keys are gone then.

    Raises:
        Conflict: none follow.
    """
    vault = database.vault
    async with database.transaction() as session:
        await raise_policy_version(session)
        following = await _next_rows(session)
        if not following:
            raise Conflict("no rotation is under way; one begins with: mk8s admin ca rotate")
        for row in following:
            name = row.key.removeprefix(_PREFIX)
            place = name.removesuffix(NEXT)
            held = await session.get_one(Meta, _PREFIX + place)
            former = _parts(held.key, held.value)["certificate"]
            record = _record(name, _parts(row.key, row.value), vault)
            record = replace(record, made_at=now, former_pem=former)
            held.value = _sealed(place, record, vault)
            await session.delete(row)


async def _next_rows(session: AsyncSession) -> list[Meta]:
    found = select(Meta).where(col(Meta.key).startswith(_PREFIX)).order_by(col(Meta.key))
    rows = await session.scalars(found.with_for_update())
    return [row for row in rows if row.key.endswith(NEXT)]


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


async def _rows(session: AsyncSession) -> dict[str, dict[str, Any]]:
    found = select(col(Meta.key), col(Meta.value)).where(col(Meta.key).startswith(_PREFIX))
    rows = (await session.execute(found.order_by(col(Meta.key)))).all()
    return {key.removeprefix(_PREFIX): _parts(key, value) for key, value in rows}


def _parts(key: str, value: str) -> dict[str, Any]:
    try:
        parts: dict[str, Any] = json.loads(value)
        usable = all(isinstance(parts[name], str) for name in ("certificate", "key"))
    except (ValueError, KeyError, TypeError):
        usable = False
    if not usable:
        name = key.removeprefix(_PREFIX)
        raise StoreError(f"the stored {name} CA is damaged; restore it from a backup")
    return parts


def _sealed(name: str, record: AuthorityRecord, vault: Vault) -> str:
    parts: dict[str, object] = {"certificate": record.certificate_pem}
    parts["key"] = vault.seal(_place(name), record.private_pem)
    if record.ways:
        parts["ways"] = record.ways
    if record.former_pem:
        parts["former"] = record.former_pem
    if record.made_at is not None:
        parts["made_at"] = record.made_at.isoformat()
    return json.dumps(parts)


def _record(name: str, parts: Mapping[str, Any], vault: Vault) -> AuthorityRecord:
    made_at = parts.get("made_at")
    return AuthorityRecord(
        parts["certificate"],
        vault.open(_place(name), parts["key"]),
        tuple(parts.get("ways", ())),
        datetime.fromisoformat(made_at) if made_at else None,
        parts.get("former", ""),
    )


def _place(name: str) -> str:
    return f"meta/{_PREFIX}{name}"
