"""Our entries in a kubeconfig: written, pruned, chosen; everybody else's are never touched. No I/O.

Called by the commands through `kubeconfig_files.py`. An entry is ours when its user entry runs
`get-token --cluster NAME --central URL`: names alone prove nothing. Merging follows client-go's
loader: of several files, the first that has an entry wins; new entries go to the first file.
"""

import base64
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from yaml.nodes import MappingNode, SequenceNode

from mk8s_cli.kubeconfig.document import Document, Value, child, scalar, scalars
from mk8s_cli.login.exec_credential import KUBECONFIG_VERSION

PREFIX = "mk8s-"
INSTALL_HINT = "mk8s is not installed where this kubeconfig expects it; run: mk8s kubeconfig sync"
MARK = "mk8s"
"""The extension of user entries without a plugin, by which they are known as ours."""
STATIC_CREDENTIALS = (
    "token",
    "tokenFile",
    "username",
    "password",
    "client-certificate",
    "client-certificate-data",
    "client-key",
    "client-key-data",
    "auth-provider",
)
"""Any of these beside `exec` makes kubectl ignore the plugin."""


@dataclass(frozen=True, slots=True)
class Plugin:
    """How kubectl starts us: an absolute path, what comes before `get-token`, extra environment."""

    command: str
    arguments: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Login:
    """What all entries of one central have in common."""

    central: str
    certificate_authority: str
    """PEM; "" leaves the choice to kubectl, which trusts what its machine trusts."""
    plugin: Plugin
    suffix: str = ""
    """What the names of its contexts end with, "" for nothing."""
    exec_versions: Mapping[str, str] = field(default_factory=dict)
    """Cluster name to the apiVersion that its entry names; `KUBECONFIG_VERSION` for others."""
    static: Mapping[str, str] = field(default_factory=dict)
    """Fields of a credential (`tokenFile` or `token`) instead of the plugin; {} for the plugin."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a sync did."""

    contexts: Mapping[str, str]
    """Cluster name to context name."""
    removed: tuple[str, ...]
    """Names of contexts that are gone."""


class Kubeconfig:
    """The merged view of the files of KUBECONFIG; the first one takes what is new."""

    def __init__(self, documents: Sequence[Document]) -> None:
        """Hold at least one document, in the order of the KUBECONFIG list."""
        self.documents = tuple(documents)

    @property
    def current_context(self) -> str:
        """The context that kubectl uses by default, "" for none."""
        names = (scalar(document.root, "current-context") for document in self.documents)
        return next((name for name in names if name), "")

    def use_context(self, name: str) -> None:
        """Make `name` the current context."""
        first = self.documents[0]
        first.set_fields(first.root, {"current-context": name})

    def use_no_context(self) -> None:
        """Leave kubectl without a current context."""
        for document in self.documents:
            if scalar(document.root, "current-context"):
                document.set_fields(document.root, {"current-context": ""})

    def rename_contexts(self, central: str, former: str, suffix: str) -> dict[str, str]:
        """Give our contexts of `central` the names that they have with `suffix`.

        Those that somebody named otherwise keep their names: what was written with the suffix
        `former` is known by it. The current context stays the current one.

        Returns:
            New names by old ones.
        """
        renamed: dict[str, str] = {}
        for cluster, old in self.contexts_of(central).items():
            if old not in _context_names(central, cluster, former):
                continue
            renamed[old] = self._free_context(central, cluster, suffix)
            for document in self.documents:
                document.rename("contexts", old, renamed[old])
        if self.current_context in renamed:
            self.use_context(renamed[self.current_context])
        return renamed

    def set_namespace(self, context: str, namespace: str) -> None:
        """Set the namespace of a context."""
        self._put("contexts", context, {"namespace": namespace})

    @property
    def contexts(self) -> tuple[str, ...]:
        """The names of all contexts, ours or not, in their order."""
        found = (name for document in self.documents for name, _ in document.entries("contexts"))
        return tuple(dict.fromkeys(found))

    def has_context(self, name: str) -> bool:
        """Whether there is a context of this name, ours or not."""
        return self._find("contexts", name) is not None

    def contexts_of(self, central: str) -> dict[str, str]:
        """Return cluster name to context name for our entries of `central`."""
        found: dict[str, str] = {}
        for entry, cluster in self._owned(central).items():
            for context in self._contexts_on(entry):
                found.setdefault(cluster, context)
        return found

    def sync(
        self,
        login: Login,
        servers: Mapping[str, str],
        namespaces: Mapping[str, str] | None = None,
        *,
        prune: bool = True,
    ) -> Outcome:
        """Write one context for each of `servers` (cluster name to server URL).

        A context that names no namespace gets the one of `namespaces` (by cluster name). With
        `prune`, our entries of this central for any other cluster are removed. The current context
        is not touched, nor are namespaces and unknown fields of entries that exist.
        """
        removed = self.remove(login.central, keep=frozenset(servers)) if prune else ()
        contexts = {name: self._write(login, name, url) for name, url in servers.items()}
        for cluster, namespace in (namespaces or {}).items():
            context = contexts.get(cluster, "")
            if context and namespace and not self._namespace_of(context):
                self.set_namespace(context, namespace)
        return Outcome(contexts=contexts, removed=removed)

    def renew_trust(self, central: str, certificate_authority: str) -> int:
        """Put another pinned authority into our entries of a central; returns how many have it."""
        encoded = base64.b64encode(certificate_authority.encode()).decode()
        entries = [entry for entry in self._owned(central) if self._find("clusters", entry)]
        for entry in entries:
            self._put("clusters", entry, {"certificate-authority-data": encoded})
        return len(entries)

    def remove(self, central: str, keep: frozenset[str] = frozenset()) -> tuple[str, ...]:
        """Remove our entries of `central`, not of the clusters `keep`; return the context names."""
        gone = [entry for entry, cluster in self._owned(central).items() if cluster not in keep]
        contexts = [context for entry in gone for context in self._contexts_on(entry)]
        for document in self.documents:
            for context in contexts:
                document.remove("contexts", context)
            for entry in gone:
                document.remove("clusters", entry)
                document.remove("users", entry)
        return tuple(contexts)

    def foreign_entries(self) -> bool:
        """Whether anything in here is not ours."""
        ours = {entry for entry, _, _ in self._plugin_users()}
        return any(
            name not in ours if kind != "contexts" else scalar(value, "user") not in ours
            for document in self.documents
            for kind in ("clusters", "users", "contexts")
            for name, value in document.entries(kind)
        )

    def _namespace_of(self, context: str) -> str:
        """Return the namespace of a context, "" when it names none."""
        found = self._find("contexts", context)
        return scalar(found[1], "namespace") if found else ""

    def _write(self, login: Login, cluster: str, server: str) -> str:
        entry = self._entry_name(login.central, cluster)
        endpoint: dict[str, Value] = {"server": server}
        drop = ["certificate-authority", "insecure-skip-tls-verify"]
        if login.certificate_authority:
            encoded = base64.b64encode(login.certificate_authority.encode()).decode()
            endpoint["certificate-authority-data"] = encoded
        else:
            drop.append("certificate-authority-data")
        self._put("clusters", entry, endpoint, drop)
        credential, others = _credential(login, cluster)
        self._put("users", entry, credential, others)
        context = next(self._contexts_on(entry), "")
        if not context:
            context = self._free_context(login.central, cluster, login.suffix)
            self._put("contexts", context, {"cluster": entry, "user": entry})
        return context

    def _entry_name(self, central: str, cluster: str) -> str:
        """Return the name of our cluster and user entries: the one in use, or the first free."""
        owned = self._owned(central)
        for entry, name in owned.items():
            if name == cluster:
                return entry
        candidates = (f"{PREFIX}{cluster}", f"{PREFIX}{cluster}-{_short(central)}")
        free = (name for name in candidates if not self._taken(name))
        return next(free, f"{candidates[1]}-2")

    def _taken(self, entry: str) -> bool:
        return any(self._find(kind, entry) is not None for kind in ("clusters", "users"))

    def _free_context(self, central: str, cluster: str, suffix: str) -> str:
        names = _context_names(central, cluster, suffix)
        return next((free for free in names if not self.has_context(free)), names[-1])

    def _contexts_on(self, entry: str) -> Iterator[str]:
        """Yield the contexts whose cluster and user are both `entry`, as the loader sees them."""
        seen = set()
        for document in self.documents:
            for name, value in document.entries("contexts"):
                if name not in seen and entry == scalar(value, "cluster") == scalar(value, "user"):
                    yield name
                seen.add(name)

    def _owned(self, central: str) -> dict[str, str]:
        """Return entry name to cluster name for our user entries of one central."""
        return {entry: cluster for entry, of, cluster in self._plugin_users() if of == central}

    def _plugin_users(self) -> Iterator[tuple[str, str, str]]:
        """Yield (entry name, central, cluster) for each user entry that runs our plugin, or that
        our mark is on."""
        for document in self.documents:
            for name, value in document.entries("users"):
                central, cluster = _of_plugin(value) or _of_mark(value) or ("", "")
                if name.startswith(PREFIX) and central:
                    yield name, central, cluster

    def _find(self, kind: str, name: str) -> tuple[Document, MappingNode] | None:
        for document in self.documents:
            value = document.find(kind, name)
            if value is not None:
                return document, value
        return None

    def _put(
        self, kind: str, name: str, fields: Mapping[str, Value], drop: Sequence[str] = ()
    ) -> None:
        """Set fields of an entry where it is, or of a new one in the first file."""
        for document in self.documents:
            value = document.find(kind, name)
            if value is not None:
                break
        else:
            document = self.documents[0]
            value = document.add(kind, name)
        document.drop_fields(value, drop)
        document.set_fields(value, fields)


def _of_plugin(user: MappingNode) -> tuple[str, str] | None:
    plugin = child(user, "exec")
    arguments = scalars(plugin, "args")[-5:] if plugin is not None else ()
    if arguments[:2] != ("get-token", "--cluster"):
        return None
    return arguments[-1], arguments[2]


def _of_mark(user: MappingNode) -> tuple[str, str] | None:
    listed = child(user, "extensions")
    for entry in listed.value if isinstance(listed, SequenceNode) else ():
        mark = child(entry, "extension")
        if scalar(entry, "name") == MARK and isinstance(mark, MappingNode):
            return scalar(mark, "central"), scalar(mark, "cluster")
    return None


def _credential(login: Login, cluster: str) -> tuple[dict[str, Value], Sequence[str]]:
    """Return the fields of a user entry, and those that must not stand beside them."""
    if not login.static:
        return {"exec": _exec(login, cluster)}, (*STATIC_CREDENTIALS, "extensions")
    mark: Value = {"name": MARK, "extension": {"central": login.central, "cluster": cluster}}
    others = [name for name in STATIC_CREDENTIALS if name not in login.static]
    return {**login.static, "extensions": [mark]}, (*others, "exec")


def _exec(login: Login, cluster: str) -> dict[str, Value]:
    """Return the fixed template of the plugin; two checked names in it are from outside."""
    plugin = login.plugin
    arguments = ["get-token", "--cluster", cluster, "--central", login.central]
    template: dict[str, Value] = {
        "apiVersion": login.exec_versions.get(cluster, KUBECONFIG_VERSION),
        "args": [*plugin.arguments, *arguments],
        "command": plugin.command,
        "installHint": INSTALL_HINT,
        "interactiveMode": "Never",
        "provideClusterInfo": False,
    }
    if plugin.environment:
        template["env"] = [{"name": name, "value": value} for name, value in plugin.environment]
    return template


def _context_names(central: str, cluster: str, suffix: str) -> tuple[str, ...]:
    """Return the names for a context, the best one first and the last one for want of others."""
    name = f"{cluster}-{suffix}" if suffix else cluster
    long = f"{PREFIX}{name}-{_short(central)}"
    return name, f"{PREFIX}{name}", long, f"{long}-2"


def _short(central: str) -> str:
    """Return 8 hex digits that tell two centrals apart in a name; no secret, no proof."""
    return f"{zlib.crc32(central.encode()):08x}"
