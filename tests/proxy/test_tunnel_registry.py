"""Which tunnel a request takes, and what is known of clusters without one."""

import datetime
from pathlib import Path

import pytest

from mk8s_proxy.tunnel.registry import TunnelRegistry
from tests.support.front_door import Central
from tests.support.memory import goaway, settings


@pytest.fixture
def central(tmp_path: Path) -> Central:
    return Central(tmp_path)


def test_no_tunnel_no_pick(central: Central) -> None:
    assert central.registry.pick("prod") is None
    status = central.registry.status("id-prod")
    assert (status.connected, status.agents, status.last_seen) == (False, 0, None)


def test_the_tunnel_with_the_fewest_requests_is_picked(central: Central) -> None:
    first, second = central.agent(), central.agent()
    person = central.http2()
    person.ask()
    assert len(first.session.streams) == 2
    person.ask()
    assert len(second.session.streams) == 2


def test_agents_are_counted_not_their_tunnels(central: Central) -> None:
    for instance in ("a1", "a1", "a2"):
        central.agent(instance=instance)
    assert central.registry.status("id-prod").agents == 2
    assert len(central.registry.all_sessions()) == 3


def test_a_draining_or_full_tunnel_is_not_picked(central: Central) -> None:
    first, second = central.agent(), central.agent()
    first.send(goaway((1 << 31) - 1))
    assert central.registry.pick("prod") is second.session
    second.send(settings({3: 1}))
    assert central.registry.pick("prod") is None
    assert not central.registry.status("id-prod").connected


def test_what_a_tunnel_takes_no_more_goes_to_another_one_of_its_cluster(central: Central) -> None:
    first, second, third = (central.agent() for _ in range(3))
    central.agent("staging")
    second.session.prepare()
    central.http2().ask()
    assert len(first.session.streams) == 2
    first.send(goaway((1 << 31) - 1))
    assert central.registry.pick_again("id-prod") is second.session
    second.send(goaway((1 << 31) - 1))
    assert central.registry.pick_again("id-prod") is third.session
    third.session.connection_lost()
    assert central.registry.pick_again("id-prod") is None
    assert central.registry.pick_again("id-nobody") is None


def test_what_is_known_of_a_cluster(central: Central) -> None:
    agent = central.agent()
    status = central.registry.status("id-prod")
    assert (status.connected, status.agent_version) == (True, "1.0")
    assert status.kubernetes_version == "v1.31.0"
    central.registry.add(agent.session, "1.1", "")  # an agent that could not ask
    assert (status.agent_version, status.kubernetes_version) == ("1.1", "v1.31.0")
    status.last_seen = datetime.datetime.now(datetime.UTC)
    agent.session.connection_lost()
    assert central.registry.status("id-prod").last_seen is not None


def test_a_lost_tunnel_is_forgotten(central: Central) -> None:
    agent, other = central.agent(), central.agent("staging")
    agent.session.connection_lost()
    central.registry.remove(agent.session)
    assert central.registry.all_sessions() == [other.session]
    assert central.registry.pick("prod") is None


def test_a_deleted_cluster_loses_its_tunnels_at_once(central: Central) -> None:
    first, second, kept = central.agent(), central.agent(), central.agent("staging")
    person = central.http2()
    number = person.ask()
    central.registry.follow({"id-staging": "staging"}, frozenset())
    assert first.transport.aborted
    assert second.transport.aborted
    assert not kept.transport.gone
    assert first.session.close_reason == "the cluster was deleted"
    assert person.answer(number).code == 502
    assert central.registry.all_sessions() == [kept.session]


def test_a_deleted_cluster_without_tunnels_leaves_nothing_either(central: Central) -> None:
    central.agent().session.connection_lost()
    central.registry.follow({}, frozenset())
    assert central.registry._by_id == {}
    assert central.registry._by_name == {}


def test_a_session_that_never_registered_is_nothing_to_remove(central: Central) -> None:
    TunnelRegistry().remove(central.agent().session)


def test_attack_a_cluster_added_again_under_its_name_has_not_its_old_agent(
    central: Central,
) -> None:
    """Seen at another replica: remove and add happened between two looks at the policy."""
    old, person = central.agent(), central.http2()
    number = person.ask()
    central.registry.follow({"id-2": "prod", "id-staging": "staging"}, frozenset())
    assert old.transport.aborted
    assert person.answer(number).code == 502
    assert central.registry.pick("prod") is None
    assert not central.registry.knows("id-prod")


def test_attack_a_new_agent_serves_no_requests_that_the_old_policy_admits(
    central: Central,
) -> None:
    """The name means the cluster that the policy in force knows by it."""
    agent = central.agent()
    central.registry.follow({"id-prod": "renamed", "id-2": "prod"}, frozenset())
    assert central.registry.pick("prod") is None
    assert central.registry.pick("renamed") is agent.session


def test_attack_a_revoked_certificate_loses_its_tunnels_and_no_other(central: Central) -> None:
    revoked, kept = central.agent(), central.agent()
    revoked.session.serial, kept.session.serial = "a1", "b2"
    central.registry.follow({"id-prod": "prod"}, frozenset({"a1"}))
    assert revoked.transport.aborted
    assert revoked.session.close_reason == "the agent's certificate was revoked"
    assert central.registry.all_sessions() == [kept.session]
    assert central.registry.serials("id-prod") == ["b2"]
    assert central.registry.is_revoked("a1")
    assert not central.registry.is_revoked("b2")
