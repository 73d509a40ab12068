"""The keyring of the operating system, which may be absent, broken, locked, or never answer.

Called by `credentials.py`. A keyring that is locked, or whose session bus is gone, can block for
ever, in its import even; so each use runs in a thread beside, and all uses of one process together
get `PATIENCE_SECONDS`. Who waits for kubectl must not wait for a dialog that nobody sees.
"""

import threading
import time
from collections.abc import Callable
from types import ModuleType

from mk8s_cli.terminal.screen import one_line

SERVICE = "mk8s"
PATIENCE_SECONDS = 3.0
LONGEST_REASON = 120


class KeyringUnusable(Exception):
    """The keyring did not do what was asked; the text says why."""

    def __init__(self, why: str, *, is_absent: bool = False) -> None:
        """`is_absent`: this machine has none, so nothing can be in it."""
        super().__init__(why)
        self.is_absent = is_absent


class _Patience:
    """What is left of the time that this process may spend in the keyring."""

    def __init__(self) -> None:
        self.left = PATIENCE_SECONDS


_patience = _Patience()


def store(account: str, secret: str) -> None:
    """Put `secret` into the keyring. Raises `KeyringUnusable`."""
    _ask(lambda backend: backend.set_password(SERVICE, account, secret))


def read(account: str) -> str:
    """Return the secret of `account`, "" for none. Raises `KeyringUnusable`."""
    return _ask(lambda backend: backend.get_password(SERVICE, account)) or ""


def forget(account: str) -> None:
    """Remove the secret of `account`, if there is one. Raises `KeyringUnusable`."""

    def remove(backend: ModuleType) -> None:
        if backend.get_password(SERVICE, account) is not None:
            backend.delete_password(SERVICE, account)

    _ask(remove)


def _ask(operation: Callable[[ModuleType], str | None]) -> str | None:
    outcome: list[str | KeyringUnusable | None] = []
    thread = threading.Thread(target=lambda: outcome.append(_outcome(operation)), daemon=True)
    started = time.monotonic()
    thread.start()
    thread.join(max(0.0, _patience.left))
    _patience.left -= time.monotonic() - started
    if not outcome:
        raise KeyringUnusable("the keyring does not answer (it may be locked)")
    (result,) = outcome
    if isinstance(result, KeyringUnusable):
        raise result
    return result


def _outcome(operation: Callable[[ModuleType], str | None]) -> str | KeyringUnusable | None:
    try:
        backend = _keyring()
        if backend is None:
            return KeyringUnusable("this machine has no usable keyring", is_absent=True)
        return operation(backend)
    except Exception as error:  # noqa: BLE001
        # Backends raise what they like; none of it is a bug of ours.
        told = one_line(f"{type(error).__name__}: {error}")[:LONGEST_REASON]
        return KeyringUnusable(f"the keyring refused ({told})")


def _keyring() -> ModuleType | None:
    """Return the keyring module if a real backend stands behind it."""
    try:
        import keyring
        from keyring.backends import fail, null

        backend = keyring.get_keyring()
    except Exception:  # noqa: BLE001
        return None
    return None if isinstance(backend, (fail.Keyring, null.Keyring)) else keyring
