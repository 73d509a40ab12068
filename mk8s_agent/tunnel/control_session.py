"""The agent's half of the talk on a tunnel's control stream; no I/O.

Made by ``mk8s_agent.tunnel.session`` for each tunnel once central has opened its control stream.
Messages come in by `receive`, go out by the ``send`` that it is given (see
``mk8s_agent.wire.control_channel``), and `tick` is called about once a second.
"""

import dataclasses
import logging
import time
from collections.abc import Callable
from typing import Final

from mk8s_agent.identity.renewal import IdentityKeeper
from mk8s_agent.wire import control

CAPABILITIES: Final = ("renew", "drain", control.TRUST)
REGISTER_SECONDS: Final = 15.0
"""How long central may take to accept a tunnel."""
MISSED_HEARTBEATS: Final = 3
"""After so many without an answer central counts as gone, whatever TCP says."""
SKEW_WARNING_SECONDS: Final = 60.0
SKEW_LIMIT_SECONDS: Final = 300.0
"""Central refuses the cluster beyond it (design: fail-closed rules)."""

log = logging.getLogger(__name__)


@dataclasses.dataclass(slots=True)
class Facts:
    """What central is told about this agent; all but the first two are filled in when known."""

    agent_version: str
    instance: str
    kubernetes_version: str = ""
    cluster_scoped: tuple[str, ...] = ()
    namespaced: tuple[str, ...] = ()
    users_group: str = ""
    role_groups: tuple[str, ...] = ()
    other_groups: tuple[str, ...] = ()

    def of_cluster(self) -> control.Resources:
        """What may change while the agent runs."""
        return control.Resources(
            self.kubernetes_version,
            self.cluster_scoped,
            self.namespaced,
            self.users_group,
            self.role_groups,
            self.other_groups,
        )


@dataclasses.dataclass(frozen=True, slots=True)
class ControlEvents:
    """What a control session tells the tunnel that it belongs to."""

    registered: Callable[[], object]
    """Central accepted the tunnel; requests will come."""
    draining: Callable[[], object]
    """Central leaves: dial a replacement, keep this tunnel until its streams have ended."""
    failed: Callable[[str], object]
    """The tunnel is of no use; close it. The sentence says why."""


class ControlSession:
    """One tunnel's control stream, seen from the agent.

    Args:
        send: takes one message.
        events: what to call.
        facts: about this agent; told when registering, and again when they have changed.
        keeper: of the identity, which this session renews when it is time.
        requests: gives the number of requests in flight on this tunnel.
        clock: seconds since the epoch, for the peer.
        monotonic: seconds that never jump, for deadlines.
    """

    def __init__(
        self,
        send: Callable[[control.Message], object],
        events: ControlEvents,
        facts: Facts,
        keeper: IdentityKeeper,
        requests: Callable[[], int],
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.tunnel_id = ""
        """Central's name for this tunnel; "" until it has accepted it."""
        self.skew = 0.0
        """How far this machine's clock is ahead of central's, in seconds."""
        self.instance = ""
        """Which process of central has accepted it; "" where central does not tell."""
        self.instances = 0
        """How many processes central consists of; 0 where it does not tell."""
        self._send = send
        self._events = events
        self._facts = facts
        self._keeper = keeper
        self._requests = requests
        self._clock = clock
        self._monotonic = monotonic
        self._heartbeat_seconds = 0.0
        self._deadline = monotonic() + REGISTER_SECONDS
        self._next_heartbeat = 0.0
        self._renewing = False
        self._told = facts.of_cluster()
        self._warned = False
        self._over = False

    def start(self) -> None:
        """Register."""
        facts = self._facts
        self._told = facts.of_cluster()
        message = control.Register(
            facts.agent_version,
            facts.instance,
            facts.kubernetes_version,
            CAPABILITIES,
            self._clock(),
            facts.cluster_scoped,
            facts.namespaced,
            facts.users_group,
            facts.role_groups,
            facts.other_groups,
        )
        self._send(message)

    def receive(self, message: control.Message) -> None:
        """Take a message of central."""
        if self._over:
            return
        match message:
            case control.Registered():
                self._register(message)
            case control.HeartbeatAck():
                self._deadline = self._monotonic() + MISSED_HEARTBEATS * self._heartbeat_seconds
                self._compare_clocks(message.clock)
            case control.Renewed():
                self._renewing = False
                self._keeper.complete(self, message.certificate.encode())
            case control.Refused():
                self._refused(message.message)
            case control.Trust():
                self._keeper.trust(message.authorities.encode(), message.renew_seconds)
            case control.Drain():
                self._events.draining()
            case control.Unknown():
                log.info("control.unknown_message", extra={"kind": message.kind})
            case control.Register() | control.Heartbeat() | control.Resources() | control.Renew():
                self._fail("central sent a message that only agents send")

    def tick(self) -> None:
        """Do what is due: a heartbeat, a renewal, giving central up."""
        now = self._monotonic()
        if self._over:
            return
        if now >= self._deadline:
            what = "heartbeats" if self.tunnel_id else "the registration"
            self._fail(f"central does not answer {what}")
            return
        if self.tunnel_id and now >= self._next_heartbeat:
            self._next_heartbeat = now + self._heartbeat_seconds
            self._send(control.Heartbeat(self._clock(), self._requests()))
            self._tell_changes()
        if self.tunnel_id and self._keeper.renewal_due():
            self._renewing = True
            self._send(self._keeper.ask(self))

    def _tell_changes(self) -> None:
        """With a heartbeat at most; an older central knows no such message and passes it over."""
        now = self._facts.of_cluster()
        if now != self._told:
            self._told = now
            self._send(now)

    def close(self, reason: str) -> None:
        """Be told that the tunnel is gone."""
        self._over = True
        if self._renewing:
            self._renewing = False
            self._keeper.give_up(self, reason)

    def _register(self, message: control.Registered) -> None:
        if self.tunnel_id or not message.tunnel_id:
            self._fail("central registered the tunnel twice, or without an id")
            return
        now = self._monotonic()
        self.tunnel_id = message.tunnel_id
        self.instance, self.instances = message.instance, message.instances
        self._heartbeat_seconds = message.heartbeat_seconds
        self._next_heartbeat = now + message.heartbeat_seconds
        self._deadline = now + (MISSED_HEARTBEATS + 1) * message.heartbeat_seconds
        self._compare_clocks(message.clock)
        self._events.registered()

    def _refused(self, reason: str) -> None:
        if self._renewing:
            self._renewing = False
            self._keeper.give_up(self, f"central refused: {reason}")
        else:
            self._fail(f"central refused the tunnel: {reason}")

    def _compare_clocks(self, theirs: float) -> None:
        if not theirs:
            return
        self.skew = self._clock() - theirs
        far = abs(self.skew) > SKEW_WARNING_SECONDS
        if far and not self._warned:
            skew = {
                "seconds": round(self.skew),
                "limit": SKEW_LIMIT_SECONDS,
                "advice": "check the clock of this machine and central's",
            }
            log.warning("clock.skew", extra=skew)
        self._warned = far

    def _fail(self, reason: str) -> None:
        self.close(reason)
        self._events.failed(reason)


MakeControl = Callable[
    [Callable[[control.Message], object], ControlEvents, Callable[[], int]], ControlSession
]
"""Gives a tunnel the agent's half of its control stream; the arguments are `ControlSession`'s."""
