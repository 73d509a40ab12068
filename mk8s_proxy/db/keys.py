"""Keys that sign access tokens. Called by ``init``, the management API and ``process.key_feed``.

Their phases are `mk8s_proxy.identity.key_rotation`'s; here is only what is stored. Private keys are
sealed on their way in and opened on their way out.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from mk8s_proxy.db.engine import Database
from mk8s_proxy.db.errors import Conflict, NotFound
from mk8s_proxy.db.meta import raise_policy_version
from mk8s_proxy.db.models import SigningKey, utc_now
from mk8s_proxy.db.sealing import Vault, is_sealed


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """A signing key as stored. ``private_pem`` is a secret: never logged, never shown.

    It is empty once the key is retired: what is not there cannot be stolen.
    """

    kid: str
    private_pem: str
    created_at: datetime
    retired_at: datetime | None
    """Since when its tokens are refused, whatever their own end."""

    def __repr__(self) -> str:
        return f"<KeyRecord {self.kid}>"


async def list_keys(database: Database) -> list[KeyRecord]:
    """All keys, the newest first. Raises :class:`~mk8s_proxy.db.sealing.SealError`."""
    async with database.session() as session:
        return await read_keys(session, database.vault)


async def read_keys(session: AsyncSession, vault: Vault) -> list[KeyRecord]:
    """All keys, the newest first, within a reading that is under way."""
    newest = select(SigningKey).order_by(
        col(SigningKey.created_at).desc(), col(SigningKey.kid).desc()
    )
    found = await session.scalars(newest)
    return [_record(key, _opened(key, vault)) for key in found]


async def add_key(
    database: Database, kid: str, private_pem: str, created_at: datetime | None = None
) -> KeyRecord:
    """Add a key. Raises :class:`Conflict` when the kid is taken."""
    sealed = database.vault.seal(_place(kid), private_pem)
    key = SigningKey(kid=kid, private_pem=sealed, created_at=created_at or utc_now())
    try:
        async with database.transaction() as session:
            session.add(key)
    except IntegrityError as error:
        raise Conflict(f'the signing key "{kid}" exists already') from error
    return _record(key, private_pem)


async def rotate_key(
    database: Database, kid: str, private_pem: str, *, now: datetime, settle_seconds: float
) -> KeyRecord:
    """Publish the key that is to sign next.

    Raises:
        Conflict: the kid is taken, or the last one published is not yet known to every replica.
    """
    sealed = database.vault.seal(_place(kid), private_pem)
    key = SigningKey(kid=kid, private_pem=sealed, created_at=now)
    try:
        async with database.transaction() as session:
            await raise_policy_version(session)
            live = (await session.execute(_LIVE)).all()
            newest = live[-1] if len(live) > 1 else None  # the only one signs from the beginning
            if newest is not None and newest.created_at + timedelta(seconds=settle_seconds) > now:
                raise Conflict(f'the signing key "{newest.kid}" still waits for its turn to sign')
            session.add(key)
    except IntegrityError as error:
        raise Conflict(f'the signing key "{kid}" exists already') from error
    return _record(key, private_pem)


async def retire_key(database: Database, kid: str, *, now: datetime | None = None) -> KeyRecord:
    """Refuse all tokens of a key from now on; a second time changes nothing.

    Raises:
        NotFound: there is no such key.
        Conflict: it is the last one, nothing could be signed without it.
    """
    async with database.transaction() as session:
        key = await session.get(SigningKey, kid)
        if key is None:
            raise NotFound("signing key", kid)
        if key.retired_at is None:
            await raise_policy_version(session)
            if [live.kid for live in await session.execute(_LIVE)] == [kid]:
                raise Conflict("this is the only signing key; run: mk8s admin keys rotate")
            key.retired_at = now or utc_now()
            key.private_pem = ""
        return _record(key, "")


_LIVE = (
    select(col(SigningKey.kid), col(SigningKey.created_at))
    .where(col(SigningKey.retired_at).is_(None))
    .order_by(col(SigningKey.created_at), col(SigningKey.kid))
)


async def seal_keys(session: AsyncSession, vault: Vault) -> int:
    """Seal what an older release wrote, or another key sealed; gives how many there were.

    Raises:
        SealError: a key cannot be opened, or there is none to seal with.
    """
    changed = 0
    held = select(SigningKey).order_by(col(SigningKey.kid)).with_for_update()
    for key in await session.scalars(held):  # or one that is being retired would come back
        if key.private_pem and (again := vault.sealed_again(_place(key.kid), key.private_pem)):
            key.private_pem = again
            changed += 1
    return changed


async def any_sealed(session: AsyncSession) -> bool:
    """Whether the private key of any signing key is sealed."""
    return any(map(is_sealed, await session.scalars(select(col(SigningKey.private_pem)))))


def _opened(key: SigningKey, vault: Vault) -> str:
    return vault.open(_place(key.kid), key.private_pem) if key.private_pem else ""


def _place(kid: str) -> str:
    return f"signing_keys/{kid}"


def _record(key: SigningKey, private_pem: str) -> KeyRecord:
    return KeyRecord(key.kid, private_pem, key.created_at, key.retired_at)
