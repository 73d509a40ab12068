"""What clusters say of themselves, as far as decisions depend on it. Kept by the policy feed.

The agent of a cluster tells it when it registers and when it changes: which resources of
Kubernetes's own groups live outside namespaces, where the list of `scopes` says otherwise; what
everybody may do there by the group that mk8s gives them; and with which groups the agent may act.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from mk8s_agent.wire.control import BOUNDED
from mk8s_agent.wire.group_names import ANY_GROUP
from mk8s_proxy.authz.scopes import NOTHING_ELSE, Kind, Scope, is_known, scope_of


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a cluster's own RBAC allows to those who come through mk8s."""

    reach: str = ""
    """What `mk8s:users` may do there (`mk8s_agent.wire.control.REACHES`)."""
    groups: frozenset[str] = frozenset()
    """The groups of roles and of issuers that the agent may act with."""

    @property
    def unbounded(self) -> bool:
        """Whether everybody may do everything there, for all that is known: an agent that cannot
        tell, or is too old to, is no proof that they may not."""
        return self.reach != BOUNDED

    def takes(self, group: str) -> bool:
        """Whether a person may have this group there."""
        return group in self.groups or ANY_GROUP in self.groups


UNTOLD: Final = Bounds()
Learn = Callable[[str, tuple[str, ...], tuple[str, ...]], None]
LearnBounds = Callable[[str, str, tuple[str, ...]], bool]


class ClusterFacts:
    """What all clusters have said.

    Attributes:
        stamp: grows whenever something new is known.
    """

    def __init__(self) -> None:
        self.stamp = 0
        self._scopes: dict[str, Mapping[Kind, Scope]] = {}
        self._bounds: dict[str, Bounds] = {}

    def scopes_of(self, cluster: str) -> Mapping[Kind, Scope]:
        """What a cluster says otherwise than the list; empty for nearly all."""
        return self._scopes.get(cluster, NOTHING_ELSE)

    def bounds_of(self, cluster: str) -> Bounds:
        """What people may do in a cluster by its own word."""
        return self._bounds.get(cluster, UNTOLD)

    def learn(self, cluster: str, cluster_scoped: Iterable[str], namespaced: Iterable[str]) -> None:
        """Take what the agent of a registered cluster has discovered.

        Args:
            cluster: its name.
            cluster_scoped: resources outside namespaces, written `resource.group`.
            namespaced: the others.
        """
        told = [(one, Scope.NAMESPACED) for one in namespaced]
        told += [(one, Scope.CLUSTER) for one in cluster_scoped]
        kinds = ((_kind(one), scope) for one, scope in told)
        differing = {
            kind: scope
            for kind, scope in kinds
            if is_known(kind[0]) and scope is not scope_of(*kind)
        }
        if differing != self.scopes_of(cluster):
            self._scopes[cluster] = differing
            self.stamp += 1

    def learn_bounds(self, cluster: str, reach: str, groups: Iterable[str]) -> bool:
        """Take what the agent of a registered cluster was told by the API server.

        An agent that has not asked yet, or is too old to ask, says nothing: what another one of the
        same cluster has said still holds.

        Args:
            cluster: its name.
            reach: one of `REACHES`.
            groups: those that the agent may act with.

        Returns:
            Whether it is new.
        """
        bounds = Bounds(reach, frozenset(groups))
        if not reach or bounds == self.bounds_of(cluster):
            return False
        self._bounds[cluster] = bounds
        self.stamp += 1
        return True

    @property
    def learners(self) -> tuple[Learn, LearnBounds]:
        """What tunnels call with what agents tell."""
        return self.learn, self.learn_bounds

    def keep_only(self, clusters: Iterable[str]) -> None:
        """Forget clusters that were deleted."""
        kept = frozenset(clusters)
        self._scopes = {name: known for name, known in self._scopes.items() if name in kept}
        self._bounds = {name: known for name, known in self._bounds.items() if name in kept}


def _kind(text: str) -> Kind:
    resource, _, group = text.partition(".")
    return group, resource
