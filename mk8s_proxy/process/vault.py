"""The key that seals secrets in the database: where it is, who makes it, whether it is the one.

Called by `app` at each start, by `init`, by `check_config` and by the tools in certs/. Where the
database holds sealed secrets, a missing key is never replaced by a new one: those secrets would be
lost, and nobody would notice before the next restart.
"""

import os
import secrets
from pathlib import Path

from mk8s_agent.wire import pki
from mk8s_proxy.db import sealed_rows
from mk8s_proxy.db.engine import Database
from mk8s_proxy.db.sealing import SealError, Vault, new_key, parse_keys
from mk8s_proxy.settings.model import Settings

_HEAD = """\
# The key of mk8s-central's secrets in its database. Keep it apart from backups of the database:
# either is worthless without the other. All replicas need the same one. The first key seals.
"""


def read_vault(settings: Settings) -> Vault | None:
    """The keys that the settings give or point to; None where the file does not exist.

    Raises:
        SealError: they cannot be used.
    """
    if settings.secrets.key:
        return _vault(settings.secrets.key, "secrets.key")
    path = settings.key_path
    if not path.exists():
        return None
    try:
        return _vault(pki.read_private(path).decode("ascii", "replace"), str(path))
    except pki.PkiError as error:
        raise SealError(f"secrets.key_file: {error}") from error


async def open_secrets(settings: Settings, database: Database, *, make: bool) -> bool:
    """Give a started database what opens its secrets, and seal what is not sealed yet.

    Args:
        make: whether a missing file is made, where nothing was ever sealed.

    Returns:
        Whether the file was made now.

    Raises:
        SealError: there is no key, or it is not the one that sealed what is there.
    """
    vault = read_vault(settings)
    made = vault is None
    if vault is None:
        vault = await _first_vault(settings, database, make=make)
    async with database.transaction() as session:
        await sealed_rows.seal_all(session, vault)
    database.vault = vault
    return made


def makes_own_key(settings: Settings) -> bool:
    """Whether `serve` may make a missing key: on its own database, in its own folder."""
    return settings.is_sqlite and settings.secrets.key_file is None


async def _first_vault(settings: Settings, database: Database, *, make: bool) -> Vault:
    path = settings.key_path
    async with database.session() as session:
        sealed = await sealed_rows.any_sealed(session)
    if sealed:
        raise SealError(
            f"the database holds secrets sealed by a key, and {path} does not exist: put it back "
            "from your backup, or copy it from another replica"
        )
    if not make:
        raise SealError(
            f"there is no key for the secrets in the database: {path} does not exist; run: "
            "mk8s-central init, and give the file to every replica"
        )
    _make_key(path)
    vault = read_vault(settings)
    assert vault is not None
    return vault


def _make_key(path: Path) -> None:
    """Make the file, unless another process has done so in the meantime."""
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    pki.write_private(fresh, f"{_HEAD}{new_key()}\n".encode())
    try:
        os.link(fresh, path)  # whole or not at all, and never over another one
    except FileExistsError:
        pass
    finally:
        fresh.unlink()


def _vault(text: str, where: str) -> Vault:
    try:
        return Vault(parse_keys(text))
    except ValueError as error:
        raise SealError(f"{where} {error}") from None
