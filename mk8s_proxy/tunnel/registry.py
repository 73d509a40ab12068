"""All live tunnels by cluster. The handler chain picks one, the management API shows them."""

import datetime
import logging
from dataclasses import dataclass
from typing import Final

from mk8s_agent.wire.bulkhead import Bulkhead
from mk8s_proxy.tunnel.session import TunnelSession

log = logging.getLogger(__name__)

_DELETED: Final = Bulkhead("tunnels.deleted")


@dataclass(slots=True)
class ClusterTunnels:
    """What is known of one cluster's tunnels."""

    sessions: list[TunnelSession]
    agent_version: str = ""
    kubernetes_version: str = ""
    last_seen: datetime.datetime | None = None

    @property
    def connected(self) -> bool:
        """Whether a request could be relayed now."""
        return any(session.available for session in self.sessions)

    @property
    def agents(self) -> int:
        """Agents that hold a tunnel; each may hold several."""
        return len({session.instance for session in self.sessions})


class TunnelRegistry:
    """Registered tunnels; a session is here from its registration until it drains or ends."""

    def __init__(self) -> None:
        self._by_name: dict[str, ClusterTunnels] = {}
        self._by_id: dict[str, ClusterTunnels] = {}

    def pick(self, cluster: str) -> TunnelSession | None:
        """The tunnel with the fewest requests in flight; None when no agent is connected."""
        tunnels = self._by_name.get(cluster)
        best: TunnelSession | None = None
        if tunnels is not None:
            for session in tunnels.sessions:
                if session.available and (best is None or len(session.streams) < len(best.streams)):
                    best = session
        return best

    def add(self, session: TunnelSession, agent_version: str, kubernetes_version: str) -> None:
        """A tunnel registered; `session.cluster` and `session.cluster_id` are set."""
        tunnels = self._by_id.get(session.cluster_id)
        if tunnels is None:
            tunnels = self._by_id[session.cluster_id] = ClusterTunnels([])
        self._by_name[session.cluster] = tunnels
        tunnels.sessions.append(session)
        tunnels.agent_version = agent_version
        tunnels.kubernetes_version = kubernetes_version or tunnels.kubernetes_version
        count = len(tunnels.sessions)
        log.info("tunnel.opened", extra={"cluster": session.cluster, "tunnels": count})

    def remove(self, session: TunnelSession) -> None:
        """A tunnel ended."""
        tunnels = self._by_id.get(session.cluster_id)
        if tunnels is not None and session in tunnels.sessions:
            tunnels.sessions.remove(session)
            extra = {
                "cluster": session.cluster,
                "tunnels": len(tunnels.sessions),
                "reason": session.close_reason or "the agent closed the connection",
            }
            log.info("tunnel.closed", extra=extra)

    def status(self, cluster_id: str) -> ClusterTunnels:
        """The state of a cluster's tunnels, also for a cluster that has none."""
        return self._by_id.get(cluster_id) or ClusterTunnels([])

    def keep_only(self, cluster_names: frozenset[str]) -> None:
        """Ends the tunnels of clusters that were deleted."""
        for name in self._by_name.keys() - cluster_names:
            tunnels = self._by_name.pop(name)
            self._by_id = {key: kept for key, kept in self._by_id.items() if kept is not tunnels}
            _DELETED.each(list(tunnels.sessions), _end_deleted)

    def all_sessions(self) -> list[TunnelSession]:
        """Every live tunnel."""
        return [session for tunnels in self._by_id.values() for session in tunnels.sessions]


def _end_deleted(session: TunnelSession) -> None:
    session.close_reason = "the cluster was deleted"
    session.transport.abort()
    session.connection_lost()
