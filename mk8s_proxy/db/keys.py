"""Keys that sign access tokens. Called by ``init`` and by the authentication's key ring."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError
from sqlmodel import col

from mk8s_proxy.db.engine import Database
from mk8s_proxy.db.errors import Conflict, NotFound
from mk8s_proxy.db.models import SigningKey, utc_now


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """A signing key as stored. ``private_pem`` is a secret: never logged, never shown."""

    kid: str
    private_pem: str
    created_at: datetime
    retired_at: datetime | None
    """When it stopped signing; tokens it signed before stay valid until they expire."""

    def __repr__(self) -> str:
        return f"<KeyRecord {self.kid}>"


async def list_keys(database: Database) -> list[KeyRecord]:
    """All keys, the newest first."""
    async with database.session() as session:
        newest = select(SigningKey).order_by(col(SigningKey.created_at).desc(), col(SigningKey.kid))
        return [_record(key) for key in await session.scalars(newest)]


async def add_key(
    database: Database, kid: str, private_pem: str, created_at: datetime | None = None
) -> KeyRecord:
    """Add a key. Raises :class:`Conflict` when the kid is taken."""
    key = SigningKey(kid=kid, private_pem=private_pem, created_at=created_at or utc_now())
    try:
        async with database.transaction() as session:
            session.add(key)
    except IntegrityError as error:
        raise Conflict(f'the signing key "{kid}" exists already') from error
    return _record(key)


async def retire_key(database: Database, kid: str, *, now: datetime | None = None) -> None:
    """Stop signing with a key. Raises :class:`NotFound`; retiring twice keeps the first time."""
    async with database.transaction() as session:
        if await session.get(SigningKey, kid) is None:
            raise NotFound("signing key", kid)
        live = update(SigningKey).where(
            col(SigningKey.kid) == kid, col(SigningKey.retired_at).is_(None)
        )
        await session.execute(live.values(retired_at=now or utc_now()))


def _record(key: SigningKey) -> KeyRecord:
    return KeyRecord(key.kid, key.private_pem, key.created_at, key.retired_at)
