"""How streams end that their connection carries no more: each by itself, whatever the others do."""

from typing import Final

from mk8s_agent.wire.bulkhead import Bulkhead
from mk8s_agent.wire.http2.frames import ErrorCode
from mk8s_agent.wire.stream import Stream, abort_connection, part

_LOST: Final = Bulkhead("streams.lost")


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
