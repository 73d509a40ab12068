"""The library lightkube (PyPI `lightkube`) as a driver; arguments: kubeconfig, namespace.

It is started by `driver_client.py`. It has no informer and no leader election: the informer here is
its list and its watch that tries again by itself (`on_error`), as its documentation has it.
"""

import importlib.metadata
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightkube
import yaml
from lightkube import ApiError, KubeConfig
from lightkube.resources import coordination_v1, core_v1
from lightkube.types import OnErrorAction, OnErrorResult, PatchType

from tests.conformance import manifests
from tests.conformance.drivers.protocol import Notes, registrar, restarted, serve, until

KUBECONFIG, NAMESPACE = sys.argv[1:3]
OPERATIONS: dict[str, Callable[[Any], None]] = {}
ConfigMap: Any = core_v1.ConfigMap
Lease: Any = coordination_v1.Lease
Pod: Any = core_v1.Pod
_made: list[Any] = []


class Noted(Notes):
    """With this library's errors and objects."""

    @staticmethod
    def told(error: Exception) -> tuple[int, str]:
        assert isinstance(error, ApiError)
        return error.status.code or 0, error.response.text

    def note(self, step: str, output: object, code: int = 0, errors: str = "") -> None:
        super().note(step, plain(output), code, errors)


def plain(found: Any) -> Any:
    """Objects as dictionaries."""
    if isinstance(found, list):
        return [plain(item) for item in found]
    return found.to_dict() if hasattr(found, "to_dict") else found


def api() -> Any:
    """One client for the whole session."""
    if not _made:
        config = KubeConfig.from_file(KUBECONFIG)
        document = yaml.safe_load(Path(KUBECONFIG).read_text())
        # The one field of the cluster that the library leaves unread.
        proxy = document["clusters"][0]["cluster"].get("proxy-url")
        _made.append(lightkube.Client(config=config, namespace=NAMESPACE, proxy=proxy))
    return _made[0]


operation = registrar(OPERATIONS)


def config_map(name: str, data: dict[str, str], **labels: str) -> Any:
    """A ConfigMap of this namespace, not created yet."""
    body = manifests.config_map(name, data, **labels)
    body["metadata"]["namespace"] = NAMESPACE
    return ConfigMap.from_dict(body)


@operation("get-json")
def get_json(n: Noted) -> None:
    n.call("read", api().get, Pod, "quiet")
    n.call("list", lambda: list(api().list(Pod)))
    n.call("node", api().get, core_v1.Node, "lab-node")


@operation("selectors")
def selectors(n: Noted) -> None:
    def names(**chosen: Any) -> list[str]:
        return [found.metadata.name for found in api().list(Pod, **chosen)]

    n.call("labels", names, labels={"app": "web"})
    n.call("fields", names, fields={"metadata.name": "quiet"})
    n.call("nonsense", names, fields={"nonsense": "1"})


@operation("pagination")
def pagination(n: Noted) -> None:
    for number in range(7):
        api().create(config_map(f"page-{number}", {}, app="pages"))
    found = api().list(ConfigMap, labels={"app": "pages"}, chunk_size=3)
    n.note("names", [item.metadata.name for item in found])
    for number in range(7):
        api().delete(ConfigMap, f"page-{number}")


@operation("watch")
def watch(n: Noted) -> None:
    first = api().list(ConfigMap, labels={"app": "seen"})
    list(first)
    api().create(config_map("seen", {"sky": "blue"}, app="seen"))
    api().patch(ConfigMap, "seen", {"data": {"sky": "grey"}}, patch_type=PatchType.MERGE)
    api().delete(ConfigMap, "seen")
    seen = []
    for kind, found in api().watch(
        ConfigMap, labels={"app": "seen"}, resource_version=first.resourceVersion, server_timeout=20
    ):
        seen.append([kind, found.metadata.name, found.data])
        if kind == "DELETED":
            break
    n.note("events", seen)


def again(_: Exception, count: int) -> OnErrorResult:
    """Try again, not too often."""
    return OnErrorResult(OnErrorAction.RETRY, min(count, 4) * 0.25)


@operation("informer-restart")
def informer_restart(n: Noted) -> None:
    first = api().list(ConfigMap, labels={"app": "lasting"})
    known = {found.metadata.name: found.data for found in first}
    gone: list[str] = []

    def follow() -> None:
        for kind, found in api().watch(
            ConfigMap, labels={"app": "lasting"}, resource_version=first.resourceVersion,
            on_error=again,
        ):  # fmt: skip
            if kind == "DELETED":
                gone.append(found.metadata.name)
                known.pop(found.metadata.name, None)
            else:
                known[found.metadata.name] = found.data

    follower = threading.Thread(target=follow, daemon=True)
    follower.start()
    restarted()
    until(lambda: "last" in known or not follower.is_alive(), "what happened after the restart")
    n.note("known", dict(known))
    n.note("told to be gone", sorted(set(gone)))


@operation("create")
def create(n: Noted) -> None:
    n.call("create", api().create, config_map("made", {"sky": "blue"}))
    n.call("read", api().get, ConfigMap, "made")
    n.call("delete", api().delete, ConfigMap, "made")


@operation("replace")
def replace(n: Noted) -> None:
    made = api().create(config_map("made", {"sky": "blue"}))
    made.data = {"sky": "grey"}
    n.call("replace", api().replace, made)
    n.call("stale", api().replace, made)
    api().delete(ConfigMap, "made")


@operation("patch")
def patch(n: Noted) -> None:
    api().create(config_map("made", {"sky": "blue"}))
    patching = api().patch
    merged = {"data": {"sky": "grey"}}
    n.call("strategic", patching, ConfigMap, "made", merged, patch_type=PatchType.STRATEGIC)
    n.call("merge", patching, ConfigMap, "made", merged, patch_type=PatchType.MERGE)
    steps = [{"op": "add", "path": "/data/sea", "value": "deep"}]
    n.call("json", patching, ConfigMap, "made", steps, patch_type=PatchType.JSON)
    api().delete(ConfigMap, "made")


@operation("apply-server")
def apply_server(n: Noted) -> None:
    def apply(sky: str, manager: str, force: bool = False) -> Any:
        return api().apply(config_map("applied", {"sky": sky}), field_manager=manager, force=force)

    n.call("apply", apply, "blue", "one")
    n.call("conflict", apply, "grey", "other")
    n.call("force", apply, "grey", "other", force=True)
    api().delete(ConfigMap, "applied")


@operation("delete-collection")
def delete_collection(n: Noted) -> None:
    for number in range(3):
        metadata = {"name": f"gone-{number}", "namespace": NAMESPACE}
        api().create(Lease.from_dict({"metadata": metadata}))
    n.call("delete", api().deletecollection, Lease)  # the library knows no selector here
    n.call("list", lambda: list(api().list(Lease)))


@operation("logs")
def logs(n: Noted) -> None:
    n.call("all", lambda: list(api().log("quiet")))
    n.call("tail", lambda: list(api().log("quiet", tail_lines=2)))
    n.call("absent", lambda: list(api().log("quiet", container="absent")))


@operation("logs-follow")
def logs_follow(n: Noted) -> None:
    lines = []
    for line in api().log("web", follow=True):
        lines.append(line)
        if len(lines) == 10:
            break
    n.note("ten lines", lines)


def execute(n: Noted, step: str, *command: str, typed: str | None = None) -> None:
    """Run a command in the pod `web`."""
    done = api().exec(
        "web", command=list(command), stdin=typed, stdout=True, stderr=True, timeout=30
    )
    n.note(step, done.stdout or "", done.exit_code, done.stderr or "")


@operation("exec")
def executing(n: Noted) -> None:
    execute(n, "echo", "echo", "hello")
    execute(n, "exit code", "sh", "-c", "echo broken >&2; exit 7")


@operation("exec-stdin")
def exec_stdin(n: Noted) -> None:
    execute(n, "head", "head", "-n", "2", typed="one\ntwo\n")


@operation("error-404")
def error_404(n: Noted) -> None:
    n.call("pod", api().get, Pod, "absent")


@operation("error-409")
def error_409(n: Noted) -> None:
    api().create(config_map("once", {}))
    n.call("again", api().create, config_map("once", {}))
    api().delete(ConfigMap, "once")


@operation("error-422")
def error_422(n: Noted) -> None:
    n.call("name", api().create, config_map("Not_A_Name", {}))


def small_set(n: Noted) -> None:
    """What shows that an address and a credential work for every kind of request."""
    n.call("list", lambda: list(api().list(Pod, labels={"app": "quiet"})))
    watch(n)
    execute(n, "exec", "echo", "hello")
    n.call("absent", api().get, Pod, "absent")


OPERATIONS |= dict.fromkeys(("by-path", "by-host", "by-token", "static-token"), small_set)

if __name__ == "__main__":
    version = importlib.metadata.version("lightkube")
    serve(f"lightkube {version}", OPERATIONS, lambda: Noted(ApiError))
