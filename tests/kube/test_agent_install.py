"""An agent in a pod of a real node, put there by `clusters add --install` and by helm; and central.

The images hold this checkout (`tests/support/own_image.py`); what is applied is what people get.
"""

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml

from tests.support import helm as helms
from tests.support import kubectl as kubectls
from tests.support import node_network, own_image
from tests.support.processes import own_port
from tests.support.world import MK8S, World, run, wait_until

pytestmark = pytest.mark.kube
FIRST = """
apiVersion: v1
kind: Pod
metadata: {name: first, namespace: default}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: it, image: "lab/busybox:1", imagePullPolicy: Never, command: [sleep, "9999"]}]
"""
QUOTA = """
apiVersion: v1
kind: ResourceQuota
metadata: {name: none, namespace: full}
spec: {hard: {pods: "0"}}
"""

OTHERWISE = (
    (
        "replicas=3",
        "database.existingSecret=db",
        "secretKey.existingSecret=key",
        "tls.existingSecret=tls",
        "config.workers=2",
    ),
    ("service.type=LoadBalancer", "tunnelService.type=NodePort", "persistence.enabled=true"),
    ("networkPolicy.monitoring[0].podSelector.matchLabels.a=b", "domain=k.example.com"),
)
"""Values of central's chart whose objects the API server is asked about."""


class Here(World):
    """A central that pods of the node reach, and its administrator."""

    door: node_network.Forwarder
    """The way of pods to central."""

    def settle(self, kubeconfig: Path) -> None:
        """Bring central up; its public address is the node's."""
        self.context = str(yaml.safe_load(kubeconfig.read_text())["current-context"])
        self.initialise()
        self.start_central()
        self.people["admin"] = self.log_in("admin@example.com")

    @property
    def environment(self) -> dict[str, str]:
        """The administrator's, whose kubeconfig has the cluster's own context, too."""
        admin = self.people["admin"]
        files = f"{admin.home / '.kube' / 'config'}:{self.clusters['prod']}"
        return dict(admin.environment) | {"KUBECONFIG": files}

    def mk8s(self, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        """The CLI in the administrator's hands."""
        return run([*MK8S, *words], self.environment, code=code, seconds=120)

    def install(self, name: str, *words: str, code: int = 0) -> str:
        """`clusters add --install`; what it tells."""
        how = ("--install", "--kube-context", self.context, "--image", own_image.AGENT, *words)
        return self.mk8s("admin", "clusters", "add", name, *how, code=code).stderr

    def get_pods(self, name: str) -> str:
        """Stock kubectl through central and the agent in the pod."""
        self.mk8s("kubeconfig", "sync", *kubectls.FOR_ALL_OF_THEM)
        command = [kubectls.binaries()[-1], "--context", name, "get", "pods", "-A", "-o", "name"]
        return run(command, self.environment).stdout


@pytest.fixture(scope="module")
def here(kube_cluster: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Here]:
    folder = tmp_path_factory.mktemp("install")
    with ExitStack() as opened:
        world = Here(folder, {"prod": kube_cluster})
        opened.callback(world.close)
        world.direct("apply", "-f", "-", stdin=FIRST)
        world.direct("wait", "--for=condition=Ready", "pod/first", "--timeout=60s")
        opened.callback(world.direct, "delete", "pod", "first", "--wait=false")
        opened.enter_context(node_network.default_route(kube_cluster))
        outer = own_port()
        ports = {outer: world.port}
        node = opened.enter_context(node_network.reachable(kube_cluster, ports))
        world.door = node.doors[outer]
        world.settings["MK8S_PUBLIC_URL"] = f"https://{node.address}:{outer}"
        for image in (own_image.AGENT, own_image.CENTRAL):
            own_image.load(kube_cluster, image, folder)
        world.settle(kube_cluster)
        yield world


def test_from_nothing_to_get_pods_and_back(here: Here) -> None:
    told = here.install("prod")
    print(told)
    assert "cluster prod is connected, after" in told
    assert "pod/mk8s-agent-" in here.get_pods("prod")
    account = "--as=system:serviceaccount:mk8s:mk8s-agent"
    for question in (("get", "pods"), ("create", "pods"), ("get", "secrets"), ("list", "secrets")):
        here.direct("auth", "can-i", *question, "-n", "mk8s", account, code=1)
    remove = ("remove", "prod", "--yes", "--uninstall", "--kube-context", here.context)
    here.mk8s("admin", "clusters", *remove)
    kinds = "clusterroles,clusterrolebindings,roles,rolebindings,ns"
    left = here.direct("get", kinds, "-A", "-o", "name").stdout
    assert "mk8s" not in left
    assert "prod" not in here.mk8s("admin", "clusters", "list", "-o", "name").stdout.split()


def test_why_an_agent_does_not_come_is_said(here: Here) -> None:
    here.direct("create", "namespace", "full")
    here.direct("apply", "-f", "-", stdin=QUOTA)
    told = here.install("full", "--namespace", "full", code=1)
    assert "the namespace's quota leaves no room for the agent's pod" in told
    nowhere = ("--image", "localhost:1/none:1")
    told = here.install("full", "--namespace", "nowhere", *nowhere, code=1)
    assert "the node cannot pull the image localhost:1/none:1" in told
    for namespace in ("full", "nowhere"):
        where = ("--kube-context", here.context, "--namespace", namespace)
        here.mk8s("admin", "clusters", "remove", "full", "--yes", "--uninstall", *where)
    here.direct("get", "namespace", "nowhere", code=1)
    here.direct("delete", "namespace", "full", "--wait=false")


def test_a_central_out_of_reach_is_said_and_the_same_command_goes_on(here: Here) -> None:
    where = ("--namespace", "lost", "--users-role", "view")
    here.door.is_shut = True
    told = here.install("lost", *where, "--timeout", "12", code=1)
    here.door.is_shut = False
    assert "not connected after 12 seconds: the agent runs and waits for central: " in told
    again = here.install("lost", *where)
    assert "lost is registered already" in again
    assert "cluster lost is connected" in again
    place = ("--kube-context", here.context, "--namespace", "lost")
    here.mk8s("admin", "clusters", "remove", "lost", "--yes", "--uninstall", *place)


def test_the_line_for_helm_installs_the_same(here: Here, tmp_path: Path) -> None:
    how = ("--helm", "--image", own_image.AGENT, "--users-role", "cluster-admin")
    line = here.mk8s("admin", "clusters", "add", "second", "--namespace", "second", *how).stdout
    line = line.replace("helm ", f"{helms.binary()} ", 1)
    checkout = helms.CHARTS.parents[1]
    environment = here.environment | {"KUBECONFIG": str(here.clusters["prod"])}
    environment |= {f"HELM_{name}_HOME": str(tmp_path) for name in ("CACHE", "CONFIG", "DATA")}
    subprocess.run(["bash", "-c", line], cwd=checkout, env=environment, check=True, timeout=60)
    wait_until(lambda: "second" in _connected(here), 60, lambda: _story(here, "second"))
    assert "pod/mk8s-agent-" in here.get_pods("second")
    uninstall = [helms.binary(), "uninstall", "mk8s-agent", "--namespace", "second", "--wait"]
    run(uninstall, environment, seconds=120)
    here.direct("delete", "namespace", "second", "--wait=false")


def test_central_runs_from_its_chart(here: Here, tmp_path: Path) -> None:
    """On a volume whose modes come from fsGroup; no token, no writable root, no capability."""
    here.direct("create", "namespace", "central")
    here.direct("label", "namespace", "central", "pod-security.kubernetes.io/enforce=restricted")
    password = "--from-literal=password=correct horse battery staple"
    here.direct("-n", "central", "create", "secret", "generic", "admin", password)
    repository, _, tag = own_image.CENTRAL.rpartition(":")
    image = (f"image.repository={repository}", f"image.tag={tag}", "image.pullPolicy=Never")
    values = ("publicUrl=https://mk8s.example.com", "admin.existingSecret=admin", *image,
              "persistence.enabled=false")  # fmt: skip
    words = [word for value in values for word in ("--set", value)]
    chart = str(helms.CHARTS / "central")
    rendered = helms.helm("template", "mk8s-central", chart, "-n", "central", *words).stdout
    here.direct("apply", "-f", "-", stdin=rendered)
    status = ("-n", "central", "rollout", "status", "statefulset/mk8s-central", "--timeout=90s")
    if here.direct(*status, code=None).returncode:
        pytest.fail(_story(here, "central"))
    told = here.direct("-n", "central", "logs", "mk8s-central-0", "-c", "init").stdout
    assert "CA pin: sha256:" in told
    for more in OTHERWISE:
        words = [word for value in (*values, *more) for word in ("--set", value)]
        other = helms.helm("template", "other", chart, "-n", "central", *words).stdout
        here.direct("apply", "--dry-run=server", "-f", "-", stdin=other)
    # The same container once more, on the files that are there.
    here.direct("-n", "central", "exec", "mk8s-central-0", "--", "mk8s-central", "check-config")
    here.direct("delete", "namespace", "central", "--wait=false")


def _connected(here: Here) -> list[str]:
    listed = yaml.safe_load(here.mk8s("clusters", "list", "-o", "yaml").stdout)
    return [it["name"] for it in listed if it["status"] == "connected"]


def _story(here: Here, namespace: str) -> str:
    """What a namespace's pods and events say, for a failure's message."""
    parts = [
        here.direct("-n", namespace, *words, code=None).stdout
        for words in (
            ("describe", "pods"),
            ("logs", "-l", "app.kubernetes.io/name", "--all-containers", "--tail=30"),
        )
    ]
    return "\n".join([*parts, here.output()])
