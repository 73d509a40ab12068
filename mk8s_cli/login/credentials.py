"""Where the refresh token lives: the OS keyring, or a 0600 file where there is no usable keyring.

Called by the login, the logout and the refresh. The order is fixed: the keyring first (see
`keyring_access.py`); one that is absent, null, broken or blocked is not fatal, it costs one warning
line and the file is used from then on.

Beside each token lies its *attempt*, random bits that central is shown with its one use. If the
answer is lost, by Ctrl-C or a laptop that sleeps, the next process shows both again and is given
what was lost.
"""

import json
from pathlib import Path
from typing import NamedTuple

from mk8s_cli.login import keyring_access
from mk8s_cli.login.keyring_access import KeyringUnusable
from mk8s_cli.login.token_cache import home_directory
from mk8s_cli.terminal.errors import CliError
from mk8s_cli.terminal.private_files import ensure_directory, locked, read_private, write_private
from mk8s_cli.terminal.screen import warn

KEYRING, FILE = "keyring", "file"
LOCK_SECONDS = 10.0
ATTEMPT_BYTES = 32


class Stored(NamedTuple):
    """A refresh token as it is kept."""

    refresh_token: str
    """"" where there is none."""
    attempt: str
    """What its use is known by at central; "" for one that was stored without."""
    where: str
    """"keyring" or "file": where it was found, and where its successor goes."""


def _account(central: str, email: str) -> str:
    return f"{central} {email}"


def _file() -> Path:
    return home_directory() / "credentials.json"


def save(central: str, email: str, refresh_token: str, *, prefer: str = KEYRING) -> str:
    """Store the refresh token and return where it went, "keyring" or "file".

    `prefer` "file" skips the keyring (and its import) where it was found unusable before.
    """
    import secrets  # and with it OpenSSL's hashes, which nobody else here needs

    account = _account(central, email)
    # Central's tokens hold no blank.
    entry = f"{refresh_token} {secrets.token_urlsafe(ATTEMPT_BYTES)}"
    if prefer == KEYRING:
        try:
            keyring_access.store(account, entry)
        except KeyringUnusable as trouble:
            warn(f"{trouble}; the refresh token is kept in {_file()} (readable by you alone)")
        else:
            _remove_from_file(account)
            return KEYRING
    _change_file(account, entry)
    return FILE


def load(central: str, email: str, where: str) -> Stored:
    """Return the stored refresh token; raise `CliError` if it is out of reach."""
    account = _account(central, email)
    if where == KEYRING:
        try:
            return _stored(keyring_access.read(account), KEYRING)
        except KeyringUnusable as trouble:
            if account not in _read_file():
                raise CliError(
                    f"{trouble}; unlock it and try again, or run: mk8s login {central}"
                ) from trouble
            warn(f"{trouble}; the login kept in {_file()} is used")
    return _stored(_read_file().get(account, ""), FILE)


def delete(central: str, email: str) -> None:
    """Forget the refresh token wherever it is."""
    account = _account(central, email)
    _remove_from_file(account)
    try:
        keyring_access.forget(account)
    except KeyringUnusable as trouble:
        if not trouble.is_absent:
            warn(f"{trouble}, so it may still hold the login")


def _stored(entry: str, where: str) -> Stored:
    refresh_token, _, attempt = entry.partition(" ")
    return Stored(refresh_token, attempt, where)


def _remove_from_file(account: str) -> None:
    if account in _read_file():
        _change_file(account, "")


def _read_file() -> dict[str, str]:
    content = read_private(_file())
    try:
        entries = json.loads(content) if content else {}
    except ValueError:
        entries = {}
    if not isinstance(entries, dict):
        return {}
    return {key: value for key, value in entries.items() if isinstance(value, str)}


def _change_file(account: str, entry: str) -> None:
    """Set or, with "", remove one entry; other accounts stay."""
    ensure_directory(home_directory())
    with locked(home_directory() / ".credentials.lock", LOCK_SECONDS):
        entries = _read_file()
        entries.pop(account, None)
        if entry:
            entries[account] = entry
        if entries:
            write_private(_file(), json.dumps(entries, indent=1).encode())
        else:
            _file().unlink(missing_ok=True)
