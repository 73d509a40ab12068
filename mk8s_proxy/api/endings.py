"""Logins and tokens that end now: here, and in the other workers of this machine.

Called by the handlers that end some, beside what they write into the database, by which the other
replicas learn of it.
"""

from mk8s_proxy.api.context import ApiContext
from mk8s_proxy.db import ended_tokens


def end_login(context: ApiContext, login: str) -> None:
    """Refuse all access tokens of a login, and end what was opened with them."""
    end_access(context, login, context.clock() + ended_tokens.LONGEST_ACCESS.total_seconds())


def end_access(context: ApiContext, ended: str, expires: float) -> None:
    """Refuse a token or a login until `expires`."""
    context.authenticator.revoke(ended, expires)
    context.announcements.tell("revoked", ended, expires)
