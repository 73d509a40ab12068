"""One way to reach one API server, as a kubeconfig: directly or through mk8s, and how addressed.

`stage.py` makes the places; clients only read them.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.conformance.restart import Restart
from tests.support.processes import private_environment


@dataclass(frozen=True, slots=True)
class Place:
    """A kubeconfig with one context, and the home of the person who has it."""

    name: str
    kubeconfig: Path
    environment: Mapping[str, str]
    chosen: Mapping[str, str] = field(default_factory=dict)
    """What is different in this place by the runner's choice, and the word for it."""
    extension_port: int = 0
    """Where the cluster can reach the runner's extension API server."""
    restart: Restart | None = None
    """What a client of this place is to live through."""

    @property
    def cluster(self) -> dict[str, Any]:
        """The cluster entry of the kubeconfig."""
        found: dict[str, Any] = yaml.safe_load(self.kubeconfig.read_text())["clusters"][0]
        cluster: dict[str, Any] = found["cluster"]
        return cluster

    @property
    def user(self) -> dict[str, Any]:
        """The user entry of the kubeconfig."""
        found: dict[str, Any] = yaml.safe_load(self.kubeconfig.read_text())["users"][0]
        user: dict[str, Any] = found["user"]
        return user


def write(
    name: str, home: Path, *, cluster: Mapping[str, Any], user: Mapping[str, Any], context: str
) -> Place:
    """A place from the entries of a kubeconfig; its home is made when absent."""
    home.mkdir(parents=True, exist_ok=True)
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": context, "cluster": dict(cluster)}],
        "users": [{"name": context, "user": copy.deepcopy(dict(user))}],
        "contexts": [{"name": context, "context": {"cluster": context, "user": context}}],
        "current-context": context,
    }
    path = home / "kubeconfig"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    path.chmod(0o600)
    server = str(cluster["server"])
    origin = "/".join(server.split("/")[:3])
    chosen = {server: "SERVER", origin: "SERVER", str(home): "HOME", origin.split("//")[1]: "HOST"}
    environment = private_environment(home, KUBECONFIG=str(path))
    return Place(name, path, environment, chosen)
