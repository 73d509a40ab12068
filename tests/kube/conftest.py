"""The fixtures of the kube tests: clusters, the world around them, each kubectl in turn."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import kubectl as kubectls
from tests.support.bystander import Bystander, standing_by
from tests.support.cluster import cluster_place, kube_cluster, second_cluster
from tests.support.kubectl import Kubectl
from tests.support.world import Person, World, world

__all__ = ["cluster_place", "kube_cluster", "second_cluster", "world"]


@pytest.fixture(scope="session")
def oldest(pytestconfig: pytest.Config) -> bool:
    """Whether the clusters are of the oldest Kubernetes: `pytest --oldest`."""
    return bool(pytestconfig.getoption("--oldest"))


BINARIES = kubectls.binaries()


@pytest.fixture(params=BINARIES, ids=kubectls.name_of)
def binary(request: pytest.FixtureRequest) -> Path:
    """Each stock kubectl of this machine."""
    found: Path = request.param
    return found


@pytest.fixture
def developer(world: World) -> Person:
    """Logged in, current context prod, may do everything there."""
    return world.people["dev"]


@pytest.fixture
def viewer(world: World) -> Person:
    """Logged in, current context prod, may only look."""
    return world.people["viewer"]


@pytest.fixture
def kubectl(binary: Path, developer: Person) -> Kubectl:
    """Stock kubectl in the developer's hands, through central."""
    return developer.kubectl(binary)


@pytest.fixture
def namespace(world: World) -> Iterator[str]:
    """A namespace of prod for one test, made past mk8s."""
    name = world.fresh_name("ns")
    world.direct("create", "namespace", name)
    yield name
    world.direct("delete", "namespace", name, "--wait=false")


@pytest.fixture
def newcomer(world: World) -> Callable[[str], Person]:
    """Logs somebody in at a home of their own, for tests that change local state."""
    return world.log_in


@pytest.fixture(scope="module")
def bystander(world: World) -> Iterator[Bystander]:
    """Somebody whose watch stays open while a module's tests do what is wrong."""
    with standing_by(world) as other:
        yield other


@pytest.fixture
def undisturbed(bystander: Bystander) -> Iterator[None]:
    """After the test, what was open before it goes on, and the other cluster answers."""
    yield
    bystander.check()
