"""Dials a TLS server and waits for the end of the handshake. Agents dial, central never does."""

import asyncio
import ssl
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from mk8s_agent.wire.transport import Connection, SocketTransport, TlsClientTransport, TlsTransport

C = TypeVar("C", bound=Connection)


class DialError(Exception):
    """No connection; the text says why in one line."""


class _Dialled(TlsClientTransport, Generic[C]):
    """Tells a future how the handshake ended."""

    def __init__(
        self,
        make: Callable[[TlsTransport], C],
        context: ssl.SSLContext,
        server_name: str,
        seconds: float,
    ) -> None:
        super().__init__(self._ready, context, server_name, seconds)
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
) -> C:
    """Connects, shakes hands and builds the connection.

    Args:
        context: decides what is trusted and which protocols are offered.
        make: builds the connection from the transport, whose `protocol` is known by then.
        server_name: sent as SNI and verified.
        seconds: for the whole of it.

    Raises:
        DialError: refused, unreachable, untrusted, or too slow.
    """
    loop = asyncio.get_running_loop()
    dialled: _Dialled[C] | None = None
    try:
        async with asyncio.timeout(seconds):
            _, dialled = await loop.create_connection(
                lambda: _Dialled(make, context, server_name, seconds), host, port
            )
            connection = await dialled.outcome
    except TimeoutError as error:
        _give_up(dialled)
        raise DialError(f"{host}:{port} did not answer within {seconds:g} seconds") from error
    except OSError as error:
        raise DialError(f"{host}:{port}: {error.strerror or error}") from error
    except BaseException:
        _give_up(dialled)
        raise
    return connection


def _give_up(dialled: "_Dialled[Any] | None") -> None:
    if dialled is not None:
        dialled.outcome.cancel()
        dialled.abort()
