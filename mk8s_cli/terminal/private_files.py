"""Files that hold secrets: 0600, never through a link, replaced in one step, locked.

Called by the configuration, the token cache and the credential store. Attack E8: a token on disk
that others can read, or a planted link that makes us write elsewhere.
"""

import errno
import fcntl
import os
import random
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mk8s_cli.terminal.errors import CliError, UnsafeFile

OTHERS_WRITE = 0o022
OTHERS_ANY = 0o077
MAX_BYTES = 1 << 20
"""No file of ours is near 1 MiB; a larger one is not ours."""


def ensure_directory(path: Path) -> None:
    """Make a 0700 directory, or accept one that is ours and that others cannot write to."""
    if not path.parent.exists():
        # mkdir(parents=True) would make these with the mode of the umask.
        ensure_directory(path.parent)
    path.mkdir(mode=0o700, exist_ok=True)
    status = path.stat()
    if status.st_uid not in {os.geteuid(), 0} or status.st_mode & OTHERS_WRITE:
        raise UnsafeFile(f"{path} can be changed by other users; run: chmod 700 {path}")


def read_private(path: Path) -> bytes | None:
    """Return the content, None if there is no file; raise `UnsafeFile` unless it is ours alone."""
    try:
        # O_NONBLOCK: opening a planted FIFO must not wait for its writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UnsafeFile(f"{path} cannot be read ({_reason(error)}); remove it") from error
    try:
        _check(os.fstat(descriptor), path)
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(MAX_BYTES)
    finally:
        os.close(descriptor)


def _check(status: os.stat_result, path: Path) -> None:
    if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
        raise UnsafeFile(f"{path} is not a file of yours; remove it")
    if status.st_mode & OTHERS_ANY:
        raise UnsafeFile(f"{path} can be read by other users; run: chmod 600 {path}")


def _reason(error: OSError) -> str:
    return "it is a symbolic link" if error.errno == errno.ELOOP else error.strerror or str(error)


def write_private(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Replace `path` with `content` in one step; a link at `path` is replaced, not followed."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{random.getrandbits(48):012x}.tmp")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with os.fdopen(os.open(temporary, flags, mode), "wb") as file:
            # The mode of os.open is cut by the umask, a kept one must not be.
            os.fchmod(file.fileno(), mode)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise CliError(f"cannot write {path}: {error.strerror or error}") from error


@contextmanager
def locked(path: Path, timeout: float) -> Iterator[None]:
    """Hold the exclusive lock file `path` (flock, freed by the kernel if we die).

    Waits `timeout` seconds at most, then raises `CliError`.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, 0o600)
    except OSError as error:
        raise UnsafeFile(f"{path} cannot be opened ({_reason(error)}); remove it") from error
    try:
        _wait_for(descriptor, path, time.monotonic() + timeout)
        yield
    finally:
        os.close(descriptor)


def _wait_for(descriptor: int, path: Path, deadline: float) -> None:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise CliError(f"another mk8s has held {path} for too long; try again") from None
            time.sleep(random.uniform(0.01, 0.04))  # noqa: S311  spreads the waiters, no secret
        else:
            return
