"""Somebody else's work, which no wrong input of another may disturb.

Kube tests of wrong input keep one for their whole module and look at it after each test.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.support import kubectl as kubectls
from tests.support.cast import enrol
from tests.support.processes import Program
from tests.support.wire import send, token_of
from tests.support.world import World

LOOKING = [
    {"name": name, "namespaces": ["*"], "verbs": ["get", "list", "watch"], "resources": ["*"]}
    for name in ("prod", "staging")
]


@dataclass(frozen=True, slots=True)
class Bystander:
    """A watch on one cluster that stays open, and a token for the other cluster."""

    world: World
    namespace: str
    watching: Program
    token: str

    def check(self) -> None:
        """The watch carries a change that is made now; the other cluster answers."""
        name = self.world.fresh_name("change")
        self.world.direct("-n", self.namespace, "create", "configmap", name)
        self.watching.wait_for_line(f"^configmap/{name}$")
        other = send(self.world, "/k8s/staging/api/v1/namespaces/default", token=self.token)
        assert other.code == 200, other.body


@contextmanager
def standing_by(world: World) -> Iterator[Bystander]:
    """Somebody new, watching prod for the length of the block."""
    person = enrol(world, world.fresh_name("bystander"), LOOKING)
    namespace = world.fresh_name("quiet")
    world.direct("create", "namespace", namespace)
    world.direct("-n", namespace, "create", "configmap", "before")
    kubectl = person.kubectl(kubectls.binaries()[0])
    with kubectl.start("-n", namespace, "get", "configmap", "-w", "-o", "name") as watching:
        watching.wait_for_line("^configmap/before$")
        yield Bystander(world, namespace, watching, token_of(person, world, "staging"))
    world.direct("delete", "namespace", namespace, "--wait=false")
