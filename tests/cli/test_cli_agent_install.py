"""`mk8s admin clusters add --install/--manifest/--helm` and `remove --uninstall`."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes.config import kube_config
from urllib3.exceptions import HTTPError

from mk8s_cli.agent_install import cluster as clusters
from mk8s_cli.agent_install import diagnosis, install, manifest
from mk8s_cli.agent_install.diagnosis import Observed, examine
from tests.cli.conftest import Result, Run
from tests.cli.fake_central import FakeCentral, cluster, error
from tests.cli.fake_kube import FakeKube

TEMPLATE = manifest.read_template
PODS = "/api/v1/namespaces/mk8s/pods"
SETS = "/apis/apps/v1/namespaces/mk8s/replicasets"
SETTINGS = "/api/v1/namespaces/mk8s/configmaps/mk8s-agent"
INSTALL = ("admin", "clusters", "add", "prod", "--install", "--kube-context", "admin@prod")
REMOVE = ("admin", "clusters", "remove", "prod", "--yes", "--uninstall", "--kube-context", "x")


@pytest.fixture
def kube(monkeypatch: pytest.MonkeyPatch) -> FakeKube:
    """A cluster in which a new agent serves at once."""
    fake = FakeKube()
    monkeypatch.setattr(clusters, "connect", lambda context: clusters.KubeCluster(fake, context))
    monkeypatch.setattr(install, "PAUSE", 0.0)
    give(fake, pod({"running": {}}, ready=True))
    return fake


@pytest.fixture
def administrator(central: FakeCentral, logged_in: Result) -> FakeCentral:
    central.admin = True
    return central


def replica_set(revision: int = 1, **status: Any) -> dict[str, Any]:
    annotations = {"deployment.kubernetes.io/revision": str(revision)}
    return {
        "metadata": {"name": f"rs-{revision}", "uid": f"u{revision}", "annotations": annotations},
        "status": status,
    }


def pod(state: dict[str, Any], *, ready: bool = False, last: Any = None, **more: Any) -> Any:
    container = {
        "image": "mk8s-agent:0.1.0",
        "state": state,
        "ready": ready,
        "restartCount": 1 if last else 0,
        "lastState": {"terminated": last} if last else {},
    }
    return {
        "metadata": {"name": "agent-1", "ownerReferences": [{"uid": "u1"}], **more},
        "status": {"containerStatuses": [container]},
    }


def give(fake: FakeKube, *pods: Any) -> None:
    fake.objects[f"{SETS}/rs-1"] = replica_set()
    for at, it in enumerate(pods):
        fake.objects[f"{PODS}/{at}"] = it


# --- what is installed ---


def of_kind(documents: list[Any], kind: str) -> list[Any]:
    return [it for it in documents if it["kind"] == kind]


def test_the_manifest_is_one_file_for_kubectl(run: Run, administrator: FakeCentral) -> None:
    done = run("admin", "clusters", "add", "new", "--manifest", "--namespace", "access",
               "--image", "registry.example.com/agent:2", "--users-role", "edit")  # fmt: skip
    documents = [it for it in yaml.safe_load_all(done.out) if it]
    assert documents[0]["kind"] == "Namespace"
    assert {it["metadata"].get("namespace", "access") for it in documents} == {"access"}
    subjects = [it for document in documents for it in document.get("subjects", ())]
    assert {it.get("namespace", "access") for it in subjects} == {"access"}
    (settings,) = of_kind(documents, "ConfigMap")
    assert settings["data"]["CENTRAL_URL"] == administrator.url
    assert settings["data"]["CLUSTER_NAME"] == "new"
    token, identity = of_kind(documents, "Secret")
    assert token["stringData"] == {"AGENT_TOKEN": "join-1"}
    assert not {"data", "stringData"} & set(identity)
    (deployment,) = of_kind(documents, "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "registry.example.com/agent:2"
    bound = {it["metadata"]["name"]: it["roleRef"]["name"] for it in documents if "roleRef" in it}
    assert bound == {
        "access:mk8s-agent": "access:mk8s-agent",
        "access:mk8s-agent-users": "edit",
        "mk8s-agent-identity": "mk8s-agent-identity",
    }


def test_nobody_gets_anything_unless_a_role_is_named(run: Run, administrator: FakeCentral) -> None:
    out = run("admin", "clusters", "add", "new", "--manifest").out
    assert "mk8s-agent-users" not in out
    assert "cluster-admin" not in out


def test_another_token_is_another_pod() -> None:
    def annotation(token: str) -> Any:
        joining = manifest.Joining("a", "https://c.example.com", "sha256:0", token)
        (it,) = of_kind(manifest.documents(joining, manifest.Choices()), "Deployment")
        return it["spec"]["template"]["metadata"]["annotations"]["mk8s.io/settings"]

    assert annotation("one") != annotation("two")
    assert "one" not in annotation("one")


@pytest.mark.parametrize(
    ("image", "values"),
    [
        ("r.example.com:5000/a/agent:2", {"repository": "r.example.com:5000/a/agent", "tag": "2"}),
        ("r.example.com:5000/agent", {"repository": "r.example.com:5000/agent"}),
        ("agent@sha256:00", {"repository": "agent", "digest": "sha256:00"}),
    ],
)
def test_the_line_for_helm(
    run: Run, administrator: FakeCentral, image: str, values: dict[str, str]
) -> None:
    words = ("--helm", "--image", image, "--users-role", "view")
    out = run("admin", "clusters", "add", "new", *words).out
    line, _, rest = out.partition("\n")
    assert line.startswith("helm upgrade --install mk8s-agent deploy/helm/agent --namespace mk8s")
    assert "join-1" not in line, "the token is no argument: those are shown to everybody"
    told = yaml.safe_load(rest.removesuffix("EOF\n"))
    assert told["join"] == {"token": "join-1"}
    assert told["image"] == values
    assert told["users"] == {"clusterRole": "view"}


@pytest.mark.parametrize(
    "words",
    [
        ("--install",),
        ("--kube-context", "x"),
        ("--manifest", "--helm"),
        ("--image", "x"),
        ("--users-role", "x"),
    ],
)
def test_options_that_contradict_each_other(
    run: Run, administrator: FakeCentral, words: tuple[str, ...]
) -> None:
    assert run("admin", "clusters", "add", "new", *words).code == 2
    assert administrator.count("POST", "/clusters") == 0


def test_what_central_answers_is_checked_before_it_is_installed(
    run: Run, administrator: FakeCentral
) -> None:
    answer = {"join_token": "a b", "ca_pin": "sha256:0", "central_url": administrator.url}
    administrator.overrides["POST /clusters"] = [(201, answer)]
    done = run("admin", "clusters", "add", "new", "--manifest")
    assert "no join token and CA pin" in done.line


# --- install ---


def test_install_applies_and_waits(run: Run, administrator: FakeCentral, kube: FakeKube) -> None:
    kube.objects["/api/v1/namespaces/mk8s/secrets/mk8s-agent-identity"] = {"data": {"old": "x"}}
    done = run(*INSTALL)
    assert done.code == 0, done.err
    assert "cluster prod is connected, after" in done.err
    assert administrator.count("POST", "/clusters") == 1
    applied = [path.rpartition("/")[2] for path in kube.applied]
    assert applied[0] == "mk8s"
    assert applied[-1] == "mk8s-agent"
    assert kube.dry_runs, "rights are asked for before anything is registered"
    identity = kube.objects["/api/v1/namespaces/mk8s/secrets/mk8s-agent-identity"]
    assert "data" not in identity, "what an earlier registration left would be refused"


def test_install_again_takes_a_new_join_token(
    run: Run, administrator: FakeCentral, kube: FakeKube
) -> None:
    administrator.overrides["POST /clusters"] = [error(409, "prod exists")]
    identity = "/api/v1/namespaces/mk8s/secrets/mk8s-agent-identity"
    kube.objects[identity] = {"data": {"identity.json": "x"}}
    assert run(*INSTALL).code == 0
    assert administrator.count("POST", "/clusters/prod/join-token") == 1
    assert kube.objects[identity]["data"], "an agent that has joined keeps what it is"


def test_a_refusal_of_central_changes_nothing_in_the_cluster(
    run: Run, administrator: FakeCentral, kube: FakeKube
) -> None:
    administrator.overrides["POST /clusters"] = [error(403, "not you")]
    assert run(*INSTALL).code == 1
    assert kube.applied == []


def test_a_cluster_that_refuses_is_not_registered(
    run: Run, administrator: FakeCentral, kube: FakeKube
) -> None:
    role = "/apis/rbac.authorization.k8s.io/v1/clusterroles/mk8s:mk8s-agent"
    kube.refusals["patch", role] = (403, 'user "ana" cannot bind')
    done = run(*INSTALL)
    assert 'the cluster refuses ClusterRole mk8s:mk8s-agent: user "ana" cannot bind' in done.err
    assert administrator.count("POST", "/clusters") == 0


def test_a_namespace_of_others_stays_as_it_is(
    run: Run, administrator: FakeCentral, kube: FakeKube
) -> None:
    kube.objects["/api/v1/namespaces/mk8s"] = {"metadata": {"name": "mk8s", "labels": {"a": "b"}}}
    assert run(*INSTALL).code == 0
    assert "/api/v1/namespaces/mk8s" not in kube.applied
    kube.refusals = {}
    assert run(*REMOVE).code == 0
    assert "/api/v1/namespaces/mk8s" in kube.objects


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"data": {"CLUSTER_NAME": "test"}, "metadata": {}}, "the agent of cluster 'test'"),
        (
            {"metadata": {"labels": {"app.kubernetes.io/managed-by": "Helm"}}},
            "is looked after by Helm",
        ),
    ],
)
@pytest.mark.parametrize("command", [INSTALL, REMOVE], ids=["install", "uninstall"])
def test_an_agent_of_others_is_not_touched(
    run: Run,
    administrator: FakeCentral,
    kube: FakeKube,
    settings: dict[str, Any],
    said: str,
    command: tuple[str, ...],
) -> None:
    kube.objects[SETTINGS] = settings
    done = run(*command)
    assert done.code == 1
    assert said in done.err
    assert [call for call in administrator.calls if call[0] in {"POST", "DELETE"}][1:] == []


def test_what_fails_says_why_and_how_to_go_on(
    run: Run, administrator: FakeCentral, kube: FakeKube
) -> None:
    waiting = {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}
    give(kube, pod({"waiting": waiting}))
    done = run(*INSTALL)
    assert "cannot pull the image mk8s-agent:0.1.0: Back-off" in done.err
    assert "remove prod --uninstall --kube-context admin@prod" in done.err


def test_waiting_has_an_end(run: Run, administrator: FakeCentral, kube: FakeKube) -> None:
    administrator.clusters = [cluster("prod", status="pending")]
    done = run(*INSTALL, "--timeout", "1")
    assert "not connected after 1 seconds: the agent serves" in done.err
    assert done.err.count("the agent serves") == 2, "the same is told once, and at the end"


def test_the_log_of_the_run_before_is_read(
    run: Run, administrator: FakeCentral, kube: FakeKube
) -> None:
    kube.log = 'mk8s-agent: cannot join at c:443: no answer\n{"level": "info"}\n'
    ended = {"exitCode": 1}
    give(kube, pod({"waiting": {"reason": "CrashLoopBackOff"}}, last=ended))
    assert "does not reach central from inside the cluster: cannot join at" in run(*INSTALL).err


def bound(kind: str, name: str, namespace: str = "") -> dict[str, Any]:
    labels = {"app.kubernetes.io/managed-by": "mk8s", "app.kubernetes.io/component": "cluster-rbac"}
    metadata = {"name": name, "labels": labels} | ({"namespace": namespace} if namespace else {})
    return {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": metadata}


RBAC = "/apis/rbac.authorization.k8s.io/v1"


def test_what_the_roles_may_do_at_the_most_comes_with_the_agent(
    run: Run, administrator: FakeCentral, kube: FakeKube
) -> None:
    administrator.cluster_rbac = [
        bound("ClusterRole", "mk8s:role:dev"),
        bound("Role", "mk8s:role:dev", "shop"),
        bound("Role", "mk8s:role:dev", "absent"),
    ]
    administrator.rbac_notes = [{"rule": "dev, rule 1", "text": "a glob"}]
    kube.refusals["patch", f"{RBAC}/namespaces/absent/roles/mk8s:role:dev"] = (404, "no absent")
    done = run(*INSTALL)
    assert done.code == 0, done.err
    assert "note: dev, rule 1: a glob" in done.err
    assert "left out: the cluster refuses Role mk8s:role:dev: no absent" in done.err
    deployment = next(path for path in kube.applied if path.endswith("/deployments/mk8s-agent"))
    role = kube.applied.index(f"{RBAC}/namespaces/shop/roles/mk8s:role:dev")
    assert role < kube.applied.index(deployment), "the agent asks for its rights when it starts"
    another = "/apis/apps/v1/namespaces/other/deployments/mk8s-agent"
    kube.objects[another] = {"metadata": {}}
    assert run(*REMOVE).code == 0
    assert f"{RBAC}/clusterroles/mk8s:role:dev" in kube.objects, "another agent needs it"
    kube.objects[another] = {"metadata": {"deletionTimestamp": "2026-01-02T03:04:05Z"}}
    assert run(*REMOVE).code == 0
    assert not [path for path in kube.objects if "mk8s:role:dev" in path]


def test_a_role_of_yours_is_instead_of_the_roles_bounds(
    run: Run, administrator: FakeCentral, kube: FakeKube
) -> None:
    administrator.cluster_rbac = [bound("ClusterRole", "mk8s:role:dev")]
    assert run(*INSTALL, "--users-role", "view").code == 0
    assert not [path for path in kube.applied if "mk8s:role:dev" in path]
    add = ("admin", "clusters", "add", "new")
    assert "mk8s:role:dev" in run(*add, "--manifest").out
    bounds = "mk8s admin cluster-rbac --cluster new --agent mk8s:mk8s-agent | kubectl apply"
    assert bounds in run(*add, "--helm").out
    assert bounds not in run(*add, "--helm", "--users-role", "view").out


def test_a_missing_namespace_of_the_agent_is_no_reason_to_go_on(
    run: Run, administrator: FakeCentral, kube: FakeKube
) -> None:
    kube.refusals["patch", SETTINGS] = (404, "namespace mk8s not found")
    assert "refuses ConfigMap mk8s-agent: namespace mk8s not found" in run(*INSTALL).err


# --- uninstall ---


def test_uninstall_takes_all_of_it_away(
    run: Run, administrator: FakeCentral, kube: FakeKube
) -> None:
    assert run(*INSTALL, "--users-role", "view").code == 0
    kube.objects = {path: it for path, it in kube.objects.items() if path in kube.applied}
    done = run(*REMOVE)
    assert done.out == "cluster prod is removed\n"
    assert kube.objects == {}
    assert administrator.count("DELETE", "/clusters/prod") == 1


def test_uninstall_goes_on_where_central_knows_the_cluster_no_more(
    run: Run, administrator: FakeCentral, kube: FakeKube
) -> None:
    assert run(*INSTALL).code == 0
    administrator.overrides["DELETE /clusters/prod"] = [error(404, "no such cluster")] * 2
    assert run(*REMOVE).code == 0
    assert SETTINGS not in kube.objects
    assert run("admin", "clusters", "remove", "prod", "--yes").code == 1


def test_what_does_not_go_is_told(
    run: Run,
    administrator: FakeCentral,
    kube: FakeKube,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mk8s_cli.commands.cluster_install.GONE_SECONDS", 0.0)
    assert run(*INSTALL).code == 0
    monkeypatch.setattr(clusters.KubeCluster, "delete", lambda *_: True)
    assert "Namespace mk8s is still there" in run(*REMOVE).err
    del kube.objects["/api/v1/namespaces/mk8s"]
    assert "NetworkPolicy mk8s-agent is still there" in run(*REMOVE).err


def test_uninstall_needs_a_context(run: Run, administrator: FakeCentral) -> None:
    assert run("admin", "clusters", "remove", "prod", "--yes", "--uninstall").code == 2
    assert run("admin", "clusters", "remove", "prod", "--yes", "--kube-context", "x").code == 2


# --- the cluster's answers ---


def test_a_cluster_that_does_not_answer_is_one_line(kube: FakeKube) -> None:
    reached = clusters.KubeCluster(kube, "prod")
    kube.down = HTTPError("refused")
    with pytest.raises(clusters.KubeError, match="context prod does not answer: refused"):
        reached.version()
    assert reached.log_of("pod", "mk8s") == ""


@pytest.mark.parametrize("content", [b"<html>", b"[]"])
def test_something_else_behind_the_context(
    kube: FakeKube, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    monkeypatch.setattr(kube, "answer", lambda *_: content)
    with pytest.raises(clusters.KubeError, match="no API server"):
        clusters.KubeCluster(kube, "prod").version()


def test_a_refusal_that_is_no_status_is_told_by_its_number(kube: FakeKube) -> None:
    assert clusters._refusal("", b"<html>", 502) == "the cluster refuses: status 502"
    kube.refusals["get", SETTINGS] = (403, "no")
    kube.refusals["delete", SETTINGS] = (403, "no")
    reached = clusters.KubeCluster(kube, "prod")
    with pytest.raises(clusters.KubeError, match="ConfigMap mk8s-agent: no"):
        reached.read("ConfigMap", "mk8s-agent", "mk8s")
    settings = {"kind": "ConfigMap", "metadata": {"name": "mk8s-agent", "namespace": "mk8s"}}
    with pytest.raises(clusters.KubeError, match="ConfigMap mk8s-agent: no"):
        reached.delete(settings)


def test_a_context_that_is_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "none"))
    with pytest.raises(clusters.CliError, match="context 'absent':"):
        clusters.connect("absent")


def test_the_client_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kubernetes", None)
    with pytest.raises(clusters.CliError, match=r"pip install 'mk8s\[install\]'"):
        clusters.connect("any")


def test_the_client_costs_nothing_where_nothing_is_installed() -> None:
    code = (
        "import sys; from mk8s_cli.commands import admin_clusters; "
        "import mk8s_cli.agent_install.install; print('kubernetes' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr


# --- in words ---


def failed(message: str) -> dict[str, Any]:
    condition = {"type": "ReplicaFailure", "status": "True", "message": message}
    return {"status": {"conditions": [condition]}}


def seen(container: Any, log: str = "", events: Any = ()) -> Observed:
    return Observed({}, [replica_set()], [container], events, log)


SCHEDULED = {"type": "PodScheduled", "status": "False", "message": "0/1 nodes: no memory"}
MOUNT = {"reason": "FailedMount", "message": "no Secret", "involvedObject": {"name": "agent-1"}}
WAITS = json.dumps({"level": "warning", "event": "join.waiting", "reason": "c:443: refused"})
BARE = {"metadata": {"name": "agent-1", "ownerReferences": [{"uid": "u1"}]}}
WORDS: list[tuple[Observed, str, bool]] = [
    (Observed(), "the cluster makes the agent's pod", False),
    (Observed(failed('pods "a" is forbidden: exceeded quota: q')), "the namespace's quota", True),
    (Observed(failed("violates PodSecurity")), "Pod Security of the namespace", True),
    (Observed(failed("admission webhook denied")), "an admission rule of the cluster", True),
    (Observed(failed('serviceaccount "a" not found')), "the agent's ServiceAccount", True),
    (Observed(failed("no idea")), "the cluster refuses the agent's pod: no idea", True),
    (Observed({}, [replica_set(**failed("must specify limits")["status"])]), "quota", True),
    (seen(BARE | {"status": {"conditions": [SCHEDULED]}}), "no node takes the agent's pod", False),
    (seen(BARE, events=[MOUNT]), "cannot be set up: no Secret", False),
    (seen(BARE, events=[{"reason": "FailedMount"}]), "pulls the agent's image", False),
    (seen(pod({"waiting": {"reason": "ErrImagePull", "message": "m"}})), "cannot pull", False),
    (seen(pod({"waiting": {"reason": "InvalidImageName"}})), "cannot pull the image", True),
    (seen(pod({"waiting": {"reason": "ContainerCreating"}})), "a node pulls", False),
    (seen(pod({"waiting": {"reason": "CreateContainerError"}})), "cannot be made", True),
    (seen(pod({"terminated": {"reason": "OOMKilled"}})), "more memory than its limit", True),
    (seen(pod({"terminated": {"exitCode": 2}}), "bad\n"), "exit code 2: bad", True),
    (seen(pod({"terminated": {"exitCode": 2}})), "exit code 2: it printed nothing", True),
    (
        seen(pod({"terminated": {"exitCode": 1}}), "mk8s-agent: check the clock"),
        "a clock is wrong",
        True,
    ),
    (
        seen(pod({"terminated": {"exitCode": 1}}), "mk8s-agent: c is not trusted"),
        "does not reach",
        True,
    ),
    (
        seen(pod({"terminated": {"exitCode": 1}}), "mk8s-agent: central refused to let"),
        "central refuses",
        True,
    ),
    (seen(pod({"terminated": {"exitCode": 1}}), "mk8s-agent: else"), "the agent ended: else", True),
    (seen(pod({"running": {}}), WAITS), "waits for central: c:443: refused", False),
    (seen(pod({"running": {}}), '{"level": "warning"}\nx'), "runs and joins central", False),
    (seen(pod({"running": {}}), '[1]\n{"level": "info"}'), "runs and joins central", False),
]


@pytest.mark.parametrize(("observed", "said", "is_hopeless"), WORDS)
def test_why_an_agent_does_not_come(observed: Observed, said: str, is_hopeless: bool) -> None:
    finding = examine(observed)
    assert said in finding.sentence
    assert finding.hopeless == is_hopeless
    assert not finding.ready


def test_text_of_the_cluster_cannot_drive_the_terminal() -> None:
    waiting = {"reason": "ErrImagePull", "message": "a\x1b[31m\nb"}
    assert "\x1b" not in examine(seen(pod({"waiting": waiting}))).sentence


def test_only_the_newest_pod_counts() -> None:
    old = pod({"terminated": {"exitCode": 1}}, creationTimestamp="2026-01-01T00:00:00Z")
    new = pod({"running": {}}, ready=True, creationTimestamp="2026-01-02T00:00:00Z")
    of_another = {**old, "metadata": {"name": "b", "ownerReferences": [{"uid": "u0"}]}}
    sets = [replica_set(1), replica_set(0), {"metadata": {"annotations": None}}]
    assert examine(Observed({}, sets, [new, old, of_another])).ready
    assert not diagnosis.has_ended_before(new)
    assert diagnosis.has_ended_before(pod({"waiting": {}}, last={"exitCode": 1}))
