"""The Java client fabric8: copied by Maven into a cache folder; javac builds the driver."""

import hashlib
import re
import shutil
from pathlib import Path

from tests.conformance import installing
from tests.conformance.driver_client import DriverClient
from tests.conformance.installing import cache_folder

SOURCES = Path(__file__).with_name("drivers") / "java"
PACKAGE = "kubernetes-client"
_COPY = ("-B", "-q", "dependency:copy-dependencies", "-DoutputDirectory=.")


def client() -> DriverClient | str:
    """The client, or why there is none."""
    java, javac = shutil.which("java"), shutil.which("javac")
    if not java or not javac:
        return "java and javac are not installed"
    pom = SOURCES / "pom.xml"
    version = _version(pom)
    jars, problem = dependencies(pom, f"fabric8-{version}")
    if problem:
        return problem
    source = SOURCES / "Driver.java"
    classes = cache_folder() / f"fabric8-driver-{_mark(pom, source)}"
    words = [javac, "-cp", f"{jars}/*", "-d", ".", str(source)]
    if problem := installing.install(classes, words):
        return problem
    command = [java, "-cp", f"{jars}/*:{classes}", "Driver"]
    return DriverClient(command, last_words=(version,)).introduce()


def dependencies(pom: Path, name: str) -> tuple[Path, str]:
    """The folder of the cache with the JARs of a pom.xml, and why it is not there ("" when it is).

    Args:
        pom: of a project whose dependencies are wanted; it is not built.
        name: how the folder's begins; another pom.xml is another folder.
    """
    folder = cache_folder() / f"{name}-{_mark(pom)}"
    maven = shutil.which("mvn")
    if not maven:
        return folder, "mvn is not installed"
    words = [maven, *_COPY]
    return folder, installing.install(
        folder, words, {"pom.xml": pom.read_text()}, seconds=installing.BUILD_SECONDS
    )


def _mark(*files: Path) -> str:
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]


def _version(pom: Path) -> str:
    """The version that the pom.xml asks for."""
    found = re.search(rf"<artifactId>{PACKAGE}</artifactId>\s*<version>(.+?)<", pom.read_text())
    assert found, f"{pom} asks for no {PACKAGE}"
    return found[1]
