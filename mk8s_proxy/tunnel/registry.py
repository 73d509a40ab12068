"""All live tunnels by cluster. The handler chain picks one, the management API shows them."""

# compiled: every request asks it for a tunnel

import datetime
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from mk8s_agent.wire.bulkhead import Bulkhead
from mk8s_proxy.tunnel.session import TunnelSession

log = logging.getLogger(__name__)

_UNWANTED: Final = Bulkhead("tunnels.unwanted")


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
    """Registered tunnels; a session is here from its registration until it drains or ends.

    A cluster is its id: one that was removed and added again under its name is another. Which id a
    name means, `follow` says, with every change of the policy that decides about the same names.
    """

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._revoked: frozenset[str] = frozenset()
        self._trusted: frozenset[str] | None = None
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

    def pick_again(self, cluster_id: str) -> TunnelSession | None:
        """The same for what was to leave by a tunnel of this cluster that takes no more: never one
        of another cluster that has got its name meanwhile."""
        able = [it for it in self.status(cluster_id).sessions if it.available]
        return min(able, key=lambda it: len(it.streams), default=None)

    def full(self, cluster: str) -> bool:
        """Whether an agent is connected, but all its tunnels carry as many requests as they may."""
        tunnels = self._by_name.get(cluster)
        return tunnels is not None and any(session.full for session in tunnels.sessions)

    def add(self, session: TunnelSession, agent_version: str, kubernetes_version: str) -> None:
        """A tunnel registered, of a cluster that is known here."""
        tunnels = self._by_id.get(session.cluster_id)
        if tunnels is None:
            tunnels = self._by_id[session.cluster_id] = ClusterTunnels([])
        self._by_name[self._names[session.cluster_id]] = tunnels
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

    def knows(self, cluster_id: str) -> bool:
        """Whether the policy in force here has this cluster."""
        return cluster_id in self._names

    def is_revoked(self, serial: str) -> bool:
        """Whether the policy in force here came with the revocation of this certificate."""
        return serial in self._revoked

    def trusts(self, issuer: str) -> bool:
        """Whether the authority with this key id still counts; before `trust`, all do."""
        return self._trusted is None or issuer in self._trusted

    def trust(self, issuers: frozenset[str]) -> None:
        """Ends the tunnels of agents whose certificates are of other authorities than these."""
        self._trusted = issuers
        self._end("the authority of the agent's certificate was retired", self._is_stray)

    def _is_stray(self, session: TunnelSession) -> bool:
        return not self.trusts(session.issuer)

    def serials_not_of(self, issuer: str) -> set[str]:
        """The certificates of live tunnels that another authority has signed."""
        return {session.serial for session in self.all_sessions() if session.issuer != issuer}

    def serials(self, cluster_id: str) -> list[str]:
        """The certificate of each live tunnel of a cluster."""
        return [session.serial for session in self.status(cluster_id).sessions]

    def follow(self, cluster_names: Mapping[str, str], revoked: frozenset[str]) -> None:
        """Clusters or certificates have changed: ends the tunnels that are not wanted any more.

        Args:
            cluster_names: the name of each cluster, by its id.
            revoked: serials of certificates that are good no more.
        """
        self._names, self._revoked = dict(cluster_names), revoked
        self._end("the cluster was deleted", lambda it: it.cluster_id not in self._names)
        self._end("the agent's certificate was revoked", lambda it: it.serial in revoked)
        self._by_id = {key: kept for key, kept in self._by_id.items() if key in self._names}
        self._by_name = {self._names[key]: tunnels for key, tunnels in self._by_id.items()}

    def _end(self, reason: str, unwanted: Callable[[TunnelSession], bool]) -> None:
        def end(session: TunnelSession) -> None:
            session.close_reason = reason
            session.transport.abort()
            session.connection_lost()

        _UNWANTED.each(list(filter(unwanted, self.all_sessions())), end)

    def all_sessions(self) -> list[TunnelSession]:
        """Every live tunnel."""
        return [session for tunnels in self._by_id.values() for session in tunnels.sessions]
