"""What an operator can choose: nested frozen dataclasses, every value with a default.

Made by :mod:`mk8s_proxy.settings.load` from YAML and the environment, or directly by tests; read
by everything that ``app`` builds. Field names are the keys of the YAML file; joined by "_", in
capitals and behind ``MK8S_``, they are the environment variables.
"""

import os
import re
import socket
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from mk8s_agent.wire.log import LogSettings
from mk8s_agent.wire.settings import SettingsError, setting
from mk8s_proxy.settings.login import LoginSettings
from mk8s_proxy.settings.networks import parse_networks
from mk8s_proxy.settings.patterns import BadPattern, compile_pattern
from mk8s_proxy.settings.sealing import SecretsSettings

MIB = 1 << 20
MOST_HEAD_BYTES = 128 << 10
MOST_TARGET_BYTES = 256 << 10
"""A tunnel carries heads of 448 KiB, with what central adds to a client's."""
INHERITED = "fd://"
"""How an address begins that is a bound socket of our parent's, as from systemd's sockets."""
TUNNEL_SERVER_NAME = "tunnel.mk8s.internal"
"""The TLS server name by which agents ask for the tunnel."""

MAX_PATTERNS = 64
"""Patterns that each exec command is tried with."""

_DNS_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_DNS_NAME = re.compile(rf"{_DNS_LABEL}(?:\.{_DNS_LABEL})*")


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """The certificate of the public names. Without one, central's own CA issues it."""

    certificate: Path | None = None
    """PEM file: the certificate, then its intermediates."""
    key: Path | None = None
    """PEM file with mode 0600 (or 0640) of the certificate's key."""


@dataclass(frozen=True, slots=True)
class TokenSettings:
    """How long a login lasts."""

    access_seconds: int = setting(900, least=60, most=3600)
    """Life of an access token; also how long a revoked one may go on where nobody checks."""
    refresh_seconds: int = setting(12 * 3600, least=300, most=90 * 86400)
    """Life of a login, from the password on: after so long log in again. Use does not prolong
    it."""
    delegation_seconds: int = setting(8 * 3600, least=60, most=90 * 86400)
    """Longest life of a delegation (`mk8s delegate`); it never outlives its owner's login."""


@dataclass(frozen=True, slots=True)
class JoinSettings:
    """How an agent is admitted."""

    token_seconds: int = setting(900, least=60, most=86400)
    """Life of a join token."""


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """What central gives to agents."""

    certificate_seconds: int = setting(86400, least=300, most=30 * 86400)
    """Life of an agent's certificate; the agent renews it at two thirds."""


@dataclass(frozen=True, slots=True)
class AuditSettings:
    """The journal."""

    path: Path | None = None
    """The file in use; by default audit/journal.jsonl in ``data_dir``."""
    max_bytes: int = setting(100 * MIB, least=MIB)
    """Size at which a new file is begun."""
    keep: int = setting(20, least=1)
    """How many finished files stay."""
    redact_commands: tuple[str, ...] = ()
    """Regular expressions of RE2; arguments of exec commands that one of them (or its groups)
    touches are not written down, such as "--password.(.+)". In the environment, one a line."""
    strangers_per_second: int = setting(20, least=1, most=1000)
    """Rows a second for refusals without a verified identity, in a file of their own
    (journal-strangers.jsonl); what is beyond is counted in one row."""
    strangers_max_bytes: int = setting(10 * MIB, least=MIB)
    """Size at which a new one of these files is begun."""
    strangers_keep: int = setting(4, least=1)
    """How many finished ones of them stay."""
    retention_days: int = setting(90, least=0, most=36500)
    """How long the database keeps what it has of the journals; 0 is for ever."""
    database: bool = True
    """The journals' rows are copied into the database, where `mk8s audit` searches. If false, they
    stay in the files alone, and what the database has already is not deleted."""


@dataclass(frozen=True, slots=True)
class LimitSettings:
    """What one client, and all of them together, may take."""

    streams_per_connection: int = setting(100, least=1, most=1000)
    """Concurrent HTTP/2 streams; 100 is what kube-apiserver's clients are used to."""
    header_list_bytes: int = setting(65536, least=8192, most=MOST_HEAD_BYTES)
    """Size of a request's head without its path and query, both HTTP versions."""
    target_bytes: int = setting(MOST_TARGET_BYTES, least=8192, most=MOST_TARGET_BYTES)
    """Size of path and query: commands of kubectl exec are there, and selectors. What is longer
    than 16 KiB counts as buffered by who asks, and is not read before its token is known to be
    good."""
    handshake_seconds: float = setting(10.0, least=1)
    """For the TLS handshake."""
    header_seconds: float = setting(15.0, least=1)
    """For a whole request head to arrive, and for the first one on a new connection."""
    body_seconds: float = setting(30.0, least=5, most=3600)
    """For so many bytes of a request's body to come, again and again until it is whole..."""
    body_bytes: int = setting(8192, least=0, most=MIB)
    """... or the request ends with 408; a thirtieth of this a second is still fast enough. 0 lets
    bodies drip. Not asked of exec, port-forward and what goes through a proxy to a pod."""
    idle_seconds: float = setting(300.0, least=60)
    """For a connection without a request; Go's clients PING after 30 s of silence."""
    connections: int = setting(10000, least=10)
    """Open client connections; a tenth more (at least 16) is kept for tunnels. Where one is too
    many, the oldest ends on which nobody authenticated."""
    connections_per_address: int = setting(1000, least=1)
    """Of these, from one address (IPv6: /64), but for balancers and proxies that are listed."""
    streams_per_identity: int = setting(2000, least=10)
    """Open requests of one person on one cluster, in each worker; more get 429."""
    buffered_per_identity: int = setting(64 * MIB, least=MIB)
    """Bytes waiting in memory for one person's slow readers on one cluster; behind that the
    slowest of their own streams end."""
    api_per_identity: int = setting(3000, least=60, most=1_000_000)
    """Requests to the REST API in a minute, of one person, in each worker; all at once, too. More
    get 429."""
    api_per_address: int = setting(12_000, least=60, most=1_000_000)
    """The same from one address (IPv6: /64), with or without a login."""
    buffered_bytes: int = setting(512 * MIB, least=16 * MIB)
    """Bytes waiting in memory, all streams together."""


@dataclass(frozen=True, slots=True)
class ExecSettings:
    """kubectl for callers that have none: ``POST /clusters/{id}/exec``."""

    enabled: bool = True
    """Whether central runs commands at all."""
    kubectl: Path | None = None
    """The program; by default the kubectl on central's PATH. Without one, callers get 501."""
    seconds: int = setting(60, least=1, most=3600)
    """After so long a command is ended, watches and ``logs -f`` too."""
    output_bytes: int = setting(4 * MIB, least=64 << 10, most=64 * MIB)
    """Output of a command, both streams together; what says more is ended and its answer says
    ``truncated``. Answers in JSON hold all of it in memory."""
    memory_bytes: int = setting(512 * MIB, least=128 * MIB, most=8192 * MIB)
    """Memory of a command."""
    per_caller: int = setting(2, least=1, most=100)
    """Commands of one person at once, in each worker; more get 429."""
    total: int = setting(8, least=1, most=1000)
    """Commands of all callers at once, in each worker."""


@dataclass(frozen=True, slots=True)
class PolicySettings:
    """How fast a policy change arrives, and how long an old policy may decide."""

    poll_seconds: float = setting(1.0, least=0.05, most=30)
    """Between two looks at the policy's version in the database."""
    lease_seconds: float = setting(60.0, least=1, most=3600)
    """Without a look that succeeded for so long, every request gets 503."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything. Fields left empty that depend on others are filled on construction."""

    listen: str = "0.0.0.0:8443"
    """Where clients and agents connect; fd://3 is a socket bound by whoever started us."""
    tunnel_listen: str = ""
    """Another address for agents only; by default they share ``listen``."""
    listen_proxy_protocol_from: str = ""
    """Balancers (networks with commas between) that begin each connection with a PROXY protocol
    header, version 2; from there it is demanded, from anywhere else it is not believed."""
    trusted_proxies: str = ""
    """HTTP proxies in front (networks with commas between) whose ``X-Forwarded-For`` is true."""
    header_underscores: bool = False
    """Names of headers may hold "_", but none that with "-" would mean something here. Leave it off
    behind a proxy that reads the one as the other."""
    public_url: str = ""
    """How clients reach central from outside; by default https://localhost with our port."""
    domain: str = ""
    """Clusters are reached at ``<cluster>.<domain>`` when set (a wildcard name points here)."""
    data_dir: Path = Path()
    """Private folder for the database, server key and journal. By default /var/lib/mk8s for
    root, else ~/.local/share/mk8s-central."""
    database_url: str = field(default="", repr=False)
    """sqlite:///FILE, or postgresql://... (postgres:// is the same); by default central.db in
    ``data_dir``."""
    admin_listen: str = "127.0.0.1:8081"
    """Health and metrics; keep it on a loopback or otherwise protected address. "" is off.
    Of several workers, each takes the next port."""
    public_health: str = "on"
    """"on" answers /livez and /readyz on ``listen``, too, without a token and without a row in the
    audit, for balancers; "off" does not."""
    anonymous_version: str = "off"
    """"on" relays GET /version of a cluster without a credential, as system:anonymous, so that the
    cluster decides; one a second for all strangers together, and at most 30 at once. It tells
    strangers which clusters are there."""
    workers: int = setting(1, least=1, most=64)
    """Processes that share the port; more than one for more than one processor."""
    tls: TlsSettings = field(default_factory=TlsSettings)
    secrets: SecretsSettings = field(default_factory=SecretsSettings)
    tokens: TokenSettings = field(default_factory=TokenSettings)
    login: LoginSettings = field(default_factory=LoginSettings)
    join: JoinSettings = field(default_factory=JoinSettings)
    agent: AgentSettings = field(default_factory=AgentSettings)
    audit: AuditSettings = field(default_factory=AuditSettings)
    limits: LimitSettings = field(default_factory=LimitSettings)
    exec: ExecSettings = field(default_factory=ExecSettings)
    policy: PolicySettings = field(default_factory=PolicySettings)
    log: LogSettings = field(default_factory=LogSettings)

    def __post_init__(self) -> None:
        """Fill what depends on other fields, then refuse what cannot work.

        Raises:
            SettingsError: with every problem found.
        """
        if self.data_dir == Path():
            self._fill("data_dir", default_data_dir())
        self._fill("data_dir", self.data_dir.expanduser().absolute())
        problems = _problems(self)
        if problems:
            raise SettingsError(problems)
        if not self.public_url:
            self._fill("public_url", f"https://localhost:{parse_address(self.listen)[1]}")
        self._fill("public_url", self.public_url.rstrip("/"))
        if not self.database_url:
            self._fill("database_url", f"sqlite:///{self.data_dir / 'central.db'}")

    @property
    def journal_path(self) -> Path:
        """The journal's file: ``audit.path``, or its default in ``data_dir``."""
        return self.audit.path or self.data_dir / "audit" / "journal.jsonl"

    @property
    def key_path(self) -> Path:
        """The file of the sealing key: ``secrets.key_file``, or its default in ``data_dir``."""
        return self.secrets.key_file or self.data_dir / "secret.key"

    @property
    def strangers_path(self) -> Path:
        """The file of refusals without a verified identity, beside the journal."""
        journal = self.journal_path
        return journal.with_name(f"{journal.stem}-strangers{journal.suffix}")

    @property
    def public_host(self) -> str:
        """The host name or address in ``public_url``."""
        return urlsplit(self.public_url).hostname or "localhost"

    @property
    def is_sqlite(self) -> bool:
        """Whether the embedded database is used."""
        return self.database_url.startswith("sqlite")

    def _fill(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)


def default_data_dir() -> Path:
    """Where central keeps its files when nobody says otherwise."""
    if os.geteuid() == 0:
        return Path("/var/lib/mk8s")
    return Path.home() / ".local" / "share" / "mk8s-central"


def parse_address(text: str) -> tuple[str, int]:
    """Split "host:port" or "[v6]:port". Port 0 lets the system choose.

    Of an inherited socket ("fd://3") these are the host and port that it is bound to.

    Raises:
        ValueError: it is none of these.
    """
    if text.startswith(INHERITED):
        return _bound_address(text)
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f'"{text}": put an IPv6 address in brackets, as in [::1]:8443')
    if not colon or not host or not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65535:
        raise ValueError(f'"{text}" is not an address like 127.0.0.1:8443')
    return host, int(port)


def inherited_socket(text: str) -> int | None:
    """The descriptor in "fd://3", a socket that whoever started us has bound; None for the rest."""
    number = text.removeprefix(INHERITED)
    return int(number) if number != text and re.fullmatch(r"[0-9]{1,6}", number) else None


def _bound_address(text: str) -> tuple[str, int]:
    number = inherited_socket(text)
    try:
        with socket.socket(fileno=os.dup(-1 if number is None else number)) as bound:
            host, port = bound.getsockname()[:2]
    except (OSError, ValueError) as error:
        raise ValueError(f'"{text}" is not a TCP socket that was handed to us') from error
    return str(host), int(port)


def shown_address(host: str, port: int) -> str:
    """The text that `parse_address` splits into these two."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _problems(settings: Settings) -> list[str]:
    problems = [
        *_address_problems(settings),
        *_network_problems(settings),
        *_url_problems(settings.public_url),
    ]
    if settings.domain and not _DNS_NAME.fullmatch(settings.domain):
        problems.append(f'domain: "{settings.domain}" is not a DNS name in lower case')
    switches = {name: getattr(settings, name) for name in ("public_health", "anonymous_version")}
    problems += [
        f'{name}: "{text}" is neither on nor off'
        for name, text in switches.items()
        if text not in ("on", "off")
    ]
    if (settings.tls.certificate is None) != (settings.tls.key is None):
        problems.append("tls: set both certificate and key, or neither")
    if settings.policy.poll_seconds * 2 > settings.policy.lease_seconds:
        problems.append("policy: lease_seconds must be at least twice poll_seconds")
    problems += _pattern_problems(settings.audit.redact_commands)
    return problems + settings.login.problems() + settings.log.problems()


def _pattern_problems(patterns: tuple[str, ...]) -> list[str]:
    problems = []
    if len(patterns) > MAX_PATTERNS:
        problems.append(f"audit.redact_commands: at most {MAX_PATTERNS} patterns")
    for pattern in patterns:
        try:
            compile_pattern(pattern)
        except BadPattern as error:
            problems.append(f'audit.redact_commands: "{pattern}": {error}')
    return problems


def _address_problems(settings: Settings) -> list[str]:
    problems = []
    for name in ("listen", "tunnel_listen", "admin_listen"):
        text = getattr(settings, name)
        if not text and name != "listen":
            continue
        try:
            parse_address(text)
            if name == "admin_listen" and text.startswith(INHERITED):
                problems.append(f"{name}: {text}: an inherited socket can be listen only")
        except ValueError as error:
            problems.append(f"{name}: {error}")
    return problems


def _network_problems(settings: Settings) -> list[str]:
    problems = []
    for name in ("listen_proxy_protocol_from", "trusted_proxies"):
        try:
            parse_networks(getattr(settings, name))
        except ValueError as error:
            problems.append(f"{name}: {error}")
    return problems


def _url_problems(url: str) -> list[str]:
    if not url:
        return []
    try:
        parts = urlsplit(url)
        usable = parts.scheme == "https" and parts.hostname and parts.port != 0
    except ValueError:
        return [f'public_url: "{url}" is not a URL']
    if not usable or parts.username is not None:
        return [f'public_url: "{url}" is not like https://mk8s.example.com']
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        return ["public_url: leave out everything behind the host name and port"]
    return []
