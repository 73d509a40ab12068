"""The windows that this end gives its peer (RFC 9113, 5.2); those it was given are `outbound`'s.

Called by `connection`, for each DATA frame and for each step in which window is given back.
"""

import time
from typing import Final

from mk8s_agent.wire.http2.frames import ErrorCode, RemoteProtocolError
from mk8s_agent.wire.limits import Limits
from mk8s_agent.wire.stream import Stream

FAR_SECONDS: Final = 0.002
"""A shorter round trip needs no wider windows, and they would delay small answers."""

WIDER: Final = 4
"""How many times wider a window becomes that was what limited its stream: from the first to the
widest in three steps, of a round trip each."""


class ReceiveWindows:
    """How much the peer may still send, on the connection and on each stream.

    A stream's window comes back when its bytes were handed on, so that a slow reader stalls its own
    stream. The connection's comes back on receipt: it bounds what is on its way, nothing else.
    """

    __slots__ = ("_connection", "_learned", "_least", "_limits", "round_trip")

    def __init__(self, limits: Limits) -> None:
        self.round_trip = 0.0
        """Seconds to the peer and back; 0 while unknown."""
        self._limits = limits
        self._connection = limits.connection_window
        self._least = limits.connection_window >> 1
        self._learned = 0
        """The window that a stream to this peer has needed: the next one need not find it out."""

    def take(self, stream: Stream | None, size: int) -> int:
        """Accounts for a DATA frame of `size` bytes, padding included, when its header is read.

        Returns what to give back on the connection: once half of its window is used up, all of it.

        Raises:
            RemoteProtocolError: more than a window allowed.
        """
        window = self._connection = self._connection - size
        if window < 0:
            raise RemoteProtocolError(ErrorCode.FLOW_CONTROL_ERROR, "connection window exceeded")
        if stream is not None:
            left = stream.receive_window = stream.receive_window - size
            if left < 0:
                raise RemoteProtocolError(ErrorCode.FLOW_CONTROL_ERROR, "stream window exceeded")
        if window > self._least:
            return 0
        self._connection = self._limits.connection_window
        return self._connection - window

    def give_back(self, stream: Stream) -> int:
        """What to give back on a stream: its credit, and more where its window is the limit."""
        increment = stream.credit
        if self.round_trip > FAR_SECONDS:
            increment += self._wider(stream)
        stream.receive_window += increment
        stream.credit = 0
        return increment

    def _wider(self, stream: Stream) -> int:
        """How much wider the window gets: half of it was used up within two round trips, so it,
        and not the sender or the next hop, is what limits the stream."""
        now = time.monotonic()
        limited = now - stream.granted_at < 2 * self.round_trip
        stream.granted_at = now
        wider = min(max(WIDER * stream.window, self._learned), self._limits.widest_window)
        if not limited or wider <= stream.window:
            return 0
        extra = wider - stream.window
        stream.window = self._learned = wider
        return extra
