"""What ``mk8s-central init`` makes: database, keys, built-in role, CAs, first admin.

Every step keeps what is there, so it can be run again after a failure, an upgrade, or to give the
first admin a new password. Progress is told line by line as it becomes true: a password that was
generated is never lost to a later step's failure.
"""

import asyncio
import secrets
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from mk8s_agent.wire.volume_modes import others_write
from mk8s_proxy.db import keys, migrations, roles, users
from mk8s_proxy.db.engine import Database, shown_url
from mk8s_proxy.db.errors import NotFound
from mk8s_proxy.identity import passwords
from mk8s_proxy.identity.authorities import ensure_authorities
from mk8s_proxy.identity.server_certificate import ensure_own_certificate, server_names
from mk8s_proxy.identity.signing_keys import SigningKey
from mk8s_proxy.process import rbac_file
from mk8s_proxy.process.vault import open_secrets
from mk8s_proxy.settings.model import Settings

DEFAULT_ADMIN = "admin@localhost"
GENERATED_PASSWORD_BYTES = 15

Say = Callable[[str], None]


class InstallationError(Exception):
    """Something prevents the installation; the message is one line that says what to do."""


@dataclass(frozen=True, slots=True)
class AdminChoice:
    """The first admin, as the operator wants it."""

    email: str | None
    """None: whoever is admin already, else DEFAULT_ADMIN."""
    password: str | None
    """None: ask when one is needed."""
    ask: Callable[[str], str]
    """Asks for the password of an email; "" leaves it to us to generate one."""


async def install(settings: Settings, admin: AdminChoice, rbac: Path | None, say: Say) -> str:
    """Make everything that is missing, and return the pin of the CA that certifies central.

    Raises:
        InstallationError: the data folder or the password cannot be used.
        RbacFileError: the RBAC file has a mistake; nobody was created yet.
        StoreError: the database cannot be used, or the file contradicts it.
        OSError: a file cannot be written.
    """
    if admin.password is not None:
        check_password(admin.password)
    private_folder(settings.data_dir)
    private_folder(settings.journal_path.parent)
    with ExitStack() as stack:
        alone = migrations.exclusive(settings.database_url)
        await asyncio.to_thread(stack.enter_context, alone)
        return await _install(settings, admin, rbac, say)


async def _install(settings: Settings, admin: AdminChoice, rbac: Path | None, say: Say) -> str:
    before, after = await asyncio.to_thread(migrations.upgrade, settings.database_url)
    state = "is current" if before == after else "created" if before is None else "migrated"
    say(f"database: {state}, {shown_url(settings.database_url)}")
    database = Database(settings.database_url)
    await database.start()
    try:
        made = await open_secrets(settings, database, make=True)
        where = "given by the settings" if settings.secrets.key else str(settings.key_path)
        say(f"key of the secrets: {'created' if made else 'kept'}, {where}")
        await roles.ensure_admin_role(database)
        document = await rbac_file.load_file(database, rbac) if rbac else None
        if document is not None:  # nothing is made before the file is known to be good
            await rbac_file.apply_document(database, document, dry_run=True)
        pin = await _ensure_keys(database, settings, say)
        await _ensure_admin(database, admin, say)
        if rbac is not None and document is not None:
            changes = await rbac_file.apply_document(database, document)
            for line in rbac_file.summary(changes):
                say(f"{rbac.name}: {line}")
        return pin
    finally:
        await database.close()


def check_password(password: str) -> None:
    """Raise :class:`InstallationError` for a password that the login would not take."""
    if len(password) < passwords.SHORTEST:
        raise InstallationError(f"the password must have {passwords.SHORTEST} characters at least")
    if len(password) > passwords.LONGEST:
        raise InstallationError(f"the password must have {passwords.LONGEST} characters at most")


def private_folder(path: Path) -> None:
    """Make a folder for our files, or refuse one in which others could put or replace files.

    Raises:
        InstallationError: it cannot be made, or group or others may write in it.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        facts = path.stat()
    except OSError as error:
        raise InstallationError(f"cannot make the folder {path}: {error.strerror}") from error
    if others_write(facts):
        raise InstallationError(f"others can write in {path}; run: chmod go-w {path}")


async def _ensure_keys(database: Database, settings: Settings, say: Say) -> str:
    if any(key.retired_at is None for key in await keys.list_keys(database)):
        say("signing key: kept")
    else:
        key = await asyncio.to_thread(SigningKey.generate)
        await keys.add_key(database, key.kid, key.private_pem())
        say(f"signing key: created {key.kid}")
    authorities, made = await ensure_authorities(database)
    say(f"certificate authorities: {'created' if made else 'kept'}")
    await ensure_own_certificate(database, settings)
    say(f"server certificate: for {', '.join(server_names(settings))}")
    say(f"CA pin: {authorities.server_ca.pin}")
    return authorities.server_ca.pin


async def _ensure_admin(database: Database, admin: AdminChoice, say: Say) -> None:
    email = users.normal_email(admin.email) if admin.email else await _present_admin(database)
    try:
        user = await users.get_by_email(database, email)
    except NotFound:
        password = _choose_password(email, admin, say)
        hashed = await asyncio.to_thread(passwords.hash_password, password)
        await users.create_user(database, email, "", hashed, [roles.ADMIN_ROLE])
        say(f"admin: created {email}")
        return
    if roles.ADMIN_ROLE not in user.roles:
        await users.set_roles(database, user.id, [*user.roles, roles.ADMIN_ROLE])
        say(f"admin: {email} has the role {roles.ADMIN_ROLE} now")
    if user.password_hash is None or admin.password is not None:
        await _set_password(database, user, admin, say)
    else:
        say(f"admin: kept {email}")


async def _set_password(
    database: Database, user: users.UserRecord, admin: AdminChoice, say: Say
) -> None:
    password = _choose_password(user.email, admin, say)
    # Setting the same password again would end every login of the admin for nothing.
    if await asyncio.to_thread(passwords.check_password, password, user.password_hash):
        say(f"admin: kept {user.email}")
        return
    hashed = await asyncio.to_thread(passwords.hash_password, password)
    await users.set_password(database, user.id, hashed)
    say(f"admin: {user.email} has a new password")


async def _present_admin(database: Database) -> str:
    admins = [user for user in await users.list_users(database) if roles.ADMIN_ROLE in user.roles]
    return admins[0].email if admins else DEFAULT_ADMIN


def _choose_password(email: str, admin: AdminChoice, say: Say) -> str:
    password = admin.password if admin.password is not None else admin.ask(email)
    if not password:
        password = secrets.token_urlsafe(GENERATED_PASSWORD_BYTES)
        say(f"admin: the password of {email}, shown only now, is {password}")
    check_password(password)
    return password
