"""What kubectl does in the chapters "Access and discovery" and "Addressing and credentials"."""

import json
import re
import urllib.request

from tests.conformance import manifests
from tests.conformance.kubectl_session import KubectlSession, operation, sorted_lines
from tests.conformance.outcome import Unavailable
from tests.conformance.stage import GROUP, HELPER


@operation("can-i")
def can_i(k: KubectlSession) -> None:
    k("auth", "can-i", "get", "pods")
    k("auth", "can-i", "delete", "nodes")
    k("auth", "can-i", "create", "pods/exec")
    k("auth", "can-i", "*", "*", "--all-namespaces")
    k("auth", "can-i", "get", "/healthz")
    k("auth", "can-i", "get", "pods", "--subresource=log", "--quiet")


@operation("can-i-list")
def can_i_list(k: KubectlSession) -> None:
    k("auth", "can-i", "--list", show=sorted_lines)


@operation("whoami")
def whoami(k: KubectlSession) -> None:
    k.needs((1, 27), "`auth whoami`")
    if "not enabled" in k.quiet("auth", "whoami").stderr:
        raise Unavailable("the API server has no SelfSubjectReview")
    k("auth", "whoami")
    k("auth", "whoami", "-o", "json")


@operation("impersonation")
def impersonation(k: KubectlSession) -> None:
    # mk8s always says that somebody is a user of mk8s; directly one has to say it.
    helper = ["--as", HELPER, "--as-group", GROUP]
    if k.version >= (1, 24):
        helper += ["--as-uid", "helpers-own-uid"]
    k("get", "pods", "-l", "app=quiet", *helper, works=True)
    k("auth", "can-i", "delete", "pods", *helper)
    k("create", "configmap", "helped", "--from-literal=a=b", *helper)
    k("get", "configmap", "helped", "-o", "yaml", *helper)
    k("delete", "configmap", "helped", *helper)
    k("exec", "web", *helper, "--", "echo", "helped")


@operation("impersonation-refused")
def impersonation_refused(k: KubectlSession) -> None:
    def refused(*whom: str) -> None:
        # Who refuses says it in words of its own: mk8s without a role, the cluster without one.
        done = k.quiet("get", "pods", *whom)
        reason = "forbidden" if "forbidden" in done.stderr.lower() else done.stderr
        k.note(f"get pods {' '.join(whom)}", done.stdout, code=done.returncode, errors=reason)

    refused("--as", "stranger@example.com")
    refused("--as", "system:anonymous")
    refused("--as", "stranger@example.com", "--as-group", "strangers")


@operation("api-resources")
def api_resources(k: KubectlSession) -> None:
    k("api-resources")
    k("api-resources", "-o", "name", "--verbs=list", "--namespaced")
    k("api-versions")
    k("version")
    k("cluster-info")


@operation("explain")
def explain(k: KubectlSession) -> None:
    k("explain", "pods.spec.containers")
    k("explain", "deployment", "--recursive")
    k("explain", "pods.nonsense")


def without_age(text: str) -> str:
    """Lines in no order, without their first column and without how often it happened."""
    lines = (re.sub(r"^\S+ +(\(x\d+ over \S+\) +)?", "", line) for line in text.splitlines())
    return sorted_lines("\n".join(lines))


@operation("events")
def events(k: KubectlSession) -> None:
    k("get", "events", "--field-selector", "involvedObject.name=quiet", show=without_age)
    if k.version >= (1, 27):
        k("events", "--for", "pod/quiet", show=without_age)


@operation("proxy")
def proxy(k: KubectlSession) -> None:
    with k.running("proxy", "--port=0", "--disable-filter=true") as proxying:
        address = proxying.wait_for_line(r"Starting to serve on (\S+)")[1]
        base = f"http://{address}"
        pods = f"/api/v1/namespaces/{k.namespace}/pods"
        for path in ("/version", f"{pods}/quiet", f"{pods}?limit=1&labelSelector=app%3Dweb"):
            with urllib.request.urlopen(base + path, timeout=20) as answer:
                body = json.dumps(json.load(answer), indent=1)
                k.note(f"proxied {path}", body, code=answer.status)
        k("--server", base, "get", "pods", "-l", "app=web")
        k("--server", base, "exec", "web", "--", "echo", "through two")
        k("--server", base, "create", "-f", "-", stdin=manifests.COLOURS)
        k("--server", base, "delete", "configmap", "colours")


def small_set(k: KubectlSession) -> None:
    """What shows that an address and a credential work for every kind of request."""
    k.quiet("api-resources")  # a new server address has an empty discovery cache
    k("get", "pods", "-l", "app=web", works=True)
    k("create", "-f", "-", stdin=manifests.COLOURS)
    with k.running("get", "configmaps", "-l", "app=colours", "-w", "-o", "name") as watching:
        watching.wait_for_line("colours")
        k.note("watch", watching.output)
    k("patch", "configmap", "colours", "-p", '{"data":{"sky":"grey"}}')
    k("exec", "web", "-i", "--", "cat", stdin="typed\n")
    k("logs", "quiet", "--limit-bytes=14")
    k("api-versions")
    k("get", "--raw", f"/api/v1/namespaces/{k.namespace}/pods/web")
    k("get", "--raw", "/version")
    k("get", "pod", "absent")
    k("delete", "configmap", "colours")


for key in ("by-path", "by-host", "by-token", "static-token"):
    operation(key)(small_set)
