"""From the listener to the management API: one more upstream, on a private Unix socket.

The API is an aiohttp application in this process. Going through a socket keeps the listener the
only place that speaks HTTP with clients, and the API an ordinary web application.
"""

# interpreted: a door to sockets, it waits more than it works

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final

from mk8s_agent.wire.background import Background, OwnedTasks
from mk8s_agent.wire.bulkhead import Bulkhead
from mk8s_agent.wire.http1_upstream import Http1Upstream
from mk8s_agent.wire.limits import KIB, BufferBudget
from mk8s_agent.wire.stream import Bytes, Stream
from mk8s_agent.wire.ticks import Ticks
from mk8s_agent.wire.transport import Connection, SocketTransport
from mk8s_agent.wire.waiting import WaitingRoom
from mk8s_proxy.chain.problem import answer_problem
from mk8s_proxy.kube.status import bad_gateway, status_error
from mk8s_proxy.listener.exchange import Exchange

log = logging.getLogger(__name__)

SOURCE_HEADER: Final = b"x-mk8s-source-ip"
_IDLE: Final = 32
_UPLOADS: Final = 256
"""Requests whose body is not whole yet: anybody may begin them without a credential, a hundred on
a connection. The API hears nothing of them, and the oldest makes room: bodies are there at once."""
_WHOLE_BYTES: Final = 64 * KIB
"""Of a body that is kept; a longer one follows its request as it comes."""
_CLOSE: Final = Bulkhead("management.close")


class Uploads(WaitingRoom):
    """Keeps requests until their bodies are whole: slow ones hold no connection of the API.

    Args:
        begin: told of a request that need not wait any longer, at most once.
    """

    def __init__(self, buffers: BufferBudget, begin: Callable[[Stream, Exchange], None]) -> None:
        super().__init__(buffers)
        self._begin = begin
        self._incomplete: dict[Stream, Exchange] = {}

    def __len__(self) -> int:
        """Requests whose body is not whole."""
        return len(self._incomplete)

    def wait_for_body(self, exchange: Exchange) -> None:
        """One more; where there are too many, the oldest makes room."""
        if len(self._incomplete) >= _UPLOADS:
            oldest = next(iter(self._incomplete))
            there = self._incomplete.pop(oldest)
            if self.turn_away(oldest) is not None:
                answer_problem(there, status_error(408, "the body of the request did not come"))
        self._incomplete[self.admit(exchange.front)] = exchange

    def send_data(self, stream: Stream, data: Bytes, size: int, end: bool) -> None:
        """Keeps a piece of a body; the last one lets its request go on."""
        super().send_data(stream, data, size, end)
        if end or stream.pending_bytes >= _WHOLE_BYTES:
            exchange = self._incomplete.pop(stream, None)
            if exchange is not None:
                self._begin(stream, exchange)

    def end_both(self, stream: Stream, code: int) -> None:
        """There is no memory for the body."""
        self._incomplete.pop(stream, None)
        super().end_both(stream, code)

    def reset(self, stream: Stream, code: int) -> None:
        """The client has gone."""
        self._incomplete.pop(stream, None)
        super().reset(stream, code)


class Management:
    """Forwards requests to the application behind `socket_path`."""

    def __init__(
        self, socket_path: Path, ticks: Ticks, buffers: BufferBudget, background: Background
    ) -> None:
        self._path = str(socket_path)
        self._ticks = ticks
        self._buffers = buffers
        self._room = Uploads(buffers, self._begin)
        self._idle: list[Http1Upstream] = []
        self._tasks = OwnedTasks(background)

    def forward(self, exchange: Exchange) -> None:
        """Sends a request to the API. The API writes the audit rows of what it does itself."""
        exchange.settled = True
        if not exchange.front.remote_closed:
            self._room.wait_for_body(exchange)
        elif self._idle:
            self._send(self._idle.pop(), exchange, bodiless=True)
        else:
            self._dial(self._room.admit(exchange.front), exchange, bodiless=True)

    def _begin(self, waiting: Stream, exchange: Exchange) -> None:
        """The body of a request has come, or so much of it that it is not waited for."""
        if self._idle:
            connection = self._idle.pop()
            self._room.leave(waiting, lambda _: self._send(connection, exchange, bodiless=False))
        else:
            self._dial(waiting, exchange, bodiless=False)

    def _dial(self, waiting: Stream, exchange: Exchange, *, bodiless: bool) -> None:
        self._tasks.start(
            "management.connect",
            self._connect(waiting, exchange, bodiless=bodiless),
            failed=lambda _: self._turn_away(waiting, exchange),
            fields={"audit_id": exchange.entry.audit_id},
        )

    def _send(self, connection: Http1Upstream, exchange: Exchange, *, bodiless: bool) -> None:
        head = exchange.head
        fields = [
            (b"host", head.authority),
            (SOURCE_HEADER, exchange.entry.source_ip.encode("ascii", "replace")),
            *((name, value) for name, value in head.forwarded if name != SOURCE_HEADER),
        ]
        if head.authorization:
            fields.append((b"authorization", head.authorization))
        if head.cookie:
            fields.append((b"cookie", head.cookie))
        connection.send_request(
            exchange.front,
            head.method,
            head.target,
            fields,
            length=head.content_length,
            end=bodiless,
        )

    async def _connect(self, waiting: Stream, exchange: Exchange, *, bodiless: bool) -> None:
        made: list[Http1Upstream] = []

        def make(transport: SocketTransport) -> Connection:
            connection = Http1Upstream(
                transport, self._ticks, self._buffers, on_idle=self._keep, on_lost=self._lose
            )
            made.append(connection)
            return connection

        try:
            async with asyncio.timeout(5):
                loop = asyncio.get_running_loop()
                await loop.create_unix_connection(lambda: SocketTransport(make), self._path)
        except (OSError, TimeoutError):
            log.exception("management.unreachable")
            self._turn_away(waiting, exchange)
            return
        self._room.leave(waiting, lambda _: self._send(made[0], exchange, bodiless=bodiless))

    def _turn_away(self, waiting: Stream, exchange: Exchange) -> None:
        if self._room.turn_away(waiting) is not None:
            answer_problem(exchange, bad_gateway("the management API does not answer"))

    def _keep(self, connection: Http1Upstream) -> None:
        if len(self._idle) < _IDLE:
            self._idle.append(connection)
        else:
            connection.transport.close()

    def _lose(self, connection: Http1Upstream) -> None:
        if connection in self._idle:
            self._idle.remove(connection)

    def close(self) -> None:
        """Ends all connections to the API."""
        self._tasks.cancel()
        _CLOSE.each(self._idle, lambda connection: connection.transport.close())
