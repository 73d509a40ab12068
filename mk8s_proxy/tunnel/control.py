"""The conversation on a tunnel's control stream, central's side: register, heartbeat, renew.

Runs beside the chain: it may wait for the database. A tunnel carries no request before its agent
has registered and the cluster in its certificate was found.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from mk8s_agent.wire.background import Background, Failed, OwnedTasks, Work
from mk8s_agent.wire.control import (
    BOUNDED,
    TRUST,
    Drain,
    Heartbeat,
    HeartbeatAck,
    Message,
    Refused,
    Register,
    Registered,
    Renew,
    Renewed,
    Resources,
    Trust,
)
from mk8s_agent.wire.http2.frames import ErrorCode
from mk8s_proxy.db import agents
from mk8s_proxy.db.agents import Issued, Standing
from mk8s_proxy.db.clusters import Sighting
from mk8s_proxy.db.engine import Database
from mk8s_proxy.db.errors import CertificateReused, CertificateRevoked, StoreError
from mk8s_proxy.identity.authorities import AuthorityKeeper
from mk8s_proxy.identity.ca import CaError, requested_key_hash
from mk8s_proxy.tunnel.agent_records import AgentRecords
from mk8s_proxy.tunnel.registry import TunnelRegistry
from mk8s_proxy.tunnel.session import TunnelSession

log = logging.getLogger(__name__)

HEARTBEAT_SECONDS: Final = 10.0
MOVE_SECONDS = 120.0
"""Within so long after a new agent CA has begun to sign, agents ask it for certificates."""
_MESSAGE_SECONDS: Final = 30.0
_REFUSED_SKEW: Final = 300.0
_NOTED_SKEW: Final = 60.0
_TOUCH_SECONDS: Final = 30.0
"""Heartbeats reach the database this often; it is for people to look at."""
_LEARN_SECONDS: Final = 5.0
"""What changes about a cluster is taken this often at most; agents tell it with a heartbeat."""
_REVOKED: Final = "the agent's certificate was revoked: join again"
_RETIRED: Final = "the authority of the agent's certificate was retired: join again"
_FAILED: Final = "central failed, its log says why: try again"
_UNKNOWN: Final = "the cluster of this certificate is not known"
_ADVICE: Final = (
    "its own RBAC does not hold people back: remove what binds mk8s:users to cluster-admin and "
    "apply what `mk8s admin cluster-rbac` prints"
)


async def _nothing_newer() -> None:
    """The policy in force is the newest there is."""


@dataclass(frozen=True, slots=True)
class TunnelServices:
    """What the conversation needs of the rest of central."""

    background: Background
    database: Database
    records: AgentRecords
    authorities: AuthorityKeeper
    certificate_seconds: int
    registry: TunnelRegistry
    on_refused: Callable[[TunnelSession, str], None] = lambda _session, _reason: None
    """Writes the audit row of a tunnel that is not wanted, with the reason."""
    instance: str = ""
    """The name of this process of central, by which agents know which ones they reach."""
    instances: int = 1
    """How many processes share the address: an agent dials until it reaches all."""
    refresh_policy: Callable[[], Awaitable[None]] = _nothing_newer
    """Brings what the registry follows up to the database."""
    learn_scopes: Callable[[str, tuple[str, ...], tuple[str, ...]], object] = lambda *_: None
    """Takes what a cluster says of its resources: cluster-scoped ones, and namespaced ones."""
    learn_bounds: Callable[[str, str, tuple[str, ...]], bool] = lambda *_: False
    """Takes what the group of everybody may do there and which groups of roles the agent may act
    with; whether that is new."""


class TunnelControl:
    """Central's half of one control stream.

    Args:
        session: the tunnel.
        serial: of the agent's certificate, lower-case hexadecimal, to refuse revoked ones.
        not_after: end of the certificate's life; the tunnel ends then too.
    """

    def __init__(
        self, session: TunnelSession, services: TunnelServices, serial: str, not_after: datetime
    ) -> None:
        self._session = session
        self._services = services
        self._serial = session.serial = serial
        self._register: Register | None = None
        self._touched = 0.0
        self._learns_again = 0.0
        self._renewing = False
        self._told_trust: Trust | None = None
        self._tasks = OwnedTasks(services.background)
        self._not_after = not_after.timestamp()
        session.control.on_message = self.on_message

    def on_message(self, message: Message) -> None:
        """A message of the agent."""
        if isinstance(message, Register) and self._register is None:
            self._register = message
            self._start("tunnel.register", self._admit(message), lambda _: self._refuse(_FAILED))
        elif isinstance(message, Heartbeat) and self._session.registered:
            self._session.control.send(HeartbeatAck(clock=time.time()))
            if not self._refuse_skew(message.clock):
                self._touch()
        elif isinstance(message, Resources) and self._session.registered:
            self._learn(message)
        elif isinstance(message, Renew) and self._session.registered and not self._renewing:
            self._renewing = True  # one at a time: each costs a signature and a row
            self._start("tunnel.renew", self._renew(message))

    def close(self) -> None:
        """The tunnel is gone."""
        self._tasks.cancel()

    # -- register

    async def _admit(self, register: Register) -> None:
        session = self._session
        if self._refuse_skew(register.clock):
            return
        try:
            standing = await self._services.records.standing(self._serial)
        except StoreError as error:
            self._refuse(f"{_UNKNOWN}: {error}")
            return
        if session.closed:
            return
        if why := unwanted(standing, session.cluster_id):
            self._refuse(why)
            return
        assert standing is not None
        if not self._services.registry.knows(session.cluster_id):  # added, or removed, just now
            await self._services.refresh_policy()
        self._decide(register, standing.cluster_name)

    def _decide(self, register: Register, cluster: str) -> None:
        """What the database said may be older than what this process has heard since."""
        session, registry = self._session, self._services.registry
        if session.closed:
            return
        if not registry.knows(session.cluster_id):
            self._refuse(_UNKNOWN)
        elif registry.is_revoked(self._serial):
            self._refuse(_REVOKED)
        elif not registry.trusts(session.issuer):
            self._refuse(_RETIRED)
        else:
            self._accept(register, cluster)

    def _accept(self, register: Register, cluster: str) -> None:
        session, services = self._session, self._services
        session.cluster, session.instance = cluster, register.instance
        session.registered = True
        tunnel_id = f"{cluster}-{register.instance}"[:128]
        accepted = Registered(
            tunnel_id, HEARTBEAT_SECONDS, time.time(), services.instance, services.instances
        )
        session.control.send(accepted)
        services.registry.add(session, register.agent_version, register.kubernetes_version)
        self._tell_trust()
        self._learn_facts(register)
        self._touch()

    def _learn(self, told: Resources) -> None:
        """The cluster was upgraded, or has a new CRD; more often than it may be, it is no news."""
        now = time.monotonic()
        if now < self._learns_again or self._register is None:
            return
        self._learns_again = now + _LEARN_SECONDS
        session, version = self._session, told.kubernetes_version
        self._register = replace(self._register, kubernetes_version=version)
        self._services.registry.status(session.cluster_id).kubernetes_version = version
        self._learn_facts(told)

    def _learn_facts(self, told: Register | Resources) -> None:
        cluster, services = self._session.cluster, self._services
        if told.cluster_scoped:  # else nobody could ask, which is no news
            services.learn_scopes(cluster, told.cluster_scoped, told.namespaced)
        groups = (*told.role_groups, *told.other_groups)
        if services.learn_bounds(cluster, told.users_group, groups):
            extra = {"cluster": cluster, "users_group": told.users_group}
            if told.users_group == BOUNDED:
                log.info("cluster.bounded", extra=extra)
            else:
                log.warning("cluster.unbounded", extra=extra | {"advice": _ADVICE})

    def _refuse(self, reason: str) -> None:
        extra = {"cluster_id": self._session.cluster_id, "reason": reason}
        log.warning("tunnel.refused", extra=extra)
        self._services.on_refused(self._session, reason)
        self._session.control.send(Refused(reason))
        self._session.close_reason = reason
        self._session.drain(ErrorCode.NO_ERROR, reason)
        asyncio.get_running_loop().call_later(1.0, self._session.transport.close)

    def second(self) -> None:
        """Once a second: tells new authorities, ends the tunnel with the certificate it came by."""
        if time.time() < self._not_after:
            self._tell_trust()
            return
        self._session.control.send(Drain())
        self._session.close_reason = "the agent's certificate has expired"
        self._session.fail(ErrorCode.NO_ERROR, "the agent's certificate has expired")

    # -- heartbeat

    def _refuse_skew(self, clock: float) -> bool:
        """Notes a clock that is off; one that is far off ends the tunnel: True."""
        skew = clock - time.time()
        if abs(skew) > _REFUSED_SKEW:
            off = f"{abs(skew):.0f} s"
            self._refuse(f"the clocks of agent and central differ by {off}: set them right")
            return True
        if abs(skew) > _NOTED_SKEW:
            name = self._session.cluster or self._session.cluster_id
            log.warning("tunnel.clock", extra={"cluster": name, "skew_seconds": round(skew)})
        return False

    def _touch(self) -> None:
        now = time.monotonic()
        if now - self._touched >= _TOUCH_SECONDS and self._register is not None:
            self._touched = now
            self._tell_seen(self._register)

    def _tell_seen(self, register: Register) -> None:
        cluster_id, seen = self._session.cluster_id, datetime.now(UTC)
        self._services.registry.status(cluster_id).last_seen = seen
        self._services.records.saw(
            Sighting(cluster_id, register.agent_version, register.kubernetes_version, seen)
        )

    def _tell_trust(self) -> None:
        """With the registration, and again when it is something else."""
        session, keeper = self._session, self._services.authorities
        register = self._register
        if not session.registered or register is None or TRUST not in register.capabilities:
            return
        now = datetime.now(UTC)
        following = keeper.following(now)
        outdated = following is not None and session.issuer != following.key_id
        news = Trust(keeper.servers_pem(now).decode(), MOVE_SECONDS if outdated else 0.0)
        if news != self._told_trust:
            self._told_trust = news
            session.control.send(news)

    # -- renew

    async def _renew(self, message: Renew) -> None:
        session, services, csr = self._session, self._services, message.csr.encode()
        try:
            key_hash = requested_key_hash(csr)
            certificate = await agents.renew(
                services.database,
                self._serial,
                session.cluster_id,
                lambda: self._issue(csr, key_hash, message.trusts),
                key_hash,
            )
        except CaError as error:
            session.control.send(Refused(f"no certificate: {error}"))
        except CertificateRevoked:
            self._refuse(_REVOKED)
        except CertificateReused as reused:
            extra = {"cluster": session.cluster, "serial": self._serial}
            log.error("agent.certificate_reused", extra=extra)  # noqa: TRY400  no bug of ours
            self._refuse(str(reused))
            await services.refresh_policy()  # ends the other tunnels of both
        else:
            session.control.send(Renewed(certificate))
            log.info("certificate.renewed", extra={"cluster": session.cluster})
        finally:
            self._renewing = False

    def _issue(self, csr: bytes, key_hash: str, trusts: tuple[str, ...]) -> Issued:
        services = self._services
        life = timedelta(seconds=services.certificate_seconds)
        authority = services.authorities.signer(datetime.now(UTC), trusts)
        signed = authority.sign_agent(csr, self._session.cluster_id, life=life)
        pem = signed.certificate_pem.decode()
        return Issued(signed.serial, key_hash, pem, signed.not_after)

    def _start(self, name: str, work: Work, failed: Failed | None = None) -> None:
        """Whatever goes wrong costs this message only; the agent asks again."""
        fields: dict[str, object] = {"cluster_id": self._session.cluster_id}
        self._tasks.start(name, work, failed=failed, seconds=_MESSAGE_SECONDS, fields=fields)


def unwanted(standing: Standing | None, cluster_id: str) -> str:
    """Why an agent may not register with a certificate of this cluster; empty if it may."""
    if standing is None:  # never recorded
        return _REVOKED
    if standing.cluster_id != cluster_id or not standing.cluster_name:
        return _UNKNOWN
    return _REVOKED if standing.revoked else ""
