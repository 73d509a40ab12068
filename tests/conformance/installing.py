"""Clients that are installed or built from their registries: each once, whole, in a cache folder.

A folder's name has the version, so that another version is another folder; whoever else installs
the same at the same time waits for the first.
"""

import fcntl
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

CACHE = "MK8S_TEST_CACHE"
INSTALL_SECONDS = 180
BUILD_SECONDS = 1800
"""A large Go program or a Rust library from nothing, on a machine that does other things too."""
_WHOLE = ".whole"


def cache_folder() -> Path:
    """Where downloads of the runner stay: MK8S_TEST_CACHE, or a folder of the user's cache."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mk8s-conformance"
    return Path(os.environ.get(CACHE) or default)


def install(
    folder: Path,
    command: list[str],
    files: Mapping[str, str] | None = None,
    *,
    seconds: float = INSTALL_SECONDS,
) -> str:
    """Fill a folder once, whoever else does so at the same time; why not, if it failed.

    The folder is there only when it is whole: a run that was cut short leaves nothing that the next
    one takes for an installation.

    Args:
        folder: what is to be there in the end.
        command: run in a fresh folder that becomes `folder` when it succeeds.
        files: names and contents that the fresh folder begins with.
        seconds: for the command.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (folder / _WHOLE).exists():
            return ""
        fresh = folder.with_name(f"{folder.name}.new")
        for half_done in (fresh, folder):
            shutil.rmtree(half_done, ignore_errors=True)
        fresh.mkdir()
        for name, content in (files or {}).items():
            (fresh / name).write_text(content)
        if problem := run(command, fresh, seconds=seconds):
            return problem
        (fresh / _WHOLE).touch()
        fresh.rename(folder)
        return ""


def run(command: list[str], folder: Path, *, seconds: float = BUILD_SECONDS) -> str:
    """Run a build to its end, behind whatever else the machine does; why it failed, if it did."""
    nicely = ["nice", *command] if shutil.which("nice") else command
    try:
        done = subprocess.run(
            nicely,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        return f"{command[0]} took over {seconds:.0f} s"
    if done.returncode == 0:
        return ""
    said = " ".join((done.stderr.strip() or done.stdout).split())
    return f"{Path(command[0]).name} could not install it: {said[-200:]}"
