"""Options of TCP sockets, and what the kernel knows of the other end: the one place for both.

A laptop that is closed says no goodbye. Where nothing is under way TCP keepalive notices, where
something is only the acknowledgements that do not come. TCP_USER_TIMEOUT would be simpler, and ends
connections whose reader only pauses, too (`kubectl logs -f | less`): Linux counts the time for
which a window is closed.
"""

import contextlib
import socket
import struct
from typing import Any, Final

from mk8s_agent.wire.limits import HIGH_WATER

KEEPALIVE_IDLE: Final = 15
"""Seconds without a byte before the first probe: less than NAT and balancers wait (60 and more)."""
KEEPALIVE_INTERVAL: Final = 10
KEEPALIVE_PROBES: Final = 3
GONE_MILLISECONDS: Final = 30_000
"""So long a peer may leave what was sent to it unacknowledged."""

_SECONDS_UNTIL_PROBE: Final = "TCP_KEEPIDLE" if hasattr(socket, "TCP_KEEPIDLE") else "TCP_KEEPALIVE"
_OPTIONS: Final = (
    ("TCP_NOTSENT_LOWAT", HIGH_WATER),
    (_SECONDS_UNTIL_PROBE, KEEPALIVE_IDLE),
    ("TCP_KEEPINTVL", KEEPALIVE_INTERVAL),
    ("TCP_KEEPCNT", KEEPALIVE_PROBES),
)


def prepare(tcp: Any) -> None:
    """Sets the options of a socket: keepalive, and a short queue in the kernel.

    What the network cannot take yet waits here, where a small answer can still overtake it.

    Args:
        tcp: a socket that has dialled; or one that listens, for all that it will accept. None, as
            transports that have no socket say, is passed over.
    """
    if tcp is None or tcp.family not in (socket.AF_INET, socket.AF_INET6):
        return
    with contextlib.suppress(OSError):  # the peer may have gone already
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _OPTIONS:
            if hasattr(socket, name):
                tcp.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def is_gone(tcp: Any) -> bool:
    """Whether the peer of a socket has vanished: what was sent to it is repeated in vain.

    A reader that only pauses acknowledges what it has, and closes its window: nothing is under way
    to it then. False where the system does not tell.
    """
    if tcp is None or not hasattr(socket, "TCP_INFO"):
        return False
    try:
        return vanished(tcp.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TOLD))
    except OSError:  # it is closed, or no TCP
        return False


def vanished(info: bytes) -> bool:
    """Reads Linux's `struct tcp_info` (include/uapi/linux/tcp.h): eight bytes, then words."""
    if len(info) < _TOLD:
        return False
    retransmits = info[2]
    unacknowledged, last_ack = _word(info, 4), _word(info, 12)
    return retransmits > 0 and unacknowledged > 0 and last_ack >= GONE_MILLISECONDS


def _word(info: bytes, number: int) -> int:
    value: int = struct.unpack_from("=I", info, 8 + 4 * number)[0]
    return value


_TOLD: Final = 8 + 4 * 13
"""Bytes of it, up to the time of the last acknowledgement."""
