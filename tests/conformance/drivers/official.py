"""The official Python client (PyPI `kubernetes`) as a driver; arguments: kubeconfig, namespace.

It is started by `driver_client.py`.
"""

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import kubernetes
import kubernetes.client
import kubernetes.config
import kubernetes.dynamic
import kubernetes.stream
import kubernetes.watch
from kubernetes.client.exceptions import ApiException

from tests.conformance import manifests
from tests.conformance.drivers import official_programs
from tests.conformance.drivers.protocol import Notes, registrar, serve

# Its types are stricter than its use: bodies are plain dictionaries here.
client: Any = kubernetes.client
config: Any = kubernetes.config
dynamic: Any = kubernetes.dynamic
watch: Any = kubernetes.watch
stream: Any = kubernetes.stream.stream
portforward: Any = kubernetes.stream.portforward

KUBECONFIG, NAMESPACE = sys.argv[1:3]
OPERATIONS: dict[str, Callable[[Any], None]] = {}


class Noted(Notes):
    """With this library's errors and objects."""

    @staticmethod
    def told(error: Exception) -> tuple[int, str]:
        assert isinstance(error, ApiException)
        return error.status or 0, str(error.body or error.reason)

    def note(self, step: str, output: object, code: int = 0, errors: str = "") -> None:
        plain = api().sanitize_for_serialization(output)
        super().note(step, plain, code, errors)


_made: list[Any] = []


def api() -> Any:
    """One client for the whole session, as programs have it."""
    if not _made:
        _made.append(config.new_client_from_config(KUBECONFIG))
    return _made[0]


def core() -> Any:
    """The typed core API."""
    return client.CoreV1Api(api())


operation = registrar(OPERATIONS)


@operation("get-json")
def get_json(n: Noted) -> None:
    n.call("read pod", core().read_namespaced_pod, "quiet", NAMESPACE)
    n.call("list pods", core().list_namespaced_pod, NAMESPACE)
    n.call("node", core().read_node, "lab-node")


@operation("selectors")
def selectors(n: Noted) -> None:
    listing = core().list_namespaced_pod
    n.call("labels", listing, NAMESPACE, label_selector="app in (web)")
    n.call("fields", listing, NAMESPACE, field_selector="metadata.name=quiet")
    n.call("nonsense", listing, NAMESPACE, field_selector="nonsense=1")


def raw(path: str, headers: dict[str, str]) -> tuple[Any, Any]:
    """A GET below the typed methods: the JSON of the body, and the response."""
    answer = api().call_api(
        "GET",
        f"{api().configuration.host}{path}",
        header_params={**headers, **credential()},
    )
    return json.loads(answer.read()), answer


def credential() -> dict[str, str]:
    """The header that the typed methods would send."""
    found = api().configuration.auth_settings().get("BearerToken")
    return {"Authorization": str(found["value"])} if found else {}


def table(path: str) -> Any:
    """A list as the server's table."""
    accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
    answer = raw(path, {"Accept": accept})[0]
    return [answer["kind"], [row["cells"][:3] for row in answer["rows"]]]


@operation("get-table")
def get_table(n: Noted) -> None:
    n.call("pods", table, f"/api/v1/namespaces/{NAMESPACE}/pods")
    n.call("nodes", table, "/api/v1/nodes")


def event_line(event: dict[str, Any]) -> list[Any]:
    """What counts of an event."""
    found = event["object"]
    name = found["metadata"]["name"] if isinstance(found, dict) else found.metadata.name
    data = found.get("data") if isinstance(found, dict) else found.data
    return [event["type"], name, data]


@operation("watch")
def watching(n: Noted) -> None:
    follow_changes(n, "seen", {})


@operation("informer")
def informer(n: Noted) -> None:
    follow_changes(n, "informed", {"allow_watch_bookmarks": True})


def follow_changes(n: Noted, name: str, more: dict[str, Any]) -> None:
    """List, watch from there, see each change once and in order."""
    label = f"app={name}"
    body = manifests.config_map(name, {"sky": "blue"}, app=name)
    first = core().list_namespaced_config_map(NAMESPACE, label_selector=label)
    version = first.metadata.resource_version
    core().create_namespaced_config_map(NAMESPACE, body)
    core().patch_namespaced_config_map(name, NAMESPACE, {"data": {"sky": "grey"}})
    core().delete_namespaced_config_map(name, NAMESPACE)
    follower = watch.Watch()
    seen = []
    for event in follower.stream(
        core().list_namespaced_config_map, NAMESPACE, label_selector=label,
        resource_version=version, timeout_seconds=20, **more,
    ):  # fmt: skip
        seen.append(event_line(event))
        if event["type"] == "DELETED":
            follower.stop()
    n.note("events", seen)
    ended = list(
        watch.Watch().stream(
            core().list_namespaced_config_map, NAMESPACE, label_selector="app=none",
            timeout_seconds=1,
        )
    )  # fmt: skip
    n.note("a watch that ends by its timeout", ended)


@operation("informer-restart")
def informer_restart(n: Noted) -> None:
    official_programs.informer_restart(n, api(), NAMESPACE)


@operation("leader-election")
def leader_election(n: Noted) -> None:
    official_programs.leader_election(n, api(), NAMESPACE)


@operation("pagination")
def pagination(n: Noted) -> None:
    for number in range(7):
        core().create_namespaced_config_map(
            NAMESPACE, manifests.config_map(f"page-{number}", {}, app="pages")
        )
    token: str | None = None
    for _ in range(4):
        page = core().list_namespaced_config_map(
            NAMESPACE, label_selector="app=pages", limit=3, _continue=token
        )
        names = [item.metadata.name for item in page.items]
        n.note("page", [names, page.metadata.remaining_item_count])
        token = page.metadata._continue
        if not token:
            break
    n.call("nonsense", core().list_namespaced_config_map, NAMESPACE, limit=3, _continue="none")
    core().delete_collection_namespaced_config_map(NAMESPACE, label_selector="app=pages")


@operation("gzip")
def large_list(n: Noted) -> None:
    for number in range(10):
        body = manifests.config_map(f"large-{number}", {"text": "abcdefgh" * 5000}, app="large")
        core().create_namespaced_config_map(NAMESPACE, body)
    path = f"/api/v1/namespaces/{NAMESPACE}/configmaps?labelSelector=app%3Dlarge"
    answer, response = raw(path, {"Accept": "application/json", "Accept-Encoding": "gzip"})
    n.note("encoding", str(response.getheaders().get("content-encoding")))
    n.note("items", [len(item["data"]["text"]) for item in answer["items"]])
    core().delete_collection_namespaced_config_map(NAMESPACE, label_selector="app=large")


@operation("create")
def create(n: Noted) -> None:
    body = manifests.config_map("made", {"sky": "blue"})
    n.call("create", core().create_namespaced_config_map, NAMESPACE, body)
    n.call("read", core().read_namespaced_config_map, "made", NAMESPACE)
    n.call("delete", core().delete_namespaced_config_map, "made", NAMESPACE)


@operation("replace")
def replace(n: Noted) -> None:
    body = manifests.config_map("made", {"sky": "blue"})
    made = core().create_namespaced_config_map(NAMESPACE, body)
    made.data = {"sky": "grey"}
    n.call("replace", core().replace_namespaced_config_map, "made", NAMESPACE, made)
    n.call("stale", core().replace_namespaced_config_map, "made", NAMESPACE, made)
    core().delete_namespaced_config_map("made", NAMESPACE)


@operation("patch")
def patch(n: Noted) -> None:
    core().create_namespaced_config_map(NAMESPACE, manifests.config_map("made", {"sky": "blue"}))
    patching = core().patch_namespaced_config_map
    n.call("strategic", patching, "made", NAMESPACE, {"data": {"sky": "grey"}})
    steps = [{"op": "add", "path": "/data/sea", "value": "deep"}]
    n.call("json", patching, "made", NAMESPACE, steps)
    merged = dynamic.DynamicClient(api()).resources.get(api_version="v1", kind="ConfigMap")
    answer = merged.patch(
        name="made", namespace=NAMESPACE, body={"data": {"sky": None}},
        content_type="application/merge-patch+json",
    )  # fmt: skip
    n.note("merge", answer.to_dict())
    core().delete_namespaced_config_map("made", NAMESPACE)


@operation("apply-server")
def apply_server(n: Noted) -> None:
    resources = dynamic.DynamicClient(api()).resources.get(api_version="v1", kind="ConfigMap")

    def apply(sky: str, manager: str) -> Any:
        body = manifests.config_map("applied", {"sky": sky})
        return resources.server_side_apply(
            name="applied", namespace=NAMESPACE, body=body, field_manager=manager
        ).to_dict()

    n.call("apply", apply, "blue", "one")
    try:
        apply("grey", "other")
    except dynamic.exceptions.ConflictError as error:
        n.note("conflict", "", error.status, str(error.body))
    core().delete_namespaced_config_map("applied", NAMESPACE)


@operation("dry-run")
def dry_run(n: Noted) -> None:
    body = manifests.config_map("tried", {"sky": "blue"})
    n.call("create", core().create_namespaced_config_map, NAMESPACE, body, dry_run="All")
    n.call("read", core().read_namespaced_config_map, "tried", NAMESPACE)


@operation("delete-collection")
def delete_collection(n: Noted) -> None:
    for number in range(3):
        core().create_namespaced_config_map(
            NAMESPACE, manifests.config_map(f"gone-{number}", {}, app="gone")
        )
    removing = core().delete_collection_namespaced_config_map
    n.call("delete", removing, NAMESPACE, label_selector="app=gone")
    n.call("list", core().list_namespaced_config_map, NAMESPACE, label_selector="app=gone")


@operation("large-body")
def large_body(n: Noted) -> None:
    for size in (1_000_000, 2_900_000):
        body = manifests.config_map("heavy", {"text": "x" * size})
        n.call(f"{size} bytes", core().create_namespaced_config_map, NAMESPACE, body)
    core().delete_namespaced_config_map("heavy", NAMESPACE)


@operation("custom-resource")
def custom_resource(n: Noted) -> None:
    group = f"{NAMESPACE}.py.example.com"
    extensions = client.ApiextensionsV1Api(api())
    definition = json.loads(manifests.definition(group))
    extensions.create_custom_resource_definition(definition)
    objects = client.CustomObjectsApi(api())
    where = (group, "v1", NAMESPACE, "widgets")
    for _ in range(100):
        try:
            objects.list_namespaced_custom_object(*where)
            break
        except ApiException:
            time.sleep(0.1)
    for size in (3, 0):
        body = json.loads(manifests.widget(group, size))
        n.call("create", objects.create_namespaced_custom_object, *where, body)
    n.call("list", objects.list_namespaced_custom_object, *where)
    n.call("delete", objects.delete_namespaced_custom_object, *where, "first")
    extensions.delete_custom_resource_definition(f"widgets.{group}")


@operation("eviction")
def eviction(n: Noted) -> None:
    body = {
        "apiVersion": "policy/v1beta1", "kind": "Eviction",
        "metadata": {"name": "absent", "namespace": NAMESPACE},
    }  # fmt: skip
    n.call("evict", core().create_namespaced_pod_eviction, "absent", NAMESPACE, body)


@operation("scale")
def scale(n: Noted) -> None:
    apps = client.AppsV1Api(api())
    body = {
        "metadata": {"name": "scaled"},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": {"app": "scaled"}},
            "template": {
                "metadata": {"labels": {"app": "scaled"}},
                "spec": {"containers": [{"name": "main", "image": "lab/busybox:1"}]},
            },
        },
    }
    apps.create_namespaced_deployment(NAMESPACE, body)
    n.call("read", apps.read_namespaced_deployment_scale, "scaled", NAMESPACE)
    wanted = {"spec": {"replicas": 0}}
    n.call("patch", apps.patch_namespaced_deployment_scale, "scaled", NAMESPACE, wanted)
    apps.delete_namespaced_deployment("scaled", NAMESPACE)


@operation("logs")
def logs(n: Noted) -> None:
    n.call("all", core().read_namespaced_pod_log, "quiet", NAMESPACE)
    n.call("tail", core().read_namespaced_pod_log, "quiet", NAMESPACE, tail_lines=2)
    n.call("absent", core().read_namespaced_pod_log, "quiet", NAMESPACE, container="absent")


@operation("logs-follow")
def logs_follow(n: Noted) -> None:
    lines = []
    for line in watch.Watch().stream(core().read_namespaced_pod_log, "web", NAMESPACE):
        lines.append(line)
        if len(lines) == 10:
            break
    n.note("ten lines", lines)


def execute(n: Noted, step: str, *command: str, typed: str = "") -> None:
    """Run a command in the pod `web`."""
    session = stream(
        core().connect_get_namespaced_pod_exec, "web", NAMESPACE, command=list(command),
        stdin=bool(typed), stdout=True, stderr=True, tty=False, _preload_content=False,
    )  # fmt: skip
    if typed:
        session.write_stdin(typed)
    out, errors = [], []
    while session.is_open():
        session.update(timeout=5)
        out.append(session.read_stdout() if session.peek_stdout() else "")
        errors.append(session.read_stderr() if session.peek_stderr() else "")
    n.note(step, "".join(out), session.returncode, "".join(errors))


@operation("exec")
def executing(n: Noted) -> None:
    execute(n, "echo", "echo", "hello")
    execute(n, "exit code", "sh", "-c", "echo broken >&2; exit 7")


@operation("exec-stdin")
def exec_stdin(n: Noted) -> None:
    execute(n, "head", "head", "-n", "2", typed="one\ntwo\n")


@operation("exec-large")
def exec_large(n: Noted) -> None:
    execute(n, "4 MiB", "sh", "-c", "seq 1 600000 | tail -c 4194304 | md5sum; seq 1 100000")


@operation("port-forward")
def port_forward(n: Noted) -> None:
    for number in range(2):
        forwarded = portforward(
            core().connect_get_namespaced_pod_portforward, "web", NAMESPACE, ports="8080"
        )
        socket = forwarded.socket(8080)
        socket.setblocking(True)
        socket.sendall(b"GET / HTTP/1.0\r\n\r\n")
        received = b""
        while data := socket.recv(65536):
            received += data
        n.note(f"connection {number}", received.decode().partition("\r\n\r\n")[2])
        socket.close()


@operation("can-i")
def can_i(n: Noted) -> None:
    reviews = client.AuthorizationV1Api(api())
    for verb, resource in (("get", "pods"), ("delete", "nodes")):
        wanted = {"spec": {"resourceAttributes": {"verb": verb, "resource": resource}}}
        answer = reviews.create_self_subject_access_review(wanted)
        n.note(f"{verb} {resource}", {"allowed": answer.status.allowed})


@operation("api-resources")
def api_resources(n: Noted) -> None:
    n.call("core", core().get_api_resources)
    n.call("groups", client.ApisApi(api()).get_api_versions)
    n.call("version", client.VersionApi(api()).get_code)


@operation("error-404")
def error_404(n: Noted) -> None:
    n.call("pod", core().read_namespaced_pod, "absent", NAMESPACE)
    n.call("namespace", core().create_namespaced_config_map, "absent-namespace",
           manifests.config_map("any", {}))  # fmt: skip


@operation("error-409")
def error_409(n: Noted) -> None:
    body = manifests.config_map("once", {})
    core().create_namespaced_config_map(NAMESPACE, body)
    n.call("again", core().create_namespaced_config_map, NAMESPACE, body)
    core().delete_namespaced_config_map("once", NAMESPACE)


@operation("error-422")
def error_422(n: Noted) -> None:
    body = manifests.config_map("Not_A_Name", {})
    n.call("name", core().create_namespaced_config_map, NAMESPACE, body)


def small_set(n: Noted) -> None:
    """What shows that an address and a credential work for every kind of request."""
    n.call("list", core().list_namespaced_pod, NAMESPACE, label_selector="app=quiet")
    follow_changes(n, "addressed", {})
    execute(n, "exec", "echo", "hello")
    n.call("logs", core().read_namespaced_pod_log, "quiet", NAMESPACE, limit_bytes=14)
    n.call("version", client.VersionApi(api()).get_code)
    n.call("absent", core().read_namespaced_pod, "absent", NAMESPACE)


OPERATIONS |= dict.fromkeys(("by-path", "by-host", "by-token", "static-token"), small_set)

if __name__ == "__main__":
    serve(f"Python {kubernetes.__version__}", OPERATIONS, lambda: Noted(ApiException))
