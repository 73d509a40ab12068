"""What the agent is told: command line over environment over a YAML file over defaults.

Read by ``mk8s_agent.main`` only. Each environment variable has two names, the short one of the
manifests and one with ``MK8S_AGENT_``, which wins.
"""

import dataclasses
import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import yaml

from mk8s_agent.wire import pki

CLUSTER_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
"""A DNS-1123 label, since the name becomes one: https://<cluster>.<domain>."""

_SHORT_NAMES: Final = {
    "central_url": "CENTRAL_URL",
    "cluster_name": "CLUSTER_NAME",
    "join_token": "AGENT_TOKEN",
    "ca_pin": "CA_PIN",
}
_MAX_TUNNELS: Final = 16


class SettingsError(Exception):
    """A setting is missing or malformed; the sentence names it and says what it looks like."""


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
    tunnels: int = 2
    """Tunnels held at the same time, 1 to 16; more where central has more workers, one to each."""
    health_listen: str = ""
    """``host:port`` for /livez and /readyz; empty turns them off."""
    join_timeout: float = 60.0
    """Seconds that central may be out of reach at the join."""
    drain_seconds: float = 30.0
    """Seconds that requests get to end after SIGTERM."""

    @property
    def central(self) -> Address:
        """Where tunnels are dialled."""
        url = urlsplit(self.central_url)
        return Address(url.hostname or "", url.port or 443)

    @property
    def health(self) -> Address | None:
        """Where health is served; None when it is not."""
        return _listen_address(self.health_listen) if self.health_listen else None


_NAMES: Final = tuple(field.name for field in dataclasses.fields(Settings))


def load_settings(
    options: Mapping[str, Any],
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
    values: dict[str, Any] = _read_file(config) if config else {}
    values |= _read_environment(environment)
    values |= {name: value for name, value in options.items() if value is not None}
    for name in ("tunnels", "join_timeout", "drain_seconds"):
        if name in values:
            values[name] = _number(name, values[name])
    values["central_url"] = _central_url(_text(values, "central_url", "CENTRAL_URL"))
    values["cluster_name"] = _cluster_name(_text(values, "cluster_name", "CLUSTER_NAME"))
    values["ca_pin"] = _pin(str(values.get("ca_pin", "")))
    values["data_dir"] = _data_directory(values, home, in_pod=in_pod)
    settings = Settings(**values)
    _check(settings)
    return settings


def _read_file(path: Path) -> dict[str, Any]:
    try:
        document = yaml.safe_load(path.read_bytes())
    except OSError as error:
        raise SettingsError(f"cannot read {path}: {error.strerror}") from error
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f" at line {mark.line + 1}" if mark else ""
        raise SettingsError(f"{path} is not YAML{line}") from None
    if not isinstance(document, dict):
        raise SettingsError(f"{path} is not a mapping of settings")
    for key, value in document.items():
        if key not in _NAMES:
            nearest = difflib.get_close_matches(str(key), _NAMES, n=1)
            advice = f"; did you mean {nearest[0]}?" if nearest else f"; known: {', '.join(_NAMES)}"
            raise SettingsError(f"{path}: unknown setting {str(key)!r}{advice}")
        if isinstance(value, (dict, list)):
            raise SettingsError(f"{path}: {key} is not a single value")
    return {key: value for key, value in document.items() if value is not None}


def environment_variables() -> dict[str, tuple[str, ...]]:
    """The variables of each setting, the one that wins first."""
    short = {name: (variable,) for name, variable in _SHORT_NAMES.items()}
    return {name: ("MK8S_AGENT_" + name.upper(), *short.get(name, ())) for name in _NAMES}


def _read_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    values = {}
    for name, variables in environment_variables().items():
        value = next(filter(None, map(environment.get, variables)), None)
        if value:
            values[name] = value
    return values


def _text(values: Mapping[str, Any], name: str, variable: str) -> str:
    value = str(values.get(name, "")).strip()
    if not value:
        raise SettingsError(f"{variable} is not set; mk8s admin clusters add NAME prints it")
    return value


def _number(name: str, value: object) -> float:
    try:
        number = float(str(value))
    except ValueError:
        raise SettingsError(f"{name} is {str(value)!r}, not a number") from None
    if name != "tunnels":
        return number
    if not (number.is_integer() and 1 <= number <= _MAX_TUNNELS):
        raise SettingsError(f"tunnels is {value}, not 1 to {_MAX_TUNNELS}")
    return int(number)


def _central_url(text: str) -> str:
    example = "it looks like https://mk8s.example.com:8443"
    full = text if "://" in text else "https://" + text
    try:
        url = urlsplit(full)
        host, _ = url.hostname, url.port
    except ValueError:
        raise SettingsError(f"CENTRAL_URL {text!a} is not a URL; {example}") from None
    if url.scheme != "https":
        raise SettingsError(f"CENTRAL_URL must be https, not {url.scheme}; {example}")
    if not host or url.username or url.query or url.fragment or not full.isprintable():
        raise SettingsError(f"CENTRAL_URL is not host, port and path; {example}")
    return full.rstrip("/")


def _cluster_name(name: str) -> str:
    if not CLUSTER_NAME.fullmatch(name):
        raise SettingsError(
            f"CLUSTER_NAME {name!a} is not a name of lower-case letters, digits and dashes"
        )
    return name


def _pin(text: str) -> str:
    if not text.strip():
        return ""
    try:
        return pki.parse_pin(text)
    except pki.PkiError as error:
        raise SettingsError(f"CA_PIN: {error}") from error


def _data_directory(values: Mapping[str, Any], home: Path, *, in_pod: bool) -> Path | None:
    given = values.get("data_dir")
    if given:
        return Path(str(given)).expanduser()
    if in_pod and not (values.get("kubeconfig") or values.get("context")):
        return None
    # One for each cluster, so that two agents on one machine do not meet.
    return home / ".local" / "share" / "mk8s-agent" / str(values["cluster_name"])


def _check(settings: Settings) -> None:
    for name in ("ca_file", "kubeconfig", "context", "identity_secret", "join_token"):
        if not isinstance(getattr(settings, name), str):
            raise SettingsError(f"{name} is not text; put it in quotes")
    for name in ("join_timeout", "drain_seconds"):
        if not 0 <= getattr(settings, name) <= 3600:
            raise SettingsError(f"{name} is not between 0 and 3600 seconds")
    if settings.ca_pin and settings.ca_file:
        raise SettingsError("CA_PIN and ca_file exclude each other; give the pin")
    if settings.health_listen:
        _listen_address(settings.health_listen)


def _listen_address(text: str) -> Address:
    host, colon, port = str(text).rpartition(":")
    if not (colon and port.isascii() and port.isdigit() and int(port) <= 65535):
        raise SettingsError(f"health_listen {text!a} is not host:port, as in 127.0.0.1:8082")
    return Address(host.strip("[]") or "127.0.0.1", int(port))
