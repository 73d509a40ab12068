"""The attackers' tools: raw connections, frames and heads; everything that is sent is counted.

Blocking sockets: an attacker is a process of its own (`attacker`), niced, since a real one brings
his own machine.
"""

import json
import select
import socket
import ssl
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mk8s_agent.wire import hpack_codec
from mk8s_agent.wire.http2 import frames

Fields = list[tuple[bytes, bytes]]
DATA, HEADERS, RST, GOAWAY = frames.DATA, frames.HEADERS, frames.RST_STREAM, frames.GOAWAY
ENDS = frames.END_HEADERS | frames.END_STREAM
SMALL = "/api/v1/namespaces/default/configmaps/item"
_PATIENCE = 15.0
BYTES_PER_SECOND = 10 << 20
"""An attacker has a line of 100 Mbit/s: what fills more is a matter of lines and balancers."""


@dataclass(frozen=True, slots=True)
class World:
    """Where everything is: given to the attackers as JSON."""

    port: int
    authority: str
    tokens: dict[str, str]
    stub_port: int
    folder: str
    cluster: str = "prod"
    quick: bool = False

    def save(self, file: Path) -> None:
        """Writes it, for this user only: tokens are in it."""
        file.touch(mode=0o600)
        file.write_text(json.dumps(asdict(self)))

    @staticmethod
    def load(file: Path) -> "World":
        """Reads it."""
        return World(**json.loads(file.read_text()))

    def target(self, path: str, cluster: str = "") -> bytes:
        """A Kubernetes path through central."""
        return f"/k8s/{cluster or self.cluster}{path}".encode()

    def context(self, *protocols: str) -> ssl.SSLContext:
        """TLS that trusts this central only."""
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        made.load_verify_locations(self.authority)
        if protocols:
            made.set_alpn_protocols(list(protocols))
        return made


class Gone(OSError):
    """Central ended the connection; the text says how."""


@dataclass
class Counts:
    """What an attacker did and was answered."""

    connections: int = 0
    requests: int = 0
    sent: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    """Status codes, resets, and whatever an attack counts itself."""
    ends: Counter[str] = field(default_factory=Counter)
    """How connections were ended by central."""
    failed: int = 0
    """Connections that were not to be had."""
    start: float = field(default_factory=time.monotonic)


class Attacker:
    """One attack's hands.

    Args:
        world: where central is.
        seconds: how long it may go on.
        clock: monotonic seconds.
    """

    def __init__(
        self, world: World, seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.world = world
        self.counts = Counts()
        self._clock = clock
        self._start = clock()
        self._end = self._start + seconds
        self._contexts: dict[tuple[str, ...], ssl.SSLContext] = {}
        self._paced: dict[str, int] = {}

    @property
    def going(self) -> bool:
        """Whether there is time left."""
        return self._clock() < self._end

    def pace(self, rate: float, what: str = "") -> bool:
        """Waits until one more of `what` is due at so many a second; False when time is over."""
        done = self._paced[what] = self._paced.get(what, 0) + 1
        wait = self._start + done / rate - self._clock()
        if wait > 0:
            time.sleep(min(wait, max(0.0, self._end - self._clock())))
        return self.going

    def tcp(self, source: str = "127.0.9.9", receive_buffer: int = 0) -> socket.socket:
        """A connection without TLS, from an address of loopback of the attacker's own."""
        made = socket.socket()
        if receive_buffer:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        made.settimeout(_PATIENCE)
        try:
            made.bind((source, 0))
            made.connect(("127.0.0.1", self.world.port))
        except OSError:
            made.close()
            self.counts.failed += 1
            raise
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.counts.connections += 1
        return made

    def tls(self, *protocols: str, source: str = "127.0.9.9", receive_buffer: int = 0) -> "Tls":
        """A connection with TLS."""
        if protocols not in self._contexts:
            self._contexts[protocols] = self.world.context(*protocols)
        plain = self.tcp(source, receive_buffer)
        try:
            made = self._contexts[protocols].wrap_socket(plain, server_hostname="localhost")
        except OSError:
            plain.close()
            self.counts.failed += 1
            raise
        return Tls(made, self.counts)

    def http2(
        self,
        settings: dict[int, int] | None = None,
        *,
        source: str = "127.0.9.9",
        receive_buffer: int = 0,
    ) -> "Http2":
        """An HTTP/2 connection, its preface sent."""
        made = self.tls("h2", source=source, receive_buffer=receive_buffer)
        return Http2(made, settings or {}, self.counts)

    def head(
        self,
        path: str,
        user: str | None = None,
        *,
        method: bytes = b"GET",
        more: Iterable[tuple[bytes, bytes]] = (),
        cluster: str = "",
    ) -> Fields:
        """The fields of a request, as `user` or as a stranger."""
        target = path.encode() if user is None else self.world.target(path, cluster)
        return self.fields(target, user, method=method, more=more)

    def fields(
        self,
        target: bytes,
        user: str | None,
        *,
        method: bytes = b"GET",
        more: Iterable[tuple[bytes, bytes]] = (),
    ) -> Fields:
        """The fields of a request to a whole target."""
        made = [
            (b":method", method), (b":scheme", b"https"),
            (b":authority", b"localhost"), (b":path", target),
        ]  # fmt: skip
        if user is not None:
            made.append((b"authorization", b"Bearer " + self.world.tokens[user].encode()))
        return [*made, *more]

    def head1(self, path: str, user: str | None, *lines: str, method: str = "GET") -> bytes:
        """A whole HTTP/1.1 head."""
        target = path if user is None else self.world.target(path).decode()
        first = [f"{method} {target} HTTP/1.1", "Host: localhost", *lines]
        if user is not None:
            first.append(f"Authorization: Bearer {self.world.tokens[user]}")
        return ("\r\n".join(first) + "\r\n\r\n").encode()

    def rounds(self, one: Callable[["Attacker"], None], rate: float = 40.0) -> None:
        """Connection after connection, so many a second, until the time is over."""
        while self.pace(rate, "connections"):
            try:
                one(self)
            except Gone as reason:
                self.counts.ends[str(reason)] += 1
            except OSError as error:
                self.counts.ends[type(error).__name__] += 1


class Tls:
    """A TLS socket whose bytes are counted."""

    def __init__(self, raw: ssl.SSLSocket, counts: Counts) -> None:
        self.raw = raw
        self._counts = counts

    def send(self, data: bytes) -> None:
        """Sends all of it, no faster than an attacker's line. Raises OSError."""
        self._counts.sent += len(data)
        wait = self._counts.start + self._counts.sent / BYTES_PER_SECOND - time.monotonic()
        if wait > 0.002:
            time.sleep(min(wait, 1.0))
        self.raw.sendall(data)

    def receive(self, seconds: float) -> bytes:
        """What comes first; b"" at the end. Raises TimeoutError, OSError."""
        self.raw.settimeout(max(seconds, 0.001))
        try:
            return self.raw.recv(256 * 1024)
        except ssl.SSLWantReadError:
            raise TimeoutError from None
        finally:
            self.raw.settimeout(_PATIENCE)

    def answer(self, seconds: float = 5.0) -> tuple[str, bytes]:
        """The status of an HTTP/1.1 answer ("closed", "silent" without one), and all that came."""
        data, deadline = b"", time.monotonic() + seconds
        while not _is_whole(data) and (left := deadline - time.monotonic()) > 0:
            try:
                piece = self.receive(left)
            except TimeoutError:
                break
            except OSError:
                piece = b""
            if not piece:
                return _status(data) or "closed", data
            data += piece
        return _status(data) or "silent", data

    def is_open(self) -> bool:
        """Whether central has not closed it."""
        try:
            return bool(self.receive(0.001))
        except TimeoutError:
            return True
        except OSError:
            return False

    def close(self) -> None:
        """Closes at once."""
        self.raw.close()


def _status(data: bytes) -> str:
    return data[9:12].decode("latin-1") if data.startswith(b"HTTP/1.1 ") else ""


def _is_whole(data: bytes) -> bool:
    head, end, body = data.partition(b"\r\n\r\n")
    if not end:
        return False
    lower = head.lower()
    if b"content-length: " in lower:
        length = lower.partition(b"content-length: ")[2].partition(b"\r")[0]
        return len(body) >= int(length)
    return body.endswith(b"0\r\n\r\n") or lower.startswith(b"http/1.1 101")


class Http2:
    """The client's end of an HTTP/2 connection that may break every rule."""

    def __init__(self, tls: Tls, settings: dict[int, int], counts: Counts) -> None:
        self.tls = tls
        self.statuses: dict[int, str] = {}
        """Of each stream that was answered."""
        self.ended: dict[int, str] = {}
        """Of each stream that ended: "end", or the code of its reset."""
        self.bodies: dict[int, bytes] = {}
        """The first bytes of each answer."""
        self.received = 0
        self.reads_windows = True
        """Gives credit back for what it reads."""
        self._counts = counts
        self._next = 1
        self._data = b""
        self._decoder = hpack_codec.Decoder(4096, 1 << 22)
        self._block = b""
        self.send(frames.PREFACE, frames.settings(settings))

    def send(self, *pieces: bytes) -> None:
        """Frames, whatever they are. Raises OSError."""
        try:
            self.tls.send(b"".join(pieces))
        except OSError:
            self.drain(0.3)  # the GOAWAY says more than the broken pipe
            raise

    def stream(self) -> int:
        """The next stream's number."""
        number, self._next = self._next, self._next + 2
        return number

    def request(self, fields: Fields, flags: int = ENDS) -> int:
        """Sends a request; its stream."""
        number = self.stream()
        self.send(request_frames(number, hpack_codec.block(fields), flags))
        self._counts.requests += 1
        return number

    def drain(self, seconds: float = 0.0) -> None:
        """Takes what has come, and what comes within so many seconds. Raises Gone."""
        deadline = time.monotonic() + seconds
        while True:
            left = max(0.0, deadline - time.monotonic())
            if not self.tls.raw.pending() and not select.select([self.tls.raw], [], [], left)[0]:
                return
            self._take(left)
            if left <= 0 and not self.tls.raw.pending():
                return

    def wait(self, stream: int, seconds: float = 10.0) -> str:
        """The status of a stream's answer once it is complete; "reset N", "silent". Raises Gone."""
        deadline = time.monotonic() + seconds
        while stream not in self.ended and (left := deadline - time.monotonic()) > 0:
            if self.tls.raw.pending() or select.select([self.tls.raw], [], [], left)[0]:
                self._take(left)
        how = self.ended.get(stream, "")
        if how.startswith("reset"):
            return how
        return self.statuses.get(stream, "silent") if how else "silent"

    def _take(self, seconds: float) -> None:
        try:
            piece = self.tls.receive(max(seconds, 0.05))
        except TimeoutError:
            return
        except OSError as error:
            raise Gone(type(error).__name__) from None
        if not piece:
            raise Gone("closed")
        self._data += piece
        self._read()

    def _read(self) -> None:
        data, position, credit, out = self._data, 0, 0, []
        while len(data) - position >= frames.FRAME_HEADER_BYTES:
            high, low, kind, flags, stream = frames.unpack_header(data, position)
            end = position + 9 + (high << 8 | low)
            if end > len(data):
                break
            payload = data[position + 9 : end]
            position = end
            credit += len(payload) if kind == DATA else 0
            out += self._frame(kind, flags, stream, payload)
        self._data = data[position:]
        if credit and self.reads_windows:
            out.append(frames.window_update(0, credit))
        if out:
            self.tls.send(b"".join(out))

    def _frame(self, kind: int, flags: int, stream: int, payload: bytes) -> list[bytes]:
        if kind in (HEADERS, frames.CONTINUATION):
            self._block += payload
            if flags & frames.END_HEADERS or (kind == HEADERS and flags & 4):
                self._head(stream)
        elif kind == DATA:
            self.received += len(payload)
            self.bodies[stream] = (self.bodies.get(stream, b"") + payload)[:4096]
        elif kind == RST:
            self._ended(stream, f"reset {int.from_bytes(payload, 'big')}")
        elif kind == GOAWAY and int.from_bytes(payload[4:8], "big"):
            raise Gone(f"GOAWAY {int.from_bytes(payload[4:8], 'big')} {payload[8:].decode()}")
        elif kind == frames.SETTINGS and not flags & frames.ACK:
            return [frames.frame(frames.SETTINGS, frames.ACK, 0)]
        elif kind == frames.PING and not flags & frames.ACK:
            return [frames.frame(frames.PING, frames.ACK, 0, payload)]
        if kind in (HEADERS, DATA) and flags & frames.END_STREAM:
            self._ended(stream, "end")
        elif kind == DATA and payload and self.reads_windows:
            return [frames.window_update(stream, len(payload))]
        return []

    def _head(self, stream: int) -> None:
        block, self._block = self._block, b""
        status = dict(self._decoder.decode(block)).get(b":status")
        if status is not None and stream not in self.statuses:
            self.statuses[stream] = status.decode()
            self._counts.answers[status.decode()] += 1

    def _ended(self, stream: int, how: str) -> None:
        if stream not in self.ended:
            self.ended[stream] = how
            if how != "end":
                self._counts.answers[how] += 1

    def close(self) -> None:
        """Closes at once."""
        self.tls.close()


def request_frames(number: int, block: bytes, flags: int = ENDS, size: int = 16_384) -> bytes:
    """HEADERS, and CONTINUATION where one frame is not enough."""
    made, kind, rest = [], HEADERS, block
    while True:
        piece, rest = rest[:size], rest[size:]
        last = 0 if rest else frames.END_HEADERS
        first = flags & frames.END_STREAM if kind == HEADERS else 0
        made.append(frames.frame(kind, first | last, number, piece))
        kind = frames.CONTINUATION
        if not rest:
            return b"".join(made)


def indexed(name: bytes, value: bytes) -> bytes:
    """A literal that goes into the peer's dynamic table (RFC 7541, 6.2.1)."""
    return b"\x40" + _text(name) + _text(value)


def _text(value: bytes) -> bytes:
    return hpack_codec.integer(len(value), 7) + value


def ask(
    world: World, user: str | None, method: str, target: str, body: Any = None, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """One ordinary HTTP/1.1 request to central's own address; status, headers, body."""
    import http.client  # noqa: PLC0415  only here

    source = headers.pop("source", "127.0.0.1")
    connection = http.client.HTTPSConnection(
        "localhost", world.port, context=world.context(), timeout=40, source_address=(source, 0)
    )
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    if user is not None:
        given["Authorization"] = f"Bearer {world.tokens[user]}"
    if body is not None:
        body, given["Content-Type"] = json.dumps(body), "application/json"
    try:
        connection.request(method, target, body, given)
        answer = connection.getresponse()
        named = {name.lower(): value for name, value in answer.getheaders()}
        return answer.status, named, answer.read()
    finally:
        connection.close()
