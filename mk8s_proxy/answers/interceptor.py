"""An interceptor: code that reads or changes an answer on its way from a tunnel to the client.

Put between the two halves of one stream when a decision asks for it (filtered lists and watches,
access reviews); every other stream is relayed without one. A subclass sees the head and the body
in order and says what goes on instead. It never waits and never holds more than it needs: window
is given back to the tunnel when the client's side has taken what came of it.
"""

import logging
from collections.abc import Callable
from typing import Final

from mk8s_agent.wire import hpack_codec
from mk8s_agent.wire.http2.frames import ErrorCode
from mk8s_agent.wire.stream import Bytes, Fields, Stream, join, part
from mk8s_proxy.kube.status import StatusError
from mk8s_proxy.listener.exchange import Exchange

log = logging.getLogger(__name__)

_HELD: Final = 256 * 1024
"""Bytes that may wait for a slow client before the tunnel's credit is held back."""

Refuse = Callable[[Exchange, StatusError], None]


class InterceptionRefused(Exception):
    """The answer cannot be passed on: the client gets `error`, or a reset once a head has left."""

    def __init__(self, error: StatusError) -> None:
        super().__init__(error.message)
        self.error = error


class Interceptor:
    """The leg between a client's stream and a tunnel's stream.

    Subclasses override `head` and `body`; both may raise `InterceptionRefused`, and any other
    exception refuses too.
    """

    def __init__(self, exchange: Exchange, refuse: Refuse) -> None:
        self.exchange = exchange
        self._refuse = refuse
        self._down = Stream(self, 1, 0, 0)  # peer of the client's stream
        self._up = Stream(self, 1, 0, 0)  # peer of the tunnel's stream
        self._up.exchange = exchange
        self._owed = 0

    def insert(self, back: Stream) -> None:
        """Joins the client's stream, this interceptor and the tunnel's staged stream `back`."""
        join(self.exchange.front, self._down)
        join(self._up, back)

    # -- what subclasses override

    def head(self, fields: Fields) -> Fields:
        """The head to send on; `fields[0]` is the status, names are lower-case.

        A subclass that changes the body must drop content-length.
        """
        return fields

    def body(self, data: bytes, end: bool) -> bytes:
        """What goes to the client for a piece of the body; called exactly once with `end`."""
        return data

    # -- the leg

    def relay_head(
        self, stream: Stream, block: bytes, end: bool, fields: Fields | None = None
    ) -> None:
        """The answer's head came from the cluster."""
        assert fields is not None
        try:
            kept = self.head(fields)
            rest = self.body(b"", True) if end else b""
        except Exception as error:  # noqa: BLE001  an exception is a refusal
            self._give_up(error)
            return
        front = self.exchange.front
        front.connection.relay_head(front, hpack_codec.block(kept), end and not rest, kept)
        if rest:
            front.connection.send_data(front, rest, len(rest), True)

    def send_data(self, stream: Stream, data: Bytes, size: int, end: bool) -> None:
        """A piece of the answer came from the cluster, or one of the request from the client."""
        if stream is self._down:
            back = self._up.peer
            if back is not None:
                back.connection.send_data(back, data, size, end)
            return
        self._owed += size
        try:
            out = self.body(bytes(data), end)
        except Exception as error:  # noqa: BLE001  an exception is a refusal
            self._give_up(error)
            return
        front = self.exchange.front
        if out or end:
            front.connection.send_data(front, out, len(out), end)
        self._settle()

    def grant(self, stream: Stream, size: int) -> None:
        """The next hop took bytes: of the request (give the client credit) or of the answer."""
        if stream is self._up:
            front = self.exchange.front
            front.connection.grant(front, size)
        else:
            self._settle()

    def _settle(self) -> None:
        back = self._up.peer
        if self._owed and back is not None and self.exchange.front.pending_bytes <= _HELD:
            owed, self._owed = self._owed, 0
            back.connection.grant(back, owed)

    def reset(self, stream: Stream, code: int) -> None:
        """One of the two sides is gone: so is the other."""
        if stream is self._down:
            self._cancel()
            return
        self._up.peer = None
        front = self.exchange.front
        if part(front) is not None:
            front.connection.reset(front, code)

    def _cancel(self) -> None:
        back = part(self._up)
        if back is not None:
            back.connection.reset(back, ErrorCode.CANCEL)

    def _give_up(self, error: Exception) -> None:
        self._cancel()
        front = self.exchange.front
        part(front)
        if isinstance(error, InterceptionRefused):
            self._refuse(self.exchange, error.error)
        else:
            log.error("interceptor.crashed", exc_info=error)
            self._refuse(self.exchange, _broken(error))


def _broken(error: Exception) -> StatusError:
    message = f"the cluster's answer cannot be filtered: {type(error).__name__}"
    return StatusError(502, "InternalError", message)
