"""Which requests are sent to the API server once more, and with what body; no I/O.

Used by `mk8s_agent.apiserver.pool` and `mk8s_agent.tunnel.session`. Never may one be executed
twice, so a request goes again only when

* the API server says that it did not take it: a stream above the last one of its GOAWAY, or
  REFUSED_STREAM (RFC 9113, 8.7). Its body has to be here still, so small ones are kept until the
  head of the answer comes;
* or it is a GET or HEAD without a body whose connection, one that had worked before, was closed
  before any of an answer came: an idle connection ended while the request was on its way (RFC 9110,
  9.2.2). Go's transport does the same.

And once only: what is refused twice is an answer.
"""

from typing import Final

from mk8s_agent.apiserver.request import Attempt, Request, request_line
from mk8s_agent.wire.limits import KIB, BufferBudget
from mk8s_agent.wire.stream import Bytes, Stream, own

MOST_KEPT: Final = 64 * KIB
"""Bytes of a body that are kept for another try."""
_SAFE: Final = frozenset({b"GET", b"HEAD"})


def keep(request: Request, buffers: BufferBudget, data: Bytes, size: int, end: bool) -> None:
    """Remembers a piece of a request's body as it is sent; one that is too long is forgotten."""
    attempt = request.attempt
    if attempt is None:
        attempt = request.attempt = Attempt()
    if attempt.spent:
        return
    if attempt.size + size > MOST_KEPT or buffers.scarce:
        forget(attempt, buffers)
        attempt.spent = True
        return
    if size:
        attempt.body.append(own(data, size))
        attempt.size += size
        buffers.used += size
    attempt.complete = end


def forget(attempt: Attempt, buffers: BufferBudget) -> None:
    """Lets go of a body: it has arrived, or nobody waits for the answer any more."""
    buffers.used -= attempt.size
    attempt.size = 0
    attempt.body = []


def may_go_again(request: Request, refused: bool) -> bool:
    """Whether a request that got no answer may be sent once more.

    Args:
        refused: the API server said that it did not take it.
    """
    attempt = request.attempt
    if attempt is None:
        return refused
    return not attempt.spent and (refused or attempt.connection_lost)


def note_lost_connection(back: Stream) -> None:
    """A connection that had worked before is gone, with this stream of it still open."""
    front = back.peer
    request = front.exchange if front is not None else None
    if request is None or not request.end:  # None: the answer has begun
        return
    if request_line(request)[0] in _SAFE:
        if request.attempt is None:
            request.attempt = Attempt()
        request.attempt.connection_lost = True


def take_body(request: Request, buffers: BufferBudget) -> list[tuple[Bytes, bool]]:
    """Gives what was kept, each piece with whether it is the last; there is no further try.

    Who sent these bytes is given window for them a second time: at most as much as is kept.
    """
    attempt = request.attempt
    if attempt is None:
        attempt = request.attempt = Attempt()
    pieces = attempt.body
    if attempt.complete and not pieces:
        pieces = [b""]
    forget(attempt, buffers)
    attempt.spent = True
    last = len(pieces) - 1
    return [(piece, attempt.complete and at == last) for at, piece in enumerate(pieces)]
