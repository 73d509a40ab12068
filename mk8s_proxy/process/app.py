"""The composition root of central: builds every part, joins them, runs until told to stop.

Nothing else constructs its collaborators. `process` runs it; tests call `Central` directly.
"""

import asyncio
import contextlib
import logging
import tempfile
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final

from aiohttp import web
from cryptography import x509

from mk8s_agent.wire import pki, tls
from mk8s_agent.wire.limits import FRONT, BufferBudget
from mk8s_agent.wire.ticks import Ticks
from mk8s_agent.wire.transport import TlsTransport
from mk8s_proxy.api.application import create_application
from mk8s_proxy.api.context import ApiContext
from mk8s_proxy.audit.event import AuditEntry
from mk8s_proxy.audit.journal import Journal
from mk8s_proxy.chain.api_upstream import Management
from mk8s_proxy.chain.handler_chain import HandlerChain
from mk8s_proxy.chain.route import Router
from mk8s_proxy.db import keys as key_store
from mk8s_proxy.db.announcements import Announcements
from mk8s_proxy.db.engine import Database
from mk8s_proxy.identity.access_token import TokenAuthenticator
from mk8s_proxy.identity.ca import load_authorities
from mk8s_proxy.identity.directory import UserDirectory
from mk8s_proxy.identity.server_certificate import ensure_own_certificate, ensure_server_certificate
from mk8s_proxy.identity.signing_keys import SigningKeys, usable_keys
from mk8s_proxy.listener.http1 import ClientHttp1
from mk8s_proxy.listener.http2 import ClientConfig, ClientHttp2
from mk8s_proxy.listener.server import Contexts, Listener, Makers, cannot_listen
from mk8s_proxy.process.admin import create_health
from mk8s_proxy.process.policy_feed import AnnouncedFeed, PolicyFeed
from mk8s_proxy.process.worker import Worker
from mk8s_proxy.settings.model import Settings, inherited_socket, parse_address
from mk8s_proxy.tunnel.agent_records import AgentRecords
from mk8s_proxy.tunnel.control import TunnelControl, TunnelServices
from mk8s_proxy.tunnel.registry import TunnelRegistry
from mk8s_proxy.tunnel.session import TunnelEvents, TunnelSession

log = logging.getLogger(__name__)

DRAIN_SECONDS: Final = 10.0
_SYNC_SECONDS: Final = 1.0
_REFRESH_SECONDS: Final = 3600.0
_PAGE_TOKENS: Final = b"mk8s page tokens of filtered lists"


class CommittedJournal:
    """The journal as the management API writes it: committed together with the chain's rows."""

    def __init__(self, journal: Journal, commit: Callable[[], bool]) -> None:
        self.intent: Callable[[AuditEntry], None] = journal.intent
        self.outcome: Callable[[AuditEntry], None] = journal.outcome
        self.commit = commit


class Central:
    """A running central, or one worker of it: `start`, then `stop`."""

    def __init__(self, settings: Settings, worker: Worker | None = None) -> None:
        self.settings = settings
        self.worker = worker or Worker()
        self.announcements = Announcements(
            self.worker.folder, self.worker.number, self.worker.count
        )
        self.database = Database(settings.database_url)
        self.policies = PolicyFeed(self.database, settings.policy)
        self.tunnels = TunnelRegistry()
        self.keys = SigningKeys()
        self._agents = AgentRecords(self.database)
        self.port = 0
        """The bound port, once started."""
        self._users = UserDirectory()
        self._rechecked = 0
        """The authenticator's stamp when open streams were looked at last."""
        self._buffers = BufferBudget(settings.limits.buffered_bytes)
        self._tasks: list[asyncio.Task[None]] = []
        self._runners: list[web.AppRunner] = []
        self._cleanup = contextlib.ExitStack()

    # -- start

    async def start(self) -> None:
        """Builds and starts everything.

        Raises:
            StoreError, CaError, OSError: what is missing or wrong, in one line.
        """
        settings = self.settings
        loop = asyncio.get_running_loop()
        self.ticks = Ticks(loop.call_soon)
        await self.database.start()
        self.authorities = await load_authorities(self.database)
        await self._load_keys()
        self.authenticator = TokenAuthenticator(
            self.keys, issuer=settings.public_url, valid_epochs=self._users
        )
        await self.policies.start()
        self.journal = Journal(
            settings.journal_path,
            max_bytes=settings.audit.max_bytes,
            keep=settings.audit.keep,
        )
        self._build_chain()
        self.policies.on_change(self._policy_changed)
        self._hear_announcements()
        await self._start_management()
        await self._start_listener()
        await self._start_health()
        self._spawn("clock", self._clock())
        self._spawn("policy feed", self.policies.run())
        self._spawn("journal sync", self._sync_journal())
        self._spawn("renewals", self._renew())

    async def _load_keys(self) -> None:
        records = await key_store.list_keys(self.database)
        life = self.settings.tokens.access_seconds
        self.keys.replace(usable_keys(records, now=time.time(), access_seconds=life))

    def _policy_changed(self, feed: PolicyFeed) -> None:
        self._users.replace(feed.rows.epochs)
        self.tunnels.keep_only(frozenset(feed.rows.clusters))
        self._recheck()

    def _recheck(self) -> None:
        """Asks again of all open streams whether they may go on."""
        self._rechecked = self.authenticator.stamp
        self.chain.long_running.recheck_all()

    def _hear_announcements(self) -> None:
        self.announcements.on("revoked", self.authenticator.revoke)
        self.announcements.on("policy", self.policies.hurry)
        self.announcements.on("hello", self._tell_revoked)
        self.announcements.start()
        self.announcements.tell("hello")

    def _tell_revoked(self) -> None:
        """A worker has just begun: nothing in the database says which tokens were ended."""
        for ended, expires in self.authenticator.revoked.items():
            self.announcements.tell("revoked", ended, expires)

    def _build_chain(self) -> None:
        folder = self._cleanup.enter_context(tempfile.TemporaryDirectory(prefix="mk8s-api-"))
        self._socket = Path(folder) / "api.sock"  # the folder has mode 0700
        self.management = Management(self._socket, self.ticks, self._buffers)
        self.chain = HandlerChain(
            router=Router(self.settings.domain),
            authenticator=self.authenticator,
            policies=self.policies,
            journal=self.journal,
            tunnels=self.tunnels,
            management=self.management.forward,
            ticks=self.ticks,
        )
        self._share_seal()
        self._tunnel_services = self._serve_tunnels()
        self._client_config = ClientConfig(self.chain, self.settings.limits)

    def _share_seal(self) -> None:
        """Page tokens of one replica are good on all others, and after a restart."""
        self.chain.seal.replace(self.keys.derive(_PAGE_TOKENS))

    async def _start_management(self) -> None:
        context = ApiContext(
            settings=self.settings,
            database=self.database,
            keys=self.keys,
            authenticator=self.authenticator,
            policy_feed=AnnouncedFeed(self.policies, self.announcements),
            authorities=self.authorities,
            journal=CommittedJournal(self.journal, self.chain.commit),
            tunnels=self.tunnels,
            announcements=self.announcements,
        )
        runner = await self._run(create_application(context))
        await web.UnixSite(runner, str(self._socket)).start()

    async def _start_health(self) -> None:
        if not self.settings.admin_listen:
            return
        checks: dict[str, Callable[[], bool]] = {
            "journal": lambda: self.journal.healthy,
            "policy": lambda: self.policies.fresh(time.monotonic()),
        }
        host, port = parse_address(self.settings.admin_listen)
        runner = await self._run(create_health(checks))
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            raise OSError(error.errno, cannot_listen(host, port, error)) from error

    async def _run(self, application: web.Application) -> web.AppRunner:
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        self._runners.append(runner)
        return runner

    # -- the listener

    async def _start_listener(self) -> None:
        limits = self.settings.limits
        self.listener = Listener(
            await self._contexts(),
            Makers(self._make_http2, self._make_http1, self._make_tunnel),
            max_connections=limits.connections,
            handshake_seconds=limits.handshake_seconds,
            shared=not self.worker.alone,
        )
        self.port = await self._listen(self.settings.listen)
        if self.settings.tunnel_listen:
            await self._listen(self.settings.tunnel_listen)

    async def _listen(self, address: str) -> int:
        return await self.listener.listen(*parse_address(address), inherited_socket(address))

    async def _contexts(self) -> Contexts:
        public = await ensure_server_certificate(self.database, self.settings)
        own = await ensure_own_certificate(self.database, self.settings)
        agents = self.authorities.agent_ca.certificate_pem
        return Contexts(tls.server_context(*public), tls.tunnel_server_context(*own, agents))

    def _make_http2(self, transport: TlsTransport) -> ClientHttp2:
        return ClientHttp2(
            transport,
            self.ticks,
            FRONT,
            self._buffers,
            config=self._client_config,
            source_ip=transport.peer_address,
        )

    def _make_http1(self, transport: TlsTransport) -> ClientHttp1:
        return ClientHttp1(
            transport,
            self.ticks,
            self._buffers,
            config=self._client_config,
            source_ip=transport.peer_address,
        )

    def _make_tunnel(self, transport: TlsTransport) -> TunnelSession | None:
        """A tunnel: whose it is, the verified certificate says and nothing else."""
        der = transport.peer_certificate()
        try:
            cluster_id = pki.cluster_id_from_certificate(der)
        except pki.PkiError as error:
            log.warning("tunnel.certificate_refused", extra={"reason": str(error)})
            return None
        certificate = x509.load_der_x509_certificate(der)
        session = TunnelSession(
            transport,
            self.ticks,
            self._buffers,
            cluster_id=cluster_id,
            events=TunnelEvents(self.chain.refuse, self._tunnel_draining, self._tunnel_closed),
        )
        session.conversation = TunnelControl(
            session,
            self._tunnel_services,
            f"{certificate.serial_number:x}",
            certificate.not_valid_after_utc,
        )
        return session

    def _serve_tunnels(self) -> TunnelServices:
        return TunnelServices(
            self.database,
            self._agents,
            self.authorities.agent_ca,
            self.settings.agent.certificate_seconds,
            self.tunnels,
            self.chain.tunnel_refused,
            self.worker.instance,
            self.worker.count,
        )

    def _tunnel_draining(self, session: TunnelSession) -> None:
        self.chain.long_running.drain("the agent drains", session)

    def _tunnel_closed(self, session: TunnelSession) -> None:
        self.tunnels.remove(session)
        if session.conversation is not None:
            session.conversation.close()

    # -- background

    def _spawn(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(asyncio.create_task(_guard(name, work), name=name))

    async def _clock(self) -> None:
        last = time.monotonic()
        while True:
            await asyncio.sleep(1.0)
            now = time.monotonic()
            self.listener.second(now - last)
            self._end_and_forget()
            self.chain.long_running.second(time.time())
            last = now

    def _end_and_forget(self) -> None:
        """Once a second: ends the open streams of those who have logged out, and gives up what
        has expired."""
        for ended in self.authenticator.take_revoked():
            self.chain.long_running.recheck(ended)
        if self._rechecked != self.authenticator.stamp:  # keys or users have changed
            self._recheck()
        self.authenticator.second()
        self._client_config.recurring.second(time.time())

    async def _sync_journal(self) -> None:
        while True:
            await asyncio.sleep(_SYNC_SECONDS)
            await asyncio.to_thread(self.journal.sync)

    async def _renew(self) -> None:
        """Signing keys and server certificates, as other replicas or time changed them."""
        while True:
            await asyncio.sleep(_REFRESH_SECONDS)
            await self._load_keys()
            self._share_seal()
            self.listener.contexts = await self._contexts()

    # -- stop

    async def stop(self, grace: float = DRAIN_SECONDS) -> None:
        """Drains: no new requests, open ones may end within `grace` seconds, then all is closed."""
        if hasattr(self, "listener"):
            self.listener.drain()
            self.chain.long_running.drain("central stops")
            await self._wait_for_requests(grace)
            self.listener.abort()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if hasattr(self, "management"):
            self.management.close()
        for runner in self._runners:
            await runner.cleanup()
        self.announcements.close()
        self._agents.close()
        await asyncio.sleep(0)
        if hasattr(self, "journal"):
            self.journal.close()
        await self.database.close()
        self._cleanup.close()

    async def _wait_for_requests(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while self._busy() and time.monotonic() < deadline:  # noqa: ASYNC110  a poll is enough here
            await asyncio.sleep(0.05)

    def _busy(self) -> bool:
        tunnels = set(self.tunnels.all_sessions())
        return any(
            transport.served is not None and transport.served not in tunnels
            for transport in self.listener.transports
        )


async def _guard(name: str, work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except Exception:
        log.exception("task.failed", extra={"task": name})
