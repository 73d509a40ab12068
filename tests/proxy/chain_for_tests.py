"""A chain between a client and a cluster that only note what they are told; no socket, no loop.

`Passage.send` walks one request to the end of its tick; the answer is played back with
`Passage.answer`, as a tunnel would pass it on.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from mk8s_agent.wire import headers as internal
from mk8s_agent.wire import hpack_codec
from mk8s_agent.wire.stream import Fields, Stream, part
from mk8s_agent.wire.ticks import Ticks
from mk8s_proxy.audit.event import AuditEntry
from mk8s_proxy.audit.identifier import new_audit_id
from mk8s_proxy.audit.rows import encode_outcome
from mk8s_proxy.authz.policy import PolicySource, parse_rbac
from mk8s_proxy.authz.snapshot import PolicySnapshot
from mk8s_proxy.chain.addresses import Router
from mk8s_proxy.chain.handler_chain import HandlerChain
from mk8s_proxy.identity.identity import Identity, Unauthenticated
from mk8s_proxy.listener.exchange import Exchange
from mk8s_proxy.listener.http2 import UNREADABLE
from mk8s_proxy.listener.request_head import read_http2_head

UNREAD = UNREADABLE
"""A head for exchanges of which only the streams matter."""


class Client:
    """The client's connection: what it was sent."""

    def __init__(self) -> None:
        self.code = 0
        self.fields: Fields = []
        self.body = b""
        self.ended = False
        self.resets: list[int] = []

    def answer(self, stream: Stream, code: int, fields: Fields, body: bytes) -> None:
        """An answer of central's own."""
        assert not self.code, "two answers"
        self.code, self.fields, self.body, self.ended = code, fields, body, True

    def relay_head(
        self, stream: Stream, block: bytes, end: bool, fields: Fields | None = None
    ) -> None:
        """The cluster's head."""
        assert fields is not None
        assert not self.code, "two answers"
        assert hpack_codec.Decoder(0, 65536).decode(block) == fields
        self.code, self.fields, self.ended = int(fields[0][1]), fields[1:], end

    def send_data(self, stream: Stream, data: Any, size: int, end: bool) -> None:
        """A piece of the cluster's body."""
        assert self.code
        assert not self.ended, "bytes behind the end"
        assert len(data) == size
        self.body += bytes(data)
        self.ended = end

    def grant(self, stream: Stream, size: int) -> None:
        """The tunnel took bytes of the request."""

    def reset(self, stream: Stream, code: int) -> None:
        """The cluster's side ended."""
        self.resets.append(code)

    @property
    def document(self) -> dict[str, Any]:
        """The body, which is JSON."""
        found: dict[str, Any] = json.loads(self.body)
        return found


class Cluster:
    """A tunnel session: what it was asked to send."""

    available = True
    crowded = False

    def __init__(self) -> None:
        self.heads: list[dict[bytes, bytes]] = []
        self.back: Stream | None = None
        self.body = b""
        self.granted = 0
        self.resets: list[int] = []

    def prepare(self) -> Stream:
        """The half of a new stream."""
        self.back = Stream(self, 0, -1, 0)
        return self.back

    def open_prepared(self, stream: Stream, block: bytes) -> None:
        """The head leaves."""
        self.heads.append(dict(hpack_codec.Decoder(0, 65536).decode(block)))

    def discard_prepared(self, stream: Stream) -> None:
        """The head does not leave."""
        part(stream)

    def send_data(self, stream: Stream, data: Any, size: int, end: bool) -> None:
        """A piece of the client's body."""
        self.body += bytes(data)

    def grant(self, stream: Stream, size: int) -> None:
        """The client took bytes."""
        self.granted += size

    def reset(self, stream: Stream, code: int) -> None:
        """The client's side ended."""
        self.resets.append(code)

    @property
    def identity(self) -> dict[str, Any]:
        """As whom the last request was sent."""
        found: dict[str, Any] = json.loads(self.heads[-1][internal.IDENTITY])
        return found


class Notes:
    """The journal."""

    waiting = False
    has_noted = True

    def __init__(self) -> None:
        self.intents: list[AuditEntry] = []
        self.outcomes: list[AuditEntry] = []

    def intent(self, entry: AuditEntry) -> None:
        """A request is about to leave."""
        self.intents.append(entry)

    def outcome(self, entry: AuditEntry) -> None:
        """A request ended."""
        self.outcomes.append(entry)

    def commit(self) -> bool:
        """Everything is written."""
        return True

    def finish(self) -> bool:
        """Nothing waits."""
        return True


@dataclass
class People:
    """The authenticator: a token is a name."""

    known: dict[bytes, Identity] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)
    lost: set[str] = field(default_factory=set)
    """Groups that nobody has any more."""
    stamp: int = 0

    def authenticate(self, authorization: bytes) -> Identity:
        """Whose token it is."""
        name = authorization.removeprefix(b"Bearer ")
        if name not in self.known:
            email = f"{name.decode()}@example.com"
            identity = Identity(email, f"id-{email}", ("mk8s:users",), 1e12, "", "t", 1)
            self.known[name] = identity
        return self.known[name]

    def recheck(self, identity: Identity) -> Identity:
        """Whether the login still holds."""
        if identity.user in self.ended:
            raise Unauthenticated("TOKEN_REVOKED", "logged out")
        if self.lost.isdisjoint(identity.groups):
            return identity
        return replace(identity, groups=tuple(it for it in identity.groups if it not in self.lost))


@dataclass
class Policy:
    """The policy feed."""

    current: PolicySnapshot
    is_fresh: bool = True

    def fresh(self, now: float) -> bool:
        """Whether it may still decide."""
        return self.is_fresh


def snapshot(rbac: dict[str, Any], version: int = 1) -> PolicySnapshot:
    """The policy of an RBAC document, for the clusters prod and staging."""
    read = parse_rbac(rbac)
    users = {user.email: user.roles for user in read.users}
    return PolicySnapshot(
        PolicySource(list(read.roles), users, {"prod": {}, "staging": {}}), version
    )


class Passage:
    """One client, one cluster, and the handler chain between them."""

    def __init__(self, rbac: dict[str, Any]) -> None:
        self.policy = Policy(snapshot(rbac))
        self.people = People()
        self.journal = Notes()
        self.cluster = Cluster()
        self.managed: list[Exchange] = []
        queued: list[Callable[[], None]] = []
        self._queued = queued
        parts: dict[str, Any] = {
            "authenticator": self.people,
            "policies": self.policy,
            "journal": self.journal,
            "tunnels": self,
        }
        self.chain = HandlerChain(
            router=Router(), management=self.managed.append, ticks=Ticks(queued.append), **parts
        )
        self.client = Client()
        self.exchange: Exchange

    def pick(self, cluster: str) -> Any:
        """The tunnel registry's answer."""
        return self.cluster

    def full(self, cluster: str) -> bool:
        """Whether it has no room."""
        return False

    def send(
        self,
        who: str,
        method: str,
        path: str,
        *fields: tuple[bytes, bytes],
        body: bytes = b"",
        unfinished: bool = False,
    ) -> Client:
        """One request to the end of its tick; with `unfinished`, `go_on` sends its body."""
        head = [
            (b":method", method.encode()),
            (b":scheme", b"https"),
            (b":authority", b"central"),
            (b":path", path.encode()),
            (b"authorization", b"Bearer " + who.encode()),
            *fields,
        ]
        self.client = Client()
        self.cluster.body = b""
        front = Stream(self.client, 1, 65535, 65535)
        bodiless = not body and not unfinished
        front.remote_closed = bodiless
        entry = AuditEntry(new_audit_id(), 0.0)
        self.exchange = Exchange(front, read_http2_head(head, bodiless), entry)
        front.exchange = self.exchange
        self.chain.admit(self.exchange)
        self._run()
        if body:
            self.go_on(body)
        return self.client

    def go_on(self, piece: bytes, *, end: bool = True) -> None:
        """The client sends a piece of its body."""
        peer = self.exchange.front.peer
        if peer is not None:
            peer.connection.send_data(peer, piece, len(piece), end)

    def answer(
        self, code: int, content_type: str, *pieces: bytes, more: Fields | None = None
    ) -> Client:
        """The cluster's answer, in pieces."""
        assert self.cluster.back is not None
        fields = [(b":status", b"%d" % code), (b"content-type", content_type.encode())]
        fields += more or []
        peer = self.cluster.back.peer
        assert peer is not None
        peer.connection.relay_head(peer, hpack_codec.block(fields), not pieces, fields)
        for number, piece in enumerate(pieces, start=1):
            if self.cluster.back.peer is not None:
                peer.connection.send_data(peer, piece, len(piece), number == len(pieces))
        self._run()
        return self.client

    def finish(self) -> dict[str, Any]:
        """Ends the exchange; its last audit row."""
        self.chain.finish(self.exchange)
        row: dict[str, Any] = json.loads(encode_outcome(self.exchange.entry, 0.0))
        return row

    def _run(self) -> None:
        while self._queued:
            self._queued.pop(0)()
