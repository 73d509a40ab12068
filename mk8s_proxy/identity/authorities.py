"""The two certificate authorities of an installation, as all replicas share them.

Called by ``init``, ``app`` and ``server_certificate``. They are kept in the database, certificates
in the clear and private keys sealed.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from mk8s_proxy.db import authorities as store
from mk8s_proxy.db.authorities import AuthorityRecord
from mk8s_proxy.db.engine import Database
from mk8s_proxy.identity.ca import CaError, CertificateAuthority, Purpose

PURPOSES: tuple[Purpose, ...] = ("server", "agent")


@dataclass(frozen=True, slots=True)
class Authorities:
    """Both authorities of one installation."""

    server_ca: CertificateAuthority
    agent_ca: CertificateAuthority


async def load_authorities(database: Database) -> Authorities:
    """The authorities that ``init`` made.

    Raises:
        CaError: there are none yet, or the stored ones are damaged.
        StoreError: they cannot be read, or their keys cannot be opened.
    """
    return authorities_of(await store.load_authorities(database))


def authorities_of(records: Mapping[str, AuthorityRecord]) -> Authorities:
    """Take up what is stored. Raises as `load_authorities`."""
    if any(purpose not in records for purpose in PURPOSES):
        raise CaError("there is no certificate authority yet; run: mk8s-central init")
    return Authorities(*(_taken_up(records[purpose], purpose) for purpose in PURPOSES))


async def ensure_authorities(database: Database) -> tuple[Authorities, bool]:
    """The authorities, made now if they are missing; the flag tells whether any was."""
    made = False
    present = await store.load_authorities(database)
    for purpose in PURPOSES:
        if purpose not in present:
            fresh = _record(CertificateAuthority.create(purpose))
            made |= await store.keep_authority(database, purpose, fresh)
    return await load_authorities(database), made


async def replace_authority(database: Database, purpose: Purpose) -> CertificateAuthority:
    """Make a new authority in place of the present one; what that signed is worthless then.

    Called by `certs/init.py`, when a key may have become known.
    """
    fresh = CertificateAuthority.create(purpose)
    await store.replace_authority(database, purpose, _record(fresh))
    return fresh


def _record(authority: CertificateAuthority) -> AuthorityRecord:
    return AuthorityRecord(authority.certificate_pem.decode(), authority.key_pem.decode())


def _taken_up(record: AuthorityRecord, purpose: Purpose) -> CertificateAuthority:
    authority = CertificateAuthority.load(
        record.certificate_pem.encode(), record.private_pem.encode()
    )
    if authority.purpose != purpose:
        raise CaError(f"in place of the {purpose} CA, one for {authority.purpose}s is stored")
    return authority
