"""What the agent is told: command line over environment over a YAML file over defaults.

Read by ``mk8s_agent.command`` only. Each environment variable has two names, the short one of the
manifests and one with ``MK8S_AGENT_``, which wins.
"""

import dataclasses
import functools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from mk8s_agent.wire import pki
from mk8s_agent.wire.egress_proxy import EgressProxies, ProxyError
from mk8s_agent.wire.limits import MIB
from mk8s_agent.wire.log import LogSettings
from mk8s_agent.wire.setting_values import Unusable, switch
from mk8s_agent.wire.settings import Names, SettingsError, build, read_values, setting, variables_of

CLUSTER_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
"""A DNS-1123 label, since the name becomes one: https://<cluster>.<domain>."""

_SHORT_NAMES: Final = {
    "central_url": ("CENTRAL_URL",),
    "cluster_name": ("CLUSTER_NAME",),
    "join_token": ("AGENT_TOKEN",),
    "ca_pin": ("CA_PIN",),
    "https_proxy": ("HTTPS_PROXY", "https_proxy"),
    "no_proxy": ("NO_PROXY", "no_proxy"),
}
"""The first one that is set wins."""


@dataclasses.dataclass(frozen=True, slots=True)
class Address:
    """A host and a port to connect to or to listen on."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """All settings of one agent."""

    central_url: str
    """``https://host:port`` of central; a path is kept for the join."""
    cluster_name: str
    """The name that the cluster was added with."""
    data_dir: Path | None
    """Where the identity is kept; by default a folder per cluster in ~/.local/share/mk8s-agent. Not
    used in a pod, where `identity_secret` keeps it."""
    join_token: str = dataclasses.field(default="", repr=False)
    """Needed once; ignored as long as there is a valid identity."""
    ca_pin: str = ""
    """``sha256:<hex>`` of central's CA; empty trusts `ca_file`, or else the system's store."""
    ca_file: str = ""
    """PEM of the CA that signed central's certificate, where there is no pin."""
    kubeconfig: str = ""
    """A kubeconfig; empty means the pod's ServiceAccount, or KUBECONFIG, or ~/.kube/config."""
    context: str = ""
    """A context of the kubeconfig; empty means its current one."""
    identity_secret: str = "mk8s-agent-identity"
    """Name of the Secret, in the pod's namespace, that keeps the identity in a pod."""
    tunnels: int = setting(2, least=1, most=16)
    """Tunnels held at the same time; more where central has more workers, one to each."""
    https_proxy: str = dataclasses.field(default="", repr=False)
    """``http://[user:password@]host:port`` (or https, socks5): the proxy to central, and to the API
    server where its kubeconfig has no `proxy-url`."""
    no_proxy: str = ""
    """What is reached without the proxy: names, addresses, CIDRs, as kubectl reads it."""
    health_listen: str = ""
    """``host:port`` for /livez, /readyz and /metrics; empty turns them off."""
    join_timeout: float = setting(60.0, least=0, most=3600)
    """Seconds that central may be out of reach at the join."""
    drain_seconds: float = setting(30.0, least=0, most=3600)
    """Seconds that requests get to end after SIGTERM."""
    buffered_bytes: int = setting(192 * MIB, least=16 * MIB)
    """Bytes waiting in memory for slow readers, all streams together; behind that the slowest end.
    They may take twice as much memory: keep the pod's limit above that."""
    log: LogSettings = dataclasses.field(default_factory=LogSettings)

    @property
    def central(self) -> Address:
        """Where tunnels are dialled."""
        url = urlsplit(self.central_url)
        return Address(url.hostname or "", url.port or 443)

    @property
    def proxies(self) -> EgressProxies:
        """Which proxy leads where."""
        return EgressProxies(self.https_proxy, self.no_proxy)

    @property
    def health(self) -> Address | None:
        """Where health is served; None when it is not."""
        return _listen_address(self.health_listen) if self.health_listen else None


def _other_name(place: str, value: object) -> Mapping[str, object]:
    return {place: value}


def _insecure(value: object) -> Mapping[str, object]:
    if switch(value):
        raise Unusable(
            "an agent that trusts any server hands its cluster to it: delete this line and write "
            "ca_pin: sha256:... (mk8s admin clusters add prints it), or tls.ca_file"
        )
    return {}


SPELLINGS: Final = {
    "central.url": "central_url",
    "central.token": "join_token",
    "cluster.name": "cluster_name",
    "tls.ca_file": "ca_file",
}
"""Keys of the file that say a setting in other words."""
_READERS: Final = {
    key: functools.partial(_other_name, place) for key, place in SPELLINGS.items()
} | {"tls.insecure": _insecure}
_NAMES: Final = Names(Settings, "MK8S_AGENT_", spellings=_READERS)


def load_settings(
    options: Mapping[str, object],
    environment: Mapping[str, str],
    *,
    config: Path | None = None,
    home: Path,
    in_pod: bool,
) -> Settings:
    """Put the settings together and check them.

    Args:
        options: of the command line, by name; what is None was not given.
        environment: the process's.
        config: a YAML file of settings.
        home: the user's home directory.
        in_pod: the agent runs in a pod; its identity then goes to a Secret, unless a kubeconfig
            or a data directory is named.

    Raises:
        SettingsError: a setting is missing, unknown or malformed.
    """
    values = read_values(_NAMES, config, _long_names(environment), options, inside=environment)
    values["central_url"] = _central_url(_text(values, "central_url"))
    values["cluster_name"] = _cluster_name(_text(values, "cluster_name"))
    values["ca_pin"] = _pin(str(values.get("ca_pin", "")))
    values["data_dir"] = _data_directory(values, home, in_pod=in_pod)
    settings = build(Settings, values)
    _check(settings)
    return settings


def environment_variables() -> dict[str, tuple[str, ...]]:
    """The variables of each setting, by its place in the file; the one that wins first."""
    return {
        place: (name, *_SHORT_NAMES.get(place, ())) for place, name in variables_of(_NAMES).items()
    }


def _long_names(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that are set, by their long names; an empty one says nothing."""
    variables = {
        f"MK8S_AGENT_{name.upper()}": next(filter(None, map(environment.get, short)), "")
        for name, short in _SHORT_NAMES.items()
    }
    variables |= {name: value for name, value in environment.items() if value}
    return {name: value for name, value in variables.items() if value}


def _text(values: Mapping[str, object], name: str) -> str:
    value = str(values.get(name, "")).strip()
    if not value:
        variable = _SHORT_NAMES[name][0]
        raise SettingsError([f"{variable} is not set; mk8s admin clusters add NAME prints it"])
    return value


def _central_url(text: str) -> str:
    example = "it looks like https://mk8s.example.com:8443"
    full = text if "://" in text else "https://" + text
    try:
        url = urlsplit(full)
        host, _ = url.hostname, url.port
    except ValueError:
        raise SettingsError([f"CENTRAL_URL {text!a} is not a URL; {example}"]) from None
    if url.scheme != "https":
        raise SettingsError([f"CENTRAL_URL must be https, not {url.scheme}; {example}"])
    if not host or url.username or url.query or url.fragment or not full.isprintable():
        raise SettingsError([f"CENTRAL_URL is not host, port and path; {example}"])
    return full.rstrip("/")


def _cluster_name(name: str) -> str:
    if not CLUSTER_NAME.fullmatch(name):
        raise SettingsError(
            [f"CLUSTER_NAME {name!a} is not a name of lower-case letters, digits and dashes"]
        )
    return name


def _pin(text: str) -> str:
    if not text.strip():
        return ""
    try:
        return pki.parse_pin(text)
    except pki.PkiError as error:
        raise SettingsError([f"CA_PIN: {error}"]) from error


def _data_directory(values: Mapping[str, object], home: Path, *, in_pod: bool) -> Path | None:
    given = values.get("data_dir")
    if given:
        return Path(str(given)).expanduser()
    if in_pod and not (values.get("kubeconfig") or values.get("context")):
        return None
    # One for each cluster, so that two agents on one machine do not meet.
    return home / ".local" / "share" / "mk8s-agent" / str(values["cluster_name"])


def _check(settings: Settings) -> None:
    if problems := settings.log.problems():
        raise SettingsError(problems)
    if settings.ca_pin and settings.ca_file:
        raise SettingsError(["CA_PIN and ca_file exclude each other; give the pin"])
    try:
        EgressProxies(settings.https_proxy)
    except ProxyError as error:
        raise SettingsError([str(error)]) from None
    if settings.health_listen:
        _listen_address(settings.health_listen)


def _listen_address(text: str) -> Address:
    host, colon, port = str(text).rpartition(":")
    if not (colon and port.isascii() and port.isdigit() and int(port) <= 65535):
        raise SettingsError([f"health_listen {text!a} is not host:port, as in 127.0.0.1:8082"])
    return Address(host.strip("[]") or "127.0.0.1", int(port))
