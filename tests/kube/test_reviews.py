"""`kubectl auth can-i` says what would happen: yes only where mk8s and the cluster both agree."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import kubectl as kubectls
from tests.support.cast import enrol
from tests.support.kubectl import Kubectl
from tests.support.wire import Answer, send, token_of
from tests.support.world import GRANT, Person, World, wait_until

pytestmark = [pytest.mark.kube, pytest.mark.oldest]


@pytest.fixture(params=kubectls.few(), ids=kubectls.name_of)
def binary(request: pytest.FixtureRequest) -> Path:
    """A few stock kubectls: the answers come from central."""
    found: Path = request.param
    return found


TENANT = {
    "name": "prod",
    "namespaces": ["shop"],
    "verbs": ["get", "list", "watch", "logs", "exec"],
    "resources": ["pods", "services", "deployments.apps"],
}
SECRETS = {
    "name": "prod",
    "namespaces": ["shop"],
    "verbs": ["get"],
    "resources": ["secrets"],
    "names": ["public"],
}
VAULT = {**TENANT, "deny": True, "verbs": ["*"], "resources": ["services"], "names": ["vault"]}
GROUPS = ["mk8s:users", "mk8s:role:developer", "system:authenticated"]
STAGING = {"name": "staging", "namespaces": ["*"], "verbs": ["*"], "resources": ["*"]}
NARROW = """
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: narrow}
rules:
  - {apiGroups: [""], resources: [pods, pods/log], verbs: [get, list]}
"""


@pytest.fixture(scope="module")
def tenant(world: World) -> Person:
    """Limited in prod by mk8s; in staging mk8s allows everything."""
    person = enrol(world, world.fresh_name("tenant"), [TENANT, SECRETS, VAULT, STAGING])
    person.use("staging")
    person.use("prod")
    return person


@pytest.fixture
def asking(binary: Path, tenant: Person) -> Kubectl:
    return tenant.kubectl(binary)


def can(kubectl: Kubectl, *question: str) -> subprocess.CompletedProcess[str]:
    return kubectl("auth", "can-i", *question, code=None)


@pytest.mark.parametrize(
    "question",
    [
        ("get", "pods", "-n", "shop"),
        ("get", "pods/web", "-n", "shop"),
        ("list", "deployments.apps", "-n", "shop"),
        ("get", "pods", "--subresource=log", "-n", "shop"),
        ("create", "pods", "--subresource=exec", "-n", "shop"),
        ("get", "secrets/public", "-n", "shop"),
        ("get", "/version"),
        ("create", "selfsubjectaccessreviews.authorization.k8s.io"),
    ],
    ids=" ".join,
)
def test_yes(asking: Kubectl, question: tuple[str, ...]) -> None:
    answer = can(asking, *question)
    assert (answer.stdout.strip(), answer.returncode) == ("yes", 0), answer.stderr


@pytest.mark.parametrize(
    "question",
    [
        ("delete", "pods", "-n", "shop"),
        ("get", "pods", "-n", "default"),
        ("get", "pods", "-A"),
        ("create", "pods", "--subresource=portforward", "-n", "shop"),
        ("get", "secrets", "-n", "shop"),
        ("get", "secrets/private", "-n", "shop"),
        ("get", "services/vault", "-n", "shop"),
        ("get", "services", "-n", "shop"),
        ("get", "nodes"),
        ("*", "*"),
        ("*", "*", "-A"),
        ("get", "/metrics"),
    ],
    ids=" ".join,
)
def test_no(asking: Kubectl, question: tuple[str, ...]) -> None:
    answer = can(asking, *question)
    assert answer.returncode == 1, answer.stdout
    assert answer.stdout.startswith("no - mk8s: "), answer.stdout + answer.stderr


def test_the_answer_about_all_namespaces_is_what_happens(asking: Kubectl) -> None:
    """A list of all namespaces is narrowed to what the role covers, and so a yes."""
    happens = asking("get", "pods", "-A", "-o", "name", code=None)
    assert can(asking, "list", "pods", "-A").returncode == happens.returncode == 0
    assert happens.stdout == "pod/web\n"


def test_the_developer_may_everything(kubectl: Kubectl) -> None:
    assert can(kubectl, "*", "*").stdout.strip() == "yes"
    assert can(kubectl, "delete", "nodes", "--all-namespaces").stdout.strip() == "yes"


def test_the_viewer_cannot_change_anything(binary: Path, viewer: Person) -> None:
    kubectl = viewer.kubectl(binary)
    assert can(kubectl, "get", "secrets", "-A").stdout.strip() == "yes"
    refused = can(kubectl, "create", "pods", "-A")
    assert refused.returncode == 1
    assert "viewer" in refused.stdout


def test_list_shows_the_rules_of_mk8s(asking: Kubectl) -> None:
    shown = asking("auth", "can-i", "--list", "-n", "shop")
    rows = {line.split()[0]: line for line in shown.stdout.splitlines()[1:] if line[:1] != " "}
    assert rows["pods.*"].endswith("[get list watch]")
    assert rows["pods/log"].endswith("[get]")
    assert "[get create]" in rows["pods/exec"] or "[create get]" in rows["pods/exec"]
    assert "deployments.apps" in rows
    assert "[public]" in rows["secrets.*"]
    assert "selfsubjectaccessreviews.authorization.k8s.io" in rows
    assert "[/version]" in shown.stdout
    assert "[/metrics]" not in shown.stdout
    assert not {"*.*", "nodes.*", "configmaps.*", "pods/portforward"} & rows.keys()
    assert "mk8s" in shown.stderr, "what a denial leaves of services has no words"
    elsewhere = asking("auth", "can-i", "--list", "-n", "default").stdout
    assert "pods" not in elsewhere


def test_list_of_a_developer(kubectl: Kubectl) -> None:
    shown = kubectl("auth", "can-i", "--list").stdout
    (row,) = [line for line in shown.splitlines() if line.startswith("*.*")]
    for verb in ("get", "list", "watch"):
        assert verb in row
    # Not in this row: where mk8s:users may do everything, "*" writes no RBAC and no webhooks.
    for verb in ("create", "update", "patch", "delete"):
        assert verb not in row
        assert kubectl("auth", "can-i", verb, "pods").stdout.strip() == "yes"


@pytest.fixture
def narrow_cluster(world: World) -> Iterator[None]:
    """In staging, the cluster itself allows mk8s's people to look at pods only."""
    staging = {"kubeconfig": world.clusters["staging"]}
    world.direct("apply", "-f", "-", stdin=NARROW, **staging)
    binding = ("create", "clusterrolebinding", "narrow", "--clusterrole=narrow")
    world.direct(*binding, "--group=mk8s:users", **staging)
    world.direct("delete", "clusterrolebinding", "mk8s-users", **staging)
    yield
    world.direct(*GRANT, "--group=mk8s:users", **staging)
    world.direct("delete", "clusterrolebinding,clusterrole", "narrow", **staging)


def test_a_no_of_the_cluster_is_a_no(asking: Kubectl, tenant: Person, narrow_cluster: None) -> None:
    there = ("--context", tenant.contexts["staging"])

    def answer(*question: str) -> str:
        return can(asking, *there, *question).stdout.strip()

    wait_until(lambda: answer("delete", "pods") == "no", 10, lambda: "the cluster says yes")
    assert answer("get", "pods") == "yes"
    assert answer("list", "pods", "-A") == "yes"
    assert answer("get", "secrets").startswith("no")
    assert answer("create", "pods", "--subresource=exec").startswith("no")
    rows = asking(*there, "auth", "can-i", "--list").stdout.splitlines()
    assert any(row.startswith("pods ") and row.endswith("[get list]") for row in rows)
    assert any(row.startswith("pods/log ") and row.endswith("[get]") for row in rows)
    assert not any(row.startswith("*.*") for row in rows)


def test_about_the_user_who_is_acted_as(world: World, binary: Path) -> None:
    rules = [{"name": "prod", "impersonate": {"users": ["viewer@example.com"]}}]
    kubectl = enrol(world, world.fresh_name("helpdesk"), rules).kubectl(binary)
    assert can(kubectl, "get", "pods", "-n", "shop").returncode == 1
    as_viewer = ("--as", "viewer@example.com", "-n", "shop")
    assert can(kubectl, "get", "pods", *as_viewer).stdout.strip() == "yes"
    assert can(kubectl, "delete", "pods", *as_viewer).returncode == 1


def test_reviews_made_by_hand_in_json_and_yaml(asking: Kubectl) -> None:
    """k9s, Lens and kubectl's own `create -f` send what they like."""
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {"namespace": "shop", "verb": "delete", "resource": "pods"}},
    }
    for output in ("json", "yaml"):
        command = ("create", "-f", "-", "-o", output, "--validate=false")
        shown = asking(*command, stdin=json.dumps(review)).stdout
        assert "mk8s: no role allows it" in shown
    rules = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": "shop"},
    }
    shown = asking("create", "-f", "-", "-o", "json", "--validate=false", stdin=json.dumps(rules))
    listed = json.loads(shown.stdout)["status"]["resourceRules"]
    assert {"verbs": ["get", "list", "watch"], "apiGroups": ["*"], "resources": ["pods"]} in [
        {**rule, "resources": ["pods"]} for rule in listed if "pods" in rule["resources"]
    ]


def test_a_malformed_review_gets_the_clusters_own_refusal(world: World, tenant: Person) -> None:
    token = token_of(tenant, world, "prod")
    path = "/k8s/prod/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    answer = send(world, path, token=token, method="POST", headers={"Content-Length": "0"})
    assert answer.code in (400, 422)


def post_token_review(world: World, token: str, about: str, version: str) -> Answer:
    """A TokenReview, as kr8s and others send it."""
    head = {"kind": "TokenReview", "apiVersion": f"authentication.k8s.io/{version}"}
    path = f"/k8s/prod/apis/authentication.k8s.io/{version}/tokenreviews"
    body = json.dumps({**head, "spec": {"token": about}}).encode()
    content = {"Content-Type": "application/json"}
    return send(world, path, token=token, method="POST", headers=content, body=body)


def review_token(world: World, token: str, about: str, version: str) -> Any:
    """The status of a TokenReview."""
    answer = post_token_review(world, token, about, version)
    assert answer.code == 201, answer.body
    review = json.loads(answer.body)
    assert review["spec"]["token"] == about
    return review["status"]


@pytest.mark.parametrize("version", ["v1", "v1beta1"])
def test_a_token_of_mk8s_is_reviewed_by_mk8s(
    world: World, developer: Person, viewer: Person, version: str
) -> None:
    """The cluster knows no such token: without mk8s's word the answer would be no."""
    own, other = token_of(developer, world, "prod"), token_of(viewer, world, "prod")
    if version == "v1beta1" and world.server_version >= (1, 22):
        assert post_token_review(world, own, own, version).code == 404  # gone since 1.22
        return
    status = review_token(world, own, own, version)
    assert status["authenticated"] is True
    assert status["user"]["username"] == "dev@example.com"
    assert status["user"]["groups"] == GROUPS
    status = review_token(world, own, other, version)
    assert not status["authenticated"]
    assert "mk8s" in status["error"]
    status = review_token(world, own, "not.a.token", version)
    assert not status.get("authenticated")
    assert "mk8s" not in json.dumps(status)


def test_whoami_is_who_the_cluster_sees(world: World, kubectl: Kubectl, binary: Path) -> None:
    """Where a cluster has no SelfSubjectReview, kubectl says so as it would without mk8s."""
    if kubectls.version_of(binary) < (1, 27):
        assert "unknown command" in kubectl("auth", "whoami", code=1).stderr
        return
    if world.server_version >= (1, 28):
        shown = kubectl("auth", "whoami", "-o", "json").stdout
        user = json.loads(shown)["status"]["userInfo"]
        assert user["username"] == "dev@example.com"
        assert user["groups"] == GROUPS
        return
    assert "SelfSubjectReview" in kubectl("auth", "whoami", code=1).stderr
