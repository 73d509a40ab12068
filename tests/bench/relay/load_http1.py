"""The load generator's HTTP/1.1 client: one request at a time on a connection. Used by `load`."""

from time import perf_counter

from tests.bench.relay.load_http2 import Done
from tests.bench.relay.load_sockets import LoadError, TlsSocket

_OK = b"HTTP/1.1 200 "
_LENGTH = b"content-length:"


class Http1Load:
    """One connection."""

    def __init__(self, tls: TlsSocket, done: Done) -> None:
        if tls.protocol not in ("", "http/1.1"):
            raise LoadError(f"the server speaks {tls.protocol!r}, not http/1.1")
        self.tls = tls
        self._done = done
        self._head = b""
        self._started = 0.0
        self._length = -1
        self._left = 0
        self._busy = False
        self._out = b""

    @property
    def open_streams(self) -> int:
        """1 while an answer is awaited."""
        return int(self._busy)

    def request(self, head: bytes, now: float) -> None:
        """Queues a request with this head."""
        self._busy = True
        self._started = now
        self._out = head

    def flush(self) -> None:
        """Sends what is queued."""
        if self._out or self.tls.waiting:
            self.tls.write(self._out)
            self._out = b""

    def readable(self) -> None:
        """Bytes arrived."""
        data = self.tls.read()
        if self._length < 0:
            data = self._read_head(self._head + data)
            if self._length < 0:
                return
        self._left -= len(data)
        if self._left < 0:
            raise LoadError("more bytes than content-length says")
        if self._left == 0:
            length, self._length = self._length, -1
            self._busy = False
            self._done(self, self._started, length, perf_counter())
            self.flush()

    def _read_head(self, data: bytes) -> bytes:
        """What follows the head in `data`, once the head is whole."""
        end = data.find(b"\r\n\r\n")
        if end < 0:
            self._head = data
            return b""
        self._head = b""
        head = data[:end].lower()
        if not data.startswith(_OK):
            raise LoadError(f"answered {data[:300]!r}")
        place = head.find(_LENGTH)
        if place < 0:
            raise LoadError(f"no content-length: {data[:300]!r}")
        self._length = self._left = int(head[place + len(_LENGTH) :].partition(b"\r\n")[0])
        return data[end + 4 :]
