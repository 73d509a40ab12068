"""The official JavaScript client: installed by npm into a cache folder, driven by a .mjs file."""

import fcntl
import os
import re
import shutil
import subprocess
from pathlib import Path

from tests.conformance.driver_client import DriverClient

CACHE = "MK8S_TEST_CACHE"
PACKAGE = "@kubernetes/client-node"
NEEDS_NODE = (22, 19)
"""For version 2 and later; older ones get version 1."""
INSTALL_SECONDS = 180
_QUIETLY = ("--no-audit", "--no-fund", "--ignore-scripts")
_WHOLE = ".whole"


def cache_folder() -> Path:
    """Where downloads of the runner stay: MK8S_TEST_CACHE, or a folder of the user's cache."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mk8s-conformance"
    return Path(os.environ.get(CACHE) or default)


def client() -> DriverClient | str:
    """The client, or why there is none."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if not node or not npm:
        return "node and npm are not installed"
    folder = cache_folder() / "js"
    if problem := install(folder, [npm, "install", *_QUIETLY, _package(node)]):
        return problem
    driver = Path(__file__).with_name("drivers") / "official.mjs"
    return DriverClient([node, str(driver)], {"NODE_MODULES_AT": str(folder)}).introduce()


def install(folder: Path, command: list[str]) -> str:
    """Fill a folder once, whoever else does so at the same time; why not, if it failed.

    The folder is there only when it is whole: a run that was cut short leaves nothing that the next
    one takes for an installation.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (folder / _WHOLE).exists():
            return ""
        fresh = folder.with_suffix(".new")
        for half_done in (fresh, folder):
            shutil.rmtree(half_done, ignore_errors=True)
        fresh.mkdir()
        (fresh / "package.json").write_text('{"private": true}\n')
        done = subprocess.run(
            command, cwd=fresh, capture_output=True, text=True, timeout=INSTALL_SECONDS
        )
        if done.returncode != 0:
            return f"npm could not install it: {done.stderr.strip()[-200:]}"
        (fresh / _WHOLE).touch()
        fresh.rename(folder)
        return ""


def _package(node: str) -> str:
    """The newest version that this node can run."""
    told = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=30).stdout
    found = re.match(r"v(\d+)\.(\d+)", told)
    new = found is not None and (int(found[1]), int(found[2])) >= NEEDS_NODE
    return PACKAGE if new else f"{PACKAGE}@1"
