"""Central goes away and comes back: people and agents go on without doing anything."""

import pytest

from tests.support.kubectl import Kubectl
from tests.support.world import Person, World

pytestmark = pytest.mark.kube


def test_agents_and_logins_survive_a_restart_of_central(world: World, kubectl: Kubectl) -> None:
    assert world.central.stop() == 0
    refused = kubectl("-n", "shop", "get", "pods", code=1).stderr
    assert "refused" in refused
    world.start_central()
    world.wait_until_connected("prod")
    assert "web" in kubectl("-n", "shop", "get", "pods").stdout


def test_an_agent_that_stops_leaves_and_comes_back(
    world: World, kubectl: Kubectl, developer: Person
) -> None:
    assert world.agents["staging"].stop() == 0
    world.restart_agent("staging")
    namespaces = kubectl("--context", developer.contexts["staging"], "get", "namespaces").stdout
    assert "kube-system" in namespaces
