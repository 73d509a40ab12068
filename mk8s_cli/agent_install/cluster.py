"""A cluster as its administrator reaches it: server-side apply, reading, deleting.

The door to the official client, which is imported here only, and when it is used. What the API
server says no to becomes one line for the person.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

from mk8s_cli.central.api import Document
from mk8s_cli.terminal.errors import CliError
from mk8s_cli.terminal.screen import one_line

FIELD_MANAGER: Final = "mk8s"
SECONDS: Final = 15.0
"""For one call, so that a cluster that does not answer is told of."""
MANY: Final = 500
"""Objects of a list that are looked at: there is one agent."""
_CLUSTER_SCOPED: Final = {
    "Namespace": "api/v1/namespaces",
    "ClusterRole": "apis/rbac.authorization.k8s.io/v1/clusterroles",
    "ClusterRoleBinding": "apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
}
_NAMESPACED: Final = {
    "ConfigMap": ("api/v1", "configmaps"),
    "Secret": ("api/v1", "secrets"),
    "ServiceAccount": ("api/v1", "serviceaccounts"),
    "Pod": ("api/v1", "pods"),
    "Event": ("api/v1", "events"),
    "Role": ("apis/rbac.authorization.k8s.io/v1", "roles"),
    "RoleBinding": ("apis/rbac.authorization.k8s.io/v1", "rolebindings"),
    "NetworkPolicy": ("apis/networking.k8s.io/v1", "networkpolicies"),
    "Deployment": ("apis/apps/v1", "deployments"),
    "ReplicaSet": ("apis/apps/v1", "replicasets"),
}


class KubeError(CliError):
    """The API server says no, or nothing."""

    def __init__(self, message: str, status: int = 0) -> None:
        """Keep the HTTP status, 0 where there was no answer."""
        super().__init__(message)
        self.status = status


class KubeCluster:
    """The cluster of one kubeconfig context; `connect` makes it."""

    def __init__(self, client: Any, context: str) -> None:
        """Speak through a client of `kubernetes.dynamic`."""
        self._client = client
        self.context = context

    def version(self) -> str:
        """Return the cluster's version; `KubeError` if it does not answer."""
        return str(self._call("get", "version").get("gitVersion", ""))

    def apply(self, document: Document, *, dry_run: bool = False) -> None:
        """Make an object what it is to be; what others own in it becomes ours."""
        asked = {"content_type": "application/apply-patch+yaml", "field_manager": FIELD_MANAGER}
        if dry_run:
            asked["dry_run"] = "All"
        what = f"{document['kind']} {document['metadata']['name']}"
        self._call("patch", _path_of(document), what, body=document, force_conflicts=True, **asked)

    def read(self, kind: str, name: str, namespace: str = "") -> Document | None:
        """Return an object, None where there is none."""
        try:
            return self._call("get", _path(kind, namespace, name), f"{kind} {name}")
        except KubeError as error:
            if error.status == 404:
                return None
            raise

    def read_all(self, kind: str, namespace: str = "", **selectors: str) -> list[Document]:
        """Return the objects of a namespace, or of all, that the selectors mean.

        These are `label_selector` and `field_selector`.
        """
        found = self._call("get", _path(kind, namespace), f"{kind}s", limit=MANY, **selectors)
        items = found.get("items")
        return [it for it in items if isinstance(it, dict)] if isinstance(items, list) else []

    def log_of(self, pod: str, namespace: str, *, previous: bool = False) -> str:
        """Return the last lines that a pod has printed, "" where it has printed nothing yet."""
        query = [("tailLines", "30"), ("limitBytes", "16384")]
        if previous:
            query.append(("previous", "true"))
        path = f"{_path('Pod', namespace, pod)}/log"
        try:
            return self._send("get", path, "log", query_params=query).decode("utf-8", "replace")
        except KubeError:
            return ""  # not started yet, or gone already: the next look tells

    def delete(self, document: Document) -> bool:
        """Delete an object with what it owns; whether it was there."""
        what = f"{document['kind']} {document['metadata']['name']}"
        try:
            self._call("delete", _path_of(document), what, propagation_policy="Foreground")
        except KubeError as error:
            if error.status == 404:
                return False
            raise
        return True

    def _call(self, method: str, path: str, what: str = "", **params: Any) -> Document:
        content = self._send(method, path, what, **params)
        try:
            document = json.loads(content)
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise KubeError(f"context {self.context} leads to something that is no API server")
        return document

    def _send(self, method: str, path: str, what: str, **params: Any) -> bytes:
        from kubernetes.config.config_exception import ConfigException
        from kubernetes.dynamic.exceptions import DynamicApiError
        from urllib3.exceptions import HTTPError

        try:
            answer = self._client.request(
                method, path, serialize=False, _request_timeout=SECONDS, **params
            )
            return bytes(answer.data)
        except DynamicApiError as error:
            raise KubeError(_refusal(what, error.body, error.status), error.status) from error
        except (HTTPError, OSError, ConfigException) as error:
            reason = getattr(error, "reason", None) or error
            raise KubeError(
                f"the cluster of context {self.context} does not answer: {one_line(str(reason))}"
            ) from error


def connect(context: str) -> KubeCluster:
    """Return the cluster of a context of the caller's kubeconfig.

    Raises:
        CliError: the extra `install` is absent, there is no such context, or nothing answers there.
    """
    try:
        from kubernetes import config
        from kubernetes.dynamic import DynamicClient
    except ModuleNotFoundError as error:
        raise CliError(
            f"--kube-context needs the Python module {error.name}; run: pip install 'mk8s[install]'"
        ) from error
    import yaml

    try:
        client = config.new_client_from_config(context=context)  # type: ignore[no-untyped-call]
    except (config.ConfigException, OSError, yaml.YAMLError) as error:
        raise CliError(f"context {context!a}: {one_line(str(error))}") from error
    # Discovery would be a file in the shared folder of temporary ones; our kinds are known.
    dynamic: Any = DynamicClient
    cluster = KubeCluster(dynamic(client, discoverer=lambda *_: None), context)
    cluster.version()
    return cluster


def _path_of(document: Document) -> str:
    metadata = document["metadata"]
    return _path(document["kind"], metadata.get("namespace", ""), metadata["name"])


def _path(kind: str, namespace: str, name: str = "") -> str:
    if kind in _CLUSTER_SCOPED:
        path = _CLUSTER_SCOPED[kind]
    else:
        group, plural = _NAMESPACED[kind]
        path = f"{group}/namespaces/{namespace}/{plural}" if namespace else f"{group}/{plural}"
    return f"/{path}/{name}" if name else f"/{path}"


def _refusal(what: str, body: object, status: int) -> str:
    try:
        said: object = json.loads(body if isinstance(body, (str, bytes)) else "")
    except ValueError:
        said = None
    message = said.get("message") if isinstance(said, Mapping) else ""
    told = one_line(str(message)) or f"status {status}"
    return f"the cluster refuses {what}: {told}" if what else f"the cluster refuses: {told}"
