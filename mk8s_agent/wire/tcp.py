"""Options of TCP sockets."""

import contextlib
import socket
from typing import Any

from mk8s_agent.wire.limits import HIGH_WATER


def keep_queue_short(tcp: Any) -> None:
    """What the network cannot take yet waits here, where a small answer can still overtake it.

    Args:
        tcp: a socket that has dialled; or one that listens, for all that it will accept. None, as
            transports that have no socket say, is passed over.
    """
    if tcp is not None and hasattr(socket, "TCP_NOTSENT_LOWAT"):
        with contextlib.suppress(OSError):  # the peer may have gone already
            tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, HIGH_WATER)
