"""Much at once and for long: large copies, many connections, followers across restarts, stalls.

Sizes are modest by default; MK8S_TEST_FULL=1 runs the full ones (1 GiB, 1,000 connections).
"""

import hashlib
import json
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import kubernetes.client
import kubernetes.config
import kubernetes.watch
import pytest
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from tests.support import kubectl as kubectls
from tests.support.kubectl import Kubectl
from tests.support.wire import authority_of, send, token_of
from tests.support.world import Person, World, wait_until

# Only a part of the library is typed.
client: Any = kubernetes.client
config: Any = kubernetes.config
watch: Any = kubernetes.watch

pytestmark = [pytest.mark.kube, pytest.mark.timeout(900)]

FULL = os.environ.get("MK8S_TEST_FULL") == "1"
MIB = 1 << 20
COPY_BYTES = 1024 * MIB if FULL else 64 * MIB
CONNECTIONS = 1000 if FULL else 200
TRANSFER_BYTES = 256 * MIB if FULL else 32 * MIB
SESSIONS = 20
READERS = 20
SECONDS = 600
"""For one transfer: a hang is a failure, a slow machine is none."""


@pytest.fixture
def newest(developer: Person) -> Kubectl:
    """The newest kubectl: it is the data path that is under test, not each client."""
    return developer.kubectl(max(kubectls.binaries(), key=kubectls.version_of))


def write_large(path: Path, size: int) -> str:
    """A file that neither repeats nor compresses; its SHA-256."""
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for number in range(size // MIB):
            block = hashlib.shake_256(b"%d" % number).digest(MIB)
            digest.update(block)
            file.write(block)
    return digest.hexdigest()


def hash_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def test_a_large_copy_has_the_same_hash_both_ways(
    newest: Kubectl, world: World, tmp_path: Path
) -> None:
    digest = write_large(tmp_path / "up", COPY_BYTES)
    there = f"/tmp/{world.fresh_name('large')}"
    try:
        newest("cp", str(tmp_path / "up"), f"shop/web:{there}", seconds=SECONDS)
        told = newest("-n", "shop", "exec", "web", "--", "sha256sum", there, seconds=SECONDS)
        assert told.stdout.split()[0] == digest
        newest("cp", f"shop/web:{there}", str(tmp_path / "down"), seconds=SECONDS)
        assert hash_of(tmp_path / "down") == digest
    finally:
        newest("-n", "shop", "exec", "web", "--", "rm", "-f", there, code=None)


@pytest.fixture
def forwarded(newest: Kubectl) -> Iterator[int]:
    """The local port that leads to the web server of the pod."""
    with newest.start("-n", "shop", "port-forward", "pod/web", ":8080") as forwarding:
        yield int(forwarding.wait_for_line(r"Forwarding from 127\.0\.0\.1:(\d+)")[1])


def fetch(port: int, path: str = "/", body: bytes = b"") -> bytes:
    """The body of one HTTP/1.0 request on a connection of its own."""
    head = f"GET {path} HTTP/1.0\r\nHost: pod\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as connection:
        connection.sendall(head + body)
        received = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    return received.partition(b"\r\n\r\n")[2]


def test_a_forwarded_port_carries_many_connections(forwarded: int) -> None:
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: fetch(forwarded), range(CONNECTIONS)))
    assert answers == [b"hello from the pod\n"] * CONNECTIONS


def test_a_forwarded_port_carries_much_both_ways(
    newest: Kubectl, world: World, tmp_path: Path, forwarded: int
) -> None:
    """Down: the web server's file. Up: into a program that tells the hash of what it got."""
    name = world.fresh_name("served")
    shell = ("-n", "shop", "exec", "web", "--", "sh", "-c")
    blocks = TRANSFER_BYTES // MIB
    make = f"dd if=/dev/urandom of=/www/{name} bs=1048576 count={blocks} 2>/dev/null"
    told = newest(*shell, f"{make}; sha256sum /www/{name}", seconds=SECONDS).stdout
    assert hashlib.sha256(fetch(forwarded, f"/{name}")).hexdigest() == told.split()[0]
    digest = write_large(tmp_path / "up", TRANSFER_BYTES)
    # Without something that holds its input open, nc would end its half of the connection at once.
    receiver = f"rm /www/{name}; sleep 600 | nc -l -p 9091 | sha256sum"
    with (
        newest.start(*shell, receiver) as receiving,
        newest.start("-n", "shop", "port-forward", "pod/web", ":9091") as forwarding,
    ):
        port = int(forwarding.wait_for_line(r"Forwarding from 127\.0\.0\.1:(\d+)")[1])
        wait_until(lambda: listens(newest, 9091), 30, lambda: receiving.output)
        with socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as connection:
            with (tmp_path / "up").open("rb") as file:
                connection.sendfile(file)
            connection.shutdown(socket.SHUT_WR)
            found = receiving.wait_for_line(r"([0-9a-f]{64})", seconds=SECONDS)
        assert found[1] == digest


def listens(kubectl: Kubectl, port: int) -> bool:
    """Whether a program of the pod listens on this port, by the kernel's own table."""
    words = ("exec", "web", "--", "cat", "/proc/net/tcp", "/proc/net/tcp6")
    table = kubectl("-n", "shop", *words, code=None)
    return f":{port:04X} " in table.stdout


def test_the_log_of_a_chatty_pod_arrives_whole(newest: Kubectl, namespace: str) -> None:
    # The kubelet begins a new file at 10 MiB, and a follower gets no older one.
    lines = 150_000 if FULL else 60_000
    chat = f"seq 1 {lines}; echo the end; sleep 100000"
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "chatty"},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": False,
            "containers": [
                {
                    "name": "chatty",
                    "image": "lab/busybox:1",
                    "imagePullPolicy": "Never",
                    "command": ["sh", "-c", chat],
                }
            ],
        },
    }
    newest("-n", namespace, "create", "-f", "-", stdin=json.dumps(pod))
    ready = ("wait", "--for=condition=Ready", "pod/chatty", "--timeout=60s")
    newest("-n", namespace, *ready, seconds=90)
    with newest.start("-n", namespace, "logs", "-f", "chatty") as following:
        following.wait_for_line("^the end$", seconds=SECONDS)
        told = following.output.splitlines()
    assert told == [*map(str, range(1, lines + 1)), "the end"]


def test_many_sessions_at_once_stay_apart(newest: Kubectl) -> None:
    """Each session sends and gets its own bytes, and has its own exit code."""

    def session(number: int) -> tuple[str, int]:
        command = f"cat; seq 1 20000 | tail -n 1; exit {number}"
        words = ("-n", "shop", "exec", "-i", "web", "--", "sh", "-c", command)
        done = newest(*words, stdin=f"session {number}\n", code=None, seconds=120)
        return done.stdout, done.returncode

    with ThreadPoolExecutor(SESSIONS) as pool:
        ended = list(pool.map(session, range(SESSIONS)))
    assert ended == [(f"session {number}\n20000\n", number) for number in range(SESSIONS)]


# Followers across restarts.


def restart_central(world: World) -> None:
    assert world.central.stop() == 0
    world.start_central()
    world.wait_until_connected("prod")


def restart_agent(world: World) -> None:
    assert world.agents["prod"].stop() == 0
    world.restart_agent("prod")


RESTARTS = [restart_central, restart_agent]


@pytest.mark.parametrize("restart", RESTARTS)
def test_get_w_goes_on_or_ends_cleanly(
    newest: Kubectl, world: World, namespace: str, restart: Callable[[World], None]
) -> None:
    """Kubectl does not watch again by itself: the API server's own end of a watch ends it too.

    What counts: nothing that was cut short is shown, and an end is one without a complaint.
    """
    world.direct("-n", namespace, "create", "configmap", "before")
    with newest.start("-n", namespace, "get", "configmap", "-w", "-o", "name") as watching:
        watching.wait_for_line("^configmap/before$")
        # The first line may be of the list; the second one is of the watch.
        world.direct("-n", namespace, "create", "configmap", "during")
        watching.wait_for_line("^configmap/during$")
        restart(world)
        world.direct("-n", namespace, "create", "configmap", "after")
        wait_until(
            lambda: "configmap/after" in watching.output or not watching.running,
            30,
            lambda: f"neither news nor an end:\n{watching.output}",
        )
        if not watching.running:
            assert watching.wait() == 0, watching.output
        names = {"before", "during", "after", "kube-root-ca.crt"}
        assert set(watching.output.splitlines()) <= {f"configmap/{name}" for name in names}


class Informer:
    """What informers do: list, watch from there with bookmarks, watch again from the last version.

    It never lists a second time, so whatever is lost at a restart stays lost and is seen.
    """

    def __init__(self, kubeconfig: Path, namespace: str) -> None:
        self._core = client.CoreV1Api(config.new_client_from_config(str(kubeconfig)))
        self._namespace = namespace
        self.seen: list[tuple[str, str]] = []
        self.failures: list[str] = []
        self.ended = threading.Event()
        listed = self._core.list_namespaced_config_map(namespace, label_selector="app=seen")
        self._version = listed.metadata.resource_version
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def _follow(self) -> None:
        while not self.ended.is_set():
            try:
                self._watch_once()
            except (ApiException, HTTPError) as error:
                # Central is away for a moment: anything but a lost event is fine.
                self.failures.append(str(error))
                self.ended.wait(0.1)

    def _watch_once(self) -> None:
        for event in watch.Watch().stream(
            self._core.list_namespaced_config_map,
            self._namespace,
            label_selector="app=seen",
            resource_version=self._version,
            allow_watch_bookmarks=True,
            timeout_seconds=60,
        ):
            found: Any = event["object"]
            metadata = found["metadata"] if isinstance(found, dict) else found.metadata.to_dict()
            self._version = metadata.get("resourceVersion") or metadata["resource_version"]
            if event["type"] != "BOOKMARK":
                self.seen.append((event["type"], metadata["name"]))
            if self.ended.is_set():
                return


@pytest.mark.parametrize("restart", RESTARTS)
def test_an_informer_loses_no_event(
    world: World,
    developer: Person,
    namespace: str,
    monkeypatch: pytest.MonkeyPatch,
    restart: Callable[[World], None],
) -> None:
    for name, value in developer.environment.items():
        monkeypatch.setenv(name, value)
    informer = Informer(developer.home / ".kube/config", namespace)
    stop = threading.Event()
    made: list[str] = []

    def keep_creating() -> None:
        while not stop.is_set():
            name = f"event-{len(made):04}"
            world.direct("-n", namespace, "create", "configmap", name)
            world.direct("-n", namespace, "label", "configmap", name, "app=seen")
            made.append(name)

    creator = threading.Thread(target=keep_creating)
    creator.start()
    try:
        wait_until(lambda: len(informer.seen) >= 3, 30, lambda: str(informer.failures))
        restart(world)
        there = len(made)
        wait_until(lambda: len(made) >= there + 3, 60, lambda: str(made))
    finally:
        stop.set()
        creator.join()
    expected = [("ADDED", name) for name in made]
    wait_until(
        lambda: len(informer.seen) >= len(expected),
        60,
        lambda: f"{informer.seen}, not {expected}; {informer.failures}",
    )
    informer.ended.set()
    assert informer.seen == expected


# Readers who do not read.


def open_stalled(world: World, token: str, target: str) -> ssl.SSLSocket:
    """A request whose answer nobody reads, with the smallest receive buffer."""
    context = ssl.create_default_context(cadata=authority_of(world.people["admin"]))
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.connect(("127.0.0.1", world.port))
    secured = context.wrap_socket(raw, server_hostname="localhost")
    head = f"GET {target} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n"
    head += "Connection: close\r\n\r\n"
    secured.sendall(head.encode())
    return secured


def test_stalled_readers_hold_up_nobody(world: World, developer: Person, namespace: str) -> None:
    """20 answers of 4 MiB that nobody reads, while small requests pass on the same tunnels."""
    for number in range(5):
        data = {"text": "x" * 900_000}
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"heavy-{number}"}}
        document = json.dumps({**body, "data": data})
        world.direct("-n", namespace, "create", "-f", "-", stdin=document)
    token = token_of(developer, world, "prod")
    heavy = f"/k8s/prod/api/v1/namespaces/{namespace}/configmaps"
    small = "/k8s/prod/api/v1/namespaces/shop/pods/web"
    stalled = [open_stalled(world, token, heavy) for _ in range(READERS)]
    try:
        for reader in stalled:
            assert reader.recv(8).startswith(b"HTTP/1.1")
        for _ in range(50):
            assert send(world, small, token=token).code == 200
        # The slowest of them all still gets everything, once it reads.
        received = b"".join(iter(lambda: stalled[0].recv(1 << 16), b""))
        assert b"heavy-4" in received
    finally:
        for reader in stalled:
            reader.close()
