"""The certificate authorities: which there are, new ones, the old ones away. For admins.

`rotate` publishes new ones beside the old ones. Agents and people's CLIs learn them by themselves;
once no agent is left that the end of the old ones would keep out, `retire` takes those away.
"""

from datetime import datetime, timedelta
from typing import Literal

from cryptography import x509

from mk8s_proxy.api import ca_schemas, schemas
from mk8s_proxy.api.endpoint import Access, Audit, Call, Endpoint
from mk8s_proxy.db import agents
from mk8s_proxy.db.agents import AgentRecord
from mk8s_proxy.db.errors import Conflict
from mk8s_proxy.identity import authorities
from mk8s_proxy.identity.ca import CertificateAuthority, issuer_key_id

MOST_SHOWN = 100
MOVE_SECONDS = 30.0
"""So long after its renewal an agent may still replace its tunnels: other replicas' are not seen
here."""
_NAMED = 5
"""Agents that a refusal names."""
_CERTIFICATE = "its certificate is of the old authority"
_MOVES = "its certificate is new, and its tunnels to all replicas are about to be"
_TUNNEL = "requests are still open on a tunnel of its old certificate"


async def show(call: Call) -> schemas.Model:
    """Show the certificate authorities, and which agents a rotation waits for."""
    return await _shown(call)


async def rotate(call: Call) -> schemas.Model:
    """Publish the authorities that are to follow the present ones."""
    context = call.context
    await authorities.rotate(context.database, context.now())
    await context.policy_feed.refresh()
    return await _shown(call)


async def retire(call: Call) -> schemas.Model:
    """Let the new authorities take the place of the old ones, which are trusted no more."""
    context, force = call.context, call.read(ca_schemas.Retirement).force
    call.subject = "force" if force else ""
    keeper, now = context.authorities, context.now()
    if keeper.current.rotated_at is not None and not force:
        if keeper.following(now) is None:
            raise Conflict(f"the new authority signs only from {keeper.signs_from:%H:%M:%S} UTC on")
        if waiting := await _waiting(call):
            raise Conflict(_refusal(waiting))
    await authorities.retire(context.database, now)
    await context.policy_feed.refresh()
    return await _shown(call)


def _refusal(waiting: list[ca_schemas.WaitingAgent]) -> str:
    named = ", ".join(f"{it.id} of {it.cluster}" for it in waiting[:_NAMED])
    more = f" and {len(waiting) - _NAMED} more" if len(waiting) > _NAMED else ""
    return (
        f"{len(waiting)} agents have not moved to the new authority yet: {named}{more}; they "
        "would have to join again (mk8s admin ca show tells why, --force does it all the same)"
    )


async def _shown(call: Call) -> ca_schemas.CertificateAuthorities:
    keeper = call.context.authorities
    current, signs_from = keeper.current, keeper.signs_from
    has_moved = keeper.following(call.context.now()) is not None
    rotation = None
    if current.rotated_at is not None and signs_from is not None:
        waiting = await _waiting(call)
        rotation = ca_schemas.Rotation(
            started_at=current.rotated_at,
            signs_from=signs_from,
            waiting=len(waiting),
            waiting_agents=waiting[:MOST_SHOWN],
        )
    found = [
        _authority(current.server_ca, "signing"),
        _authority(current.next_server_ca, "next"),
        _authority(current.agent_ca, "leaving" if has_moved else "signing"),
        _authority(current.next_agent_ca, "signing" if has_moved else "next"),
    ]
    return ca_schemas.CertificateAuthorities(
        authorities=[it for it in found if it is not None], rotation=rotation
    )


def _authority(
    authority: CertificateAuthority | None, status: Literal["signing", "next", "leaving"]
) -> ca_schemas.CertificateAuthority | None:
    if authority is None:
        return None
    return ca_schemas.CertificateAuthority(
        purpose=authority.purpose,
        pin=authority.pin,
        status=status,
        expires_at=authority.not_after,
    )


async def _waiting(call: Call) -> list[ca_schemas.WaitingAgent]:
    """The agents whose certificates would be worth nothing without the old authority."""
    context = call.context
    following = context.authorities.current.next_agent_ca
    if following is None:
        return []
    outdated = context.tunnels.serials_not_of(following.key_id)
    found = []
    for agent in await agents.list_agents(context.database):
        reason = _reason(agent, following.key_id, outdated, context.now())
        if reason:
            found.append(
                ca_schemas.WaitingAgent(
                    cluster=agent.cluster_name,
                    id=agent.id,
                    reason=reason,
                    expires_at=agent.not_after,
                )
            )
    return found


def _reason(agent: AgentRecord, key_id: str, outdated: set[str], now: datetime) -> str:
    if agent.revoked_at is not None or agent.not_after <= now:
        return ""  # it has to join again anyway
    if _issuer(agent.certificate_pem) != key_id:
        return _CERTIFICATE
    if outdated.intersection(agent.serials):
        return _TUNNEL
    renewed_before = len(agent.serials) > 1
    is_fresh = now - agent.renewed_at < timedelta(seconds=MOVE_SECONDS)
    return _MOVES if renewed_before and is_fresh else ""


def _issuer(certificate_pem: str) -> str:
    try:
        return issuer_key_id(x509.load_pem_x509_certificate(certificate_pem.encode()))
    except ValueError:  # of a release that did not keep it
        return ""


_REFUSED = 409
ENDPOINTS = (
    Endpoint(
        "GET",
        "/ca",
        show,
        "Show the certificate authorities",
        Access.ADMIN,
        response=ca_schemas.CertificateAuthorities,
    ),
    Endpoint(
        "POST",
        "/ca/rotate",
        rotate,
        "Publish new certificate authorities",
        Access.ADMIN,
        Audit.CHANGE,
        response=ca_schemas.CertificateAuthorities,
        refusals=(_REFUSED,),
        verb="rotate",
        resource="certificateauthorities",
    ),
    Endpoint(
        "POST",
        "/ca/retire",
        retire,
        "Trust the old certificate authorities no more",
        Access.ADMIN,
        Audit.CHANGE,
        request=ca_schemas.Retirement,
        response=ca_schemas.CertificateAuthorities,
        refusals=(_REFUSED,),
        verb="retire",
        resource="certificateauthorities",
    ),
)
