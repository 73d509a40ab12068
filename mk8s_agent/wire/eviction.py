"""Who has to make room when no more bytes may wait: who holds most, and not who comes next.

Called by all legs before they keep bytes, once a limit is reached. A reader that takes nothing
could otherwise fill the memory and go on, while those who read are cut off.
"""

from collections.abc import Iterable
from typing import Final

from mk8s_agent.wire.http2.losses import end_stalled
from mk8s_agent.wire.limits import BufferBudget, Share
from mk8s_agent.wire.stream import Stream

_MORE: Final = 16
"""One of so many parts of a limit is freed beyond what is needed, so that it is not looked for
somebody for each piece that comes."""

_LEAST_HELD: Final = 4096
"""Who holds less would free nothing: control streams, for example."""


def make_room(buffers: BufferBudget, stream: Stream, size: int) -> bool:
    """Ends streams that hold bytes, until `size` more may wait on `stream`; whether they may.

    The owner of `stream` pays first, if it is over its own share; then the owner who holds most;
    then anybody. Of an owner's streams those go first that stand still, and then the largest.
    """
    if buffers.evicting:  # the end of a stream is told to its client, which needs room, too
        return False
    buffers.evicting = True
    try:
        return _make_room(buffers, stream, size)
    finally:
        buffers.evicting = False


def _make_room(buffers: BufferBudget, stream: Stream, size: int) -> bool:
    share = stream.share
    if share is not None and share.used + size > share.limit:
        aim = share.limit - share.limit // _MORE - size
        for held in _in_order(it for it in buffers.holders if it.share is share):
            if share.used <= aim:
                break
            end_stalled(held)
    for owner in (_largest(buffers), None):
        if buffers.used + size > buffers.limit:
            _free(buffers, owner, buffers.limit - buffers.limit // _MORE - size)
    return not stream.local_closed and buffers.has_room(stream, size)


def _free(buffers: BufferBudget, owner: Share | None, aim: int) -> None:
    """Ends streams of `owner`, or of anybody, until only `aim` bytes wait."""
    for held in _in_order(it for it in buffers.holders if owner is None or it.share is owner):
        if buffers.used <= aim:
            break
        end_stalled(held)


def _largest(buffers: BufferBudget) -> Share | None:
    shares = {held.share for held in buffers.holders if held.share is not None}
    return max(shares, key=_used, default=None)


def _used(share: Share) -> int:
    return share.used


def _in_order(holders: Iterable[Stream]) -> list[Stream]:
    """Who goes first: of those whose bytes have not moved since they were looked at, and then of
    the others, who has stood still for longest, and then who holds most."""
    return sorted(
        (held for held in holders if held.pending_bytes >= _LEAST_HELD), key=_weight, reverse=True
    )


def _weight(stream: Stream) -> tuple[bool, float, int]:
    return stream.sent == stream.sent_before, stream.stalled_seconds, stream.pending_bytes
