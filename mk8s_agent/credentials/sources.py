"""Where the API server is and how the agent authenticates to it.

Made by ``mk8s_agent.main``; asked by ``mk8s_agent.apiserver.pool`` for every request. In a cluster
that is the ServiceAccount, whose token file is rotated; outside one it is a kubeconfig context. The
rule is to fail closed: without a credential there is no request, since the API server would take it
for one of ``system:anonymous``.
"""

import dataclasses
import logging
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from mk8s_agent.credentials.exec_plugin import ExecCredential, ExecPluginError, run_exec_plugin
from mk8s_agent.credentials.kubeconfig import User, kubeconfig_paths, load_context
from mk8s_agent.credentials.kubeconfig_fields import KubeconfigError
from mk8s_agent.credentials.token_sources import (
    CredentialsGone,
    ExecSource,
    FileSource,
    StaticSource,
    TokenSource,
)
from mk8s_agent.credentials.trust_files import FileContents, TrustFiles
from mk8s_agent.wire import tls
from mk8s_agent.wire.egress_proxy import DIRECT, EgressProxies, Proxy

SERVICE_ACCOUNT_DIRECTORY: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where the kubelet mounts token and CA."""

_UNVERIFIED: Final = (
    "insecure-skip-tls-verify lets anybody on the way be the API server; "
    "give certificate-authority instead"
)

log = logging.getLogger(__name__)


class CredentialsError(Exception):
    """At start: there is no usable way to the API server. The sentence says what to do."""


@dataclasses.dataclass(slots=True)
class ApiServerCredentials:
    """The API server's address, how to verify it, and the agent's own credential."""

    description: str
    """For messages, for example ``context "kind-dev"``."""
    host: str
    port: int
    path_prefix: str
    """Goes before each request's path; without a slash at its end, "" nearly always."""
    tls_server_name: str
    ca_pem: bytes
    """Empty means the system's trust store."""
    insecure_skip_tls_verify: bool
    source: TokenSource = dataclasses.field(repr=False)
    client_certificate: tuple[bytes, bytes] | None = dataclasses.field(repr=False)
    """Certificate chain and key, both PEM."""
    proxy: Proxy | None = dataclasses.field(default=None, repr=False)
    """On the way there; None goes directly."""
    generation: int = 0
    """Grows when trust or client certificate change: then connections need a new TLS context."""
    files: TrustFiles | None = dataclasses.field(default=None, repr=False)
    """Where CA and client certificate came from, as far as they can change there."""

    def authorization(self) -> bytes:
        """Give the Authorization header's value, b"" where a client certificate authenticates.

        Raises:
            CredentialsGone: neither is there; no request may be sent.
        """
        header = self.source.authorization()
        if not header and self.client_certificate is None:
            raise CredentialsGone("there is neither a token nor a client certificate")
        return header

    def rejected(self) -> None:
        """Be told that the API server answered 401: look for a newer credential."""
        self.source.rejected()

    def refresh(self) -> None:
        """Take what changed in the files of CA, client certificate and key; never raises.

        What cannot be used, such as a file that is half written, leaves everything as it is.
        """
        if self.files is None:
            return
        try:
            found = self.files.look()
            if found is not None:
                self._take(found)
                self.files.accept()
        except (OSError, ValueError) as error:  # of ssl, too
            if self.files.refuse():
                told = {"credentials": self.description, "reason": str(error)}
                log.warning("credential.files_not_usable", extra=told)

    def _take(self, found: FileContents) -> None:
        authority = self.ca_pem if found.authority is None else found.authority
        if found.authority is not None and b"-----BEGIN " not in authority:
            raise ValueError("the CA file holds no PEM")  # an empty one would trust the system's
        certificate = self.client_certificate
        if found.certificate is not None and certificate is not None:
            certificate = (found.certificate, certificate[1])
        if found.key is not None and certificate is not None:
            certificate = (certificate[0], found.key)
        tls.apiserver_context(authority, certificate, insecure=self.insecure_skip_tls_verify)
        self.ca_pem, self.client_certificate = authority, certificate
        self.generation += 1
        log.info("credential.files_changed", extra={"credentials": self.description})

    def tls_context(self, *, http2: bool) -> ssl.SSLContext:
        """Make a context for connections to the API server; without ``http2`` for upgrades.

        Raises:
            CredentialsError: a certificate or key cannot be used.
        """
        self.refresh()
        try:
            return tls.apiserver_context(
                self.ca_pem,
                self.client_certificate,
                insecure=self.insecure_skip_tls_verify,
                http2=http2,
            )
        except (ssl.SSLError, ValueError) as error:
            raise CredentialsError(
                f"{self.description}: the CA, client certificate or key cannot be used: "
                f"{getattr(error, 'reason', None) or error}"
            ) from error

    async def keep_fresh(self) -> None:
        """Renew in the background; ends by cancellation, or at once when there is nothing to do."""
        await self.source.keep_fresh()


async def load_credentials(
    *,
    kubeconfig: str = "",
    context: str = "",
    environment: Mapping[str, str],
    home: Path,
    service_account: Path = SERVICE_ACCOUNT_DIRECTORY,
    proxies: EgressProxies = DIRECT,
) -> ApiServerCredentials:
    """Find the credentials and read them once.

    A kubeconfig or context that is named wins; else those of the pod, when this runs in one; else
    the current context. The proxy is that of the context, or else of the environment.

    Raises:
        CredentialsError: there are none that can be used.
    """
    try:
        if kubeconfig or context or not in_cluster(environment, service_account):
            paths = kubeconfig_paths(kubeconfig, environment, home)
            credentials = await _from_kubeconfig(paths, context, environment)
        else:
            credentials = _from_service_account(environment, service_account)
        if credentials.insecure_skip_tls_verify:
            told = {"credentials": credentials.description, "advice": _UNVERIFIED}
            log.warning("apiserver.unverified", extra=told)
        if credentials.proxy is None:
            credentials.proxy = proxies.to(credentials.host, credentials.port)
        credentials.authorization()
        credentials.tls_context(http2=True)
    except (KubeconfigError, ExecPluginError, CredentialsGone) as error:
        raise CredentialsError(str(error)) from error
    return credentials


def in_cluster(
    environment: Mapping[str, str], service_account: Path = SERVICE_ACCOUNT_DIRECTORY
) -> bool:
    """Tell whether this process runs in a pod with a ServiceAccount."""
    return bool(environment.get("KUBERNETES_SERVICE_HOST")) and service_account.is_dir()


def _from_service_account(environment: Mapping[str, str], directory: Path) -> ApiServerCredentials:
    host = environment["KUBERNETES_SERVICE_HOST"]
    port = environment.get("KUBERNETES_SERVICE_PORT", "443")
    try:
        ca_pem = (directory / "ca.crt").read_bytes()
        port_number = int(port)
    except OSError as error:
        raise CredentialsError(
            f"cannot read {directory / 'ca.crt'}: {error.strerror}; "
            "does the pod have automountServiceAccountToken: true?"
        ) from error
    except ValueError as error:
        raise CredentialsError("KUBERNETES_SERVICE_PORT is not a number") from error
    return ApiServerCredentials(
        description="the ServiceAccount of this pod",
        host=host,
        port=port_number,
        path_prefix="",
        tls_server_name=host,
        ca_pem=ca_pem,
        insecure_skip_tls_verify=False,
        source=FileSource(directory / "token"),
        client_certificate=None,
        files=TrustFiles(directory / "ca.crt"),
    )


async def _from_kubeconfig(
    paths: tuple[Path, ...], name: str, environment: Mapping[str, str]
) -> ApiServerCredentials:
    context = load_context(paths, name)
    cluster, user = context.cluster, context.user
    certificate = None
    if user.client_certificate.content:
        certificate = (user.client_certificate.content, user.client_key.content)
    credentials = ApiServerCredentials(
        description=f'context "{context.name}"',
        host=cluster.host,
        port=cluster.port,
        path_prefix=cluster.path_prefix,
        tls_server_name=cluster.tls_server_name,
        ca_pem=cluster.authority.content,
        insecure_skip_tls_verify=cluster.insecure_skip_tls_verify,
        source=_static_source(user),
        client_certificate=certificate,
        proxy=cluster.proxy,
        files=TrustFiles(
            cluster.authority.path, user.client_certificate.path, user.client_key.path
        ),
    )
    if user.exec_plugin is not None:
        plugin = user.exec_plugin

        def changed(credential: ExecCredential) -> None:
            _take_certificate(credentials, credential)

        source = ExecSource(lambda: run_exec_plugin(plugin, cluster, environment), changed=changed)
        credentials.source = source
        await source.renew()
    return credentials


def _static_source(user: User) -> TokenSource:
    # client-go: where both are given, what the file holds takes precedence
    return FileSource(user.token_file) if user.token_file else StaticSource(user.token)


def _take_certificate(credentials: ApiServerCredentials, credential: ExecCredential) -> None:
    certificate = None
    if credential.client_certificate_pem:
        certificate = (credential.client_certificate_pem, credential.client_key_pem)
    if certificate != credentials.client_certificate:
        credentials.client_certificate = certificate
        credentials.generation += 1
