"""Starts and stops the demo API on TLS with a throwaway certificate.

Used by `__main__` (and through it by `mk8s demo`) and by the tests of every part:

    async with running_demo_api() as server:
        server.url, server.ca_pem, server.token, server.kubeconfig()
"""

import base64
import contextlib
import datetime
import ipaddress
import secrets
import ssl
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import yaml
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from mk8s_cli.demo_api.app import STATE, create_app
from mk8s_cli.demo_api.state import ApiState

CERTIFICATE_DAYS = 30
SHUTDOWN_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class DemoApi:
    """A running demo API: its URL, the certificate to trust (its own issuer), the bearer token
    that it demands, its objects and the requests it has seen.
    """

    url: str
    ca_pem: str
    token: str
    state: ApiState

    def kubeconfig(self, context: str = "demo-api") -> str:
        """A kubeconfig (YAML) with one context."""
        authority = base64.b64encode(self.ca_pem.encode()).decode()
        cluster = {"server": self.url, "certificate-authority-data": authority}
        document: dict[str, Any] = {"apiVersion": "v1", "kind": "Config"}
        document["clusters"] = [{"name": context, "cluster": cluster}]
        document["users"] = [{"name": context, "user": {"token": self.token}}]
        linked = {"cluster": context, "user": context}
        document["contexts"] = [{"name": context, "context": linked}]
        document["current-context"] = context
        return yaml.safe_dump(document, sort_keys=False)


def throwaway_certificate() -> tuple[str, str]:
    """A self-signed certificate for loopback and its key, both PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mk8s demo API (throwaway)")])
    start = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=1)
    end = start + datetime.timedelta(days=CERTIFICATE_DAYS)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, start, end)
    builder = builder.add_extension(x509.BasicConstraints(True, 0), critical=True)
    names = x509.SubjectAlternativeName([x509.DNSName("localhost"), address])
    certificate = builder.add_extension(names, critical=False).sign(key, hashes.SHA256())
    key_pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return certificate.public_bytes(Encoding.PEM).decode(), key_pem.decode()


def tls_context(certificate: str, key: str) -> ssl.SSLContext:
    """A server context for http/1.1 only: the ssl module wants files, which go at once."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    with tempfile.NamedTemporaryFile() as file:  # 0600
        file.write((certificate + key).encode())
        file.flush()
        context.load_cert_chain(file.name)
    return context


@contextlib.asynccontextmanager
async def running_demo_api(*, port: int = 0, log_seconds: float = 1.0) -> AsyncIterator[DemoApi]:
    """A demo API on a loopback port (0: any free one), stopped at the end.

    Raises:
        OSError: the port is in use.
    """
    token = secrets.token_urlsafe(32)
    certificate, key = throwaway_certificate()
    app = create_app(bearer_token=token, log_seconds=log_seconds)
    runner = web.AppRunner(
        app, access_log=None, shutdown_timeout=SHUTDOWN_SECONDS, handler_cancellation=True
    )
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", port, ssl_context=tls_context(certificate, key))
        await site.start()
        bound = runner.addresses[0][1]
        yield DemoApi(f"https://127.0.0.1:{bound}", certificate, token, app[STATE])
    finally:
        await runner.cleanup()
