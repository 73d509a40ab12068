"""The charts: what they refuse, what they make of values, and that the manifests are theirs.

What a real API server and node say of them: tests/kube/test_agent_install.py.
"""

import importlib.util
import tomllib
import types
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support import command_lines
from tests.support.command_lines import CommandLine
from tests.support.helm import CHARTS, binary, helm

CHECKOUT = CHARTS.parents[1]
VALUES = {
    "agent": ("centralUrl=https://mk8s.example.com", "clusterName=prod"),
    "central": ("publicUrl=https://mk8s.example.com", "admin.existingSecret=admin"),
}


def rendered(chart: str, *values: str, code: int = 0) -> tuple[list[dict[str, Any]], str]:
    """The objects of a chart with these values; what helm complains about."""
    words = [word for value in (*VALUES[chart], *values) for word in ("--set", value)]
    release = f"mk8s-{chart}"
    done = helm("template", release, str(CHARTS / chart), "--namespace", "ns", *words, code=code)
    return [it for it in yaml.safe_load_all(done.stdout) if it], done.stderr


def one(documents: list[dict[str, Any]], kind: str, name: str = "") -> dict[str, Any]:
    (found,) = [
        it for it in documents if it["kind"] == kind and name in ("", it["metadata"]["name"])
    ]
    return found


def pod_of(documents: list[dict[str, Any]]) -> dict[str, Any]:
    (found,) = [it for it in documents if it["kind"] in {"Deployment", "StatefulSet"}]
    spec: dict[str, Any] = found["spec"]["template"]["spec"]
    return spec


@pytest.fixture(scope="module")
def render() -> types.ModuleType:
    """deploy/kubernetes/render.py."""
    path = CHECKOUT / "deploy" / "kubernetes" / "render.py"
    spec = importlib.util.spec_from_file_location("render_manifests", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_manifests_are_the_charts(render: types.ModuleType) -> None:
    how = "python deploy/kubernetes/render.py $(python -m tests.support.helm)"
    assert render.stale(binary()) == [], f"run {how}"


def test_a_changed_manifest_is_found(
    render: types.ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (name,) = [it for it in render.FILES if "constrained" in it]
    (tmp_path / name).parent.mkdir(parents=True)
    text = (CHECKOUT / name).read_text()
    (tmp_path / name).write_text(text.replace("mk8s:users", "system:masters"))
    monkeypatch.setattr(render, "CHECKOUT", tmp_path)
    monkeypatch.setattr(render, "FILES", {name: render.FILES[name]})
    assert render.stale(binary()) == [name]


def helm_lines() -> list[CommandLine]:
    page = CHECKOUT / "deploy" / "docs" / "installation.md"
    return [it for it in command_lines.command_lines(page) if it.words[0] == "helm"]


@pytest.mark.parametrize("line", helm_lines(), ids=str)
def test_what_the_pages_install_is_rendered(line: CommandLine) -> None:
    _, _, _, release, chart, *rest = line.words
    helm("template", release, str(CHECKOUT / chart), *rest)


@pytest.mark.parametrize("chart", VALUES)
def test_a_chart_passes_the_linter(chart: str) -> None:
    values = [word for value in VALUES[chart] for word in ("--set", value)]
    helm("lint", "--strict", str(CHARTS / chart), *values)


@pytest.mark.parametrize(
    ("chart", "value", "said"),
    [
        ("agent", "centralUrl=http://mk8s.example.com", "centralUrl"),
        ("agent", "clusterName=Prod", "clusterName"),
        ("agent", "caPin=sha256:0", "caPin"),
        ("agent", "impersonation.groups={system:masters}", "groups"),
        ("agent", "impersonation.users={system:admin}", "users"),
        ("agent", "colour=blue", "colour"),
        ("agent", "image.pullPolicy=Sometimes", "pullPolicy"),
        ("central", "replicas=2", "existingSecret"),
        ("central", "replicas=0", "replicas"),
        ("central", "database.existingSecret=db", "secretKey"),
        ("central", "admin.existingSecret=", "existingSecret"),
        ("central", "config.data_dir=/tmp", "config"),
        ("central", "service.type=ExternalName", "type"),
    ],
)
def test_wrong_values_are_refused(chart: str, value: str, said: str) -> None:
    _, complaint = rendered(chart, value, code=1)
    assert said in complaint


@pytest.mark.parametrize("chart", VALUES)
def test_pods_have_no_more_than_they_need(chart: str) -> None:
    """As Pod Security "restricted" has it, and no root that could be written."""
    documents, _ = rendered(chart)
    pod = pod_of(documents)
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in (*pod["containers"], *pod.get("initContainers", ())):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["limits"]["memory"]
    assert pod["automountServiceAccountToken"] is (chart == "agent")
    assert one(documents, "ServiceAccount")["automountServiceAccountToken"] is False
    policy = one(documents, "NetworkPolicy")["spec"]
    open_to_all = [port["port"] for rule in policy["ingress"] for port in rule["ports"]]
    assert open_to_all == [8082 if chart == "agent" else 8443]


def test_central_has_no_rights_in_its_cluster() -> None:
    documents, _ = rendered("central", "replicas=2", "database.existingSecret=db",
                            "secretKey.existingSecret=key")  # fmt: skip
    assert not [it["kind"] for it in documents if "Role" in it["kind"]]


def test_the_values_reach_the_pods() -> None:
    values = ("imagePullSecrets[0].name=registry", "tolerations[0].key=a", "nodeSelector.b=c",
              "extraEnv[0].name=HTTPS_PROXY", "extraEnv[0].value=http://p:1", "podLabels.d=e",
              "priorityClassName=high", "podAnnotations.f=g", "affinity.podAffinity.h=i",
              "extraVolumes[0].name=more", "extraVolumeMounts[0].name=more",
              f"image.digest=sha256:{'0' * 64}", "networkPolicy.egress[0].to[0].j=k")  # fmt: skip
    for chart in VALUES:
        documents, _ = rendered(chart, *values)
        pod = pod_of(documents)
        assert pod["imagePullSecrets"] == [{"name": "registry"}]
        assert pod["tolerations"] == [{"key": "a"}]
        assert (pod["nodeSelector"], pod["priorityClassName"]) == ({"b": "c"}, "high")
        assert pod["affinity"] == {"podAffinity": {"h": "i"}}
        assert pod["volumes"][-1] == {"name": "more"}
        (container,) = pod["containers"]
        assert {"name": "HTTPS_PROXY", "value": "http://p:1"} in container["env"]
        assert container["volumeMounts"][-1] == {"name": "more"}
        assert container["image"] == f"mk8s-{chart}@sha256:{'0' * 64}"
        policy = one(documents, "NetworkPolicy")["spec"]
        assert policy["policyTypes"] == ["Ingress", "Egress"]
        assert policy["egress"] == [{"to": [{"j": "k"}]}]


def test_central_on_postgresql_with_a_certificate_of_yours() -> None:
    documents, _ = rendered("central", "replicas=3", "database.existingSecret=db",
                            "secretKey.existingSecret=key",
                            "tls.existingSecret=tls", "domain=k.example.com",
                            "service.type=LoadBalancer", "tunnelService.type=NodePort",
                            "tunnelService.nodePort=30443", "config.tokens.access_seconds=600",
                            "networkPolicy.monitoring[0].podSelector.a=b",
                            "policy.users[0].email=a@example.com")  # fmt: skip
    settings = one(documents, "ConfigMap")["data"]
    assert yaml.safe_load(settings["central.yaml"]) == {
        "public_url": "https://mk8s.example.com",
        "domain": "k.example.com",
        "listen": "0.0.0.0:8443",
        "admin_listen": "0.0.0.0:8081",
        "data_dir": "/var/lib/mk8s/central",
        "tls": {"certificate": "/etc/mk8s/tls/tls.crt", "key": "/etc/mk8s/tls/tls.key"},
        "tokens": {"access_seconds": 600},
    }
    assert yaml.safe_load(settings["policy.yaml"]) == {"users": [{"email": "a@example.com"}]}
    pod = pod_of(documents)
    reference = {"secretKeyRef": {"name": "db", "key": "url"}}
    key = {"secretKeyRef": {"name": "key", "key": "key"}}
    (init,) = pod["initContainers"]
    for container in (init, *pod["containers"]):
        assert {"name": "MK8S_DATABASE_URL", "valueFrom": reference} in container["env"]
        assert {"name": "MK8S_SECRETS_KEY", "valueFrom": key} in container["env"]
        assert {"name": "tls", "mountPath": "/etc/mk8s/tls"} in container["volumeMounts"]
    assert init["args"][-2:] == ["--file", "/etc/mk8s/config/policy.yaml"]
    assert one(documents, "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1
    assert one(documents, "Service", "mk8s-central")["spec"]["type"] == "LoadBalancer"
    tunnels = one(documents, "Service", "mk8s-central-tunnels")["spec"]
    assert tunnels["publishNotReadyAddresses"] is True
    assert tunnels["ports"][0]["nodePort"] == 30443
    assert "publishNotReadyAddresses" not in one(documents, "Service", "mk8s-central")["spec"]
    (_, monitoring) = one(documents, "NetworkPolicy")["spec"]["ingress"]
    assert monitoring["ports"] == [{"port": 8081, "protocol": "TCP"}]


def test_sqlite_has_one_replica_and_no_budget_that_would_block_a_drain() -> None:
    documents, _ = rendered("central")
    assert not [it for it in documents if it["kind"] == "PodDisruptionBudget"]
    assert one(documents, "StatefulSet")["spec"]["volumeClaimTemplates"]
    without, _ = rendered("central", "persistence.enabled=false")
    assert "volumeClaimTemplates" not in one(without, "StatefulSet")["spec"]
    assert {"name": "data", "emptyDir": {}} in pod_of(without)["volumes"]


@pytest.mark.parametrize("constrained", ["false", "true"])
def test_whom_the_agent_may_act_as(constrained: str) -> None:
    documents, _ = rendered("agent", "impersonation.groups={ops}", "impersonation.users={ana}",
                            "impersonation.extras={team}", "users.clusterRole=view",
                            f"impersonation.constrained.enabled={constrained}")  # fmt: skip
    rules = one(documents, "ClusterRole")["rules"]
    names = {rule["resources"][0]: rule.get("resourceNames") for rule in rules[:3]}
    assert names == {
        "users": ["ana", "mk8s:probe"],
        "groups": ["mk8s:users", "system:authenticated", "ops"],
        "uids": None,
    }
    assert rules[2]["resources"][-1] == "userextras/team"
    verbs = {verb for rule in rules for verb in rule["verbs"]}
    assert all(verb.startswith("impersonate") for verb in verbs)
    assert ("impersonate" in verbs) is (constrained == "false")
    bound = one(documents, "ClusterRoleBinding", "ns:mk8s-agent-users")
    assert (bound["roleRef"]["name"], bound["subjects"][0]["name"]) == ("view", "mk8s:users")


def test_a_join_token_of_a_secret_of_yours() -> None:
    documents, _ = rendered("agent", "join.existingSecret=mine")
    assert [it["metadata"]["name"] for it in documents if it["kind"] == "Secret"] == [
        "mk8s-agent-identity"
    ]
    (container,) = pod_of(documents)["containers"]
    assert container["envFrom"][1]["secretRef"] == {"name": "mine", "optional": True}


def test_charts_have_the_version_of_the_distribution() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    for chart in VALUES:
        told = yaml.safe_load((CHARTS / chart / "Chart.yaml").read_text())
        assert {told["version"], told["appVersion"]} == {project["version"]}
