"""Connects to the API server by TLS, as whom the credentials say. For `apiserver`."""

# interpreted: a door to sockets, it waits more than it works

import ssl
from collections.abc import Callable
from typing import Any, Protocol

from mk8s_agent.credentials.sources import (
    ApiServerCredentials,
)
from mk8s_agent.wire import tls
from mk8s_agent.wire.dial import dial_tls
from mk8s_agent.wire.transport import TlsTransport

Contexts = tuple[ssl.SSLContext, ssl.SSLContext]
"""With HTTP/2 among the offered protocols, and without."""


class Dial(Protocol):
    """How connections to the API server are made (`ApiServerDial`)."""

    async def __call__(self, build: Callable[[TlsTransport], Any], *, http2: bool) -> Any:
        """Connects; `build` makes the connection of the transport."""


class ApiServerDial:
    """Dials where its credentials say.

    Args:
        credentials: address, trust and client certificate; read again for every connection.
    """

    def __init__(self, credentials: ApiServerCredentials) -> None:
        self._credentials = credentials
        self._generation = -1
        self._contexts: Contexts | None = None

    async def __call__(self, build: Callable[[TlsTransport], Any], *, http2: bool) -> Any:
        """Connects, and gives what `build` makes of the transport.

        Raises:
            DialError: the API server cannot be reached or trusted.
        """
        credentials = self._credentials
        contexts = self.contexts()
        return await dial_tls(
            credentials.host,
            credentials.port,
            contexts[0 if http2 else 1],
            build,
            server_name=credentials.tls_server_name or credentials.host,
            proxy=credentials.proxy,
        )

    def contexts(self) -> Contexts:
        """TLS contexts, made again when trust or the client certificate have changed."""
        credentials = self._credentials
        credentials.refresh()
        if self._contexts is None or self._generation != credentials.generation:
            pair = credentials.client_certificate
            authority = credentials.ca_pem
            insecure = credentials.insecure_skip_tls_verify
            self._contexts = (
                tls.apiserver_context(authority, pair, insecure=insecure),
                tls.apiserver_context(authority, pair, insecure=insecure, http2=False),
            )
            self._generation = credentials.generation
        return self._contexts
