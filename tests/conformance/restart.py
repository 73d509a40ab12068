"""The agent's end by force while an informer runs, with changes that nobody tells it of meanwhile.

What is there at the start and what becomes of it is written past mk8s. A client that lives through
it has in the end what `kubectl get` shows: nothing missed, nothing stale.
"""

import json
import signal
from dataclasses import dataclass
from typing import Any

from tests.conformance.manifests import config_map
from tests.support.world import World, wait_until

APP = "lasting"
"""The label `app` of all objects."""
START = {"stays": "blue", "changes": "blue", "goes": "blue"}
MEANWHILE = {"changes": "grey", "comes": "blue"}
"""And `goes` is deleted."""
LAST = {"last": "blue"}
"""Made when the agent is back: who knows it knows everything before."""
_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Restart:
    """The restart of one cluster's agent, or what happens at the same time where there is none."""

    world: World
    cluster: str
    through: bool
    """Whether the client's way leads over the agent."""

    def prepare(self, namespace: str) -> None:
        """Make the objects of the start."""
        self._apply(namespace, START)

    def happen(self, namespace: str) -> None:
        """End the agent as a machine does that loses its power; change things; start it again.

        Raises:
            AssertionError: central did not see it go, or no new one came.
        """
        if self.through:
            agent = self.world.agents[self.cluster]
            agent.signal(signal.SIGKILL)
            agent.wait()
            gone = "central does not see that the agent is gone"
            wait_until(lambda: self._status() != "connected", _SECONDS, lambda: gone)
        self._apply(namespace, MEANWHILE)
        self._direct("-n", namespace, "delete", "configmap", "goes")
        if self.through:
            self.world.restart_agent(self.cluster)
        self._apply(namespace, LAST)

    def _status(self) -> str:
        person = self.world.people["admin"]
        listed = json.loads(person.mk8s("clusters", "list", "-o", "json").stdout)
        return next(str(item["status"]) for item in listed if item["name"] == self.cluster)

    def _apply(self, namespace: str, skies: dict[str, str]) -> None:
        items: list[dict[str, Any]] = [
            config_map(name, {"sky": sky}, app=APP) for name, sky in skies.items()
        ]
        document = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
        self._direct("-n", namespace, "apply", "-f", "-", stdin=document)

    def _direct(self, *words: str, stdin: str = "") -> None:
        kubeconfig = self.world.clusters[self.cluster]
        self.world.direct(*words, stdin=stdin, kubeconfig=kubeconfig)
