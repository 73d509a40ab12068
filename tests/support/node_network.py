"""Ways from the pods of a test cluster to what listens on this machine's loopback only.

A test cluster has no kube-proxy and its pods no default route: the bridge of its node is all that
they reach. So the API server's Service address and central's port get a forwarder on that bridge,
which nothing outside this machine can reach.
"""

import contextlib
import fcntl
import json
import re
import selectors
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

API_SERVICE = "10.96.0.1"
_CHUNK = 65536


class Forwarder:
    """Hands connections to one address on to a port of 127.0.0.1, both ways."""

    def __init__(self, address: tuple[str, int], port: int) -> None:
        self.is_shut = False
        """Whether new connections end at once, as behind a firewall that says no."""
        self._port = port
        self._listening = socket.create_server(address)
        self._open: set[socket.socket] = set()
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening and cut what is open."""
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for it in list(self._open):
            with contextlib.suppress(OSError):
                it.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                here, _ = self._listening.accept()
                threading.Thread(target=self._splice, args=(here,), daemon=True).start()

    def _splice(self, here: socket.socket) -> None:
        with here, contextlib.suppress(OSError), contextlib.ExitStack() as opened:
            if self.is_shut:
                return
            there = opened.enter_context(socket.create_connection(("127.0.0.1", self._port), 10))
            self._open |= {here, there}
            with selectors.DefaultSelector() as waiting:
                waiting.register(here, selectors.EVENT_READ, there)
                waiting.register(there, selectors.EVENT_READ, here)
                while True:
                    for key, _ in waiting.select():
                        source = key.fileobj
                        assert isinstance(source, socket.socket)
                        if not (content := source.recv(_CHUNK)):
                            return
                        key.data.sendall(content)
        self._open.discard(here)


@dataclass(frozen=True, slots=True)
class Node:
    """This machine as its node's pods see it."""

    address: str
    doors: dict[int, Forwarder]
    """By the port that pods use."""


def bridge_of(kubeconfig: Path) -> str:
    """The address that the pods of a node have for this machine; there once a pod has run."""
    name = (kubeconfig.parent / "bridge").read_text().strip()
    told = subprocess.run(["ip", "-4", "-o", "addr", "show", name], capture_output=True, text=True)
    found = re.search(r"inet ([0-9.]+)/24", told.stdout)
    assert found, f"the node has no bridge {name} yet: {told.stderr}"
    return found[1]


@contextlib.contextmanager
def default_route(kubeconfig: Path) -> Iterator[None]:
    """Pods that are made in the block have a default route: to the node."""
    path = kubeconfig.parent / "cni" / "net.d" / "10-lab.conflist"
    before = path.read_text()
    network = json.loads(before)
    network["plugins"][0]["ipam"]["routes"] = [{"dst": "0.0.0.0/0"}]
    path.write_text(json.dumps(network))
    try:
        yield
    finally:
        path.write_text(before)


@contextlib.contextmanager
def reachable(kubeconfig: Path, ports: dict[int, int]) -> Iterator[Node]:
    """Pods reach the API server by its Service, and `ports` of the node's address.

    Args:
        kubeconfig: of the cluster.
        ports: those that pods use, to those of 127.0.0.1.
    """
    # The Service address is one for all test clusters of this machine.
    with (Path(tempfile.gettempdir()) / "mk8s-test-service.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield from _reachable(kubeconfig, ports)


def _reachable(kubeconfig: Path, ports: dict[int, int]) -> Iterator[Node]:
    server = yaml.safe_load(kubeconfig.read_text())["clusters"][0]["cluster"]["server"]
    device = (kubeconfig.parent / "bridge").read_text().strip()
    address = bridge_of(kubeconfig)
    service = ["ip", "addr", "add", f"{API_SERVICE}/32", "dev", device]
    subprocess.run(service, check=True, capture_output=True)
    api = Forwarder((API_SERVICE, 443), int(server.rpartition(":")[2]))
    doors: dict[int, Forwarder] = {}
    try:
        for outer, inner in ports.items():
            doors[outer] = Forwarder((address, outer), inner)
        yield Node(address, doors)
    finally:
        for it in (api, *doors.values()):
            it.close()
        subprocess.run(["ip", "addr", "del", f"{API_SERVICE}/32", "dev", device], check=True)
