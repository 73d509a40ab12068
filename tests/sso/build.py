"""Fetches the identity providers of the tests, once for each version: Keycloak and oidc-provider.

They are kept in the user's cache folder; the folder's path is printed:

    export MK8S_TEST_PROVIDERS=$(python -m tests.sso.build)

Needs mvn with Java 17 or newer, npm with node; packages come from the registries that these are
set up for. Keycloak adapts its own code on its first start, which takes half a minute: it is
started here once, so that the tests find it ready.
"""

import hashlib
import shlex
import shutil
import sys
import tempfile
from pathlib import Path

from tests.conformance import installing
from tests.sso import keycloak_server

SOURCES = Path(__file__).resolve().parent
NPM_FILES = ("package.json", "package-lock.json")
SECONDS = 900
NPM = ("npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts")
MAVEN = (
    "mvn",
    "-q",
    "-B",
    "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:unpack",
    f"-Dartifact=org.keycloak:keycloak-quarkus-dist:{keycloak_server.VERSION}:zip",
    "-DoutputDirectory=.",
)
WARM = "warm"


def build() -> Path:
    """The folder, filled if it was not before."""
    if missing := [name for name in ("node", "npm", "mvn", "java") if not shutil.which(name)]:
        sys.exit(f"missing: {', '.join(missing)}")
    files = {name: (SOURCES / name).read_text() for name in NPM_FILES}
    digest = hashlib.sha256("".join((*files.values(), *MAVEN)).encode()).hexdigest()[:16]
    folder = installing.cache_folder() / f"providers-{digest}"
    commands = " && ".join(map(shlex.join, (MAVEN, NPM)))
    if problem := installing.install(folder, ["sh", "-c", commands], files, seconds=SECONDS):
        sys.exit(problem)
    if not (folder / WARM).exists():
        with tempfile.TemporaryDirectory() as scratch:
            keycloak_server.start_once(folder, Path(scratch))
        (folder / WARM).touch()
    return folder


if __name__ == "__main__":
    print(build())
