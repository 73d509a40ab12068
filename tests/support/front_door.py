"""Central's data plane in memory: real connections, chain, journal and tunnels, no sockets.

The test plays both far ends: clients, and agents as the HTTP/2 servers that they are.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mk8s_agent.wire.limits import FRONT, BufferBudget
from mk8s_proxy.audit.event import AuditEntry
from mk8s_proxy.audit.journal import Journal
from mk8s_proxy.authz.policy import PolicySource, parse_rbac
from mk8s_proxy.authz.snapshot import PolicySnapshot
from mk8s_proxy.chain.addresses import Router
from mk8s_proxy.chain.handler_chain import HandlerChain
from mk8s_proxy.identity.identity import Identity, Unauthenticated
from mk8s_proxy.listener.exchange import Exchange
from mk8s_proxy.listener.http1 import ClientHttp1
from mk8s_proxy.listener.http2 import ClientConfig, ClientHttp2
from mk8s_proxy.tunnel.registry import TunnelRegistry
from mk8s_proxy.tunnel.session import TunnelEvents, TunnelSession
from tests.support.memory import (
    Fields,
    Frame,
    HandTicks,
    MemoryTransport,
    Peer,
    headers,
    settings,
)

RBAC: dict[str, Any] = {
    "roles": [
        {
            "name": "developer",
            "clusters": [
                {
                    "name": "*",
                    "namespaces": ["*"],
                    "verbs": ["get", "list", "watch", "create", "exec", "portforward", "logs"],
                    "resources": ["pods", "services", "configmaps"],
                },
                {"name": "*", "namespaces": ["*"], "verbs": ["proxy"], "resources": ["services"]},
            ],
        }
    ],
    "users": [{"email": "dev@example.com", "roles": ["developer"]}],
}
CLUSTERS = ("prod", "staging")
PODS = b"/api/v1/namespaces/shop/pods"


class Tokens:
    """The authenticator: the token `dev` is dev@example.com's, `dev.prod` is bound to prod."""

    def __init__(self) -> None:
        self.stamp = 0
        self.asked: list[bytes] = []
        self.broken = False
        self._known: dict[bytes, Identity] = {}

    def authenticate(self, authorization: bytes) -> Identity:
        self.asked.append(authorization)
        if self.broken:
            raise RuntimeError("the authenticator is broken")
        token = authorization.removeprefix(b"Bearer ")
        if token.startswith(b"bad"):
            raise Unauthenticated(
                "TOKEN_SIGNATURE", "the access token is not valid: run mk8s login"
            )
        if token not in self._known:
            name, _, cluster = token.decode().partition(".")
            self._known[token] = Identity(
                f"{name}@example.com", f"id-{name}", ("mk8s:users",), 1e12, cluster, "jti", 0
            )
        return self._known[token]

    def recheck(self, identity: Identity) -> Identity:
        return identity

    def vouches(self, identity: Identity, stamp: int) -> bool:
        return stamp == self.stamp and not self.broken


PATIENCE = 60.0
"""Seconds: a busy machine is not a disk that stalls."""


class ReplaceableJournal:
    """A journal whose methods a test can replace, which a compiled class does not allow."""

    def __init__(self, path: Path) -> None:
        self.real = Journal(path, max_bytes=1 << 30, keep=1, patience=PATIENCE)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def intent(self, entry: AuditEntry) -> None:
        self.real.intent(entry)

    def outcome(self, entry: AuditEntry) -> None:
        self.real.outcome(entry)

    def commit(self) -> bool:
        return self.real.commit()


@dataclass
class Policies:
    current: PolicySnapshot
    is_fresh: bool = True

    def fresh(self, now: float) -> bool:
        return self.is_fresh


@dataclass
class Deadlines:
    header_seconds: float = 15.0
    body_seconds: float = 30.0
    body_bytes: int = 8192
    idle_seconds: float = 300.0


def policy(rbac: dict[str, Any]) -> PolicySnapshot:
    read = parse_rbac(rbac)
    users = {user.email: user.roles for user in read.users}
    clusters: dict[str, dict[str, str]] = {name: {} for name in CLUSTERS}
    return PolicySnapshot(PolicySource(list(read.roles), users, clusters), 1)


@dataclass
class Agent:
    """An agent's end of a tunnel, played by the test."""

    session: TunnelSession
    transport: MemoryTransport
    peer: Peer
    unseen: list[Frame] = field(default_factory=list)

    def requests(self) -> list[Frame]:
        """What has come of requests since the last call; PINGs, SETTINGS and the like left out."""
        seen, self.unseen = self.unseen + self.peer.read(), []
        return [frame for frame in seen if frame.kind in ("HEADERS", "DATA", "RST_STREAM")]

    def request(self) -> tuple[int, dict[bytes, bytes]]:
        """The one request that has come."""
        [seen] = [frame for frame in self.requests() if frame.kind == "HEADERS"]
        return seen.stream, dict(seen.value)

    def send(self, *frames: bytes) -> list[Frame]:
        seen = self.peer.send(*frames)
        self.unseen += seen
        return seen


class Central:
    """One worker of central."""

    def __init__(self, folder: Path, *, rbac: dict[str, Any] = RBAC, domain: str = "") -> None:
        self.ticks = HandTicks()
        self.budget = BufferBudget()
        self.registry = TunnelRegistry()
        self.registry.follow({f"id-{name}": name for name in CLUSTERS}, frozenset())
        self.tokens = Tokens()
        self.policies = Policies(policy(rbac))
        self.path = folder / "audit" / "journal.jsonl"
        self.journal: Any = ReplaceableJournal(self.path)
        self.managed: list[Exchange] = []
        self.drained: list[TunnelSession] = []
        self.closed: list[TunnelSession] = []
        parts: dict[str, Any] = {"authenticator": self.tokens}
        self.chain = HandlerChain(
            router=Router(domain),
            policies=self.policies,
            journal=self.journal,
            tunnels=self.registry,
            management=self.managed.append,
            ticks=self.ticks,
            **parts,
        )
        self.deadlines = Deadlines()
        self.config = ClientConfig(self.chain, self.deadlines)

    def agent(self, cluster: str = "prod", *, instance: str = "a1") -> Agent:
        """A registered tunnel of `cluster`."""
        transport = MemoryTransport()
        events = TunnelEvents(self.chain.refuse, self.drained.append, self._closed)
        session = TunnelSession(
            transport, self.ticks, self.budget, cluster_id=f"id-{cluster}", events=events
        )
        peer = Peer(session, transport, self.ticks, server=True)
        peer.send(settings({1: 0, 3: 20_000, 4: 256 << 10}))
        peer.send(headers(1, [(b":status", b"200")]))
        session.cluster, session.instance, session.registered = cluster, instance, True
        self.registry.add(session, "1.0", "v1.31.0")
        return Agent(session, transport, peer)

    def _closed(self, session: TunnelSession) -> None:
        self.registry.remove(session)
        self.closed.append(session)

    def accept(self, transport: MemoryTransport, limits: Any = FRONT) -> ClientHttp2:
        """A client's HTTP/2 connection."""
        return ClientHttp2(
            transport,
            self.ticks,
            limits,
            self.budget,
            config=self.config,
            source_ip="192.0.2.7",
        )

    def http2(self, limits: Any = FRONT) -> "Http2Person":
        return Http2Person(self, limits)

    def http1(self) -> "Http1Person":
        return Http1Person(self)

    def rows(self) -> list[dict[str, Any]]:
        """The journal as it stands on disk."""
        self.ticks.turn()
        return [json.loads(line) for line in self.path.read_text().splitlines()]

    def outcomes(self) -> list[dict[str, Any]]:
        return [row for row in self.rows() if row["stage"] == "ResponseComplete"]


def refusal_of(row: dict[str, Any]) -> str:
    """The reason code of a row."""
    return str(row["annotations"].get("mk8s.io/refusal", ""))


@dataclass
class Answer:
    """What a client got for one request."""

    code: int = 0
    fields: dict[bytes, bytes] = field(default_factory=dict)
    body: bytes = b""
    ended: bool = False
    reset: int | None = None
    heads: int = 0

    @property
    def status(self) -> dict[str, Any]:
        """The body as a metav1.Status."""
        document: dict[str, Any] = json.loads(self.body)
        assert document["kind"] == "Status"
        assert document["code"] == self.code
        return document


class Http2Person:
    """kubectl on HTTP/2."""

    def __init__(self, central: Central, limits: Any) -> None:
        self.transport = MemoryTransport()
        self.connection = central.accept(self.transport, limits)
        self.peer = Peer(self.connection, self.transport, central.ticks)
        self.peer.greet({4: 1 << 20})
        self.answers: dict[int, Answer] = {}
        self.frames: list[Frame] = []
        self.next = 1

    def send(self, *frames: bytes) -> list[Frame]:
        self.connection.receive(b"".join(frames))
        return self.read()

    def read(self) -> list[Frame]:
        frames = self.peer.read()
        self.frames += frames
        for seen in frames:
            self._take(seen)
        return frames

    def _take(self, seen: Frame) -> None:
        if seen.kind not in ("HEADERS", "DATA", "RST_STREAM"):
            return
        answer = self.answers.setdefault(seen.stream, Answer())
        if seen.kind == "RST_STREAM":
            answer.reset = seen.value
            return
        assert not answer.ended, "frames behind the end"
        answer.ended = seen.end
        if seen.kind == "DATA":
            assert answer.heads, "DATA before HEADERS"
            answer.body += seen.value
        else:
            answer.heads += 1
            assert answer.heads == 1, "two heads"
            answer.code, answer.fields = int(seen.value[0][1]), dict(seen.value[1:])

    def ask(
        self,
        path: bytes = b"/k8s/prod" + PODS,
        *more: tuple[bytes, bytes],
        method: bytes = b"GET",
        token: bytes = b"dev",
        end: bool = True,
    ) -> int:
        """Sends a request; gives its stream."""
        number, self.next = self.next, self.next + 2
        head: Fields = [
            (b":method", method),
            (b":scheme", b"https"),
            (b":authority", b"central.example.com"),
            (b":path", path),
        ]
        if token:
            head.append((b"authorization", b"Bearer " + token))
        self.send(headers(number, [*head, *more], end=end))
        return number

    def answer(self, number: int) -> Answer:
        self.read()
        return self.answers.setdefault(number, Answer())

    def get(self, *args: Any, **options: Any) -> Answer:
        """A request and what came at once."""
        return self.answer(self.ask(*args, **options))


class Http1Person:
    """A client on HTTP/1.1."""

    def __init__(self, central: Central) -> None:
        self.transport = MemoryTransport()
        self.ticks = central.ticks
        self.connection = ClientHttp1(
            self.transport,
            central.ticks,
            central.budget,
            config=central.config,
            source_ip="192.0.2.8",
        )

    def send(self, data: bytes) -> bytes:
        """Bytes in; what came back by the end of the tick."""
        self.connection.receive(data)
        return self.read()

    def read(self) -> bytes:
        self.ticks.turn()
        return self.transport.take()

    def ask(
        self,
        path: bytes = b"/k8s/prod" + PODS,
        *lines: bytes,
        method: bytes = b"GET",
        token: bytes = b"dev",
    ) -> bytes:
        return self.send(request(path, *lines, method=method, token=token))


def request(
    path: bytes = b"/k8s/prod" + PODS,
    *lines: bytes,
    method: bytes = b"GET",
    token: bytes = b"dev",
) -> bytes:
    """The head of an HTTP/1.1 request."""
    credential = [b"Authorization: Bearer " + token] if token else []
    head = [method + b" " + path + b" HTTP/1.1", b"Host: central.example.com", *credential, *lines]
    return b"\r\n".join(head) + b"\r\n\r\n"


def eventually(check: Callable[[], bool], seconds: float = 10.0) -> bool:
    """For tests with threads or sockets: whether `check` becomes true."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if check():
            return True
        time.sleep(0.01)
    return check()
