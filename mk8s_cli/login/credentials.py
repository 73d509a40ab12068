"""Where the refresh token lives: the OS keyring, or a 0600 file where there is no usable keyring.

Called by the login, the logout and the refresh. The order is fixed: the keyring first; a backend
that is absent, null or broken is not fatal, it costs one warning line and the file is used from
then on.
"""

import json
from pathlib import Path
from types import ModuleType

from mk8s_cli.login.token_cache import home_directory
from mk8s_cli.terminal.errors import CliError
from mk8s_cli.terminal.private_files import ensure_directory, locked, read_private, write_private
from mk8s_cli.terminal.screen import one_line, warn

SERVICE = "mk8s"
KEYRING, FILE = "keyring", "file"
LOCK_SECONDS = 10.0


def _account(central: str, email: str) -> str:
    return f"{central} {email}"


def _file() -> Path:
    return home_directory() / "credentials.json"


def save(central: str, email: str, refresh_token: str, *, prefer: str = KEYRING) -> str:
    """Store the refresh token and return where it went, "keyring" or "file".

    `prefer` "file" skips the keyring (and its import) where it was found unusable before.
    """
    if prefer == KEYRING:
        trouble = _save_in_keyring(_account(central, email), refresh_token)
        if not trouble:
            return KEYRING
        warn(f"{trouble}; the refresh token is kept in {_file()} (mode 0600)")
    _change_file(_account(central, email), refresh_token)
    return FILE


def load(central: str, email: str, where: str) -> str:
    """Return the stored refresh token, "" for none; raise `CliError` if it is out of reach."""
    account = _account(central, email)
    if where != KEYRING:
        return _read_file().get(account, "")
    backend = _keyring()
    if backend is None:
        raise CliError(
            f"the keyring that holds your login is not usable; run: mk8s login {central}"
        )
    try:
        return backend.get_password(SERVICE, account) or ""
    except Exception as error:
        # Backends raise what they like; none of it is a bug of ours.
        raise CliError(f"the keyring refused ({_brief(error)}); unlock it and try again") from error


def delete(central: str, email: str) -> None:
    """Forget the refresh token wherever it is."""
    account = _account(central, email)
    if account in _read_file():
        _change_file(account, "")
    backend = _keyring()
    if backend is None:
        return
    try:
        if backend.get_password(SERVICE, account) is not None:
            backend.delete_password(SERVICE, account)
    except Exception as error:  # noqa: BLE001
        warn(f"the keyring refused to forget the login ({_brief(error)})")


def _keyring() -> ModuleType | None:
    """Return the keyring module if a real backend stands behind it."""
    try:
        import keyring
        from keyring.backends import fail, null

        backend = keyring.get_keyring()
    except Exception:  # noqa: BLE001
        return None
    return None if isinstance(backend, (fail.Keyring, null.Keyring)) else keyring


def _save_in_keyring(account: str, refresh_token: str) -> str:
    """Store it; return "" or what went wrong."""
    backend = _keyring()
    if backend is None:
        return "this machine has no usable keyring"
    try:
        backend.set_password(SERVICE, account, refresh_token)
    except Exception as error:  # noqa: BLE001
        return f"the keyring refused ({_brief(error)})"
    return ""


def _brief(error: Exception) -> str:
    return one_line(f"{type(error).__name__}: {error}")[:120]


def _read_file() -> dict[str, str]:
    content = read_private(_file())
    try:
        entries = json.loads(content) if content else {}
    except ValueError:
        entries = {}
    if not isinstance(entries, dict):
        return {}
    return {key: value for key, value in entries.items() if isinstance(value, str)}


def _change_file(account: str, refresh_token: str) -> None:
    """Set or, with "", remove one entry; other accounts stay."""
    ensure_directory(home_directory())
    with locked(home_directory() / ".credentials.lock", LOCK_SECONDS):
        entries = _read_file()
        entries.pop(account, None)
        if refresh_token:
            entries[account] = refresh_token
        if entries:
            write_private(_file(), json.dumps(entries, indent=1).encode())
        else:
            _file().unlink(missing_ok=True)
