"""Every client that this machine has, in the order of the table's columns."""

import importlib.util
import sys
from pathlib import Path

from tests.conformance import golang, helm_client, javascript, k9s_client, kubectl_client
from tests.conformance.client import Client
from tests.conformance.driver_client import DriverClient
from tests.conformance.http_client import HttpClient

CHECKOUT = str(Path(__file__).resolve().parents[2])
LIBRARIES = {"kubernetes": "official", "kr8s": "kr8s_driver"}
"""Python libraries and the modules of their drivers."""


def all_clients() -> tuple[list[Client], list[str]]:
    """The columns, and what is missing with its reason."""
    candidates: list[Client | str] = [
        *kubectl_client.found(),
        *(python_library(library, driver) for library, driver in LIBRARIES.items()),
        javascript.client(),
        golang.client(),
        helm_client.client(),
        k9s_client.client(),
        HttpClient(),
    ]
    missing = [candidate for candidate in candidates if isinstance(candidate, str)]
    return [found for found in candidates if not isinstance(found, str)], missing


def python_library(library: str, driver: str) -> Client | str:
    """An installed library of Python."""
    if importlib.util.find_spec(library) is None:
        return f"no {library}: install the extra `conformance`"
    words = [sys.executable, "-m", f"tests.conformance.drivers.{driver}"]
    return DriverClient(words, {"PYTHONPATH": CHECKOUT}).introduce()
