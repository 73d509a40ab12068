"""Sessions of exec, attach and the like: where the messages of the answer end, so that mk8s can say
something between two of them: a warning, and why it ends the session.

Put between a tunnel's stream and the client's for the way back only; what the client sends goes
straight to the tunnel. Every byte passes as it came. kubectl takes a SPDY session that just ends
for a success, exit code 0, and a WebSocket for a lost connection; so that it does not, the reason
goes between two messages (`mk8s_proxy.kube.spdy`, `.websocket`), also where the session never
rests.
"""

from collections.abc import Callable
from typing import Final

from mk8s_agent.wire.http2.frames import ErrorCode
from mk8s_agent.wire.stream import Bytes, Fields, Stream, join, part
from mk8s_proxy.kube.frame_tracker import FrameTracker, SpdyTracker, WebSocketTracker
from mk8s_proxy.listener.exchange import Exchange

_TRACKERS: Final[dict[bytes, Callable[[], FrameTracker]]] = {
    b"SPDY/3.1": SpdyTracker,
    b"websocket": WebSocketTracker,
}
_SPDY_SUBRESOURCES: Final = ("exec", "attach")
"""Port-forward over SPDY has no stream on which its client would expect words."""
_SWITCHED: Final = 101


class UpgradedSession:
    """The leg that a tunnel's stream has as its peer."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self._up = Stream(self, 1, 0, 0)  # peer of the tunnel's stream
        self._up.exchange = exchange
        self._tracker = _TRACKERS[exchange.head.upgrade]()
        self._aside = b""
        """Said between two messages."""
        self._words = b""
        """Said last."""

    def insert(self, back: Stream) -> None:
        """Joins the tunnel's staged stream to this leg, and the client's stream to that."""
        join(self._up, back)
        self.exchange.front.peer = back

    @property
    def speaks(self) -> bool:
        """Whether both sides have left HTTP, and something can be said."""
        return self.exchange.front.head_passed and self.exchange.entry.code == _SWITCHED

    def say(self, words: bytes) -> None:
        """Says something at once, or behind the message that is under way."""
        self._aside += words
        self._speak()

    def end_with(self, words: bytes) -> None:
        """Ends the session by these bytes, at once or behind the message that is under way."""
        self._words = words
        self._speak()

    def _speak(self) -> None:
        if not self._tracker.between:
            return
        front = self.exchange.front
        aside, self._aside = self._aside, b""
        if self._words:
            self._finish()
        else:
            front.connection.send_data(front, aside, len(aside), False)

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
        boundary = -1
        if self.exchange.entry.code == _SWITCHED:
            boundary = self._tracker.walk(data, size)
        if boundary < 0 or not (self._words or self._aside):
            front.connection.send_data(front, data, size, end)
            return
        front.connection.send_data(front, data[:boundary], boundary, False)
        if self._words:
            self._finish()
            return
        aside, self._aside = self._aside, b""
        front.connection.send_data(front, aside, len(aside), False)
        front.connection.send_data(front, data[boundary:], size - boundary, end)

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
    info, upgrade = exchange.info, exchange.head.upgrade
    if upgrade == b"SPDY/3.1":
        return info is not None and info.subresource in _SPDY_SUBRESOURCES
    return upgrade == b"websocket"


def session_of(exchange: Exchange) -> UpgradedSession | None:
    """The session of an exchange in which something can be said."""
    back = exchange.back
    leg = back.peer.connection if back is not None and back.peer is not None else None
    return leg if isinstance(leg, UpgradedSession) and leg.speaks else None
