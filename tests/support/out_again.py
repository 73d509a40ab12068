"""People who are thrown out while they have something open, at two processes of one central.

Used by `tests/proxy/test_out_again.py` and by the benchmark `tests.bench.bench_out_again`: central
is two workers on SQLite or two replicas on PostgreSQL, the cluster is the demo's API behind real
agents. Each victim has a role, a login and a service token of their own, and one stream of each
kind at each process.
"""

import asyncio
import contextlib
import dataclasses
import json
import os
import shutil
import signal
import ssl
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp

from mk8s_proxy.db import clusters, keys, roles, service_tokens, users
from mk8s_proxy.db.engine import Database
from mk8s_proxy.db.logins import NewLogin
from mk8s_proxy.db.models import new_id
from mk8s_proxy.db.service_tokens import NewSecret, NewServiceToken
from mk8s_proxy.identity import access_token, refresh
from mk8s_proxy.identity.identity import Login
from mk8s_proxy.identity.service_token import hash_service_token, new_service_token
from mk8s_proxy.identity.signing_keys import SigningKey, SigningKeys
from tests.bench.relay.launch import Services
from tests.bench.relay.product import CLUSTER, Product

SHOP = "/api/v1/namespaces/shop/pods"
STREAMS = ("watch", "logs", "exec", "port-forward")
DEMO_API = (sys.executable, "-m", "mk8s_cli.demo_api")
PROTOCOLS = {"exec": "v5.channel.k8s.io", "port-forward": "SPDY/3.1+portforward.k8s.io"}
OPENING_SECONDS = 60.0
ADMIN = "admin@example.com"
_TRIES = 60


def rules(verbs: Sequence[str] = ("get", "list", "watch", "logs", "exec", "portforward")) -> Any:
    """What a victim's role allows."""
    return [
        {
            "name": "*",
            "namespaces": ["*"],
            "verbs": list(verbs),
            "resources": ["pods", "configmaps"],
        }
    ]


class Replica(Product):
    """A central that says its address is that of another one, with which it shares a database."""

    public_url = ""

    def environment(self) -> dict[str, str]:
        """The same, but for the issuer of tokens."""
        return super().environment() | {"MK8S_PUBLIC_URL": self.public_url or self.url}


Opened = aiohttp.ClientResponse | aiohttp.ClientWebSocketResponse


@dataclasses.dataclass
class Stream:
    """Something open."""

    kind: str
    process: int
    opened: Opened
    ended: "asyncio.Task[float]"
    """When, by the monotonic clock."""

    async def close(self) -> None:
        """Leave, whether it has ended or not."""
        self.ended.cancel()
        await asyncio.gather(self.ended, return_exceptions=True)
        if isinstance(self.opened, aiohttp.ClientWebSocketResponse):
            await self.opened.close()
        else:
            self.opened.close()


@dataclasses.dataclass
class Victim:
    """Somebody with a role of their own."""

    number: int
    user_id: str
    email: str
    login: str
    refresh_token: str
    token: str
    """Of the login, whose issuer says that they are in a group."""
    service_token: str = ""

    @property
    def role(self) -> str:
        """Theirs and nobody else's."""
        return f"role-{self.number}"

    @property
    def group(self) -> str:
        """The same."""
        return f"acme:crew-{self.number}"

    @property
    def job(self) -> str:
        """The name of their service token."""
        return f"job-{self.number}"


class _Unknown(Exception):
    """A process does not know the credential."""


class House:
    """Two processes of one central, and whoever comes there."""

    def __init__(self, folder: Path, database_url: str = "") -> None:
        self.services = Services(folder)
        self.folder = folder
        workers = {} if database_url else {"MK8S_WORKERS": "2"}
        shared = {"MK8S_DATABASE_URL": database_url} if database_url else {}
        limits = {
            "MK8S_LIMITS_STREAMS_PER_IDENTITY": "5000",
            "MK8S_LIMITS_CONNECTIONS_PER_ADDRESS": "8000",
            "MK8S_LIMITS_CONNECTIONS": "9000",
            "MK8S_LIMITS_API_PER_IDENTITY": "100000",
            "MK8S_LIMITS_API_PER_ADDRESS": "100000",
        }
        names = ("first", "second") if database_url else ("only",)
        self.centrals = [
            Replica(
                self.services,
                name,
                settings=workers | shared | limits,
                probe="/api/v1/pods?limit=1",
            )
            for name in names
        ]
        self.pod = ""
        self.pids: list[int] = []
        """Of the two processes."""
        self._ring = SigningKeys()
        self._sessions: list[aiohttp.ClientSession] = []
        self._streams: list[Stream] = []

    # -- the house

    def build(self, people: int, *, cluster: bool = True) -> None:
        """Start everything, without the cluster if it is not wanted; there are so many users, each
        with a role."""
        first, *others = self.centrals
        first.initialise(roles=people, people=people, rules=1)
        first.ask(self._give_rules(people))
        for other in others:
            other.public_url = first.url
            other.authority.write_bytes(first.authority.read_bytes())
            other.tokens = first.tokens
            home = other.folder / "central"
            home.mkdir(mode=0o700)
            shutil.copy(first.folder / "central" / "secret.key", home)
        for central in self.centrals:
            central.start_central()
        if cluster:
            self._add_cluster()
        self._find_processes()

    def _add_cluster(self) -> None:
        data = self.folder / "api"
        api = self.services.start(
            "demo API", (*DEMO_API, "--port", "0", "--data-dir", data), environment=os.environ
        )
        api.wait_for_line(r"^https://127")
        for central in self.centrals:
            if central is not self.centrals[0]:  # it is the same cluster, with an agent more
                self._join_again(central)
            central.start_agent(CLUSTER, data / "kubeconfig")

    def kill_and_start_again(self) -> None:
        """As a machine does that loses its power: nothing is said, and nothing is written."""
        for central in self.centrals:
            central.central.signal(signal.SIGKILL)
        for pid in self.pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for central in self.centrals:
            central.central.wait()
        for central in self.centrals:
            central.start_central()
        self._find_processes()

    async def _give_rules(self, people: int) -> None:
        async with self.database() as database:
            for number in range(people):
                await roles.put_role(database, f"role-{number}", rules())
            records = await keys.list_keys(database)
        self._ring.replace(
            SigningKey.from_pem(record.kid, record.private_pem) for record in records
        )

    def _join_again(self, central: Product) -> None:
        name = self.centrals[0].ask(self._cluster_id())
        central.add_clusters = lambda _: {CLUSTER: name}  # type: ignore[method-assign]

    async def _cluster_id(self) -> str:
        async with self.database() as database:
            return (await clusters.get_by_key(database, CLUSTER)).id

    def _find_processes(self) -> None:
        if len(self.centrals) > 1:
            self.pids = [central.central._process.pid for central in self.centrals]
            return
        entries = [
            json.loads(line)
            for line in self.centrals[0].central.output.splitlines()
            if '"worker.started"' in line
        ]
        found = {entry["worker"]: entry["worker_pid"] for entry in entries}
        self.pids = [found[1], found[2]]

    @contextlib.asynccontextmanager
    async def database(self) -> AsyncIterator[Database]:
        """The database, past central."""
        opened = self.centrals[0].database()
        await opened.start()
        try:
            yield opened
        finally:
            await opened.close()

    async def enter(self) -> None:
        """Become a client: in the loop that uses it."""
        for central in self.centrals:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.load_verify_locations(central.authority)
            connector = aiohttp.TCPConnector(ssl=context, limit=0, force_close=True)
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=20)
            self._sessions.append(
                aiohttp.ClientSession(central.url, connector=connector, timeout=timeout)
            )
        self.admin = await self.token_of(ADMIN)

    async def find_pod(self) -> None:
        """Choose what streams are opened to."""
        token = self.centrals[0].tokens[0]
        status, listed = await self.ask("GET", f"/k8s/{CLUSTER}{SHOP}", token=token)
        assert status == 200, listed
        self.pod = listed["items"][0]["metadata"]["name"]

    async def leave(self) -> None:
        """Close all connections."""
        for stream in self._streams:
            await stream.close()
        for session in self._sessions:
            await session.close()

    def close(self) -> None:
        """End all processes."""
        self.services.close()

    # -- people

    async def token_of(self, email: str) -> str:
        """An access token of no login."""
        async with self.database() as database:
            user = await users.get_by_email(database, email)
        return self.mint(user, None)

    def mint(self, user: Any, login: Login | None) -> str:
        """An access token as central would make it."""
        return access_token.mint(
            self._ring, user=user, cluster=None, issuer=self.centrals[0].url, lifetime=3000,
            now=time.time(), login=login,
        )[0]  # fmt: skip

    async def victims(self, count: int, *, seconds: float = 3600) -> list[Victim]:
        """As many as there are users, or less, each with a login and a service token."""
        ends = datetime.now(UTC) + timedelta(seconds=seconds)
        async with self.database() as database:
            return [await self.victim(database, number, ends) for number in range(count)]

    async def victim(self, database: Database, number: int, ends: datetime) -> Victim:
        """One of them, with one more login that ends at its time."""
        user = await users.get_by_email(database, f"user-{number}@example.com")
        group = f"acme:crew-{number}"
        new = NewLogin(new_id(), user.id, ends, "oidc", groups=(group,))
        opened = await refresh.open_login(database, new, now=datetime.now(UTC))
        login = Login(new.id, ends.timestamp(), (group,))
        victim = Victim(number, user.id, user.email, new.id, opened.token, self.mint(user, login))
        secret = new_service_token()
        token = NewServiceToken(victim.job, (victim.role,), (), "", "")
        hashed = NewSecret(hash_service_token(secret.encode()), ends)
        with contextlib.suppress(service_tokens.Conflict):
            await service_tokens.create(database, token, hashed, datetime.now(UTC))
            victim.service_token = secret
        return victim

    # -- requests

    async def ask(
        self, method: str, path: str, body: Any = None, *, token: str = "", at: int = 0
    ) -> tuple[int, Any]:
        """Status and document of an answer of one central."""
        headers = {"Authorization": f"Bearer {token or self.admin}"}
        session = self._sessions[at % len(self._sessions)]
        async with session.request(method, path, json=body, headers=headers) as answer:
            text = await answer.read()
            is_json = text and "json" in answer.content_type
            return answer.status, await answer.json(content_type=None) if is_json else None

    async def do(self, method: str, path: str, body: Any = None) -> Any:
        """A change by the administrator."""
        status, answer = await self.ask(method, path, body)
        assert status < 300, (method, path, answer)
        return answer

    async def open(self, kind: str, process: int, token: str) -> Stream:
        """A stream of one kind at one of the two processes."""
        for _ in range(_TRIES):
            stream, port = await self._open_once_known(kind, process, token)
            if len(self.centrals) > 1 or self._is_at(port, process):
                return stream
            await stream.close()
        raise AssertionError(f"no connection in {_TRIES} came to worker {process + 1}")

    async def open_all(self, token: str) -> list[Stream]:
        """One of each kind at each process."""
        if not self.pod:
            await self.find_pod()
        async with asyncio.timeout(OPENING_SECONDS):
            each = [(kind, process) for kind in STREAMS for process in (0, 1)]
            return list(await asyncio.gather(*(self.open(*it, token) for it in each)))

    async def bystand(self, process: int, token: str) -> Stream:
        """A watch at one of two centrals, or at any worker of one."""
        return (await self._open("watch", process, token))[0]

    async def _open_once_known(self, kind: str, process: int, token: str) -> tuple[Stream, int]:
        """What was written into the database a moment ago is known after the next look at it."""
        async with asyncio.timeout(OPENING_SECONDS):
            while True:
                try:
                    return await self._open(kind, process, token)
                except _Unknown:
                    await asyncio.sleep(0.2)

    async def _open(self, kind: str, process: int, token: str) -> tuple[Stream, int]:
        session = self._sessions[process % len(self._sessions)]
        headers = {"Authorization": f"Bearer {token}"}
        if protocol := PROTOCOLS.get(kind):
            path = f"{SHOP}/{self.pod}/exec?command=sh&stdin=true&stdout=true"
            if kind == "port-forward":
                path = f"{SHOP}/{self.pod}/portforward"
            try:
                socket = await session.ws_connect(
                    f"/k8s/{CLUSTER}{path}", headers=headers, protocols=[protocol]
                )
            except aiohttp.WSServerHandshakeError as error:
                raise _Unknown if error.status == 401 else error from None
            port = socket.get_extra_info("sockname")[1]
            return self._opened(kind, process, socket, _socket_end(socket)), port
        path = f"{SHOP}?watch=1" if kind == "watch" else f"{SHOP}/{self.pod}/log?follow=true"
        answer = await session.get(f"/k8s/{CLUSTER}{path}", headers=headers)
        if answer.status == 401:
            raise _Unknown
        assert answer.status == 200, await answer.text()
        assert answer.connection is not None
        assert answer.connection.transport is not None
        port = answer.connection.transport.get_extra_info("sockname")[1]
        return self._opened(kind, process, answer, _body_end(answer)), port

    def _opened(
        self, kind: str, process: int, opened: Opened, end: Coroutine[Any, Any, float]
    ) -> Stream:
        stream = Stream(kind, process, opened, asyncio.create_task(end))
        self._streams.append(stream)
        return stream

    def _is_at(self, port: int, process: int) -> bool:
        """Whether the connection from this port is a worker's, as the kernel knows."""
        inode = _inode(self.centrals[0].port, port)
        folder = Path(f"/proc/{self.pids[process]}/fd")
        for file in folder.iterdir():
            with contextlib.suppress(OSError):
                if str(file.readlink()) == f"socket:[{inode}]":
                    return True
        return False


async def _body_end(answer: aiohttp.ClientResponse) -> float:
    with contextlib.suppress(aiohttp.ClientError, ConnectionError, asyncio.IncompleteReadError):
        async for _ in answer.content.iter_any():
            pass
    return time.monotonic()


async def _socket_end(socket: aiohttp.ClientWebSocketResponse) -> float:
    with contextlib.suppress(aiohttp.ClientError, ConnectionError):
        async for _ in socket:
            pass
    return time.monotonic()


def _inode(server: int, client: int) -> str:
    """The socket at the server's end of a connection on loopback."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[1].endswith(f":{server:04X}") and fields[2].endswith(f":{client:04X}"):
            return fields[9]
    return ""


def ways_out(house: House) -> dict[str, Callable[[Victim], Awaitable[object]]]:
    """What ends whatever a victim has open, but for a lock of the cluster, which ends all."""

    def locked(kind: str, target: Callable[[Victim], str]) -> Callable[[Victim], Awaitable[object]]:
        return lambda victim: house.do(
            "POST", "/locks", {"kind": kind, "target": target(victim), "reason": "a test"}
        )

    def user(victim: Victim) -> str:
        return f"/users/{victim.user_id}"

    return {
        "logout": lambda it: house.ask(
            "POST", "/auth/logout", {"refresh_token": it.refresh_token}, token=it.token
        ),
        "disabled": lambda it: house.do("PUT", f"{user(it)}/disabled", {"disabled": True}),
        "removed": lambda it: house.do("DELETE", user(it)),
        "password": lambda it: house.do(
            "PUT", f"{user(it)}/password", {"password": "another long password"}
        ),
        "roles taken": lambda it: house.do("PUT", f"{user(it)}/roles", {"roles": []}),
        "role changed": lambda it: house.do(
            "PUT", f"/roles/{it.role}", {"clusters": rules(["get"])}
        ),
        "lock user": locked("user", lambda it: it.email),
        "lock group": locked("group", lambda it: it.group),
        "lock role": locked("role", lambda it: it.role),
        "lock login": locked("login", lambda it: it.login),
        "service token revoked": lambda it: house.do("DELETE", f"/tokens/{it.job}"),
        "lock token": locked("token", lambda it: it.job),
    }


BY_SERVICE_TOKEN = ("service token revoked", "lock token")
