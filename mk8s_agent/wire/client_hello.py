"""The server name in a TLS ClientHello, before any TLS object exists.

The listener peeks here to choose the TLS context by SNI, then hands the same bytes to OpenSSL, so
nothing is trusted that OpenSSL does not check again. Pure and incremental: a ClientHello comes in
any number of TCP segments and of TLS records (post-quantum key shares made the latter common).
Whatever cannot be read decides for "no name": the public context, where OpenSSL reports the error.
Formats: RFC 8446, 4.1.2 and 5.1; RFC 6066, 3.
"""

import re
from typing import Final

MAX_HELLO_BYTES: Final = 32 * 1024
"""Bytes looked at before giving up; a browser's hello has about 2 KiB."""

_RECORD_HEADER: Final = 5
_HANDSHAKE_HEADER: Final = 4
_HANDSHAKE_RECORD: Final = 22
_TLS_MAJOR: Final = 3
_CLIENT_HELLO: Final = 1
_MAX_RECORD: Final = 16 * 1024
_VERSION_AND_RANDOM: Final = 2 + 32
_SERVER_NAME: Final = 0
_HOST_NAME: Final = 0
# RFC 6066: a DNS name in ASCII, without a trailing dot. Underscores occur in names of containers.
_NAME: Final = re.compile(rb"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,253}[A-Za-z0-9_])?")


class _UnreadableError(Exception):
    """The bytes are no ClientHello that this module reads."""


def lacks(data: bytes, name: bytes) -> bool:
    """Whether the first bytes of a connection are a whole ClientHello without this server name.

    Most hellos come in one record, and one look for a lower-case name in it spares the reading.
    False leaves it open.
    """
    if len(data) < _RECORD_HEADER + _HANDSHAKE_HEADER or data[0] != _HANDSHAKE_RECORD:
        return False
    record_end = _RECORD_HEADER + (data[3] << 8 | data[4])
    hello_size = int.from_bytes(
        data[_RECORD_HEADER + 1 : _RECORD_HEADER + _HANDSHAKE_HEADER], "big"
    )
    hello_end = _RECORD_HEADER + _HANDSHAKE_HEADER + hello_size
    return hello_end <= record_end <= len(data) and name not in data.lower()


class ClientHelloPeek:
    """Reads the start of one connection until its server name is known or known to be missing."""

    __slots__ = ("_buffer", "_decided", "_handshake", "_taken", "server_name")

    def __init__(self) -> None:
        self.server_name = ""
        """Lower-case; empty when the hello has none, is unreadable, or is not complete yet."""
        self._buffer = bytearray()  # the record that is not complete yet
        self._handshake = bytearray()  # the payloads of the complete ones
        self._taken = 0
        self._decided = False

    def feed(self, data: bytes) -> bool:
        """Take the next bytes of the connection; never raises.

        Returns:
            Whether `server_name` is final. Bytes fed afterwards are ignored.
        """
        if self._decided:
            return True
        self._taken += len(data)
        self._buffer += data
        try:
            name = self._read()
        except _UnreadableError:
            name = ""
        if name is None and self._taken > MAX_HELLO_BYTES:
            name = ""
        if name is not None:
            self._decided, self.server_name = True, name
            self._buffer.clear()
            self._handshake.clear()
        return self._decided

    def _read(self) -> str | None:
        """The server name, or None while more bytes are needed."""
        while not self._is_whole():
            payload = _first_record(self._buffer)
            if payload is None:
                return None
            del self._buffer[: _RECORD_HEADER + len(payload)]
            self._handshake += payload
            if self._handshake[0] != _CLIENT_HELLO:
                raise _UnreadableError
        return _server_name(bytes(self._handshake[_HANDSHAKE_HEADER : self._end()]))

    def _end(self) -> int:
        """Where the ClientHello ends among the payloads."""
        return _HANDSHAKE_HEADER + int.from_bytes(self._handshake[1:_HANDSHAKE_HEADER], "big")

    def _is_whole(self) -> bool:
        taken = len(self._handshake)
        return taken >= _HANDSHAKE_HEADER and taken >= self._end()


def _first_record(buffer: bytearray) -> bytes | None:
    """The payload of the record at the start of `buffer`, or None while it is incomplete."""
    if buffer and buffer[0] != _HANDSHAKE_RECORD:
        raise _UnreadableError
    if len(buffer) < _RECORD_HEADER:
        return None
    length = int.from_bytes(buffer[3:_RECORD_HEADER], "big")
    if buffer[1] != _TLS_MAJOR or not 0 < length <= _MAX_RECORD:
        raise _UnreadableError
    if len(buffer) < _RECORD_HEADER + length:
        return None
    return bytes(buffer[_RECORD_HEADER : _RECORD_HEADER + length])


def _vector(data: bytes, at: int, *, size: int) -> tuple[bytes, int]:
    """A vector whose length takes `size` bytes, and where the next field starts."""
    start = at + size
    end = start + int.from_bytes(data[at:start], "big")
    if start > len(data) or end > len(data):
        raise _UnreadableError
    return data[start:end], end


def _server_name(hello: bytes) -> str:
    """The server name of a whole ClientHello body."""
    _, at = _vector(hello, _VERSION_AND_RANDOM, size=1)  # session id
    _, at = _vector(hello, at, size=2)  # cipher suites
    _, at = _vector(hello, at, size=1)  # compression methods
    if at == len(hello):
        return ""  # no extensions at all: TLS 1.2 and older allow it
    extensions, at = _vector(hello, at, size=2)
    if at != len(hello):
        raise _UnreadableError
    names = [_host_name(body) for kind, body in _extensions(extensions) if kind == _SERVER_NAME]
    if len(names) > 1:
        raise _UnreadableError
    return names[0] if names else ""


def _extensions(block: bytes) -> list[tuple[int, bytes]]:
    found = []
    at = 0
    while at < len(block):
        kind = int.from_bytes(block[at : at + 2], "big")
        body, at = _vector(block, at + 2, size=2)
        found.append((kind, body))
    return found


def _host_name(body: bytes) -> str:
    """The one name of a server_name extension; a list of several has never been in use."""
    entries, end = _vector(body, 0, size=2)
    name, name_end = _vector(entries, 1, size=2)
    if end != len(body) or name_end != len(entries) or entries[0] != _HOST_NAME:
        raise _UnreadableError
    if _NAME.fullmatch(name) is None:
        raise _UnreadableError
    return name.decode("ascii").lower()
