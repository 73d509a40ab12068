"""Fetches the JavaScript and Java clients and compiles their first steps, once for each version.

They are kept in the user's cache folder by the hash of the files that name versions and of the Java
sources; the folder's path is printed:

    export MK8S_TEST_CLIENTS=$(python -m tests.first_steps.build)

Needs npm with node, mvn with a JDK of Java 17 or newer; packages come from the registries that
these are set up for. (The Python client is one of the tests' own dependencies.)
"""

import hashlib
import shlex
import shutil
import sys
from pathlib import Path

from tests.conformance import installing

SOURCES = Path(__file__).resolve().parent
BUILT_FROM = ("package.json", "pom.xml", "FirstSteps.java", "Fabric8.java")
SECONDS = 900
NPM = ("npm", "install", "--no-audit", "--no-fund", "--ignore-scripts")
MAVEN = ("mvn", "-q", "-B", "dependency:copy-dependencies", "-DincludeScope=runtime")
"""Copies to `target/dependency`."""
JAVAC = ("javac", "-nowarn", "-cp", "target/dependency/*", "-d", "classes", *BUILT_FROM[2:])


def build() -> Path:
    """The folder, filled if it was not before."""
    if missing := [name for name in ("node", "npm", "mvn", "javac") if not shutil.which(name)]:
        sys.exit(f"missing: {', '.join(missing)}")
    files = {name: (SOURCES / name).read_text() for name in BUILT_FROM}
    digest = hashlib.sha256("".join(files.values()).encode()).hexdigest()[:16]
    folder = installing.cache_folder() / f"first-steps-{digest}"
    commands = " && ".join(map(shlex.join, (NPM, MAVEN, JAVAC)))
    if problem := installing.install(folder, ["sh", "-c", commands], files, seconds=SECONDS):
        sys.exit(problem)
    return folder


if __name__ == "__main__":
    print(build())
