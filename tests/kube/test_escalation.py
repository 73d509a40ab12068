"""Handing on more than one has: where RBAC holds people back, and where it holds nobody back.

One real cluster binds `mk8s:users` to cluster-admin, another has what `mk8s admin cluster-rbac`
prints and an agent with the rights of `deploy/kubernetes/agent.yaml` alone.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.support import kubectl as kubectls
from tests.support.cast import enrol
from tests.support.kubectl import Kubectl
from tests.support.world import GRANT, Person, World, wait_until

pytestmark = [pytest.mark.kube]

MANIFESTS = Path(__file__).parents[2] / "deploy" / "kubernetes"
OPEN, FENCED = "prod", "fenced"
"""Clusters of mk8s: RBAC holds nobody back in the first."""
SHOP = {"namespaces": ["shop"], "verbs": ["*"], "resources": ["*"]}
EVERYTHING = {"namespaces": ["*"], "verbs": ["*"], "resources": ["*", "*/*"]}
SECRET = """
apiVersion: v1
kind: Secret
type: kubernetes.io/service-account-token
metadata: {name: %s, annotations: {kubernetes.io/service-account.name: builder}}
"""
WEBHOOK = """
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingWebhookConfiguration
metadata: {name: %s}
webhooks: []
"""


def agents_kubeconfig(world: World, folder: Path) -> Path:
    """The ServiceAccount of `agent.yaml` with its rights, as a kubeconfig."""
    config = world.clusters["staging"]
    wanted = [
        part
        for part in yaml.safe_load_all((MANIFESTS / "agent.yaml").read_text())
        if part["kind"] in ("Namespace", "ServiceAccount", "ClusterRole", "ClusterRoleBinding")
    ]
    world.direct("apply", "-f", "-", stdin=yaml.safe_dump_all(wanted), kubeconfig=config)
    token = world.direct("create", "token", "mk8s-agent", "-n", "mk8s", kubeconfig=config)
    written = yaml.safe_load(config.read_text())
    user = {"name": "agent", "user": {"token": token.stdout.strip()}}
    context = {"cluster": written["clusters"][0]["name"], "user": "agent"}
    path = folder / "kubeconfig"
    written |= {
        "users": [user],
        "contexts": [{"name": "agent", "context": context}],
        "current-context": "agent",
    }
    path.write_text(yaml.safe_dump(written))
    return path


def apply_rbac(world: World) -> str:
    """`mk8s admin cluster-rbac | kubectl apply --server-side`; what was printed."""
    printed = world.people["admin"].mk8s("admin", "cluster-rbac", "--cluster", FENCED)
    apply = ("apply", "--server-side", "-f", "-")
    world.direct(*apply, stdin=printed.stdout, kubeconfig=world.clusters["staging"])
    return printed.stdout


@pytest.fixture(scope="module")
def fence(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Person]]:
    """The fenced cluster, and people: of one namespace, of everything, and of RBAC by name."""
    config = world.clusters["staging"]
    world.direct("delete", "clusterrolebinding", "mk8s-users", kubeconfig=config)
    for place in (config, world.clusters["prod"]):
        for namespace in ("shop", "bank"):
            world.direct("create", "namespace", namespace, kubeconfig=place, code=None)
        world.direct("create", "sa", "builder", "-n", "shop", kubeconfig=place, code=None)
    joining = world.join_command(FENCED)
    both = [OPEN, FENCED]
    by_name = {**EVERYTHING, "resources": ["*", "*.rbac.authorization.k8s.io"]}
    people = {
        "shop": enrol(world, "shop-only", [{"name": it, **SHOP} for it in both]),
        "full": enrol(world, "full", [{"name": it, **EVERYTHING} for it in both]),
        "named": enrol(world, "named", [{"name": it, **by_name} for it in both]),
    }
    kubeconfig = agents_kubeconfig(world, tmp_path_factory.mktemp(FENCED))
    apply_rbac(world)
    with world.agent(joining, kubeconfig) as agent:
        world.agents[FENCED] = agent
        world.wait_until_connected(FENCED)
        for person in [*people.values(), world.people["admin"]]:
            person.use(FENCED)
            person.use(OPEN)
        yield people
    del world.agents[FENCED]
    world.direct("delete", "clusterrolebinding,clusterrole,role,rolebinding", "-A",
                 "-l", "app.kubernetes.io/component=cluster-rbac", kubeconfig=config)  # fmt: skip
    world.direct(*GRANT, "--group=mk8s:users", kubeconfig=config)


class Hands:
    """A stock kubectl of somebody, on one cluster."""

    def __init__(self, person: Person, cluster: str) -> None:
        self._kubectl: Kubectl = person.kubectl(max(kubectls.binaries(), key=kubectls.version_of))
        self._context = person.contexts[cluster]

    def __call__(self, *arguments: str, stdin: str = "", code: int | None = 0) -> str:
        done = self._kubectl("--context", self._context, *arguments, stdin=stdin, code=code)
        return done.stdout + done.stderr


@pytest.fixture
def hands(fence: dict[str, Person], world: World):
    def of(who: str, cluster: str) -> Hands:
        return Hands(fence.get(who) or world.people[who], cluster)

    return of


def bind(kind: str, name: str, *more: str) -> tuple[str, ...]:
    return ("create", kind, name, "--clusterrole=cluster-admin",
            "--serviceaccount=shop:builder", *more)  # fmt: skip


@pytest.mark.parametrize("cluster", [OPEN, FENCED])
@pytest.mark.parametrize("who", ["shop", "full"])
def test_attack_bind_cluster_admin_to_a_service_account(
    hands, world: World, who: str, cluster: str
) -> None:
    """The way past mk8s: a ServiceAccount that may do everything, and its token."""
    act, name = hands(who, cluster), world.fresh_name("esc")
    refused = act(*bind("rolebinding", name, "-n", "shop"), code=1)
    refused += act(*bind("clusterrolebinding", name), code=1)
    assert "orbidden" in refused
    why = "does not name the API group" if cluster == OPEN else "permissions not currently held"
    assert why in refused
    assert name not in act("get", "rolebindings", "-n", "shop")
    made = act("apply", "-n", "shop", "-f", "-", stdin=SECRET % name, code=None)
    config = world.clusters["prod" if cluster == OPEN else "staging"]

    def token() -> str:
        read = ("get", "secret", name, "-n", "shop", "-o", "jsonpath={.data.token}")
        return world.direct(*read, kubeconfig=config, code=None).stdout

    wait_until(lambda: bool(token()), 20, lambda: made)
    asked = ("auth", "can-i", "get", "secrets", "-n", "bank",
             "--as=system:serviceaccount:shop:builder")  # fmt: skip
    assert "no" in world.direct(*asked, kubeconfig=config, code=1).stdout


def test_attack_webhooks_and_approvals_where_rbac_holds_nobody_back(hands, world: World) -> None:
    act, name = hands("full", OPEN), world.fresh_name("hook")
    refused = act("create", "-f", "-", stdin=WEBHOOK % name, code=1)
    assert 'a rule must say "mutatingwebhookconfigurations.admissionregistration.k8s.io"' in refused
    assert "does not name the API group" in act("certificate", "approve", "nobody", code=1) + act(
        "delete", "apiservice", "v1.apps", code=1
    )


def test_who_may_all_the_same(hands, world: World) -> None:
    """The built-in admin on both clusters, and a rule that names the API group."""
    for who, cluster in (("admin", OPEN), ("admin", FENCED), ("named", OPEN)):
        act, name = hands(who, cluster), world.fresh_name("given")
        act(*bind("clusterrolebinding", name))
        act("delete", "clusterrolebinding", name)
    held_back = hands("named", FENCED)(*bind("clusterrolebinding", "more"), code=1)
    assert "permissions not currently held" in held_back


@pytest.mark.parametrize("cluster", [OPEN, FENCED])
def test_can_i_bind_and_escalate_tell_the_truth(hands, cluster: str) -> None:
    def may(who: str, *question: str) -> bool:
        return "yes" in hands(who, cluster)("auth", "can-i", *question, code=None).split()

    for verb in ("bind", "escalate"):
        assert not may("shop", verb, "clusterroles")
        assert not may("full", verb, "clusterroles")
        assert may("admin", verb, "clusterroles")
        assert may("named", verb, "clusterroles") is (cluster == OPEN)
    assert not may("full", "approve", "signers.certificates.k8s.io")
    assert may("full", "create", "rolebindings", "-n", "shop") is (cluster == FENCED)


def test_a_role_does_in_the_fenced_cluster_what_it_says(hands) -> None:
    act = hands("shop", FENCED)
    assert "builder" in act("get", "serviceaccounts", "-n", "shop")
    act("-n", "shop", "create", "configmap", "colours", "--from-literal=sky=blue")
    assert "colours" in act("get", "configmaps", "-A")
    act("-n", "shop", "delete", "configmap", "colours")
    assert "Forbidden" in act("get", "secrets", "-n", "bank", code=1)
    groups = act("auth", "whoami", "-o", "jsonpath={.status.userInfo.groups}")
    assert sorted(json.loads(groups)) == [
        "mk8s:role:shop-only", "mk8s:users", "system:authenticated",
    ]  # fmt: skip


def test_attack_a_group_of_a_role_that_somebody_does_not_have(
    world: World, fence: dict[str, Person], hands
) -> None:
    """`--as-group mk8s:role:admin` by somebody who may act with every group."""
    rules = [
        {"name": FENCED, **SHOP},
        {"name": OPEN, **SHOP},
        {"name": FENCED, "impersonate": {"users": ["*"], "groups": ["*"]}},
    ]
    somebody = enrol(world, world.fresh_name("actor"), rules)
    somebody.use(FENCED)
    act = Hands(somebody, FENCED)
    asked = ("get", "serviceaccounts", "-n", "shop", "--as=shop-only@example.com")
    assert "builder" in act(*asked)
    assert "Forbidden" in act(*asked, "--as-group=mk8s:role:admin", code=1)


def test_administrators_are_warned(world: World, fence: dict[str, Person]) -> None:
    admin = world.people["admin"]
    listed = admin.mk8s("clusters", "list").stderr
    assert f"{OPEN}: mk8s:users may do everything in the cluster" in listed
    assert "mk8s admin cluster-rbac" in listed
    admin.use(OPEN)
    assert "mk8s:users may do everything" in admin.mk8s("status").stdout
    assert "cluster.unbounded" in world.output()


def test_a_role_that_the_cluster_does_not_know_yet_is_told_and_does_no_harm(
    world: World, fence: dict[str, Person]
) -> None:
    """Its group stays away: a group that the agent may not name would cost the whole request."""
    somebody = enrol(
        world, world.fresh_name("late"), [{"name": FENCED, **SHOP}, {"name": OPEN, **SHOP}]
    )
    somebody.use(FENCED)
    act = Hands(somebody, FENCED)
    assert "mk8s:role" not in act("auth", "whoami")
    refused = act("get", "serviceaccounts", "-n", "shop", code=1)
    assert "Forbidden" in refused
    listed = world.people["admin"].mk8s("clusters", "list").stderr
    assert f"{FENCED}: the agent may not act with the groups of the roles" in listed
