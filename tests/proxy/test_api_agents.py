"""Agents in the management API: the list, the revocation, and what each replica makes of it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mk8s_proxy.db import agents
from mk8s_proxy.db.agents import Issued
from mk8s_proxy.db.engine import Database
from mk8s_proxy.db.errors import CertificateReused
from tests.support.management_api import NOW, Central, csr


@pytest.fixture
async def central(sqlite_database: Database, tmp_path: Path) -> AsyncIterator[Central]:
    central = await Central.start(sqlite_database, tmp_path)
    yield central
    await central.close()


async def joined(central: Central) -> str:
    """Makes a cluster, lets an agent join, and returns the agent's id."""
    token = (await central.add_cluster())["join_token"]
    body = {"token": token, "cluster": "dev-1", "csr": csr()}
    assert (await central.call("POST", "/join", body)).status == 200
    [agent] = await agents.list_agents(central.database)
    return agent.id


async def test_agents_are_listed_with_their_tunnels(central: Central) -> None:
    agent = await joined(central)
    admin = await central.admin()
    [shown] = (await central.call("GET", "/agents", token=admin)).json["agents"]
    assert (shown["id"], shown["cluster"], shown["status"]) == (agent, "dev-1", "disconnected")
    [cluster] = (await central.call("GET", "/clusters", token=admin)).json["clusters"]
    central.tunnels.held[cluster["id"]] = [agent, agent, "another"]
    [shown] = (await central.call("GET", "/agents", token=admin)).json["agents"]
    assert (shown["status"], shown["tunnels"]) == ("connected", 2)
    central.now = NOW + 86401
    [shown] = (await central.call("GET", "/agents", token=await central.admin())).json["agents"]
    assert (shown["status"], shown["revoked_at"]) == ("expired", None)


async def test_an_agent_is_revoked_with_an_audit_row(central: Central) -> None:
    agent = await joined(central)
    before = central.feed.rows.version
    answer = await central.call("POST", f"/agents/{agent}/revoke", token=await central.admin())
    assert (answer.status, answer.json["status"]) == (200, "revoked")
    assert answer.json["reason"] == "revoked by admin@example.com"
    assert central.feed.rows.version > before
    assert central.feed.rows.revoked == {agent}
    row = central.last_row()
    assert (row["verb"], row["objectRef"]["resource"]) == ("revoke", "agentcertificates")
    assert (row["objectRef"]["name"], row["annotations"]["mk8s.io/cluster"]) == (agent, "dev-1")


async def test_an_agent_that_does_not_exist(central: Central) -> None:
    answer = await central.call("POST", "/agents/abc/revoke", token=await central.admin())
    assert answer.status == 404


@pytest.mark.parametrize(("method", "path"), [("GET", "/agents"), ("POST", "/agents/a/revoke")])
async def test_attack_agents_are_no_business_of_users(
    central: Central, method: str, path: str
) -> None:
    assert (await central.call(method, path, token=await central.token())).status == 403


async def test_a_stolen_certificate_is_told_to_admins_only(central: Central) -> None:
    agent = await joined(central)
    [record] = await agents.list_agents(central.database)

    def issue(key: str) -> Issued:
        return Issued(key, key, "pem", record.not_after)

    await agents.renew(central.database, agent, record.cluster_id, lambda: issue("a"), "a")
    with pytest.raises(CertificateReused):
        await agents.renew(central.database, agent, record.cluster_id, lambda: issue("b"), "b")
    [seen] = (await central.call("GET", "/clusters", token=await central.admin())).json["clusters"]
    assert "mk8s admin clusters join-token dev-1" in seen["alert"]
    [seen] = (await central.call("GET", "/clusters", token=await central.token())).json["clusters"]
    assert seen["alert"] == ""
