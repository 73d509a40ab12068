"""The Rust client kube-rs: a small program of the runner, built with the cargo found here."""

import shutil
from pathlib import Path

from tests.conformance import installing
from tests.conformance.driver_client import DriverClient
from tests.conformance.installing import cache_folder

SOURCES = Path(__file__).with_name("drivers") / "rust"


def client() -> DriverClient | str:
    """The client, or why there is none."""
    cargo = shutil.which("cargo") or shutil.which("cargo", path=str(Path.home() / ".cargo/bin"))
    if not cargo:
        return "cargo is not installed"
    target = cache_folder() / "rust"
    target.mkdir(parents=True, exist_ok=True)
    words = [cargo, "build", "--locked", "--quiet", "--target-dir", str(target)]
    if problem := installing.run(words, SOURCES):
        return problem
    return DriverClient([str(target / "debug" / "conformance")]).introduce()
