"""cp and port-forward with every stock kubectl, to the demo API directly and through mk8s.

Each runs over WebSocket, where that kubectl can, and over SPDY. kubectl falls back from the one to
the other without a word, so each test ends by asking the other side what was spoken.
"""

import hashlib
import json
import socket
import sys
import threading
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import pytest

from mk8s_cli.demo_api.server import DemoApi
from tests.support.kubectl import (
    Kubectl,
    binaries,
    name_of,
    version_of,
    write_entries_for_all,
)
from tests.support.processes import Program, private_environment
from tests.support.world import wait_until

CHECKOUT = str(Path(__file__).parents[2])
POD = "web-6d9f7c-4xk2p"
WEBSOCKET_SINCE = {"exec": (1, 29), "portforward": (1, 30)}
"""The first kubectl that can when told to; since 1.31 it does so by itself."""
COPY_BYTES, TRANSFER_BYTES, CONNECTIONS = 3 << 20, 8 << 20, 100


class Place(Protocol):
    """What kubectl is pointed at, and how it was spoken to."""

    environment: dict[str, str]

    def spoken(self, subresource: str) -> set[str]:
        """The transports of all that was asked of this subresource of pods."""


class Direct:
    """The demo API, which shows the headers that came."""

    def __init__(self, home: Path, server: DemoApi) -> None:
        (home / "kubeconfig").write_text(server.kubeconfig())
        self.environment = private_environment(home, KUBECONFIG=str(home / "kubeconfig"))
        self._seen = server.seen
        self._seen.clear()

    def spoken(self, subresource: str) -> set[str]:
        return {it.headers["Upgrade"] for it in self._seen if it.path.endswith(f"/{subresource}")}


class ThroughMk8s:
    """`mk8s demo` in a directory; its audit has the verb get for a WebSocket, create for SPDY."""

    def __init__(self, home: Path, demo: Path) -> None:
        own = {"MK8S_HOME": str(demo / "home"), "KUBECONFIG": str(demo / "kubeconfig")}
        self.environment = private_environment(home, PYTHONPATH=CHECKOUT, **own)
        self._journal = demo / "central/audit/journal.jsonl"
        self._before = self._journal.stat().st_size

    def spoken(self, subresource: str) -> set[str]:
        def rows() -> list[dict[str, str]]:
            lines = self._journal.read_bytes()[self._before :].splitlines()
            made = (json.loads(line) for line in lines)
            return [row for row in made if f"/{subresource}" in row["requestURI"]]

        def are_complete() -> bool:
            stages = [row["stage"] for row in rows()]
            return len(stages) == 2 * stages.count("ResponseComplete") > 0

        wait_until(are_complete, 30, lambda: f"rows are missing: {rows()}")
        names = {"get": "websocket", "create": "SPDY/3.1"}
        return {names.get(row["verb"], f"refused: {row}") for row in rows()}


@pytest.fixture(scope="module")
def mk8s_demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The directory of a running `mk8s demo`."""
    home = tmp_path_factory.mktemp("demo")
    command = [sys.executable, "-m", "mk8s_cli", "demo", "--data-dir", home / "data"]
    environment = private_environment(home, PYTHONPATH=CHECKOUT)
    with Program("mk8s demo", command, environment) as program:
        program.wait_for_line("Ctrl-C ends it", seconds=90)
        demo = home / "data"
        own = {"MK8S_HOME": str(demo / "home"), "KUBECONFIG": str(demo / "kubeconfig")}
        write_entries_for_all(environment | own)
        yield demo


@pytest.fixture(params=["direct", "through mk8s"])
def place(
    request: pytest.FixtureRequest, tmp_path: Path, served: DemoApi, mk8s_demo: Path
) -> Place:
    is_direct = request.param == "direct"
    return Direct(tmp_path, served) if is_direct else ThroughMk8s(tmp_path, mk8s_demo)


def over_each_transport(subresource: str) -> pytest.MarkDecorator:
    """Each kubectl with each transport that it can speak for a subresource."""
    cases = [
        pytest.param(binary, transport, id=f"{name_of(binary)}-{transport}")
        for binary in binaries()
        for transport in ("websocket", "SPDY/3.1")
        if transport != "websocket" or version_of(binary) >= WEBSOCKET_SINCE[subresource]
    ]
    return pytest.mark.parametrize(("binary", "transport"), cases)


def kubectl_over(transport: str, binary: Path, place: Place) -> Kubectl:
    """kubectl, told the transport unless it takes it by itself."""
    told = {}
    if transport != "websocket" or version_of(binary) < (1, 31):
        names = ("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", "KUBECTL_PORT_FORWARD_WEBSOCKETS")
        told = dict.fromkeys(names, str(transport == "websocket").lower())
    return Kubectl(binary, {**place.environment, **told})


@over_each_transport("exec")
def test_copies_have_the_same_hash_both_ways(
    binary: Path, place: Place, transport: str, tmp_path: Path
) -> None:
    kubectl = kubectl_over(transport, binary, place)
    up, down, there = tmp_path / "up", tmp_path / "down", f"shop/{POD}:/tmp/copied"
    up.write_bytes(hashlib.shake_256(tmp_path.name.encode()).digest(COPY_BYTES))
    digest = hashlib.sha256(up.read_bytes()).hexdigest()
    kubectl("cp", str(up), there)
    told = kubectl("exec", "-n", "shop", POD, "--", "sha256sum", "/tmp/copied").stdout
    assert told.split() == [digest, "/tmp/copied"]
    kubectl("cp", there, str(down))
    assert hashlib.sha256(down.read_bytes()).hexdigest() == digest
    assert place.spoken("exec") == {transport}


@over_each_transport("exec")
def test_a_tree_is_copied_and_what_is_absent_is_told(
    binary: Path, place: Place, transport: str, tmp_path: Path
) -> None:
    kubectl = kubectl_over(transport, binary, place)
    (tmp_path / "tree/inner").mkdir(parents=True)
    (tmp_path / "tree/inner/leaf").write_text("green\n")
    name = f"{transport.partition('/')[0]}-{tmp_path.name}"
    kubectl("cp", "--no-preserve", str(tmp_path / "tree"), f"shop/{POD}:/tmp/{name}")
    kubectl("cp", f"shop/{POD}:/tmp/{name}", str(tmp_path / "back"))
    assert (tmp_path / "back/inner/leaf").read_text() == "green\n"
    absent = kubectl("cp", f"shop/{POD}:/tmp/absent", str(tmp_path / "nothing"), code=None)
    assert "tar: /tmp/absent: No such file or directory" in absent.stdout + absent.stderr
    nowhere = kubectl("cp", str(tmp_path / "tree"), f"shop/{POD}:/no/where", code=1)
    assert "tar: /no: No such file or directory" in nowhere.stdout + nowhere.stderr
    assert place.spoken("exec") == {transport}


@contextmanager
def forwarded(kubectl: Kubectl, port: int) -> Iterator[tuple[int, Program]]:
    """The local port that leads to one of the pod."""
    with kubectl.start("-n", "shop", "port-forward", f"pod/{POD}", f":{port}") as forwarding:
        found = forwarding.wait_for_line(r"Forwarding from 127\.0\.0\.1:(\d+)")
        yield int(found[1]), forwarding


def get(port: int) -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30) as answer:
        page: bytes = answer.read()
        return page


def echo(port: int, raw: bytes) -> bytes:
    """What the echo service says to `raw`, while that is still being sent."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:

        def send() -> None:
            connection.sendall(raw)
            connection.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send)
        sender.start()
        received = b"".join(iter(lambda: connection.recv(1 << 16), b""))
        sender.join()
    return received


@over_each_transport("portforward")
def test_a_forwarded_port_carries_little_and_many(
    binary: Path, place: Place, transport: str
) -> None:
    kubectl = kubectl_over(transport, binary, place)
    with forwarded(kubectl, 8080) as (port, _), ThreadPoolExecutor(20) as pool:
        pages = list(pool.map(lambda _: get(port), range(CONNECTIONS)))
    assert pages == [f"hello from {POD}\n".encode()] * CONNECTIONS
    assert place.spoken("portforward") == {transport}


@over_each_transport("portforward")
def test_a_forwarded_port_carries_much_both_ways(
    binary: Path, place: Place, transport: str
) -> None:
    kubectl = kubectl_over(transport, binary, place)
    sent = [hashlib.shake_256(b"%d" % number).digest(TRANSFER_BYTES) for number in range(2)]
    with forwarded(kubectl, 7) as (port, _), ThreadPoolExecutor(2) as pool:
        received = list(pool.map(lambda raw: echo(port, raw), sent))
    assert received == sent
    assert place.spoken("portforward") == {transport}


@over_each_transport("portforward")
def test_a_port_that_nobody_listens_on_is_told(binary: Path, place: Place, transport: str) -> None:
    kubectl = kubectl_over(transport, binary, place)
    with forwarded(kubectl, 81) as (port, forwarding):
        assert echo(port, b"") == b""
        forwarding.wait_for_line(f"error forwarding port 81 to pod {POD}, .*connection refused")
    assert place.spoken("portforward") == {transport}
