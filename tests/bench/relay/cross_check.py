"""h2load (Debian's nghttp2-client) against the same targets: is our own generator honest?

It sends the token of one user, since its headers are fixed for a process; so its product row is
kinder than ours. Where the two disagree on a peer by more than that, distrust ours.
"""

import re
import subprocess

from tests.bench.relay.launch import Services, needed
from tests.bench.relay.load_sockets import LoadError
from tests.bench.relay.measures import Sample, metered
from tests.bench.relay.targets import SMALL_PATHS, Target

_RATE = re.compile(r"finished in [^,]+, ([0-9.]+) req/s")
_STATUS = re.compile(r"status codes: ([0-9]+) 2xx, ([0-9]+) 3xx, ([0-9]+) 4xx, ([0-9]+) 5xx")
_PATIENCE = 60
"""Seconds after which h2load is given up."""


def parse(output: str) -> tuple[float, int, int]:
    """Requests/s, good answers and other answers out of h2load's summary.

    Raises:
        LoadError: there is no summary.
    """
    rate, status = _RATE.search(output), _STATUS.search(output)
    if rate is None or status is None:
        raise LoadError(f"h2load printed {output[-300:]!r}")
    good, *others = map(int, status.groups())
    return float(rate[1]), good, sum(others)


def h2load(services: Services, target: Target, count: int) -> Sample:
    """The rate and CPU of `count` GETs, 32 in flight on four connections."""
    base = f"https://localhost:{target.address[1]}{target.prefix}"
    uris = services.folder / f"{target.name}-uris.txt"
    uris.write_text("".join(f"{base}{path}\n" for path in SMALL_PATHS))
    command = [
        needed("h2load"), "-n", str(count), "-c", "4", "-m", "8", "-i", str(uris),
        "-H", f"authorization: Bearer {target.tokens[0]}",
    ]  # fmt: skip
    with metered(target) as meter:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE)
    rate, good, others = parse(done.stdout)
    if others or good != count:
        raise LoadError(f"h2load: {good} good answers of {count}, {others} others")
    return {"rps": rate, **meter.per("cpu_us", count, 1e6)}
