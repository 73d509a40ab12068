"""The library kubernetes_asyncio (PyPI) as a driver; arguments: kubeconfig, namespace.

It is started by `driver_client.py`. Its HTTP and WebSocket stack is aiohttp's.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import kubernetes_asyncio
import kubernetes_asyncio.client
import kubernetes_asyncio.config
import kubernetes_asyncio.dynamic
import kubernetes_asyncio.leaderelection.electionconfig
import kubernetes_asyncio.leaderelection.leaderelection
import kubernetes_asyncio.leaderelection.resourcelock.leaselock
import kubernetes_asyncio.stream
import kubernetes_asyncio.watch
import yaml
from kubernetes_asyncio.client.exceptions import ApiException

from tests.conformance import manifests
from tests.conformance.drivers.protocol import Notes, restarted, serve

# Its types are stricter than its use: bodies are plain dictionaries here.
client: Any = kubernetes_asyncio.client
config: Any = kubernetes_asyncio.config
dynamic: Any = kubernetes_asyncio.dynamic
leaderelection: Any = kubernetes_asyncio.leaderelection
stream: Any = kubernetes_asyncio.stream
watch: Any = kubernetes_asyncio.watch

KUBECONFIG, NAMESPACE = sys.argv[1:3]
OPERATIONS: dict[str, Callable[[Any], None]] = {}
LOOP = asyncio.new_event_loop()
SECONDS = 60
Operation = Callable[["Noted"], Awaitable[None]]
_made: list[Any] = []


class Noted(Notes):
    """With this library's errors and objects."""

    @staticmethod
    def told(error: Exception) -> tuple[int, str]:
        assert isinstance(error, ApiException)
        return error.status or 0, str(error.body or error.reason)

    def note(self, step: str, output: object, code: int = 0, errors: str = "") -> None:
        plain = _made[0].sanitize_for_serialization(output) if _made else output
        super().note(step, plain, code, errors)

    async def wait(self, step: str, answer: Awaitable[Any]) -> Any:
        """As `call`, with an answer that is still to come."""
        try:
            found = await answer
        except ApiException as error:
            status, body = self.told(error)
            self.note(step, "", status or -1, body)
            return None
        self.note(step, found)
        return found


def operation(key: str) -> Callable[[Operation], Operation]:
    """Register the operation of a row."""

    def register(function: Operation) -> Operation:
        async def bounded(noted: Noted) -> None:
            await asyncio.wait_for(function(noted), SECONDS)

        OPERATIONS[key] = lambda noted: LOOP.run_until_complete(bounded(noted))
        return function

    return register


async def api() -> Any:
    """One client for the whole session, as programs have it."""
    if not _made:
        _made.append(client.ApiClient(await configuration()))
    return _made[0]


async def configuration() -> Any:
    """The kubeconfig's, with the one field that the library leaves unread: its proxy."""
    made = client.Configuration()
    await config.load_kube_config(KUBECONFIG, client_configuration=made)
    document = yaml.safe_load(Path(KUBECONFIG).read_text())
    made.proxy = document["clusters"][0]["cluster"].get("proxy-url")
    return made


async def core() -> Any:
    """The typed core API."""
    return client.CoreV1Api(await api())


@operation("get-json")
async def get_json(n: Noted) -> None:
    v1 = await core()
    await n.wait("read pod", v1.read_namespaced_pod("quiet", NAMESPACE))
    await n.wait("list pods", v1.list_namespaced_pod(NAMESPACE))
    await n.wait("node", v1.read_node("lab-node"))


@operation("selectors")
async def selectors(n: Noted) -> None:
    listing = (await core()).list_namespaced_pod
    await n.wait("labels", listing(NAMESPACE, label_selector="app in (web)"))
    await n.wait("fields", listing(NAMESPACE, field_selector="metadata.name=quiet"))
    await n.wait("nonsense", listing(NAMESPACE, field_selector="nonsense=1"))


@operation("watch")
async def watching(n: Noted) -> None:
    v1 = await core()
    named = {"label_selector": "app=seen"}
    first = await v1.list_namespaced_config_map(NAMESPACE, **named)
    body = manifests.config_map("seen", {"sky": "blue"}, app="seen")
    await v1.create_namespaced_config_map(NAMESPACE, body)
    await v1.patch_namespaced_config_map("seen", NAMESPACE, {"data": {"sky": "grey"}})
    await v1.delete_namespaced_config_map("seen", NAMESPACE)
    seen = []
    async with watch.Watch().stream(
        v1.list_namespaced_config_map, NAMESPACE,
        resource_version=first.metadata.resource_version, timeout_seconds=20, **named,
    ) as events:  # fmt: skip
        async for event in events:
            seen.append([event["type"], event["object"].metadata.name, event["object"].data])
            if event["type"] == "DELETED":
                break
    n.note("events", seen)


class Followed:
    """What a list and watches without end know, begun again whenever they end."""

    def __init__(self) -> None:
        self.known: dict[str, Any] = {}
        self.gone: set[str] = set()
        self.in_step = asyncio.Event()
        self.last = asyncio.Event()

    async def follow(self, listing: Callable[..., Any]) -> None:
        """Never returns."""
        while True:
            try:
                await self._once(listing)
            except (ApiException, aiohttp.ClientError, OSError):
                await asyncio.sleep(0.5)

    async def _once(self, listing: Callable[..., Any]) -> None:
        named = {"label_selector": "app=lasting"}
        first = await listing(NAMESPACE, **named)
        now = {found.metadata.name: found.data for found in first.items}
        self.gone |= self.known.keys() - now.keys()
        self._learn(now)
        version = first.metadata.resource_version
        async with watch.Watch().stream(
            listing, NAMESPACE, resource_version=version, **named
        ) as events:
            async for event in events:
                name = event["object"].metadata.name
                if event["type"] == "DELETED":
                    self.gone.add(name)
                    self.known.pop(name, None)
                else:
                    self._learn({**self.known, name: event["object"].data})

    def _learn(self, now: dict[str, Any]) -> None:
        self.known = now
        self.in_step.set()
        if "last" in now:
            self.last.set()


@operation("informer-restart")
async def informer_restart(n: Noted) -> None:
    followed = Followed()
    following = asyncio.create_task(followed.follow((await core()).list_namespaced_config_map))
    await followed.in_step.wait()
    await asyncio.to_thread(restarted)
    await followed.last.wait()
    following.cancel()
    n.note("known", followed.known)
    n.note("told to be gone", sorted(followed.gone))


@operation("create")
async def create(n: Noted) -> None:
    v1 = await core()
    body = manifests.config_map("made", {"sky": "blue"})
    await n.wait("create", v1.create_namespaced_config_map(NAMESPACE, body))
    await n.wait("read", v1.read_namespaced_config_map("made", NAMESPACE))
    await n.wait("delete", v1.delete_namespaced_config_map("made", NAMESPACE))


@operation("apply-server")
async def apply_server(n: Noted) -> None:
    api_client = await api()
    async with dynamic.DynamicClient(api_client) as made:
        resource = await made.resources.get(api_version="v1", kind="ConfigMap")

        async def apply(sky: str, manager: str, force: bool | None = None) -> Any:
            body = manifests.config_map("applied", {"sky": sky})
            answer = await resource.server_side_apply(
                name="applied", namespace=NAMESPACE, body=body, field_manager=manager,
                force_conflicts=force,
            )  # fmt: skip
            return answer.to_dict()

        await n.wait("apply", apply("blue", "one"))
        await n.wait("conflict", apply("grey", "other"))
        await n.wait("force", apply("grey", "other", True))
    await (await core()).delete_namespaced_config_map("applied", NAMESPACE)


@operation("logs")
async def logs(n: Noted) -> None:
    v1 = await core()
    await n.wait("all", v1.read_namespaced_pod_log("quiet", NAMESPACE))
    await n.wait("tail", v1.read_namespaced_pod_log("quiet", NAMESPACE, tail_lines=2))
    await n.wait("absent", v1.read_namespaced_pod_log("quiet", NAMESPACE, container="absent"))


@operation("logs-follow")
async def logs_follow(n: Noted) -> None:
    lines: list[str] = []
    async with watch.Watch().stream(
        (await core()).read_namespaced_pod_log, "web", NAMESPACE, follow=True
    ) as followed:
        async for line in followed:
            lines.append(line)
            if len(lines) == 10:
                break
    n.note("ten lines", lines)


async def execute(n: Noted, step: str, *command: str, typed: str = "") -> None:
    """Run a command in the pod `web`."""
    async with stream.WsApiClient(await configuration()) as ws:
        session = await client.CoreV1Api(ws).connect_get_namespaced_pod_exec(
            "web", NAMESPACE, command=list(command), stdin=bool(typed), stdout=True, stderr=True,
            tty=False, _preload_content=False,
        )  # fmt: skip
        channels: dict[int, bytes] = {}
        async with session as socket:
            if typed:
                await socket.send_bytes(b"\0" + typed.encode())
            async for message in socket:
                at = message.data[0]
                channels[at] = channels.get(at, b"") + message.data[1:]
    code = stream.WsApiClient.parse_error_data(channels.get(3, b"{}"))
    n.note(step, channels.get(1, b"").decode(), code, channels.get(2, b"").decode())


@operation("exec")
async def executing(n: Noted) -> None:
    await execute(n, "echo", "echo", "hello")
    await execute(n, "exit code", "sh", "-c", "echo broken >&2; exit 7")


@operation("exec-stdin")
async def exec_stdin(n: Noted) -> None:
    await execute(n, "head", "head", "-n", "2", typed="one\ntwo\n")


async def lead(name: str, told: list[str], leads: asyncio.Event) -> None:
    """One candidate, until it is cancelled."""
    lock = leaderelection.resourcelock.leaselock.LeaseLock("chair", NAMESPACE, name, await api())

    async def started() -> None:
        told.append(f"{name} leads")
        leads.set()

    async def stopped() -> None:
        told.append(f"{name} stops")

    made = leaderelection.electionconfig.Config(
        lock, lease_duration=4, renew_deadline=3, retry_period=1,
        onstarted_leading=started, onstopped_leading=stopped,
    )  # fmt: skip
    await leaderelection.leaderelection.LeaderElection(made).run()


@operation("leader-election")
async def leader_election(n: Noted) -> None:
    told: list[str] = []
    leads = [asyncio.Event(), asyncio.Event()]
    first = asyncio.create_task(lead("one", told, leads[0]))
    await leads[0].wait()
    second = asyncio.create_task(lead("two", told, leads[1]))
    leases = client.CoordinationV1Api(await api())
    renewed = (await leases.read_namespaced_lease("chair", NAMESPACE)).spec.renew_time
    for _ in range(100):  # some 20 s: a lease ends after 4
        if (await leases.read_namespaced_lease("chair", NAMESPACE)).spec.renew_time != renewed:
            break
        await asyncio.sleep(0.2)
    else:
        raise RuntimeError("the lease is not renewed")
    first.cancel()
    await leads[1].wait()
    n.note("told", told)
    spec = (await leases.read_namespaced_lease("chair", NAMESPACE)).spec
    n.note("lease", [spec.holder_identity, spec.lease_duration_seconds])
    second.cancel()
    await leases.delete_namespaced_lease("chair", NAMESPACE)


@operation("api-resources")
async def api_resources(n: Noted) -> None:
    api_client = await api()
    await n.wait("core", (await core()).get_api_resources())
    await n.wait("groups", client.ApisApi(api_client).get_api_versions())
    await n.wait("version", client.VersionApi(api_client).get_code())


@operation("error-404")
async def error_404(n: Noted) -> None:
    v1 = await core()
    await n.wait("pod", v1.read_namespaced_pod("absent", NAMESPACE))
    body = manifests.config_map("any", {})
    await n.wait("namespace", v1.create_namespaced_config_map("absent-namespace", body))


@operation("error-409")
async def error_409(n: Noted) -> None:
    v1 = await core()
    body = manifests.config_map("once", {})
    await v1.create_namespaced_config_map(NAMESPACE, body)
    await n.wait("again", v1.create_namespaced_config_map(NAMESPACE, body))
    await v1.delete_namespaced_config_map("once", NAMESPACE)


async def small_set(n: Noted) -> None:
    """What shows that an address and a credential work for every kind of request."""
    v1 = await core()
    await n.wait("list", v1.list_namespaced_pod(NAMESPACE, label_selector="app=quiet"))
    await watching(n)
    await execute(n, "exec", "echo", "hello")
    await rest_of_small_set(n)


@operation("by-host")
async def by_host(n: Noted) -> None:
    """The small set without exec: the library's WebSockets know no proxy, which the host needs."""
    await n.wait("list", (await core()).list_namespaced_pod(NAMESPACE))
    await watching(n)
    await rest_of_small_set(n)


async def rest_of_small_set(n: Noted) -> None:
    v1 = await core()
    await n.wait("logs", v1.read_namespaced_pod_log("quiet", NAMESPACE, limit_bytes=14))
    await n.wait("absent", v1.read_namespaced_pod("absent", NAMESPACE))


for way in ("by-path", "by-token", "static-token"):
    operation(way)(small_set)

if __name__ == "__main__":
    serve(
        f"kubernetes_asyncio {kubernetes_asyncio.__version__}",
        OPERATIONS,
        lambda: Noted(ApiException),
    )
