"""Upgrades, as kubectl exec makes them: bytes both ways after a 101, and a keystroke's echo."""

import socket
import ssl
from time import perf_counter

from tests.bench.relay.figures import percentile
from tests.bench.relay.load_sockets import LoadError, client_context
from tests.bench.relay.measures import Sample, metered
from tests.bench.relay.targets import EXEC_PATH, Target

_GB = 1e9
_PIECE = 64 * 1024


class Exec:
    """An upgraded connection to the stub's command."""

    def __init__(self, target: Target, command: str) -> None:
        plain = socket.create_connection(target.address, timeout=60)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        context = client_context(str(target.authority), "http/1.1")
        self.tls: ssl.SSLSocket = context.wrap_socket(plain, server_hostname="localhost")
        head = (
            f"POST {target.prefix}{EXEC_PATH}{command} HTTP/1.1\r\nHost: localhost\r\n"
            "Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\n"
            f"Authorization: Bearer {target.tokens[0]}\r\nContent-Length: 0\r\n\r\n"
        )
        self.tls.sendall(head.encode())
        answer = b""
        while b"\r\n\r\n" not in answer:
            piece = self.tls.recv(1)
            if not piece:
                break
            answer += piece
        if not answer.startswith(b"HTTP/1.1 101 "):
            self.tls.close()
            raise LoadError(f"the upgrade was answered {answer[:200]!r}")

    def read(self, size: int) -> None:
        """Reads exactly so many bytes."""
        buffer = bytearray(256 * 1024)
        while size > 0:
            got = self.tls.recv_into(buffer)
            if not got:
                raise LoadError(f"the connection ended {size} bytes too early")
            size -= got

    def write(self, size: int) -> None:
        """Writes so many bytes and waits until the other side says that it has them all."""
        piece = bytes(_PIECE)
        for _ in range(size // _PIECE):
            self.tls.sendall(piece)
        self.tls.sendall(bytes(size % _PIECE))
        self.read(len(b"done"))


def splice(target: Target, size: int, keys: int) -> Sample:
    """CPU s/GB and MB/s each way, and the time of one byte there and back."""
    sample: Sample = {}
    for name, command in (("down", f"source-{size}"), ("up", f"sink-{size}")):
        start = perf_counter()
        with metered(target) as meter:
            session = Exec(target, command)
            (session.read if name == "down" else session.write)(size)
        sample[f"{name}_mb_s"] = size / 1e6 / (perf_counter() - start)
        sample |= meter.per(f"{name}_s_gb", size, _GB)
        session.tls.close()
    return sample | _echo(target, keys)


def _echo(target: Target, keys: int) -> Sample:
    session = Exec(target, "echo")
    times = []
    with metered(target) as meter:
        for _ in range(keys):
            start = perf_counter()
            session.tls.sendall(b"x")
            session.read(1)
            times.append(perf_counter() - start)
    session.tls.close()
    times.sort()
    return {
        "echo_p50_us": percentile(times, 50) * 1e6,
        "echo_p99_us": percentile(times, 99) * 1e6,
        **meter.per("echo_cpu_us", keys, 1e6),
    }
