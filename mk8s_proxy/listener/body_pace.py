"""How fast the bodies of requests come: one that drips holds a stream, a row that is open and a
request in the API server, and costs its sender nothing.

Called by both kinds of client connections, once a second. Time in which a client may not send
since a slower hop has not taken what it sent before is not the client's. What stays open by its
nature (exec, port-forward, what goes through a proxy to a pod) may be silent for as long as it
likes.
"""

from collections.abc import Callable
from typing import Final, Protocol

from mk8s_agent.wire.http2.frames import ErrorCode
from mk8s_agent.wire.stream import Stream, part
from mk8s_proxy.kube.status import StatusError, status_error
from mk8s_proxy.listener.exchange import Exchange

SLOW_BODY: Final = "SLOW_BODY"
"""The reason in the audit."""
_LONGEST_SECOND: Final = 2.0
"""A machine that slept has not been waiting for its clients."""


class PaceLimits(Protocol):
    """The part of the settings that this watches over."""

    @property
    def body_seconds(self) -> float:
        """Within so long, again and again..."""

    @property
    def body_bytes(self) -> int:
        """... so many bytes of a body must come; 0 for no such rule."""


class BodyPace:
    """The bodies that are on their way on one connection."""

    __slots__ = ("_bodies", "_limits", "end")

    def __init__(self, limits: PaceLimits) -> None:
        self._limits = limits
        self._bodies: dict[Stream, tuple[float, int]] = {}
        """For how long nothing or little came, and what had come by then."""
        self.end: Callable[[Stream, None], object] = self._bodies.pop
        """`end(stream, None)`: it is over. More than once is no mistake. The dict's own method: a
        call in C."""

    def __len__(self) -> int:
        return len(self._bodies)

    def begin(self, stream: Stream) -> None:
        """A request whose body is still to come."""
        if self._limits.body_bytes:
            self._bodies[stream] = (0.0, 0)

    def second(self, elapsed: float, waits: Callable[[Stream], bool]) -> list[Stream]:
        """Those that come too slowly.

        Args:
            elapsed: seconds since the last call.
            waits: whether a client may send nothing at the moment.
        """
        elapsed = min(elapsed, _LONGEST_SECOND)
        limits, slow = self._limits, []
        for stream, (seconds, before) in list(self._bodies.items()):
            if stream.remote_closed or stream.exchange is None or stream.exchange.stays_open:
                del self._bodies[stream]
            elif stream.received - before >= limits.body_bytes or waits(stream):
                self._bodies[stream] = (0.0, stream.received)
            elif seconds + elapsed > limits.body_seconds:
                slow.append(stream)
            else:
                self._bodies[stream] = (seconds + elapsed, before)
        return slow


class Refuses(Protocol):
    """The part of the handler chain that this needs."""

    def refuse(self, exchange: Exchange, error: StatusError) -> None:
        """Answers with a Status."""


def end_slow(stream: Stream, chain: Refuses, limits: PaceLimits) -> bool:
    """Ends the request of a body that drips; whether its client could be told, since no answer had
    begun."""
    back = part(stream)
    if back is not None:
        back.connection.reset(back, ErrorCode.CANCEL)
    if stream.head_passed:
        return False
    stream.exchange.entry.refusal = SLOW_BODY
    message = (
        f"less than {limits.body_bytes} bytes of the request's body came within "
        f"{limits.body_seconds:g} seconds: send it faster, or have limits.body_bytes lowered"
    )
    chain.refuse(stream.exchange, status_error(408, message))
    return True
