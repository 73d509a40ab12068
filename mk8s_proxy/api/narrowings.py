"""What a delegation may do at most, as the management API takes it and shows it.

Called before anything is done for a delegation, and where logins are shown. A narrowing that is not
understood here, since a newer central wrote it or it was damaged, gives nothing.
"""

import json
from typing import Any

from mk8s_proxy.authz.narrowing import compiled_narrowing
from mk8s_proxy.authz.policy import PolicyError
from mk8s_proxy.identity.identity import Unauthenticated

_UNREADABLE = "what this delegation may do is not understood here: its owner can make another one"


def require_readable(narrowing: str) -> None:
    """Refuse a login whose narrowing means nothing here; "" is that of a login of one's own.

    Raises:
        Unauthenticated: It does.
    """
    try:
        if narrowing:
            compiled_narrowing(narrowing)
    except PolicyError:
        raise Unauthenticated("NARROWING", _UNREADABLE) from None


def written(narrowing: str) -> dict[str, Any] | None:
    """Show the narrowing of a login as it is written, understood or not; None where there is none.

    Nothing else is listed where it is no document, so that whoever looks can end that login.
    """
    if not narrowing:
        return None
    try:
        document = json.loads(narrowing)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}
