"""CPU of one request in central and in the agent: run `python -m tests.bench.bench_exchange`.

Everything of the data plane is real but for sockets and TLS: HTTP/2 connections of four clients,
the handler chain with RS256 tokens and a policy of 200 rules, the journal on a disk, a tunnel, the
agent, its connection to an API server. The two far ends are bytes made beforehand. Prints
microseconds for a request, the least of many rounds of 32 requests in flight; `--profile central`
or `--profile agent` prints where the calls go instead. Every head is a new one; with `--recurring`
200 users ask 200 things again and again, by blocks that need no table, as `relay` does.
"""

import argparse
import cProfile
import pstats
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hpack

from mk8s_agent.apiserver.pool import ApiServer, ApiServerHttp2
from mk8s_agent.tunnel.session import AgentTunnel, answer
from mk8s_agent.wire import hpack_codec
from mk8s_agent.wire.limits import BufferBudget
from mk8s_proxy.identity import access_token
from mk8s_proxy.identity.access_token import SigningKey, SigningKeys, TokenAuthenticator
from mk8s_proxy.identity.directory import UserDirectory
from mk8s_proxy.listener.http1 import ClientHttp1
from mk8s_proxy.tunnel.session import TunnelEvents, TunnelSession
from tests.bench import memories
from tests.bench.calls import Calls
from tests.support.agent_side import Credentials
from tests.support.front_door import Central
from tests.support.memory import (
    PREFACE,
    SETTINGS_ACK,
    Fields,
    HandTicks,
    MemoryTransport,
    data,
    head,
    settings,
    window_update,
)
from tests.support.tasks import LooseBackground

ISSUER = "https://central.example.com"
USERS = 200
ENDLESS = 1 << 40
CLIENTS = 4
IN_FLIGHT = 32
BODY = b"x" * 2048
AS_TABLE = (
    b"application/json;as=Table;v=v1;g=meta.k8s.io,"
    b"application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json"
)
SESSION = b"5b0e2cf6-7f8c-4f5e-9d0a-2f1f0f7ad6a1"


@dataclass(frozen=True)
class Load:
    """What the clients ask."""

    paths: int = 200
    """Objects of each client; more than an HPACK table holds, so that its blocks never recur."""
    recurring: bool = False
    http1: bool = False


NEW_HEADS = Load()
RECURRING = Load(recurring=True)
LOADS = {
    "new heads, known targets": Load(paths=60),
    "new targets": Load(paths=ENDLESS),
    "recurring heads": RECURRING,
    "new HTTP/1.1 heads": Load(paths=ENDLESS, http1=True),
}


@dataclass(frozen=True)
class User:
    """What a token says."""

    id: str
    email: str
    name: str = "Somebody"
    token_epoch: int = 0


def rbac() -> dict[str, Any]:
    """200 rules, one role for each user."""
    rule = {"name": "*", "verbs": ["get", "list"], "resources": ["configmaps", "pods"]}
    return {
        "roles": [
            {"name": f"role-{n}", "clusters": [rule | {"namespaces": [f"team-{n}"]}]}
            for n in range(USERS)
        ],
        "users": [{"email": f"user-{n}@example.com", "roles": [f"role-{n}"]} for n in range(USERS)],
    }


class Client:
    """One connection to central, and what its owner sends: literals once, then references."""

    def __init__(self, central: Central, number: int, tokens: list[str], load: Load) -> None:
        self.wire = MemoryTransport()
        self.connection: Any = central.accept(self.wire)
        self._encoder = hpack.Encoder()
        self._number = number
        self._tokens = tokens
        self._load = load
        self._position = 0

    def request(self) -> bytes:
        """A GET as client-go sends it."""
        self._position += 1
        return head(2 * self._position - 1, self._block(), end=True)

    def granted(self, size: int) -> bytes:
        """What the client says once it has read so many bytes."""
        return window_update(0, size)

    def request_pods(self, agent: bytes, limit: int, user: int) -> bytes:
        """`kubectl get pods` of a user, as kubectl sends it."""
        self._position += 1
        fields = self._fields(user, 0)
        target = b"/k8s/prod/api/v1/namespaces/team-%d/pods?limit=%d" % (user, limit)
        fields[2] = (b":path", target)
        fields[4] = (b"accept", AS_TABLE)
        fields[5] = (b"user-agent", agent)
        fields += [(b"kubectl-command", b"kubectl get"), (b"kubectl-session", SESSION)]
        return head(2 * self._position - 1, bytes(self._encoder.encode(fields)), end=True)

    def _block(self) -> bytes:
        if self._load.recurring:
            user = (self._position * CLIENTS + self._number) % USERS
            return hpack_codec.block(self._fields(user, user))
        return bytes(
            self._encoder.encode(self._fields(self._number, self._position % self._load.paths))
        )

    def _fields(self, user: int, path: int) -> Fields:
        target = b"/k8s/prod/api/v1/namespaces/team-%d/configmaps/settings-%d" % (user, path)
        return [
            (b":authority", b"central.example.com"),
            (b":method", b"GET"),
            (b":path", target),
            (b":scheme", b"https"),
            (b"accept", b"application/json, */*"),
            (b"user-agent", b"kubectl/v1.33.1 (linux/amd64) kubernetes/8adc0f0"),
            (b"authorization", b"Bearer " + self._tokens[user].encode()),
            (b"accept-encoding", b"gzip"),
        ]


class Http1Client(Client):
    """One connection that speaks HTTP/1.1, one request at a time."""

    def __init__(self, central: Central, number: int, tokens: list[str], load: Load) -> None:
        self.wire = MemoryTransport()
        self.connection: Any = ClientHttp1(
            self.wire, central.ticks, central.budget, config=central.config, source_ip="192.0.2.7"
        )
        self._number = number
        self._tokens = tokens
        self._load = load
        self._position = 0

    def request(self) -> bytes:
        """A GET of an object that nobody has asked for."""
        self._position += 1
        fields = self._fields(self._number, self._position % self._load.paths)
        lines = [b"GET %b HTTP/1.1" % fields[2][1], b"Host: central.example.com"]
        lines += [b"%b: %b" % field for field in fields[4:]]
        return b"\r\n".join(lines) + b"\r\n\r\n"

    def granted(self, size: int) -> bytes:
        """Nothing: TCP has its own window."""
        return b""


class Sides:
    """Counts CPU for central and for the agent, or profiles one of them, or counts its calls."""

    def __init__(self, profiled: str) -> None:
        self.seconds = {"central": 0.0, "agent": 0.0}
        self.profile = cProfile.Profile()
        self.calls: Calls | None = None
        """What counts central's calls while it is there."""
        self._profiled = profiled

    def run(self, side: str, work: Any, *arguments: Any) -> None:
        if self.calls is not None and side == "central":
            self.calls.run(work, *arguments)
            return
        if side == self._profiled:
            self.profile.runcall(work, *arguments)
            return
        began = time.process_time()
        work(*arguments)
        self.seconds[side] += time.process_time() - began


class Bench:
    """The four connections, and the bytes that the far ends send."""

    def __init__(self, folder: Path, profiled: str = "", load: Load = NEW_HEADS) -> None:
        self.sides = Sides(profiled)
        self.central = Central(folder, rbac=rbac())
        self.put_off: list[Callable[[], None]] = []
        """What the loop would call a little later."""
        self.central.ticks.call_later = lambda _seconds, call: self.put_off.append(call)
        self.agent_ticks = HandTicks()
        self.answers = hpack.Encoder()
        self.answers.header_table_size = 0
        self.answers.encode([])  # the update of the table's size is the agent's to strip
        self.tokens = self._users()
        self._connect()
        self._greet(load)
        self.next_back = 1

    def _users(self) -> list[str]:
        keys = SigningKeys([SigningKey.generate()])
        directory = UserDirectory()
        directory.replace({f"id-{n}": 0 for n in range(USERS)})
        authenticator = TokenAuthenticator(keys, issuer=ISSUER, valid_epochs=directory)
        chain: Any = self.central.chain
        chain._authenticator = authenticator
        chain._journal = chain.departures._journal = self.central.journal.real
        return [
            access_token.mint(
                keys,
                user=User(f"id-{n}", f"user-{n}@example.com"),
                cluster=None,
                issuer=ISSUER,
                lifetime=900,
                now=time.time(),
            )[0]
            for n in range(USERS)
        ]

    def _connect(self) -> None:
        central = self.central
        credentials: Any = Credentials()
        budget = BufferBudget()
        self.apiserver = ApiServer(credentials, self.agent_ticks, budget, answer, LooseBackground())
        self.back_wire = MemoryTransport()
        self.back = ApiServerHttp2(self.back_wire, self.apiserver)
        self.apiserver._connections.append(self.back)
        events = TunnelEvents(central.chain.refuse, lambda _: None, lambda _: None)
        self.near, self.far = MemoryTransport(), MemoryTransport()
        self.session = TunnelSession(
            self.near, central.ticks, central.budget, cluster_id="id-prod", events=events
        )
        self.tunnel = AgentTunnel(
            self.far,
            self.agent_ticks,
            budget,
            self.apiserver,
            on_control=lambda _: None,
            on_closed=lambda _: None,
        )
        self.session.cluster = "prod"
        central.registry.add(self.session, "1.0", "v1.31.0")

    def _greet(self, load: Load) -> None:
        central = self.central
        wide = {3: 250, 4: 1 << 20}
        room = window_update(0, 1 << 24)
        self.clients: list[Any]
        if load.http1:
            self.clients = [Http1Client(central, n, self.tokens, load) for n in range(IN_FLIGHT)]
        else:
            self.clients = [Client(central, n, self.tokens, load) for n in range(CLIENTS)]
            for client in self.clients:
                client.connection.receive(PREFACE + settings(wide) + SETTINGS_ACK + room)
        self.back.receive(settings(wide) + SETTINGS_ACK + room)
        for _ in range(5):
            self.turn()

    def turn(self) -> None:
        """One tick of both, and what they sent each other."""
        self.sides.run("central", self.central.ticks.turn)
        if piece := self.near.take():
            self.sides.run("agent", self.tunnel.receive, piece)
        self.sides.run("agent", self.agent_ticks.turn)
        if piece := self.far.take():
            self.sides.run("central", self.session.receive, piece)
        self.sides.run("central", self.central.ticks.turn)

    def response(self, audit_id: bytes = b"") -> bytes:
        """As kube-apiserver answers through net/http2: Huffman coded, no table."""
        stream, self.next_back = self.next_back, self.next_back + 2
        fields: Fields = [
            (b":status", b"200"),
            (b"audit-id", audit_id or b"0199f0a1-7c3e-7abc-8def-%012d" % stream),
            (b"cache-control", b"no-cache, private"),
            (b"content-type", b"application/json"),
            (b"x-kubernetes-pf-flowschema-uid", b"b7a0d2c4-f1e8-4d6f-8f0e-0a4f6d1f4c11"),
            (b"x-kubernetes-pf-prioritylevel-uid", b"4b1c2f0e-6f1d-4a55-8f0e-0a4f6d1f4c11"),
            (b"content-length", b"%d" % len(BODY)),
            (b"date", b"Sun, 22 Nov 2026 18:00:00 GMT"),
        ]
        block = self.answers.encode([(n, v, n != b":status") for n, v in fields])
        return head(stream, bytes(block)) + data(stream, BODY, end=True)

    def round(self) -> None:
        """32 requests in flight, all answered."""
        each = IN_FLIGHT // len(self.clients)
        for client in self.clients:
            requests = b"".join([client.request() for _ in range(each)])
            self.sides.run("central", client.connection.receive, requests)
        self.turn()
        self.back_wire.take()
        answers = b"".join([self.response() for _ in range(IN_FLIGHT)])
        self.sides.run("agent", self.back.receive, answers)
        self.sides.run("agent", self.agent_ticks.turn)
        for _ in range(3):
            self.turn()
        for client in self.clients:
            written = client.wire.take()
            assert written.count(BODY) == each, "an answer is missing"
            if grant := client.granted(len(written)):
                self.sides.run("central", client.connection.receive, grant)
        calls, self.put_off[:] = list(self.put_off), []
        for call in calls:
            self.sides.run("central", call)

    def count_calls(self, number: int, agent: bytes, limit: int, user: int = 0) -> Calls:
        """Central's calls for one `kubectl get pods` with a known token on a connection that is
        open, from its bytes to the answer's.

        Args:
            number: of the connection.
            agent: the user agent.
            limit: the end of the target.
            user: who asks.
        """
        client, calls = self.clients[number], Calls()
        self.sides.calls = calls
        self.sides.run(
            "central", client.connection.receive, client.request_pods(agent, limit, user)
        )
        self.turn()
        asked = self.back_wire.take()
        name_and_size = b"audit-id\x24"
        at = asked.index(name_and_size) + len(name_and_size)
        answer = self.response(asked[at : at + 36])  # the API server echoes it
        self.sides.run("agent", self.back.receive, answer)
        self.sides.run("agent", self.agent_ticks.turn)
        self.turn()
        self.sides.calls = None
        assert client.wire.take().count(BODY) == 1, "the answer is missing"
        return calls


def measure(bench: Bench, rounds: int) -> dict[str, float]:
    """Microseconds for a request on each side: the least of all rounds."""
    least = {"central": 1e9, "agent": 1e9}
    for _ in range(rounds):
        before = dict(bench.sides.seconds)
        bench.round()
        for side, began in before.items():
            least[side] = min(least[side], bench.sides.seconds[side] - began)
    return {side: seconds / IN_FLIGHT * 1e6 for side, seconds in least.items()}


def count_calls() -> dict[str, Calls]:
    """What one request goes through in central, by what is known of its head."""
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        bench.round()
        bench.count_calls(3, b"kubectl/v7", 499, 3)  # kubectl has been here, of somebody else
        return {
            "nothing is known but the token": bench.count_calls(0, b"kubectl/v9", 500),
            "the fields are known, not the target": bench.count_calls(0, b"kubectl/v9", 501),
            "the target is known, not the fields": bench.count_calls(1, b"kubectl/v8", 500),
            "both, by another connection": bench.count_calls(2, b"kubectl/v8", 500),
        }


def print_calls() -> None:
    """Prints what one request goes through in central."""
    counted = count_calls()
    for calls in counted.values():
        print(calls.report(), end="\n\n")
    print("one `kubectl get pods` in central, whose head is another than all before:")
    for known, calls in counted.items():
        print(f"  {known:38} {calls.total:4} calls in {len(calls.files)} files")


def compare_memories(turns: int) -> None:
    """Measures what each memory buys, prints it and writes it into `MEMORIES.md`."""
    with tempfile.TemporaryDirectory() as folder:
        loads = {
            name: memories.Comparison(Bench(Path(folder) / str(n), load=load), rounds=12)
            for n, (name, load) in enumerate(LOADS.items())
        }
        for _ in range(turns):
            for comparison in loads.values():
                comparison.turn(measure)
        figures = memories.table(loads)
    print(figures)
    memories.write(figures)


def main() -> None:
    """Prints the table, or a profile."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--profile", choices=("central", "agent"), default="")
    parser.add_argument("--recurring", action="store_true")
    parser.add_argument("--calls", action="store_true", help="count calls and files instead")
    parser.add_argument("--memories", type=int, default=0, metavar="TURNS", help="compare them")
    options = parser.parse_args()
    if options.memories:
        compare_memories(options.memories)
        return
    if options.calls:
        print_calls()
        return
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), options.profile, RECURRING if options.recurring else NEW_HEADS)
        figures = measure(bench, options.rounds)
    if options.profile:
        statistics = pstats.Stats(bench.sides.profile)
        statistics.sort_stats("tottime").print_stats(45)
        return
    for side, microseconds in figures.items():
        print(f"{side:8} {microseconds:6.1f} us for a request")
    print(f"{'sum':8} {sum(figures.values()):6.1f}")


if __name__ == "__main__":
    main()
