"""exec and attach over SPDY: where the frames of the answer end, so that a session ends in words.

Put between a tunnel's stream and the client's for the way back only; what the client sends goes
straight to the tunnel. Every byte passes as it came. kubectl takes a SPDY session that just ends
for a success, exit code 0; so that it does not, the reason goes between two frames
(`mk8s_proxy.kube.spdy`), also where the session never rests.
"""

from typing import Final

from mk8s_agent.wire.http2.frames import ErrorCode
from mk8s_agent.wire.stream import Bytes, Fields, Stream, join, part
from mk8s_proxy.listener.exchange import Exchange

_HEADER_BYTES: Final = 8
"""Of a frame (SPDY Protocol Draft 3.1, 2.2); the length is in the last three."""
_SUBRESOURCES: Final = ("exec", "attach")
_SWITCHED: Final = 101


class SpdySession:
    """The leg that a tunnel's stream has as its peer."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self._up = Stream(self, 1, 0, 0)  # peer of the tunnel's stream
        self._up.exchange = exchange
        self._left = 0
        """Bytes of the frame under way that are still to come."""
        self._header = b""
        """The beginning of the next one, as far as it has come."""
        self._words = b""

    def insert(self, back: Stream) -> None:
        """Joins the tunnel's staged stream to this leg, and the client's stream to that."""
        join(self._up, back)
        self.exchange.front.peer = back

    @property
    def speaks(self) -> bool:
        """Whether both sides have left HTTP, and something can be said."""
        return self.exchange.front.head_passed and self.exchange.entry.code == _SWITCHED

    def end_with(self, words: bytes) -> None:
        """Ends the session by these frames, at once or behind the frame that is under way."""
        self._words = words
        if not self._left and not self._header:
            self._finish()

    def _finish(self) -> None:
        front = self.exchange.front
        back = part(front)
        if back is not None:
            back.connection.reset(back, ErrorCode.CANCEL)
        front.connection.send_data(front, self._words, len(self._words), True)

    # -- the leg

    def relay_head(
        self, stream: Stream, block: bytes, end: bool, fields: Fields | None = None
    ) -> None:
        """The answer's head came from the cluster."""
        front = self.exchange.front
        front.connection.relay_head(front, block, end, fields)

    def send_data(self, stream: Stream, data: Bytes, size: int, end: bool) -> None:
        """A piece of the answer came from the cluster."""
        front = self.exchange.front
        if self.exchange.entry.code == _SWITCHED:
            boundary = self._walk(data, size)
            if self._words and boundary >= 0:
                front.connection.send_data(front, data[:boundary], boundary, False)
                self._finish()
                return
        front.connection.send_data(front, data, size, end)

    def _walk(self, data: Bytes, size: int) -> int:
        """Counts a piece; where in it the frame ends that was under way, -1 if it does not."""
        first, place = -1, 0
        while place < size:
            if not self._left:
                missing = _HEADER_BYTES - len(self._header)
                self._header += bytes(data[place : place + missing])
                place += missing
                if len(self._header) < _HEADER_BYTES:
                    break
                self._left = int.from_bytes(self._header[5:], "big")
                self._header = b""
            taken = min(self._left, size - place)
            self._left -= taken
            place += taken
            if not self._left and first < 0:
                first = place
        return first

    def grant(self, stream: Stream, size: int) -> None:
        """The tunnel took bytes of the client's."""
        front = self.exchange.front
        front.connection.grant(front, size)

    def reset(self, stream: Stream, code: int) -> None:
        """The cluster's side is gone: so is the client's."""
        self._up.peer = None
        front = self.exchange.front
        if part(front) is not None:
            front.connection.reset(front, code)


def begins_session(exchange: Exchange) -> bool:
    """Whether an exchange needs one."""
    info = exchange.info
    is_spdy = exchange.head.upgrade == b"SPDY/3.1"
    return is_spdy and info is not None and info.subresource in _SUBRESOURCES


def session_of(exchange: Exchange) -> SpdySession | None:
    """The session of an exchange in which something can be said."""
    back = exchange.back
    leg = back.peer.connection if back is not None and back.peer is not None else None
    return leg if isinstance(leg, SpdySession) and leg.speaks else None
