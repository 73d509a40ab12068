"""What is attacked: a central with two agents and their stub clusters, as processes of their own.

The cluster "prod" speaks HTTP/2 to its agent, "plain" HTTP/1.1. Access tokens are minted with this
central's own key, as the relay benchmark does, for people whose roles are below.
"""

import asyncio
import json
import ssl
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import yaml

from mk8s_proxy.db import keys, users
from mk8s_proxy.identity import access_token, passwords, signing_keys
from tests.attacks import identities, shim
from tests.attacks.meter import Watched
from tests.attacks.wire import World
from tests.bench.relay.certificates import make_certificates
from tests.bench.relay.launch import Services, own_port
from tests.bench.relay.product import CENTRAL, LIFETIME, Product, _started
from tests.bench.relay.stub import write_kubeconfig
from tests.support.processes import Program, run

HTTP2, HTTP1 = "prod", "plain"
PASSWORD = "a long enough password"
PEOPLE = {
    "neighbour": "viewer",
    "reader": "viewer",
    "narrow": "narrow",
    "dev": "developer",
    "victim": "viewer",
}
SHIM = "shim"
"""Among an attack's settings: the disk under the journal can be made faulty."""
_WAIT = 60.0
_READ = ["get", "list", "watch"]


def policy() -> dict[str, Any]:
    """Who may what: one who sees all, one who sees a namespace, one who may do everything."""

    def role(name: str, namespaces: list[str], verbs: list[str], resources: list[str]) -> Any:
        rule = {"name": "*", "namespaces": namespaces, "verbs": verbs, "resources": resources}
        return {"name": name, "clusters": [rule]}

    return {
        "roles": [
            role("viewer", ["*"], _READ, ["*"]),
            role("narrow", ["default"], _READ, ["pods", "configmaps", "*.example.com"]),
            role("developer", ["*"], ["*"], ["*"]),
        ],
        "users": [
            {"email": f"{name}@example.com", "roles": [role]} for name, role in PEOPLE.items()
        ],
    }


def wait_until(condition: Callable[[], bool], seconds: float = _WAIT) -> bool:
    """Whether the condition came to hold within so many seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


class Stage(Product):
    """One central, its agents, its neighbour. `close` ends every process."""

    def __init__(self, folder: Path, settings: dict[str, str], *, quick: bool = False) -> None:
        self._stack = ExitStack()
        services = Services(folder)
        self._stack.callback(services.close)
        own = {name: value for name, value in settings.items() if name != SHIM}
        super().__init__(services, "stage", tunnels=2, settings=own)
        self._with_shim = SHIM in settings
        self.admin_port = own_port()
        self.quick = quick
        self.people: dict[str, str] = {}
        """Tokens by name."""
        self.stubs: dict[str, Program] = {}
        self.stub_ports: dict[str, int] = {}
        self.kubeconfigs: dict[str, Path] = {}
        self.neighbour: Watched
        self.shim: shim.Shim | None = None

    def start(self) -> None:
        """Everything, in the order of an installation."""
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    def _start(self) -> None:
        self.initialise()
        identities.write(self)
        self._start_stubs()
        if self._with_shim:
            self.shim = shim.built(self.folder)
        self.start_central()
        for cluster, kubeconfig in self.kubeconfigs.items():
            self.start_agent(cluster, kubeconfig)
        self.world().save(self.world_file)
        self.start_neighbour()

    @property
    def world_file(self) -> Path:
        """What attackers read."""
        return self.folder / "world.json"

    def world(self) -> World:
        """What attackers are told."""
        return World(
            port=self.port,
            authority=str(self.authority),
            tokens=self.people,
            stub_port=self.stub_ports[HTTP2],
            folder=str(self.folder),
            quick=self.quick,
        )

    def initialise(self, *_size: int, **_sizes: int) -> None:
        """Database, keys, authorities, policy; then tokens and passwords of all."""
        rbac = self.folder / "rbac.yaml"
        rbac.write_text(yaml.dump(policy()))
        command = [*CENTRAL, "init", "-f", rbac, "--admin", "admin@example.com", "--password-stdin"]
        run(command, self.environment(), stdin=f"{PASSWORD}\n", seconds=120)
        self.authority.write_bytes(self.authorities().server_ca.certificate_pem)
        self.people = self.ask(self._enrol())
        self.tokens = [self.people["neighbour"]]

    async def _enrol(self) -> dict[str, str]:
        async with _started(self.database()) as database:
            ring = signing_keys.SigningKeys(
                signing_keys.SigningKey.from_pem(record.kid, record.private_pem)
                for record in await keys.list_keys(database)
            )
            known = {user.email: user for user in await users.list_users(database)}
            hashed = passwords.hash_password(PASSWORD)
            await users.set_password(database, known["victim@example.com"].id, hashed)
            known = {user.email: user for user in await users.list_users(database)}
            return {
                name: access_token.mint(
                    ring, user=known[f"{name}@example.com"], cluster=None, issuer=self.url,
                    lifetime=LIFETIME, now=time.time(),
                )[0]
                for name in (*PEOPLE, "admin")
            }  # fmt: skip

    def environment(self) -> dict[str, str]:
        """Central's settings: the defaults, but for addresses, folders and the attack's own."""
        extra = {} if self.shim is None else self.shim.environment()
        return super().environment() | {
            "MK8S_ADMIN_LISTEN": f"127.0.0.1:{self.admin_port}",
            "MK8S_LOG_FORMAT": "text",
            **extra,
        }

    def _start_stubs(self) -> None:
        certificates = make_certificates(self.folder / "certificates")
        for cluster, protocols in ((HTTP2, "h2,http/1.1"), (HTTP1, "http/1.1")):
            port = self.stub_ports[cluster] = own_port()
            command: list[str | Path] = [sys.executable, "-m", "tests.attacks.stub", str(port)]
            command += [certificates.certificate, certificates.key, protocols]
            self.stubs[cluster] = self.services.start(f"stub {cluster}", command, port=port)
            self.kubeconfigs[cluster] = write_kubeconfig(
                self.folder / f"kubeconfig-{cluster}", f"https://localhost:{port}",
                certificates.authority, "stub-token",
            )  # fmt: skip
        self._stub_authority = certificates.authority

    def start_neighbour(self) -> None:
        """The other user begins to ask."""
        command = [sys.executable, "-m", "tests.attacks.neighbour", str(self.world_file)]
        self.neighbour = Watched(self.services.start("neighbour", command))

    @contextmanager
    def attacker(self, name: str, seconds: float) -> Iterator[Program]:
        """An attack's process, for the length of the block at most."""
        command = [sys.executable, "-m", "tests.attacks.attacker"]
        command += [str(self.world_file), name, f"{seconds:g}"]
        with Program(f"attacker {name}", command, self.services.plain()) as program:
            program.wait_for_line("^begun", seconds=_WAIT)
            yield program

    # what there is to look at

    @property
    def running(self) -> bool:
        """Whether all of it is."""
        parts = (self.central, self.neighbour.program, *self.agents.values(), *self.stubs.values())
        return len(self.agents) == len(self.stubs) and all(part.running for part in parts)

    @property
    def pids(self) -> dict[str, int]:
        """Of the parts whose memory is measured."""
        return {
            "central": self.central._process.pid,
            "agent": self.agents[HTTP2]._process.pid,
            "agent of plain": self.agents[HTTP1]._process.pid,
        }

    def seen(self, cluster: str = HTTP2) -> dict[str, Any]:
        """What reached the stub's cluster: "count", and "last", the last requests."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self._stub_authority)
        connection = HTTPSConnection("localhost", self.stub_ports[cluster], context=context)
        connection.request("GET", "/stub/seen")
        told: dict[str, Any] = json.loads(connection.getresponse().read())
        connection.close()
        return told

    def reached(self, marker: str, cluster: str = HTTP2) -> list[dict[str, Any]]:
        """Of the last requests at a stub those with the marker in their target."""
        return [it for it in self.seen(cluster)["last"] if marker in it["target"]]

    @property
    def audit(self) -> Path:
        """The folder of both journals."""
        return self.folder / "central" / "audit"

    def rows(self, marker: str, *, strangers: bool | None = None) -> list[dict[str, Any]]:
        """The audit rows with the marker, of both journals or of one."""
        found = []
        for file in sorted(self.audit.glob("*.jsonl")):
            if strangers is not None and ("strangers" in file.name) != strangers:
                continue
            lines = file.read_bytes().splitlines()
            found += [json.loads(line) for line in lines if marker.encode() in line]
        return found

    def row(self, marker: str, stage: str = "ResponseComplete") -> dict[str, Any]:
        """The row with the marker; waits for it. {} without one."""
        found: list[dict[str, Any]] = []

        def come() -> bool:
            found[:] = [it for it in self.rows(marker) if it.get("stage") == stage]
            return bool(found)

        wait_until(come, 10)
        return found[-1] if found else {}

    def ready(self) -> tuple[int, str]:
        """What /readyz says on the admin address: status and text."""
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{self.admin_port}/readyz", timeout=10
            ) as answer:
                return answer.status, answer.read().decode()
        except HTTPError as error:
            return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    def work(self, question: Any) -> Any:
        """Runs a coroutine function on this central's database."""

        async def asked() -> Any:
            async with _started(self.database()) as database:
                return await question(database)

        return asyncio.run(asked())

    def close(self) -> None:
        """Ends every process."""
        self._stack.close()
