"""Reads one context out of kubeconfig files, by the rules of client-go's clientcmd.

Called by ``mk8s_agent.credentials.sources``. The agent does without the official client, which is
heavy and would hide what is done with credentials, so the rules are here: which files, how they
merge (for each entry the first file wins, whole), whose directory a relative path starts from, what
a user entry may hold. What the agent cannot honour is refused by name, never ignored: a context
that would connect in another way than kubectl does is worse than none. Sources: client-go
``tools/clientcmd/loader.go``, ``client_config.go`` and ``api/types.go``.
"""

import dataclasses
import difflib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import yaml

from mk8s_agent.credentials.kubeconfig_fields import (
    Entry,
    KubeconfigError,
    Pem,
    flag_of,
    pem_of,
    proxy_of,
    text_of,
)
from mk8s_agent.wire.egress_proxy import Proxy

MAX_FILE_BYTES: Final = 4 * 1024 * 1024
"""Longest file that is read. A kubeconfig with the certificates of 200 clusters is about 1 MiB."""

_LOADER: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_PATH_PREFIX: Final = re.compile(r"(/[A-Za-z0-9._~!$&'()*+,;=:@-]+)*", re.ASCII)
_ENCRYPTED_MARKS: Final = (b"$ANSIBLE_VAULT", b"-----BEGIN PGP", b"age-encryption.org")
_EXEC_API_VERSIONS: Final = (
    "client.authentication.k8s.io/v1",
    "client.authentication.k8s.io/v1beta1",
)
_UNSUPPORTED_USER: Final = {
    "username": "user name and password, which Kubernetes dropped in 1.19",
    "password": "user name and password, which Kubernetes dropped in 1.19",
    "auth-provider": "an auth-provider, which Kubernetes dropped in 1.26; use its exec plugin",
    "as": "impersonation (as), and the agent itself impersonates; take an entry without it",
    "as-uid": "impersonation (as-uid), and the agent itself impersonates",
    "as-groups": "impersonation (as-groups), and the agent itself impersonates",
    "as-user-extra": "impersonation (as-user-extra), and the agent itself impersonates",
}


@dataclasses.dataclass(frozen=True, slots=True)
class ExecPlugin:
    """``users[].user.exec``: a program that prints a credential."""

    api_version: str
    command: str
    """A bare name, looked up on PATH, or an absolute path."""
    arguments: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]
    install_hint: str
    provide_cluster_info: bool
    config: object
    """The cluster's extension ``client.authentication.k8s.io/exec``, for the plugin only."""


@dataclasses.dataclass(frozen=True, slots=True)
class Cluster:
    """Where the API server is and how to recognise it."""

    server: str
    host: str
    port: int
    path_prefix: str
    """What comes before ``/api``, without a slash at its end; "" nearly always."""
    tls_server_name: str
    """The name to ask for and to expect in the certificate; the host when not given."""
    authority: Pem
    """Empty means the system's trust store."""
    insecure_skip_tls_verify: bool
    proxy_url: str = dataclasses.field(default="", repr=False)
    """As it is written, for exec plugins."""
    proxy: Proxy | None = None
    """On the way there; None leaves it to HTTPS_PROXY and NO_PROXY."""


@dataclasses.dataclass(frozen=True, slots=True)
class User:
    """How to authenticate; at least one of token, token file, certificate and plugin is there."""

    token: str = dataclasses.field(repr=False)
    token_file: Path | None
    client_certificate: Pem
    client_key: Pem = dataclasses.field(repr=False)
    exec_plugin: ExecPlugin | None


@dataclasses.dataclass(frozen=True, slots=True)
class Context:
    """One context, with its cluster and user resolved."""

    name: str
    cluster: Cluster
    user: User


def kubeconfig_paths(explicit: str, environment: Mapping[str, str], home: Path) -> tuple[Path, ...]:
    """Give the files to read, in order of precedence.

    An explicit path stands alone; else ``KUBECONFIG``, where missing files are no error as long as
    one is there; else ``~/.kube/config``.

    Raises:
        KubeconfigError: none of them exists.
    """
    if explicit:
        paths = [Path(explicit).expanduser()]
    else:
        named = [part for part in environment.get("KUBECONFIG", "").split(":") if part]
        paths = [Path(part) for part in named] or [home / ".kube" / "config"]
    existing = tuple(path for path in dict.fromkeys(paths) if path.exists())
    if not existing:
        raise KubeconfigError(
            f"there is no kubeconfig at {', '.join(map(str, paths))}; give one with --kubeconfig"
        )
    return existing


def load_context(paths: Iterable[Path], context: str = "") -> Context:
    """Read one context; the current one when no name is given.

    Raises:
        KubeconfigError: a file is malformed, a name is unknown, or an entry asks for what the agent
            cannot do.
    """
    merged = _Merged()
    for path in paths:
        merged.add(path)
    name = context or merged.current_context
    known = f"the contexts are: {', '.join(merged.entries['contexts']) or '(none)'}"
    if not name:
        raise KubeconfigError(f"the kubeconfig has no current-context; give --context ({known})")
    entry, _ = merged.find("context", name, known)
    cluster, cluster_directory = merged.find(
        "cluster", text_of(entry, "cluster", f"context {name}")
    )
    user, user_directory = merged.find("user", text_of(entry, "user", f"context {name}"))
    return Context(
        name,
        _cluster(cluster, cluster_directory, f'cluster "{entry["cluster"]}"'),
        _user(user, user_directory, f'user "{entry["user"]}"', cluster),
    )


class _Merged:
    """The entries of several files, with the directory that each came from."""

    def __init__(self) -> None:
        self.current_context = ""
        self.entries: dict[str, dict[str, tuple[Entry, Path]]] = {
            "contexts": {},
            "clusters": {},
            "users": {},
        }

    def add(self, path: Path) -> None:
        document = _read_document(path)
        self.current_context = self.current_context or text_of(
            document, "current-context", str(path)
        )
        for plural, merged in self.entries.items():
            for name, entry in _named_entries(document, plural, path).items():
                merged.setdefault(name, (entry, path.absolute().parent))

    def find(self, kind: str, name: str, hint: str = "") -> tuple[Entry, Path]:
        entries = self.entries[kind + "s"]
        if name in entries:
            return entries[name]
        nearest = difflib.get_close_matches(name, entries, n=1)
        advice = f'; did you mean "{nearest[0]}"?' if nearest else f"; {hint}" if hint else ""
        raise KubeconfigError(f'the kubeconfig has no {kind} "{name}"{advice}')


def _read_document(path: Path) -> Entry:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise KubeconfigError(f"cannot read kubeconfig {path}: {error.strerror}") from error
    if len(content) > MAX_FILE_BYTES:
        raise KubeconfigError(f"kubeconfig {path} is longer than {MAX_FILE_BYTES} bytes")
    if any(mark in content[:200] for mark in _ENCRYPTED_MARKS):
        raise KubeconfigError(f"kubeconfig {path} is encrypted; decrypt it for the agent")
    document = _parse_yaml(content, path)
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise KubeconfigError(f"kubeconfig {path} is not a mapping; is it a kubeconfig?")
    if "sops" in document:
        raise KubeconfigError(f"kubeconfig {path} is encrypted by sops; decrypt it for the agent")
    return document


def _parse_yaml(content: bytes, path: Path) -> object:
    try:
        return yaml.load(content, Loader=_LOADER)  # noqa: S506  _LOADER is a safe loader
    except yaml.MarkedYAMLError as error:
        # str(error) would quote the file, and the file holds secrets
        line = f" line {error.problem_mark.line + 1}:" if error.problem_mark else ""
        raise KubeconfigError(f"kubeconfig {path} is not YAML:{line} {error.problem}") from None
    except (yaml.YAMLError, ValueError, RecursionError):
        raise KubeconfigError(f"kubeconfig {path} is not YAML text") from None


def _named_entries(document: Entry, plural: str, path: Path) -> dict[str, Entry]:
    items = document.get(plural)
    items = [] if items is None else items
    if not isinstance(items, list):
        raise KubeconfigError(f"kubeconfig {path}: {plural} is not a list")
    entries: dict[str, Entry] = {}
    for position, item in enumerate(items):
        where = f"kubeconfig {path}: {plural}[{position}]"
        if not isinstance(item, dict):
            raise KubeconfigError(f"{where} is not a mapping")
        name = text_of(item, "name", where)
        entry = item.get(plural.removesuffix("s")) or {}
        if not isinstance(entry, dict):
            raise KubeconfigError(f"{where}.{plural.removesuffix('s')} is not a mapping")
        if name in entries:
            raise KubeconfigError(f'{where}: the name "{name}" is there twice')
        entries[name] = entry
    return entries


def _cluster(entry: Entry, directory: Path, where: str) -> Cluster:
    server = text_of(entry, "server", where)
    host, port, path_prefix = _split_server(server, where)
    insecure = flag_of(entry, "insecure-skip-tls-verify", where)
    authority = pem_of(entry, "certificate-authority", where, directory)
    if insecure and authority.content:
        raise KubeconfigError(
            f"{where}: insecure-skip-tls-verify and a certificate-authority exclude each other"
        )
    proxy_url = text_of(entry, "proxy-url", where)
    return Cluster(
        server=server,
        host=host,
        port=port,
        path_prefix=path_prefix,
        tls_server_name=text_of(entry, "tls-server-name", where) or host,
        authority=authority,
        insecure_skip_tls_verify=insecure,
        proxy_url=proxy_url,
        proxy=proxy_of(proxy_url, where),
    )


def _split_server(server: str, where: str) -> tuple[str, int, str]:
    try:
        url = urlsplit(server)
        host, port = url.hostname or "", url.port
    except ValueError:
        host, port = "", None
    if not host or url.scheme != "https":
        raise KubeconfigError(f"{where}: server {server!a} is not a URL like https://host:6443")
    prefix = url.path.rstrip("/")
    if url.username or url.query or url.fragment or not _PATH_PREFIX.fullmatch(prefix):
        raise KubeconfigError(f"{where}: server has more in its URL than host, port and path")
    return host, port or 443, prefix


def _user(entry: Entry, directory: Path, where: str, cluster: Entry) -> User:
    for key, what in _UNSUPPORTED_USER.items():
        if entry.get(key):
            raise KubeconfigError(f"{where} uses {what}")
    token_file = text_of(entry, "tokenFile", where)
    certificate = pem_of(entry, "client-certificate", where, directory)
    private_key = pem_of(entry, "client-key", where, directory)
    if bool(certificate.content) != bool(private_key.content):
        raise KubeconfigError(f"{where}: client-certificate and client-key come together")
    if b"ENCRYPTED" in private_key.content:
        raise KubeconfigError(
            f"{where}: client-key is encrypted; the agent cannot ask for a password"
        )
    token = text_of(entry, "token", where)
    plugin = None
    if not (token or token_file or certificate.content):
        # In client-go, too, the other credentials of an entry turn the plugin off.
        plugin = _exec_plugin(entry.get("exec"), directory, where, cluster)
    return User(
        token, directory / token_file if token_file else None, certificate, private_key, plugin
    )


def _exec_plugin(entry: object, directory: Path, where: str, cluster: Entry) -> ExecPlugin:
    if entry is None:
        raise KubeconfigError(f"{where} has no credential the agent could use")
    if not isinstance(entry, dict):
        raise KubeconfigError(f"{where}: exec is not a mapping")
    where += ".exec"
    api_version = text_of(entry, "apiVersion", where)
    if api_version not in _EXEC_API_VERSIONS:
        raise KubeconfigError(f"{where}: apiVersion is none of {', '.join(_EXEC_API_VERSIONS)}")
    if text_of(entry, "interactiveMode", where) == "Always":
        raise KubeconfigError(
            f"{where} needs a prompt (interactiveMode Always), the agent has none"
        )
    command = text_of(entry, "command", where)
    if not command:
        raise KubeconfigError(f"{where} has no command")
    return ExecPlugin(
        api_version=api_version,
        command=str(directory / command) if "/" in command else command,
        arguments=_not_our_own(_strings(entry.get("args"), f"{where}.args"), where),
        environment=_variables(entry.get("env"), f"{where}.env"),
        install_hint=text_of(entry, "installHint", where),
        provide_cluster_info=flag_of(entry, "provideClusterInfo", where),
        config=_exec_extension(cluster),
    )


def _not_our_own(arguments: tuple[str, ...], where: str) -> tuple[str, ...]:
    """Refuse the plugin of mk8s's CLI, the current context of whoever has typed ``mk8s use``.

    Requests would go round: from the agent to central, and back to the agent.
    """
    if "get-token" in arguments and "--central" in arguments:
        raise KubeconfigError(
            f"{where} leads to the cluster through mk8s; an agent needs the cluster's own context: "
            "give it by --context"
        )
    return arguments


def _strings(value: object, where: str) -> tuple[str, ...]:
    items = value or []
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        raise KubeconfigError(f"{where} is not a list of strings")
    return tuple(items)


def _variables(value: object, where: str) -> tuple[tuple[str, str], ...]:
    items = value or []
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise KubeconfigError(f"{where} is not a list of names and values")
    return tuple((text_of(item, "name", where), text_of(item, "value", where)) for item in items)


def _exec_extension(cluster: Entry) -> object:
    extensions = cluster.get("extensions")
    for item in extensions if isinstance(extensions, list) else []:
        if isinstance(item, dict) and item.get("name") == "client.authentication.k8s.io/exec":
            return item.get("extension")
    return None
