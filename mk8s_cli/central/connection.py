"""One HTTPS connection in which nothing takes longer than a deadline that its caller has set.

Called by `transport.py`. http.client's own timeout is one of many: it begins anew for each address
of a name, each byte that drips in, each try. Here name resolution, all addresses together, the TLS
handshake and the last byte of the answer share what is left.
"""

import http.client
import io
import queue
import socket
import ssl
import threading
import time
from collections.abc import Sequence
from typing import Any

Address = tuple[socket.AddressFamily, socket.SocketKind, int, str, Any]


class Deadline:
    """A moment that everything which is given it must be done by."""

    def __init__(self, seconds: float) -> None:
        """Begin to count."""
        self.seconds = seconds
        self._ends = time.monotonic() + seconds

    def left(self) -> float:
        """Return the seconds that are left, more than 0; raise `TimeoutError` after the end."""
        left = self._ends - time.monotonic()
        if left <= 0:
            raise TimeoutError("the time is up")
        return left

    def allows(self, pause: float) -> bool:
        """Whether something can still be done after `pause` seconds."""
        return time.monotonic() + pause < self._ends


class Connection(http.client.HTTPSConnection):
    """A connection to one host, by way of an HTTP proxy after `set_tunnel`."""

    def __init__(self, host: str, port: int, context: ssl.SSLContext, deadline: Deadline) -> None:
        """Nothing is sent yet."""
        super().__init__(host, port, context=context)
        self._tls = context
        self._deadline = deadline
        self._behind = ""

    def set_tunnel(self, host: str, port: int | None = None, headers: Any = None) -> None:
        """Reach `host` through the proxy that this connection goes to."""
        self._behind = host
        super().set_tunnel(host, port, headers)

    def connect(self) -> None:
        """Connect, and shake hands."""
        plain = _dial(self.host, self.port, self._deadline)
        try:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._behind:
                self.sock = _TimedSocket(plain, self._deadline)
                self._tunnel()  # type: ignore[attr-defined]
            plain.settimeout(self._deadline.left())
            secure = self._tls.wrap_socket(plain, server_hostname=self._behind or self.host)
        except BaseException:
            plain.close()
            raise
        self.sock = _TimedSocket(secure, self._deadline)


class _TimedSocket:
    """As much of a socket as http.client uses, each use with the time that is left."""

    def __init__(self, inner: socket.socket, deadline: Deadline) -> None:
        self._inner = inner
        self._deadline = deadline

    def sendall(self, data: bytes) -> None:
        self._inner.settimeout(self._deadline.left())
        self._inner.sendall(data)

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_TimedReader(self._inner, self._deadline))

    def close(self) -> None:
        self._inner.close()


class _TimedReader(io.RawIOBase):
    """What an answer is read from. It keeps the socket open until it is closed itself."""

    def __init__(self, inner: socket.socket, deadline: Deadline) -> None:
        self._inner = inner
        self._deadline = deadline
        self._raw = inner.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._inner.settimeout(self._deadline.left())
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


def _dial(host: str, port: int, deadline: Deadline) -> socket.socket:
    """Connect to the first address that answers; each gets its share of the time."""
    addresses = _resolve(host, port, deadline)
    failure: OSError = OSError(f"{host} has no address")
    for index, address in enumerate(addresses):
        try:
            return _connect(address, deadline.left() / (len(addresses) - index))
        except OSError as error:
            failure = error
    raise failure


def _connect(address: Address, seconds: float) -> socket.socket:
    family, kind, protocol, _, where = address
    connected = socket.socket(family, kind, protocol)
    try:
        connected.settimeout(seconds)
        connected.connect(where)
    except BaseException:
        connected.close()
        raise
    return connected


def _resolve(host: str, port: int, deadline: Deadline) -> Sequence[Address]:
    """Look the name up, in a thread beside: the system's resolver knows no deadline."""
    answers: queue.SimpleQueue[Sequence[Address] | OSError] = queue.SimpleQueue()

    def look_up() -> None:
        try:
            answers.put(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except OSError as error:
            answers.put(error)
        except UnicodeError:  # a label of more than 63 characters
            answers.put(socket.gaierror(socket.EAI_NONAME, "the name is no name"))

    threading.Thread(target=look_up, daemon=True).start()
    try:
        found = answers.get(timeout=deadline.left())
    except queue.Empty:
        raise TimeoutError("the name was not resolved in time") from None
    if isinstance(found, OSError):
        raise found
    return found
