"""What may stand behind a body: trailers, which mk8s reads and drops.

Kubernetes uses none. They are read nevertheless: a message with malformed ones is malformed as a
whole (RFC 9113, 8.1.1), and must not look complete to whoever gets the rest of it.
"""

import re
from typing import Final

from mk8s_agent.wire.stream import Fields

_NAME: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]++")
"""Lower case only, and no colon, which begins a pseudo-header field (RFC 9113, 8.2.1 and 8.3)."""

_ILLEGAL_VALUE: Final = re.compile(rb"[\0\r\n]|\A[\t ]|[\t ]\Z")

_CONNECTION_SPECIFIC: Final = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"te", b"transfer-encoding", b"upgrade")
)
"""RFC 9113, 8.2.2; `te` is one for a request's head only."""

_FRAMING: Final = frozenset((b"content-length", b"host"))
"""They would say something else about a message that has been read (RFC 9110, 6.5.1)."""


def well_formed(fields: Fields) -> bool:
    """Whether trailers could stand in a message that is well-formed."""
    for name, value in fields:
        if _NAME.fullmatch(name) is None or _ILLEGAL_VALUE.search(value):
            return False
        if name in _CONNECTION_SPECIFIC or name in _FRAMING:
            return False
    return True
