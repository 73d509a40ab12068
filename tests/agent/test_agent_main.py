"""The whole agent but its data plane: start, join, tunnels, signals, and what each mistake says."""

import asyncio
import gc
import importlib.metadata
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import trustme
import yaml
from click.testing import CliRunner

from mk8s_agent import agent as agent_module
from mk8s_agent.agent import Agent, MakeControl
from mk8s_agent.command import command
from mk8s_agent.credentials.sources import (
    ApiServerCredentials,
)
from mk8s_agent.identity.store import AgentIdentity, FileStore, IdentityError
from mk8s_agent.main import loop_factory, obtain_identity, run
from mk8s_agent.settings import Address, Settings, load_settings
from mk8s_agent.tunnel.control_session import ControlEvents
from mk8s_agent.version import agent_version
from mk8s_agent.wire import control
from mk8s_agent.wire.background import Background
from mk8s_agent.wire.egress_proxy import EgressProxies
from mk8s_agent.wire.limits import MIB, BufferBudget
from mk8s_agent.wire.metrics import Snapshot
from tests.agent.api_server_for_tests import ApiServerForTests
from tests.agent.central_for_tests import TOKEN, Central
from tests.agent.pki_for_tests import Issuer
from tests.support.logged import logged
from tests.support.processes import own_port

MANIFEST = Path(__file__).parents[2] / "deploy" / "kubernetes" / "agent.yaml"


@pytest.fixture(scope="module")
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture(autouse=True)
def collector() -> Iterator[None]:
    """The agent tunes the collector of its process; this process is not an agent's."""
    before = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*before)


class Handle:
    """An open tunnel whose control stream the test holds."""

    instance = ""
    instances = 0

    def __init__(self, make_control: MakeControl, identity: AgentIdentity) -> None:
        loop = asyncio.get_running_loop()
        self.closed: asyncio.Future[str] = loop.create_future()
        self.draining: asyncio.Future[None] = loop.create_future()
        self.identity = identity
        self.sent: list[control.Message] = []
        events = ControlEvents(lambda: None, lambda: None, self.end)
        self.session = make_control(self.sent.append, events, lambda: 0)
        self.session.start()
        self.session.receive(control.Registered("t", 10.0))

    def drain(self) -> None:
        self.end("drained")

    def close(self) -> None:
        self.end("cut")

    def end(self, reason: str) -> None:
        if not self.closed.done():
            self.session.close(reason)
            self.closed.set_result(reason)


class Plane:
    """A data plane without data."""

    def __init__(
        self, credentials: ApiServerCredentials, background: Background | None = None
    ) -> None:
        self.background = background
        self.credentials = credentials
        self.opened: asyncio.Queue[Handle] = asyncio.Queue()
        self.central: Address | None = None
        self.closed = False

    async def open_tunnel(
        self, *, central: Address, identity: AgentIdentity, make_control: MakeControl
    ) -> Handle:
        self.central = central
        handle = Handle(make_control, identity)
        self.opened.put_nowait(handle)
        return handle

    def metrics(self) -> Snapshot:
        return {"mk8s_agent_tunnels": {(): self.opened.qsize()}}

    def close(self) -> None:
        self.closed = True


class World:
    """A central, an API server, and what an agent of both is started with."""

    def __init__(self, folder: Path, issuer: Issuer) -> None:
        self.folder = folder
        self.issuer = issuer
        self.central = Central(trustme.CA(), issuer)
        self.api_server = ApiServerForTests()
        self.planes: list[Plane] = []
        self.started = asyncio.Event()

    def settings(self, **options: Any) -> Settings:
        given = {
            "central_url": self.central.url,
            "cluster_name": "prod",
            "join_token": TOKEN,
            "ca_pin": self.central.pin,
            "kubeconfig": str(self.kubeconfig()),
            "data_dir": str(self.folder / "data"),
            "tunnels": 1,
        }
        return load_settings(given | options, {}, home=self.folder, in_pod=False)

    def kubeconfig(self) -> Path:
        path = self.folder / "kubeconfig"
        ca_file = self.folder / "ca.pem"
        ca_file.write_bytes(self.api_server.authority.cert_pem.bytes())
        cluster = {
            "server": f"https://127.0.0.1:{self.api_server.port}",
            "certificate-authority": str(ca_file),
            "tls-server-name": "kubernetes.default",
        }
        document = {
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": cluster}],
            "users": [{"name": "u", "user": {"token": self.api_server.token}}],
        }
        path.write_text(yaml.safe_dump(document))
        return path

    def make_plane(
        self,
        credentials: ApiServerCredentials,
        background: Background,
        buffers: BufferBudget,
        _: EgressProxies,
    ) -> Plane:
        self.planes.append(Plane(credentials, background))
        self.started.set()
        return self.planes[-1]

    async def opened(self) -> Handle:
        await self.started.wait()
        return await self.planes[0].opened.get()


@pytest.fixture
async def world(tmp_path: Path, issuer: Issuer) -> AsyncIterator[World]:
    made = World(tmp_path, issuer)
    async with made.central.serve(), made.api_server.serve():
        yield made


async def test_from_the_join_to_sigterm(world: World) -> None:
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        running = group.create_task(run(world.settings(), world.make_plane))
        handle = await world.opened()
        register = handle.sent[0]
        signal.raise_signal(signal.SIGTERM)
        assert await running == 0
    assert isinstance(register, control.Register)
    assert register.kubernetes_version == "v1.31.2"
    assert register.agent_version
    assert handle.closed.result() == "drained"
    assert world.planes[0].closed
    assert world.planes[0].central == Address("localhost", int(world.central.url.split(":")[-1]))
    assert world.planes[0].credentials.authorization() == b"Bearer service-account"


async def test_a_second_start_needs_no_token(world: World) -> None:
    store = FileStore(world.folder / "data")
    first = await obtain_identity(world.settings(), store)
    again = await obtain_identity(world.settings(join_token=""), store)
    assert again == first
    assert len(world.central.joins) == 1


async def test_an_identity_that_has_ended_joins_anew_with_a_token(world: World) -> None:
    store = FileStore(world.folder / "data")
    past = time.time() - 100_000
    await store.save(world.issuer.identity("c-1", past, past + 86_400))
    with pytest.raises(IdentityError, match="get a new join token"):
        await obtain_identity(world.settings(join_token=""), store)
    identity = await obtain_identity(world.settings(), store)
    assert identity.not_after > time.time()
    assert await store.load() == identity


async def renewal(handle: Handle) -> control.Renew:
    """What the agent asks for once the key for it is stored."""
    while not isinstance(renew := handle.sent[-1], control.Renew):
        handle.session.tick()
        await asyncio.sleep(0)
    return renew


async def test_renewed_identity_is_stored_and_all_tunnels_change(world: World) -> None:
    old = time.time() - 70_000
    store = FileStore(world.folder / "data")
    await store.save(world.issuer.identity("c-1", old, old + 86_400))
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        running = group.create_task(run(world.settings(), world.make_plane))
        first = await world.opened()
        renew = await renewal(first)
        kept = await store.load()
        assert kept is not None
        assert kept.next_key_pem  # before central has seen it
        now = time.time()
        certificate = world.issuer.sign(renew.csr.encode(), "c-1", now - 1, now + 86_400)
        first.session.receive(control.Renewed(certificate.decode()))
        second = await world.opened()
        assert second.identity.certificate_pem == certificate
        await first.closed
        signal.raise_signal(signal.SIGINT)
        assert await running == 0
    kept = await store.load()
    assert kept is not None
    assert kept.certificate_pem == certificate
    assert kept.private_key_pem == second.identity.private_key_pem


async def test_an_unreachable_api_server_is_a_warning(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.api_server.authority = trustme.CA()
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        running = group.create_task(run(world.settings(), world.make_plane))
        handle = await world.opened()
        signal.raise_signal(signal.SIGTERM)
        assert await running == 0
    register = handle.sent[0]
    assert isinstance(register, control.Register)
    assert register.kubernetes_version == ""
    assert "apiserver.unreachable" in logged(caplog)


class FailingStore(FileStore):
    """A store on a disk that is full once."""

    failures = 1

    def __init__(self, data_directory: Path) -> None:
        super().__init__(data_directory)
        self.saved = asyncio.Event()

    async def save(self, identity: AgentIdentity) -> None:
        if self.failures:
            self.failures -= 1
            raise IdentityError("cannot write: disk full")
        await super().save(identity)
        self.saved.set()


async def test_a_renewed_identity_that_cannot_be_stored_is_tried_again(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(agent_module, "STORE_RETRY_SECONDS", 0.0)
    now = time.time()
    store = FailingStore(world.folder / "data")
    begin = world.issuer.identity("c-1", now - 70_000, now + 10_000)
    credentials = world.api_server.credentials()
    plane = Plane(credentials)
    background = Background()
    agent = Agent(world.settings(), credentials, store, begin, plane, background)
    async with asyncio.timeout(30), background, asyncio.TaskGroup() as group:
        running = group.create_task(agent.serve())
        handle = await plane.opened.get()
        renew = await renewal(handle)
        store.failures = 1
        store.saved.clear()
        certificate = world.issuer.sign(renew.csr.encode(), "c-1", now, now + 86_400)
        handle.session.receive(control.Renewed(certificate.decode()))
        await store.saved.wait()
        agent.stop()
        agent.stop()
        await running
    assert 'identity.not_stored logger=mk8s_agent.agent reason="cannot write: disk full"' in logged(
        caplog
    )


async def test_an_agent_that_loses_an_endless_task_drains_and_ends_with_code_1(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    lose = asyncio.Event()

    async def keep_fresh(_: ApiServerCredentials) -> None:
        await lose.wait()
        raise RuntimeError("on purpose")

    monkeypatch.setattr(ApiServerCredentials, "keep_fresh", keep_fresh)
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        running = group.create_task(run(world.settings(), world.make_plane))
        handle = await world.opened()
        lose.set()
        assert await running == 1
    assert handle.closed.result() == "drained"
    assert world.planes[0].closed
    [line] = [it for it in caplog.records if it.getMessage() == "process.ending"]
    assert line.__dict__["task"] == "credentials"


async def test_readiness_needs_a_tunnel_and_a_credential(world: World, tmp_path: Path) -> None:
    token_file = tmp_path / "token"
    token_file.write_text("service-account")
    kubeconfig = world.kubeconfig()
    document = yaml.safe_load(kubeconfig.read_text())
    document["users"][0]["user"] = {"tokenFile": str(token_file)}
    port = own_port()
    settings = world.settings(health_listen=f"127.0.0.1:{port}")
    kubeconfig.write_text(yaml.safe_dump(document))

    async def ready() -> tuple[int, str]:
        url = f"http://127.0.0.1:{port}/readyz"
        async with aiohttp.ClientSession() as client, client.get(url) as answer:
            return answer.status, await answer.text()

    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        running = group.create_task(run(settings, world.make_plane))
        handle = await world.opened()
        assert await ready() == (200, "ok\n")
        token_file.unlink()
        # The file is looked at once in a second, so the answer changes within that time.
        while (answer := await ready()) == (200, "ok\n"):
            pass
        assert answer == (503, "the agent has no credential for the API server\n")
        handle.end("central closed the connection")
        signal.raise_signal(signal.SIGTERM)
        await running


def test_unready_without_tunnels(world_free_agent: Agent) -> None:
    assert world_free_agent.unready() == "no tunnel to central is open"
    world_free_agent.stop()
    assert world_free_agent.unready() == "the agent is draining"


@pytest.fixture
async def world_free_agent(tmp_path: Path, issuer: Issuer) -> Agent:
    credentials = ApiServerForTests().credentials()
    settings = load_settings(
        {"central_url": "h", "cluster_name": "prod"}, {}, home=tmp_path, in_pod=False
    )
    identity = issuer.identity("c-1", time.time(), time.time() + 60)
    plane = Plane(credentials)
    return Agent(settings, credentials, FileStore(tmp_path), identity, plane, Background())


# --- mistakes: one line, exit code 1; wrong usage: exit code 2 ---


def started(folder: Path, *arguments: str, **variables: str) -> tuple[int, str]:
    environment = {
        "CENTRAL_URL": f"https://localhost:{own_port()}",
        "CLUSTER_NAME": "prod",
        "AGENT_TOKEN": TOKEN,
        "CA_PIN": "sha256:" + "0" * 64,
        "HOME": str(folder),
        "KUBECONFIG": "",
        "KUBERNETES_SERVICE_HOST": "",
    }
    result = CliRunner().invoke(command, arguments, env=environment | variables)
    assert isinstance(result.exception, SystemExit), result.exception
    assert TOKEN not in result.output
    return result.exit_code, result.output.strip().splitlines()[-1]


def kubeconfig_in(folder: Path, issuer: Issuer) -> str:
    return str(World(folder, issuer).kubeconfig())


@pytest.mark.parametrize("content", ["", "clusters: [", "kind: Config\n", "just text"])
def test_malformed_kubeconfig(tmp_path: Path, content: str) -> None:
    (tmp_path / "config").write_text(content)
    code, line = started(tmp_path, "--kubeconfig", str(tmp_path / "config"))
    assert code == 1
    assert line.startswith("mk8s-agent: ")
    assert "kubeconfig" in line


def test_unknown_context(tmp_path: Path, issuer: Issuer) -> None:
    code, line = started(
        tmp_path, "--kubeconfig", kubeconfig_in(tmp_path, issuer), "--context", "nope"
    )
    assert (code, line) == (
        1,
        'mk8s-agent: the kubeconfig has no context "nope"; the contexts are: c',
    )


def test_central_that_is_down(tmp_path: Path, issuer: Issuer) -> None:
    code, line = started(
        tmp_path, "--kubeconfig", kubeconfig_in(tmp_path, issuer), "--join-timeout", "0"
    )
    assert code == 1
    assert "check CENTRAL_URL and that mk8s-central runs" in line


def test_no_token_and_no_identity(tmp_path: Path, issuer: Issuer) -> None:
    kubeconfig = kubeconfig_in(tmp_path, issuer)
    code, line = started(tmp_path, "--kubeconfig", kubeconfig, AGENT_TOKEN="")
    assert code == 1
    assert line.endswith("mk8s admin clusters join-token prod")


def test_data_directory_that_cannot_be_written(tmp_path: Path, issuer: Issuer) -> None:
    kubeconfig = kubeconfig_in(tmp_path, issuer)
    code, line = started(tmp_path, "--kubeconfig", kubeconfig, "--data-dir", f"{kubeconfig}/below")
    assert code == 1
    assert "give another --data-dir" in line


def stored(folder: Path, identity: AgentIdentity) -> str:
    asyncio.run(FileStore(folder / "data").save(identity))
    return str(folder / "data")


def test_identity_of_another_cluster(tmp_path: Path, issuer: Issuer) -> None:
    now = time.time()
    data = stored(tmp_path, issuer.identity("c-2", now, now + 60, name="staging"))
    kubeconfig = kubeconfig_in(tmp_path, issuer)
    code, line = started(tmp_path, "--kubeconfig", kubeconfig, "--data-dir", data)
    assert code == 1
    assert (
        "holds the identity of cluster 'staging', not of 'prod'; give another --data-dir, " in line
    )
    assert "or remove" in line


def test_clock_ten_minutes_off(tmp_path: Path, issuer: Issuer) -> None:
    now = time.time()
    data = stored(tmp_path, issuer.identity("c-1", now + 600, now + 3600))
    kubeconfig = kubeconfig_in(tmp_path, issuer)
    code, line = started(tmp_path, "--kubeconfig", kubeconfig, "--data-dir", data)
    assert code == 1
    assert "check the clock of this machine" in line


def test_ca_file_that_is_missing(tmp_path: Path, issuer: Issuer) -> None:
    kubeconfig = kubeconfig_in(tmp_path, issuer)
    missing = str(tmp_path / "missing.pem")
    code, line = started(tmp_path, "--kubeconfig", kubeconfig, "--ca-file", missing, CA_PIN="")
    assert (code, line) == (
        1,
        f"mk8s-agent: cannot read --ca-file {missing}: No such file or directory",
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--central", "http://h"), "must be https"),
        (("--tunnels", "99"), "tunnels: must be at most 16"),
        (("--nope",), "No such option"),
    ],
)
def test_wrong_usage(tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    code, line = started(tmp_path, *arguments)
    assert code == 2
    assert words in line


def test_the_program_itself(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mk8s_agent", "--help"],
        capture_output=True,
        text=True,
        env=os.environ | {"HOME": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    assert "Example: mk8s-agent" in done.stdout


def test_the_loop_is_asyncios_own_without_uvloop(monkeypatch: pytest.MonkeyPatch) -> None:
    factory = loop_factory()
    assert factory is not None
    factory().close()
    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert loop_factory() is None


def test_an_agent_that_was_only_copied_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: str) -> str:
        raise importlib.metadata.PackageNotFoundError

    monkeypatch.setattr(importlib.metadata, "version", missing)
    assert agent_version() == "unknown"


# --- the manifest ---


def objects(kind: str) -> list[dict[str, Any]]:
    documents: list[dict[str, Any]] = list(yaml.safe_load_all(MANIFEST.read_text()))
    return [document for document in documents if document["kind"] == kind]


def test_the_manifest_lets_the_agent_impersonate_and_nothing_else() -> None:
    (role,) = objects("ClusterRole")
    assert {verb for rule in role["rules"] for verb in rule["verbs"]} == {"impersonate"}
    resources = {resource for rule in role["rules"] for resource in rule["resources"]}
    assert resources == {"users", "groups", "uids", "userextras/mk8s.io/original-user"}
    (groups,) = [rule for rule in role["rules"] if rule["resources"] == ["groups"]]
    assert groups["resourceNames"] == ["mk8s:users", "system:authenticated"]


def test_the_manifest_limits_the_agent_to_its_own_secret() -> None:
    (role,) = objects("Role")
    (rule,) = role["rules"]
    assert rule["resources"] == ["secrets"]
    assert rule["resourceNames"] == ["mk8s-agent-identity"]
    assert rule["verbs"] == ["get", "patch"]
    secrets = {secret["metadata"]["name"]: secret for secret in objects("Secret")}
    assert "data" not in secrets["mk8s-agent-identity"]


def test_the_manifest_leaves_room_for_all_that_may_wait() -> None:
    """Else slow readers would have the kernel end the agent for everybody."""
    (deployment,) = objects("Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    limit = container["resources"]["limits"]["memory"]
    waits = Settings("https://h", "c", None).buffered_bytes
    assert int(limit.removesuffix("Mi")) * MIB >= 2 * waits + 96 * MIB


def test_the_manifest_gives_the_drain_its_time() -> None:
    (deployment,) = objects("Deployment")
    pod = deployment["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] > Settings("https://h", "c", None).drain_seconds
    (container,) = pod["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"]
