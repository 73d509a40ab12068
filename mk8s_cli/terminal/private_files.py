"""Files that hold secrets: 0600, never through a link, replaced in one step, locked.

Called by the configuration, the token cache and the credential store. Attack E8: a token on disk
that others can read, or a planted link that makes us write elsewhere. On Windows there are no such
modes; a profile's folder is private there by its access list, which new files inherit.

The fast path of `mk8s get-token` reads by it, so what only writers need is imported by them.
"""

import errno
import os
import stat
import time

from mk8s_cli.terminal.errors import CliError, UnsafeFile, Unwritable
from mk8s_cli.terminal.interpreter import WINDOWS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path

    from filelock import BaseFileLock

OTHERS_WRITE = 0o022
OTHERS_ANY = 0o077
MAX_BYTES = 1 << 20
"""No file of ours is near 1 MiB; a larger one is not ours."""
POLL_SECONDS = 0.03
REPLACE_TRIES = 20
"""Windows refuses to replace a file in the moment in which somebody else reads it."""

_HAS_MODES = hasattr(os, "geteuid")
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
_PLAIN = _NO_FOLLOW | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_ELSEWHERE = "set MK8S_HOME to a folder that you can write to"
_FULL = frozenset({errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)})


def ensure_directory(path: "Path") -> None:
    """Make a 0700 directory, or accept one that is ours and that others cannot write to."""
    if not path.parent.exists():
        # mkdir(parents=True) would make these with the mode of the umask.
        ensure_directory(path.parent)
    try:
        path.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise unwritable(path, error) from error
    if not _HAS_MODES:
        return
    status = path.stat()
    if status.st_uid not in {os.geteuid(), 0} or status.st_mode & OTHERS_WRITE:
        raise UnsafeFile(f"{path} can be changed by other users; run: chmod 700 {_quoted(path)}")


def require_writable(directory: "Path") -> None:
    """Raise `Unwritable` if it is known beforehand that nothing can be kept in `directory`."""
    existing = next(path for path in (directory, *directory.absolute().parents) if path.exists())
    if not os.access(existing, os.W_OK):
        raise Unwritable(f"{directory} cannot be written; {_ELSEWHERE}")


def read_private(path: "Path | str") -> bytes | None:
    """Return the content, None if there is no file; raise `UnsafeFile` unless it is ours alone."""
    try:
        _refuse_link(path)
        # O_NONBLOCK: opening a planted FIFO must not wait for its writer.
        descriptor = os.open(path, os.O_RDONLY | _PLAIN | getattr(os, "O_NONBLOCK", 0))
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


def _check(status: os.stat_result, path: "Path | str") -> None:
    if not stat.S_ISREG(status.st_mode) or (_HAS_MODES and status.st_uid != os.geteuid()):
        raise UnsafeFile(f"{path} is not a file of yours; remove it")
    if _HAS_MODES and status.st_mode & OTHERS_ANY:
        raise UnsafeFile(f"{path} can be read by other users; run: chmod 600 {_quoted(path)}")


def _quoted(path: "Path | str") -> str:
    import shlex

    return shlex.quote(str(path))


def _refuse_link(path: "Path | str") -> None:
    """Raise what `O_NOFOLLOW` would, where the system has no such flag."""
    if not _NO_FOLLOW and os.path.islink(path):  # noqa: PTH114
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))


def _reason(error: OSError) -> str:
    return "it is a symbolic link" if error.errno == errno.ELOOP else error.strerror or str(error)


def unwritable(path: "Path", error: OSError, otherwise: str = _ELSEWHERE) -> Unwritable:
    """Return the line for a file that cannot be written: what happened and what to do."""
    is_full = error.errno in _FULL
    advice = "make room and try again" if is_full else otherwise
    return Unwritable(f"cannot write {path}: {error.strerror or error}; {advice}", is_full=is_full)


def write_private(
    path: "Path", content: bytes, mode: int = 0o600, *, otherwise: str = _ELSEWHERE
) -> None:
    """Replace `path` with `content` in one step; a link at `path` is replaced, not followed.

    Raises `Unwritable` if it cannot; `otherwise` is what a person can do about it then.
    """
    import random

    temporary = path.with_name(f".{path.name}.{os.getpid()}.{random.getrandbits(48):012x}.tmp")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _PLAIN
    try:
        with os.fdopen(os.open(temporary, flags, mode), "wb") as file:
            if _HAS_MODES:
                # The mode of os.open is cut by the umask, a kept one must not be.
                os.fchmod(file.fileno(), mode)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        _replace(temporary, path)
    except OSError as error:
        _discard(temporary)
        raise unwritable(path, error, otherwise) from error


def _replace(temporary: "Path", path: "Path") -> None:
    for left in reversed(range(REPLACE_TRIES)):
        try:
            temporary.replace(path)
        except PermissionError:
            if not WINDOWS or not left:
                raise
            time.sleep(POLL_SECONDS)
        else:
            return


def _discard(temporary: "Path") -> None:
    try:
        temporary.unlink(missing_ok=True)
    except OSError:
        return  # what kept us from writing may keep us from this, too


class locked:  # noqa: N801  used as a function: `with locked(path, seconds):`
    """Hold the exclusive lock file `path`, which the system frees if we die.

    Waits `timeout` seconds at most.

    Raises:
        CliError: another process holds it for longer.
        UnsafeFile: it is a link.
        Unwritable: it cannot be made.
    """

    def __init__(self, path: "Path", timeout: float) -> None:
        """Nothing is held yet."""
        self._path = path
        self._timeout = timeout
        self._lock: BaseFileLock | None = None

    def __enter__(self) -> None:
        # Not needed for a cached token, and some file systems are asked things at its import.
        from filelock import FileLock, Timeout

        path = self._path
        if path.is_symlink():
            raise UnsafeFile(f"{path} cannot be opened (it is a symbolic link); remove it")
        self._lock = FileLock(path, timeout=self._timeout, mode=0o600)
        try:
            self._lock.acquire(poll_interval=POLL_SECONDS)
        except Timeout:
            raise CliError(f"another mk8s has held {path} for too long; try again") from None
        except NotImplementedError:  # filelock's word for a file system that has no flock
            raise CliError(f"{path} is on a file system without locks; {_ELSEWHERE}") from None
        except OSError as error:
            raise unwritable(path, error) from error

    def __exit__(self, *_: object) -> None:
        if self._lock is not None:
            self._lock.release()
