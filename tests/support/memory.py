"""Connections without sockets: a transport in memory, ticks turned by hand, frames as values.

The frame reader and the builders are written from RFC 9113 and share nothing with the code under
test but the HPACK library, which is the pure Python one here. A test reads as a transcript::

    peer.send(headers(1, GET), data(1, b"x", end=True))
    assert peer.read() == [HeadersFrame(1, ...), DataFrame(1, b"x", end=True)]
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import hpack

from mk8s_agent.wire.ticks import Ticks

Fields = list[tuple[bytes, bytes]]
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
KINDS = (
    "DATA", "HEADERS", "PRIORITY", "RST_STREAM", "SETTINGS", "PUSH_PROMISE", "PING", "GOAWAY",
    "WINDOW_UPDATE", "CONTINUATION",
)  # fmt: skip
NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR = range(4)
STREAM_CLOSED, FRAME_SIZE_ERROR, REFUSED_STREAM, CANCEL, COMPRESSION_ERROR = range(5, 10)
ENHANCE_YOUR_CALM = 11


class MemoryTransport:
    """What a connection writes stays here until `take`."""

    def __init__(self) -> None:
        self.written = bytearray()
        self.total = 0
        self.full = False
        """What `write` answers: whether the writer should wait for `writable`."""
        self.closed = False
        self.aborted = False
        self.reading = True
        self.clean_end = False
        """What the socket says of how its peer closed."""
        self.peer_address = "192.0.2.7"
        self.on_write: Callable[[], None] | None = None

    def write(self, data: bytes) -> bool:
        if not self.closed and not self.aborted:
            self.written += data
            self.total += len(data)
        return self.full

    def take(self) -> bytes:
        taken = bytes(self.written)
        self.written.clear()
        return taken

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    @property
    def gone(self) -> bool:
        return self.closed or self.aborted


class HandTicks(Ticks):
    """Ticks that pass when a test says so."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], None]] = []
        super().__init__(self.calls.append)

    def turn(self) -> None:
        """Runs ticks until nothing more is due."""
        for _ in range(10_000):
            if not self.calls:
                return
            calls, self.calls[:] = list(self.calls), []
            for call in calls:
                call()
        raise AssertionError("the ticks never come to rest")


# -- building frames


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return (
        len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload
    )


def data(stream: int, body: bytes = b"", *, end: bool = False, padding: int | None = None) -> bytes:
    flags = int(end)
    if padding is not None:
        return frame(0, flags | 8, stream, bytes((padding,)) + body + bytes(padding))
    return frame(0, flags, stream, body)


def settings(values: dict[int, int] | None = None) -> bytes:
    pairs = (values or {}).items()
    payload = b"".join(key.to_bytes(2, "big") + value.to_bytes(4, "big") for key, value in pairs)
    return frame(4, 0, 0, payload)


SETTINGS_ACK = frame(4, 1, 0)


def ping(payload: bytes = b"12345678", *, ack: bool = False) -> bytes:
    return frame(6, int(ack), 0, payload)


def window_update(stream: int, increment: int) -> bytes:
    return frame(8, 0, stream, increment.to_bytes(4, "big"))


def rst_stream(stream: int, code: int = CANCEL) -> bytes:
    return frame(3, 0, stream, code.to_bytes(4, "big"))


def goaway(last: int, code: int = NO_ERROR) -> bytes:
    return frame(7, 0, 0, last.to_bytes(4, "big") + code.to_bytes(4, "big"))


def priority(stream: int, dependency: int = 0) -> bytes:
    return frame(2, 0, stream, dependency.to_bytes(4, "big") + b"\x10")


def head(stream: int, block: bytes, *, end: bool = False, pieces: int = 1) -> bytes:
    """HEADERS of an encoded block, cut into `pieces` frames."""
    size = -(-len(block) // pieces) or 1
    parts = [block[at : at + size] for at in range(0, len(block), size)] or [b""]
    out = b""
    for number, part in enumerate(parts):
        last = 4 if number == len(parts) - 1 else 0
        out += frame(9, last, stream, part) if number else frame(1, last | int(end), stream, part)
    return out


def stateless(fields: Fields) -> bytes:
    """A block of literals without indexing, as tunnels carry them."""
    encoder = hpack.Encoder()
    encoder.header_table_size = 0
    encoder.encode([])  # the update of the table's size, which no later block repeats
    return bytes(encoder.encode([(n, v, True) for n, v in fields], huffman=False))


def headers(stream: int, fields: Fields, *, end: bool = False, pieces: int = 1) -> bytes:
    """HEADERS with a stateless block."""
    return head(stream, stateless(fields), end=end, pieces=pieces)


# -- reading frames


class Frame(NamedTuple):
    """A frame as it was seen. `value` depends on the kind; HEADERS are whole blocks, decoded."""

    kind: str
    stream: int = 0
    value: Any = None
    end: bool = False


class FrameReader:
    """Cuts what a connection wrote into frames."""

    def __init__(self, *, preface: bool = False) -> None:
        self._buffer = b""
        self._preface = preface
        self._decoder = hpack.Decoder(1 << 24)
        self._block: tuple[int, bool, bytes] | None = None
        self.sizes: list[tuple[str, int]] = []
        """Kind and payload length of every frame, CONTINUATION included."""

    def feed(self, data: bytes) -> list[Frame]:
        self._buffer += data
        if self._preface and len(self._buffer) >= len(PREFACE):
            assert self._buffer.startswith(PREFACE)
            self._buffer = self._buffer[len(PREFACE) :]
            self._preface = False
        return [] if self._preface else list(self._frames())

    def _frames(self) -> Iterator[Frame]:
        while len(self._buffer) >= 9:
            size = int.from_bytes(self._buffer[:3], "big")
            if len(self._buffer) < 9 + size:
                return
            kind, flags = self._buffer[3], self._buffer[4]
            stream = int.from_bytes(self._buffer[5:9], "big")
            payload = self._buffer[9 : 9 + size]
            self._buffer = self._buffer[9 + size :]
            self.sizes.append((KINDS[kind], size))
            seen = self._frame(KINDS[kind], flags, stream, payload)
            if seen is not None:
                yield seen

    def _frame(self, kind: str, flags: int, stream: int, payload: bytes) -> Frame | None:
        if self._block is not None:
            assert kind == "CONTINUATION", f"{kind} inside a header block"
        match kind:
            case "DATA":
                return Frame(kind, stream, payload, bool(flags & 1))
            case "HEADERS":
                return self._add(stream, bool(flags & 1), payload, last=bool(flags & 4))
            case "CONTINUATION":
                assert self._block is not None
                assert self._block[0] == stream
                joined = self._block[2] + payload
                return self._add(stream, self._block[1], joined, last=bool(flags & 4))
            case "SETTINGS":
                if flags & 1:
                    return Frame("SETTINGS ACK")
                pairs = [payload[at : at + 6] for at in range(0, len(payload), 6)]
                values = {int.from_bytes(p[:2], "big"): int.from_bytes(p[2:], "big") for p in pairs}
                return Frame(kind, stream, values)
            case "GOAWAY":
                last, code = int.from_bytes(payload[:4], "big"), int.from_bytes(payload[4:8], "big")
                return Frame(kind, last, code)
            case "PING":
                return Frame("PING ACK" if flags & 1 else kind, stream, payload)
            case _:
                return Frame(kind, stream, int.from_bytes(payload, "big"))

    def _add(self, stream: int, end: bool, block: bytes, *, last: bool) -> Frame | None:
        if not last:
            self._block = (stream, end, block)
            return None
        self._block = None
        fields = [(bytes(n), bytes(v)) for n, v in self._decoder.decode(block, raw=True)]
        return Frame("HEADERS", stream, fields, end)


def bodies(frames: list[Frame]) -> dict[int, bytes]:
    """The DATA of each stream, joined."""
    joined: dict[int, bytes] = {}
    for seen in frames:
        if seen.kind == "DATA":
            joined[seen.stream] = joined.get(seen.stream, b"") + seen.value
    return joined


def kinds(frames: list[Frame]) -> list[str]:
    return [seen.kind for seen in frames]


def ended(frames: list[Frame]) -> set[int]:
    """Streams that ended as complete messages."""
    return {seen.stream for seen in frames if seen.end}


def status(seen: Frame) -> int:
    """The status of a response head."""
    assert seen.kind == "HEADERS", seen
    assert seen.value[0][0] == b":status", seen
    return int(seen.value[0][1])


def goaway_code(frames: list[Frame]) -> int:
    """The error of the GOAWAY that must be there."""
    [code] = [seen.value for seen in frames if seen.kind == "GOAWAY"]
    return int(code)


class Peer:
    """The far end of an HTTP/2 connection, played by the test."""

    def __init__(
        self, connection: Any, transport: MemoryTransport, ticks: HandTicks, *, server: bool = False
    ) -> None:
        self.connection = connection
        self.transport = transport
        self.ticks = ticks
        self.reader = FrameReader(preface=server)
        """`server`: the peer is the server, so what it reads begins with the preface."""

    def greet(self, values: dict[int, int] | None = None) -> list[Frame]:
        """The peer's first flight, preface included when it is the client."""
        preface = b"" if self.reader._preface else PREFACE
        return self.send(preface + settings(values), SETTINGS_ACK)

    def send(self, *frames: bytes) -> list[Frame]:
        """Everything in one read of the socket, then the tick ends; gives what came back."""
        self.connection.receive(b"".join(frames))
        return self.read()

    def read(self) -> list[Frame]:
        """What the connection has written by now."""
        self.ticks.turn()
        return self.reader.feed(self.transport.take())
