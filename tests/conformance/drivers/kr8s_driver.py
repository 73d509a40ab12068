"""The library kr8s (PyPI `kr8s`) as a driver; arguments: kubeconfig, namespace.

It is started by `driver_client.py`. Its HTTP and WebSocket stacks are httpx's, others than those of
the official client.
"""

import sys
from collections.abc import Callable
from typing import Any

import httpx
import kr8s
from kr8s.objects import ConfigMap, Deployment, Pod

from tests.conformance import manifests
from tests.conformance.drivers.protocol import Notes, registrar, serve

KUBECONFIG, NAMESPACE = sys.argv[1:3]
OPERATIONS: dict[str, Callable[[Any], None]] = {}
FAILURES = (kr8s.ServerError, kr8s.NotFoundError, httpx.HTTPStatusError)
_made: list[Any] = []


def api() -> Any:
    """One client for the whole session."""
    if not _made:
        _made.append(kr8s.api(kubeconfig=KUBECONFIG, namespace=NAMESPACE))
    return _made[0]


class Noted(Notes):
    """With this library's errors."""

    @staticmethod
    def told(error: Exception) -> tuple[int, str]:
        response = getattr(error, "response", None)
        if response is None:
            return 404, str(error)
        return response.status_code, response.text


operation = registrar(OPERATIONS)


def config_map(name: str, data: dict[str, str], **labels: str) -> Any:
    """A ConfigMap of this namespace, not created yet."""
    body = manifests.config_map(name, data, **labels)
    body["metadata"]["namespace"] = NAMESPACE
    return ConfigMap(body, api=api())


def pod(name: str) -> Any:
    """A pod of this namespace."""
    return Pod.get(name, namespace=NAMESPACE, api=api())


def plain(found: Any) -> Any:
    """Objects as JSON."""
    return [item.to_dict() for item in found]


@operation("get-json")
def get_json(n: Noted) -> None:
    n.call("read", lambda: pod("quiet").to_dict())
    n.call("list", lambda: plain(api().get("pods", namespace=NAMESPACE)))


@operation("selectors")
def selectors(n: Noted) -> None:
    def names(**chosen: Any) -> list[str]:
        return [item.name for item in api().get("pods", namespace=NAMESPACE, **chosen)]

    n.call("labels", lambda: names(label_selector={"app": "web"}))
    n.call("fields", lambda: names(field_selector="metadata.name=quiet"))
    n.call("nonsense", lambda: names(field_selector="nonsense=1"))


@operation("watch")
def watch(n: Noted) -> None:
    watched = config_map("seen", {"sky": "blue"}, app="seen")
    watched.create()
    seen = []
    for kind, found in api().watch("configmaps", namespace=NAMESPACE, label_selector="app=seen"):
        seen.append([kind, found.name, found.raw["data"]])
        if kind == "ADDED":
            watched.patch({"data": {"sky": "grey"}})
        elif kind == "MODIFIED":
            watched.delete()
        elif kind == "DELETED":
            break
    n.note("events", seen)


@operation("create")
def create(n: Noted) -> None:
    made = config_map("made", {"sky": "blue"})
    n.call("create", made.create)
    n.note("created", made.to_dict())
    n.note("exists", str(made.exists()))
    n.call("delete", made.delete)


@operation("patch")
def patch(n: Noted) -> None:
    made = config_map("made", {"sky": "blue"})
    made.create()
    made.patch({"data": {"sky": "grey"}})
    made.patch([{"op": "add", "path": "/data/sea", "value": "deep"}], type="json")
    made.label(tone="dark")
    n.note("patched", made.to_dict())
    n.call("refused", made.patch, [{"op": "test", "path": "/data/sea", "value": "f"}], type="json")
    made.delete()


@operation("scale")
def scale(n: Noted) -> None:
    body = {
        "metadata": {"name": "scaled", "namespace": NAMESPACE},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": {"app": "scaled"}},
            "template": {
                "metadata": {"labels": {"app": "scaled"}},
                "spec": {"nodeName": "nowhere",
                         "containers": [{"name": "main", "image": "lab/busybox:1"}]},
            },
        },
    }  # fmt: skip
    made = Deployment(body, api=api())
    made.create()
    n.note("before", made.replicas)
    made.delete()


@operation("logs")
def logs(n: Noted) -> None:
    n.note("all", list(pod("quiet").logs()))
    n.note("tail", list(pod("quiet").logs(tail_lines=2)))


@operation("logs-follow")
def logs_follow(n: Noted) -> None:
    lines = []
    for line in pod("web").logs(follow=True):
        lines.append(line)
        if len(lines) == 10:
            break
    n.note("ten lines", lines)


def execute(n: Noted, step: str, *command: str, **named: Any) -> None:
    """Run a command in the pod `web`."""
    done = pod("web").exec(list(command), check=False, **named)
    n.note(step, done.stdout.decode(), done.returncode, done.stderr.decode())


@operation("exec")
def executing(n: Noted) -> None:
    execute(n, "echo", "echo", "hello")
    execute(n, "exit code", "sh", "-c", "echo broken >&2; exit 7")


@operation("port-forward")
def port_forward(n: Noted) -> None:
    with pod("web").portforward(remote_port=8080, local_port="auto") as port:
        for number in range(3):
            answer = httpx.get(f"http://127.0.0.1:{port}/", timeout=20)
            n.note(f"request {number}", answer.text, answer.status_code)


@operation("api-resources")
def api_resources(n: Noted) -> None:
    n.call("resources", lambda: api().api_resources())
    n.call("version", lambda: api().version())


@operation("whoami")
def whoami(n: Noted) -> None:
    n.call("whoami", lambda: api().whoami())


@operation("error-404")
def error_404(n: Noted) -> None:
    n.call("pod", lambda: pod("absent").to_dict())


@operation("error-409")
def error_409(n: Noted) -> None:
    config_map("once", {}).create()
    n.call("again", config_map("once", {}).create)
    config_map("once", {}).delete()


@operation("error-422")
def error_422(n: Noted) -> None:
    n.call("name", config_map("Not_A_Name", {}).create)


def small_set(n: Noted) -> None:
    """What shows that an address and a credential work for every kind of request."""
    n.call("list", lambda: plain(api().get("pods", "quiet", namespace=NAMESPACE)))
    create(n)
    watch(n)
    execute(n, "exec", "echo", "hello")
    n.note("logs", list(pod("quiet").logs(limit_bytes=14)))
    n.call("absent", lambda: pod("absent").to_dict())


OPERATIONS |= dict.fromkeys(("by-path", "by-host", "by-token", "static-token"), small_set)

if __name__ == "__main__":
    serve(f"kr8s {kr8s.__version__}", OPERATIONS, lambda: Noted(FAILURES))
