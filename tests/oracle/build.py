"""Builds the oracles from their Go sources, once for each version of them and of Go.

They are kept in the user's cache folder, and the path of the first one is printed:

    export MK8S_TEST_ORACLE=$(python -m tests.oracle.build)

Needs the go command; modules come from the module proxy that it is set up for.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

SOURCES = Path(__file__).resolve().parent
COBRA = SOURCES / "cobra"
"""The sources of another program: how kubectl's libraries read a command line."""
BUILT_FROM = ("main.go", "go.mod", "go.sum")


def go_command() -> str:
    """The go command, also where it is installed but not on PATH."""
    found = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
    if found is None:
        sys.exit("the go command is missing: install Go 1.26 or newer")
    return found


def build(sources: Path = SOURCES) -> Path:
    """The program, built if these sources were not built before."""
    environment = os.environ | {"CGO_ENABLED": "0", "GOWORK": "off", "GOFLAGS": "-mod=readonly"}
    version = subprocess.run(
        [go_command(), "version"], env=environment, check=True, capture_output=True
    )
    content = version.stdout + b"".join((sources / name).read_bytes() for name in BUILT_FROM)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mk8s-oracle"
    cache.mkdir(parents=True, exist_ok=True)
    program = cache / hashlib.sha256(content).hexdigest()[:16]
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.exists():
            fresh = program.with_suffix(".new")
            command = [go_command(), "build", "-o", str(fresh), "."]
            subprocess.run(command, cwd=sources, env=environment, check=True, stdout=sys.stderr)
            fresh.rename(program)
    return program


if __name__ == "__main__":
    build(COBRA)  # found by its sources: it is small, and few tests ask it
    print(build())
