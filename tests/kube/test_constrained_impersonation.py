"""An agent with the ClusterRole of `agent-constrained.yaml`, on a real cluster."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.support import kubectl as kubectls
from tests.support.cast import enrol
from tests.support.kubectl import Kubectl
from tests.support.world import Person, World

pytestmark = [pytest.mark.kube]

MANIFEST = Path(__file__).parents[2] / "deploy" / "kubernetes" / "agent-constrained.yaml"
CLUSTER = "constrained"


def agents_kubeconfig(world: World, folder: Path) -> Path:
    """A ServiceAccount that may do what the manifest says, as a kubeconfig."""
    name = world.fresh_name("constrained")
    role = yaml.safe_load(MANIFEST.read_text())
    role["metadata"]["name"] = name
    world.direct("apply", "-f", "-", stdin=yaml.safe_dump(role))
    world.direct("create", "serviceaccount", name, "-n", "shop")
    bound = ("--clusterrole", name, "--serviceaccount", f"shop:{name}")
    world.direct("create", "clusterrolebinding", name, *bound)
    token = world.direct("create", "token", name, "-n", "shop").stdout.strip()
    config = yaml.safe_load(world.clusters["prod"].read_text())
    user = {"name": name, "user": {"token": token}}
    context = {"cluster": config["clusters"][0]["name"], "user": name}
    config |= {
        "users": [user],
        "contexts": [{"name": name, "context": context}],
        "current-context": name,
    }
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    return path


@pytest.fixture(scope="module")
def person(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Person]:
    """Somebody who may do everything on that cluster, as far as mk8s is asked."""
    if world.server_version < (1, 36):
        pytest.skip("constrained impersonation began with Kubernetes 1.36")
    kubeconfig = agents_kubeconfig(world, tmp_path_factory.mktemp(CLUSTER))
    with world.agent(world.join_command(CLUSTER), kubeconfig) as agent:
        world.agents[CLUSTER] = agent
        world.wait_until_connected(CLUSTER)
        everything = {"name": CLUSTER, "namespaces": ["*"], "verbs": ["*"], "resources": ["*"]}
        looks = {"name": "prod", "namespaces": ["*"], "verbs": ["get"], "resources": ["pods"]}
        somebody = enrol(world, world.fresh_name("narrow"), [everything, looks])
        somebody.use(CLUSTER)
        yield somebody
    del world.agents[CLUSTER]


@pytest.fixture(params=kubectls.few(), ids=kubectls.name_of)
def binary(request: pytest.FixtureRequest) -> Path:
    """A few stock kubectls: what is refused here is refused by the cluster, to the agent."""
    found: Path = request.param
    return found


@pytest.fixture
def act(person: Person, binary: Path) -> Kubectl:
    return person.kubectl(binary)


@pytest.mark.parametrize(
    "command",
    [
        ("get", "pods", "-n", "shop"),
        ("get", "deployments", "-A"),
        ("api-resources",),
        ("explain", "pods.spec"),
        ("version",),
        ("auth", "whoami"),
        ("auth", "can-i", "get", "pods"),
        ("auth", "can-i", "--list"),
        ("describe", "pod", "web", "-n", "shop"),
        ("logs", "web", "-n", "shop", "--tail=1"),
        ("exec", "web", "-n", "shop", "--", "true"),
        ("get", "--raw", "/healthz"),
    ],
    ids=" ".join,
)
def test_commands_of_every_day_work(act: Kubectl, command: tuple[str, ...]) -> None:
    if "whoami" in command and kubectls.version_of(act.binary) < (1, 27):
        return
    act(*command)


def test_objects_are_made_changed_and_deleted(act: Kubectl, namespace: str) -> None:
    act("-n", namespace, "create", "configmap", "colours", "--from-literal=sky=blue")
    act("-n", namespace, "annotate", "configmap", "colours", "seen=yes")
    act("-n", namespace, "delete", "configmap", "colours")


def test_what_the_role_does_not_name_is_refused_by_the_cluster(act: Kubectl) -> None:
    refused = act("get", "secrets", "-n", "shop", code=1)
    assert "impersonate-on:user-info:list" in refused.stderr or "Forbidden" in refused.stderr
    refused = act("get", "clusterroles", code=1)
    assert "Forbidden" in refused.stderr
