"""What the handler chain needs around it: an authenticator, a policy, an audit log, tunnels."""

from typing import Protocol

from mk8s_agent.wire.stream import Stream
from mk8s_proxy.audit.event import AuditEntry
from mk8s_proxy.authz.snapshot import PolicySnapshot
from mk8s_proxy.identity.identity import Identity


class Authenticator(Protocol):
    """Who asks (`authn.access_token.TokenAuthenticator`)."""

    @property
    def stamp(self) -> int:
        """A number that grows when any verified credential may have become bad."""

    def authenticate(self, authorization: bytes) -> Identity:
        """Whose credential this is; raises `Unauthenticated`."""

    def vouches(self, identity: Identity, stamp: int) -> bool:
        """Whether an identity that was good at `stamp` is good now, without a doubt."""

    def recheck(self, identity: Identity) -> Identity:
        """The identity as it is now; raises `Unauthenticated` when it is not good any more."""


class AuditLog(Protocol):
    """Where rows are written (`audit.journal.Journal`)."""

    def intent(self, entry: AuditEntry) -> None:
        """Notes a request that waits for `commit`."""

    def outcome(self, entry: AuditEntry) -> None:
        """Notes the end of a request, or a refusal."""

    def commit(self) -> bool:
        """Writes what was noted; whether all of it is written."""

    @property
    def has_noted(self) -> bool:
        """Whether something is noted and not written."""

    @property
    def waiting(self) -> bool:
        """Whether a slow disk has still to say what became of the last commit."""

    def finish(self) -> bool | None:
        """What became of a commit that waited; None while it does, True where none did."""


class Policies(Protocol):
    """Where the policy in force comes from (`snapshots.PolicyFeed`)."""

    @property
    def current(self) -> PolicySnapshot:
        """The compiled policy."""

    def fresh(self, now: float) -> bool:
        """Whether it may still decide, at a time of the monotonic clock."""


class Tunnel(Protocol):
    """A cluster's tunnel as the handler chain sees it (`tunnel.session.TunnelSession`)."""

    cluster_id: str
    """The cluster, whatever its name is."""

    @property
    def available(self) -> bool:
        """Whether a new stream may be opened here."""

    @property
    def crowded(self) -> bool:
        """Whether the places that are left here are for short requests."""

    @property
    def longest_head(self) -> int:
        """Bytes of a request's head that the agent takes."""

    def prepare(self) -> Stream:
        """A stream without an id: its body waits until `open_prepared` sends the head."""

    def open_prepared(self, stream: Stream, block: bytes) -> None:
        """Sends the request head of a prepared stream."""

    def adopt(self, stream: Stream) -> None:
        """Takes a stream that another tunnel has prepared and not opened."""

    def discard_prepared(self, stream: Stream) -> None:
        """Forgets a prepared stream whose head will not be sent."""


class Tunnels(Protocol):
    """The live tunnels (`tunnel.registry.TunnelRegistry`)."""

    def pick(self, cluster: str) -> Tunnel | None:
        """A tunnel of the cluster, if any is there."""

    def pick_again(self, cluster_id: str) -> Tunnel | None:
        """A tunnel for what was to leave by another one of the same cluster."""

    def full(self, cluster: str) -> bool:
        """Whether none was picked although an agent is connected."""
