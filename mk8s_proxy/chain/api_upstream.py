"""From the listener to the management API: one more upstream, on a private Unix socket.

The API is an aiohttp application in this process. Going through a socket keeps the listener the
only place that speaks HTTP with clients, and the API an ordinary web application.
"""

import asyncio
import logging
from pathlib import Path
from typing import Final

from mk8s_agent.wire.background import Background, OwnedTasks
from mk8s_agent.wire.bulkhead import Bulkhead
from mk8s_agent.wire.http1_upstream import Http1Upstream
from mk8s_agent.wire.http2.frames import ErrorCode
from mk8s_agent.wire.limits import BufferBudget
from mk8s_agent.wire.stream import Stream, part
from mk8s_agent.wire.ticks import Ticks
from mk8s_agent.wire.transport import Connection, SocketTransport
from mk8s_agent.wire.waiting import WaitingRoom
from mk8s_proxy.kube.status import bad_gateway
from mk8s_proxy.listener.exchange import Exchange

log = logging.getLogger(__name__)

SOURCE_HEADER: Final = b"x-mk8s-source-ip"
_IDLE: Final = 32
_UPLOADS: Final = 256
"""Requests whose body is not complete yet. Each holds two file descriptors, and anybody may begin
them without a credential, a hundred on a connection; a body of ours is there at once."""
_CLOSE: Final = Bulkhead("management.close")


class Management:
    """Forwards requests to the application behind `socket_path`."""

    def __init__(
        self, socket_path: Path, ticks: Ticks, buffers: BufferBudget, background: Background
    ) -> None:
        self._path = str(socket_path)
        self._ticks = ticks
        self._buffers = buffers
        self._room = WaitingRoom(buffers)
        self._idle: list[Http1Upstream] = []
        self._uploads: dict[Stream, None] = {}
        """Fronts as they came; those that are complete are taken out where there is no room."""
        self._tasks = OwnedTasks(background)

    def forward(self, exchange: Exchange) -> None:
        """Sends a request to the API. The API writes the audit rows of what it does itself."""
        exchange.settled = True
        bodiless = exchange.front.remote_closed
        if not bodiless:
            self._count_upload(exchange.front)
        if self._idle:
            self._send(self._idle.pop(), exchange, bodiless=bodiless)
            return
        waiting = self._room.admit(exchange.front)
        self._tasks.start(
            "management.connect",
            self._connect(waiting, exchange, bodiless=bodiless),
            failed=lambda _: self._turn_away(waiting, exchange),
            fields={"audit_id": exchange.entry.audit_id},
        )

    def _count_upload(self, new: Stream) -> None:
        """One more; where there are too many, the oldest that is not complete makes room."""
        if len(self._uploads) >= _UPLOADS:
            self._uploads = {
                it: None for it in self._uploads if not (it.remote_closed or it.local_closed)
            }
        if len(self._uploads) >= _UPLOADS:
            front = next(iter(self._uploads))
            del self._uploads[front]
            back = part(front)
            if back is not None:
                back.connection.reset(back, ErrorCode.CANCEL)
            fields = [(b"content-type", b"text/plain")]
            front.connection.answer(front, 408, fields, b"the body of the request did not come")
        self._uploads[new] = None

    def _send(self, connection: Http1Upstream, exchange: Exchange, *, bodiless: bool) -> None:
        head = exchange.head
        fields = [
            (b"host", head.authority),
            (SOURCE_HEADER, exchange.entry.source_ip.encode("ascii", "replace")),
            *((name, value) for name, value in head.forwarded if name != SOURCE_HEADER),
        ]
        if head.authorization:
            fields.append((b"authorization", head.authorization))
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
        if self._room.turn_away(waiting) is None:
            return
        message = bad_gateway("the management API does not answer").message.encode()
        fields = [(b"content-type", b"text/plain")]
        exchange.front.connection.answer(exchange.front, 502, fields, message)

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
