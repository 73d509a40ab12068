"""What kubectl does in the chapter "Writing"."""

import base64
import json
from collections.abc import Callable

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.conformance import manifests
from tests.conformance.extension_api import registration
from tests.conformance.kubectl_session import (
    KubectlSession,
    last_line,
    nothing,
    operation,
    ordered_managers,
)
from tests.conformance.outcome import Unavailable

SKY = "jsonpath={.data}"


@operation("create")
def create(k: KubectlSession) -> None:
    k("create", "-f", "-", stdin=manifests.COLOURS, works=True)
    k("get", "configmap", "colours", "-o", "yaml")
    k("create", "-f", "-", stdin=manifests.SERVICE)
    k("get", "service", "serving", "-o", "yaml")
    generated = manifests.config_map("", {})
    generated["metadata"] = {"generateName": "generated-"}
    k("create", "-f", "-", stdin=json.dumps(generated))
    k.quiet("delete", "configmap", "colours")
    k.quiet("delete", "service", "serving")


@operation("protobuf")
def protobuf(k: KubectlSession) -> None:
    k("create", "configmap", "typed", "--from-literal=a=b", "-o", "yaml")
    k("create", "secret", "generic", "typed", "--from-literal=a=b")
    k("create", "deployment", "typed", "--image=lab/busybox:1", "--replicas=0")
    k("create", "quota", "typed", "--hard=pods=100")
    k("create", "role", "typed", "--verb=get", "--resource=pods")
    k("create", "rolebinding", "typed", "--role=typed", "--user=somebody")
    k("create", "serviceaccount", "typed")
    k("create", "job", "typed", "--image=lab/busybox:1", "--dry-run=server")
    for kind in ("configmap", "secret", "deployment", "quota", "rolebinding", "role"):
        k("delete", kind, "typed")


@operation("apply-client")
def apply_client(k: KubectlSession) -> None:
    k("apply", "-f", "-", stdin=manifests.COLOURS)
    k("apply", "-f", "-", stdin=manifests.COLOURS)
    k("diff", "-f", "-", stdin=manifests.COLOURS.replace("blue", "grey"), show=nothing)
    k("apply", "-f", "-", stdin=manifests.COLOURS.replace("blue", "grey"))
    k("get", "configmap", "colours", "-o", "yaml")
    prune = ("apply", "--prune", "-l", "app=colours", "-f", "-")
    other = manifests.COLOURS.replace("name: colours", "name: others")
    k(*prune, "--prune-whitelist=core/v1/ConfigMap", stdin=other, show=nothing, facts=False)
    k.quiet("delete", "configmap", "colours", "others")


@operation("apply-server")
def apply_server(k: KubectlSession) -> None:
    words = ("apply", "--server-side", "-f", "-")
    k(*words, stdin=manifests.COLOURS)
    grey = manifests.COLOURS.replace("blue", "grey")
    k(*words, "--field-manager=somebody", stdin=grey)
    k(*words, "--field-manager=somebody", "--force-conflicts", stdin=grey)
    k("get", "configmap", "colours", "-o", "json", show=ordered_managers)
    k("apply", "view-last-applied", "configmap/colours")
    k.quiet("delete", "configmap", "colours")


@operation("patch")
def patch(k: KubectlSession) -> None:
    k.quiet("create", "-f", "-", stdin=manifests.COLOURS)
    words = ("patch", "configmap", "colours")
    k(*words, "-p", '{"data":{"sky":"grey"}}')
    k(*words, "--type=merge", "-p", '{"data":{"grass":null}}')
    k(*words, "--type=json", "-p", '[{"op":"add","path":"/data/sea","value":"deep"}]')
    k(*words, "--type=json", "-p", '[{"op":"test","path":"/data/sea","value":"flat"}]')
    k(*words, "--type=merge", "-p", '{"data":{"sky":"blue"}}', "-o", "json")
    k("patch", "pod", "web", "-p", '{"metadata":{"annotations":{"seen":"yes"}}}')
    k.quiet("delete", "configmap", "colours")


@operation("replace")
def replace(k: KubectlSession) -> None:
    k.quiet("create", "-f", "-", stdin=manifests.COLOURS)
    k("replace", "-f", "-", stdin=manifests.COLOURS.replace("blue", "grey"))
    k("get", "configmap", "colours", "-o", SKY)
    k("replace", "--force", "-f", "-", stdin=manifests.COLOURS)
    k.quiet("delete", "configmap", "colours")
    k("replace", "-f", "-", stdin=manifests.COLOURS)


@operation("label")
def label(k: KubectlSession) -> None:
    k.quiet("create", "-f", "-", stdin=manifests.COLOURS)
    k("label", "configmap", "colours", "tone=dark")
    k("label", "configmap", "colours", "tone=light")
    k("label", "configmap", "colours", "tone=light", "--overwrite")
    k("annotate", "configmap", "colours", "note=some words")
    k("edit", "configmap", "colours", settings={"KUBE_EDITOR": "sed -i s/blue/grey/"})
    k("get", "configmap", "colours", "-o", "json", show=ordered_managers)
    k.quiet("delete", "configmap", "colours")


@operation("dry-run")
def dry_run(k: KubectlSession) -> None:
    for way in ("server", "client"):
        k("create", "-f", "-", f"--dry-run={way}", "-o", "yaml", stdin=manifests.COLOURS)
        k("apply", "-f", "-", f"--dry-run={way}", stdin=manifests.COLOURS)
    k("apply", "--server-side", "-f", "-", "--dry-run=server", stdin=manifests.COLOURS)
    k("delete", "pod", "web", "--dry-run=server")
    k("get", "configmap", "colours")


@operation("delete")
def delete(k: KubectlSession) -> None:
    k.quiet("create", "-f", "-", stdin=manifests.COLOURS)
    k("delete", "configmap", "colours")
    k("delete", "configmap", "colours", "--ignore-not-found")
    k.quiet("create", "-f", "-", stdin=manifests.COLOURS)
    k("delete", "-f", "-", "--wait=false", stdin=manifests.COLOURS)
    k.quiet("create", "-f", "-", stdin=manifests.VICTIM)
    k("delete", "pod", "victim", "--now", facts=False)


@operation("delete-collection")
def delete_collection(k: KubectlSession) -> None:
    k.quiet("create", "-f", "-", stdin=manifests.many(4, 16, app="gone"))
    k("delete", "configmaps", "-l", "app=gone")
    k.quiet("create", "-f", "-", stdin=manifests.many(4, 16, app="gone"))
    k("delete", "secrets", "--all", "--field-selector", "type=absent/type")
    raw = f"/api/v1/namespaces/{k.namespace}/configmaps?labelSelector=app%3Dgone"
    k("delete", "--raw", raw)
    k("get", "configmaps", "-l", "app=gone")


@operation("large-body")
def large_body(k: KubectlSession) -> None:
    for size in (1_000_000, 2_900_000, 3_300_000):
        document = manifests.config_map("heavy", {"text": "x" * size})
        k("create", "-f", "-", stdin=json.dumps(document), show=last_line)
    k("get", "configmap", "heavy", "-o", "json")
    k.quiet("delete", "configmap", "heavy")


@operation("custom-resource")
def custom_resource(k: KubectlSession) -> None:
    group = f"{k.namespace}.example.com"

    def call(*words: str, stdin: str = "", show: Callable[[str], str] = str) -> None:
        # The other run's group comes and goes in discovery: requests are no part of this row.
        k(*words, stdin=stdin, facts=False, show=show)

    call("create", "-f", "-", stdin=manifests.definition(group))
    call("wait", "--for=condition=Established", f"crd/widgets.{group}")
    # Discovery knows of it a little later than the condition says.
    for _ in range(50):
        if k.quiet("get", f"widgets.{group}").returncode == 0:
            break
    call("create", "-f", "-", stdin=manifests.widget(group, 3))
    call("create", "--validate=false", "-f", "-", stdin=manifests.widget(group, 0))
    call("get", f"widgets.{group}")
    call("patch", f"widgets.{group}", "first", "--type=merge", "-p", '{"spec":{"size":4}}')
    call("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=manifests.widget(group, 5))
    call("get", f"widgets.{group}", "first", "-o", "json", show=ordered_managers)
    call("delete", f"widgets.{group}", "first")
    call("delete", "crd", f"widgets.{group}")


@operation("aggregated")
def aggregated(k: KubectlSession) -> None:
    group = f"{k.namespace}.extension.example.com"
    port = k.place.extension_port
    registered = registration(group, k.namespace, port)
    k.quiet("create", "-f", "-", stdin=registered)
    waited = k.quiet("wait", "--for=condition=Available", f"apiservice/v1.{group}", "--timeout=20s")
    if waited.returncode:
        k.quiet("delete", "-f", "-", stdin=registered)
        raise Unavailable("the API server does not reach the runner's extension API server")
    base = f"/apis/{group}/v1"
    # Available or not, the way there opens a little later.
    for _ in range(50):
        if k.quiet("get", "--raw", base).returncode == 0:
            break
    k("get", "--raw", base, works=True)
    k("get", "--raw", f"{base}/namespaces/{k.namespace}/echoes")
    k("get", "--raw", f"{base}/absent")
    # Discovery knows of it a little later than the condition says.
    for _ in range(50):
        if k.quiet("get", f"echoes.{group}").returncode == 0:
            break
    k("get", f"echoes.{group}", "only", "-o", "yaml", facts=False)
    k("get", f"echoes.{group}", facts=False)
    k.quiet("delete", "-f", "-", stdin=registered)


@operation("scale")
def scale(k: KubectlSession) -> None:
    k.quiet("create", "-f", "-", stdin=manifests.SERVING)
    k("scale", "deployment", "serving", "--replicas=2")
    k("scale", "deployment", "serving", "--replicas=5", "--current-replicas=9")
    k("get", "deployment", "serving", "-o", "jsonpath={.spec.replicas}")
    k("autoscale", "deployment", "serving", "--max=3")
    k.quiet("delete", "hpa", "serving")
    k.quiet("delete", "deployment", "serving")


@operation("rollout")
def rollout(k: KubectlSession) -> None:
    def status() -> None:
        words = ("rollout", "status", "deployment/serving", "--timeout=60s")
        k(*words, show=last_line, facts=False)

    k.quiet("create", "-f", "-", stdin=manifests.SERVING)
    status()
    k("set", "env", "deployment/serving", "COLOUR=blue")
    status()
    k("rollout", "history", "deployment/serving")
    k("rollout", "undo", "deployment/serving")
    status()
    k("rollout", "restart", "deployment/serving")
    k("rollout", "pause", "deployment/serving")
    k("rollout", "resume", "deployment/serving")
    k.quiet("delete", "deployment", "serving")


@operation("eviction")
def eviction(k: KubectlSession) -> None:
    k.quiet("create", "-f", "-", stdin=manifests.VICTIM)
    body = {
        "apiVersion": "policy/v1beta1",
        "kind": "Eviction",
        "metadata": {"name": "victim", "namespace": k.namespace},
    }
    path = f"/api/v1/namespaces/{k.namespace}/pods/victim/eviction"
    k("create", "--raw", path, "-f", "-", stdin=json.dumps(body))
    k.quiet("delete", "pod", "victim", "--now")
    k("create", "--raw", path, "-f", "-", stdin=json.dumps(body))


@operation("csr")
def signing(k: KubectlSession) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "somebody")])
    made = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    pem = base64.b64encode(made.public_bytes(serialization.Encoding.PEM)).decode()
    for answer in ("approve", "deny"):
        request = f"{k.namespace}-{answer}"
        k("create", "-f", "-", stdin=manifests.signing_request(request, pem))
        k("certificate", answer, request)
        k("get", "csr", request)
        by = "jsonpath={.spec.username} {.spec.groups} {.spec.extra} {.status.conditions[*].type}"
        k("get", "csr", request, "-o", by)
        k("delete", "csr", request)


@operation("token")
def token(k: KubectlSession) -> None:
    k.needs((1, 24), "`create token`")

    def shape(text: str) -> str:
        return f"{len(text.split('.'))} parts"

    k("create", "token", "default", show=shape)
    k("create", "token", "absent", show=shape)
