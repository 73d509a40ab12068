"""Every client that this machine has, in the order of the table's columns."""

import importlib.util
import sys
from pathlib import Path

from tests.conformance import kubectl_client
from tests.conformance.client import Client
from tests.conformance.driver_client import DriverClient

CHECKOUT = str(Path(__file__).resolve().parents[2])


def all_clients() -> list[Client]:
    """The columns."""
    return [*kubectl_client.found(), *python_libraries()]


def python_libraries() -> list[Client]:
    """The installed libraries of Python."""
    drivers = {"kubernetes": "official"}
    return [
        DriverClient(
            [sys.executable, "-m", f"tests.conformance.drivers.{driver}"],
            {"PYTHONPATH": CHECKOUT},
        ).introduce()
        for library, driver in drivers.items()
        if importlib.util.find_spec(library)
    ]
