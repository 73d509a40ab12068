"""A whole rotation of the certificate authorities, under load: two replicas, agents, no gap.

Everything is real but the API server: two centrals on one database behind a balancer, agents that
join, learn, move and are kept out, people who come by what they trusted before. Only the waits are
shorter than an operator's.
"""

import asyncio
import contextlib
import dataclasses
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import jwt
import pytest

from mk8s_agent.agent import Agent
from mk8s_agent.identity.store import AgentIdentity, FileStore
from mk8s_agent.main import obtain_identity
from mk8s_agent.settings import Address, load_settings
from mk8s_agent.tunnel import control_session
from mk8s_agent.tunnel.data_plane import TunnelPlane
from mk8s_agent.tunnel.dialer import TunnelRefused
from mk8s_agent.wire.background import Background
from mk8s_agent.wire.dial import DialError
from mk8s_agent.wire.egress_proxy import DIRECT
from mk8s_agent.wire.limits import BufferBudget
from mk8s_cli.central.transport import trusting
from mk8s_proxy.api import ca as api_ca
from mk8s_proxy.api import keys as api_keys
from mk8s_proxy.identity.ca import CertificateAuthority
from mk8s_proxy.identity.key_rotation import Rotation
from mk8s_proxy.process import app, authority_feed
from mk8s_proxy.process.app import Central
from mk8s_proxy.process.init import AdminChoice, install
from mk8s_proxy.settings.model import PolicySettings, Settings
from mk8s_proxy.settings.sealing import SecretsSettings
from mk8s_proxy.tunnel import control
from tests.agent.api_server_for_tests import ApiServerForTests
from tests.support.processes import own_port

PASSWORD = "a very long password"
PATIENCE = 60.0


class Balancer:
    """Gives each connection to the next replica, as an L4 balancer does."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.targets: Iterator[int] = iter(())
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, ports: list[int]) -> None:
        self.targets = itertools.cycle(ports)
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection("127.0.0.1", next(self.targets))
        pumps = (self._pump(reader, there[1]), self._pump(there[0], writer))
        for pump in pumps:
            task = asyncio.ensure_future(pump)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    async def stop(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)  # transports close in the loop's next turn


class House:
    """Two replicas of central, an API server, and agents."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.balancer, self.tunnel_balancer = Balancer(own_port()), Balancer(own_port())
        self.url = f"https://localhost:{self.balancer.port}"
        self.api_server = ApiServerForTests()
        self.replicas: list[Central] = []
        self.agents: dict[str, Agent] = {}
        self.token = ""
        self.statuses: Counter[int | str] = Counter()
        """Of the load."""
        self.kids: set[str] = set()
        """Signing keys of the tokens of the load."""

    def settings(self, name: str) -> Settings:
        return Settings(
            data_dir=self.folder / name,
            database_url=f"sqlite:///{self.folder / 'shared.db'}",
            secrets=SecretsSettings(key_file=self.folder / "secret.key"),
            public_url=self.url,
            listen="127.0.0.1:0",
            admin_listen="",
            policy=PolicySettings(poll_seconds=0.05),
        )

    async def start(self) -> None:
        choice = AdminChoice("admin@example.com", PASSWORD, lambda _: "")
        await install(self.settings("one"), choice, None, lambda _: None)
        for name in ("one", "two"):
            (self.folder / name).mkdir(mode=0o700, exist_ok=True)
            self.replicas.append(Central(self.settings(name)))
            await self.replicas[-1].start()
        for balancer in (self.balancer, self.tunnel_balancer):
            await balancer.start([it.port for it in self.replicas])
        who = {"email": "admin@example.com", "password": PASSWORD}
        self.token = (await self.api("POST", "/auth/login", who))["access_token"]

    async def stop(self) -> None:
        for agent in self.agents.values():
            agent.stop()
        await self.balancer.stop()
        await self.tunnel_balancer.stop()
        for replica in self.replicas:
            await replica.stop(0)

    # -- people

    def trusted(self) -> bytes:
        return self.replicas[0].authorities.servers_pem(datetime.now(UTC))

    async def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        port: int = 0,
        trust: bytes = b"",
        token: str = "",
    ) -> tuple[int, Any]:
        """One request on a connection of its own."""
        context = trusting((trust or self.trusted()).decode())
        port = port or self.balancer.port
        token = token or self.token
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with (
            aiohttp.ClientSession() as session,
            session.request(
                method, f"https://localhost:{port}{path}", json=body, headers=headers, ssl=context
            ) as answer,
        ):
            return answer.status, await answer.json()

    async def api(self, method: str, path: str, body: Any = None) -> Any:
        status, answer = await self.call(method, path, body)
        assert status < 300, answer
        return answer

    async def load(self, cluster: str, stop: asyncio.Event) -> None:
        """Requests through both replicas by turns until told to stop; each is counted."""
        for replica in itertools.cycle(self.replicas):
            if stop.is_set():
                return
            try:
                status, answer = await self.call(
                    "GET", f"/k8s/{cluster}/version", port=replica.port
                )
                self.statuses[status if status == 200 else f"{status} {answer}"] += 1
                assert status != 200 or answer["gitVersion"] == "v1.31.2"
            except Exception as error:  # noqa: BLE001  whatever it was, it is counted
                self.statuses[repr(error)] += 1
            await asyncio.sleep(0.005)

    async def mint(self, cluster: str, stop: asyncio.Event) -> None:
        """Tokens made at one replica and used at the next one, at once."""
        for replica in itertools.cycle(self.replicas):
            if stop.is_set():
                return
            try:
                _, made = await self.call("POST", "/auth/token", {"cluster": cluster})
                token = made["access_token"]
                self.kids.add(jwt.get_unverified_header(token)["kid"])
                status, _ = await self.call(
                    "GET", f"/k8s/{cluster}/version", port=replica.port, token=token
                )
                self.statuses[status] += 1
            except Exception as error:  # noqa: BLE001  whatever it was, it is counted
                self.statuses[repr(error)] += 1

    async def reached(self, replica: Central, trust: bytes) -> bool:
        with contextlib.suppress(aiohttp.ClientConnectorCertificateError):
            return (await self.call("GET", "/ca", port=replica.port, trust=trust))[0] == 200
        return False

    def ways(self) -> tuple[bytes, ...]:
        found = self.replicas[0].authorities.current.ways
        return found if len(found) == 2 else (b"not yet",)

    # -- agents

    async def join(self, name: str) -> tuple[FileStore, AgentIdentity]:
        given = await self.api("POST", "/clusters", {"name": name})
        return await self.joined(name, given)

    async def joined(self, name: str, given: Any) -> tuple[FileStore, AgentIdentity]:
        store = FileStore(self.folder / name)
        settings = self.agent_settings(name, given["join_token"], given["ca_pin"])
        return store, await obtain_identity(settings, store)

    def agent_settings(self, name: str, token: str = "", pin: str = "") -> Any:
        given = {
            # Of its own, so that its tunnels reach both replicas, whoever else connects.
            "central_url": f"https://localhost:{self.tunnel_balancer.port}",
            "cluster_name": name,
            "join_token": token,
            "ca_pin": pin,
            "data_dir": str(self.folder / name),
            "kubeconfig": str(self.folder / "unused"),
            "tunnels": 4,
        }
        given = {key: value for key, value in given.items() if value}
        return load_settings(given, {}, home=self.folder, in_pod=False)

    @contextlib.asynccontextmanager
    async def running(self, name: str, store: FileStore, identity: AgentIdentity) -> Any:
        """An agent of a cluster, connected to both replicas."""
        credentials = self.api_server.credentials()
        async with Background() as background:
            plane = TunnelPlane(credentials, background, BufferBudget(1 << 26), DIRECT)
            agent = Agent(
                self.agent_settings(name), credentials, store, identity, plane, background
            )
            serving = asyncio.ensure_future(agent.serve())
            await until(lambda: all(self.tunnels(it, name) for it in self.replicas))
            try:
                yield agent
            finally:
                agent.stop()
                agent.stop()
                await serving

    async def all_hold(self, holds: Callable[[Central], bool]) -> None:
        await until(lambda: all(holds(it) for it in self.replicas))

    def issuers(self, name: str) -> set[str]:
        """Of the certificates of a cluster's agents, at both replicas."""
        return {it.issuer for replica in self.replicas for it in self.tunnels(replica, name)}

    def tunnels(self, replica: Central, name: str) -> list[Any]:
        return [it for it in replica.tunnels.all_sessions() if it.cluster == name]


async def until(holds: Callable[[], Any]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not holds():  # noqa: ASYNC110  a poll is what is waited for
            await asyncio.sleep(0.02)


async def until_told(asks: Callable[[], Awaitable[Any]]) -> Any:
    async with asyncio.timeout(PATIENCE):
        while not (answer := await asks()):  # noqa: ASYNC110  as above
            await asyncio.sleep(0.05)
    return answer


@pytest.fixture
async def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[House]:
    short = Rotation(settle=4.0, verify=4.0)
    monkeypatch.setattr(authority_feed, "rotation_of", lambda _: short)
    keys = Rotation(settle=1.0, verify=1000.0)
    for module in (app, api_keys):
        monkeypatch.setattr(module, "rotation_of", lambda _: keys)
    monkeypatch.setattr(control, "MOVE_SECONDS", 0.5)
    monkeypatch.setattr(api_ca, "MOVE_SECONDS", 2.0)
    made = House(tmp_path)
    async with made.api_server.serve():
        await made.start()
        yield made
        await made.stop()


async def test_a_rotation_under_load_fails_no_request(house: House) -> None:
    before = house.trusted()
    store, identity = await house.join("prod")
    async with house.running("prod", store, identity):
        stop = asyncio.Event()
        load = [asyncio.ensure_future(house.load("prod", stop)) for _ in range(3)]
        await until(lambda: house.statuses[200] > 30)

        begun = await house.api("POST", "/ca/rotate", {})
        assert [it["purpose"] for it in begun["authorities"]] == ["server"] * 2 + ["agent"] * 2
        assert begun["rotation"]["waiting"] == 1
        both = await until_told(lambda: _ca_pem_of_two(house))
        assert both.startswith(before)

        async def moved() -> bool:
            return bool((await house.api("GET", "/ca"))["rotation"]["waiting"] == 0)

        await until_told(moved)
        following = house.replicas[0].authorities.current.next_agent_ca
        assert following is not None
        await until(lambda: house.issuers("prod") == {following.key_id})
        count = house.statuses[200]
        ended = await house.api("POST", "/ca/retire", {})
        assert ended["rotation"] is None
        assert len(ended["authorities"]) == 2
        await house.all_hold(lambda it: len(it.authorities.current.agent_key_ids) == 1)
        await until(lambda: house.statuses[200] > count + 60)
        await until(lambda: house.trusted().count(b"BEGIN CERT") == 1)
        count = house.statuses[200]
        await until(lambda: house.statuses[200] > count + 30)
        stop.set()
        await asyncio.gather(*load)
        assert set(house.statuses) == {200}, house.statuses

        after = house.trusted()
        kept = await until_told(lambda: _stored(store, after))
    assert after != before
    assert house.replicas[0].authorities.current.agent_ca.issued(kept.certificate_pem)


async def _ca_pem_of_two(house: House) -> bytes:
    """What both replicas publish, once it is two authorities."""
    found = []
    for replica in house.replicas:
        context = trusting(house.trusted().decode())
        url = f"https://localhost:{replica.port}/ca.pem"
        async with aiohttp.ClientSession() as session, session.get(url, ssl=context) as answer:
            found.append(await answer.read())
    return found[0] if found[0] == found[1] and found[0].count(b"BEGIN CERT") == 2 else b""


async def _stored(store: FileStore, authority_pem: bytes) -> AgentIdentity | None:
    """What an agent has kept, once it trusts exactly this."""
    kept = await store.load()
    return kept if kept is not None and kept.authority_pem == authority_pem else None


async def test_attack_an_agent_of_a_retired_authority_is_kept_out_everywhere(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    # An agent of a release that knows nothing of rotations, and so cannot move.
    monkeypatch.setattr(control_session, "CAPABILITIES", ("renew", "drain"))
    store, identity = await house.join("old")
    async with house.running("old", store, identity) as agent:
        await house.api("POST", "/ca/rotate", {})
        await until_told(lambda: _ca_pem_of_two(house))

        async def refused() -> Any:
            status, answer = await house.call("POST", "/ca/retire", {})
            assert status == 409
            return answer["detail"] if "have not moved" in answer["detail"] else None

        assert "1 agents have not moved to the new authority yet" in await until_told(refused)
        [waiting] = (await house.api("GET", "/ca"))["rotation"]["waiting_agents"]
        assert waiting["cluster"] == "old"
        assert waiting["reason"] == "its certificate is of the old authority"

        ended = await house.api("POST", "/ca/retire", {"force": True})
        assert ended["rotation"] is None
        await house.all_hold(lambda it: not house.tunnels(it, "old"))
        await house.all_hold(lambda it: it.authorities.servers_pem(LATER).count(b"BEGIN") == 1)
        status, _ = await house.call("GET", "/k8s/old/version")
        assert status == 503

        # What it has is worth nothing, whatever it trusts now.
        mine = dataclasses.replace(identity, authority_pem=house.trusted())
        for replica in house.replicas:
            there = Address("127.0.0.1", replica.port)
            with pytest.raises((DialError, TunnelRefused, OSError)):
                await agent._data_plane.open_tunnel(
                    central=there, identity=mine, make_control=agent._make_control
                )
            assert not house.tunnels(replica, "old")


async def test_attack_a_stranger_and_a_user_cannot_rotate(house: House) -> None:
    token, house.token = house.token, ""
    for method, path in (("GET", "/ca"), ("POST", "/ca/rotate"), ("POST", "/ca/retire")):
        status, _ = await house.call(method, path, {} if method == "POST" else None)
        assert status == 401
    house.token = token
    assert (await house.api("GET", "/ca"))["rotation"] is None
    assert (await house.call("POST", "/ca/retire", {}))[0] == 409


async def test_who_trusts_the_authority_of_two_rotations_ago_still_finds_the_way(
    house: House,
) -> None:
    first = house.trusted()
    for _ in range(2):
        await house.api("POST", "/ca/rotate", {})
        await house.api("POST", "/ca/retire", {"force": True})
    await house.all_hold(lambda it: it.authorities.current.ways == house.ways())
    for replica in house.replicas:
        await until_told(partial(house.reached, replica, house.trusted()))
        assert await house.reached(replica, first)
        # The way leads from the old to the new one, not back.
        stranger = CertificateAuthority.create("server").certificate_pem
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await house.call("GET", "/ca", port=replica.port, trust=stranger)


async def test_signing_keys_change_under_load_without_a_refused_token(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, identity = await house.join("prod")
    async with house.running("prod", store, identity):
        stop = asyncio.Event()
        load = [asyncio.ensure_future(house.mint("prod", stop)) for _ in range(3)]
        await until(lambda: house.statuses[200] > 30)
        (old,) = house.kids
        new = (await house.api("POST", "/keys"))["id"]
        await until(lambda: new in house.kids)
        count = house.statuses[200]
        await until(lambda: house.statuses[200] > count + 60)
        stop.set()
        await asyncio.gather(*load)
    assert set(house.statuses) == {200}, house.statuses
    assert house.kids == {old, new}


LATER = datetime(2100, 1, 1, tzinfo=UTC)
