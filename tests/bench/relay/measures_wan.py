"""One stream's download over a long line: 25 ms each way between the agent and central.

The peer is a plain TCP copy over the same line, so what the line itself costs is in both.
"""

import socket
import threading
import time
from contextlib import closing

from tests.bench.relay.generator import Generator
from tests.bench.relay.laboratory import Laboratory
from tests.bench.relay.launch import Services, own_port
from tests.bench.relay.measures import Sample
from tests.bench.relay.product import CLUSTER, Product
from tests.bench.relay.targets import LONG_BYTES, LONG_PATH

ONE_WAY = 0.025
GIGABIT = 125_000_000
"""Bytes per second of the line: what a good line between two sites has."""
_CHUNK = 1 << 18


def product_over_line(laboratory: Laboratory, services: Services) -> Sample:
    """Through central, whose agent is at the other end of the line."""
    product = Product(services, "far product")
    product.initialise(roles=1, people=1, rules=1)
    product.start_central()
    product.agent_url = f"https://localhost:{line(services, product.port)}"
    product.start_agent(CLUSTER, laboratory.kubeconfig)
    size = (LONG_BYTES, LONG_BYTES)
    with Generator(services, product.target(), paths=(LONG_PATH,), size=size) as generator:
        result = generator.ask("run", streams=1, count=1, seconds=300)
    return {"mb_s": result["bytes"] / 1e6 / result["seconds"]}


def plain_copy(services: Services) -> Sample:
    """A socket to a socket."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        sender = threading.Thread(target=_send, args=(server,), daemon=True)
        sender.start()
        port = line(services, server.getsockname()[1])
        with closing(socket.create_connection(("127.0.0.1", port))) as client:
            client.sendall(b"go")
            began = time.monotonic()
            received = 0
            while data := client.recv(_CHUNK):
                received += len(data)
            seconds = time.monotonic() - began
    return {"mb_s": received / 1e6 / seconds}


def _send(server: socket.socket) -> None:
    asked = False
    while not asked:  # the first connection is that of `line`, which looks whether it listens
        connection, _ = server.accept()
        with connection:
            asked = connection.recv(2) != b""
            for _ in range(LONG_BYTES // _CHUNK if asked else 0):
                connection.sendall(bytes(_CHUNK))


def line(services: Services, target: int) -> int:
    """Starts a line to a port; the port of its near end."""
    port = own_port()
    program = services.python(
        f"line to {target}", "delay", str(port), str(target), str(ONE_WAY), str(GIGABIT)
    )
    program.wait_for_port(port)
    return port
