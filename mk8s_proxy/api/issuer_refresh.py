"""A refresh of a login asks its issuer again: whether the person is still there, and which groups.

Called by the refresh. Who is gone there is out here. An issuer that does not answer keeps nobody
out who is in: the login goes on until its end, with the groups that were told last, and the log
says so.
"""

import asyncio
import logging
from typing import Final

from mk8s_proxy.api.context import ApiContext
from mk8s_proxy.api.endings import end_login, take_groups
from mk8s_proxy.db import logins, upstream_tokens
from mk8s_proxy.db.logins import LoginRecord
from mk8s_proxy.db.sealing import SealError
from mk8s_proxy.identity.oidc.errors import Refused, Unreachable
from mk8s_proxy.identity.oidc.provider import Renewed
from mk8s_proxy.identity.refresh import RefreshRefused

logger = logging.getLogger("mk8s_proxy.api")

ASK_SECONDS: Final = 8.0
"""For the issuer, all requests together: somebody waits for a token."""


async def groups_now(context: ApiContext, login: LoginRecord) -> tuple[str, ...]:
    """Return the groups that a login has from now on.

    Raises:
        RefreshRefused: The issuer lets the person in no more; the login has ended.
    """
    if login.source != logins.OIDC:
        return login.groups
    try:
        renewed = await _ask(context, login)
    except (Refused, SealError) as error:
        reason = error.reason if isinstance(error, Refused) else "UPSTREAM_TOKEN"
        raise await _ended(context, login, reason, str(error)) from None
    except Unreachable as error:
        fields = {"login": login.id, "issuer": login.issuer, "why": str(error)}
        logger.warning("login.issuer_down", extra=fields)
        return login.groups
    return login.groups if renewed is None else renewed.groups


async def _ask(context: ApiContext, login: LoginRecord) -> Renewed | None:
    """None where nobody can be asked, or somebody else asks at this moment."""
    provider = context.issuers.people.get(login.issuer)
    if provider is None:
        raise Refused("ISSUER_UNKNOWN", "its issuer is none of central's any more")
    token = await upstream_tokens.take(context.database, login.id, context.now())
    if not token:
        return None
    try:
        async with asyncio.timeout(ASK_SECONDS):
            renewed = await provider.ask_again(token, login.claims.get("sub", ""))
    except (Unreachable, TimeoutError) as error:
        await upstream_tokens.keep(context.database, login.id, token)
        raise Unreachable(str(error) or "it does not answer in time") from None
    if lost := set(login.groups).difference(renewed.groups):
        await take_groups(context, login.id, lost)
    await upstream_tokens.renew(context.database, login.id, renewed.refresh_token, renewed.groups)
    return renewed


async def _ended(context: ApiContext, login: LoginRecord, reason: str, why: str) -> RefreshRefused:
    ended = await logins.end_login(context.database, login.id, logins.ISSUER_ENDED, context.now())
    for one in ended:
        end_login(context, one)
    message = f"the login has ended: {why}; run mk8s login"
    return RefreshRefused(reason, login.subject, login.id, message)
