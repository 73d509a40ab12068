"""A leg that only notes what it is told: the other half of a stream under test."""

from typing import Any

from mk8s_agent.wire.stream import Fields, Stream, join


class NotingLeg:
    """Stands where another connection would be (`mk8s_agent.wire.stream.Leg`)."""

    def __init__(self, *, hands_on: bool = True) -> None:
        self.hands_on = hands_on
        """Whether bytes are handed on at once, so that their sender gets credit."""
        self.heads: list[tuple[bytes, bool, Fields | None]] = []
        self.body = b""
        self.pieces: list[int] = []
        """How many bytes came at once."""
        self.ended = False
        self.resets: list[int] = []
        self.granted = 0

    def beside(self, stream: Stream) -> Stream:
        """Joins `stream` to a stream of this leg."""
        mine = Stream(self, 1, 0, 0)
        join(stream, mine)
        return mine

    def relay_head(
        self, stream: Stream, block: bytes, end: bool, fields: Fields | None = None
    ) -> None:
        self.heads.append((block, end, fields))
        self.ended = self.ended or end

    def send_data(self, stream: Stream, data: Any, size: int, end: bool) -> None:
        assert len(data) == size
        assert not self.ended, "bytes behind the end"
        self.body += bytes(data)
        self.pieces.append(size)
        self.ended = end
        if self.hands_on and size and stream.peer is not None:
            stream.peer.connection.grant(stream.peer, size)

    def grant(self, stream: Stream, size: int) -> None:
        self.granted += size

    def reset(self, stream: Stream, code: int) -> None:
        stream.peer = None
        self.resets.append(code)
