"""What people type, with every stock kubectl of the machine, over real TLS."""

import json

import pytest

from mk8s_cli.demo_api.server import DemoApi
from tests.support.kubectl import Kubectl, version_of

WIDGETS = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {{name: widgets.{group}}}
spec:
  group: {group}
  names: {{kind: Widget, plural: widgets, shortNames: [wd{short}]}}
  scope: Namespaced
  versions:
  - name: v1
    served: true
    storage: true
    additionalPrinterColumns: [{{name: Size, type: integer, jsonPath: .spec.size}}]
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec: {{type: object, properties: {{size: {{type: integer, description: How big.}}}}}}
"""
WIDGET = """
apiVersion: {group}/v1
kind: Widget
metadata: {{name: one}}
spec: {{size: 3}}
"""
SETTINGS = """
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {color: green, size: "1"}
"""


@pytest.fixture
def pod(kubectl: Kubectl) -> str:
    return kubectl("get", "pods", "-n", "shop", "-o", "name").stdout.split()[0]


def test_the_server_says_that_it_is_a_demo(kubectl: Kubectl) -> None:
    assert "v1.37.2-mk8s-demo" in kubectl("version").stdout
    label = kubectl("get", "configmap", "mk8s-demo", "-n", "kube-system", "-o", "yaml").stdout
    assert "in-memory API" in label


def test_lists_are_tables(kubectl: Kubectl) -> None:
    pods = kubectl("get", "pods", "-A", "-o", "wide").stdout.splitlines()
    assert pods[0].split()[:6] == ["NAMESPACE", "NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    assert [line.split()[2:4] for line in pods[1:]] == [["1/1", "Running"]] * 3
    every = kubectl("get", "all,cm,secret,ingress", "-n", "shop").stdout
    assert "deployment.apps/web" in every
    assert "3/3" in every
    assert "Ready" in kubectl("get", "nodes").stdout
    assert "Scheduled" in kubectl("get", "events", "-n", "shop").stdout


def test_describe_and_output_formats(kubectl: Kubectl, pod: str) -> None:
    assert "web:" in kubectl("describe", pod, "-n", "shop").stdout
    described = kubectl("describe", "deployment", "web", "-n", "shop").stdout
    assert "3 desired | 3 updated | 3 total | 3 available" in described
    assert "Ready" in kubectl("describe", "node", "demo-node").stdout
    found = json.loads(kubectl("get", "deploy", "web", "-n", "shop", "-o", "json").stdout)
    assert found["spec"]["replicas"] == 3
    assert "kind: Deployment" in kubectl("get", "deploy/web", "-n", "shop", "-o", "yaml").stdout


def test_discovery_and_explain(kubectl: Kubectl) -> None:
    resources = kubectl("api-resources", "-o", "name").stdout.split()
    assert {"pods", "deployments.apps", "customresourcedefinitions.apiextensions.k8s.io"} <= set(
        resources
    )
    assert "apps/v1" in kubectl("api-versions").stdout.split()
    assert "rollingUpdate" in kubectl("explain", "deployment.spec.strategy").stdout
    assert "demo" in kubectl("get", "--raw", "/version").stdout


def test_create_label_patch_and_delete(kubectl: Kubectl, namespace: str) -> None:
    there = ("-n", namespace)
    kubectl("create", "configmap", "one", "--from-literal=a=b", *there)
    again = kubectl("create", "configmap", "one", *there, code=1)
    assert "already exists" in again.stderr
    kubectl("label", "configmap", "one", "tier=front", *there)
    kubectl("annotate", "configmap", "one", "note=x", *there)
    assert kubectl("get", "cm", "-l", "tier in (front)", "-o", "name", *there).stdout == (
        "configmap/one\n"
    )
    kubectl("patch", "cm", "one", "-p", '{"data":{"c":"d"}}', *there)
    kubectl("patch", "cm", "one", "--type=merge", "-p", '{"data":{"a":null}}', *there)
    removal = '[{"op":"replace","path":"/data/c","value":"e"}]'
    kubectl("patch", "cm", "one", "--type=json", "-p", removal, *there)
    assert kubectl("get", "cm", "one", "-o", "jsonpath={.data}", *there).stdout == '{"c":"e"}'
    kubectl("delete", "cm", "one", *there)
    assert "NotFound" in kubectl("delete", "cm", "one", *there, code=1).stderr


def test_apply_on_the_client_side(kubectl: Kubectl, namespace: str) -> None:
    apply = ("apply", "-n", namespace, "-f", "-")
    assert "created" in kubectl(*apply, stdin=SETTINGS).stdout
    assert "unchanged" in kubectl(*apply, stdin=SETTINGS).stdout
    assert "configured" in kubectl(*apply, stdin=SETTINGS.replace(', size: "1"', "")).stdout
    shown = kubectl("get", "cm", "settings", "-n", namespace, "-o", "jsonpath={.data}").stdout
    assert shown == '{"color":"green"}'
    dry = kubectl(*apply, "--dry-run=server", stdin=SETTINGS.replace("green", "red")).stdout
    assert "configured (server dry run)" in dry
    shown = kubectl("get", "cm", "settings", "-n", namespace, "-o", "jsonpath={.data}").stdout
    assert shown == '{"color":"green"}'


def test_apply_on_the_server_side(kubectl: Kubectl, namespace: str) -> None:
    apply = ("apply", "--server-side", "-n", namespace, "-f", "-")
    assert "serverside-applied" in kubectl(*apply, stdin=SETTINGS).stdout
    other = SETTINGS.replace("green", "red")
    refused = kubectl(*apply, "--field-manager=other", stdin=other, code=1).stderr
    assert 'conflict with "kubectl"' in refused
    assert ".data.color" in refused
    kubectl(*apply, "--field-manager=other", "--force-conflicts", stdin=other)
    shown = kubectl("get", "cm", "settings", "-n", namespace, "-o", "json").stdout
    assert json.loads(shown)["data"] == {"color": "red", "size": "1"}


def test_unknown_fields_are_refused(kubectl: Kubectl, namespace: str) -> None:
    wrong = SETTINGS.replace("data:", "dta:")
    refused = kubectl("create", "-n", namespace, "-f", "-", stdin=wrong, code=1).stderr
    assert 'unknown field "dta"' in refused


def test_deployments_are_ready_at_once(kubectl: Kubectl, namespace: str) -> None:
    there = ("-n", namespace)
    kubectl("create", "deployment", "nginx", "--image=nginx", *there)
    kubectl("rollout", "status", "deployment/nginx", *there)
    kubectl("scale", "deployment/nginx", "--replicas=3", *there)
    kubectl("rollout", "status", "deployment/nginx", *there)
    kubectl("set", "image", "deployment/nginx", "nginx=nginx:2", *there)
    kubectl("rollout", "status", "deployment/nginx", *there)
    listed = kubectl("get", "deployments", "-o", "wide", *there).stdout.splitlines()[1].split()
    assert (listed[1], listed[6]) == ("3/3", "nginx:2")
    kubectl("delete", "deployment", "nginx", *there)
    assert kubectl("get", "deployments", "-o", "name", *there).stdout == ""


def test_a_pod_runs_at_once(kubectl: Kubectl, namespace: str) -> None:
    kubectl("run", "one", "--image=example/one", "-n", namespace)
    kubectl("wait", "--for=condition=Ready", "pod/one", "-n", namespace)
    assert "Running" in kubectl("get", "pods", "-n", namespace).stdout
    assert (
        kubectl("exec", "one", "-n", namespace, "--", "sh", "-c", "echo $HOSTNAME").stdout
        == "one\n"
    )


def test_watch_shows_changes(kubectl: Kubectl, namespace: str) -> None:
    kubectl("create", "configmap", "before", "-n", namespace)
    with kubectl.start("get", "configmaps", "-w", "-n", namespace) as watching:
        watching.wait_for_line(r"^before ")
        kubectl("create", "configmap", "seen", "-n", namespace)
        watching.wait_for_line(r"^seen ")


def test_logs_and_following_them(kubectl: Kubectl, pod: str) -> None:
    assert len(kubectl("logs", pod, "-n", "shop").stdout.splitlines()) == 20
    assert len(kubectl("logs", pod, "-n", "shop", "--tail=2").stdout.splitlines()) == 2
    stamped = kubectl("logs", pod, "-n", "shop", "--timestamps", "--tail=1").stdout
    assert stamped.startswith("20")
    with kubectl.start("logs", "-f", "--tail=1", pod, "-n", "shop") as following:
        following.wait_for_line(r"demo\[25\]")
    wrong = kubectl("logs", pod, "-n", "shop", "-c", "nope", code=1).stderr
    assert "container nope is not valid" in wrong


@pytest.mark.parametrize("websocket", ["true", "false"])
def test_exec_runs_the_shell(kubectl: Kubectl, pod: str, websocket: str, served: DemoApi) -> None:
    environment = {**kubectl.environment, "KUBECTL_REMOTE_COMMAND_WEBSOCKETS": websocket}
    kubectl = Kubectl(kubectl.binary, environment)
    command = ("exec", pod, "-n", "shop")
    assert kubectl(*command, "--", "echo", "hi").stdout == "hi\n"
    failed = kubectl(*command, "--", "sh", "-c", "echo out; exit 3", code=3)
    assert failed.stdout == "out\n"
    assert "exit code 3" in failed.stderr
    assert "not found" in kubectl(*command, "--", "nope", code=127).stderr
    sent = "x" * 300_000
    assert kubectl("exec", "-i", pod, "-n", "shop", "--", "cat", stdin=sent).stdout == sent
    script = kubectl(
        "exec", "-i", pod, "-n", "shop", "--", "sh", stdin="echo $HOME\nexit 4\n", code=4
    )
    assert script.stdout == "/root\n"
    used = {seen.headers.get("Upgrade", "") for seen in served.seen if "/exec?" in seen.path_qs}
    assert (
        "websocket" if websocket == "true" and version_of(kubectl.binary) >= (1, 29) else "SPDY/3.1"
    ) in used


def test_custom_resources(kubectl: Kubectl, namespace: str) -> None:
    group = f"{namespace}.example.com"
    definition = WIDGETS.format(group=group, short=namespace.removeprefix("test-"))
    kubectl("apply", "-f", "-", stdin=definition)
    kubectl("wait", "--for=condition=Established", f"crd/widgets.{group}")
    widget = WIDGET.format(group=group)
    kubectl("apply", "-n", namespace, "-f", "-", stdin=widget)
    table = kubectl("get", f"widgets.{group}", "-n", namespace).stdout.splitlines()
    assert [line.split() for line in table] == [["NAME", "SIZE"], ["one", "3"]]
    kubectl(
        "patch",
        f"widgets.{group}",
        "one",
        "-n",
        namespace,
        "--type=merge",
        "-p",
        '{"spec":{"size":4}}',
    )
    if version_of(kubectl.binary) >= (1, 27):  # older ones read OpenAPI v2 in protobuf form
        explained = kubectl("explain", "widget.spec", f"--api-version={group}/v1").stdout
        assert "How big." in explained
    kubectl("delete", "crd", f"widgets.{group}")
    assert kubectl("get", f"widgets.{group}", "-n", namespace, code=1).stderr


def test_typed_clients_may_send_protobuf(kubectl: Kubectl, namespace: str) -> None:
    there = ("-n", namespace)
    kubectl("create", "secret", "generic", "s", "--from-literal=password=x", *there)
    assert kubectl("get", "secret", "s", "-o", "jsonpath={.data.password}", *there).stdout == "eA=="
    kubectl("create", "role", "r", "--verb=get", "--resource=pods", *there)
    kubectl("create", "rolebinding", "b", "--role=r", "--user=bob", *there)
    kubectl("create", "serviceaccount", "bob", *there)
    kubectl("create", "service", "clusterip", "web", "--tcp=80:8080", *there)
    assert (
        "8080"
        in kubectl("get", "svc", "web", "-o", "jsonpath={.spec.ports[0].targetPort}", *there).stdout
    )


def test_nodes_are_cordoned(kubectl: Kubectl) -> None:
    kubectl("cordon", "demo-node")
    assert "SchedulingDisabled" in kubectl("get", "nodes").stdout
    kubectl("uncordon", "demo-node")
    assert "SchedulingDisabled" not in kubectl("get", "nodes").stdout


def test_reviews_answer_for_the_impersonated_user(kubectl: Kubectl) -> None:
    assert kubectl("auth", "can-i", "delete", "pods").stdout == "yes\n"
    assert "*.*" in kubectl("auth", "can-i", "--list").stdout
    if version_of(kubectl.binary) >= (1, 28):
        who = kubectl(
            "auth", "whoami", "-o", "json", "--as=dev@example.com", "--as-group=devs"
        ).stdout
        user = json.loads(who)["status"]["userInfo"]
        assert user == {"username": "dev@example.com", "groups": ["devs", "system:authenticated"]}
