"""The official JavaScript client: installed by npm into a cache folder, driven by a .mjs file."""

import re
import shutil
import subprocess
from pathlib import Path

from tests.conformance import installing
from tests.conformance.driver_client import DriverClient
from tests.conformance.installing import cache_folder

PACKAGE = "@kubernetes/client-node"
NEEDS_NODE = (22, 19)
"""For version 2 and later; older ones get version 1."""
_QUIETLY = ("--no-audit", "--no-fund", "--ignore-scripts")


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
    """Fill a folder with packages of npm, once; why not, if it failed."""
    return installing.install(folder, command, {"package.json": '{"private": true}\n'})


def _package(node: str) -> str:
    """The newest version that this node can run."""
    told = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=30).stdout
    found = re.match(r"v(\d+)\.(\d+)", told)
    new = found is not None and (int(found[1]), int(found[2])) >= NEEDS_NODE
    return PACKAGE if new else f"{PACKAGE}@1"
