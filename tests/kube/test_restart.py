"""Central goes away and comes back: people and agents go on without doing anything."""

import pytest

from tests.support.kubectl import Kubectl
from tests.support.world import World

pytestmark = pytest.mark.kube


def test_agents_and_logins_survive_a_restart_of_central(world: World, kubectl: Kubectl) -> None:
    assert world.central.stop() == 0
    try:
        refused = kubectl("-n", "shop", "get", "pods", code=1).stderr
    finally:
        world.start_central()
    assert "refused" in refused
    world.wait_until_connected("prod")
    assert "web" in kubectl("-n", "shop", "get", "pods").stdout


def test_an_agent_drains_at_once_when_nothing_is_open(world: World, kubectl: Kubectl) -> None:
    """An ended exec must leave no stream: the agent would wait for it, and places would run out."""
    kubectl("-n", "shop", "exec", "web", "--", "true")
    kubectl("-n", "shop", "get", "pods")
    assert world.agents["prod"].stop() == 0
    world.restart_agent("prod")
    assert "web" in kubectl("-n", "shop", "get", "pods").stdout
