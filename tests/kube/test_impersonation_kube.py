"""`kubectl --as`, from the flag to the API server's audit log."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support import kubectl as kubectls
from tests.support.cast import enrol, grant
from tests.support.kubectl import Kubectl
from tests.support.wire import send, token_of
from tests.support.world import Person, World

pytestmark = pytest.mark.kube


@pytest.fixture(params=kubectls.few(), ids=kubectls.name_of)
def binary(request: pytest.FixtureRequest) -> Path:
    """A few stock kubectls: the answers come from central."""
    found: Path = request.param
    return found


LOOKS = {
    "name": "prod",
    "namespaces": ["*"],
    "verbs": ["get", "list", "watch"],
    "resources": ["configmaps"],
    "impersonate": {"users": ["dev@example.com", "ghost@example.com"], "groups": ["team-*"]},
}
PODS = "/k8s/prod/api/v1/namespaces/shop/pods"


@pytest.fixture(scope="module")
def stand_in(world: World) -> Person:
    """May look at configmaps, and act as the developer and in the groups team-*."""
    return enrol(world, world.fresh_name("standin"), [LOOKS])


@pytest.fixture
def acting(binary: Path, stand_in: Person) -> Kubectl:
    return stand_in.kubectl(binary)


def upstream(world: World, name: str) -> dict[str, Any]:
    """The one row of the API server's audit log about an object of this name."""
    rows = [row for row in world.upstream_audit() if row.get("objectRef", {}).get("name") == name]
    assert len(rows) == 1
    return rows[0]


def test_as_another_user_has_that_users_rights(
    acting: Kubectl, world: World, namespace: str, stand_in: Person
) -> None:
    name = world.fresh_name("made")
    create = ("-n", namespace, "create", "configmap", name)
    assert "cannot create" in acting(*create, code=1).stderr
    acting("--as", "dev@example.com", "--as-group", "team-a", *create)
    world.direct("-n", namespace, "get", "configmap", name)
    row = upstream(world, name)
    assert row["impersonatedUser"]["username"] == "dev@example.com"
    assert set(row["impersonatedUser"]["groups"]) == {
        "mk8s:users",
        "mk8s:role:developer",
        "team-a",
        "system:authenticated",
    }
    assert row["impersonatedUser"]["extra"] == {"mk8s.io/original-user": [stand_in.email]}
    rows = world.audit(objectRef__namespace=namespace, verb="create")
    ours = [row for row in rows if "impersonatedUser" in row]
    assert {row["user"]["username"] for row in ours} == {stand_in.email}
    assert {row["impersonatedUser"]["username"] for row in ours} == {"dev@example.com"}


def test_streams_run_as_the_other_user(acting: Kubectl) -> None:
    assert acting("-n", "shop", "logs", "web", "--tail=1", code=1).stderr
    as_dev = ("--as", "dev@example.com", "-n", "shop")
    assert "line" in acting(*as_dev, "logs", "web", "--tail=1").stdout
    assert acting(*as_dev, "exec", "web", "--", "echo", "hello").stdout == "hello\n"


def test_as_somebody_whom_no_role_names(acting: Kubectl) -> None:
    refused = acting("--as", "viewer@example.com", "get", "pods", code=1).stderr
    assert 'cannot impersonate resource "users"' in refused
    assert "viewer@example.com" in refused


def test_as_a_user_without_roles(acting: Kubectl) -> None:
    refused = acting("--as", "ghost@example.com", "-n", "shop", "get", "pods", code=1).stderr
    assert 'User "ghost@example.com"' in refused
    assert "no roles" in refused


def test_as_a_group_that_no_role_names(acting: Kubectl) -> None:
    command = ("--as", "dev@example.com", "--as-group", "admins", "get", "pods")
    assert 'cannot impersonate resource "groups"' in acting(*command, code=1).stderr


@pytest.mark.parametrize(
    "flags",
    [
        ("--as", "system:admin"),
        ("--as", "system:serviceaccount:kube-system:default"),
        ("--as", "dev@example.com", "--as-group", "system:masters"),
    ],
)
def test_attack_as_one_of_kubernetes_own(acting: Kubectl, flags: tuple[str, ...]) -> None:
    refused = acting(*flags, "get", "secrets", "-A", code=1).stderr
    assert "Forbidden" in refused or "forbidden" in refused
    assert "system:*" in refused


def test_whoever_may_impersonate_nobody(binary: Path, viewer: Person) -> None:
    kubectl = viewer.kubectl(binary)
    assert "cannot impersonate" in kubectl("--as", "dev@example.com", "get", "ns", code=1).stderr


def test_as_a_uid(acting: Kubectl, binary: Path, namespace: str) -> None:
    if kubectls.version_of(binary) < (1, 24):
        assert "unknown flag" in acting("--as-uid", "7", "get", "ns", code=1).stderr
        return
    command = ("--as", "dev@example.com", "--as-uid", "7", "-n", namespace, "get", "configmaps")
    acting(*command)
    assert acting("--as-uid", "7", "get", "ns", code=1).stderr != ""


def test_what_kubectl_could_never_send(world: World, stand_in: Person) -> None:
    """The flags go through the client's library; these headers do not."""
    token = token_of(stand_in, world, "prod")
    before = len(world.upstream_audit())
    user = {"Impersonate-User": "dev@example.com"}
    wrong = [
        {"Impersonate-Group": "team-a"},
        {"Impersonate-Uid": "7"},
        {"Impersonate-Extra-Reason": "x"},
        {"Impersonate-User": ""},
        {"Impersonate-User": "DEV@example.com"},
        {"Impersonate-User": "d" * 10_240},
        {"Impersonate_User": "dev@example.com"},
        {**user, "Impersonate-Extra-mk8s.io%2Foriginal-user": "admin@example.com"},
        {**user, "Impersonate-Users": "x"},
        {**user, "Connection": "close, Impersonate-User"},
        {"iMPERSONATE-uSER": "system:masters"},
    ]
    for headers in wrong:
        answer = send(world, PODS, token=token, headers=headers)
        assert answer.code in (400, 403), headers
        assert answer.status["message"]
    assert len(world.upstream_audit()) == before, "nothing of it reached the cluster"
    extra = {**user, "Impersonate-Extra-Reason": "ticket 7"}
    assert send(world, PODS, token=token, headers=extra).code == 200
    seen = world.upstream_audit()[-1]["impersonatedUser"]["extra"]
    assert seen == {"mk8s.io/original-user": [stand_in.email], "reason": ["ticket 7"]}


def test_a_right_taken_away_ends_a_watch(world: World, binary: Path, namespace: str) -> None:
    role = world.fresh_name("watcher")
    kubectl = enrol(world, role, [LOOKS]).kubectl(binary)
    world.direct("-n", namespace, "create", "configmap", "first")
    watch = ("--as", "dev@example.com", "-n", namespace, "get", "configmap", "-w", "-o", "name")
    with kubectl.start(*watch) as watching:
        watching.wait_for_line("^configmap/first$")
        grant(world, role, [{**LOOKS, "impersonate": {"users": ["nobody@example.com"]}}])
        watching.wait(seconds=30)
    assert "cannot impersonate" in kubectl(*watch[:6], code=1).stderr


def test_whom_one_may_impersonate_is_a_question_too(acting: Kubectl) -> None:
    yes = acting("auth", "can-i", "impersonate", "users/dev@example.com", code=None)
    no = acting("auth", "can-i", "impersonate", "users/viewer@example.com", code=None)
    assert yes.stdout.strip() == "yes"
    assert no.stdout.startswith("no")


def test_the_row_of_a_refusal_names_the_real_user(world: World, stand_in: Person) -> None:
    token = token_of(stand_in, world, "prod")
    headers = {"Impersonate-User": "viewer@example.com"}
    target = f"{PODS}/{world.fresh_name('refused')}"
    status = send(world, target, token=token, headers=headers).status
    assert status["reason"] == "Forbidden"
    assert status["details"] == {"name": "viewer@example.com", "kind": "users"}
    (row,) = [row for row in world.audit() if row["requestURI"] == target]
    assert row["user"]["username"] == stand_in.email
    assert "impersonatedUser" not in row
    assert json.dumps(row).count("viewer@example.com") <= 1
