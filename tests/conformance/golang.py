"""The Go client (k8s.io/client-go): a small program of the runner, built with the go found here."""

import shutil
import subprocess
from pathlib import Path

from tests.conformance.driver_client import DriverClient
from tests.conformance.javascript import cache_folder

SOURCES = Path(__file__).with_name("drivers") / "go"
BUILD_SECONDS = 600
"""The first build downloads and compiles client-go; later ones take a moment."""


def client() -> DriverClient | str:
    """The client, or why there is none."""
    go = shutil.which("go")
    if not go:
        return "go is not installed"
    driver = cache_folder() / "go" / "driver"
    driver.parent.mkdir(parents=True, exist_ok=True)
    words = [go, "build", "-mod=readonly", "-o", str(driver), "."]
    try:
        built = subprocess.run(
            words, cwd=SOURCES, capture_output=True, text=True, timeout=BUILD_SECONDS
        )
    except subprocess.TimeoutExpired:
        return f"go did not build client-go within {BUILD_SECONDS} s"
    if built.returncode != 0:
        return f"go could not build client-go: {' '.join(built.stderr.split())[-200:]}"
    return DriverClient([str(driver)]).introduce()
