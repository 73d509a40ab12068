"""The agent's end of a tunnel: an HTTP/2 server on the connection that the agent dialled.

Central opens the streams. Stream 1 is the control stream; every other one is a request, which
`mk8s_agent.apiserver.request_block` reads and `mk8s_agent.apiserver.pool` forwards. Errors of the
agent itself travel as a bare head with an `mk8s-error` line, which central turns into a Status.
"""

# compiled: every frame of a tunnel passes here

import logging
from collections.abc import Callable
from typing import Any, Final

from mk8s_agent.apiserver.pool import ApiServer
from mk8s_agent.apiserver.request import RequestRefused
from mk8s_agent.tunnel.metrics import TunnelCounts
from mk8s_agent.wire import headers, hpack_codec
from mk8s_agent.wire.control_channel import ControlChannel
from mk8s_agent.wire.http2.frames import ErrorCode
from mk8s_agent.wire.http2.outbound import Transport
from mk8s_agent.wire.http2.server import Http2Server
from mk8s_agent.wire.limits import AGENT, BufferBudget, Limits
from mk8s_agent.wire.stream import Fields, Stream
from mk8s_agent.wire.ticks import Ticks

log = logging.getLogger(__name__)

_UNAUTHORIZED: Final = [(b":status", b"401")]


def error_head(status: int, message: str) -> bytes:
    """A response head that carries an error of the agent's own."""
    line = message.encode("ascii", "replace")[:512].replace(b"\r", b" ").replace(b"\n", b" ")
    return hpack_codec.block([(b":status", b"%d" % status), (headers.ERROR, line)])


def answer(stream: Stream, status: int, message: str) -> None:
    """Answers a stream of a tunnel with an error of the agent's own."""
    tunnel = stream.connection
    tunnel.counts.errors[status] = tunnel.counts.errors.get(status, 0) + 1
    tunnel.relay_head(stream, error_head(status, message), True)


class AgentTunnel(Http2Server):
    """One tunnel.

    Args:
        apiserver: where requests go.
        on_control: called with the control channel once central has opened it.
        on_closed: called once with the reason when the tunnel is gone.
        limits: what is advertised to central and enforced.
    """

    __slots__ = ("_apiserver", "_control", "_on_closed", "_on_control", "counts")

    def __init__(
        self,
        transport: Transport,
        ticks: Ticks,
        buffers: BufferBudget,
        apiserver: ApiServer,
        *,
        on_control: Callable[[ControlChannel], Any],
        on_closed: Callable[[str], Any],
        limits: Limits = AGENT,
    ) -> None:
        super().__init__(transport, ticks, limits, buffers)
        self._apiserver = apiserver
        self.counts = TunnelCounts()
        """Of this tunnel, or of all: whoever made it says so."""
        self._on_control = on_control
        self._on_closed = on_closed
        self._control: ControlChannel | None = None

    @property
    def requests(self) -> int:
        """Requests in flight."""
        return len(self.streams) - (self._control is not None)

    def on_block(self, stream_id: int, block: bytes, end: bool) -> None:
        """A head. No block of a tunnel changes the decoder's state, so it may pass it by."""
        opened = self._control is not None
        request = self._apiserver.reader.recognise(block, end) if opened else None
        if request is None:
            super().on_block(stream_id, block, end)
            return
        stream = self.accept(stream_id, None, end)
        if stream is not None:
            stream.length_left = request.length
            stream.share = self._apiserver.owners.take(request.identity)
            self._apiserver.forward(stream, request)

    def on_request(self, stream: Stream, fields: Fields, end: bool) -> None:
        """A stream of central: the control stream, or a request."""
        if self._control is None:
            self._open_control(stream, fields)
            return
        try:
            request = self._apiserver.reader.read(fields, end)
        except RequestRefused as error:
            log.warning("request.refused", extra={"reason": str(error)})
            answer(stream, 502, f"the agent refused the request: {error}")
            self.refuse_malformed(stream)
            return
        if not request.upgrade:
            stream.length_left = request.length
        stream.share = self._apiserver.owners.take(request.identity)
        self._apiserver.forward(stream, request)

    def _open_control(self, stream: Stream, fields: Fields) -> None:
        if (b":path", headers.CONTROL_PATH) not in fields:
            self.fail(ErrorCode.PROTOCOL_ERROR, "the first stream is not the control stream")
            return
        self._control = ControlChannel(stream)
        self.relay_head(stream, hpack_codec.block([(b":status", b"200")]), False)
        self._on_control(self._control)

    def relay_head(
        self, stream: Stream, block: bytes, end: bool, fields: Fields | None = None
    ) -> None:
        """Passes an answer of the API server to central.

        A 401 is about the agent's own credential and would make kubectl run its login again, so it
        becomes an error of the agent.
        """
        if fields is not None and fields[:1] == _UNAUTHORIZED:
            self._apiserver.unauthorized()
            peer = stream.peer
            if peer is not None:
                stream.peer = None
                peer.connection.reset(peer, ErrorCode.CANCEL)
            block, end = error_head(502, "the API server does not accept the agent's token"), True
        if stream.exchange is not None:
            self._apiserver.forget_body(stream)
        super().relay_head(stream, block, end)

    def reset(self, stream: Stream, code: int) -> None:
        """The API server's side ended: before the answer began, try again or say so in words."""
        if stream.head_passed or stream.local_closed:
            super().reset(stream, code)
            return
        stream.peer = None
        if self._apiserver.forward_again(stream, code == ErrorCode.REFUSED_STREAM):
            return
        if code == ErrorCode.REFUSED_STREAM:
            answer(stream, 503, "the API server refused the request before processing it")
        elif code == ErrorCode.PROTOCOL_ERROR:
            answer(stream, 502, "the API server's answer is malformed, or its head is too large")
        else:
            answer(stream, 502, "the API server closed the connection before it answered")

    def on_stream_closed(self, stream: Stream) -> None:
        """A request is over."""
        counts = self.counts
        counts.requests += stream.stream_id != 1  # the control stream
        counts.received += stream.received
        counts.sent += stream.sent
        if stream.exchange is not None:
            self._apiserver.forget_body(stream)
        if stream.share is not None:
            self._apiserver.owners.give_back(stream.share)

    def on_ready(self) -> None:
        """The peer is there: see how far away."""
        self.ping()

    def on_lost(self) -> None:
        """The tunnel is gone."""
        self._on_closed(self.close_reason or "central closed the connection")
