"""First steps of the official Python client's README and examples, on pods of namespace shop.

Prints what each saw, one JSON document in a line.
"""

import json
import socket
import sys
import urllib.request
from typing import Any

from kubernetes import client, config, dynamic, utils, watch
from kubernetes.client.exceptions import ApiException
from kubernetes.stream import portforward, stream

NAMESPACE, LABELS = "shop", "first-steps=python"
SETTINGS: dict[str, Any] = {
    "metadata": {"name": "first-steps-python", "labels": {"first-steps": "python"}},
    "data": {"color": "blue"},
}


def show(step: str, seen: Any) -> None:
    print(json.dumps([step, seen]), flush=True)


def status_of(answer: Any) -> str:
    """Of a deletion: a model in older versions of the client, a document in newer ones."""
    return str(answer["status"] if isinstance(answer, dict) else answer.status)


def objects(core: client.CoreV1Api) -> None:
    """Create, patch, replace, watch, delete: examples/node_labels.py and its like."""
    name, changes = SETTINGS["metadata"]["name"], watch.Watch()
    listed = core.list_namespaced_config_map(NAMESPACE, label_selector=LABELS)
    made = core.create_namespaced_config_map(NAMESPACE, SETTINGS)
    show("create", [made.kind, made.api_version, made.data])
    patched = core.patch_namespaced_config_map(name, NAMESPACE, {"data": {"size": "1"}})
    show("patch", patched.data)
    patched.data = {"color": "green"}
    show("replace", core.replace_namespaced_config_map(name, NAMESPACE, patched).data)
    show("delete", status_of(core.delete_namespaced_config_map(name, NAMESPACE)))
    events = changes.stream(
        core.list_namespaced_config_map,
        NAMESPACE,
        label_selector=LABELS,
        resource_version=listed.metadata.resource_version,
        timeout_seconds=30,
    )
    seen = []
    for event in events:
        seen.append([event["type"], event["object"].kind])
        if event["type"] == "DELETED":
            changes.stop()
    show("watch", seen)
    try:
        core.read_namespaced_config_map(name, NAMESPACE)
    except ApiException as error:
        show("absent", [error.status, json.loads(error.body)["reason"]])


def deployment(connection: client.ApiClient) -> None:
    """examples/deployment_crud.py, by way of utils.create_from_dict."""
    labels = {"app": "first-steps-python"}
    container = {"name": "c", "image": "example/one"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    body = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "first-steps-python"},
        "spec": {"replicas": 2, "selector": {"matchLabels": labels}, "template": template},
    }
    apps = client.AppsV1Api(connection)
    (made,) = utils.create_from_dict(connection, body, namespace=NAMESPACE)
    made.spec.template.spec.containers[0].image = "example/two"
    after = apps.patch_namespaced_deployment(made.metadata.name, NAMESPACE, made)
    show("deployment", [after.spec.template.spec.containers[0].image, after.metadata.generation])
    scaled = apps.patch_namespaced_deployment_scale(
        made.metadata.name, NAMESPACE, {"spec": {"replicas": 5}}
    )
    show("scale", scaled.spec.replicas)
    done = apps.delete_namespaced_deployment(
        made.metadata.name, NAMESPACE, body=client.V1DeleteOptions(grace_period_seconds=5)
    )
    show("delete deployment", status_of(done))


def pods(core: client.CoreV1Api) -> None:
    """examples/pod_exec.py, pod_portforward.py; a pod of one's own."""
    listed = core.list_pod_for_all_namespaces(watch=False, limit=2)
    show("limit", [len(listed.items), bool(listed.metadata._continue)])
    pod = core.list_namespaced_pod(NAMESPACE, label_selector="app=web").items[0].metadata.name
    echo = ["/bin/sh", "-c", "echo This message goes to stdout; exit 3"]
    shared = {"stderr": True, "stdout": True, "tty": False}
    run = core.connect_get_namespaced_pod_exec
    show("exec", stream(run, pod, NAMESPACE, command=echo, stdin=False, **shared))
    session = stream(
        run, pod, NAMESPACE, command=["sh"], stdin=True, _preload_content=False, **shared
    )
    session.write_stdin("echo typed\nexit 4\n")
    session.run_forever(timeout=30)
    show("interactive exec", [session.read_stdout(), session.returncode])
    forwarded = portforward(
        core.connect_get_namespaced_pod_portforward, pod, NAMESPACE, ports="7,81"
    )
    echoing = forwarded.socket(7)
    echoing.settimeout(30)
    echoing.sendall(b"to the echo")
    show("port-forward", echoing.recv(100).decode())
    echoing.close()
    while not (problem := forwarded.error(81)):
        forwarded.socket(81).recv(1)
    show("refused port", "connection refused" in problem)
    show("log", len(core.read_namespaced_pod_log(pod, NAMESPACE, tail_lines=3).splitlines()))
    own = {"metadata": {"name": "first-steps-python"}, "spec": {"containers": [{"name": "c"}]}}
    core.create_namespaced_pod(NAMESPACE, own)
    show("delete pod", core.delete_namespaced_pod("first-steps-python", NAMESPACE).kind)


def page(core: client.CoreV1Api) -> None:
    """examples/pod_portforward.py: urllib over a forwarded port."""
    pod = core.list_namespaced_pod(NAMESPACE, label_selector="app=web").items[0].metadata.name

    def connect(address: tuple[str, int], *_: Any, **__: Any) -> socket.socket:
        made = portforward(
            core.connect_get_namespaced_pod_portforward, pod, NAMESPACE, ports=str(address[1])
        )
        found: socket.socket = made.socket(address[1])
        return found

    socket.create_connection = connect
    with urllib.request.urlopen("http://a.pod:8080/", timeout=30) as answer:
        show("page", answer.read().decode())


def any_kind(connection: client.ApiClient) -> None:
    """The dynamic client's README."""
    maps = dynamic.DynamicClient(connection).resources.get(api_version="v1", kind="ConfigMap")
    body = {"apiVersion": "v1", "kind": "ConfigMap", **SETTINGS}
    applied = maps.server_side_apply(
        namespace=NAMESPACE, body=body, field_manager="first-steps", force_conflicts=True
    )
    show("apply", [applied.data.color, applied.metadata.managedFields[0].manager])
    maps.delete(name=SETTINGS["metadata"]["name"], namespace=NAMESPACE)


def main() -> None:
    config.load_kube_config()
    connection = client.ApiClient()
    core = client.CoreV1Api(connection)
    objects(core)
    deployment(connection)
    pods(core)
    any_kind(connection)
    page(core)


if __name__ == "__main__":
    sys.exit(main())
