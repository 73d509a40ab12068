"""What comes from Go's module proxy: client-go in a driver of ours, and programs as they are."""

import os
import shutil
from pathlib import Path

from tests.conformance import installing
from tests.conformance.driver_client import DriverClient
from tests.conformance.installing import cache_folder

SOURCES = Path(__file__).with_name("drivers") / "go"
INSTALLS = 'GOBIN="$PWD" CGO_ENABLED=0 exec "$1" install "$2"'
"""A program from its module's own go.mod, in a folder of its own."""


def client() -> DriverClient | str:
    """The client, or why there is none."""
    go = _go()
    if not go:
        return "go is not installed"
    driver = cache_folder() / "go" / "driver"
    driver.parent.mkdir(parents=True, exist_ok=True)
    words = [go, "build", "-mod=readonly", "-o", str(driver), "."]
    if problem := installing.run(words, SOURCES):
        return problem
    return DriverClient([str(driver)]).introduce()


def program(package: str, version: str, listed: str) -> tuple[str, str]:
    """A program's binary, or "" and why there is none.

    Args:
        package: what `go install` calls it; its last word is the program's name.
        version: e.g. v4.3.2.
        listed: the variable that may name a binary instead; without go, the one on PATH is taken.
    """
    name = package.rsplit("/", 1)[-1]
    go = _go()
    if given := os.environ.get(listed) or (None if go else shutil.which(name)):
        return given, ""
    if not go:
        return "", f"no {name}: set {listed}, or install go"
    folder = cache_folder() / f"{name}-{version}"
    words = ["sh", "-c", INSTALLS, "sh", go, f"{package}@{version}"]
    problem = installing.install(folder, words, seconds=installing.BUILD_SECONDS)
    return ("", f"{name} {version}: {problem}") if problem else (str(folder / name), "")


def _go() -> str | None:
    """The go command, also where it is installed but not on PATH."""
    return shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
