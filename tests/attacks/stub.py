"""The stub API server: HTTP/2 and HTTP/1.1 over TLS, by hand, so that it can be hostile.

Run by `stage` as a process: `python -m tests.attacks.stub PORT CERTIFICATE KEY PROTOCOLS`. It
takes every token. `GET /stub/seen`, asked of it directly, tells how many requests came and what the
last ones were; that is how a check sees that nothing reached the cluster.

Upgrades: `.../pods/NAME/exec` becomes what NAME says: "echo" gives every byte back; "other-1"
switches to another protocol than was asked for; "ok-1" and "moved-1" answer 200 and 302 and read
on, as the API servers of CVE-2018-1002105 did.
"""

import asyncio
import json
import re
import resource
import ssl
import sys
from collections import deque
from collections.abc import Iterator
from typing import Any

from mk8s_agent.wire import hpack_codec
from mk8s_agent.wire.http2 import frames
from tests.attacks.stub_answers import BOMB_MIB, Answer, Fields, answer_to

WINDOW = 65_535
_KEPT = 64
_FRAME = 16 * 1024
_INFORMATIONAL_AT_ONCE = 500
_LONG = 100


class Seen:
    """What has come."""

    def __init__(self) -> None:
        self.count = 0
        self.last: deque[dict[str, Any]] = deque(maxlen=_KEPT)

    def note(self, method: str, target: str, headers: list[tuple[str, str]], how: str) -> None:
        """One more request."""
        self.count += 1
        kept = [(name, value) for name, value in headers if name != "authorization"]
        self.last.append({"method": method, "target": target, "headers": kept, "how": how})

    def answer(self) -> Answer:
        """The account, as JSON."""
        told = json.dumps({"count": self.count, "last": list(self.last)}).encode()
        return Answer(200, [(b"content-type", b"application/json")], (told,))


SEEN = Seen()


def answer_of(method: str, target: str, headers: list[tuple[str, str]], how: str) -> Answer:
    """Notes the request, and answers it."""
    if target == "/stub/seen":
        return SEEN.answer()
    if "kube-probe" not in dict(headers).get("user-agent", ""):
        SEEN.note(method, target, headers, how)
    return answer_to(method, target)


_EARLY = hpack_codec.block([(b":status", b"103"), (b"link", b"</x>")])
_blocks: dict[int, bytes] = {}


def encoded(fields: Fields) -> bytes:
    """A header block; those of long lists, which `stub_answers` keeps, are kept, too.

    This process answers the other user, too: what it spends on hostile answers, they wait for.
    """
    if len(fields) < _LONG:
        return hpack_codec.block(fields)
    if id(fields) not in _blocks:
        _blocks[id(fields)] = hpack_codec.block(fields)
    return _blocks[id(fields)]


class Stream:
    """What is still to be sent on an HTTP/2 stream."""

    __slots__ = ("answer", "informational", "pieces", "rest", "told", "window")

    def __init__(self, answer: Answer, window: int) -> None:
        self.answer = answer
        self.informational = answer.informational
        self.told = False
        """The head has been sent."""
        self.pieces: Iterator[bytes] = filter(None, answer.body)
        self.rest = b""
        self.window = window


class Visitor(asyncio.Protocol):
    """One connection; which protocol is known after the handshake."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport
        self._made: Http1 | Http2

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        tls = transport.get_extra_info("ssl_object")
        kind = Http2 if tls.selected_alpn_protocol() == "h2" else Http1
        self._made = kind(transport)

    def data_received(self, data: bytes) -> None:
        self._made.received(data)

    def pause_writing(self) -> None:
        self._made.paused = True

    def resume_writing(self) -> None:
        self._made.paused = False
        self._made.pump()

    def connection_lost(self, exc: Exception | None) -> None:
        self._made.paused = True
        self._made.lost = True


class Http2:
    """The server's end of an HTTP/2 connection."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self.paused = self.lost = False
        self._transport = transport
        self._data = b""
        self._window = self._initial = WINDOW
        self._streams: dict[int, Stream] = {}
        self._decoder = hpack_codec.Decoder(4096, 1 << 20)
        self._block = b""
        self._skip = len(frames.PREFACE)
        transport.write(frames.settings({frames.MAX_CONCURRENT_STREAMS: 20_000}))
        transport.write(frames.window_update(0, 1 << 24))

    def received(self, data: bytes) -> None:
        """Bytes of the agent."""
        if self._skip:
            self._skip, data = max(0, self._skip - len(data)), data[self._skip :]
        data, position = self._data + data, 0
        while len(data) - position >= frames.FRAME_HEADER_BYTES:
            high, low, kind, flags, stream = frames.unpack_header(data, position)
            end = position + 9 + (high << 8 | low)
            if end > len(data):
                break
            self._frame(kind, flags, stream, data[position + 9 : end])
            position = end
        self._data = data[position:]
        self.pump()

    def _frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind in (frames.HEADERS, frames.CONTINUATION):
            self._block += frames.strip_padding(payload, flags) if kind == 1 else payload
            if flags & frames.END_HEADERS:
                block, self._block = self._block, b""
                self._request(stream, self._decoder.decode(block))
        elif kind == frames.DATA and payload:
            self._transport.write(frames.window_update(0, len(payload)))
            if not flags & frames.END_STREAM:
                self._transport.write(frames.window_update(stream, len(payload)))
        elif kind == frames.WINDOW_UPDATE:
            self._credit(stream, int.from_bytes(payload, "big"))
        elif kind == frames.SETTINGS and not flags & frames.ACK:
            self._settings(payload)
        elif kind == frames.PING and not flags & frames.ACK:
            self._transport.write(frames.frame(frames.PING, frames.ACK, 0, payload))
        elif kind == frames.RST_STREAM:
            self._streams.pop(stream, None)

    def _settings(self, payload: bytes) -> None:
        for key, value in frames.read_settings(payload):
            if key == frames.INITIAL_WINDOW_SIZE:
                for it in self._streams.values():
                    it.window += value - self._initial
                self._initial = value
        self._transport.write(frames.frame(frames.SETTINGS, frames.ACK, 0))

    def _credit(self, stream: int, size: int) -> None:
        if not stream:
            self._window += size
        elif stream in self._streams:
            self._streams[stream].window += size

    def _request(self, stream: int, fields: Any) -> None:
        named = [(name.decode(), value.decode("utf-8", "replace")) for name, value in fields]
        about = dict(named)
        answer = answer_of(about.get(":method", ""), about.get(":path", ""), named, "h2")
        if answer.silent:
            return
        self._streams[stream] = Stream(answer, self._initial)

    def _begin(self, number: int, it: Stream) -> None:
        """Some of the heads that say nothing, or the one that does."""
        if it.informational > 0:
            count = min(it.informational, _INFORMATIONAL_AT_ONCE)
            it.informational -= count
            one = frames.frame(frames.HEADERS, frames.END_HEADERS, number, _EARLY)
            self._transport.write(one * count)
        else:
            it.told = True
            status = hpack_codec.field(b":status", str(it.answer.status).encode())
            self._head(number, status + encoded(it.answer.fields), 0)

    def _head(self, stream: int, block: bytes, flags: int) -> None:
        first, rest, kind = block[:_FRAME], block[_FRAME:], frames.HEADERS
        while rest:
            self._transport.write(frames.frame(kind, flags, stream, first))
            first, rest, kind, flags = rest[:_FRAME], rest[_FRAME:], frames.CONTINUATION, 0
        end = flags | frames.END_HEADERS
        self._transport.write(frames.frame(kind, end, stream, first))

    def pump(self) -> None:
        """Sends what windows and the socket allow, a frame of each stream in turn."""
        moved = True
        while moved and not self.paused:
            moved = False
            for number in list(self._streams):
                moved |= self._send(number, self._streams[number])

    def _send(self, number: int, it: Stream) -> bool:
        if not it.told:
            self._begin(number, it)
            return True
        if not it.rest:
            it.rest = next(it.pieces, b"")
        if not it.rest:
            if not it.answer.stays_open:
                self._end(number, it)
            return False
        size = min(len(it.rest), it.window, self._window, _FRAME)
        if size <= 0 or self.paused:
            return False
        self._transport.write(frames.frame(frames.DATA, 0, number, it.rest[:size]))
        it.rest = it.rest[size:]
        it.window -= size
        self._window -= size
        return True

    def _end(self, number: int, it: Stream) -> None:
        del self._streams[number]
        if it.answer.trailers:
            self._head(number, encoded(it.answer.trailers), frames.END_STREAM)
        else:
            self._transport.write(frames.frame(frames.DATA, frames.END_STREAM, number))


_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)
_UPGRADE = re.compile(rb"\r\nupgrade: *([^\r]+)", re.IGNORECASE)
_EXEC = re.compile(r"/pods/([a-z0-9-]+)/exec")


class Http1:
    """The server's end of an HTTP/1.1 connection."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self.paused = self.lost = False
        self._transport = transport
        self._data = b""
        self._left = 0
        self._chunked = False
        self._spliced = False
        self._informational = 0
        self._answer: Answer | None = None
        self._pieces: Iterator[bytes] = iter(())

    def received(self, data: bytes) -> None:
        """Bytes of the agent."""
        if self._spliced:
            self._transport.write(data)
            return
        self._data += data
        while self._answer is None and self._step():
            pass

    def _step(self) -> bool:
        """A body's part or a head; whether there may be more."""
        if self._left:
            used = min(self._left, len(self._data))
            self._data, self._left = self._data[used:], self._left - used
            return used > 0
        if self._chunked:
            body, end, rest = self._data.partition(b"0\r\n\r\n")
            self._data = rest if end else body[-8:]
            self._chunked = not end
            return bool(end)
        head, end, rest = self._data.partition(b"\r\n\r\n")
        if not end:
            return False
        self._data = rest
        self._request(head)
        return True

    def _request(self, head: bytes) -> None:
        first, *lines = head.decode("latin-1").split("\r\n")
        method, target, _ = first.split(" ", 2)
        headers = [(n.lower(), v.strip()) for n, _, v in (line.partition(":") for line in lines)]
        answer = answer_of(method, target, headers, "http/1.1")
        length, upgrade = _LENGTH.search(head), _UPGRADE.search(head)
        self._left = int(length[1]) if length else 0
        self._chunked = _CHUNKED.search(head) is not None
        if upgrade is not None:
            self._upgrade(target, upgrade[1])
        elif not answer.silent:
            self._begin(answer)

    def _upgrade(self, target: str, protocol: bytes) -> None:
        found = _EXEC.search(target)
        name = found[1] if found else ""
        if name.startswith(("ok-", "moved-")):
            status = b"200 OK" if name.startswith("ok-") else b"302 Found\r\nLocation: /api"
            self._transport.write(b"HTTP/1.1 %b\r\nContent-Length: 0\r\n\r\n" % status)
            return
        told = b"h2c" if name.startswith("other-") else protocol
        head = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %b\r\n%b\r\n"
        accept = b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
        self._transport.write(head % (told, accept if b"socket" in told else b""))
        self._spliced = True

    def _begin(self, answer: Answer) -> None:
        self._answer, self._pieces = answer, filter(None, answer.body)
        self._informational = answer.informational
        lines = [b"%b: %b\r\n" % it for it in answer.fields]
        self._final = b"HTTP/1.1 %d X\r\nTransfer-Encoding: chunked\r\n%b\r\n" % (
            answer.status,
            b"".join(lines),
        )
        self.pump()

    def pump(self) -> None:
        """Sends until the socket is full."""
        while self._answer is not None and not self.paused:
            if self._informational > 0:
                count = min(self._informational, _INFORMATIONAL_AT_ONCE)
                self._informational -= count
                self._transport.write(b"HTTP/1.1 103 Early\r\nLink: </x>\r\n\r\n" * count)
            elif self._final:
                self._transport.write(self._final)
                self._final = b""
            elif not self._more(self._answer):
                return

    def _more(self, answer: Answer) -> bool:
        piece = next(self._pieces, b"")
        if piece:
            self._transport.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            return True
        if answer.stays_open:
            return False
        lines = [b"%b: %b\r\n" % it for it in answer.trailers]
        self._transport.write(b"0\r\n%b\r\n" % b"".join(lines))
        self._answer = None
        while self._answer is None and self._step():
            pass
        return False


async def serve(port: int, certificate: str, key: str, protocols: str) -> None:
    """Serves until the process is ended."""
    answer_to("GET", f"/api/v1/x/bomb-{BOMB_MIB}")  # kept: it takes its time to pack
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.set_alpn_protocols(protocols.split(","))
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Visitor, "127.0.0.1", port, ssl=context, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    _most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(_most, 65_536), _most))
    asyncio.run(serve(int(sys.argv[1]), *sys.argv[2:5]))
