"""The composition root of central: builds every part, joins them, runs until told to stop.

Nothing else constructs its collaborators. `process` runs it; tests call `Central` directly.
"""

import asyncio
import contextlib
import logging
import tempfile
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Final

from aiohttp import web

from mk8s_agent.wire.background import Background
from mk8s_agent.wire.bulkhead import Bulkhead
from mk8s_agent.wire.heap import HeapWatch
from mk8s_agent.wire.limits import BufferBudget
from mk8s_agent.wire.ticks import Ticks
from mk8s_agent.wire.transport import TlsTransport
from mk8s_proxy.api.application import HEAD_LIMITS, create_application
from mk8s_proxy.api.audit_rows import Journal as ApiJournal
from mk8s_proxy.api.context import ApiContext
from mk8s_proxy.chain.addresses import Router
from mk8s_proxy.chain.anonymous import AnonymousVersion
from mk8s_proxy.chain.api_upstream import Management
from mk8s_proxy.chain.departures import Shares
from mk8s_proxy.chain.handler_chain import HandlerChain
from mk8s_proxy.db.announcements import Announcements
from mk8s_proxy.db.engine import Database, WaysIn
from mk8s_proxy.identity.access_token import TokenAuthenticator
from mk8s_proxy.identity.directory import UserDirectory
from mk8s_proxy.identity.key_rotation import rotation_of
from mk8s_proxy.identity.signing_keys import SigningKeys
from mk8s_proxy.listener.connection_limits import ConnectionLimits
from mk8s_proxy.listener.http1 import ClientHttp1
from mk8s_proxy.listener.http2 import ClientHttp2
from mk8s_proxy.listener.server import Listener, Makers
from mk8s_proxy.process.admin import create_health, listen
from mk8s_proxy.process.audit_shipping import audit_shipping
from mk8s_proxy.process.authority_feed import AuthorityFeed
from mk8s_proxy.process.clients import client_config, front_limits
from mk8s_proxy.process.commands import command_runner, start_commands
from mk8s_proxy.process.journals import key_retired, open_journals
from mk8s_proxy.process.key_feed import KeyFeed
from mk8s_proxy.process.login_feed import LoginFeed
from mk8s_proxy.process.metrics_files import metrics_of
from mk8s_proxy.process.policy_feed import AnnouncedFeed, PolicyFeed
from mk8s_proxy.process.vault import makes_own_key, open_secrets
from mk8s_proxy.process.worker import Worker
from mk8s_proxy.settings.model import Settings, inherited_socket, parse_address
from mk8s_proxy.settings.networks import parse_networks
from mk8s_proxy.tunnel.accept import accept_tunnel
from mk8s_proxy.tunnel.agent_records import AgentRecords
from mk8s_proxy.tunnel.control import TunnelServices
from mk8s_proxy.tunnel.registry import TunnelRegistry
from mk8s_proxy.tunnel.session import TunnelEvents, TunnelSession

log = logging.getLogger(__name__)

DRAIN_SECONDS: Final = 10.0
_SYNC_SECONDS: Final = 1.0
_KEY_SECONDS: Final = 5.0
_SECOND: Final = Bulkhead("central.second")
_PAGE_TOKENS: Final = b"mk8s page tokens of filtered lists"


class Central:
    """A running central, or one worker of it: `start`, then `stop`."""

    def __init__(self, settings: Settings, worker: Worker | None = None) -> None:
        self.settings = settings
        self.worker = worker or Worker()
        it = self.worker
        self.announcements = Announcements(it.folder, it.number, it.count)
        self.background = Background()
        self.database = Database(settings.database_url)
        people = frozenset(issuer.name for issuer in settings.login.issuers)
        self.database.ways_in = WaysIn(passwords=settings.login.passwords, issuers=people)
        self.policies = PolicyFeed(self.database, settings.policy, settings.login)
        self.tunnels = TunnelRegistry()
        self.keys = SigningKeys()
        self._key_feed = KeyFeed(
            self.database, self.keys, rotation_of(settings), self._share_seal,
            retired=self._note_retired,
        )  # fmt: skip
        self._authority_feed = AuthorityFeed(self.database, settings, self.tunnels)
        self._agents = AgentRecords(self.database, self.background)
        self.port = 0
        """The bound port, once started."""
        self._users, self._rechecked = UserDirectory(), 0
        """The authenticator's stamp when open streams were looked at last."""
        self.buffers = BufferBudget(settings.limits.buffered_bytes)
        self._heap = HeapWatch()
        self._front = front_limits(settings.limits)
        self._runners: list[web.AppRunner] = []
        self._checks = self._readiness()
        self._cleanup = contextlib.ExitStack()

    def _readiness(self) -> dict[str, Callable[[], bool]]:
        return {
            "database": lambda: self.database.intact,
            "journal": lambda: self.journal.healthy,
            "policy": lambda: self.policies.fresh(time.monotonic()),
        }

    # -- start

    async def start(self) -> None:
        """Builds and starts everything.

        Raises:
            StoreError, CaError, OSError: what is missing or wrong, in one line.
        """
        settings = self.settings
        loop = asyncio.get_running_loop()
        self.ticks = Ticks(loop.call_soon, loop.call_later)
        await self.background.open()
        await self.database.start()
        await open_secrets(settings, self.database, make=makes_own_key(settings))
        self.authorities = await self._authority_feed.load()
        self.authenticator = TokenAuthenticator(
            self.keys, issuer=settings.public_url, valid_epochs=self._users
        )
        jobs = [issuer.name for issuer in settings.login.federation]
        self._logins = LoginFeed(self.database, self.authenticator, self._users, issuers=jobs)
        self._logins.follow(self.policies)
        await self.policies.start()
        self._open_journals()
        self._build_chain()
        self.authenticator.when_revoked = lambda: loop.call_soon(self._end_revoked)
        self.metrics = metrics_of(self)
        self.policies.on_change(self._policy_changed)
        self._hear_announcements()
        await self._start_management()
        await self._start_listener()
        await self._start_health()
        self._start_tasks()

    def _start_tasks(self) -> None:
        self._counted = time.monotonic()
        self.background.every("clock", 1.0, self._count_second)
        self.background.forever("policy feed", self.policies.run())
        self.background.every("signing keys", _KEY_SECONDS, self._key_feed.turn)
        sync = partial(asyncio.to_thread, self.journal.sync)
        self.background.every("journal sync", _SYNC_SECONDS, sync)
        self.shipping.start(self.background)
        self._logins.start(self.background)
        self._authority_feed.follow(self.listener, self.background)

    def _open_journals(self) -> None:
        loop = asyncio.get_running_loop()
        self.journal, self.strangers = journals = open_journals(self.settings)
        self._cleanup.callback(self.strangers.close)
        self.shipping = audit_shipping(self.settings, self.worker, self.database, *journals)
        self.journal.when_late(lambda: loop.call_soon_threadsafe(self.ticks.schedule))

    def _policy_changed(self, feed: PolicyFeed) -> None:
        self._key_feed.take(feed.rows.keys)
        self._authority_feed.take(feed.rows.authorities)
        self.tunnels.follow(feed.rows.cluster_names, feed.rows.revoked)
        self.journal.counts.follow(feed.rows.cluster_names.values())
        self._recheck()

    def _recheck(self) -> None:
        """Asks again of all open streams whether they may go on."""
        self._rechecked = self.authenticator.stamp
        if hasattr(self, "chain"):  # else nothing is open yet
            self.chain.long_running.recheck_all()

    def _hear_announcements(self) -> None:
        self.announcements.on("revoked", self.authenticator.revoke)
        self.announcements.on("policy", self.policies.hurry)
        self.announcements.start()

    def _build_chain(self) -> None:
        folder = self._cleanup.enter_context(tempfile.TemporaryDirectory(prefix="mk8s-api-"))
        self._socket = Path(folder) / "api.sock"  # the folder has mode 0700
        self.management = Management(self._socket, self.ticks, self.buffers, self.background)
        self.chain = HandlerChain(
            router=Router(self.settings.domain),
            authenticator=self.authenticator,
            policies=self.policies,
            journal=self.journal,
            tunnels=self.tunnels,
            management=self.management.forward,
            ticks=self.ticks,
        )
        self.chain.health = self._ready if self.settings.public_health == "on" else None
        if self.settings.anonymous_version == "on":
            self.chain.anonymous = AnonymousVersion()
        limits = self.settings.limits
        shares = Shares(limits.streams_per_identity, limits.buffered_per_identity)
        self.chain.departures.shares = shares
        self.policies.on_change(lambda feed: shares.follow(feed.current))
        self._tunnel_services = self._serve_tunnels()
        self._client_config = client_config(self.chain, self.settings)

    def _share_seal(self, now: float) -> None:
        """Page tokens of one replica are good on all others, and after a restart."""
        self.chain.seal.replace(self.keys.derive(_PAGE_TOKENS, now))

    def _note_retired(self, kid: str) -> None:
        self.journal.outcome(key_retired(kid))
        self.chain.commit()

    async def _start_management(self) -> None:
        self.commands = command_runner(self.settings, self.authorities)
        context = ApiContext(
            settings=self.settings,
            database=self.database,
            keys=self.keys,
            authenticator=self.authenticator,
            policy_feed=AnnouncedFeed(self.policies, self.announcements),
            authorities=self.authorities,
            journal=ApiJournal(self.journal, self.chain.commit),
            tunnels=self.tunnels,
            announcements=self.announcements,
            commands=self.commands,
        )
        runner = await self._run(create_application(context))
        await web.UnixSite(runner, str(self._socket)).start()

    def _ready(self) -> bool:
        return all(check() for check in self._checks.values()) and not self.background.unready()

    async def _start_health(self) -> None:
        if not self.settings.admin_listen:
            return
        told = self.shipping.told
        health = create_health(self._checks, self.background.unready, told, self.metrics.all)
        await listen(await self._run(health), self.settings.admin_listen)

    async def _run(self, application: web.Application) -> web.AppRunner:
        runner = web.AppRunner(application, access_log=None, **HEAD_LIMITS)
        await runner.setup()
        self._runners.append(runner)
        return runner

    # -- the listener

    async def _start_listener(self) -> None:
        limits = self.settings.limits
        self.listener = Listener(
            await self._authority_feed.contexts(),
            Makers(self._make_http2, self._make_http1, self._make_tunnel),
            limits=ConnectionLimits(limits.connections, limits.connections_per_address),
            handshake_seconds=limits.handshake_seconds,
            shared=not self.worker.alone,
            balancers=parse_networks(self.settings.listen_proxy_protocol_from),
            proxies=parse_networks(self.settings.trusted_proxies),
        )
        self.port = await self._listen(self.settings.listen)
        if self.settings.tunnel_listen:
            await self._listen(self.settings.tunnel_listen)
        await start_commands(self.commands, self.listener, self.background)

    async def _listen(self, address: str) -> int:
        return await self.listener.listen(*parse_address(address), inherited_socket(address))

    def _make_http2(self, transport: TlsTransport) -> ClientHttp2:
        return ClientHttp2(
            transport,
            self.ticks,
            self._front,
            self.buffers,
            config=self._client_config,
            source_ip=transport.peer_address,
        )

    def _make_http1(self, transport: TlsTransport) -> ClientHttp1:
        return ClientHttp1(
            transport,
            self.ticks,
            self.buffers,
            config=self._client_config,
            source_ip=transport.peer_address,
        )

    def _make_tunnel(self, transport: TlsTransport) -> TunnelSession | None:
        events = TunnelEvents(self.chain.refuse, self._tunnel_draining, self._tunnel_closed)
        return accept_tunnel(transport, self.ticks, self.buffers, self._tunnel_services, events)

    def _serve_tunnels(self) -> TunnelServices:
        return TunnelServices(
            self.background,
            self.database,
            self._agents,
            self.authorities,
            self.settings.agent.certificate_seconds,
            self.tunnels,
            self.chain.tunnel_refused,
            self.worker.instance,
            self.worker.count,
            self.policies.refresh,
            *self.policies.facts.learners,
        )

    def _tunnel_draining(self, session: TunnelSession) -> None:
        self.chain.long_running.drain("the agent drains", session)

    def _tunnel_closed(self, session: TunnelSession) -> None:
        self.tunnels.remove(session)
        if session.conversation is not None:
            session.conversation.close()

    # -- background

    async def _count_second(self) -> None:
        """Deadlines. Each of the steps is due whatever becomes of the others."""
        last, self._counted = self._counted, time.monotonic()
        elapsed = self._counted - last
        steps: tuple[Callable[[], object], ...] = (
            self.ticks.schedule,  # requests that wait for a slow disk have a deadline
            lambda: self.listener.second(elapsed),
            self._end_and_forget,
            lambda: self.chain.long_running.second(time.time()),
            self.metrics.second,
        )
        _SECOND.each(steps, lambda step: step())
        await asyncio.to_thread(self._heap.second, self.buffers.used)

    def _end_revoked(self) -> None:
        """Ends streams of those who have logged out, as soon as that is known here."""
        for ended in self.authenticator.take_revoked():
            self.chain.long_running.recheck(ended)

    def _end_and_forget(self) -> None:
        """Once a second: ends streams of what has expired or changed by itself, and forgets it."""
        self._end_revoked()
        if self._rechecked != self.authenticator.stamp:  # keys or users have changed
            self._recheck()
        self.authenticator.second()
        self._client_config.recurring.second(time.time())

    def reopen_journal(self) -> None:
        """Looks at once whether the journal's file was moved away; for SIGHUP."""
        asyncio.get_running_loop().run_in_executor(None, self.journal.sync)

    # -- stop

    async def stop(self, grace: float = DRAIN_SECONDS) -> None:
        """Drains: no new requests, open ones may end within `grace` seconds, then all is closed."""
        self.background.ask_to_end()
        for step in (
            lambda: self._drain(grace),
            self.background.close,
            self._close_servers,
            self._close_journal,
            self.database.close,
        ):
            await _close(step)
        self._cleanup.close()

    async def _drain(self, grace: float) -> None:
        if hasattr(self, "listener"):
            self.listener.drain()
            self.chain.long_running.drain("central stops")
            await self._wait_for_requests(grace)
            await self.shipping.hold()
            self.listener.abort()

    async def _close_servers(self) -> None:
        if hasattr(self, "management"):
            self.management.close()
        for runner in self._runners:
            await _close(runner.cleanup)
        self.announcements.close()

    async def _close_journal(self) -> None:
        await asyncio.sleep(0)
        if hasattr(self, "journal"):
            self.journal.close()
            await self.shipping.flush()

    async def _wait_for_requests(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while self._busy() and time.monotonic() < deadline:  # noqa: ASYNC110  a poll is enough here
            await asyncio.sleep(0.05)

    def _busy(self) -> bool:
        idle = {None, *self.tunnels.all_sessions()}
        return any(transport.served not in idle for transport in self.listener.transports)


async def _close(step: Callable[[], Awaitable[object]]) -> None:
    """One step of the end; the next ones follow whatever becomes of it: the journal above all."""
    try:
        await step()
    except Exception:
        log.exception("central.stop_failed")
