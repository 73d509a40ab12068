"""The agent as a program: settings in, an exit code out. Run by ``mk8s_agent.command``.

The order is: settings, credentials for the API server, identity (kept or joined), tunnels. Each of
the first three can be wrong in ways that a person has to mend, and then the agent ends with one
line that says how: exit code 2 for wrong usage, 1 for the rest. Once tunnels are dialled, what
fails is logged and tried again; only when a task that keeps the agent going has ended for good, it
drains and ends with exit code 1, so that Kubernetes starts it again.
"""

import asyncio
import importlib
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from mk8s_agent.agent import Agent, DataPlane
from mk8s_agent.credentials.sources import (
    SERVICE_ACCOUNT_DIRECTORY,
    ApiServerCredentials,
    CredentialsError,
    load_credentials,
)
from mk8s_agent.health import HealthError
from mk8s_agent.identity.join import JoinError, JoinRequest, join
from mk8s_agent.identity.secret_store import SecretStore
from mk8s_agent.identity.store import (
    AgentIdentity,
    FileStore,
    IdentityError,
    IdentityStore,
    check_clock,
    check_cluster,
    check_expiry,
)
from mk8s_agent.settings import Settings
from mk8s_agent.tunnel.data_plane import TunnelPlane
from mk8s_agent.wire.background import Background
from mk8s_agent.wire.egress_proxy import EgressProxies
from mk8s_agent.wire.limits import BufferBudget
from mk8s_agent.wire.log import configure

USER_ERRORS: Final = (CredentialsError, HealthError, IdentityError, JoinError)

log = logging.getLogger(__name__)


async def obtain_identity(settings: Settings, store: IdentityStore) -> AgentIdentity:
    """Give the identity that is kept, or join for a new one and keep it.

    Raises:
        IdentityError: what is kept cannot be used, or nothing can be kept.
        JoinError: there is none, and central gives none.
    """
    identity = await store.load()
    if identity is not None:
        check_cluster(identity, settings.cluster_name, store.location)
        check_clock(identity, time.time())
        if time.time() < identity.not_after or not settings.join_token:
            check_expiry(identity, time.time())
            return identity
        log.warning("identity.expired", extra={"advice": "joining again with the join token"})
    if not settings.join_token:
        raise IdentityError(
            f"there is no identity in {store.location} and no join token; set AGENT_TOKEN to "
            f"what this prints: mk8s admin clusters join-token {settings.cluster_name}"
        )
    await store.check_writable()
    identity = await join(
        _join_request(settings), lambda line: log.warning("join.waiting", extra={"reason": line})
    )
    await store.save(identity)
    log.info("agent.joined", extra={"cluster": settings.cluster_name})
    return identity


def _join_request(settings: Settings) -> JoinRequest:
    authority = b""
    if settings.ca_file:
        try:
            authority = Path(settings.ca_file).expanduser().read_bytes()
        except OSError as error:
            raise JoinError(
                f"cannot read --ca-file {settings.ca_file}: {error.strerror}"
            ) from error
    return JoinRequest(
        central_url=settings.central_url,
        cluster_name=settings.cluster_name,
        join_token=settings.join_token,
        ca_pin=settings.ca_pin,
        authority_pem=authority,
        seconds=settings.join_timeout,
        proxy=settings.proxies.to(settings.central.host, settings.central.port),
    )


def _make_store(settings: Settings, credentials: ApiServerCredentials) -> IdentityStore:
    if settings.data_dir is not None:
        return FileStore(settings.data_dir)
    try:
        namespace = (SERVICE_ACCOUNT_DIRECTORY / "namespace").read_text("ascii").strip()
    except (OSError, ValueError) as error:
        raise IdentityError("cannot tell the pod's namespace; give --data-dir") from error
    return SecretStore(credentials, namespace, settings.identity_secret)


MakeDataPlane = Callable[[ApiServerCredentials, Background, BufferBudget, EgressProxies], DataPlane]


async def run(
    settings: Settings,
    make_data_plane: MakeDataPlane = TunnelPlane,
) -> int:
    """Run the agent until SIGTERM or SIGINT; gives the exit code.

    It is 1 when the agent ended because an endless task did.

    Raises:
        CredentialsError, HealthError, IdentityError, JoinError: a person has to mend something.
    """
    credentials = await load_credentials(
        kubeconfig=settings.kubeconfig,
        context=settings.context,
        environment=os.environ,
        home=Path.home(),
        proxies=settings.proxies,
    )
    told = {"apiserver": credentials.host, "cluster": settings.cluster_name}
    log.info("agent.starting", extra=told)
    store = _make_store(settings, credentials)
    identity = await obtain_identity(settings, store)
    async with Background() as background:
        buffers = BufferBudget(settings.buffered_bytes)
        plane = make_data_plane(credentials, background, buffers, settings.proxies)
        agent = Agent(settings, credentials, store, identity, plane, background)
        return 1 if await _until_stopped(agent) else 0


async def _until_stopped(agent: Agent) -> str:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, agent.stop)
    try:
        return await agent.serve()
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Give uvloop's where it is installed, None for asyncio's own."""
    try:
        uvloop = importlib.import_module("uvloop")
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def start(settings: Settings) -> int:
    """Run the agent until it is stopped; gives the exit code. What a person can mend is printed."""
    configure(settings.log.level, settings.log.format)
    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            return runner.run(run(settings))
    except USER_ERRORS as error:
        print(f"mk8s-agent: {error}", file=sys.stderr)
        return 1
