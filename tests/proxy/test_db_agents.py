"""Agents' certificates and what descends from them, raced on both databases."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from mk8s_proxy.db import agents, clusters
from mk8s_proxy.db.agents import Issued, Standing
from mk8s_proxy.db.engine import Database
from mk8s_proxy.db.errors import CertificateReused, CertificateRevoked, NotFound
from mk8s_proxy.db.policy import load_policy, policy_version

DAY = timedelta(days=1)


def issued(serial: str, key: str, *, life: timedelta = DAY) -> Issued:
    return Issued(serial, key, f"certificate {serial}", datetime.now(UTC) + life)


async def renew(database: Database, shown: str, cluster_id: str, serial: str, key: str) -> str:
    return await agents.renew(database, shown, cluster_id, lambda: issued(serial, key), key)


@pytest.fixture
async def cluster_id(database: Database) -> str:
    cluster = await clusters.create_cluster(database, "prod")
    await agents.record_joined(database, cluster.id, issued("a1", "key 1"))
    return cluster.id


async def test_an_agent_renews_again_and_again(database: Database, cluster_id: str) -> None:
    assert await renew(database, "a1", cluster_id, "a2", "key 2") == "certificate a2"
    assert await renew(database, "a2", cluster_id, "a3", "key 3") == "certificate a3"
    [agent] = await agents.list_agents(database)
    assert (agent.id, agent.serial, agent.serials) == ("a1", "a3", ("a1", "a2", "a3"))
    assert (agent.cluster_name, agent.revoked_at) == ("prod", None)
    assert (await clusters.get_by_id(database, cluster_id)).alert == ""


async def test_who_asks_again_with_the_same_key_gets_the_same_certificate(
    database: Database, cluster_id: str
) -> None:
    """The answer was lost: no theft, however often."""
    for serial in ("a2", "a3", "a4"):
        assert await renew(database, "a1", cluster_id, serial, "key 2") == "certificate a2"
    assert not (await load_policy(database)).revoked


async def test_attack_a_stolen_certificate_is_renewed_beside_its_owner(
    database: Database, cluster_id: str
) -> None:
    await agents.record_joined(database, cluster_id, issued("b1", "another agent"))
    await renew(database, "a1", cluster_id, "a2", "key 2")
    before = await policy_version(database)

    with pytest.raises(CertificateReused):
        await renew(database, "a1", cluster_id, "a3", "the thief's key")

    assert await policy_version(database) > before
    assert (await load_policy(database)).revoked == {"a1", "a2"}
    for serial in ("a1", "a2"):
        with pytest.raises(CertificateRevoked):
            await renew(database, serial, cluster_id, "a4", "key 4")
    assert await renew(database, "b1", cluster_id, "b2", "key 5") == "certificate b2"
    alert = (await clusters.get_by_id(database, cluster_id)).alert
    assert "stolen copy" in alert
    assert "mk8s admin clusters join-token prod" in alert
    await agents.record_joined(database, cluster_id, issued("c1", "key 6"))
    assert (await clusters.get_by_id(database, cluster_id)).alert == ""


async def test_attack_thief_and_owner_renew_at_the_same_moment(
    database: Database, cluster_id: str
) -> None:
    results = await asyncio.gather(
        *(renew(database, "a1", cluster_id, f"b{n}", f"key {n}") for n in range(4)),
        return_exceptions=True,
    )
    kept_out = [it for it in results if isinstance(it, CertificateReused | CertificateRevoked)]
    assert len(kept_out) == 3, results
    [agent] = await agents.list_agents(database)
    assert agent.revoked_at is not None
    revoked = (await load_policy(database)).revoked
    assert set(agent.serials) == revoked


async def test_a_lost_answer_asked_for_from_many_tunnels_at_once(
    database: Database, cluster_id: str
) -> None:
    certificates = await asyncio.gather(
        *(renew(database, "a1", cluster_id, f"b{n}", "key 2") for n in range(4))
    )
    assert len(set(certificates)) == 1
    assert not (await load_policy(database)).revoked


async def test_an_agent_is_revoked_by_any_of_its_certificates(
    database: Database, cluster_id: str
) -> None:
    await renew(database, "a1", cluster_id, "a2", "key 2")
    agent = await agents.revoke(database, "a2", "by root@example.com")
    assert (agent.id, agent.revoked_why) == ("a1", "by root@example.com")
    assert agent.revoked_at is not None
    assert (await load_policy(database)).revoked == {"a1", "a2"}
    again = await agents.revoke(database, "a1", "by another")
    assert again.revoked_why == "by root@example.com"
    assert (await agents.get_agent(database, "a2")).id == "a1"
    for missing in (agents.revoke(database, "zz", ""), agents.get_agent(database, "zz")):
        with pytest.raises(NotFound):
            await missing


async def test_attack_a_renewal_while_the_agent_is_revoked(
    database: Database, cluster_id: str
) -> None:
    for number in range(5):
        await agents.record_joined(database, cluster_id, issued(f"r{number}", "k"))
        await asyncio.gather(
            renew(database, f"r{number}", cluster_id, f"s{number}", "key 2"),
            agents.revoke(database, f"r{number}", "a test"),
            return_exceptions=True,
        )
        agent = await agents.get_agent(database, f"r{number}")
        standings = await agents.standings(database, agent.serials)
        assert all(standing.revoked for standing in standings.values()), agent


async def test_unknown_certificates_and_those_of_another_cluster_are_not_renewed(
    database: Database, cluster_id: str
) -> None:
    for serial, cluster in (("zz", cluster_id), ("a1", "another cluster")):
        with pytest.raises(CertificateRevoked):
            await renew(database, serial, cluster, "a2", "key 2")


async def test_standings_of_many_certificates(database: Database, cluster_id: str) -> None:
    await agents.revoke(database, "a1", "a test")
    await agents.record_joined(database, cluster_id, issued("a2", ""))
    assert await agents.standings(database, {"a1", "a2", "never-recorded"}) == {
        "a1": Standing(cluster_id, "prod", revoked=True),
        "a2": Standing(cluster_id, "prod", revoked=False),
    }


async def test_removing_a_cluster_revokes_its_agents(database: Database, cluster_id: str) -> None:
    await clusters.delete_cluster(database, cluster_id)
    found = await agents.standings(database, ["a1"])
    assert found == {"a1": Standing(cluster_id, "", revoked=True)}
    assert await agents.list_agents(database) == []
    with pytest.raises(NotFound):
        await agents.record_joined(database, cluster_id, issued("a2", ""))


async def test_certificates_that_ended_long_ago_are_forgotten(
    database: Database, cluster_id: str
) -> None:
    old = timedelta(days=-8)
    await agents.record_joined(database, cluster_id, issued("old", "k", life=old))
    for shown, serial in (("a1", "a2"), ("a2", "a3")):
        await agents.renew(
            database, shown, cluster_id, lambda it=serial: issued(it, it, life=old), serial
        )
    await agents.renew(database, "a3", cluster_id, lambda: issued("a4", "a4"), "a4")
    assert set(await agents.standings(database, ["old", "a1", "a2", "a3", "a4"])) == {"a1", "a4"}
