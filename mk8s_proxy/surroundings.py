"""What the corridor needs of its surroundings: a policy, tunnels."""

from typing import Protocol

from mk8s_agent.wire.stream import Stream
from mk8s_proxy.authz.snapshot import PolicySnapshot


class Policies(Protocol):
    """Where the policy in force comes from (`snapshots.PolicyFeed`)."""

    @property
    def current(self) -> PolicySnapshot:
        """The compiled policy."""

    def fresh(self, now: float) -> bool:
        """Whether it may still decide, at a time of the monotonic clock."""


class Tunnel(Protocol):
    """A cluster's tunnel as the corridor sees it (`tunnel.session.TunnelSession`)."""

    @property
    def available(self) -> bool:
        """Whether a new stream may be opened here."""

    def stage(self) -> Stream:
        """A stream without an id: its body waits until `open_staged` sends the head."""

    def open_staged(self, stream: Stream, block: bytes) -> None:
        """Sends the request head of a staged stream."""

    def discard_staged(self, stream: Stream) -> None:
        """Forgets a staged stream whose head will not be sent."""


class Tunnels(Protocol):
    """The live tunnels (`tunnel.registry.TunnelRegistry`)."""

    def pick(self, cluster: str) -> Tunnel | None:
        """A tunnel of the cluster, if any is there."""
