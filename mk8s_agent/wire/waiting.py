"""Where a request stays while a connection for it is being dialled.

Used by the agent (API server not yet connected, upgrades) and by central (management API).
"""

from collections import deque
from collections.abc import Callable

from mk8s_agent.wire.eviction import make_room
from mk8s_agent.wire.http2.frames import ErrorCode
from mk8s_agent.wire.limits import BufferBudget
from mk8s_agent.wire.stream import (
    STAGED,
    Bytes,
    Fields,
    Stream,
    count_pending,
    forget_pending,
    join,
    own,
    part,
)


class WaitingRoom:
    """A leg that only keeps: the body that arrives meanwhile is bounded by the sender's window."""

    def __init__(self, buffers: BufferBudget) -> None:
        self._buffers = buffers

    def admit(self, front: Stream) -> Stream:
        """Joins `front` to a stream that collects its body."""
        stream = Stream(self, STAGED, 0, 0)
        stream.pending = deque()
        join(front, stream)
        return stream

    def leave(self, stream: Stream, forward: Callable[[Stream], None]) -> None:
        """Hands a request to its connection.

        Args:
            stream: what `admit` returned; nothing happens when its front has gone meanwhile.
            forward: joins the front to a stream of the connection.
        """
        front = part(stream)
        if front is None:
            return
        pieces, stream.pending = stream.pending or deque(), None
        count_pending(stream, self._buffers, -stream.pending_bytes)
        forward(front)
        back = front.peer
        while pieces and back is not None and back.peer is not None:
            piece = pieces.popleft()
            last = stream.end_queued and not pieces
            back.connection.send_data(back, piece, len(piece), last)

    def turn_away(self, stream: Stream) -> Stream | None:
        """No connection came: forgets the body and returns the front, if it is still there."""
        self._forget(stream)
        return part(stream)

    # -- the leg

    def relay_head(
        self, stream: Stream, block: bytes, end: bool, fields: Fields | None = None
    ) -> None:
        """Never called: a waiting request is answered by its connection."""
        raise AssertionError

    def send_data(self, stream: Stream, data: Bytes, size: int, end: bool) -> None:
        """Keeps a piece of the body (see `Leg.send_data`)."""
        if stream.pending is None or stream.end_queued:
            return
        buffers = self._buffers
        if not buffers.has_room(stream, size) and not make_room(buffers, stream, size):
            self.end_both(stream, ErrorCode.ENHANCE_YOUR_CALM)
            return
        if size or end:
            stream.pending.append(own(data, size))
            count_pending(stream, buffers, size)
        stream.end_queued = end

    def end_both(self, stream: Stream, code: int) -> None:
        """Ends a request that waits here, since its body cannot be kept."""
        front = self.turn_away(stream)
        if front is not None:
            front.connection.reset(front, code)

    def grant(self, stream: Stream, size: int) -> None:
        """Nothing arrives here."""

    def reset(self, stream: Stream, code: int) -> None:
        """The front is gone (see `Leg.reset`)."""
        stream.peer = None
        self._forget(stream)

    def _forget(self, stream: Stream) -> None:
        forget_pending(stream, self._buffers)
