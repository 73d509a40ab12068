"""TLS sockets of the load generator: one epoll loop, MemoryBIO, nothing per request but a memcpy.

Used by `load` only. The generator shares the machine with what it measures, so it is as light as
Python allows: no asyncio, no HTTP library, request bytes composed before the run.
"""

import os
import select
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

_READ = 256 * 1024
_RECORD = 16 * 1024


class LoadError(Exception):
    """Something that must not happen did: a refusal, a wrong length, a closed connection."""


def client_context(authority: str, protocol: str) -> ssl.SSLContext:
    """A context that trusts one CA file and offers one protocol ("h2", "http/1.1", "" for none)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=Path(authority).read_text())
    if protocol:
        context.set_alpn_protocols([protocol])
    return context


class TlsSocket:
    """One connection: handshakes blocking, then moves bytes without blocking."""

    def __init__(self, address: tuple[str, int], context: ssl.SSLContext, name: str) -> None:
        self.socket = socket.create_connection(address, timeout=20)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=name)
        self._backlog = b""
        self._shake_hands()
        self.protocol = self._tls.selected_alpn_protocol() or ""
        self.socket.setblocking(False)

    def _shake_hands(self) -> None:
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self.socket.sendall(self._outgoing.read())
                data = self.socket.recv(_READ)
                if not data:
                    raise LoadError("closed during the handshake") from None
                self._incoming.write(data)
            else:
                self.socket.sendall(self._outgoing.read())
                return

    def fileno(self) -> int:
        """For epoll."""
        return self.socket.fileno()

    def read(self) -> bytes:
        """What has arrived; b"" when only a part of a record has.

        Raises:
            LoadError: the peer closed.
        """
        data = self.socket.recv(_READ)
        if not data:
            raise LoadError("the server closed the connection")
        incoming, tls = self._incoming, self._tls
        incoming.write(data)
        pieces = []
        try:
            while incoming.pending or tls.pending():
                piece = tls.read(_RECORD)
                if not piece:
                    raise LoadError("the server closed the TLS connection")
                pieces.append(piece)
        except ssl.SSLWantReadError:
            pass
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def write(self, data: bytes) -> bool:
        """Sends; False when a rest waits for the socket."""
        if data:
            self._tls.write(data)
            self._backlog += self._outgoing.read()
        try:
            sent = self.socket.send(self._backlog)
        except BlockingIOError:
            return False
        self._backlog = self._backlog[sent:]
        return not self._backlog

    @property
    def waiting(self) -> int:
        """Ciphertext that the socket has not taken yet."""
        return len(self._backlog)

    def close(self) -> None:
        """Closes at once."""
        self.socket.close()


class Pump:
    """Calls back for each readable socket, until told to stop."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._readers: dict[int, Callable[[], None]] = {}
        self.stopped = False

    def add(self, fileno: int, reader: Callable[[], None]) -> None:
        """Calls `reader` whenever the descriptor is readable."""
        self._readers[fileno] = reader
        self._epoll.register(fileno, select.EPOLLIN)

    def remove(self, fileno: int) -> None:
        """Looks at the descriptor no more: what arrives stays in the kernel."""
        del self._readers[fileno]
        self._epoll.unregister(fileno)

    def run(self, until: Callable[[], bool], seconds: float) -> None:
        """Pumps until the condition holds. Raises LoadError when it takes over `seconds`."""
        clock = os.times
        deadline = clock().elapsed + seconds
        readers = self._readers
        while not until():
            events = self._epoll.poll(0.5)
            for fileno, _ in events:
                readers[fileno]()
            if not events and clock().elapsed > deadline:
                raise LoadError(f"no end within {seconds:g} seconds")
