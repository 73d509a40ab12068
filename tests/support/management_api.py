"""The management API as it runs in central: a real server, database, journal and policy feed.

Only the tunnels are made up, and the clocks are the test's. Tests make one with `Central.start`.
"""

import dataclasses
import datetime
import json
from pathlib import Path
from typing import Any

from aiohttp.test_utils import TestClient, TestServer
from multidict import CIMultiDict

from mk8s_agent.wire import pki
from mk8s_proxy.api.application import HEAD_LIMITS, create_application
from mk8s_proxy.api.audit_rows import Journal as ApiJournal
from mk8s_proxy.api.context import ApiContext
from mk8s_proxy.audit.journal import Journal
from mk8s_proxy.db.engine import Database
from mk8s_proxy.identity.access_token import SigningKey, SigningKeys, TokenAuthenticator
from mk8s_proxy.identity.authorities import Authorities, AuthorityKeeper
from mk8s_proxy.identity.ca import CertificateAuthority
from mk8s_proxy.identity.directory import UserDirectory
from mk8s_proxy.identity.passwords import hash_password
from mk8s_proxy.process.login_feed import LoginFeed
from mk8s_proxy.process.policy_feed import PolicyFeed
from mk8s_proxy.settings.model import Settings
from tests.support.seeded import enrol

KEY = SigningKey.generate()
NOW = 1_800_000_000.0
PUBLIC_URL = "https://central.example.com:8443"
PASSWORD = "correct horse battery"
FAST = 4
"""bcrypt's lowest cost."""
PASSWORD_HASH = hash_password(PASSWORD, rounds=FAST)
AUTHORITIES = Authorities(
    CertificateAuthority.create("server"), CertificateAuthority.create("agent")
)


@dataclasses.dataclass
class FakeTunnel:
    connected: bool = False
    agents: int = 0
    agent_version: str = ""
    kubernetes_version: str = ""
    last_seen: datetime.datetime | None = None


class FakeTunnels:
    def __init__(self) -> None:
        self.by_cluster: dict[str, FakeTunnel] = {}
        self.held: dict[str, list[str]] = {}
        self.outdated: set[str] = set()

    def status(self, cluster_id: str) -> FakeTunnel:
        return self.by_cluster.get(cluster_id, FakeTunnel())

    def serials(self, cluster_id: str) -> list[str]:
        return self.held.get(cluster_id, [])

    def serials_not_of(self, _issuer: str) -> set[str]:
        return self.outdated


@dataclasses.dataclass
class Answer:
    status: int
    headers: CIMultiDict[str]
    raw: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.raw)

    @property
    def message(self) -> str:
        return str(self.json["detail"])

    @property
    def field(self) -> str | None:
        """The first of the fields that a problem names."""
        return next((str(error["field"]) for error in self.json["errors"]), None)


class Central:
    """The API with an admin and a developer, both with PASSWORD."""

    def __init__(self, database: Database, folder: Path, settings: Settings) -> None:
        self.now = NOW
        self.ticks = 5000.0
        self.database = database
        self.journal_path = folder / "audit" / "journal.jsonl"
        self.journal = Journal(self.journal_path, max_bytes=1 << 20, keep=2, patience=60)
        self.keys = SigningKeys([KEY])
        self.directory = UserDirectory()
        self.tunnels = FakeTunnels()
        self.feed = PolicyFeed(database, settings.policy, settings.login)
        self.authenticator = TokenAuthenticator(
            self.keys,
            issuer=settings.public_url,
            valid_epochs=self.directory,
            clock=lambda: self.now,
        )
        self.logins = LoginFeed(
            database,
            self.authenticator,
            self.directory,
            clock=lambda: self.now,
            issuers=[issuer.name for issuer in settings.login.federation],
        )
        self.logins.follow(self.feed)
        self.context = ApiContext(
            settings=settings,
            database=database,
            keys=self.keys,
            authenticator=self.authenticator,
            policy_feed=self.feed,
            authorities=AuthorityKeeper(AUTHORITIES),
            journal=ApiJournal(self.journal, self.journal.commit),
            tunnels=self.tunnels,
            clock=lambda: self.now,
            monotonic=lambda: self.ticks,
            rounds=FAST,
        )
        self.client: TestClient[Any, Any] = TestClient(TestServer(create_application(self.context)))

    @classmethod
    async def start(cls, database: Database, folder: Path, **settings: Any) -> "Central":
        chosen = Settings(data_dir=folder, **({"public_url": PUBLIC_URL} | settings))
        central = cls(database, folder, chosen)
        await enrol(database, PASSWORD_HASH)
        await central.feed.start()
        await central.client.server.start_server(access_log=None, **HEAD_LIMITS)  # as app.py
        await central.client.start_server()
        return central

    @classmethod
    async def start_again(cls, database: Database, folder: Path) -> "Central":
        """The same installation in a new process: nothing is remembered but the database."""
        folder.mkdir()
        central = cls(database, folder, Settings(data_dir=folder, public_url=PUBLIC_URL))
        await central.feed.start()
        await central.client.server.start_server(access_log=None, **HEAD_LIMITS)
        await central.client.start_server()
        return central

    async def close(self) -> None:
        await self.client.close()
        self.journal.close()

    async def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        token: str | None = None,
        source: str = "192.0.2.1",
        headers: dict[str, str] | CIMultiDict[str] | None = None,
        **options: Any,
    ) -> Answer:
        sent = CIMultiDict(headers or {})
        sent["x-mk8s-source-ip"] = source
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        if body is not None:
            options["json"] = body
        async with self.client.request(method, path, headers=sent, **options) as response:
            return Answer(response.status, CIMultiDict(response.headers), await response.read())

    async def login(self, email: str = "dev@example.com", password: str = PASSWORD) -> Any:
        answer = await self.call("POST", "/auth/login", {"email": email, "password": password})
        assert answer.status == 200, answer.raw
        return answer.json

    async def token(self, email: str = "dev@example.com") -> str:
        return str((await self.login(email))["access_token"])

    async def admin(self) -> str:
        return await self.token("admin@example.com")

    async def add_cluster(self, name: str = "dev-1") -> Any:
        answer = await self.call("POST", "/clusters", {"name": name}, token=await self.admin())
        assert answer.status == 201, answer.raw
        return answer.json

    def rows(self) -> list[dict[str, Any]]:
        """What the journal holds."""
        return [json.loads(line) for line in self.journal_path.read_text().splitlines()]

    def last_row(self) -> dict[str, Any]:
        return self.rows()[-1]


def csr(cluster: str = "dev-1") -> str:
    return pki.csr(pki.new_key(), cluster).decode()
