"""Dials a TLS server and waits for the end of the handshake. Agents dial, central never does."""

import asyncio
import ssl
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from mk8s_agent.wire import tls
from mk8s_agent.wire.egress_proxy import Proxy
from mk8s_agent.wire.proxy_handshake import Handshake, ProxyRefused, handshake
from mk8s_agent.wire.tcp import prepare
from mk8s_agent.wire.transport import (
    Connection,
    MakeConnection,
    SocketTransport,
    TlsTransport,
)

C = TypeVar("C", bound=Connection)


class DialError(Exception):
    """No connection; the text says why in one line."""


class TlsClientTransport(TlsTransport):
    """The dialling side of TLS.

    Args:
        make: builds the connection after the handshake.
        context: decides what is trusted and which protocols are offered.
        server_name: sent as SNI and verified.
        handshake_seconds: time for all handshakes, then the socket is closed.
        proxy: whom to talk to first, and TLS begins when it has connected.
    """

    def __init__(
        self,
        make: MakeConnection,
        context: ssl.SSLContext,
        server_name: str,
        handshake_seconds: float = 10.0,
        proxy: Handshake | None = None,
    ) -> None:
        super().__init__(make, handshake_seconds)
        self._context = context
        self._server_name = server_name
        self._proxy = proxy

    def _hello(self) -> None:
        prepare(self._socket.get_extra_info("socket"))
        if self._proxy is not None:
            self._socket.write(self._proxy.begin())
        else:
            self._begin_tls()

    def _begin_tls(self) -> None:
        self.begin(self._context, self._server_name, server=False)
        self._handshake()

    def _received_hello(self, data: bytes) -> bool:
        if self._proxy is None:
            return super()._received_hello(data)
        self._begun = b""
        try:
            reply = self._proxy.receive(data)
        except ProxyRefused as error:
            self.failure, self.error = str(error), error
            self.abort()
            return False
        if reply is None:
            self._proxy = None
            self._begin_tls()
        else:
            self._socket.write(reply)
        return False

    def connection_lost(self, error: Exception | None) -> None:
        """The socket is gone."""
        if self._proxy is not None and not self.failure:
            self.failure = "the proxy closed the connection"
            self.error = ConnectionResetError(self.failure)
        super().connection_lost(error)


class _Dialled(TlsClientTransport, Generic[C]):
    """Tells a future how the handshake ended."""

    def __init__(
        self,
        make: Callable[[TlsTransport], C],
        context: ssl.SSLContext,
        server_name: str,
        seconds: float,
        proxy: Handshake | None,
    ) -> None:
        super().__init__(self._ready, context, server_name, seconds, proxy)
        self.outcome: asyncio.Future[C] = asyncio.get_running_loop().create_future()
        self._build = make

    def _ready(self, transport: SocketTransport) -> Connection | None:
        if self.outcome.done():  # the dialler gave up
            return None
        connection = self._build(self)
        self.outcome.set_result(connection)
        return connection

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        if not self.outcome.done():
            failure = DialError(self.failure or "closed during the TLS handshake")
            failure.__cause__ = self.error
            if not self.failure:  # nobody said no: the other side went away
                failure.__cause__ = ConnectionResetError(str(failure))
            self.outcome.set_exception(failure)


async def dial_tls(
    host: str,
    port: int,
    context: ssl.SSLContext,
    make: Callable[[TlsTransport], C],
    *,
    server_name: str,
    seconds: float = 10.0,
    proxy: Proxy | None = None,
) -> C:
    """Connects, shakes hands and builds the connection.

    Args:
        context: decides what is trusted and which protocols are offered.
        make: builds the connection from the transport, whose `protocol` is known by then.
        server_name: sent as SNI and verified.
        seconds: for the whole of it.
        proxy: connects us to host:port; one that is https itself is trusted as the system says.

    Raises:
        DialError: refused, unreachable, untrusted, or too slow. Its cause is what went wrong.
    """
    where = f"{host}:{port}" if proxy is None else f"{host}:{port} through the proxy {proxy}"
    dialled: _Dialled[C] | None = None
    try:
        talk = handshake(proxy, host, port) if proxy is not None else None
        async with asyncio.timeout(seconds):
            dialled = await _connect(
                lambda: _Dialled(make, context, server_name, seconds, talk), proxy, host, port
            )
            connection = await dialled.outcome
    except TimeoutError as error:
        _give_up(dialled)
        raise DialError(f"{where} did not answer within {seconds:g} seconds") from error
    except (OSError, ProxyRefused) as error:
        raise DialError(f"{where}: {_reason(error)}") from error
    except BaseException:
        _give_up(dialled)
        raise
    return connection


async def _connect(
    make: Callable[[], _Dialled[C]], proxy: Proxy | None, host: str, port: int
) -> _Dialled[C]:
    loop = asyncio.get_running_loop()
    if proxy is None:
        _, dialled = await loop.create_connection(make, host, port)
    else:
        # The loop's own TLS carries ours: two layers, and speed is the proxy's business here.
        context = tls.proxy_context() if proxy.scheme == "https" else None
        _, dialled = await loop.create_connection(make, proxy.host, proxy.port, ssl=context)
    return dialled


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    return str(getattr(error, "strerror", None) or error)


def _give_up(dialled: "_Dialled[Any] | None") -> None:
    if dialled is not None:
        dialled.outcome.cancel()
        dialled.abort()
