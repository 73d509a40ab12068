"""Header names that only central and its agents use between themselves, and HTTP's hop-by-hop set.

Central refuses or drops every one of them in a client's request and in a cluster's answer, so what
an agent reads under these names was written by central.
"""

# compiled: every field of every head

from typing import Final

IDENTITY: Final = b"mk8s-identity"
"""Who the request acts as: JSON {"user", "uid", "groups", "extra"}."""

ANONYMOUS: Final = b'{"user":"system:anonymous","uid":"","groups":[]}'
"""The one identity of nobody, to the byte: for GET and HEAD of /version, and nothing else."""

AUDIT_ID: Final = b"mk8s-audit-id"
"""Becomes the API server's Audit-ID, so that both audit logs can be joined."""

UPGRADE: Final = b"mk8s-upgrade"
"""The protocol an upgraded stream carries (websocket or SPDY/3.1); in the answer: switched."""

ORIGIN: Final = b"mk8s-origin"
"""Asks the agent for an Origin of its own making, the API server's own: its value is `OWN`.

kube-apiserver refuses a watch over WebSocket without an Origin and looks no further at it; the
client's, which may name any site, never comes through."""

OWN: Final = b"own"

LENGTH: Final = b"mk8s-content-length"
"""The body's length when the client gave one."""

ERROR: Final = b"mk8s-error"
"""In an answer of the agent itself: one line that central puts into a Status."""

CONTROL_PATH: Final = b"/mk8s.control"
"""The path of stream 1 of a tunnel."""

INTERNAL_PREFIX: Final = b"mk8s-"

HOP_BY_HOP: Final[frozenset[bytes]] = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
"""RFC 9110, 7.6.1: meant for one connection, never relayed."""
