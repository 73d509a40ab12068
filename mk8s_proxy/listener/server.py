"""Accepts connections, chooses their TLS context by server name and their protocol by ALPN.

`app` builds it and gives it the makers of the three kinds of connections; the listener itself knows
neither HTTP nor tunnels.
"""

# interpreted: a door to sockets, it waits more than it works

import asyncio
import errno
import logging
import os
import socket
import ssl
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from mk8s_agent.wire import tls
from mk8s_agent.wire.bulkhead import Bulkhead
from mk8s_agent.wire.client_hello import ClientHelloPeek, lacks
from mk8s_agent.wire.tcp import is_gone, prepare
from mk8s_agent.wire.transport import Connection, SocketTransport, TlsTransport
from mk8s_proxy.identity.throttle import source_key
from mk8s_proxy.listener.connection_limits import ConnectionLimits
from mk8s_proxy.listener.proxy_protocol import ProxyHeader, ProxyProtocolError
from mk8s_proxy.settings.networks import Networks, contains, parse_ip

log = logging.getLogger(__name__)

_TUNNEL_NAME: Final = tls.TUNNEL_SERVER_NAME.encode("ascii")
_SECOND: Final = Bulkhead("listener.second")
_DRAIN: Final = Bulkhead("listener.drain")
_ABORT: Final = Bulkhead("listener.abort")

_LOOK_SECONDS: Final = 10.0
"""How often the kernel is asked whether a peer is still there."""


class Served(Connection, Protocol):
    """A connection as the listener keeps it."""

    def second(self, elapsed: float) -> None:
        """Deadlines."""

    def drain(self) -> None:
        """Takes no new requests and closes when the last one has ended."""


class ServedClient(Served, Protocol):
    """A client's connection."""

    authenticated: bool
    """A request on it passed authentication."""


@dataclass(slots=True)
class Contexts:
    """TLS contexts; replaced as a whole when certificates are renewed."""

    public: ssl.SSLContext
    tunnel: ssl.SSLContext
    own: ssl.SSLContext
    """With a certificate of our own CA whatever the public one is, for our own programs."""


@dataclass(frozen=True, slots=True)
class Makers:
    """How a connection of each protocol is built on its transport."""

    http2: Callable[[TlsTransport], ServedClient]
    http1: Callable[[TlsTransport], ServedClient]
    tunnel: Callable[[TlsTransport], Served | None]


class Listener:
    """The accepting end of central.

    Args:
        contexts: TLS contexts by purpose.
        makers: connections by protocol.
        limits: how many connections there may be.
        handshake_seconds: time for the TLS handshake.
        shared: other processes listen on the same addresses, and the system chooses among them.
        balancers: peers that must say by the PROXY protocol who the client is.
        proxies: other peers that bring the requests of many clients.
    """

    def __init__(
        self,
        contexts: Contexts,
        makers: Makers,
        *,
        limits: ConnectionLimits,
        handshake_seconds: float,
        shared: bool = False,
        balancers: Networks = (),
        proxies: Networks = (),
    ) -> None:
        self.balancers = balancers
        self.proxies = proxies
        self.limits = limits
        self.contexts = contexts
        self.makers = makers
        self.handshake_seconds = handshake_seconds
        self.transports: set[ListenerTransport] = set()
        self.accepted = 0
        """Connections since the process began."""
        self.ended: Counter[str] = Counter()
        """Those of them that were one too many, by the setting that says so."""
        self._shared = shared
        self._servers: list[asyncio.Server] = []

    async def listen(self, host: str, port: int, inherited: int | None = None) -> int:
        """Binds an address and returns the port; 0 lets the system choose one.

        Args:
            inherited: the descriptor of a socket that is bound to this address already.

        Raises:
            OSError: the address cannot be bound.
        """
        try:
            server = await self._create_server(host, port, inherited)
        except OSError as error:
            raise OSError(error.errno, cannot_listen(host, port, error)) from error
        return self._keep(server)

    async def listen_to_own(self) -> int:
        """Binds a port of 127.0.0.1 for programs that this process starts; gives the port.

        It is this process's alone, shows a certificate of our own CA, and takes neither tunnels nor
        anybody's word on who the client is.

        Raises:
            OSError: there is no free port.
        """
        loop = asyncio.get_running_loop()

        def accept() -> ListenerTransport:
            return ListenerTransport(self, own=True)

        return self._keep(await loop.create_server(accept, "127.0.0.1", 0, backlog=128))

    def _keep(self, server: asyncio.Server) -> int:
        for listening in server.sockets:
            prepare(listening)
        self._servers.append(server)
        bound: int = server.sockets[0].getsockname()[1]
        return bound

    async def _create_server(self, host: str, port: int, inherited: int | None) -> asyncio.Server:
        loop = asyncio.get_running_loop()

        def accept() -> ListenerTransport:
            return ListenerTransport(self)

        if inherited is not None:
            bound = socket.socket(fileno=os.dup(inherited))
            return await loop.create_server(accept, sock=bound, backlog=1024)
        shared = self._shared or None
        return await loop.create_server(accept, host, port, backlog=1024, reuse_port=shared)

    def second(self, elapsed: float) -> None:
        """Once a second, for all connections."""
        ended = self.limits.ended
        if ended:  # one line for all, however many a second there are
            self.ended.update(ended)
            log.warning("listener.full", extra={"open": len(self.transports), "ended": dict(ended)})
            ended.clear()
        _SECOND.each(list(self.transports), lambda it: it.second(elapsed), ListenerTransport.abort)

    def drain(self) -> None:
        """Accepts nothing new; connections close when their last request has ended."""
        for server in self._servers:
            server.close()
        _DRAIN.each(list(self.transports), ListenerTransport.drain, ListenerTransport.abort)

    def abort(self) -> None:
        """Closes what is left."""
        _ABORT.each(list(self.transports), ListenerTransport.abort)


def cannot_listen(host: str, port: int, error: OSError) -> str:
    """One line that says what to do about an address that cannot be bound."""
    if error.errno == errno.EADDRINUSE:
        return f"{host}:{port} is in use: stop the program there, or set another address"
    return f"cannot listen on {host}:{port}: {os.strerror(error.errno or 0)}"


class ListenerTransport(TlsTransport):
    """An accepted socket: reads the ClientHello before it decides what to be."""

    def __init__(self, listener: Listener, *, own: bool = False) -> None:
        super().__init__(self._make_connection, listener.handshake_seconds)
        self._until_look = _LOOK_SECONDS
        self.served: Served | None = None
        self._client: ServedClient | None = None
        self._listener = listener
        self._peek: ClientHelloPeek | None = None
        self._proxy_header: ProxyHeader | None = None
        self._is_tunnel = False
        self._is_own = own

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client connected; beyond the limits somebody is turned away before any work."""
        super().connection_made(transport)
        listener = self._listener
        listener.accepted += 1
        listener.transports.add(self)
        if not listener.limits.arrive(self):
            return
        if self._is_own:
            return
        if listener.balancers and contains(listener.balancers, parse_ip(self.peer_address)):
            self._proxy_header = ProxyHeader()
        else:
            self._arrive_from_peer()

    def _arrive_from_peer(self) -> bool:
        """Counts the client's address, unless many clients share it."""
        proxies, limits = self._listener.proxies, self._listener.limits
        address = parse_ip(self.peer_address)
        if address is None or contains(proxies, address):
            return True
        return limits.arrive_from(self, source_key(self.peer_address))

    @property
    def authenticated(self) -> bool:
        """Whether somebody was authenticated on it: an agent by its certificate, a user later."""
        if self._client is not None:
            return self._client.authenticated
        return self._is_tunnel and self.served is not None

    def second(self, elapsed: float) -> None:
        """Once a second: the deadlines of what is served here, seldom whether the peer is there."""
        if self.served is not None:
            self.served.second(elapsed)
        self._until_look -= elapsed
        if self._until_look <= 0 and not self.closing:
            self._until_look = _LOOK_SECONDS
            if is_gone(self._socket.get_extra_info("socket")):
                log.info("listener.peer_vanished", extra={"source_ip": self.peer_address})
                self.abort()

    def drain(self) -> None:
        """Takes no new requests."""
        if self.served is not None:
            self.served.drain()

    def _before_tls(self, data: bytes) -> bytes:
        """Takes a balancer's word on who the client is; the time for it is that of the hello."""
        header = self._proxy_header
        if header is None:
            return data
        try:
            left = header.feed(data)
        except ProxyProtocolError as error:
            extra = {"source_ip": self.peer_address, "reason": str(error)}
            log.warning("listener.proxy_protocol", extra=extra)
            self.abort()
            return b""
        if left is None:
            return b""
        self._proxy_header = None
        if header.source:
            self.peer_address = header.source
            if not self._arrive_from_peer():
                return b""
        return left

    def _received_hello(self, data: bytes) -> bool:
        """Reads the server name; True once the TLS context is chosen."""
        if self._tls is not None:
            return True
        if self._peek is not None or not lacks(data, _TUNNEL_NAME):
            self._peek = self._peek or ClientHelloPeek()
            if not self._peek.feed(data):
                return False
            named_tunnel = self._peek.server_name == tls.TUNNEL_SERVER_NAME
            self._is_tunnel = named_tunnel and not self._is_own
            self._peek = None
        contexts, limits = self._listener.contexts, self._listener.limits
        if self._is_tunnel:
            limits.is_tunnel(self)
        elif not limits.is_client(self):
            return False
        context = contexts.own if self._is_own else contexts.public
        self.begin(contexts.tunnel if self._is_tunnel else context, None, server=True)
        return True

    def _make_connection(self, transport: SocketTransport) -> Connection | None:
        makers = self._listener.makers
        if self._is_tunnel:
            speaks = self.protocol == tls.TUNNEL_PROTOCOL
            self.served = makers.tunnel(self) if speaks else None
        elif self.protocol == tls.HTTP2:
            self.served = self._client = makers.http2(self)
        else:  # kubectl's upgrade connections offer no ALPN at all
            self.served = self._client = makers.http1(self)
        return self.served

    def connection_lost(self, error: Exception | None) -> None:
        """The client is gone."""
        super().connection_lost(error)
        self._listener.transports.discard(self)
        self._listener.limits.remove(self)
        if self.served is None and self._is_tunnel:
            extra: dict[str, Any] = {"source_ip": self.peer_address, "reason": self.failure}
            log.warning("tunnel.handshake_failed", extra=extra)
        self.served = self._client = None
