"""Agents: which certificates are out, and their revocation. For admins.

`{id}` in a path is the serial of any certificate of the agent. To revoke one means all certificates
that descend from the same join: a copy may be of an older one. The agent joins anew with a new
token.
"""

from typing import Literal

from mk8s_proxy.api import pages, schemas
from mk8s_proxy.api.endpoint import Access, Audit, Call, Endpoint
from mk8s_proxy.api.list_schemas import AgentList, AgentQuery
from mk8s_proxy.db import agents
from mk8s_proxy.db.agents import AgentRecord


async def list_agents(call: Call) -> schemas.Model:
    """List the agents of all clusters."""
    asked = call.read_query(AgentQuery)
    is_named = pages.matcher(asked.cluster)
    found = [
        _shown(call, agent)
        for agent in await agents.list_agents(call.context.database)
        if is_named(agent.cluster_name)
    ]
    found = [agent for agent in found if asked.status in (None, agent.status)]
    shown, cursor = pages.cut(call, found, _place)
    return AgentList(agents=shown, next_cursor=cursor)


async def revoke_agent(call: Call) -> schemas.Model:
    """Revoke an agent's certificates; its tunnels end at every replica within the policy poll."""
    database, serial = call.context.database, call.path["id"]
    call.subject = serial[:256]
    found = await agents.get_agent(database, serial)
    call.cluster, call.subject = found.cluster_name, found.id
    revoked = await agents.revoke(database, serial, f"revoked by {call.actor}")
    await call.context.policy_feed.refresh()
    return _shown(call, revoked)


def _place(agent: schemas.Agent) -> pages.Place:
    return agent.cluster, agent.joined_at.isoformat(), agent.id


def _shown(call: Call, agent: AgentRecord) -> schemas.Agent:
    held = call.context.tunnels.serials(agent.cluster_id)
    tunnels = sum(serial in agent.serials for serial in held)
    return schemas.Agent(
        id=agent.id,
        name=agent.id,
        cluster=agent.cluster_name,
        status=_status(call, agent, tunnels),
        reason=agent.revoked_why,
        tunnels=tunnels,
        certificate=agent.serial,
        joined_at=agent.joined_at,
        renewed_at=agent.renewed_at,
        expires_at=agent.not_after,
        revoked_at=agent.revoked_at,
    )


def _status(
    call: Call, agent: AgentRecord, tunnels: int
) -> Literal["connected", "disconnected", "expired", "revoked"]:
    if agent.revoked_at is not None:
        return "revoked"
    if agent.not_after <= call.context.now():
        return "expired"
    return "connected" if tunnels else "disconnected"


ENDPOINTS = (
    Endpoint(
        "GET",
        "/agents",
        list_agents,
        "List the agents of all clusters",
        Access.ADMIN,
        query=AgentQuery,
        response=AgentList,
    ),
    Endpoint(
        "POST",
        "/agents/{id}/revoke",
        revoke_agent,
        "Revoke the certificates of an agent",
        Access.ADMIN,
        Audit.CHANGE,
        response=schemas.Agent,
        refusals=(404,),
        verb="revoke",
        resource="agentcertificates",
    ),
)
