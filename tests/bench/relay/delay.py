"""A long line: a TCP relay that delays each byte by a fixed time and may limit the rate.

`python -m tests.bench.relay.delay PORT TARGET_PORT SECONDS BYTES_PER_SECOND` (0: no limit), all on
127.0.0.1. It holds as much as the line would hold and stops reading beyond that, so a sender that
does not fill the line is slow, and one that does is not.
"""

import asyncio
import sys
from collections import deque
from typing import Any, cast

import uvloop

_SLACK = 1 << 20
"""Bytes that wait in front of the line, as in a router's queue."""
_UNLIMITED = 64 << 20
"""Bytes on a line without a limit."""


class Direction:
    """Bytes on their way from one socket to the other."""

    def __init__(self, source: "End", sink: "End", seconds: float, rate: float) -> None:
        self._source = source
        self._sink = sink
        self._seconds = seconds
        self._rate = rate
        self._most = rate * seconds + _SLACK if rate else _UNLIMITED
        self._line: deque[tuple[float, bytes]] = deque()
        self._held = 0
        self._last = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.stuck = False
        """The sink takes nothing at the moment."""

    def enter(self, data: bytes) -> None:
        """Bytes come in; none means the end."""
        now = asyncio.get_running_loop().time()
        self._last = max(self._last, now) + (len(data) / self._rate if self._rate else 0.0)
        self._line.append((self._last + self._seconds, data))
        self._held += len(data)
        if self._held > self._most:
            self._source.transport.pause_reading()
        if self._timer is None:
            self.leave()

    def leave(self) -> None:
        """Hands on what has arrived by now."""
        loop = asyncio.get_running_loop()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        while self._line and self._line[0][0] <= loop.time() and not self.stuck:
            _, data = self._line.popleft()
            self._held -= len(data)
            if not data:
                self._sink.transport.close()
                return
            self._sink.transport.write(data)
        if self._held <= self._most and not self._source.transport.is_closing():
            self._source.transport.resume_reading()
        if self._line and not self.stuck:
            self._timer = loop.call_at(self._line[0][0], self.leave)


class End(asyncio.Protocol):
    """One of the two sockets."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport
        self.early: list[bytes] = []
        """What came before the other socket was there."""
        self.out: Direction | None = None
        self.incoming: Direction | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(1 << 20)

    def data_received(self, data: bytes) -> None:
        if self.out is None:
            self.early.append(data)
        else:
            self.out.enter(data)

    def connection_lost(self, error: Exception | None) -> None:
        self.data_received(b"")

    def pause_writing(self) -> None:
        if self.incoming is not None:
            self.incoming.stuck = True

    def resume_writing(self) -> None:
        if self.incoming is not None:
            self.incoming.stuck = False
            self.incoming.leave()


class Entrance(End):
    """The socket of who dials."""

    def __init__(self, target: int, seconds: float, rate: float) -> None:
        super().__init__()
        self._target = target
        self._line = seconds, rate
        self._task: asyncio.Task[None]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._task = asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        try:
            loop = asyncio.get_running_loop()
            _, other = await loop.create_connection(End, "127.0.0.1", self._target)
        except OSError:
            self.transport.abort()
            return
        self.out = other.incoming = Direction(self, other, *self._line)
        other.out = self.incoming = Direction(other, self, *self._line)
        for data in self.early:
            self.out.enter(data)


async def _serve(port: int, target: int, seconds: float, rate: float) -> None:
    loop = asyncio.get_running_loop()
    made: Any = lambda: Entrance(target, seconds, rate)  # noqa: E731  one line is what it is
    server = await loop.create_server(made, "127.0.0.1", port, backlog=128)
    await server.serve_forever()


if __name__ == "__main__":
    here, there, delay, limit = sys.argv[1:5]
    uvloop.run(_serve(int(here), int(there), float(delay), float(limit)))
