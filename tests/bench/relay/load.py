"""The load generator: a process that `generator` starts and leads by JSON lines on its stdin.

Each command is answered by one line: {"did": ...} with results, or {"error": ...}. Commands:

    open        connections to one server: TLS and protocol settled, nothing asked yet
    run         a closed loop of GETs for so many requests or seconds, or until the next line
    hold        one GET per stream whose answer never ends (watches); returns when all have begun
    stall       one GET per stream, then nothing is read any more
    resume      reads what `stall` left, to the end
    handshakes  one after the other: connect, shake hands, one GET, close
    close       closes all connections

Every status and every body's length is checked; any other answer ends the run with an error.

Its own CPU is in each sample ("generator_us" for a request): about 10 us with 32 requests in flight
over HTTP/2, 35 us one by one or over HTTP/1.1 (TLS, a system call each way and some 40 lines of
Python). It shares the CPUs with what it measures, so rates and
latencies include it, for every target alike; CPU figures of the targets do not.
"""

import json
import os
import sys
from array import array
from pathlib import Path
from time import perf_counter
from typing import Any

from mk8s_agent.wire import hpack_codec
from tests.bench.relay.figures import percentile
from tests.bench.relay.load_http1 import Http1Load
from tests.bench.relay.load_http2 import Http2Load
from tests.bench.relay.load_sockets import LoadError, Pump, TlsSocket, client_context

_STDIN = 0
_PATIENCE = 30.0
_FOREVER = 1 << 40
Connection = Http1Load | Http2Load


def compose(protocol: str, name: str, requests: list[list[str]]) -> list[bytes]:
    """A whole head for each (path, token), as the protocol wants it."""
    heads = []
    for path, token in requests:
        if protocol == "h2":
            fields = [
                (b":method", b"GET"), (b":scheme", b"https"), (b":authority", name.encode()),
                (b":path", path.encode()), (b"accept", b"application/json"),
                (b"user-agent", b"mk8s-bench"), (b"authorization", b"Bearer " + token.encode()),
            ]  # fmt: skip
            heads.append(b"".join([hpack_codec.literal(*field) for field in fields]))
        else:
            heads.append(
                f"GET {path} HTTP/1.1\r\nHost: {name}\r\nAccept: application/json\r\n"
                f"User-Agent: mk8s-bench\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
            )
    return heads


class Loop:
    """Requests in turn over some connections; each answer is followed by the next request."""

    def __init__(self, heads: list[bytes], least: int, most: int) -> None:
        self.latencies = array("d")
        self.bytes = 0
        self.began = 0
        self.in_flight = 0
        self.deadline = 0.0
        self.left = 0
        self._heads = heads
        self._position = 0
        self._least = least
        self._most = most

    def issue(self, connection: Connection, now: float) -> None:
        """Sends the next request here."""
        position = self._position
        self._position = position + 1 if position + 1 < len(self._heads) else 0
        self.left -= 1
        self.in_flight += 1
        connection.request(self._heads[position], now)

    def done(self, connection: Connection, started: float, size: int, now: float) -> None:
        """An answer is complete."""
        if not self._least <= size <= self._most:
            raise LoadError(f"a body of {size} bytes, not {self._least} to {self._most}")
        self.latencies.append(now - started)
        self.bytes += size
        self.in_flight -= 1
        if self.left > 0 and now < self.deadline:
            self.issue(connection, now)

    def begin(self) -> None:
        """A head arrived."""
        self.began += 1

    def stop(self) -> None:
        """No further requests."""
        self.left = 0


class Generator:
    """Carries out the commands."""

    def __init__(self) -> None:
        self._pump = Pump()
        self._connections: list[Connection] = []
        self._plan: dict[str, Any] = {}
        self._heads: list[bytes] = []
        self._loop = Loop([], 0, 0)

    def open(self, plan: dict[str, Any]) -> dict[str, Any]:
        """Connects."""
        self._plan = plan
        requests = json.loads(Path(plan["requests"]).read_text())
        self._heads = compose(plan["protocol"], plan["name"], requests)
        self._loop = Loop(self._heads, plan["least"], plan["most"])
        self._context = client_context(plan["authority"], plan["protocol"])
        for _ in range(plan["connections"]):
            connection = self._connect()
            self._connections.append(connection)
            self._pump.add(connection.tls.fileno(), connection.readable)
        return {"connections": len(self._connections)}

    def _connect(self) -> Connection:
        address, port = self._plan["address"]
        tls = TlsSocket((address, port), self._context, self._plan["name"])
        if self._plan["protocol"] == "h2":
            return Http2Load(tls, self._done, self._began)
        return Http1Load(tls, self._done)

    def _done(self, connection: Connection, started: float, size: int, now: float) -> None:
        self._loop.done(connection, started, size, now)

    def _began(self) -> None:
        self._loop.begin()

    def run(self, plan: dict[str, Any]) -> dict[str, Any]:
        """A closed loop with `streams` requests in flight on each connection."""
        old, cpu, start = self._loop, os.times(), perf_counter()
        loop = self._loop = Loop(self._heads, self._plan["least"], self._plan["most"])
        loop._position = old._position  # the next tokens, not always the first ones
        until_told = "seconds" not in plan
        loop.deadline = start + (1e9 if until_told else plan["seconds"])
        loop.left = plan.get("count", _FOREVER)
        self._start(loop, plan["streams"])
        if until_told:
            self._pump.add(_STDIN, loop.stop)
        self._pump.run(lambda: loop.in_flight == 0, _PATIENCE)
        if until_told:
            self._pump.remove(_STDIN)
        return self._result(loop, perf_counter() - start, cpu)

    def _start(self, loop: Loop, streams: int) -> None:
        for connection in self._connections:
            for _ in range(streams):
                if loop.left > 0:
                    loop.issue(connection, perf_counter())
            connection.flush()

    def _result(self, loop: Loop, seconds: float, cpu: os.times_result) -> dict[str, Any]:
        now = os.times()
        latencies = sorted(loop.latencies)
        return {
            "count": len(latencies),
            "seconds": seconds,
            "bytes": loop.bytes,
            "p50": percentile(latencies, 50),
            "p99": percentile(latencies, 99),
            "cpu": now.user + now.system - cpu.user - cpu.system,
        }

    def hold(self, plan: dict[str, Any]) -> dict[str, Any]:
        """Opens streams whose answers go on for ever."""
        loop = self._loop
        loop.left = plan["count"]
        wanted = loop.began + plan["count"]
        self._start(loop, plan["streams"])
        self._pump.run(lambda: loop.began >= wanted, _PATIENCE)
        return {"open": loop.in_flight}

    def stall(self, plan: dict[str, Any]) -> dict[str, Any]:
        """Asks, then stops reading."""
        self._loop.left = plan["count"]
        self._loop.latencies = array("d")
        self._start(self._loop, plan["streams"])
        for connection in self._connections:
            self._pump.remove(connection.tls.fileno())
        return {"open": self._loop.in_flight}

    def resume(self, _plan: dict[str, Any]) -> dict[str, Any]:
        """Reads all that was held back."""
        cpu, start = os.times(), perf_counter()
        for connection in self._connections:
            self._pump.add(connection.tls.fileno(), connection.readable)
        self._pump.run(lambda: self._loop.in_flight == 0, _PATIENCE)
        return self._result(self._loop, perf_counter() - start, cpu)

    def handshakes(self, plan: dict[str, Any]) -> dict[str, Any]:
        """New connections, one request on each."""
        cpu, start = os.times(), perf_counter()
        loop = self._loop
        for _ in range(plan["count"]):
            loop.left = 1
            connection = self._connect()
            loop.issue(connection, perf_counter())
            connection.flush()
            self._pump.add(connection.tls.fileno(), connection.readable)
            self._pump.run(lambda: loop.in_flight == 0, _PATIENCE)
            self._pump.remove(connection.tls.fileno())
            connection.tls.close()
        return self._result(loop, perf_counter() - start, cpu)

    def close(self, _plan: dict[str, Any]) -> dict[str, Any]:
        """Closes all."""
        for connection in self._connections:
            connection.tls.close()
        return {}


def read_line() -> bytes:
    """The next command; b"" at the end. Unbuffered, since a run watches stdin for the next one."""
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(_STDIN, 1)
        if not byte:
            return b""
        line += byte
    return line


def main() -> None:
    """Obeys until stdin ends."""
    generator = Generator()
    while line := read_line():
        plan = json.loads(line)
        try:
            answer = getattr(generator, plan["do"])(plan) | {"did": plan["do"]}
        except (LoadError, OSError) as error:
            answer = {"error": f"{plan['do']}: {type(error).__name__}: {error}"}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
