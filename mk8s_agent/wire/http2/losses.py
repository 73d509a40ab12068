"""How streams end through no fault of theirs: each by itself, whatever happens to the others."""

from typing import Final

from mk8s_agent.wire.bulkhead import Bulkhead
from mk8s_agent.wire.http2.frames import ErrorCode
from mk8s_agent.wire.stream import Stream, abort_connection, part

_LOST: Final = Bulkhead("streams.lost")
_STALLED: Final = Bulkhead("streams.stalled")


def lose(stream: Stream, code: ErrorCode) -> None:
    """Ends a stream that its connection carries no more; the others end, too, if it fails."""
    stream.local_closed = stream.remote_closed = True
    peer = part(stream)
    try:
        stream.connection.drop(stream)
    except Exception:  # noqa: BLE001  logged by `failed`
        _LOST.failed(stream)
    if peer is None:
        return
    try:
        peer.connection.reset(peer, code)
    except Exception:  # noqa: BLE001  logged by `failed`
        _LOST.failed(peer, abort_connection)


def end_stalled(stream: Stream) -> None:
    """Ends a stream whose reader takes nothing, and its peer; the next one ends if this fails."""
    _STALLED.each((stream,), _end)


def _end(stream: Stream) -> None:
    stream.connection.end_both(stream, ErrorCode.ENHANCE_YOUR_CALM)
