"""What kubectl does with the built-in API server, which speaks what an old real one cannot."""

import json

from tests.conformance import manifests
from tests.conformance.kubectl_pods import copy_both_ways, forward, interactive
from tests.conformance.kubectl_session import (
    LOGS_REQUESTS,
    KubectlSession,
    operation,
    requests_in,
    sorted_lines,
)

EXEC = ("exec", "web")
WEBSOCKET_SINCE = {"exec": (1, 30), "portforward": (1, 31)}
"""The kubectl that takes a WebSocket first."""


@operation("new-discovery")
def discovery(k: KubectlSession) -> None:
    k("api-resources", works=True)
    k("api-versions")
    k("version")
    k("explain", "pods.spec.containers")
    k("get", "--raw", "/openapi/v3")


@operation("new-read")
def read(k: KubectlSession) -> None:
    k("get", "pods", works=True)
    k("get", "pod", "web", "-o", "json")
    k("describe", "pod", "web", show=sorted_lines)
    k("get", "pod", "absent")
    k("get", "pods", "-o", "wide")


@operation("new-watch-list")
def watch_list(k: KubectlSession) -> None:
    k.needs((1, 31), "the WatchListClient gate")
    gate = {"KUBE_FEATURE_WatchListClient": "true"}
    k("wait", "--for=condition=Ready", "pod/web", "--timeout=20s", settings=gate)
    raw = f"/api/v1/namespaces/{k.namespace}/pods?watch=1&sendInitialEvents=true"
    raw += "&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan&timeoutSeconds=1"
    text = k.quiet("get", "--raw", raw).stdout
    kinds = [json.loads(line)["type"] for line in text.splitlines() if line]
    k.note("get --raw with initial events", " ".join(kinds))


@operation("new-exec")
def execute(k: KubectlSession) -> None:
    k(*EXEC, "--", "echo", "hello", works=True)
    k(*EXEC, "--", "sh", "-c", "echo broken >&2; exit 7")
    k(*EXEC, "-i", "--", "cat", stdin="typed\n")
    k(*EXEC, "-i", "--", "cat", stdin="y" * 300_000)
    k(*EXEC, "--", "absent-program")
    k("exec", "absent", "--", "true")
    k("logs", "web", "--tail=2", show=lambda text: str(len(text.splitlines())))
    note_transport(k, "exec", k.quiet(*EXEC, "--", "true").stderr)


@operation("new-exec-tty")
def exec_tty(k: KubectlSession) -> None:
    interactive(k, resizes=False)


@operation("new-cp")
def copy(k: KubectlSession) -> None:
    copy_both_ways(k, 3 << 20)
    there = f"{k.namespace}/web:/tmp/copied"
    note_transport(k, "exec", k.quiet("cp", there, "again").stderr)


@operation("new-port-forward")
def port_forward(k: KubectlSession) -> None:
    verbose = ["-v=6"] if k.version >= LOGS_REQUESTS else []
    note_transport(k, "portforward", forward(k, "pod/web", *verbose))
    k("port-forward", "pod/absent", ":80")


def note_transport(k: KubectlSession, subresource: str, log: str) -> None:
    """Note how kubectl asked; what it does in silence, falling back to SPDY, breaks the operation.

    A WebSocket begins with GET, SPDY with POST.
    """
    found = {line.split()[0] for line in requests_in(log) if f"/{subresource}" in line}
    wanted = {"GET" if k.version >= WEBSOCKET_SINCE[subresource] else "POST"}
    if found != wanted and k.version >= LOGS_REQUESTS:
        raise RuntimeError(f"kubectl asked for {subresource} by {sorted(found)}, not {wanted}")
    k.note(f"transport of {subresource}", " ".join(found))


@operation("new-write")
def write(k: KubectlSession) -> None:
    k("create", "-f", "-", stdin=manifests.COLOURS, works=True)
    k("apply", "-f", "-", stdin=manifests.COLOURS.replace("blue", "grey"))
    k("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=manifests.COLOURS)
    k("patch", "configmap", "colours", "--type=merge", "-p", '{"data":{"sea":"deep"}}')
    k("patch", "configmap", "colours", "--type=json", "-p", '[{"op":"remove","path":"/data/sea"}]')
    k("create", "-f", "-", stdin=manifests.COLOURS)
    k("get", "configmap", "colours", "-o", "yaml")
    k("delete", "configmap", "colours")


@operation("new-whoami")
def whoami(k: KubectlSession) -> None:
    if k.version >= (1, 27):
        k("auth", "whoami")
        k("auth", "whoami", "-o", "json")
    k("auth", "can-i", "delete", "nodes")


@operation("new-can-i-list")
def can_i_list(k: KubectlSession) -> None:
    k("auth", "can-i", "--list", show=sorted_lines)
