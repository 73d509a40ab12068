"""What a row says as a person would have typed it: `get pods -n shop`, `exec -it web -- sh`. Pure.

Called by `record` for the column `command` of the database. A row shows a request, not a command:
one command of kubectl makes several, and what stands only in a body is not known. So this is the
command that asks for the same thing. What a client says of itself (the field manager) only chooses
among words for a change that the request makes in any case; verb and resource stand beside it.
"""

import shlex
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import parse_qsl

API_GROUP: Final = "mk8s.io"
"""Of rows about mk8s itself."""
MAX_COMMAND: Final = 1024
"""Characters; the whole is in the row."""

IsNamespaced = Callable[[str, str], bool]
"""Whether objects of this API group and resource surely live in namespaces."""

_VERBS: Final = {
    "list": "get",
    "watch": "get",
    "update": "replace",
    "deletecollection": "delete",
}
_RAW_VERBS: Final = {"get": "get --raw", "head": "get --raw", "post": "create --raw",
                     "put": "replace --raw", "delete": "delete --raw"}  # fmt: skip
_CHANGES: Final = frozenset(("create", "update", "patch"))
_MANAGER: Final = "kubectl-"
_MANAGED: Final = frozenset(
    ("annotate", "apply", "autoscale", "cordon", "create", "drain", "edit", "expose", "label",
     "patch", "replace", "rollout", "run", "scale", "set", "taint", "uncordon")
)  # fmt: skip
"""Commands that change something and call themselves so, as `fieldManager=kubectl-label`."""
_REVIEWS: Final = {
    "selfsubjectaccessreviews": "auth can-i",
    "selfsubjectrulesreviews": "auth can-i --list",
    "selfsubjectreviews": "auth whoami",
}
_BUILT_IN: Final = frozenset(("", "apps", "autoscaling", "batch", "extensions", "policy"))
_SAME: Final = frozenset(("endpoints",))
"""Resources whose singular is their plural."""
_TRUE: Final = frozenset(("1", "true", "t", "TRUE", "True", "T"))
_LOG_FLAGS: Final = (
    ("tailLines", "--tail="), ("sinceSeconds", "--since="), ("sinceTime", "--since-time="),
)  # fmt: skip
_OWN: Final = {
    ("create", "logins"): "mk8s login",
    ("update", "logins"): "mk8s get-token",
    ("create", "clustertokens"): "mk8s get-token",
    ("delete", "logins"): "mk8s logout",
    ("create", "users"): "mk8s admin users add",
    ("delete", "users"): "mk8s admin users remove",
    ("update", "roles"): "mk8s admin roles apply",
    ("delete", "roles"): "mk8s admin roles remove",
    ("create", "clusters"): "mk8s admin clusters add",
    ("update", "clusters"): "mk8s admin clusters labels",
    ("delete", "clusters"): "mk8s admin clusters remove",
    ("create", "jointokens"): "mk8s admin clusters join-token",
    ("update", "passwords"): "mk8s passwd",
    ("create", "servicetokens"): "mk8s admin tokens create",
    ("update", "servicetokens"): "mk8s admin tokens rotate",
    ("delete", "servicetokens"): "mk8s admin tokens revoke",
    ("create", "signingkeys"): "mk8s admin keys rotate",
    ("retire", "signingkeys"): "mk8s admin keys retire",
    ("revoke", "agentcertificates"): "mk8s admin agents revoke",
}
_OWN_BY_PATH: Final = {
    "roles": "mk8s admin users set-roles",
    "password": "mk8s admin users set-password",
}
"""Changes of a user, by the last segment of the path."""


def command_of(event: Mapping[str, Any], is_namespaced: IsNamespaced) -> str:
    """The command that would ask for what a row is about, "" when it is about nothing.

    Args:
        event: the row.
        is_namespaced: decides whether a list over everything is one over all namespaces.
    """
    reference = event.get("objectRef") or {}
    uri = str(event.get("requestURI", ""))
    if not reference:
        words = _raw(str(event.get("verb", "")), uri)
    elif reference.get("apiGroup") == API_GROUP:
        words = _own(str(event.get("verb", "")), reference, uri)
    else:
        words = _Asked(event, reference, uri).words(is_namespaced)
    impersonated = event.get("impersonatedUser")
    if impersonated:
        words += f" --as={_quote(impersonated.get('username', ''))}"
    return words if len(words) <= MAX_COMMAND else words[: MAX_COMMAND - 3] + "..."


def _raw(verb: str, uri: str) -> str:
    """A request that is about no resource."""
    if uri.startswith("/k8s/"):  # the address of a cluster by path
        cluster, slash, rest = uri[len("/k8s/") :].partition("/")
        uri = slash + rest if cluster else uri
    if not uri:
        return ""
    if verb == "get" and uri.partition("?")[0] == "/version":
        return "version"
    return f"{_RAW_VERBS.get(verb, verb.upper())} {_quote(uri)}".lstrip()


def _own(verb: str, reference: Mapping[str, Any], uri: str) -> str:
    """A call of the management API, by the command of `mk8s` that makes it."""
    resource, name = reference.get("resource", ""), reference.get("name", "")
    if resource == "commands":  # of kubectl, which central runs: as they are
        pairs = parse_qsl(uri.partition("?")[2], keep_blank_values=True)
        return " ".join(["kubectl", *(_quote(value) or "''" for _, value in pairs)])
    words = _OWN.get((verb, resource), "")
    if not words and (verb, resource) == ("update", "users"):
        words = _OWN_BY_PATH.get(uri.partition("?")[0].rpartition("/")[2], "")
    words = words or f"{verb} {resource}.{API_GROUP}"
    return f"{words} {_quote(name)}" if name else words


class _Asked:
    """What a request to a cluster asks for."""

    def __init__(self, event: Mapping[str, Any], reference: Mapping[str, Any], uri: str) -> None:
        self.uri = uri
        self.pairs = parse_qsl(uri.partition("?")[2], keep_blank_values=True)
        self.query = dict(reversed(self.pairs))  # of a repeated parameter the first one counts
        self.verb = str(event.get("verb", ""))
        self.group = str(reference.get("apiGroup", ""))
        self.resource = str(reference.get("resource", ""))
        self.subresource = str(reference.get("subresource", ""))
        self.namespace = str(reference.get("namespace", ""))
        self.name = str(reference.get("name", ""))

    def words(self, is_namespaced: IsNamespaced) -> str:
        """The command."""
        subresource = self.subresource
        if self.resource == "pods" and subresource in {"exec", "attach"}:
            return self._run(subresource)
        if self.resource == "pods" and subresource == "log":
            return self._logs()
        if subresource == "portforward":
            return self._join("port-forward", self._named(), *self._every("ports"), self._where())
        if subresource == "proxy":
            return _raw({"create": "post", "update": "put"}.get(self.verb, self.verb), self.uri)
        if subresource == "token" and self.verb == "create":
            return self._join("create token", _quote(self.name), self._where())
        if self.verb == "create" and self.resource in _REVIEWS:
            return _REVIEWS[self.resource]
        if self.group == "metrics.k8s.io" and self.verb in {"get", "list"}:
            return self._join("top", self._kind(), _quote(self.name), self._all(is_namespaced))
        return self._object(is_namespaced)

    def _object(self, is_namespaced: IsNamespaced) -> str:
        """What is done to an object, or to several."""
        word = self._word()
        subresource = "" if word == "scale" else self.subresource
        return self._join(
            word,
            self._kind(),
            _quote(self.name),
            f"--subresource={_quote(subresource)}" if subresource else "",
            "" if self.verb in _CHANGES else self._selectors(),
            self._all(is_namespaced),
            "-w" if self.verb == "watch" else "",
            "--dry-run=server" if self.query.get("dryRun") else "",
        )

    def _word(self) -> str:
        if self.subresource == "scale" and self.verb in {"update", "patch"}:
            return "scale"
        manager = self.query.get("fieldManager", "")
        if self.verb == "patch" and manager == "kubectl":
            return "apply --server-side"
        if self.verb in _CHANGES and manager.startswith(_MANAGER):
            word = manager.removeprefix(_MANAGER).replace("client-side-apply", "apply")
            if word in _MANAGED:
                return word
        return _VERBS.get(self.verb, _quote(self.verb))

    def _run(self, word: str) -> str:
        """`exec` and `attach`."""
        letters = "i" * self._is("stdin") + "t" * self._is("tty")
        command = self._every("command")
        return self._join(
            word,
            f"-{letters}" if letters else "",
            _quote(self.name),
            self._where(),
            self._container(),
            "--" if command else "",
            *command,
        )

    def _logs(self) -> str:
        seconds = {"sinceSeconds": "s"}
        options = [
            flag + _quote(self.query[key]) + seconds.get(key, "")
            for key, flag in _LOG_FLAGS
            if self.query.get(key)
        ]
        return self._join(
            "logs",
            "-f" * self._is("follow"),
            "-p" * self._is("previous"),
            _quote(self.name),
            self._where(),
            self._container(),
            *options,
        )

    def _is(self, key: str) -> bool:
        return self.query.get(key, "") in _TRUE

    def _every(self, key: str) -> list[str]:
        return [_quote(value) or "''" for name, value in self.pairs if name == key]

    def _container(self) -> str:
        container = self.query.get("container")
        return f"-c {_quote(container)}" if container else ""

    def _named(self) -> str:
        """The object, as commands for pods and others take it."""
        return _quote(self.name if self.resource == "pods" else f"{self._kind()}/{self.name}")

    def _selectors(self) -> str:
        labels, fields = self.query.get("labelSelector"), self.query.get("fieldSelector")
        if fields == f"metadata.name={self.name}":
            fields = ""
        everything = self.verb == "deletecollection" and not (labels or fields)
        return self._join(
            f"-l {_quote(labels)}" if labels else "",
            f"--field-selector={_quote(fields)}" if fields else "",
            "--all" if everything else "",
        )

    def _where(self) -> str:
        """The namespace, where it is not what kubectl takes without being told."""
        namespace = self.namespace
        return f"-n {_quote(namespace)}" if namespace not in {"", "default"} else ""

    def _all(self, is_namespaced: IsNamespaced) -> str:
        many = self.verb in {"list", "watch", "deletecollection"}
        if many and not self.namespace and is_namespaced(self.group, self.resource):
            return "-A"
        # A namespace is an object of its own namespace.
        return "" if self.resource == "namespaces" else self._where()

    def _kind(self) -> str:
        """One or many: `pod` with a name, `pods` without; with its group where it needs one."""
        if self.group not in _BUILT_IN and not self.group.endswith(".k8s.io"):
            return _quote(f"{self.resource}.{self.group}")
        many = not self.name and self.verb in {"get", "list", "watch", "deletecollection"}
        return _quote(self.resource if many else _singular(self.resource))

    @staticmethod
    def _join(*words: str) -> str:
        return " ".join(word for word in words if word)


def _singular(resource: str) -> str:
    """Of Kubernetes's own resources, whose plurals are regular."""
    if resource in _SAME:
        return resource
    if resource.endswith("ies"):
        return resource[:-3] + "y"
    if resource.endswith(("sses", "statuses")):
        return resource[:-2]
    return resource.removesuffix("s")


def _quote(word: object) -> str:
    """A word as a shell would take it; nothing stays nothing."""
    text = str(word)
    return shlex.quote(text) if text else ""
