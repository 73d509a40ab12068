"""Logins and tokens that end now: here, and in the other workers of this machine.

Called by the handlers that end some, beside what they write into the database, by which the other
replicas learn of it.
"""

import datetime
from collections.abc import Collection

from mk8s_proxy.api.context import ApiContext
from mk8s_proxy.db import ended_tokens, logins
from mk8s_proxy.identity.access_token import LEEWAY
from mk8s_proxy.identity.lost_groups import lost_ids


def end_login(context: ApiContext, login: str) -> None:
    """Refuse all access tokens of a login, and end what was opened with them."""
    end_access(context, login, context.clock() + ended_tokens.LONGEST_ACCESS.total_seconds())


async def take_groups(context: ApiContext, login: str, groups: Collection[str]) -> None:
    """Take groups from the access tokens and open streams of a login and its delegations."""
    seconds = context.settings.tokens.access_seconds + LEEWAY
    expires = context.now() + datetime.timedelta(seconds=seconds)
    await _take(context, [login], groups, expires)
    # After that: who delegates from now on has them no more.
    await _take(context, await logins.delegated_by(context.database, login), groups, expires)


async def _take(
    context: ApiContext, of: list[str], groups: Collection[str], expires: datetime.datetime
) -> None:
    if not of:
        return
    lost = lost_ids(of, groups)
    await ended_tokens.end_tokens(context.database, lost, expires, context.now())
    for one in lost:
        end_access(context, one, expires.timestamp())


def end_access(context: ApiContext, ended: str, expires: float) -> None:
    """Refuse a token or a login until `expires`."""
    context.authenticator.revoke(ended, expires)
    context.announcements.tell("revoked", ended, expires)
