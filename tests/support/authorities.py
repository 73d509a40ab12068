"""What no operator can do: other certificate authorities in a database that has some."""

import json

from mk8s_proxy.db.engine import Database
from mk8s_proxy.db.models import Meta
from mk8s_proxy.identity.ca import CertificateAuthority, Purpose


async def replace_meta(database: Database, key: str, value: str) -> None:
    """Puts a value in place of the one that is there."""
    async with database.transaction() as session:
        await session.merge(Meta(key=key, value=value))


async def replace_authority(database: Database, purpose: Purpose) -> CertificateAuthority:
    """Makes a new authority; what the present one signed is worthless then."""
    fresh = CertificateAuthority.create(purpose)
    pair = {"certificate": fresh.certificate_pem.decode(), "key": fresh.key_pem.decode()}
    await replace_meta(database, f"ca.{purpose}", json.dumps(pair))
    return fresh
