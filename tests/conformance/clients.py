"""Every client that this machine has or can build, in the order of the table's columns."""

import importlib.util
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.conformance import (
    golang,
    helm_client,
    java,
    javascript,
    kubectl_client,
    rust,
)
from tests.conformance.client import Client
from tests.conformance.driver_client import DriverClient
from tests.conformance.http_client import HttpClient

CHECKOUT = str(Path(__file__).resolve().parents[2])
HEADLAMP = "its backend's module is not in the Go module proxy"


def python_library(library: str, driver: str) -> Client | str:
    """An installed library of Python."""
    if importlib.util.find_spec(library) is None:
        return "install the extra `conformance`"
    words = [sys.executable, "-m", f"tests.conformance.drivers.{driver}"]
    return DriverClient(words, {"PYTHONPATH": CHECKOUT}).introduce()


def k9s() -> Client | str:
    """k9s, whose screen an emulator reads."""
    if importlib.util.find_spec("pyte") is None:
        return "no pyte: install the extra `conformance`"
    from tests.conformance import k9s_client  # noqa: PLC0415 - what it imports may be absent

    return k9s_client.client()


FACTORIES: dict[str, Callable[[], Client | str]] = {
    "Python": lambda: python_library("kubernetes", "official"),
    "kr8s": lambda: python_library("kr8s", "kr8s_driver"),
    "kubernetes_asyncio": lambda: python_library("kubernetes_asyncio", "asyncio_driver"),
    "lightkube": lambda: python_library("lightkube", "lightkube_driver"),
    "JavaScript": javascript.client,
    "client-go": golang.client,
    "fabric8": java.client,
    "kube-rs": rust.client,
    "helm 3": lambda: helm_client.client(3),
    "helm 4": lambda: helm_client.client(4),
    "k9s": k9s,
    "Headlamp": lambda: HEADLAMP,
    "HTTP/1.1 by hand": HttpClient,
}
"""What makes each column, by the beginning of its title. Some build for minutes the first time."""


def all_clients(wanted: Sequence[str] = ()) -> tuple[list[Client], dict[str, str]]:
    """The columns, and what is left out: the reason by the title.

    Args:
        wanted: words of titles; others are neither made nor built. All without any.
    """
    found: list[Client] = [
        kubectl for kubectl in kubectl_client.found() if is_wanted(kubectl.name, wanted)
    ]
    missing = {}
    for title, make in FACTORIES.items():
        if is_wanted(title, wanted):
            made = make()
            if isinstance(made, str):
                missing[title] = f"left out: {title}: {made}"
            else:
                found.append(made)
    return found, missing


def is_wanted(title: str, wanted: Sequence[str]) -> bool:
    """Whether a word is a part of a title; titles of factories have no version yet."""
    return not wanted or any(word in title or word.startswith(title) for word in wanted)
