"""The load generator's HTTP/2 client: precomposed header blocks out, counted bodies in.

Used by `load`. It advertises no HPACK table, so that every response block can be judged by its
first byte, and windows as Go's client has them (4 MiB a stream).
"""

from collections.abc import Callable
from time import perf_counter
from typing import Any

from mk8s_agent.wire import hpack_codec
from mk8s_agent.wire.http2.frames import (
    ACK,
    DATA,
    DEFAULT_WINDOW,
    ENABLE_PUSH,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADER_TABLE_SIZE,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    PING,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    frame,
    settings,
    unpack_header,
    window_update,
)
from tests.bench.relay.load_sockets import LoadError, TlsSocket

STREAM_WINDOW = 4 << 20
_CONNECTION_WINDOW = 1 << 30
_STATUS_200 = 0x88

Done = Callable[[Any, float, int, float], None]
"""Told of each response: connection, its start, the body's bytes, its end."""


class Http2Load:
    """One connection with many streams."""

    def __init__(self, tls: TlsSocket, done: Done, began: Callable[[], None]) -> None:
        if tls.protocol != "h2":
            raise LoadError(f"the server speaks {tls.protocol!r}, not h2")
        self.tls = tls
        self._done = done
        self._began = began
        self._next = 1
        self._tail = b""
        self._out: list[bytes] = []
        self._open: dict[int, float] = {}
        self._bodies: dict[int, int] = {}
        self._credits: dict[int, int] = {}
        self._credit = 0
        self._decoder = hpack_codec.Decoder(0, 1 << 20)
        first = {HEADER_TABLE_SIZE: 0, ENABLE_PUSH: 0, INITIAL_WINDOW_SIZE: STREAM_WINDOW}
        window = _CONNECTION_WINDOW - DEFAULT_WINDOW
        tls.write(PREFACE + settings(first) + window_update(0, window))

    @property
    def open_streams(self) -> int:
        """Requests in flight."""
        return len(self._open)

    def request(self, block: bytes, now: float) -> None:
        """Queues a request whose head is this block."""
        stream = self._next
        self._next = stream + 2
        self._open[stream] = now
        self._out.append(frame(HEADERS, END_HEADERS | END_STREAM, stream, block))

    def flush(self) -> None:
        """Sends what is queued."""
        if self._out or self.tls.waiting:
            self.tls.write(b"".join(self._out))
            self._out.clear()

    def readable(self) -> None:
        """Bytes arrived."""
        data = self.tls.read()
        if self._tail:
            data = self._tail + data
        position, size, now = 0, len(data), perf_counter()
        while size - position >= 9:
            high, low, kind, flags, stream = unpack_header(data, position)
            length = high << 8 | low
            end = position + 9 + length
            if end > size:
                break
            if kind == DATA:
                self._body(stream, length, flags, now)
            elif kind == HEADERS:
                self._head(stream, data[position + 9 : end], flags, now)
            else:
                self._control(kind, flags, data[position + 9 : end])
            position = end
        self._tail = data[position:]
        self.flush()

    def _body(self, stream: int, length: int, flags: int, now: float) -> None:
        self._bodies[stream] = self._bodies.get(stream, 0) + length
        self._credit += length
        if self._credit > _CONNECTION_WINDOW >> 2:
            self._out.append(window_update(0, self._credit))
            self._credit = 0
        if flags & END_STREAM:
            self._end(stream, now)
        elif length:
            credit = self._credits.get(stream, 0) + length
            if credit > STREAM_WINDOW >> 1:
                self._out.append(window_update(stream, credit))
                credit = 0
            self._credits[stream] = credit

    def _head(self, stream: int, block: bytes, flags: int, now: float) -> None:
        if block[0] != _STATUS_200 and stream not in self._bodies:
            status = dict(self._decoder.decode(block)).get(b":status")
            if status != b"200":
                raise LoadError(f"status {status!r} on stream {stream}")
        self._bodies.setdefault(stream, 0)
        self._began()
        if flags & END_STREAM:
            self._end(stream, now)

    def _end(self, stream: int, now: float) -> None:
        self._credits.pop(stream, None)
        self._done(self, self._open.pop(stream), self._bodies.pop(stream), now)

    def _control(self, kind: int, flags: int, payload: bytes) -> None:
        if kind == SETTINGS and not flags & ACK:
            self._out.append(frame(SETTINGS, ACK, 0))
        elif kind == PING and not flags & ACK:
            self._out.append(frame(PING, ACK, 0, payload))
        elif kind in (RST_STREAM, GOAWAY):
            name = "RST_STREAM" if kind == RST_STREAM else "GOAWAY"
            raise LoadError(f"{name} {payload[:80]!r}")
