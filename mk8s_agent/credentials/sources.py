"""Where the API server is and how the agent authenticates to it.

Made by ``mk8s_agent.main``; asked by ``mk8s_agent.apiserver.pool`` for every request. In a cluster
that is the ServiceAccount, whose token file is rotated; outside one it is a kubeconfig context. The
rule is to fail closed: without a credential there is no request, since the API server would take it
for one of ``system:anonymous``.
"""

import asyncio
import dataclasses
import logging
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final, Protocol

from mk8s_agent.credentials.exec_plugin import ExecCredential, ExecPluginError, run_exec_plugin
from mk8s_agent.credentials.kubeconfig import KubeconfigError, User, kubeconfig_paths, load_context
from mk8s_agent.wire import tls
from mk8s_agent.wire.egress_proxy import DIRECT, EgressProxies, Proxy

SERVICE_ACCOUNT_DIRECTORY: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where the kubelet mounts token and CA."""

_TOKEN_CHECK_SECONDS: Final = 1.0
"""How often a token file is looked at; the kubelet rotates it some minutes before it expires."""
_RENEW_BEFORE_SECONDS: Final = 60.0
_RETRY_SECONDS: Final = 10.0
_MAX_TOKEN_CHARACTERS: Final = 65536

log = logging.getLogger(__name__)


class CredentialsError(Exception):
    """At start: there is no usable way to the API server. The sentence says what to do."""


class CredentialsGone(Exception):
    """While running: there is no credential now, so no request may be sent."""


class TokenSource(Protocol):
    """One way to get what goes into the Authorization header."""

    def authorization(self) -> bytes:
        """Give the header's value, b"" where a client certificate authenticates instead.

        Raises:
            CredentialsGone: there is none at the moment.
        """
        ...

    def rejected(self) -> None:
        """Be told that the API server answered 401."""
        ...

    async def keep_fresh(self) -> None:
        """Run for as long as the agent does, renewing what has to be renewed ahead of its end."""
        ...


def bearer(token: str, where: str) -> bytes:
    """Give the header value for a token.

    Raises:
        CredentialsGone: the token is empty or could not stand in a header.
    """
    if not token:
        raise CredentialsGone(f"{where} is empty")
    if not (token.isascii() and token.isprintable() and " " not in token):
        raise CredentialsGone(f"{where} holds no token")
    return b"Bearer " + token.encode()


class StaticSource:
    """A token that never changes, or none beside a client certificate."""

    def __init__(self, token: str) -> None:
        self._header = bearer(token, "the token of the kubeconfig") if token else b""

    def authorization(self) -> bytes:
        """Give the value that was configured."""
        return self._header

    def rejected(self) -> None:
        """Do nothing; there is no other token."""

    async def keep_fresh(self) -> None:
        """Wait; there is nothing to renew."""
        await asyncio.Event().wait()


class FileSource:
    """A token in a file that somebody else rotates."""

    def __init__(self, path: Path, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._monotonic = monotonic
        self._next_check = 0.0
        self._seen: tuple[int, int, int] | None = None
        self._header = b""
        self._reason = ""
        self._checked = False

    def authorization(self) -> bytes:
        """Give the token that is in the file, looking there at most once in a second."""
        now = self._monotonic()
        if not self._checked or now >= self._next_check:
            self._next_check = now + _TOKEN_CHECK_SECONDS
            self._checked = True
            self._read()
        if not self._header:
            raise CredentialsGone(self._reason)
        return self._header

    def _read(self) -> None:
        try:
            status = self._path.stat()
            seen = (status.st_mtime_ns, status.st_ino, status.st_size)
            if seen == self._seen:
                return
            with self._path.open("r", encoding="ascii", errors="replace") as file:
                token = file.read(_MAX_TOKEN_CHARACTERS).strip()
            self._header = bearer(token, f"the token file {self._path}")
        except OSError as error:
            self._lose(f"cannot read the token file {self._path}: {error.strerror}")
        except CredentialsGone as error:
            self._lose(str(error))
        else:
            self._seen = seen

    def _lose(self, reason: str) -> None:
        self._header, self._seen, self._reason = b"", None, reason

    def rejected(self) -> None:
        """Read the file again at the next request."""
        self._checked, self._seen = False, None

    async def keep_fresh(self) -> None:
        """Wait; each request looks."""
        await asyncio.Event().wait()


class ExecSource:
    """A token or client certificate that a plugin prints."""

    def __init__(
        self,
        run: Callable[[], Awaitable[ExecCredential]],
        *,
        clock: Callable[[], float] = time.time,
        changed: Callable[[ExecCredential], None],
    ) -> None:
        self._run = run
        self._clock = clock
        self._changed = changed
        self._credential: ExecCredential | None = None
        self._header = b""
        self._renew_at: float | None = 0.0
        self._wanted = asyncio.Event()

    async def renew(self) -> None:
        """Run the plugin.

        Raises:
            ExecPluginError: it gave nothing; what was there stays until it expires.
        """
        credential = await self._run()
        where = "the answer of the credential plugin"
        try:
            header = bearer(credential.token, where) if credential.token else b""
        except CredentialsGone as error:
            raise ExecPluginError(str(error)) from error
        self._renew_at = self._renewal_time(credential)
        self._credential, self._header = credential, header
        self._changed(credential)

    def _renewal_time(self, credential: ExecCredential) -> float | None:
        if credential.expires is None:
            return None
        left = credential.expires - self._clock()
        if left <= 0:
            raise ExecPluginError("the credential plugin gave a credential that has expired")
        return credential.expires - min(_RENEW_BEFORE_SECONDS, left / 10)

    def authorization(self) -> bytes:
        """Give the token that the plugin printed last."""
        if self._credential is None:
            raise CredentialsGone("the credential plugin has not answered")
        expires = self._credential.expires
        if expires is not None and self._clock() >= expires:
            raise CredentialsGone("the credential of the plugin has expired")
        return self._header

    def rejected(self) -> None:
        """Have the plugin run again, as kubectl does."""
        self._wanted.set()

    async def keep_fresh(self) -> None:
        """Run the plugin a minute before its credential ends, and when it was rejected."""
        while True:
            try:
                async with asyncio.timeout(self._seconds_left()):
                    await self._wanted.wait()
            except TimeoutError:
                pass
            try:
                await self.renew()
            except ExecPluginError as error:
                log.warning("credential.not_renewed", extra={"reason": str(error)})
            except Exception:
                log.exception("credential.not_renewed")
            self._wanted.clear()
            # A plugin that fails, or whose credential is refused at once, is not run in a circle.
            await asyncio.sleep(_RETRY_SECONDS)

    def _seconds_left(self) -> float | None:
        if self._renew_at is None:
            return None
        return max(self._renew_at - self._clock(), 0.0)


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
    """Grows when the client certificate changes: then connections need a new TLS context."""

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

    def tls_context(self, *, http2: bool) -> ssl.SSLContext:
        """Make a context for connections to the API server; without ``http2`` for upgrades.

        Raises:
            CredentialsError: a certificate or key cannot be used.
        """
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
    )


async def _from_kubeconfig(
    paths: tuple[Path, ...], name: str, environment: Mapping[str, str]
) -> ApiServerCredentials:
    context = load_context(paths, name)
    cluster, user = context.cluster, context.user
    certificate = None
    if user.client_certificate_pem:
        certificate = (user.client_certificate_pem, user.client_key_pem)
    credentials = ApiServerCredentials(
        description=f'context "{context.name}"',
        host=cluster.host,
        port=cluster.port,
        path_prefix=cluster.path_prefix,
        tls_server_name=cluster.tls_server_name,
        ca_pem=cluster.ca_pem,
        insecure_skip_tls_verify=cluster.insecure_skip_tls_verify,
        source=_static_source(user),
        client_certificate=certificate,
        proxy=cluster.proxy,
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
