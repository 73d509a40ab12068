"""The whole way of a request in memory: client, central, agent, API server, in any interleaving.

All four connections are the real ones; only the two far ends are played, by `Player`, which keeps
the books on windows and bodies: what it was sent beyond a window is an error at once.
"""

import random
from pathlib import Path
from typing import Any

from mk8s_agent.apiserver.pool import ApiServer, ApiServerHttp2
from mk8s_agent.tunnel.session import AgentTunnel, answer
from mk8s_agent.wire.limits import BufferBudget
from mk8s_proxy.tunnel.session import TunnelEvents, TunnelSession
from tests.support.agent_side import Credentials
from tests.support.front_door import PODS, Central
from tests.support.memory import (
    CANCEL,
    INTERNAL_ERROR,
    PREFACE,
    SETTINGS_ACK,
    Fields,
    Frame,
    FrameReader,
    HandTicks,
    MemoryTransport,
    data,
    headers,
    rst_stream,
    settings,
    window_update,
)
from tests.support.tasks import Unreachable

WINDOW = 65_535


def canary(number: int, kind: str, size: int) -> bytes:
    """The body of one request or answer; no other one has any part of it."""
    return random.Random(f"{kind}{number}").randbytes(size)


class Half:
    """What a player sends and gets on one stream."""

    def __init__(self, number: int) -> None:
        self.number = number
        """Of the request, the same at both far ends."""
        self.body = b""
        self.sent = 0
        self.send_window = 0
        self.head_sent = False
        self.done = False
        """The end, or a reset, was sent."""
        self.got = b""
        self.credit = WINDOW
        self.head: Fields | None = None
        self.ended = False
        self.reset = False


class Player:
    """A far end: of the client's connection, or of the API server's."""

    def __init__(
        self, connection: Any, transport: MemoryTransport, ticks: HandTicks, *, server: bool
    ) -> None:
        self.connection = connection
        self.transport = transport
        self.ticks = ticks
        self.reader = FrameReader(preface=server)
        self.halves: dict[int, Half] = {}
        self.credit = WINDOW
        self.send_window = WINDOW
        self.initial = WINDOW
        self.on_head: Any = None
        self.write((b"" if server else PREFACE) + settings({3: 250}) + SETTINGS_ACK)
        self.read()

    def write(self, wire: bytes) -> None:
        self.connection.receive(wire)

    def read(self) -> None:
        for seen in self.reader.feed(self.transport.take()):
            self._take(seen)

    def _take(self, seen: Frame) -> None:
        assert seen.kind != "GOAWAY", seen
        half = self.halves.get(seen.stream)
        match seen.kind:
            case "SETTINGS":
                self.initial = seen.value.get(4, self.initial)
            case "WINDOW_UPDATE":
                if half is not None:
                    half.send_window += seen.value
                elif seen.stream == 0:
                    self.send_window += seen.value
            case "HEADERS":
                if half is None:
                    half = self.on_head(seen)
                assert half.head is None, "two heads"
                half.head, half.ended = seen.value, seen.end
            case "DATA":
                self._take_body(half, seen)
            case "RST_STREAM":
                assert half is not None
                half.reset = half.done = True

    def _take_body(self, half: Half | None, seen: Frame) -> None:
        assert half is not None
        assert half.head is not None, "DATA before HEADERS"
        assert not half.ended, "DATA behind the end"
        self.credit -= len(seen.value)
        half.credit -= len(seen.value)
        assert self.credit >= 0, "the connection's window was exceeded"
        assert half.credit >= 0, "a stream's window was exceeded"
        half.got += seen.value
        half.ended = seen.end

    def grant(self, stream: int, size: int) -> None:
        if stream:
            self.halves[stream].credit += size
        else:
            self.credit += size
        self.write(window_update(stream, size))

    def send_body(self, stream: int, most: int) -> None:
        """Sends the next piece, as much as the windows take."""
        half = self.halves[stream]
        left = len(half.body) - half.sent
        size = min(left, most, half.send_window, self.send_window, 16_000)
        if size == 0 and left:
            return
        half.send_window -= size
        self.send_window -= size
        piece = half.body[half.sent : half.sent + size]
        half.sent += size
        half.done = half.sent == len(half.body)
        self.write(data(stream, piece, end=half.done))

    def send_reset(self, stream: int, code: int) -> None:
        self.halves[stream].done = self.halves[stream].reset = True
        self.write(rst_stream(stream, code))

    def active(self) -> list[int]:
        return [n for n, half in self.halves.items() if half.head_sent and not half.done]


class Pipe:
    """The tunnel's socket: bytes that are on their way between central and the agent."""

    def __init__(self, source: MemoryTransport, target: Any) -> None:
        self.source, self.target = source, target
        self.bytes = b""

    def move(self, most: int | None = None) -> bool:
        """Delivers up to `most` bytes in one read; whether anything moved."""
        self.bytes += self.source.take()
        piece, self.bytes = self.bytes[:most], self.bytes[len(self.bytes[:most]) :]
        if piece:
            self.target.receive(piece)
        return bool(piece)


class Relay:
    """Client, central, agent and API server."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.random = random.Random(seed)
        self.central = Central(folder)
        self.ticks = self.central.ticks
        self.agent_budget = BufferBudget()
        self._build_tunnel()
        transport = MemoryTransport()
        self.front = self.central.accept(transport)
        self.client = Player(self.front, transport, self.ticks, server=False)
        self.sizes: dict[int, tuple[int, int]] = {}
        self.next = 1
        self.settle()

    def _build_tunnel(self) -> None:
        credentials: Any = Credentials()
        self.apiserver = ApiServer(
            credentials, self.ticks, self.agent_budget, answer, Unreachable()
        )
        api_transport = MemoryTransport()
        self.upstream = ApiServerHttp2(api_transport, self.apiserver)
        self.apiserver._connections.append(self.upstream)
        self.api = Player(self.upstream, api_transport, self.ticks, server=True)
        self.api.on_head = self._request_came
        events = TunnelEvents(self.central.chain.refuse, lambda _: None, lambda _: None)
        near, far = MemoryTransport(), MemoryTransport()
        self.session = TunnelSession(
            near, self.ticks, self.central.budget, cluster_id="id-prod", events=events
        )
        self.tunnel = AgentTunnel(
            far,
            self.ticks,
            self.agent_budget,
            self.apiserver,
            on_control=lambda _: None,
            on_closed=lambda _: None,
        )
        self.down, self.up = Pipe(near, self.tunnel), Pipe(far, self.session)
        self.transports = [near, far]
        self.sockets = {id(near): self.session, id(far): self.tunnel}
        self.session.cluster = "prod"
        self.central.registry.add(self.session, "1.0", "v1.31.0")

    def _request_came(self, seen: Frame) -> Half:
        path = dict(seen.value)[b":path"]
        half = self.api.halves[seen.stream] = Half(int(path.rpartition(b"/p")[2]))
        half.send_window = self.api.initial
        return half

    # -- moves

    def settle(self) -> None:
        """Until nothing moves any more."""
        for _ in range(10_000):
            self.ticks.turn()
            self.client.read()
            self.api.read()
            if not (self.down.move() | self.up.move()):
                return
        raise AssertionError("the relay never comes to rest")

    def open_request(self, request_size: int, answer_size: int) -> None:
        number, self.next = self.next, self.next + 2
        self.sizes[number] = request_size, answer_size
        half = self.client.halves[number] = Half(number)
        half.body = canary(number, "request", request_size)
        half.send_window, half.head_sent = self.client.initial, True
        half.done = request_size == 0
        head = [
            (b":method", b"POST" if request_size else b"GET"),
            (b":scheme", b"https"),
            (b":authority", b"central.example.com"),
            (b":path", b"/k8s/prod" + PODS + b"/p%d" % number),
            (b"authorization", b"Bearer dev"),
        ]
        self.client.write(headers(number, head, end=half.done))

    def begin_answer(self, stream: int) -> None:
        half = self.api.halves[stream]
        half.head_sent = True
        half.body = canary(half.number, "answer", self.sizes[half.number][1])
        half.done = not half.body
        self.api.write(headers(stream, [(b":status", b"201")], end=half.done))

    def unanswered(self) -> list[int]:
        return [n for n, half in self.api.halves.items() if not half.head_sent and not half.done]

    def step(self) -> None:
        """One random thing happens somewhere."""
        dice = self.random
        move = dice.choice(MOVES)
        getattr(self, f"_{move}")(dice)

    def _open(self, dice: random.Random) -> None:
        if len(self.client.halves) < 25:
            self.open_request(dice.choice(SIZES), dice.choice(SIZES))

    def _upload(self, dice: random.Random) -> None:
        if active := self.client.active():
            self.client.send_body(dice.choice(active), dice.randint(1, 20_000))

    def _answer(self, dice: random.Random) -> None:
        if waiting := self.unanswered():
            self.begin_answer(dice.choice(waiting))

    def _download(self, dice: random.Random) -> None:
        if active := self.api.active():
            self.api.send_body(dice.choice(active), dice.randint(1, 20_000))

    def _grant(self, dice: random.Random) -> None:
        player = dice.choice((self.client, self.api))
        live = [n for n, half in player.halves.items() if not half.reset and not half.ended]
        player.grant(dice.choice([0, *live]), dice.randint(1, 60_000))

    def _cancel(self, dice: random.Random) -> None:
        live = [n for n, half in self.client.halves.items() if not (half.ended or half.reset)]
        if live and dice.random() < 0.3:
            self.client.send_reset(dice.choice(live), dice.choice((0, CANCEL)))

    def _break(self, dice: random.Random) -> None:
        live = [n for n, half in self.api.halves.items() if not half.done]
        if live and dice.random() < 0.3:
            self.api.send_reset(dice.choice(live), INTERNAL_ERROR)

    def _stall(self, dice: random.Random) -> None:
        dice.choice(self.transports).full = True

    def _resume(self, dice: random.Random) -> None:
        for transport in self.transports:
            transport.full = False
            self.sockets[id(transport)].writable()

    def _tunnel(self, dice: random.Random) -> None:
        dice.choice((self.down, self.up)).move(dice.choice((1, 7, 100, 5000, 100_000)))

    def _tick(self, dice: random.Random) -> None:
        self.ticks.turn()
        self.client.read()
        self.api.read()

    def finish(self) -> None:
        """Everything that was not broken off comes to its end."""
        self._resume(self.random)
        for _ in range(200):
            self.settle()
            for stream in self.unanswered():
                self.begin_answer(stream)
            for player in (self.client, self.api):
                for stream in player.active():
                    player.send_body(stream, 16_000)
                for stream, half in player.halves.items():
                    if not (half.reset or half.ended) and half.credit < WINDOW:
                        player.grant(stream, 100_000)
                if player.credit < 10 * WINDOW:
                    player.grant(0, 1 << 20)
            if self._at_rest():
                self.settle()
                return
        raise AssertionError("some exchange never ended")

    def _at_rest(self) -> bool:
        halves = [*self.client.halves.values(), *self.api.halves.values()]
        over = all(half.done and (half.ended or half.reset) for half in halves)
        return over and not self.down.bytes and not self.up.bytes


MOVES = [
    "open", "upload", "upload", "upload", "answer", "answer", "download", "download", "download",
    "grant", "grant", "cancel", "break", "stall", "resume", "resume", "tunnel", "tunnel", "tunnel",
    "tunnel", "tick", "tick", "tick",
]  # fmt: skip
SIZES = [0, 1, 300, 5000, 40_000, 200_000]
