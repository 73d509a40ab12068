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
    target, sources = cache_folder() / "rust", cache_folder() / "rust-sources"
    target.mkdir(parents=True, exist_ok=True)
    if problem := _lay_out(sources, cargo):
        return problem
    words = [cargo, "build", "--locked", "--quiet", "--target-dir", str(target)]
    if problem := installing.run(words, sources):
        return problem
    return DriverClient([str(target / "debug" / "conformance")]).introduce()


def _lay_out(folder: Path, cargo: str) -> str:
    """Copy the sources, with a lock that names the registry as this cargo does; why it failed.

    The lock that is kept names none: a machine may have a registry of its own.
    """
    shutil.copytree(SOURCES, folder, dirs_exist_ok=True)
    lock = folder / "Cargo.lock"
    kept = lock.read_text()
    lock.unlink()
    if problem := installing.run([cargo, "generate-lockfile", "--quiet"], folder):
        return problem
    made = lock.read_text().splitlines()
    named = next(line for line in made if line.startswith("source = "))
    lock.write_text(kept.replace('source = "registry"', named))
    return ""
