"""An API server as `mk8s_cli.agent_install.cluster` sees it: objects by path, refusals on demand.

In place of the official client; tests/kube/test_agent_install.py shows what a real one answers.
"""

import json
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from kubernetes.client.exceptions import ApiException
from kubernetes.dynamic.exceptions import api_exception

LISTS = {"pods": "Pod", "replicasets": "ReplicaSet", "events": "Event"}


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
        elif (kind := path.rpartition("/")[2]) in LISTS and method == "get":
            items = [it for at, it in self.objects.items() if at.startswith(f"{path}/")]
            return json.dumps({"kind": f"{LISTS[kind]}List", "items": items}).encode()
        if path not in self.objects and not params.get("dry_run"):
            raise refused(404, "not found")
        found = self.objects.get(path, {})
        if method == "delete":
            del self.objects[path]
        return json.dumps(found).encode()

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
