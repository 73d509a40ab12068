"""Fetches the JavaScript and Java clients and compiles their first steps, once for each version.

They are kept in the user's cache folder by the hash of the files that name versions and of the Java
sources; the folder's path is printed:

    export MK8S_TEST_CLIENTS=$(python -m tests.first_steps.build)

Needs npm with node, mvn with a JDK of Java 17 or newer; packages come from the registries that
these are set up for. (The Python client is one of the tests' own dependencies.)
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

SOURCES = Path(__file__).resolve().parent
BUILT_FROM = ("package.json", "pom.xml", "FirstSteps.java", "Fabric8.java")
COMMAND_SECONDS = 900
NPM = ("npm", "install", "--no-audit", "--no-fund", "--ignore-scripts")
MAVEN = ("mvn", "-q", "-B", "dependency:copy-dependencies", "-DincludeScope=runtime")
"""Maven copies to `target/dependency`."""
JARS = "target/dependency/*"
KEPT = 3
"""Folders of other versions that stay, the newest ones."""


def commands() -> list[list[str]]:
    """What fills a folder that has the sources in it."""
    if missing := [it for it in ("node", "npm", "mvn", "javac") if shutil.which(it) is None]:
        sys.exit(f"missing: {', '.join(missing)}")
    sources = [name for name in BUILT_FROM if name.endswith(".java")]
    compiler = ["javac", "-nowarn", "-cp", JARS, "-d", "classes", *sources]
    return [[*NPM], [*MAVEN], compiler]


def build() -> Path:
    """The folder, filled if it was not before."""
    content = b"".join((SOURCES / name).read_bytes() for name in BUILT_FROM)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mk8s-first-steps"
    cache.mkdir(parents=True, exist_ok=True)
    folder = cache / hashlib.sha256(content).hexdigest()[:16]
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            fresh = folder.with_suffix(".new")
            shutil.rmtree(fresh, ignore_errors=True)
            fresh.mkdir()
            for name in BUILT_FROM:
                shutil.copy(SOURCES / name, fresh)
            for command in commands():
                subprocess.run(
                    command, cwd=fresh, check=True, stdout=sys.stderr, timeout=COMMAND_SECONDS
                )
            fresh.rename(folder)
        folder.touch()
        others = sorted(cache.glob("?" * 16), key=lambda it: it.stat().st_mtime, reverse=True)
        for old in others[1 + KEPT :]:
            shutil.rmtree(old)
    return folder


if __name__ == "__main__":
    print(build())
