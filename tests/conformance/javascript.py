"""The official JavaScript client: installed by npm into a cache folder, driven by a .mjs file."""

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
    if not (folder / "node_modules" / PACKAGE).is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "package.json").write_text('{"private": true}\n')
        words = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", _package(node)]
        done = subprocess.run(
            words, cwd=folder, capture_output=True, text=True, timeout=INSTALL_SECONDS
        )
        if done.returncode != 0:
            return f"npm could not install it: {done.stderr.strip()[-200:]}"
    driver = Path(__file__).with_name("drivers") / "official.mjs"
    return DriverClient([node, str(driver)], {"NODE_MODULES_AT": str(folder)}).introduce()


def _package(node: str) -> str:
    """The newest version that this node can run."""
    told = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=30).stdout
    found = re.match(r"v(\d+)\.(\d+)", told)
    new = found is not None and (int(found[1]), int(found[2])) >= NEEDS_NODE
    return PACKAGE if new else f"{PACKAGE}@1"
