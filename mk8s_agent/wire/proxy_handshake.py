"""What is said to a proxy before the TLS of the connection itself; no I/O.

`dial` drives it: bytes to send first, then what arrives until the proxy has connected. CONNECT is
that of RFC 9110, 9.3.6, for proxies of HTTP; SOCKS 5 is RFC 1928 with the password of RFC 1929. The
name is always resolved by the proxy, as Go has it done, too. Behind a proxy the other side speaks
second, by TLS, so bytes that follow the proxy's answer are no part of any connection: refused.
"""

import base64
import ipaddress
import re
from typing import Final, Protocol

from mk8s_agent.wire.egress_proxy import Proxy

MAX_CONNECT_HEAD: Final = 16 * 1024
"""Bytes of a proxy's answer to CONNECT; what an error page says behind it is not read."""

_STATUS: Final = re.compile(rb"HTTP/1\.[01] ([1-9][0-9]{2})(?: ([^\r\n]*))?\r?\n")
_END_OF_HEAD: Final = re.compile(rb"\r?\n\r?\n")
_ABSENT: Final = (b"502", b"503", b"504")
"""Answers of a proxy that does not reach the address at the moment."""
_SOCKS: Final = 5
_NO_PASSWORD, _PASSWORD = 0, 2
_ADDRESS_BYTES: Final = {1: 4, 4: 16}
_SOCKS_REPLIES: Final = {
    1: "general failure",
    2: "not allowed",
    3: "network unreachable",
    4: "host unreachable",
    5: "connection refused",
    6: "too late",
    7: "command not supported",
    8: "kind of address not supported",
}
_SOCKS_ABSENT: Final = frozenset(_SOCKS_REPLIES[it] for it in (1, 3, 4, 5, 6))


class ProxyRefused(Exception):
    """The proxy does not connect, or is none; the sentence says why and holds no credentials."""


class TargetAbsent(ProxyRefused, ConnectionError):
    """The proxy works, and does not reach whom we want: as if that one had refused us itself."""


class Handshake(Protocol):
    """One conversation with a proxy."""

    def begin(self) -> bytes:
        """Give what is said first."""
        ...

    def receive(self, data: bytes) -> bytes | None:
        """Give what is said next, b"" to wait for more; None: it has connected.

        Raises:
            ProxyRefused: it will not.
        """
        ...


def handshake(proxy: Proxy, host: str, port: int) -> Handshake:
    """Begin the conversation that asks a proxy for host:port.

    Raises:
        ProxyRefused: the name is none that DNS could know.
    """
    try:
        host = host if host.isascii() else host.encode("idna").decode("ascii")
    except UnicodeError:
        raise ProxyRefused(f"{host!a} is no name") from None
    kind = Socks5 if proxy.scheme.startswith("socks5") else HttpConnect
    return kind(proxy, host, port)


class HttpConnect:
    """CONNECT to an HTTP proxy."""

    def __init__(self, proxy: Proxy, host: str, port: int) -> None:
        self._proxy = proxy
        self._authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._head = b""

    def begin(self) -> bytes:
        """The request, with Proxy-Authorization where the URL of the proxy has credentials."""
        lines = [
            f"CONNECT {self._authority} HTTP/1.1",
            f"Host: {self._authority}",
            "User-Agent: mk8s-agent",
        ]
        if self._proxy.user or self._proxy.password:
            pair = f"{self._proxy.user}:{self._proxy.password}".encode()
            lines.append(f"Proxy-Authorization: Basic {base64.b64encode(pair).decode()}")
        return "\r\n".join([*lines, "", ""]).encode("ascii")

    def receive(self, data: bytes) -> bytes | None:
        """The answer: any 2xx connects."""
        self._head += data
        end = _END_OF_HEAD.search(self._head)
        if end is None:
            if len(self._head) > MAX_CONNECT_HEAD or not _may_be_http(self._head):
                raise ProxyRefused(f"{self._proxy} does not answer like an HTTP proxy")
            return b""
        status = _STATUS.match(self._head)
        if status is None:
            raise ProxyRefused(f"{self._proxy} does not answer like an HTTP proxy")
        if not status[1].startswith(b"2"):
            refused = TargetAbsent if status[1] in _ABSENT else ProxyRefused
            raise refused(self._refusal(status[1], status[2] or b""))
        if end.end() != len(self._head):
            raise ProxyRefused(f"{self._proxy} sent bytes that nobody asked for")
        return None

    def _refusal(self, code: bytes, reason: bytes) -> str:
        words = "".join(it if it.isprintable() else " " for it in reason.decode("ascii", "replace"))
        advice = ""
        if code == b"407":
            advice = "; give user and password in the proxy's URL"
        said = f"{code.decode()} {words[:100]}".rstrip()
        return f"the proxy {self._proxy} answered {said} for {self._authority}{advice}"


class Socks5:
    """CONNECT to a SOCKS 5 proxy."""

    def __init__(self, proxy: Proxy, host: str, port: int) -> None:
        self._proxy = proxy
        self._host, self._port = host, port
        self._data = b""
        self._step = self._method

    def begin(self) -> bytes:
        """The methods of authentication: one only, the one that will be used."""
        wanted = _PASSWORD if self._proxy.user else _NO_PASSWORD
        return bytes((_SOCKS, 1, wanted))

    def receive(self, data: bytes) -> bytes | None:
        """The three answers, each of which is short."""
        self._data += data
        return self._step()

    def _method(self) -> bytes | None:
        if len(self._data) < 2:
            return b""
        version, method = self._take(2)
        if version != _SOCKS:
            raise ProxyRefused(f"{self._proxy} does not answer like a SOCKS 5 proxy")
        if method == _PASSWORD and self._proxy.user:
            self._step = self._authentication
            user, password = self._proxy.user.encode()[:255], self._proxy.password.encode()[:255]
            return bytes((1, len(user))) + user + bytes((len(password),)) + password
        if method != _NO_PASSWORD or self._proxy.user:
            raise ProxyRefused(f"the proxy {self._proxy} wants another authentication")
        return self._connect()

    def _authentication(self) -> bytes | None:
        if len(self._data) < 2:
            return b""
        if self._take(2)[1] != 0:
            raise ProxyRefused(f"the proxy {self._proxy} refused user and password")
        return self._connect()

    def _connect(self) -> bytes:
        self._step = self._connected
        return bytes((_SOCKS, 1, 0)) + _socks_address(self._host) + self._port.to_bytes(2, "big")

    def _connected(self) -> bytes | None:
        if len(self._data) < 5:
            return b""
        _, reply, _, kind, first = self._data[:5]
        if reply:
            said = _SOCKS_REPLIES.get(reply, f"error {reply}")
            refused = TargetAbsent if said in _SOCKS_ABSENT else ProxyRefused
            raise refused(f"the proxy {self._proxy} answered {said!r} for {self._host}")
        size = 4 + _ADDRESS_BYTES.get(kind, first + 1) + 2
        if len(self._data) < size:
            return b""
        if len(self._data) > size:
            raise ProxyRefused(f"{self._proxy} sent bytes that nobody asked for")
        return None

    def _take(self, size: int) -> bytes:
        taken, self._data = self._data[:size], self._data[size:]
        return taken


def _socks_address(host: str) -> bytes:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        name = host.encode("ascii")
        if len(name) > 255:
            raise ProxyRefused(f"{host[:40]!a}... is no name") from None
        return bytes((3, len(name))) + name
    return bytes((1 if address.version == 4 else 4,)) + address.packed


def _may_be_http(head: bytes) -> bool:
    return head.startswith(b"HTTP/1."[: len(head)])
