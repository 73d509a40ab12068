"""The product in its real processes: `mk8s-central init` and `serve`, `mk8s-agent`.

Access tokens are minted with the signing key of this central's own database, since 200 logins
would be 200 bcrypt hashes; everything else goes the way of an installation.
"""

import asyncio
import ssl
import sys
import time
from collections.abc import Coroutine, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from http.client import HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any, TypeVar

import yaml

from mk8s_proxy.db import agents, clusters, keys, tokens, users
from mk8s_proxy.db.agents import Issued
from mk8s_proxy.db.engine import Database
from mk8s_proxy.identity import access_token, join_token, signing_keys
from mk8s_proxy.identity.authorities import Authorities, load_authorities
from mk8s_proxy.identity.ca import SignedAgent
from tests.bench.relay.launch import Services, own_port
from tests.bench.relay.targets import SMALL_PATHS, USERS, Target
from tests.support.databases import vault_of
from tests.support.processes import Program, run

T = TypeVar("T")

CLUSTER = "bench"
ROLES, RULES = 20, 10
"""The policy has 20 roles of 10 rules each."""
LIFETIME = 12 * 3600.0
CENTRAL = (sys.executable, "-m", "mk8s_proxy")
AGENT = (sys.executable, "-m", "mk8s_agent")
_WAIT = 120.0
_INIT = 900.0


def policy(roles: int, people: int, rules: int) -> dict[str, Any]:
    """Roles of so many rules each, the last of which allows what is measured; one per user."""
    names = [f"role-{number}" for number in range(roles)]
    return {
        "roles": [{"name": name, "clusters": _rules(name, rules)} for name in names],
        "users": [
            {"email": f"user-{number}@example.com", "roles": [names[number % roles]]}
            for number in range(people)
        ],
    }


def _rules(role: str, rules: int) -> list[dict[str, Any]]:
    others = [
        {
            "name": "*",
            "namespaces": [f"{role}-{number}-*"],
            "verbs": ["get", "list", "watch", "logs"],
            "resources": ["pods", "services", "deployments.apps"],
        }
        for number in range(rules - 1)
    ]
    mine = {
        "name": "*",
        "namespaces": ["default"],
        "verbs": ["get", "list", "watch", "exec"],
        "resources": ["configmaps", "pods"],
    }
    return [*others, mine]


class Product:
    """One central and its agents, in a folder of their own."""

    def __init__(
        self,
        services: Services,
        name: str = "product",
        *,
        tunnels: int = 2,
        settings: Mapping[str, str] | None = None,
        probe: str = SMALL_PATHS[0],
    ) -> None:
        self.name = name
        self.services = services
        self.folder = services.folder / name
        self.folder.mkdir()
        self.port = own_port()
        self.url = f"https://localhost:{self.port}"
        self.agent_url = self.url
        """Where agents dial."""
        self.authority = self.folder / "server-ca.pem"
        self.tokens: list[str] = []
        self.tunnels = tunnels
        self.probe = probe
        """A Kubernetes path that answers 200 once an agent is there."""
        self._settings = dict(settings or {})
        self.central: Program
        self.agents: dict[str, Program] = {}

    def initialise(self, roles: int = ROLES, people: int = USERS, rules: int = RULES) -> None:
        """Database, keys, authorities, policy; then the tokens of all users."""
        rbac = self.folder / "rbac.yaml"
        rbac.write_text(yaml.dump(policy(roles, people, rules), Dumper=yaml.CSafeDumper))
        command: list[str | Path] = [
            *CENTRAL,
            "init",
            "-f",
            rbac,
            "--admin",
            "admin@example.com",
            "--password-stdin",
        ]
        run(command, self.environment(), stdin="a long enough password\n", seconds=_INIT)
        self.authority.write_bytes(self.authorities().server_ca.certificate_pem)
        self.tokens = self.ask(self._mint(people))

    def environment(self) -> dict[str, str]:
        """Central's settings: the defaults, but for addresses and folders."""
        return self.services.plain(
            MK8S_DATA_DIR=str(self.folder / "central"),
            MK8S_LISTEN=f"127.0.0.1:{self.port}",
            MK8S_PUBLIC_URL=self.url,
            MK8S_ADMIN_LISTEN="",
            **self._settings,
        )

    def ask(self, question: Coroutine[Any, Any, T]) -> T:
        """Runs a coroutine that uses the database of `self.database`."""
        return asyncio.run(question)

    def database(self) -> Database:
        """Central's database, to be started by the caller."""
        embedded = f"sqlite+aiosqlite:///{self.folder / 'central' / 'central.db'}"
        database = Database(self._settings.get("MK8S_DATABASE_URL", embedded))
        database.vault = vault_of(self.folder / "central")
        return database

    def authorities(self) -> Authorities:
        """This central's own CAs."""

        async def load() -> Authorities:
            async with _started(self.database()) as database:
                return await load_authorities(database)

        return self.ask(load())

    async def _mint(self, people: int) -> list[str]:
        async with _started(self.database()) as database:
            records = await keys.list_keys(database)
            known = {user.email: user for user in await users.list_users(database)}
        ring = signing_keys.SigningKeys(
            signing_keys.SigningKey.from_pem(record.kid, record.private_pem) for record in records
        )
        return [
            access_token.mint(
                ring,
                user=known[f"user-{number}@example.com"],
                cluster=None,
                issuer=self.url,
                lifetime=LIFETIME,
                now=time.time(),
            )[0]
            for number in range(people)
        ]

    def add_clusters(self, names: Sequence[str]) -> dict[str, str]:
        """Registers clusters; their ids by name."""

        async def create() -> dict[str, str]:
            async with _started(self.database()) as database:
                return {name: (await clusters.create_cluster(database, name)).id for name in names}

        return self.ask(create())

    def record_certificates(self, signed: Mapping[str, SignedAgent]) -> None:
        """Makes central know certificates, by cluster id: what it did not issue it refuses."""

        async def record() -> None:
            async with _started(self.database()) as database:
                for cluster, it in signed.items():
                    pem = it.certificate_pem.decode()
                    issued = Issued(it.serial, "", pem, it.not_after)
                    await agents.record_joined(database, cluster, issued)

        self.ask(record())

    def start_central(self) -> None:
        """`mk8s-central serve`, until it listens."""
        command = [*CENTRAL, "serve"]
        environment = self.environment()
        self.central = self.services.start(
            f"{self.name} central", command, port=self.port, environment=environment
        )

    def start_agent(self, cluster: str, kubeconfig: Path) -> None:
        """Registers the cluster on the first start, runs its agent until requests pass."""
        data = self.folder / f"agent-{cluster}"
        extra = {}
        if not data.exists():
            cluster_id = self.add_clusters([cluster])[cluster]
            extra = {"AGENT_TOKEN": self.ask(self._join_token(cluster_id))}
        command: list[str | Path] = [*AGENT, "--kubeconfig", kubeconfig, "--data-dir", data]
        command += ["--tunnels", str(self.tunnels), "--drain-seconds", "1"]
        environment = self.services.plain(
            CENTRAL_URL=self.agent_url,
            CLUSTER_NAME=cluster,
            CA_PIN=self.authorities().server_ca.pin,
            **extra,
        )
        self.agents[cluster] = self.services.start(
            f"{self.name} agent {cluster}", command, environment=environment
        )
        self._wait_for(cluster)

    async def _join_token(self, cluster_id: str) -> str:
        token = join_token.new_join_token()
        end = datetime.now(UTC) + timedelta(minutes=10)
        async with _started(self.database()) as database:
            hashed = join_token.hash_join_token(token)
            await tokens.store_join_token(database, cluster_id, hashed, "bench", end)
        return token

    @property
    def _enough(self) -> int:
        """Good answers in a row after which every worker is likely to have given one."""
        workers = int(self._settings.get("MK8S_WORKERS", "1"))
        return 1 if workers == 1 else 10 * workers

    def _wait_for(self, cluster: str) -> None:
        deadline = time.monotonic() + _WAIT
        answer, good = "", 0
        while time.monotonic() < deadline:
            try:
                answer = self.get(f"/k8s/{cluster}{self.probe}")
            except (OSError, HTTPException) as error:
                answer = str(error)
            good = good + 1 if answer.startswith("200") else 0
            if good == self._enough:
                return
            time.sleep(0 if good else 0.1)
        printed = self.central.output + self.agents[cluster].output
        raise AssertionError(f"no way to {cluster}: {answer}\n{printed}")

    def get(self, path: str) -> str:
        """Status and beginning of the answer to the first user, by a connection of its own."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self.authority)
        connection = HTTPSConnection("localhost", self.port, context=context, timeout=5)
        try:
            token = self.tokens[0]
            connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
            answer = connection.getresponse()
            return f"{answer.status} {answer.read()[:300]!r}"
        finally:
            connection.close()

    def target(self, cluster: str = CLUSTER, name: str = "") -> Target:
        """The way through this product to one cluster."""
        pids = {
            "central": self.central._process.pid,
            "agent": self.agents[cluster]._process.pid,
        }
        return Target(
            name or self.name,
            ("127.0.0.1", self.port),
            self.authority,
            self.tokens,
            pids,
            prefix=f"/k8s/{cluster}",
        )

    def stop(self) -> None:
        """Ends central and its agents; the data stays."""
        for agent in self.agents.values():
            agent.stop()
        self.agents.clear()
        self.central.stop()


class _started:  # noqa: N801  reads as a word at its uses
    """A database for the length of a block."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def __aenter__(self) -> Database:
        await self._database.start()
        return self._database

    async def __aexit__(self, *_error: object) -> None:
        await self._database.close()
