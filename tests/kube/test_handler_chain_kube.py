"""What people do with stock kubectl, through central, tunnel and agent, on a real cluster.

Each test runs with every kubectl of the machine. Their common subject is transparency: what goes
through mk8s comes out as it would without it.
"""

import hashlib
import json
import urllib.request
from pathlib import Path

import pytest

from tests.support.kubectl import Kubectl
from tests.support.world import Person, World

pytestmark = [pytest.mark.kube, pytest.mark.oldest]

CONFIGMAP = """
apiVersion: v1
kind: ConfigMap
metadata:
  name: colours
data:
  sky: {sky}
"""
MIB = 1024 * 1024


def test_get_shows_tables_and_objects(kubectl: Kubectl, world: World) -> None:
    table = kubectl("-n", "shop", "get", "pods").stdout
    assert table.split()[:2] == ["NAME", "READY"]
    assert "web" in table
    assert "lab-node" in kubectl("-n", "shop", "get", "pod", "web", "-o", "wide").stdout
    through = json.loads(kubectl("-n", "shop", "get", "pod", "web", "-o", "json").stdout)
    direct = json.loads(world.direct("-n", "shop", "get", "pod", "web", "-o", "json").stdout)
    assert through["spec"] == direct["spec"]
    assert through["metadata"]["uid"] == direct["metadata"]["uid"]
    listed = kubectl("get", "pods", "--all-namespaces", "-o", "name").stdout
    assert "pod/web" in listed.split()


def test_get_of_what_is_absent_is_the_api_servers_own_answer(kubectl: Kubectl) -> None:
    missing = kubectl("-n", "shop", "get", "pod", "absent", code=1)
    assert 'Error from server (NotFound): pods "absent" not found' in missing.stderr


def test_describe_gathers_object_and_events(kubectl: Kubectl) -> None:
    described = kubectl("-n", "shop", "describe", "pod", "web").stdout
    assert "lab/busybox:1" in described
    assert "Events:" in described


def test_client_side_apply_creates_changes_and_keeps(kubectl: Kubectl, namespace: str) -> None:
    def apply(sky: str) -> str:
        return kubectl("-n", namespace, "apply", "-f", "-", stdin=CONFIGMAP.format(sky=sky)).stdout

    assert apply("blue") == "configmap/colours created\n"
    assert apply("blue") == "configmap/colours unchanged\n"
    assert apply("grey") == "configmap/colours configured\n"
    sky = kubectl("-n", namespace, "get", "configmap", "colours", "-o", "jsonpath={.data.sky}")
    assert sky.stdout == "grey"


def test_server_side_apply_creates_and_finds_conflicts(kubectl: Kubectl, namespace: str) -> None:
    def apply(sky: str, *options: str, code: int = 0) -> str:
        command = ("-n", namespace, "apply", "--server-side", *options, "-f", "-")
        done = kubectl(*command, stdin=CONFIGMAP.format(sky=sky), code=code)
        return done.stdout + done.stderr

    assert "configmap/colours serverside-applied" in apply("blue")
    assert "conflict" in apply("grey", "--field-manager=somebody", code=1)
    assert "serverside-applied" in apply("red", "--field-manager=somebody", "--force-conflicts")


@pytest.mark.parametrize(
    ("kind", "patch"),
    [
        ("merge", '{"data": {"sky": "patched"}}'),
        ("strategic", '{"data": {"sky": "patched"}}'),
        ("json", '[{"op": "replace", "path": "/data/sky", "value": "patched"}]'),
    ],
)
def test_every_patch_type_arrives(kubectl: Kubectl, namespace: str, kind: str, patch: str) -> None:
    kubectl("-n", namespace, "create", "configmap", "colours", "--from-literal=sky=blue")
    kubectl("-n", namespace, "patch", "configmap", "colours", f"--type={kind}", "-p", patch)
    sky = kubectl("-n", namespace, "get", "configmap", "colours", "-o", "jsonpath={.data.sky}")
    assert sky.stdout == "patched"


def test_delete_by_name_and_by_selector(kubectl: Kubectl, namespace: str, world: World) -> None:
    for name in ("one", "two", "three"):
        kubectl("-n", namespace, "create", "configmap", name)
        kubectl("-n", namespace, "label", "configmap", name, "batch=yes")
    kubectl("-n", namespace, "delete", "configmap", "one")
    kubectl("-n", namespace, "delete", "configmap", "-l", "batch=yes")
    left = world.direct("-n", namespace, "get", "configmap", "-l", "batch=yes", "-o", "name")
    assert left.stdout == ""


def test_logs_once_and_followed(kubectl: Kubectl) -> None:
    tail = kubectl("-n", "shop", "logs", "web", "--tail=2").stdout.splitlines()
    assert len(tail) == 2
    with kubectl.start("-n", "shop", "logs", "-f", "web", "--tail=1") as following:
        first = int(following.wait_for_line(r"^line (\d+)$")[1])
        # The next line did not exist when the stream began: it was carried as it was written.
        following.wait_for_line(rf"^line {first + 5}$")


def test_watch_carries_each_change_as_it_happens(
    kubectl: Kubectl, namespace: str, world: World
) -> None:
    world.direct("-n", namespace, "create", "configmap", "first")
    with kubectl.start("-n", namespace, "get", "configmap", "-w", "-o", "name") as watching:
        watching.wait_for_line("^configmap/first$")
        world.direct("-n", namespace, "create", "configmap", "second")
        watching.wait_for_line("^configmap/second$")
        assert watching.running


def test_discovery_explain_and_raw_paths(kubectl: Kubectl, world: World) -> None:
    resources = kubectl("api-resources", "-o", "name").stdout.split()
    assert resources == world.direct("api-resources", "-o", "name").stdout.split()
    assert "apps/v1" in kubectl("api-versions").stdout.split()
    assert "VERSION" in kubectl("explain", "pods.spec.containers").stdout
    assert json.loads(kubectl("get", "--raw", "/version").stdout)["major"] == "1"
    pods = json.loads(kubectl("get", "--raw", "/api/v1/namespaces/shop/pods").stdout)
    assert pods["kind"] == "PodList"
    assert "Server Version" in kubectl("version").stdout


def test_exec_carries_both_ways_and_the_exit_code(kubectl: Kubectl) -> None:
    run = ("-n", "shop", "exec", "web")
    assert kubectl(*run, "--", "echo", "hello").stdout == "hello\n"
    assert kubectl(*run, "-i", "--", "cat", stdin="typed\n").stdout == "typed\n"
    failed = kubectl(*run, "--", "sh", "-c", "echo broken >&2; exit 7", code=7)
    assert "broken" in failed.stderr


def test_cp_brings_a_file_there_and_back(
    kubectl: Kubectl, binary: Path, tmp_path: Path, world: World
) -> None:
    content = b"".join(hashlib.sha256(b"%d" % i).digest() for i in range(2 * MIB // 32))
    (tmp_path / "up").write_bytes(content)
    there = f"shop/web:/tmp/{world.fresh_name('file')}"
    kubectl("cp", str(tmp_path / "up"), there)
    kubectl("cp", there, str(tmp_path / "down"))
    assert (tmp_path / "down").read_bytes() == content


def test_port_forward_carries_requests(kubectl: Kubectl) -> None:
    with kubectl.start("-n", "shop", "port-forward", "pod/web", ":8080") as forwarding:
        port = forwarding.wait_for_line(r"Forwarding from 127\.0\.0\.1:(\d+)")[1]
        for _ in range(3):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30) as answer:
                assert answer.read() == b"hello from the pod\n"


def test_a_viewer_looks_and_is_told_what_is_missing(binary: Path, viewer: Person) -> None:
    kubectl = viewer.kubectl(binary)
    assert "web" in kubectl("-n", "shop", "get", "pods").stdout
    refused = kubectl("-n", "shop", "delete", "pod", "web", code=1).stderr
    assert 'User "viewer@example.com" cannot delete resource "pods"' in refused
    assert 'in the namespace "shop"' in refused
    assert "prod" in refused
    assert "web" in kubectl("-n", "shop", "get", "pods").stdout


def test_a_viewer_cannot_exec_on_either_transport(binary: Path, viewer: Person) -> None:
    refused = viewer.kubectl(binary)("-n", "shop", "exec", "web", "--", "true", code=1).stderr
    assert "Forbidden" in refused or "forbidden" in refused


def test_two_clusters_never_mix(
    binary: Path, developer: Person, world: World, namespace: str
) -> None:
    kubectl = developer.kubectl(binary)
    staging = ("--context", developer.contexts["staging"])
    assert namespace in kubectl("get", "namespaces").stdout
    assert namespace not in kubectl(*staging, "get", "namespaces").stdout
    assert "lab-node" in kubectl("get", "nodes").stdout
    assert "lab-node" not in kubectl(*staging, "get", "nodes", "-o", "name").stdout
    refused = kubectl(*staging, "create", "namespace", "new", code=1).stderr
    assert "cannot create" in refused
    assert "staging" in refused


def test_the_api_server_sees_the_person_and_never_the_token(kubectl: Kubectl, world: World) -> None:
    name = world.fresh_name("traced")
    kubectl("-n", "shop", "get", "configmap", name, code=1)
    (row,) = [row for row in world.upstream_audit() if row.get("objectRef", {}).get("name") == name]
    person = row["impersonatedUser"]
    assert person["username"] == "dev@example.com"
    groups = {"mk8s:users", "mk8s:role:developer", "system:authenticated"}
    assert set(person["groups"]) == groups
