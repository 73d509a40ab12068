"""Sockets for the sans-io connections: TLS by MemoryBIO, or plain for a private Unix socket.

The buffers are shared by all connections of the process: what arrives is decrypted and handled
before the loop reads again. uvloop's own TLS collapses on bulk uploads after an upgrade.
"""

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Callable
from typing import Any, Final, Protocol

from mk8s_agent.wire.limits import HIGH_WATER, KIB

log = logging.getLogger(__name__)

_BUFFER: Final = memoryview(bytearray(512 * KIB))
"""Ciphertext. A stream's whole window with all that TLS and HTTP/2 add to it comes in one read. An
upgraded connection has no window: it fills the buffer, and the larger the reads, the fewer."""
_RECORD: Final = 16 * KIB  # one read of an SSLObject returns at most one record
_LONGEST_RECORD: Final = 18 * KIB  # as it arrives (RFC 5246, 6.2.3; RFC 8446 allows less)
_RECORD_HEAD: Final = 5  # type, version and length (RFC 8446, 5.1)
_PLAIN: Final = memoryview(bytearray(len(_BUFFER) + _RECORD))
"""What one read of the socket decrypts to, and the record that was begun before it."""
_TO_TLS: Final = ssl.MemoryBIO()
_FROM_TLS: Final = ssl.MemoryBIO()
"""Ciphertext between sockets and OpenSSL. Empty whenever other code runs: OpenSSL gets only what it
takes at once, what an error leaves is thrown away, what comes out is fetched in the same breath."""
_LINGER: Final = 2.0  # seconds a closed socket waits for the peer to read and close, too
_STALLED: Final = 30.0  # seconds it waits for a peer that does not read what was written


class Connection(Protocol):
    """What a transport drives."""

    def receive(self, data: bytes) -> None:
        """Plain bytes arrived."""

    def writable(self) -> None:
        """The write buffer has drained after `write` returned True."""

    def connection_lost(self) -> None:
        """The socket is gone."""


MakeConnection = Callable[["SocketTransport"], Connection | None]
"""Called once the socket is ready (after the TLS handshake); None refuses it."""


class SocketTransport(asyncio.BufferedProtocol):
    """A plain socket; `TlsTransport` adds encryption."""

    def __init__(self, make: MakeConnection) -> None:
        self.connection: Connection | None = None
        self.closing = False
        self.clean_end = False
        """The peer said that it has sent everything; a connection that only broke does not."""
        self.peer_address = ""
        self._make: MakeConnection | None = make
        self._socket: Any = None
        self._full = False
        self._linger: asyncio.TimerHandle | None = None

    # -- called by the loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The TCP connection is there."""
        self._socket = transport
        self._socket.set_write_buffer_limits(high=HIGH_WATER, low=HIGH_WATER // 4)
        peer = transport.get_extra_info("peername")
        if isinstance(peer, tuple):
            self.peer_address = str(peer[0])
        self._opened()

    def _opened(self) -> None:
        self._start()

    def _start(self) -> None:
        make, self._make = self._make, None
        assert make is not None
        self.connection = make(self)
        if self.connection is None:
            self.close()

    def get_buffer(self, sizehint: int) -> memoryview:
        """One buffer for all: it is emptied before the loop reads from another socket."""
        return _BUFFER

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes arrived in the buffer."""
        self._received(bytes(_BUFFER[:nbytes]))

    def _received(self, data: bytes) -> None:
        """Hands bytes on. An error in the connection's code costs this connection only."""
        connection = self.connection
        if connection is None or self.closing:
            return
        try:
            connection.receive(data)
        except Exception:
            log.exception("connection.crashed", extra={"peer": repr(connection)})
            self.abort()

    def pause_writing(self) -> None:
        """More than HIGH_WATER bytes wait in the socket's buffer."""
        self._full = True

    def resume_writing(self) -> None:
        """The socket's buffer has drained."""
        self._full = False
        connection = self.connection
        if connection is None:
            return
        try:
            connection.writable()
        except Exception:
            log.exception("connection.crashed", extra={"peer": repr(connection)})
            self.abort()

    def eof_received(self) -> bool:
        """The peer closed its side; HTTP has no use for a half-open connection."""
        self._peer_closed()
        return False

    def _peer_closed(self) -> None:
        self.clean_end = True

    def connection_lost(self, error: Exception | None) -> None:
        """The socket is gone."""
        self.closing = True
        self._make = None
        if self._linger is not None:
            self._linger.cancel()
        connection, self.connection = self.connection, None
        if connection is None:
            return
        try:
            connection.connection_lost()
        except Exception:  # whoever keeps a list of transports is still to hear of it
            log.exception("connection.crashed", extra={"peer": repr(connection)})

    # -- called by the connection

    def write(self, data: bytes) -> bool:
        """Sends bytes; True when the caller should wait for `writable`."""
        if not self.closing:
            self._socket.write(data)
        return self._full

    def pause_reading(self) -> None:
        """Stops reading: what arrives stays in the kernel and slows the sender down."""
        if not self.closing:
            self._socket.pause_reading()

    def resume_reading(self) -> None:
        """Reads again after `pause_reading`."""
        if not self.closing:
            self._socket.resume_reading()

    def close(self) -> None:
        """Closes once everything written has left."""
        if self.closing:
            return
        self.closing = True
        if not self._socket.can_write_eof():
            self._socket.close()
            return
        try:
            # a socket closed with unread bytes resets, and the peer loses our last words
            self._socket.write_eof()
        except (OSError, RuntimeError):  # the peer has reset the connection already
            self._socket.abort()
            return
        self._wait_for_peer(0.0, self._socket.get_write_buffer_size())

    def _wait_for_peer(self, stalled: float, left: int) -> None:
        """Looks again later; a peer that still reads gets all, however slow it is."""
        loop = asyncio.get_running_loop()
        self._linger = loop.call_later(_LINGER, self._look_again, stalled, left)

    def _look_again(self, stalled: float, left: int) -> None:
        now_left = self._socket.get_write_buffer_size()
        stalled = stalled + _LINGER if now_left == left else 0.0
        if left == now_left == 0 or stalled >= _STALLED:
            self._socket.abort()
        else:
            self._wait_for_peer(stalled, now_left)

    def abort(self) -> None:
        """Closes at once."""
        self.closing = True
        self._socket.abort()


class TlsTransport(SocketTransport):
    """A socket with TLS on it.

    Args:
        make: builds the connection after the handshake.
        handshake_seconds: time for the whole handshake, then the socket is closed.
    """

    def __init__(self, make: MakeConnection, handshake_seconds: float = 10.0) -> None:
        super().__init__(make)
        self.failure: str = ""
        self.error: Exception | None = None
        """What `failure` tells about, where it was an exception."""
        self._seconds = handshake_seconds
        self._deadline: asyncio.TimerHandle | None = None
        self._tls: ssl.SSLObject | None = None
        self._shaken = False
        # the TLS record that is still arriving, and what it lacks once its header is known
        self._begun = b""
        self._record_left = 0

    def _peer_closed(self) -> None:
        """Without close_notify anybody on the way could have cut the stream short."""

    @property
    def protocol(self) -> str:
        """The negotiated ALPN protocol; "" without one."""
        return (self._tls.selected_alpn_protocol() or "") if self._tls is not None else ""

    def peer_certificate(self) -> bytes:
        """The peer's verified certificate in DER; b"" when it showed none."""
        return (self._tls.getpeercert(binary_form=True) or b"") if self._tls is not None else b""

    def begin(self, context: ssl.SSLContext, server_name: str | None, *, server: bool) -> None:
        """Starts the handshake; `server_name` is the name to verify when this end is the client."""
        self._tls = context.wrap_bio(
            _TO_TLS, _FROM_TLS, server_side=server, server_hostname=server_name
        )

    def _opened(self) -> None:
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(self._seconds, self._too_slow)
        self._hello()

    def _hello(self) -> None:
        """The first thing after connecting: a client speaks, a server waits."""

    def _too_slow(self) -> None:
        self.failure = "the TLS handshake took too long"
        self.abort()

    def buffer_updated(self, nbytes: int) -> None:
        """Ciphertext arrived in the shared buffer."""
        if self.closing:
            return
        if self._shaken:
            self._decrypt(_BUFFER[:nbytes])
            return
        data = self._before_tls(bytes(_BUFFER[:nbytes]))
        self._begun += data
        if data and self._received_hello(data):
            _TO_TLS.write(self._begun)
            self._begun = b""
            self._handshake()

    def _before_tls(self, data: bytes) -> bytes:
        """What is left of the first bytes when something else comes before TLS."""
        return data

    def _received_hello(self, data: bytes) -> bool:
        """Whether the handshake can go on; a server chooses its context here."""
        return self._tls is not None

    def _handshake(self) -> None:
        assert self._tls is not None
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return
        except (ssl.SSLError, ssl.CertificateError) as error:
            self.failure, self.error = str(error), error
            _TO_TLS.read()  # nobody's any more
            self._flush()  # the alert tells the peer why
            super().close()
            return
        behind = _TO_TLS.read()  # what came behind the handshake
        self._shaken = True
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        self._flush()
        self._start()
        self._decrypt(memoryview(behind))

    def _decrypt(self, data: memoryview) -> None:
        """Hands on what `data` holds in whole records, as one piece."""
        size, over = 0, False
        try:
            size, over = self._decrypt_records(data)
        except ssl.SSLError as error:
            self.failure = str(error)
            _TO_TLS.read()  # nobody's any more
            self.abort()
        self._flush()
        if size:
            self._received(bytes(_PLAIN[:size]))
        if over:
            self.clean_end = True
            self.close()

    def _decrypt_records(self, data: memoryview) -> tuple[int, bool]:
        """How many bytes were put into the shared buffer; whether the peer said that it ends."""
        assert self._tls is not None
        ends = self._ends_of_records(data)
        if not ends:
            self._begun += data
            return 0, False
        read: Any = self._tls.read  # with a buffer it returns a number, which typeshed denies
        _TO_TLS.write(self._begun)
        position, size = 0, 0
        for stop in ends:
            _TO_TLS.write(data[position:stop])
            position = stop
            try:
                got: int = read(_RECORD, _PLAIN[size:])
            except ssl.SSLWantReadError:  # a message of TLS itself
                continue
            if not got:
                return size, True
            size += got
        self._begun = bytes(data[position:])
        return size, False

    def _ends_of_records(self, data: memoryview) -> list[int]:
        """Where the records end that `data` completes."""
        ends: list[int] = []
        stop, self._record_left = self._record_left, 0
        known = b"" if stop else self._begun
        while stop <= len(data):
            if stop:
                ends.append(stop)
            start, stop = stop, stop + _RECORD_HEAD - len(known)
            head = known + data[start:stop]
            if len(head) < _RECORD_HEAD:
                return ends
            known = b""
            length = head[3] << 8 | head[4]
            if length > _LONGEST_RECORD:
                raise ssl.SSLError("a TLS record that is too long")
            stop += length
        self._record_left = stop - len(data)
        return ends

    def _flush(self) -> None:
        data = _FROM_TLS.read()
        if data and self._socket is not None:
            self._socket.write(data)

    def write(self, data: bytes) -> bool:
        """Encrypts and sends; True when the caller should wait for `writable`."""
        if not self.closing and self._tls is not None:
            try:
                self._tls.write(data)
            finally:
                sealed = _FROM_TLS.read()
            self._socket.write(sealed)
        return self._full

    def close(self) -> None:
        """Says close_notify and closes once everything written has left."""
        if self.closing:
            return
        if self._shaken and self._tls is not None:
            with contextlib.suppress(ssl.SSLError):  # the peer's close_notify is not waited for
                self._tls.unwrap()
            self._flush()
        super().close()

    def connection_lost(self, error: Exception | None) -> None:
        """The socket is gone."""
        if self._deadline is not None:
            self._deadline.cancel()
        if error is not None and not self.failure:
            self.failure = str(error)
        super().connection_lost(error)
