"""Which streams of a connection are open, and what the ids of all others say (RFC 9113, 5.1).

Called by `connection` and its roles. Ids are never reused and only grow, so three numbers tell an
idle stream from a closed one.
"""

from mk8s_agent.wire.http2.frames import ErrorCode, RemoteProtocolError
from mk8s_agent.wire.stream import Stream

STRAYS = 4096
"""Streams reset by this end that are remembered, since the peer may not know yet."""


class StreamTable:
    """The streams of one connection.

    Args:
        first_own: the least id that this end may open: 1 for a client, 2 for a server.
    """

    __slots__ = ("_reset_here", "last_peer", "next_own", "streams")

    def __init__(self, first_own: int) -> None:
        self.streams: dict[int, Stream] = {}
        """The open ones by id."""
        self.next_own = first_own
        """The id of the next stream that this end opens."""
        self.last_peer = 0
        """The highest id that the peer has opened."""
        self._reset_here: dict[int, None] = {}

    def is_own(self, stream_id: int) -> bool:
        """Whether this end opens streams of such ids."""
        return stream_id & 1 == self.next_own & 1

    def check_not_idle(self, stream_id: int) -> None:
        """A frame for a closed stream may be late; one for a stream never opened is an error.

        Raises:
            RemoteProtocolError: the stream is idle.
        """
        own = self.is_own(stream_id)
        if stream_id >= self.next_own if own else stream_id > self.last_peer:
            raise RemoteProtocolError(ErrorCode.PROTOCOL_ERROR, f"stream {stream_id} is idle")

    def check_stray(self, stream_id: int) -> None:
        """A frame that needs an open stream but has none: fine where this end has just reset it.

        Raises:
            RemoteProtocolError: on stream 0, on an idle stream, or on one that the peer closed.
        """
        if stream_id == 0:
            raise RemoteProtocolError(ErrorCode.PROTOCOL_ERROR, "DATA on stream 0")
        self.check_not_idle(stream_id)
        if stream_id not in self._reset_here:
            raise RemoteProtocolError(ErrorCode.STREAM_CLOSED, "DATA on a closed stream")

    def peer_opens(self, stream_id: int) -> bool:
        """A request head on a stream that is not open. False for trailers that crossed our reset.

        Raises:
            RemoteProtocolError: an id that a client may not use, or not any more.
        """
        if stream_id & 1 == self.next_own & 1:
            raise RemoteProtocolError(ErrorCode.PROTOCOL_ERROR, "a client's stream ids are odd")
        if stream_id > self.last_peer:
            self.last_peer = stream_id
            return True
        if stream_id in self._reset_here:
            return False
        raise RemoteProtocolError(ErrorCode.STREAM_CLOSED, "HEADERS on a closed stream")

    def expect_strays(self, stream_id: int) -> None:
        """This end resets a stream: its frames may still be on their way."""
        if len(self._reset_here) >= STRAYS:
            del self._reset_here[next(iter(self._reset_here))]
        self._reset_here[stream_id] = None
