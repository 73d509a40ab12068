"""The kubeconfig files: found, locked and replaced the way kubectl does it.

Called by the commands. The rules are client-go's clientcmd (loader.go, config.go): the KUBECONFIG
list without duplicates and missing files, else ~/.kube/config; `<file>.lock`, made with O_EXCL, for
every file of the list in sorted order. Unlike kubectl we write a new file and rename it.
"""

import os
import random
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from mk8s_cli.login import service_token
from mk8s_cli.login.token_cache import home_directory
from mk8s_cli.terminal.errors import CliError
from mk8s_cli.terminal.interpreter import ALONE, WINDOWS, lives_in_python_path
from mk8s_cli.terminal.private_files import (
    ensure_directory,
    read_private,
    unwritable,
    write_private,
)

if TYPE_CHECKING:
    from mk8s_cli.kubeconfig.document import Document
    from mk8s_cli.kubeconfig.entries import Kubeconfig, Plugin

LOCK_SECONDS = 5.0
"""kubectl holds its lock for milliseconds; one that stays was left by a killed program."""
_LOCK_MODE = 0o600 if WINDOWS else 0
"""Without a right to write, as kubectl makes it, Windows would not let us remove it again."""
_REMOVE = "del" if WINDOWS else "rm"
_ELSEWHERE = "set KUBECONFIG to a file that you can write to"


def listed_paths() -> tuple[Path, ...]:
    """Return the files that kubectl reads, existing or not, in their order."""
    names = [name for name in os.environ.get("KUBECONFIG", "").split(os.pathsep) if name]
    found = [Path(name).absolute() for name in names] or [_home() / ".kube" / "config"]
    return tuple(dict.fromkeys(found))


def _home() -> Path:
    """Return the folder in which kubectl looks for .kube (client-go's util/homedir)."""
    if not WINDOWS:
        try:
            return Path.home()
        except RuntimeError:
            raise CliError("this user has no home directory; set HOME or KUBECONFIG") from None
    drive = os.environ.get("HOMEDRIVE", "") + os.environ.get("HOMEPATH", "")
    home, profile = (os.environ.get(name, "") for name in ("HOME", "USERPROFILE"))
    in_use = [Path(name) for name in (home, drive, profile) if name]
    preferred = [Path(name) for name in (home, profile, drive) if name]
    found = [path for path in in_use if (path / ".kube" / "config").exists()]
    found += [path for path in preferred if path.exists()]
    if not found:
        raise CliError("this user has no home directory; set HOME or KUBECONFIG")
    return found[0]


def target_path(paths: Sequence[Path]) -> Path:
    """Return the file that new entries go to: the first that exists, or the last of the list."""
    return next((path for path in paths if path.exists()), paths[-1])


def read(paths: Sequence[Path] | None = None) -> "Kubeconfig":
    """Return the merged view of `paths` (default: what kubectl reads), to look at only."""
    from mk8s_cli.kubeconfig.entries import Kubeconfig

    return Kubeconfig([document for _, document in _documents(paths or listed_paths())])


@contextmanager
def editing(paths: Sequence[Path] | None = None) -> "Iterator[Kubeconfig]":
    """Give the merged view under kubectl's locks and write what was changed in it.

    Nothing is written when the block raises, or when nothing changed.

    Raises:
        CliError: a file is malformed, cannot be written, or its lock does not come free.
    """
    from mk8s_cli.kubeconfig.entries import Kubeconfig

    paths = tuple(paths or listed_paths())
    with ExitStack() as locks:
        deadline = time.monotonic() + LOCK_SECONDS
        for path in sorted(paths):
            locks.enter_context(_locked(path, deadline))
        opened = _documents(paths)
        yield Kubeconfig([document for _, document in opened])
        for path, document in opened:
            if document.changed:
                _write(path, document)


def with_current(context: str) -> str:
    """Return a KUBECONFIG in which `context` is the current one and all else as it is.

    The file that says so is named after what it says, so many may use it at once, and cannot be
    written to: what kubectl keeps belongs into the files of the person. Raises `Unwritable`.
    """
    import hashlib

    from mk8s_cli.kubeconfig.document import empty, serialize

    document = empty()
    document.set_fields(document.root, {"current-context": context})
    content = serialize(document)
    path = home_directory() / "kubectl" / f"{hashlib.sha256(content).hexdigest()}.yaml"
    if read_private(path) != content:
        ensure_directory(path.parent)
        write_private(path, content, 0o400)
    return os.pathsep.join(str(it) for it in (path.absolute(), *listed_paths()))


def plugin() -> "Plugin":
    """Return how kubectl shall start this very program: by an absolute path, never by PATH.

    By its Python and not by the script, so that it starts at once without the Python environment
    that kubectl happens to run in (`terminal/interpreter.py`).
    """
    from mk8s_cli.kubeconfig.entries import Plugin

    home = os.environ.get("MK8S_HOME", "")
    environment: tuple[tuple[str, str], ...] = ()
    if home:
        environment = (("MK8S_HOME", str(Path(home).absolute())),)
    if service_token.in_use():
        environment += _of_job()
    # Not resolved: the link in a virtual environment is what makes it one.
    program = str(Path(sys.executable).absolute())
    if lives_in_python_path():
        environment += (("PYTHONPATH", os.environ["PYTHONPATH"]),)
        return Plugin(program, ("-P", "-m", "mk8s_cli"), environment)
    if archive := _archive():
        return Plugin(program, (*ALONE, archive), environment)
    return Plugin(program, (*ALONE, "-m", "mk8s_cli"), environment)


def _of_job() -> tuple[tuple[str, str], ...]:
    """Return what the plugin needs to know of a service token: where it is, never what it is."""
    files = (service_token.FILE_VARIABLE, service_token.AUTHORITY_FILE)
    found = [
        (name, str(Path(os.environ[name]).absolute())) for name in files if os.environ.get(name)
    ]
    pin = os.environ.get(service_token.AUTHORITY_PIN, "")
    if pin and not os.environ.get(service_token.AUTHORITY_FILE):
        found.append((service_token.AUTHORITY_PIN, pin))
    return tuple(found)


def _archive() -> str:
    """Return the one file that this program is, where it is one (mk8s.pyz); "" where installed."""
    spec = sys.modules[__name__].__spec__
    archive = getattr(spec and spec.loader, "archive", "")
    return str(Path(archive).absolute()) if archive else ""


def _documents(paths: Sequence[Path]) -> "list[tuple[Path, Document]]":
    # YAML and what is made of it, which commands that only name files need not pay for.
    from mk8s_cli.kubeconfig.document import empty, parse

    existing = [path for path in paths if path.exists()]
    if not existing:
        return [(paths[-1], empty())]
    return [(path, parse(_content(path), str(path))) for path in existing]


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CliError(f"cannot read the kubeconfig {path}: {error.strerror}") from error


def _write(path: Path, document: "Document") -> None:
    from mk8s_cli.kubeconfig.document import serialize

    # A link (dotfiles kept elsewhere) stays one: the file behind it is replaced.
    target = path.resolve()
    mode = target.stat().st_mode & 0o777 if target.exists() else 0o600
    write_private(target, serialize(document), mode, otherwise=_ELSEWHERE)


@contextmanager
def _locked(path: Path, deadline: float) -> Iterator[None]:
    lock = path.with_name(f"{path.name}.lock")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _take(lock, deadline)
    except OSError as error:
        raise unwritable(lock, error, _ELSEWHERE) from error
    try:
        yield
    finally:
        with suppress(FileNotFoundError):
            lock.unlink()


def _take(lock: Path, deadline: float) -> None:
    while True:
        try:
            os.close(os.open(lock, os.O_CREAT | os.O_EXCL, _LOCK_MODE))
        except FileExistsError:
            if time.monotonic() > deadline:
                raise CliError(
                    "the kubeconfig is locked by another program; "
                    f"if none is running: {_REMOVE} {lock}"
                ) from None
            time.sleep(random.uniform(0.02, 0.08))  # noqa: S311  spreads the waiters, no secret
        else:
            return
