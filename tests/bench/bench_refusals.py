"""What a refusal costs central at its largest input: run `python -m tests.bench.bench_refusals`.

A refusal must be cheaper than an admission, or strangers could keep everybody out. Each way of
being refused is walked by itself, on HTTP/2 and on HTTP/1.1, by a connection in memory (no TLS):
head, chain, answer, row. Prints microseconds of processor time for a request, the least of many
rounds, and marks what is over the budget. HTTP/2 heads come as a peer that saves bytes sends them:
Huffman coded, and from the decoder's table where an earlier one on the connection put them.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import hpack

from mk8s_proxy.audit.journal import Journal
from mk8s_proxy.audit.strangers import Strangers
from mk8s_proxy.identity.access_token import SigningKey, SigningKeys, TokenAuthenticator, mint
from mk8s_proxy.identity.directory import UserDirectory
from mk8s_proxy.listener.http1 import ClientHttp1
from tests.bench.bench_exchange import ISSUER, User, rbac
from tests.support.front_door import Central
from tests.support.memory import (
    PREFACE,
    SETTINGS_ACK,
    MemoryTransport,
    head,
    settings,
    window_update,
)

BUDGET = 150.0
"""Microseconds."""
REQUESTS = 20
LONG = 8100
"""Bytes of the longest target."""
PODS = b"/k8s/prod/api/v1/namespaces/other/pods"
QUERIES = (b"&", b";", b"%41", b"%", b"a=&", b"token=&", b"%74oken=b&", b"a://b@", b"eyJ", b"#")


class Case(NamedTuple):
    """One way of being refused."""

    name: str
    target: bytes = PODS
    more: tuple[tuple[bytes, bytes], ...] = ()
    credential: str = "good"
    """good, bad or none."""
    host: bytes = b"central.example.com"
    only: str = ""
    """h1 or h2, where the other cannot carry it."""


def long_query(piece: bytes) -> bytes:
    """A target as long as can be, of one piece."""
    return PODS + b"?%" + piece * ((LONG - len(PODS)) // len(piece))


def cases() -> Iterator[Case]:
    """Every refusal of the way to a cluster, with the input that costs the most."""
    for piece in QUERIES:
        yield Case(f"401 no token, {piece.decode()}...", long_query(piece), credential="none")
        yield Case(f"401 bad token, {piece.decode()}...", long_query(piece), credential="bad")
        yield Case(f"403, {piece.decode()}...", long_query(piece))
    yield Case("401 no token, short", credential="none")
    yield Case("401 bad token, short", credential="bad")
    yield Case("403 short")
    yield Case("404 no such cluster", b"/api/v1/pods?" + b"a" * LONG)
    yield Case("400 encoded slash", PODS + b"/%2f" + b"a" * LONG)
    yield Case("400 dot segments", b"/k8s/prod" + b"/.." * (LONG // 3))
    yield Case("400 empty segments", b"/k8s/prod" + b"/" * LONG)
    yield Case("400 long escapes", b"/k8s/prod/" + b"%41" * (LONG // 3))
    yield Case("wrong host", long_query(b"a"), host=b"other.example.org:99999")
    yield Case("431 head of 64 KiB", more=tuple((b"x-%d" % n, b"a" * 800) for n in range(80)))
    yield Case("431 head over 64 KiB, encoded", more=((b"x", b"\xff" * 32768),))
    yield Case("431 fields", more=tuple((b"x-%d" % n, b"a") for n in range(220)))
    yield Case("431 fields of one byte", more=((b"age", b""),) * 20000, only="h2")
    yield Case("many fields, no token", credential="none",
               more=tuple((b"x-%d" % n, b"a" * 200) for n in range(90)))  # fmt: skip
    yield Case("many fields, bad token", credential="bad",
               more=tuple((b"x-%d" % n, b"a" * 200) for n in range(90)))  # fmt: skip
    yield Case("many fields, 403", more=tuple((b"x-%d" % n, b"a" * 200) for n in range(90)))
    yield Case("impersonation headers", more=tuple(
        (b"impersonate-group", b"g" * 200) for _ in range(90)))  # fmt: skip
    yield Case("user agent of 32 KiB", credential="none", more=((b"user-agent", b"\xff" * 32768),))
    yield Case("two lengths", more=((b"content-length", b"1"), (b"content-length", b"2")))
    yield Case("CL and TE", more=(
        (b"content-length", b"5"), (b"transfer-encoding", b"chunked")), only="h1")  # fmt: skip
    yield Case("TE twice", more=((b"transfer-encoding", b"chunked, chunked"),), only="h1")
    yield Case("TE on HTTP/2", more=((b"transfer-encoding", b"chunked"),), only="h2")
    yield Case("connection header", more=((b"connection", b"close"),), only="h2")


Waiting = tuple[Callable[[bytes], object], bytes, MemoryTransport]
"""A connection, the request that it gets next, and where the answer comes."""


class Bench:
    """Central in memory, with a journal of strangers as in earnest."""

    def __init__(self, folder: Path) -> None:
        self.central = Central(folder, rbac=rbac())
        self.central.journal.real.close()
        self.strangers = Strangers(
            folder / "s" / "s.jsonl", max_bytes=1 << 24, keep=1, rows_per_second=1 << 30
        )
        self.central.journal.real = Journal(
            folder / "j" / "j.jsonl", max_bytes=1 << 28, keep=1, strangers=self.strangers
        )
        keys = SigningKeys([SigningKey.generate()])
        directory = UserDirectory()
        directory.replace({"id-1": 0})
        chain = vars(self.central)["chain"]
        chain._authenticator = TokenAuthenticator(keys, issuer=ISSUER, valid_epochs=directory)
        self.token = mint(
            keys, user=User("id-1", "user-1@example.com"), cluster=None, issuer=ISSUER,
            lifetime=900, now=time.time(),
        )[0].encode()  # fmt: skip
        self._serial = 0
        self._encoded: dict[str, list[bytes]] = {}

    def fields(self, case: Case) -> list[tuple[bytes, bytes]]:
        """Everything but pseudo headers; a bad token is another one each time."""
        found = [(b"user-agent", b"x")] if b"user-agent" not in dict(case.more) else []
        if case.credential != "none":
            token = self.token
            if case.credential == "bad":
                self._serial += 1
                token = token[:-8] + b"%08d" % self._serial
            found.append((b"authorization", b"Bearer " + token))
        return [*found, *case.more]

    def http2(self, case: Case) -> float:
        """Microseconds for a request: the second on its connection, unless the first ends that."""
        first = self._http2(case, 1)
        second = self._http2(case, 2)
        return self._timed(second) if second else self._timed(first)

    def _http2(self, case: Case, number: int) -> list[Waiting]:
        """Connections that have had all requests but the last, and that; none if one has ended."""
        waiting = []
        for _ in range(REQUESTS):
            wire = MemoryTransport()
            connection = self.central.accept(wire)
            connection.receive(PREFACE + settings() + SETTINGS_ACK + window_update(0, 1 << 24))
            requests = self._requests(case)[:number]
            for request in requests[:-1]:
                connection.receive(request)
            self.central.ticks.turn()
            wire.take()
            if connection.draining:
                return []
            waiting.append((connection.receive, requests[-1], wire))
        return waiting

    def _requests(self, case: Case) -> list[bytes]:
        """The first two requests of a connection."""
        known = self._encoded.get(case.name)
        if known is not None:
            return known
        pseudo = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", case.host),
                  (b":path", case.target)]  # fmt: skip
        encoder = hpack.Encoder()
        blocks = [bytes(encoder.encode([*pseudo, *self.fields(case)])) for _ in range(2)]
        requests = [head(2 * n + 1, block, end=True, pieces=1 + len(block) // 16000)
                    for n, block in enumerate(blocks)]  # fmt: skip
        if case.credential != "bad":
            self._encoded[case.name] = requests
        return requests

    def http1(self, case: Case) -> float:
        """Microseconds for a request, each on a connection of its own."""
        waiting: list[Waiting] = []
        for _ in range(REQUESTS):
            wire = MemoryTransport()
            connection = ClientHttp1(
                wire, self.central.ticks, self.central.budget,
                config=self.central.config, source_ip="192.0.2.7",
            )  # fmt: skip
            lines = [b"%b: %b" % field for field in [(b"host", case.host), *self.fields(case)]]
            request = b"\r\n".join([b"GET %b HTTP/1.1" % case.target, *lines, b"", b""])
            waiting.append((connection.receive, request, wire))
        return self._timed(waiting)

    def _timed(self, waiting: list[Waiting]) -> float:
        began = time.process_time()
        for receive, request, _ in waiting:
            receive(request)
        self.central.ticks.turn()
        spent = time.process_time() - began
        for *_, wire in waiting:
            assert b'"kind":"Status"' in wire.take(), "not answered"
        self.strangers.write(time.time())
        return spent / len(waiting) * 1e6


def main() -> None:
    """Prints the table; the exit code is 1 if something is over the budget."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="refusals with this in their name")
    options = parser.parse_args()
    worst = 0.0
    print(f"{'refusal':34} {'h2':>8} {'h1':>8}  us, budget {BUDGET:.0f}")
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        for case in (case for case in cases() if options.only in case.name):
            figures = {}
            for protocol, walk in (("h2", bench.http2), ("h1", bench.http1)):
                if case.only in ("", protocol):
                    figures[protocol] = min(walk(case) for _ in range(options.rounds))
            worst = max(worst, *figures.values())
            shown = [f"{figures[p]:8.1f}" if p in figures else f"{'-':>8}" for p in ("h2", "h1")]
            over = "  OVER" if max(figures.values()) > BUDGET else ""
            print(f"{case.name:34} {shown[0]} {shown[1]}{over}")
    raise SystemExit(worst > BUDGET)


if __name__ == "__main__":
    main()
