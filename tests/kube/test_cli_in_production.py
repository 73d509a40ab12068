"""The day of a person at the CLI, against a real central and real clusters."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.support import kubectl as kubectls
from tests.support.kubectl import Kubectl
from tests.support.processes import run
from tests.support.world import MK8S, Person, World

pytestmark = pytest.mark.kube
LogIn = Callable[[str], Person]


@pytest.fixture
def chosen(binary: Path, tmp_path: Path, developer: Person) -> dict[str, str]:
    """The developer's environment with this binary as the kubectl on PATH."""
    (tmp_path / "kubectl").symlink_to(binary)
    return {**developer.environment, "PATH": f"{tmp_path}:{developer.environment['PATH']}"}


@pytest.mark.parametrize("word", ["kubectl", "k"])
def test_mk8s_runs_the_stock_kubectl(chosen: dict[str, str], word: str) -> None:
    got = run([*MK8S, word, "-n", "shop", "get", "pods", "-o", "name"], chosen)
    assert got.stdout == "pod/web\n"
    exit_code = [*MK8S, word, "-n", "shop", "exec", "web", "--", "sh", "-c", "exit 9"]
    run(exit_code, chosen, code=9)
    piped = [*MK8S, word, "-n", "shop", "exec", "-i", "web", "--", "cat"]
    assert run(piped, chosen, stdin="through\n").stdout == "through\n"


def test_clusters_list_shows_what_is_yours(developer: Person, viewer: Person) -> None:
    def names(person: Person) -> list[str]:
        return person.mk8s("clusters", "list", "-o", "name").stdout.split()

    assert names(developer) == ["prod", "staging"]
    assert names(viewer) == ["prod"]
    table = developer.mk8s("clusters", "list").stdout
    assert "connected" in table
    listed = json.loads(developer.mk8s("clusters", "ls", "-o", "json").stdout)
    again = yaml.safe_load(developer.mk8s("clusters", "list", "-o", "yaml").stdout)
    for cluster in (*listed, *again):  # a heartbeat may come between the two
        assert cluster.pop("last_seen")
    assert listed == again
    versions = {cluster["name"]: cluster["kubernetes_version"] for cluster in listed}
    assert versions["prod"].startswith("v1.")


def test_use_changes_the_context_and_goes_back(newcomer: LogIn) -> None:
    person = newcomer("dev@example.com")
    kubectl = person.kubectl(kubectls.binaries()[0])
    person.use("prod")
    assert "node/lab-node" in kubectl("get", "nodes", "-o", "name").stdout
    person.use("staging")
    assert kubectl("get", "nodes", "-o", "name").stdout == ""
    person.mk8s("use", "-")
    assert "node/lab-node" in kubectl("get", "nodes", "-o", "name").stdout
    person.mk8s("use", "prod", "-n", "shop")
    assert kubectl("get", "pods", "-o", "name").stdout == "pod/web\n"


def test_status_tells_who_where_and_what(developer: Person, viewer: Person, world: World) -> None:
    shown = developer.mk8s("status").stdout
    for fact in (world.url, "dev@example.com", "developer", "prod", "connected"):
        assert fact in shown
    told = json.loads(viewer.mk8s("status", "-o", "json").stdout)
    assert told["user"] == "viewer@example.com"
    assert told["roles"] == ["viewer"]
    assert told["clusters"] == ["prod"]
    assert told["admin"] is False


def test_the_kubeconfig_holds_no_secret_and_keeps_what_is_not_ours(
    newcomer: LogIn, world: World
) -> None:
    person = newcomer("dev@example.com")
    kubectl = person.kubectl(kubectls.binaries()[0])
    kubectl("config", "set-cluster", "mine", "--server=https://127.0.0.1:1")
    kubectl("config", "set-context", "mine", "--cluster=mine")
    person.use("prod")
    path = Path(person.mk8s("kubeconfig", "path").stdout.strip())
    document = yaml.safe_load(path.read_text())
    assert "mine" in {context["name"] for context in document["contexts"]}
    users = [entry["user"] for entry in document["users"]]
    assert {tuple(user) for user in users} == {("exec",)}
    assert all(Path(user["exec"]["command"]).is_absolute() for user in users)
    person.mk8s("logout")
    left = {context["name"] for context in yaml.safe_load(path.read_text())["contexts"]}
    assert left == {"mine"}


def test_logout_ends_the_login(newcomer: LogIn, world: World) -> None:
    person = newcomer("viewer@example.com")
    person.use("prod")
    kubectl: Kubectl = person.kubectl(kubectls.binaries()[0])
    kubectl("-n", "shop", "get", "pods")
    person.mk8s("logout")
    kubectl("-n", "shop", "get", "pods", code=1)
    assert "mk8s login" in person.mk8s("status", code=1).stderr
    assert (
        "mk8s login"
        in person.mk8s("get-token", "--cluster", "prod", "--central", world.url, code=1).stderr
    )


def test_logout_ends_open_watches(newcomer: LogIn) -> None:
    person = newcomer("viewer@example.com")
    person.use("prod")
    kubectl: Kubectl = person.kubectl(kubectls.binaries()[0])
    with kubectl.start("-n", "shop", "get", "pods", "-o", "name", "--watch") as watching:
        watching.wait_for_line("^pod/web$")
        person.mk8s("logout")
        watching.wait(seconds=30)


def test_forty_kubectls_at_once_all_get_their_token(newcomer: LogIn) -> None:
    person = newcomer("dev@example.com")
    person.use("prod")
    kubectl = person.kubectl(kubectls.binaries()[0])
    programs = [kubectl.start("-n", "shop", "get", "pods", "-o", "name") for _ in range(40)]
    try:
        assert [program.wait(seconds=60) for program in programs] == [0] * 40
        assert all(program.output == "pod/web\n" for program in programs)
    finally:
        for program in programs:
            program.stop()
