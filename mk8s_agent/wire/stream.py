"""One half of a relayed request: a stream on one connection, joined to its peer on another."""

# compiled: one for each request, and each frame reads it

from collections import deque
from typing import Any, Final, Protocol

from mk8s_agent.wire.limits import BufferBudget, Share

Bytes = bytes | memoryview

STAGED: Final = 0
"""The id of a stream whose head has not been sent yet; its body waits in `pending`."""

LONGEST_BODY: Final = 1 << 60
"""Above every content-length that is read: they have 18 digits at most."""

AWAITING_HEAD: Final = 1 << 61
"""`length_left` of an answer whose head has not come: any body of it is an error. Each
informational head that came instead adds one."""


class Leg(Protocol):
    """What a stream's connection must answer, whichever protocol it speaks.

    HTTP/2 connections, HTTP/1.1 connections, the control channel and body stages are legs.
    A leg never blocks: what it cannot send now it queues, bounded by the window that
    was given to the sender.
    """

    def relay_head(
        self, stream: "Stream", block: bytes, end: bool, fields: "Fields | None" = None
    ) -> None:
        """Sends a response head; `block` is stateless HPACK, `fields` the same decoded."""

    def send_data(self, stream: "Stream", data: Bytes, size: int, end: bool) -> None:
        """Sends `size` bytes of body on `stream`, the last ones when `end`."""

    def grant(self, stream: "Stream", size: int) -> None:
        """`size` bytes that arrived on `stream` were handed on: its sender may send more."""

    def reset(self, stream: "Stream", code: int) -> None:
        """Ends `stream` at once because its peer ended with the HTTP/2 error `code`."""


Fields = list[tuple[bytes, bytes]]


class Stream:
    """State of one half. `peer` is the other half; None until it is staged, or after it ended."""

    __slots__ = (
        "connection",
        "credit",
        "end_queued",
        "exchange",
        "granted_at",
        "head_passed",
        "length_left",
        "local_closed",
        "peer",
        "pending",
        "pending_bytes",
        "receive_window",
        "received",
        "remote_closed",
        "send_window",
        "sent",
        "sent_before",
        "share",
        "stalled_seconds",
        "stream_id",
        "waiting",
        "window",
    )

    def __init__(
        self, connection: Any, stream_id: int, send_window: int, receive_window: int
    ) -> None:
        self.connection: Any = connection  # a Leg; Any spares a call through the protocol's checks
        self.stream_id = stream_id
        self.send_window = send_window
        self.receive_window = receive_window
        self.window = receive_window
        """What the sender may have on its way at most; grows with the distance (`Outbound`)."""
        self.granted_at = 0.0
        self.peer: Stream | None = None
        self.exchange: Any = None
        """What the handler chain keeps about the request; the wire never looks at it."""
        self.share: Share | None = None
        """The owner's, who pays for what waits here; None where no owner is known."""
        self.pending: deque[Bytes] | None = None
        self.pending_bytes = 0
        self.end_queued = False
        self.waiting = False
        self.local_closed = False
        self.remote_closed = False
        self.head_passed = False
        """A final response head went through here."""
        self.credit = 0
        self.sent = 0
        self.sent_before = 0
        self.stalled_seconds = 0.0
        self.received = 0
        self.length_left = -1
        """Body bytes that content-length still promises; -1 when it promised nothing."""

    def stalled_for(self, elapsed: float) -> float:
        """Seconds for which nothing left of what waits here; asked again after `elapsed`."""
        if self.pending is None or self.sent != self.sent_before:
            self.sent_before = self.sent
            self.stalled_seconds = 0.0
        else:
            self.stalled_seconds += elapsed
        return self.stalled_seconds

    def __repr__(self) -> str:
        closed = ("L" if self.local_closed else "-") + ("R" if self.remote_closed else "-")
        return f"<Stream {self.stream_id} {closed} pending={self.pending_bytes}>"


def own(data: Bytes, size: int) -> Bytes:
    """What to keep of a piece that has to wait: a small part of a large read is copied.

    Otherwise a view of 600 bytes could hold 256 KiB that no budget counts.
    """
    if isinstance(data, memoryview) and size * 2 < len(data.obj):  # type: ignore[arg-type]  # bytes
        return bytes(data)
    return data


def join(front: Stream, back: Stream) -> None:
    """Makes two halves each other's peer."""
    front.peer = back
    back.peer = front


def part(stream: Stream) -> Stream | None:
    """Parts a half from its peer and returns that peer, if there still was one."""
    peer = stream.peer
    stream.peer = None
    if peer is not None:
        peer.peer = None
    return peer


def keep_pending(
    stream: Stream, buffers: BufferBudget, data: Bytes, size: int, *, end: bool
) -> None:
    """Puts bytes that cannot be sent yet into the stream's queue, and on the budget."""
    if stream.pending is None:
        stream.pending = deque()
    if size:
        stream.pending.append(own(data, size))
        count_pending(stream, buffers, size)
    stream.end_queued = end


def count_pending(stream: Stream, buffers: BufferBudget, change: int) -> None:
    """Counts bytes that began to wait on a stream, or wait no more, for all who pay for them."""
    stream.pending_bytes += change
    buffers.used += change
    share = stream.share
    if share is not None:
        share.used += change
    if stream.pending_bytes:
        buffers.holders[stream] = None
    else:
        buffers.holders.pop(stream, None)


def forget_pending(stream: Stream, buffers: BufferBudget) -> None:
    """Throws away what waits on a stream, and takes it off the budget."""
    if stream.pending is not None:
        stream.pending = None
        count_pending(stream, buffers, -stream.pending_bytes)


def abort_connection(stream: Stream) -> None:
    """Ends the connection of a stream at once: something in it is broken."""
    stream.connection.transport.abort()
