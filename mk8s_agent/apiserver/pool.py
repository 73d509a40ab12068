"""From the agent to its API server: HTTP/2 pooled; HTTP/1.1 for upgrades, or where there is no h2.

`mk8s_agent.tunnel.session` hands each request to `ApiServer.forward`; answers go back by
themselves, since the two streams are joined.
"""

import logging
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final

from mk8s_agent.apiserver import resending
from mk8s_agent.apiserver.dial import ApiServerDial, Dial
from mk8s_agent.apiserver.http1 import ApiServerHttp1
from mk8s_agent.apiserver.owners import Owners
from mk8s_agent.apiserver.request import Request, request_line
from mk8s_agent.apiserver.request_block import RequestReader
from mk8s_agent.apiserver.response_status import passes_unread
from mk8s_agent.credentials.sources import (
    ApiServerCredentials,
)
from mk8s_agent.credentials.token_sources import (
    CredentialsGone,
)
from mk8s_agent.wire import hpack_codec, tls
from mk8s_agent.wire.background import Background, OwnedTasks, Work
from mk8s_agent.wire.bulkhead import Bulkhead
from mk8s_agent.wire.dial import DialError
from mk8s_agent.wire.hpack_codec import HpackError, check_block
from mk8s_agent.wire.http1_upstream import Http1Upstream
from mk8s_agent.wire.http2.client import Http2Client
from mk8s_agent.wire.http2.frames import ErrorCode
from mk8s_agent.wire.http2.outbound import Transport
from mk8s_agent.wire.limits import API_SERVER, BufferBudget, Limits
from mk8s_agent.wire.stream import Bytes, Stream
from mk8s_agent.wire.ticks import Ticks
from mk8s_agent.wire.transport import TlsTransport
from mk8s_agent.wire.waiting import WaitingRoom

log = logging.getLogger(__name__)

_MAX_WAITING = 10_000
_IDLE_HTTP1 = 8
_SECOND: Final = Bulkhead("apiserver.second")
_FORWARD: Final = Bulkhead("apiserver.forward_waiting")
_TURN_AWAY: Final = Bulkhead("apiserver.turn_away")
_CLOSE: Final = Bulkhead("apiserver.close")
_BROKEN: Final = "the agent failed: see its log"

Answer = Callable[[Stream, int, str], None]
"""Answers a stream of the tunnel with an error of the agent's own."""


class ApiServerHttp2(Http2Client):
    """One HTTP/2 connection to the API server; answers are relayed without a look inside."""

    __slots__ = ("_server",)

    def __init__(
        self, transport: Transport, server: "ApiServer", limits: Limits = API_SERVER
    ) -> None:
        super().__init__(transport, server.ticks, limits, server.buffers)
        self._server = server

    def on_response(self, stream: Stream, block: bytes, end: bool) -> None:
        """Passes a response head to the tunnel."""
        fields = None
        if not passes_unread(block):
            try:
                fields = self.decode(block)
                check_block(block, fields)
            except HpackError:  # without a table that is its own stream's loss only
                self.refuse_answer(stream, "its head cannot be read")
                return
            if fields[:1] and fields[0][1].startswith(b"1"):  # informational: not for the client
                return
        stream.head_passed = True
        peer = stream.peer
        if peer is not None:
            peer.connection.relay_head(peer, block, end, fields)

    def send_data(self, stream: Stream, data: Bytes, size: int, end: bool) -> None:
        """Sends a piece of a request's body, and keeps it while it may have to be sent again."""
        front = stream.peer
        if front is not None and front.exchange is not None:
            resending.keep(front.exchange, self._server.buffers, data, size, end)
        super().send_data(stream, data, size, end)

    def connection_lost(self) -> None:
        """The socket is gone: those who have had no answer may go again."""
        if self.ready and not (self.closed or self.close_reason):  # and not ended by ourselves
            for stream in self.streams.values():
                resending.note_lost_connection(stream)
        super().connection_lost()

    def on_ready(self) -> None:
        """The API server's settings arrived: streams can be opened."""
        self._server.serve_waiting()

    def on_stream_closed(self, stream: Stream) -> None:
        """A place is free again."""
        if self._server.waiting:
            self._server.serve_waiting()

    def on_lost(self) -> None:
        """Forgets this connection."""
        self._server.forget(self)


class ApiServer:
    """The cluster's API server as the agent sees it.

    Args:
        credentials: who the agent itself is; asked for every request.
        answer: how to answer a request that cannot be forwarded.
        background: where dials run.
        dial: how to connect, if not by TLS to where `credentials` says.
    """

    def __init__(
        self,
        credentials: ApiServerCredentials,
        ticks: Ticks,
        buffers: BufferBudget,
        answer: Answer,
        background: Background,
        dial: Dial | None = None,
    ) -> None:
        self.ticks = ticks
        self.buffers = buffers
        self.waiting: deque[tuple[Stream, Request]] = deque()
        self._credentials = credentials
        self._answer = answer
        self._dial: Dial = ApiServerDial(credentials) if dial is None else dial
        self._room = WaitingRoom(buffers)
        self._connections: list[ApiServerHttp2] = []
        self._idle: list[ApiServerHttp1] = []
        self._dialling = False
        self._tasks = OwnedTasks(background)
        host = credentials.host
        literal = f"[{host}]" if ":" in host else host
        self._authority = f"{literal}:{credentials.port}".encode("ascii")
        self._authority_block = hpack_codec.literal(b":authority", self._authority)
        self._generation = credentials.generation
        self._credential = b""
        self._credential_block = b""
        self.reader = RequestReader(credentials.path_prefix.rstrip("/").encode("ascii"))
        """Of the requests that come through any tunnel."""
        self.owners = Owners(buffers)

    # -- requests

    def forward(self, front: Stream, request: Request) -> None:
        """Sends a request of the tunnel to the API server, at once where a connection is open."""
        if request.upgrade:
            self._later(front, request)
            return
        front.exchange = request  # until the answer begins
        for connection in self._connections:
            if connection.available:
                self._send_http2(connection, front, request)
                return
        if self._idle:
            self._send_http1(self._idle.pop(), front, request)
            return
        if len(self.waiting) >= _MAX_WAITING:
            self._answer(front, 503, "too many requests wait for the API server")
            return
        self.waiting.append((self._room.admit(front), request))
        self._ensure_dialling()

    def forward_again(self, front: Stream, refused: bool) -> bool:
        """Sends a request once more that got no answer, if that is certain to do no harm.

        Args:
            refused: the API server said that it did not take it.

        Returns:
            Whether it is under way again.
        """
        request = front.exchange
        if request is None or not resending.may_go_again(request, refused):
            return False
        log.info("request.sent_again", extra={"refused": refused})
        pieces = resending.take_body(request, self.buffers)
        self.forward(front, request)
        for piece, last in pieces:
            back = front.peer
            if back is not None:
                back.connection.send_data(back, piece, len(piece), last)
        return True

    def forget_body(self, front: Stream) -> None:
        """The answer of a request begins, or nobody waits for it any more."""
        request, front.exchange = front.exchange, None
        if request.attempt is not None:
            resending.forget(request.attempt, self.buffers)

    def serve_waiting(self) -> None:
        """Forwards what waited for a connection, as much as there is room for."""
        while self.waiting and (self._idle or any(it.available for it in self._connections)):
            stream, request = self.waiting.popleft()
            self._room.leave(stream, partial(self._forward_waiting, request))
        if self.waiting:
            self._ensure_dialling()

    def _forward_waiting(self, request: Request, front: Stream) -> None:
        try:
            self.forward(front, request)
        except Exception:  # noqa: BLE001  logged by `failed`
            _FORWARD.failed(front, _reset)  # it is one of many that waited

    def _send_http2(self, connection: ApiServerHttp2, front: Stream, request: Request) -> None:
        try:
            credential = self._credentials.authorization()
        except CredentialsGone as error:
            self._answer(front, 502, f"the agent is not authorised: {error}")
            return
        if credential != self._credential:
            self._credential = credential
            self._credential_block = hpack_codec.literal(b"authorization", credential)
        block = self._authority_block + request.block
        if credential:
            block += self._credential_block
        connection.open_joined(front, block, request.end)

    def _send_http1(self, connection: ApiServerHttp1, front: Stream, request: Request) -> None:
        try:
            credential = self._credentials.authorization()
        except CredentialsGone as error:
            self._answer(front, 502, f"the agent is not authorised: {error}")
            connection.transport.close()
            return
        method, target, fields = request_line(request)
        if request.own_origin:
            fields.append((b"origin", b"https://" + self._authority))
        if credential:
            fields.append((b"authorization", credential))
        connection.send_request(
            front,
            method,
            target,
            [(b"host", self._authority), *fields],
            length=request.length,
            end=request.end,
            upgrade=request.upgrade,
        )

    # -- connections

    def forget(self, connection: ApiServerHttp2) -> None:
        """A connection is gone. One that never spoke would do so again: nobody waits for that."""
        if connection in self._connections:
            self._connections.remove(connection)
        if not self.waiting:
            return
        if connection.ready:
            self._ensure_dialling()
        else:
            self._turn_away("the API server closed the connection before it spoke")

    def unauthorized(self) -> None:
        """The API server does not know the agent: read the credential again before the next use."""
        self._credentials.rejected()

    def close(self) -> None:
        """Ends everything, at the end of the agent."""
        self._tasks.cancel()
        legs: list[ApiServerHttp2 | ApiServerHttp1] = [*self._connections, *self._idle]
        _CLOSE.each(legs, _close)

    def second(self, elapsed: float) -> None:
        """Once a second: files that have changed; budgets and stalls of HTTP/2 connections."""
        self._follow_credentials()
        for connection in list(self._connections):
            try:
                connection.second(elapsed)
            except Exception:  # noqa: BLE001  logged by `failed`
                _SECOND.failed(connection, _abort)

    def _follow_credentials(self) -> None:
        """Connections of an older trust or client certificate get no new requests.

        A client certificate is the credential of a whole connection, and an API server refuses each
        request once it has expired. What is under way ends in peace.
        """
        self._credentials.refresh()
        if self._generation == self._credentials.generation:
            return
        self._generation = self._credentials.generation
        _CLOSE.each(list(self._connections), lambda it: it.drain())
        idle, self._idle = self._idle, []
        _CLOSE.each(idle, _close)

    def _ensure_dialling(self) -> None:
        if not self._dialling and not any(it.starting for it in self._connections):
            self._dialling = True
            self._tasks.start(
                "apiserver.dial",
                self._dial_for_waiting(),
                failed=lambda _: self._turn_away(_BROKEN),
            )

    async def _dial_for_waiting(self) -> None:
        try:
            connection = await self._dial(self._build, http2=True)
        except (DialError, OSError, ValueError) as error:
            self._turn_away(f"the API server cannot be reached: {error}")
            return
        finally:
            self._dialling = False
        if connection.closed:
            self._turn_away("the API server closed the connection at once")
        elif isinstance(connection, ApiServerHttp1):
            self._keep(self._generation, connection)
        else:
            self._connections.append(connection)
            self.serve_waiting()  # its settings may have come before this task was woken

    def _turn_away(self, reason: str) -> None:
        told = {"reason": reason, "waiting": len(self.waiting)}
        log.warning("apiserver.unreachable", extra=told)
        waiting, self.waiting = self.waiting, deque()
        for stream, _ in waiting:
            self._turn_one_away(stream, reason)

    def _turn_one_away(self, stream: Stream, reason: str) -> None:
        front = self._room.turn_away(stream)
        if front is None:
            return
        try:
            self._answer(front, 503, reason)
        except Exception:  # noqa: BLE001  logged by `failed`
            _TURN_AWAY.failed(front, _reset)

    def _build(self, transport: TlsTransport) -> ApiServerHttp2 | ApiServerHttp1:
        if transport.protocol == tls.HTTP2:
            return ApiServerHttp2(transport, self)
        return self._build_http1(transport)

    def _build_http1(self, transport: TlsTransport) -> ApiServerHttp1:
        return ApiServerHttp1(
            transport,
            self.ticks,
            self.buffers,
            on_idle=partial(self._keep, self._generation),
            on_lost=self._lose,
        )

    def _keep(self, generation: int, connection: Http1Upstream) -> None:
        assert isinstance(connection, ApiServerHttp1)  # all of them are
        fresh = generation == self._generation
        if fresh and len(self._idle) < _IDLE_HTTP1 and not self._connections:
            self._idle.append(connection)
        else:
            connection.transport.close()
        if self.waiting:
            self.serve_waiting()

    def _lose(self, connection: Http1Upstream) -> None:
        self._idle = [it for it in self._idle if it is not connection]

    def _later(self, front: Stream, request: Request) -> None:
        stream = self._room.admit(front)
        work: Work = self._dial_upgrade(stream, request)
        self._tasks.start(
            "apiserver.upgrade", work, failed=lambda _: self._turn_one_away(stream, _BROKEN)
        )

    async def _dial_upgrade(self, stream: Stream, request: Request) -> None:
        """A connection of its own for each upgrade: after the 101 it is no HTTP any more."""
        try:
            connection = await self._dial(self._build_http1, http2=False)
        except (DialError, OSError, ValueError) as error:
            self._turn_one_away(stream, f"the API server cannot be reached: {error}")
            return
        if stream.peer is None:
            connection.transport.close()
            return
        self._room.leave(stream, lambda front: self._send_http1(connection, front, request))


def _reset(front: Stream) -> None:
    front.connection.reset(front, ErrorCode.INTERNAL_ERROR)


def _abort(connection: ApiServerHttp2) -> None:
    connection.transport.abort()


def _close(connection: ApiServerHttp2 | ApiServerHttp1) -> None:
    connection.transport.close()
