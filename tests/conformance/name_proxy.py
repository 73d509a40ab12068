"""A CONNECT proxy that takes every host name for this machine: wildcard names without DNS.

Clients get it as `proxy-url` of their kubeconfig, so that the TLS server name and the Host header
are those of the wildcard domain and nothing of the machine is changed.
"""

import contextlib
import socket
import socketserver
import threading
from collections.abc import Iterator

CHUNK = 1 << 16


class _Tunnel(socketserver.StreamRequestHandler):
    """One client connection: its CONNECT head, then bytes both ways."""

    def handle(self) -> None:
        port = int(self.rfile.readline().split()[1].rsplit(b":", 1)[1])
        while self.rfile.readline().strip():
            pass
        with socket.create_connection(("127.0.0.1", port)) as target:
            self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=_pump, args=(target, self.connection), daemon=True)
            back.start()
            _pump(self.connection, target)
            back.join()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(CHUNK):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False


@contextlib.contextmanager
def name_proxy() -> Iterator[str]:
    """The proxy's URL, for the length of the block."""
    with _Server(("127.0.0.1", 0), _Tunnel) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
