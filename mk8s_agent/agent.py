"""The running agent: tunnels, and the few things that go on beside them.

Made by ``mk8s_agent.main`` once there are credentials and an identity. The data plane is handed in,
so that this file knows neither HTTP/2 nor the API server.
"""

import asyncio
import contextlib
import gc
import logging
import math
import random
import secrets
import time
from collections.abc import Callable
from typing import Final, Protocol

from mk8s_agent.apiserver.own_requests import (
    ApiServerUnreachable,
    OwnResources,
    kubernetes_version,
)
from mk8s_agent.apiserver.own_rights import ask_rights
from mk8s_agent.credentials.sources import ApiServerCredentials
from mk8s_agent.credentials.token_sources import CredentialsGone
from mk8s_agent.health import HealthServer
from mk8s_agent.identity.renewal import IdentityKeeper
from mk8s_agent.identity.store import AgentIdentity, IdentityError, IdentityStore, check_expiry
from mk8s_agent.settings import Address, Settings
from mk8s_agent.tunnel.control_session import ControlEvents, ControlSession, Facts, MakeControl
from mk8s_agent.tunnel.dialer import Dialer, TunnelHandle
from mk8s_agent.tunnel.metrics import METRICS
from mk8s_agent.version import agent_version
from mk8s_agent.wire import control
from mk8s_agent.wire.background import Background
from mk8s_agent.wire.heap import keep_heap
from mk8s_agent.wire.metrics import Snapshot

VERSION_SECONDS: Final = 300.0
"""How often the API server's version and resources are asked for again, a fifth more or less: they
change with an upgrade, and with CRDs."""
VERSION_RETRY_SECONDS: Final = 30.0
RIGHTS_SECONDS: Final = 60.0
"""How often the agent asks what people may do in the cluster: bindings change."""
STORE_RETRY_SECONDS: Final = 60.0
GC_THRESHOLD: Final = 50_000
"""Objects between collections. Requests make few cycles; frequent collections cost latency."""

log = logging.getLogger(__name__)


class DataPlane(Protocol):
    """What carries the requests: made once, opens tunnels that share the API server's leg."""

    async def open_tunnel(
        self, *, central: Address, identity: AgentIdentity, make_control: MakeControl
    ) -> TunnelHandle:
        """Dial central and return when it has registered the tunnel."""
        ...

    def metrics(self) -> Snapshot:
        """What it has carried, and what it is doing."""
        ...

    def close(self) -> None:
        """End the connections to the API server."""
        ...


class Agent:
    """Everything that runs between the join and the end.

    Args:
        settings: of this agent.
        credentials: for the API server.
        store: where new identities are kept.
        identity: the one to begin with.
        data_plane: opens the tunnels.
        background: where its tasks run; open.
    """

    def __init__(
        self,
        settings: Settings,
        credentials: ApiServerCredentials,
        store: IdentityStore,
        identity: AgentIdentity,
        data_plane: DataPlane,
        background: Background,
    ) -> None:
        self._settings = settings
        self._credentials = credentials
        self._store = store
        self._data_plane = data_plane
        self._background = background
        self._facts = Facts(agent_version(), secrets.token_hex(8))
        self._keeper = IdentityKeeper(
            identity, self._identity_changed, prepared=lambda _: self._unsaved.set()
        )
        self._unreachable = ""
        self._unsaved = asyncio.Event()
        self._version_due = 0.0
        self._resources = OwnResources()
        self.dialer = Dialer(self._connect, background, settings.tunnels)

    def stop(self) -> None:
        """Drain and end; when called again, do not wait for requests."""
        if self._background.asked_to_end:
            self.dialer.cut()
        self._background.ask_to_end()

    async def serve(self) -> str:
        """Keep tunnels open until `stop`; gives why it ended, "" when it was told to.

        Raises:
            HealthError: the health address is taken.
        """
        health = HealthServer(self.unready, self.metrics, METRICS)
        if self._settings.health is not None:
            await health.start(self._settings.health)
        try:
            return await self._serve()
        finally:
            await health.stop()
            self._data_plane.close()

    async def _serve(self) -> str:
        await self._ask_version()
        await self._ask_rights()
        background = self._background
        background.forever("dialer", self.dialer.run())
        background.forever("credentials", self._credentials.keep_fresh())
        background.forever("identity store", self._keep_stored())
        # What a failure of this one leaves undone is no reason to send requests elsewhere.
        background.every("version", VERSION_RETRY_SECONDS, self._keep_version, overdue=math.inf)
        background.every("rights", RIGHTS_SECONDS, self._ask_rights, overdue=math.inf)
        freeze_memory()
        reason = await background.until_end()
        log.info("agent.draining", extra={"seconds": self._settings.drain_seconds})
        cut = await self.dialer.drain(self._settings.drain_seconds)
        log.info("agent.stopped", extra={"cut_tunnels": cut})
        await background.close()
        if self._unsaved.is_set():  # the next start would otherwise begin with an older identity
            await self._save()
        return reason

    def unready(self) -> str:
        """Give why requests cannot be served now, "" when they can."""
        if failed := self._background.unready():
            return f"does not go on: {', '.join(failed)}"
        if self._background.asked_to_end:
            return "the agent is draining"
        if not self.dialer.connected:
            return "no tunnel to central is open"
        try:
            self._credentials.authorization()
        except CredentialsGone:
            return "the agent has no credential for the API server"
        return ""

    def metrics(self) -> Snapshot:
        """The values of `METRICS` at this moment."""
        failures = self._background.failures.items()
        return self._data_plane.metrics() | {
            "mk8s_agent_certificate_expiry_timestamp_seconds": {(): self._keeper.current.not_after},
            "mk8s_agent_task_failures_total": {(task,): count for task, count in failures},
        }

    async def _connect(self) -> TunnelHandle:
        identity = self._keeper.current
        check_expiry(identity, time.time())
        return await self._data_plane.open_tunnel(
            central=self._settings.central, identity=identity, make_control=self._make_control
        )

    def _make_control(
        self,
        send: Callable[[control.Message], object],
        events: ControlEvents,
        requests: Callable[[], int],
    ) -> ControlSession:
        return ControlSession(send, events, self._facts, self._keeper, requests)

    def _identity_changed(self, _: AgentIdentity) -> None:
        self._unsaved.set()
        self.dialer.replace()

    async def _keep_stored(self) -> None:
        while True:
            await self._unsaved.wait()
            if not await self._save():
                await asyncio.sleep(STORE_RETRY_SECONDS)

    async def _save(self) -> bool:
        try:
            with contextlib.suppress(IdentityError):  # what cannot be read is written anew
                if kept := await self._store.load():
                    self._keeper.adopt(kept)
            identity = self._keeper.current
            await self._store.save(identity)
        except IdentityError as error:
            told = {"reason": str(error), "advice": "will try again"}
            log.warning("identity.not_stored", extra=told)
            return False
        except Exception:
            log.exception("identity.not_stored: will try again")
            return False
        self._keeper.stored(identity)
        if identity is self._keeper.current:
            self._unsaved.clear()
        return True

    async def _keep_version(self) -> None:
        if not self._facts.kubernetes_version or time.monotonic() >= self._version_due:
            await self._ask_version()

    async def _ask_version(self) -> None:
        pause = random.uniform(0.8, 1.2) * VERSION_SECONDS  # noqa: S311  jitter, no secret
        self._version_due = time.monotonic() + pause
        reason = ""
        try:
            self._facts.kubernetes_version = await kubernetes_version(self._credentials)
            await self._ask_resources()
        except ApiServerUnreachable as error:
            reason = str(error)
        if reason and reason != self._unreachable:  # once, not twice a minute
            # Tunnels are opened all the same: users then get the agent's own words.
            told = {"reason": reason, "advice": "will try again"}
            log.warning("apiserver.unreachable", extra=told)
        self._unreachable = reason

    async def _ask_resources(self) -> None:
        """Central knows the resources of older releases by itself: it can do without."""
        facts = self._facts
        try:
            found = await self._resources.ask(self._credentials)
            facts.cluster_scoped, facts.namespaced = found
        except ApiServerUnreachable as error:
            log.info("apiserver.resources_unknown", extra={"reason": str(error)})

    async def _ask_rights(self) -> None:
        """What was said before counts until the API server says something else."""
        facts = self._facts
        try:
            rights = await ask_rights(self._credentials)
            facts.users_group, facts.role_groups, facts.other_groups = rights
        except ApiServerUnreachable as error:
            log.info("apiserver.rights_unknown", extra={"reason": str(error)})


def freeze_memory() -> None:
    """Take what start-up made out of the collector's sight, and let it run less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD, 20, 50)
    keep_heap()
