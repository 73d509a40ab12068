"""Central goes away and comes back: people and agents go on without doing anything."""

from collections.abc import Callable

import pytest

from tests.support import kubectl as kubectls
from tests.support.kubectl import Kubectl
from tests.support.world import Person, World

pytestmark = pytest.mark.kube

LogIn = Callable[[str], Person]


def test_agents_and_logins_survive_a_restart_of_central(world: World, kubectl: Kubectl) -> None:
    assert world.central.stop() == 0
    try:
        refused = kubectl("-n", "shop", "get", "pods", code=1).stderr
    finally:
        world.start_central()
    assert "refused" in refused
    world.wait_until_connected("prod")
    assert "web" in kubectl("-n", "shop", "get", "pods").stdout


def test_central_that_is_down_is_said_in_one_line(world: World, newcomer: LogIn) -> None:
    person = newcomer("dev@example.com")
    person.use("prod")
    kubectl = person.kubectl(kubectls.binaries()[0])
    assert world.central.stop() == 0
    try:
        for command in (("clusters", "list"), ("status",), ("login", world.url)):
            options = ("--email", "dev@example.com", "--password-stdin")
            more = options if command[0] == "login" else ()
            line = _one_line(person.mk8s(*command, *more, stdin="any\n", code=1).stderr)
            assert f"cannot reach central at {world.url}" in line
            assert "check" in line
        uncached = ("get-token", "--cluster", "staging", "--central", world.url)
        refused = person.mk8s(*uncached, code=1)
        assert refused.stdout == ""
        assert "cannot reach central" in _one_line(refused.stderr)
        assert world.url.removeprefix("https://") in kubectl("get", "ns", code=1).stderr
        # Where to go next is written down already; what it may do is decided by central.
        assert "staging" in person.mk8s("use", "staging").stdout
        through = kubectl("get", "ns", code=1).stderr
        assert "cannot reach central" in through
    finally:
        world.start_central()
    world.wait_until_connected("staging")
    assert "default" in kubectl("get", "ns").stdout


def _one_line(text: str) -> str:
    (line,) = text.splitlines()
    return line


def test_an_agent_drains_at_once_when_nothing_is_open(world: World, kubectl: Kubectl) -> None:
    """An ended exec must leave no stream: the agent would wait for it, and places would run out."""
    kubectl("-n", "shop", "exec", "web", "--", "true")
    kubectl("-n", "shop", "get", "pods")
    assert world.agents["prod"].stop() == 0
    world.restart_agent("prod")
    assert "web" in kubectl("-n", "shop", "get", "pods").stdout
