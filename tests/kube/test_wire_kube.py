"""What clients put on the wire, on a real cluster: long commands, selectors, HTTP/1.0, nobody."""

import contextlib
import http.client
import json
import socket
import ssl
from collections.abc import Iterator

import pytest

from tests.support.kubectl import Kubectl
from tests.support.wire import authority_of, token_of
from tests.support.world import Person, World

pytestmark = [pytest.mark.kube]

SCRIPT = "echo begin; true " + "x" * 90 * 1024
"""`sh` takes 128 KiB as one argument (Linux, MAX_ARG_STRLEN)."""


def test_a_command_of_90_kib(kubectl: Kubectl) -> None:
    """In the URL, over WebSocket or SPDY."""
    done = kubectl("-n", "shop", "exec", "web", "--", "sh", "-c", SCRIPT)
    assert done.stdout == "begin\n"


def test_a_command_of_90_kib_by_spdy_of_a_kubectl_of_today(kubectl: Kubectl) -> None:
    spdy = Kubectl(
        kubectl.binary, {**kubectl.environment, "KUBECTL_REMOTE_COMMAND_WEBSOCKETS": "false"}
    )
    done = spdy("-n", "shop", "exec", "web", "--", "sh", "-c", SCRIPT)
    assert done.stdout == "begin\n"


def test_a_selector_of_100_kb(kubectl: Kubectl) -> None:
    """As the first request of an HTTP/2 connection."""
    names = ",".join(f"application-{number}" for number in range(6000))
    path = f"/api/v1/namespaces/shop/pods?labelSelector=app+in+({names})"
    assert json.loads(kubectl("get", "--raw", path).stdout)["items"] == []


@pytest.fixture(scope="module")
def open_world(tmp_path_factory: pytest.TempPathFactory, world: World) -> Iterator[World]:
    """A central of its own that tells strangers the version of a cluster."""
    folder = tmp_path_factory.mktemp("open")
    made = World(folder, {"prod": world.clusters["prod"]}, MK8S_ANONYMOUS_VERSION="on")
    try:
        made.initialise()
        made.start_central()
        made.people["admin"] = made.log_in("admin@example.com")
        made.set_passwords()
        made.add_cluster("prod", made.clusters["prod"])
        made.people["dev"] = made.log_in("dev@example.com")
        yield made
    finally:
        made.close()


def ask(world: World, path: str) -> tuple[int, dict[str, object]]:
    """One request without a credential."""
    tls = ssl.create_default_context(cadata=authority_of(world.people["admin"]))
    connection = http.client.HTTPSConnection("localhost", world.port, context=tls, timeout=60)
    with contextlib.closing(connection):
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())


def test_nobody_is_told_the_version_by_default(world: World) -> None:
    assert ask(world, "/k8s/prod/version")[0] == 401


def test_the_cluster_tells_nobody_its_version(open_world: World) -> None:
    """Its role system:public-info-viewer says so, of system:unauthenticated too."""
    code, version = ask(open_world, "/k8s/prod/version")
    assert (code, "gitVersion" in version) == (200, True), version
    assert ask(open_world, "/k8s/prod/api")[0] == 401
    rows = open_world.audit(requestURI="/k8s/prod/version")
    assert [row["stage"] for row in rows] == ["RequestReceived", "ResponseComplete"]
    assert {row["user"]["username"] for row in rows} == {""}
    seen = [row for row in open_world.upstream_audit() if row["requestURI"] == "/version"]
    as_nobody = {"username": "system:anonymous", "groups": ["system:unauthenticated"]}
    assert as_nobody in [row["impersonatedUser"] for row in seen]


def test_http_1_0(developer: Person, world: World) -> None:
    """As `curl -0`: the answer ends with the connection, and has no chunks."""
    token = token_of(developer, world, "prod")
    tls = ssl.create_default_context(cadata=authority_of(world.people["admin"]))
    path = "/k8s/prod/api/v1/namespaces/shop/pods"
    with (
        socket.create_connection(("localhost", world.port), 60) as plain,
        tls.wrap_socket(plain, server_hostname="localhost") as secured,
    ):
        secured.sendall(f"GET {path} HTTP/1.0\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
        pieces = iter(lambda: secured.recv(65536), b"")
        head, _, body = b"".join(pieces).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.0 200 OK\r\n")
    assert b"transfer-encoding" not in head
    assert json.loads(body)["kind"] == "PodList"
