"""An API server as `mk8s_cli.agent_install.cluster` sees it: objects by path, refusals on demand.

In place of the official client; tests/kube/test_agent_install.py shows what a real one answers.
"""

import json
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from kubernetes.client.exceptions import ApiException
from kubernetes.dynamic.exceptions import api_exception

LISTS = {
    *("pods", "replicasets", "events", "deployments"),
    *("roles", "rolebindings", "clusterroles", "clusterrolebindings"),
}


@dataclass
class FakeKube:
    """What a test sets, and what it may look at afterwards."""

    objects: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By path."""
    refusals: dict[tuple[str, str], tuple[int, str]] = field(default_factory=dict)
    """Method and path to status and message."""
    log: str = ""
    dry_runs: list[str] = field(default_factory=list)
    down: Exception | None = None
    applied: list[str] = field(default_factory=list)

    def request(self, method: str, path: str, body: Any = None, **params: Any) -> Any:
        """What `DynamicClient.request` does."""
        assert params["_request_timeout"]
        if self.down is not None:
            raise self.down
        path = f"/{path.lstrip('/')}"
        if (method, path) in self.refusals:
            raise refused(*self.refusals[method, path])
        return SimpleNamespace(data=self.answer(method, path, body, params))

    def answer(self, method: str, path: str, body: Any, params: dict[str, Any]) -> bytes:
        if path == "/version":
            return b'{"gitVersion": "v1.37.2"}'
        if path.endswith("/log"):
            if not self.log:
                raise refused(400, "container is waiting to start")
            return self.log.encode()
        if method == "patch":
            self.apply(path, body, params)
        elif path.rpartition("/")[2] in LISTS and method == "get":
            return json.dumps({"items": self.listed(path, params)}).encode()
        if path not in self.objects and not params.get("dry_run"):
            raise refused(404, "not found")
        found = self.objects.get(path, {})
        if method == "delete":
            del self.objects[path]
        return json.dumps(found).encode()

    def listed(self, path: str, params: dict[str, Any]) -> list[dict[str, Any]]:
        """Those of a namespace or of all; a selector that names `component` is looked at."""
        group, _, plural = path.rpartition("/")
        found = [
            it
            for at, it in self.objects.items()
            if at.startswith(f"{group}/") and at.rpartition("/")[0].endswith(f"/{plural}")
        ]
        wanted = str(params.get("label_selector", "")).partition("component=")[2]
        label = "app.kubernetes.io/component"
        return [
            it
            for it in found
            if not wanted or (it["metadata"].get("labels") or {}).get(label) == wanted
        ]

    def apply(self, path: str, body: Any, params: dict[str, Any]) -> None:
        assert params["content_type"] == "application/apply-patch+yaml"
        assert params["field_manager"] == "mk8s"
        if params.get("dry_run"):
            self.dry_runs.append(path)
        else:
            self.applied.append(path)
            self.objects[path] = self.objects.get(path, {}) | body


def refused(status: int, message: str) -> Exception:
    error = ApiException(status=status, reason="no")
    error.body = json.dumps({"kind": "Status", "message": message})
    made: Exception = api_exception(error)
    return made
