"""The admission of agents: a join token and a certificate request for a certificate of one cluster.

The token is the credential. It works once, for one cluster, for some minutes; the certificate is
made before the token is used up, so that a broken request does not cost the token, and handed
out only after that and after it was recorded. What is wrong with a token is told only to those
who show a token that we issued.
"""

import asyncio
import datetime
import uuid

from aiohttp import hdrs, web

from mk8s_proxy.api import schemas
from mk8s_proxy.api.endpoint import Access, Audit, Call, Endpoint
from mk8s_proxy.api.errors import ApiError
from mk8s_proxy.db import agents, clusters, tokens
from mk8s_proxy.db.agents import Issued
from mk8s_proxy.db.errors import JoinTokenExpired, JoinTokenUsed, NotFound
from mk8s_proxy.identity.ca import CaError, requested_key_hash
from mk8s_proxy.identity.join_token import hash_join_token
from mk8s_proxy.identity.throttle import Throttled, source_key

ACTOR = "mk8s:agent"
"""Who joins, in log and audit; the cluster is named beside it."""


async def join(call: Call) -> schemas.Model:
    """Admit an agent."""
    body, context = call.read(schemas.JoinRequest), call.context
    call.actor, call.cluster, call.subject = ACTOR, body.cluster, body.cluster
    source = source_key(call.source)
    if (seconds := context.joins.wait(source)) > 0:
        raise Throttled(seconds)
    context.joins.count(source)
    cluster_id = await _cluster_id(call, body.cluster)
    signed = await asyncio.to_thread(_sign, call, body.csr, cluster_id)
    await _use_token(call, body, cluster_id)
    await agents.record_joined(context.database, cluster_id, signed)
    context.joins.refund(source)
    return schemas.JoinResponse(
        certificate=signed.certificate_pem,
        ca_certificate=context.authorities.servers_pem(context.now()).decode(),
        cluster_id=cluster_id,
        expires_at=signed.not_after,
    )


async def ca_pem(call: Call) -> web.Response:
    """Publish the CA that signed central's own certificate, and the one that is to follow it."""
    return web.Response(
        body=call.context.authorities.servers_pem(call.context.now()),
        headers={hdrs.CONTENT_TYPE: "application/x-pem-file"},
    )


async def _cluster_id(call: Call, name: str) -> str:
    try:
        return (await clusters.get_by_name(call.context.database, name)).id
    except NotFound:
        # Continue as with a known one: strangers learn no names. No token can match this id.
        return str(uuid.uuid4())


def _sign(call: Call, csr: str, cluster_id: str) -> Issued:
    """Make the certificate; nobody has seen it yet.

    Raises:
        ApiError: The request is malformed, not signed by its key, or not ECDSA P-256.
    """
    context = call.context
    life = datetime.timedelta(seconds=context.settings.agent.certificate_seconds)
    try:
        keeper, now = context.authorities, context.now()
        authority = keeper.following(now) or keeper.current.agent_ca  # it learns both server CAs
        signed = authority.sign_agent(csr.encode(), cluster_id, now=now, life=life)
        key_hash = requested_key_hash(csr.encode())
    except CaError as error:
        raise ApiError.invalid("csr", str(error)) from None
    return Issued(signed.serial, key_hash, signed.certificate_pem.decode(), signed.not_after)


async def _use_token(call: Call, body: schemas.JoinRequest, cluster_id: str) -> None:
    context, hashed = call.context, hash_join_token(body.token)
    try:
        used = await tokens.use_join_token(context.database, hashed, context.now())
    except NotFound:
        message = "the join token is not known here: ask an admin for a new one"
        raise ApiError(403, message, audit_reason="JOIN_TOKEN_UNKNOWN") from None
    except JoinTokenUsed as error:
        raise ApiError(403, str(error), audit_reason="JOIN_TOKEN_USED") from None
    except JoinTokenExpired as error:
        raise ApiError(403, str(error), audit_reason="JOIN_TOKEN_EXPIRED") from None
    if used.cluster_id != cluster_id:
        # It is used up now: whoever tries tokens on other clusters gets one try.
        message = "the join token was made for another cluster: ask an admin for one of this"
        raise ApiError(403, message, audit_reason="JOIN_TOKEN_FOREIGN")


ENDPOINTS = (
    Endpoint(
        "POST",
        "/join",
        join,
        "Admit an agent by a join token",
        Access.PUBLIC,
        Audit.CREDENTIAL,
        request=schemas.JoinRequest,
        response=schemas.JoinResponse,
        refusals=(403, 429),
        verb="create",
        resource="agentcertificates",
    ),
    Endpoint(
        "GET",
        "/ca.pem",
        ca_pem,
        "Get the CA of central's own certificate",
        Access.PUBLIC,
        media_type="application/x-pem-file",
    ),
)
