"""What kubectl does in the chapters "Reading" and "Errors"."""

import json

from tests.conformance import manifests
from tests.conformance.kubectl_session import KubectlSession, nothing, operation


@operation("get-table")
def get_table(k: KubectlSession) -> None:
    k("get", "pod", "web", "quiet")
    k("get", "pods", "-l", "app in (web,quiet)", "--show-labels")
    k("get", "nodes")
    k("get", "pods", "--no-headers")
    k("get", "pods,services,endpoints")


@operation("get-json")
def get_json(k: KubectlSession) -> None:
    k("get", "pod", "web", "-o", "json")
    k("get", "pods", "-o", "yaml")
    k("get", "node", "lab-node", "-o", "jsonpath={.status.nodeInfo}")
    k("get", "namespace", k.namespace, "-o", "yaml")


@operation("get-wide")
def get_wide(k: KubectlSession) -> None:
    k("get", "pods", "-o", "wide")
    k("get", "pods", "-o", "custom-columns=NAME:.metadata.name,NODE:.spec.nodeName")
    k("get", "pods", "--sort-by=.metadata.name", "-o", "name")
    k("get", "pods", "-o", "go-template={{range .items}}{{.metadata.name}} {{end}}")


@operation("selectors")
def selectors(k: KubectlSession) -> None:
    k("get", "pods", "-l", "app=web", "-o", "name")
    k("get", "pods", "-l", "app notin (web)", "-o", "name")
    k("get", "pods", "--field-selector", "metadata.name=quiet", "-o", "name")
    k("get", "pods", "--field-selector", "status.phase!=Running", "-o", "name")
    k("get", "pods", "--field-selector", "nonsense=1")
    k("get", "pods", "-l", "((")


def without_dns_warnings(text: str) -> str:
    """A description without the one event that the test's kubelet repeats when it likes."""
    return "\n".join(line for line in text.splitlines() if "MissingClusterDNS" not in line)


@operation("describe")
def describe(k: KubectlSession) -> None:
    k("describe", "pod", "quiet", show=without_dns_warnings)
    k("describe", "configmap", "colours-absent")
    k("describe", "namespace", k.namespace)


@operation("watch")
def watch(k: KubectlSession) -> None:
    words = ("get", "configmaps", "-l", "app=watched", "-w", "--output-watch-events")
    k.quiet("create", "configmap", "seen-first", "--from-literal=sky=blue")
    k.quiet("label", "configmap", "seen-first", "app=watched")
    with k.running(*words) as watching:
        watching.wait_for_line("seen-first")
        k.quiet("patch", "configmap", "seen-first", "-p", '{"data":{"sea":"deep"}}')
        watching.wait_for_line("MODIFIED.* 2 ")
        k.quiet("delete", "configmap", "seen-first")
        watching.wait_for_line("DELETED")
        k.note("get -w", watching.output)
    raw = f"/api/v1/namespaces/{k.namespace}/configmaps?watch=1&timeoutSeconds=1"
    k("get", "--raw", f"{raw}&labelSelector=app%3Dnone", works=True)
    k("wait", "--for=condition=Ready", "pod/web", "--timeout=20s")
    k("wait", "--for=delete", "pod/absent", "--timeout=5s")


@operation("pagination")
def pagination(k: KubectlSession) -> None:
    k.quiet("create", "-f", "-", stdin=manifests.many(12, 16, app="pages"))
    k("get", "configmaps", "-l", "app=pages", "--chunk-size=5", "-o", "name")
    k("get", "configmaps", "-l", "app=pages", "--chunk-size=5")
    raw = f"/api/v1/namespaces/{k.namespace}/configmaps?limit=2&labelSelector=app%3Dpages"
    page = k("get", "--raw", raw, show=nothing)
    left = json.loads(page or "{}").get("metadata", {}).get("remainingItemCount")
    k.note("remaining", str(left))
    k("get", "--raw", f"{raw}&continue=nonsense")
    k.quiet("delete", "configmaps", "-l", "app=pages")


@operation("gzip")
def gzip(k: KubectlSession) -> None:
    k.quiet("create", "-f", "-", stdin=manifests.many(12, 40_000, app="large"))
    k("get", "configmaps", "-l", "app=large", "-o", "json")
    k("get", "configmaps", "-l", "app=large")
    k.quiet("delete", "configmaps", "-l", "app=large")


@operation("get-raw")
def get_raw(k: KubectlSession) -> None:
    k("get", "--raw", "/version")
    k("get", "--raw", "/api")
    k("get", "--raw", "/apis/apps/v1")
    k("get", "--raw", f"/api/v1/namespaces/{k.namespace}/pods/web")
    k("get", "--raw", "/livez")
    k("get", "--raw", "/absent")


@operation("error-404")
def error_404(k: KubectlSession) -> None:
    k("get", "pod", "absent")
    k("get", "nonsenses")
    k("-n", "absent-namespace", "get", "pods")
    k("-n", "absent-namespace", "create", "configmap", "any")
    k("delete", "pod", "absent")
    k("logs", "absent")
    k("exec", "absent", "--", "true")
    k("get", "--raw", "/apis/absent.example.com/v1")


@operation("error-409")
def error_409(k: KubectlSession) -> None:
    k.quiet("create", "configmap", "once")
    k("create", "configmap", "once")
    k("create", "namespace", k.namespace)
    old = manifests.config_map("once", {"a": "b"})
    old["metadata"]["resourceVersion"] = "1"
    k("replace", "-f", "-", stdin=json.dumps(old))
    k.quiet("delete", "configmap", "once")


@operation("error-422")
def error_422(k: KubectlSession) -> None:
    k("create", "-f", "-", stdin=json.dumps(manifests.config_map("Not_A_Name", {})))
    k("create", "-f", "-", stdin=json.dumps(manifests.config_map("keys", {"a b": "c"})))
    no_container = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "none"}}
    k("create", "--validate=false", "-f", "-", stdin=json.dumps({**no_container, "spec": {}}))
    k("patch", "pod", "web", "-p", '{"spec":{"hostname":"other"}}')


@operation("error-400")
def error_400(k: KubectlSession) -> None:
    pods = f"/api/v1/namespaces/{k.namespace}/pods"
    k("get", "--raw", f"{pods}?limit=many")
    k("get", "--raw", f"{pods}?labelSelector=%28%28")
    k("get", "--raw", f"{pods}?resourceVersion=nonsense")
    k("get", "--raw", f"{pods}/web/absent")
    k("create", "--raw", f"/api/v1/namespaces/{k.namespace}/configmaps", "-f", "-", stdin="{")
    k("create", "--validate=false", "-f", "-", stdin='{"apiVersion":"v1","kind":"ConfigMap"}')
