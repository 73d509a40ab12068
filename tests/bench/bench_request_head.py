"""How long reading a request head takes: run `python tests/bench/bench_request_headers.py`.

Prints microseconds of processor time for a `kubectl get` of ten fields with an RS256 token, over
HTTP/2, over HTTP/1.1, and for the check of the raw HTTP/1.1 bytes.
"""

import time
import timeit
from collections.abc import Callable

from mk8s_proxy.listener.http1_head import check_http1_head, read_http1_head
from mk8s_proxy.listener.request_head import read_http2_head

ROUNDS = 20_000
TARGET = b"/k8s/prod/api/v1/namespaces/default/pods?limit=500"
HOST = b"central.example.com:8443"
PSEUDO = [
    (b":authority", HOST),
    (b":method", b"GET"),
    (b":path", TARGET),
    (b":scheme", b"https"),
]
FIELDS = [
    (b"accept", b"application/json;as=Table;v=v1;g=meta.k8s.io,application/json"),
    (b"accept-encoding", b"gzip"),
    (b"authorization", b"Bearer " + b"eyJhbGciOiJSUzI1NiJ9." * 38),
    (b"user-agent", b"kubectl/v1.33.1 (linux/amd64) kubernetes/8adc0f0"),
    (b"kubectl-command", b"kubectl get"),
    (b"kubectl-session", b"3ad5d2ca-9a0f-4a3b-8d0c-3f0d1d5a2a11"),
]


def microseconds(call: Callable[[], object]) -> float:
    """The best of five runs, per call, in processor time."""
    runs = timeit.repeat(call, number=ROUNDS, repeat=5, timer=time.process_time)
    return min(runs) / ROUNDS * 1e6


def main() -> None:
    """Print the figures."""
    over_http2 = [*PSEUDO, *FIELDS]
    over_http1 = [(b"host", HOST), *FIELDS]
    lines = b"".join(b"%b: %b\r\n" % field for field in over_http1)
    raw = b"GET %b HTTP/1.1\r\n%b\r\n" % (TARGET, lines)
    figures = {
        "HTTP/2 fields": microseconds(lambda: read_http2_head(over_http2, True)),
        "HTTP/1.1 fields": microseconds(lambda: read_http1_head(b"GET", TARGET, over_http1)),
        "HTTP/1.1 bytes": microseconds(lambda: check_http1_head(raw)),
    }
    for name, figure in figures.items():
        print(f"{name:16}{figure:6.2f} us")


if __name__ == "__main__":
    main()
