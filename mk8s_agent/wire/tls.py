"""The only place that makes TLS contexts for the tunnel, the listener and the API server leg.

TLS 1.2 is the floor. Session tickets are off: with ECDSA keys a resumed handshake costs about as
much as a full one, and tickets would be one more key to protect. Python can load a certificate
chain from files only, so PEM from memory passes through a private temporary file.
"""

import ssl
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final

TUNNEL_PROTOCOL: Final = "mk8s-tunnel/1"
"""ALPN of the connection that an agent dials."""

TUNNEL_SERVER_NAME: Final = "tunnel.mk8s.internal"
"""SNI that selects central's tunnel context."""

HTTP2: Final = "h2"
HTTP1: Final = "http/1.1"


def server_context(chain_pem: bytes, key_pem: bytes) -> ssl.SSLContext:
    """What kubectl, browsers and the CLI meet: ALPN h2 and http/1.1, no client certificates."""
    context = _context(ssl.PROTOCOL_TLS_SERVER, [HTTP2, HTTP1])
    _load(context, chain_pem, key_pem)
    return context


def tunnel_server_context(
    chain_pem: bytes, key_pem: bytes, agent_authority_pem: bytes
) -> ssl.SSLContext:
    """What agents meet: demands a client certificate of `agent_authority_pem`."""
    context = _context(ssl.PROTOCOL_TLS_SERVER, [TUNNEL_PROTOCOL])
    _load(context, chain_pem, key_pem)
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.load_verify_locations(cadata=agent_authority_pem.decode("ascii"))
    return context


def tunnel_client_context(authority_pem: bytes, chain_pem: bytes, key_pem: bytes) -> ssl.SSLContext:
    """An agent's own side: trusts exactly `authority_pem` and shows its certificate."""
    context = _context(ssl.PROTOCOL_TLS_CLIENT, [TUNNEL_PROTOCOL])
    context.load_verify_locations(cadata=authority_pem.decode("ascii"))
    _load(context, chain_pem, key_pem)
    return context


def apiserver_context(
    authority_pem: bytes,
    client_certificate: tuple[bytes, bytes] | None = None,
    *,
    insecure: bool = False,
    http2: bool = True,
) -> ssl.SSLContext:
    """Towards an API server.

    Args:
        authority_pem: the cluster's CA; empty means the system's trust store.
        client_certificate: (chain, key) in PEM, where a kubeconfig authenticates by certificate.
        insecure: the kubeconfig says insecure-skip-tls-verify.
        http2: offer h2; upgrades need a connection that never negotiates it.
    """
    context = _context(ssl.PROTOCOL_TLS_CLIENT, [HTTP2, HTTP1] if http2 else [HTTP1])
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif authority_pem:
        context.load_verify_locations(cadata=authority_pem.decode("ascii"))
    else:
        context.load_default_certs()
    if client_certificate is not None:
        _load(context, *client_certificate)
    return context


def proxy_context() -> ssl.SSLContext:
    """Towards an HTTP proxy that is https itself: the system's trust store, as for browsers."""
    context = _context(ssl.PROTOCOL_TLS_CLIENT, [HTTP1])
    context.load_default_certs()
    return context


def _context(protocol: int, alpn: Iterable[str]) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    if protocol == ssl.PROTOCOL_TLS_SERVER:
        context.num_tickets = 0
    context.set_alpn_protocols(list(alpn))
    return context


def _load(context: ssl.SSLContext, chain_pem: bytes, key_pem: bytes) -> None:
    with tempfile.TemporaryDirectory(prefix="mk8s-tls-") as folder:  # mode 0700
        path = Path(folder) / "identity.pem"
        path.touch(mode=0o600)
        path.write_bytes(key_pem.rstrip() + b"\n" + chain_pem)
        context.load_cert_chain(path)
