"""Small GETs: CPU, rate and latency by protocol and concurrency. The first and main measure.

A sample is a flat dict of figures; the key says its unit. CPU is given for each part of a target
("cpu_us.central") and as their sum ("cpu_us").
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.bench.relay.generator import HTTP1, HTTP2, Generator
from tests.bench.relay.launch import Services
from tests.bench.relay.targets import BODY_BYTES, LIST_PATH, SMALL_PATHS, Target

Sample = dict[str, float]

_WARM_UP = 400
"""Requests before the measured ones: each token once, each path once, and connections upstream."""


@dataclass(frozen=True, slots=True)
class Shape:
    """How requests in flight spread over connections."""

    name: str
    protocol: str
    connections: int
    streams: int


SHAPES = (
    Shape("h2 c1", HTTP2, 1, 1),
    Shape("h2 c32", HTTP2, 4, 8),
    Shape("h2 c256", HTTP2, 16, 16),
    Shape("h1 c1", HTTP1, 1, 1),
    Shape("h1 c32", HTTP1, 32, 1),
    Shape("h1 c256", HTTP1, 256, 1),
)


class Meter:
    """CPU of a target's parts over a block."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._before: dict[str, float] = {}
        self.seconds: dict[str, float] = {}

    @property
    def total(self) -> float:
        """CPU seconds of all parts."""
        return sum(self.seconds.values())

    def per(self, name: str, amount: float, scale: float) -> Sample:
        """CPU divided by `amount`, as sample entries: the sum and each part."""
        if not self.seconds:
            return {}
        sample = {f"{name}.{part}": it / amount * scale for part, it in self.seconds.items()}
        return sample | {name: self.total / amount * scale}

    def start(self) -> None:
        """Begins to count."""
        self._before = self._target.cpu()

    def stop(self) -> None:
        """Ends counting."""
        self.seconds = {part: now - self._before[part] for part, now in self._target.cpu().items()}


@contextmanager
def metered(target: Target) -> Iterator[Meter]:
    """Counts CPU over the block."""
    meter = Meter(target)
    meter.start()
    yield meter
    meter.stop()


def small_gets(
    services: Services,
    target: Target,
    shape: Shape,
    seconds: float,
    *,
    size: tuple[int, int] = (BODY_BYTES, BODY_BYTES),
    paths: tuple[str, ...] = SMALL_PATHS,
) -> Sample:
    """GETs of 2 KB in a closed loop for some seconds."""
    made = Generator(
        services,
        target,
        protocol=shape.protocol,
        connections=shape.connections,
        size=size,
        paths=paths,
    )
    with made as generator:
        warm_up = max(_WARM_UP, 2 * len(target.tokens))
        generator.ask("run", streams=shape.streams, count=warm_up, seconds=60)
        time.sleep(0.05)  # what the warm-up left behind is not measured
        with metered(target) as meter:
            result = generator.ask("run", streams=shape.streams, seconds=seconds)
        count = result["count"]
    return {
        "rps": count / result["seconds"],
        "p50_us": result["p50"] * 1e6,
        "p99_us": result["p99"] * 1e6,
        "generator_us": result["cpu"] / count * 1e6,
        **meter.per("cpu_us", count, 1e6),
    }


def handshakes(services: Services, target: Target, count: int) -> Sample:
    """A new connection for each GET: CPU of a full handshake and one request."""
    with Generator(services, target, connections=0) as generator:
        generator.ask("handshakes", count=5)
        with metered(target) as meter:
            result = generator.ask("handshakes", count=count)
    return {
        "per_s": count / result["seconds"],
        **meter.per("cpu_us", count, 1e6),
    }


def large_lists(services: Services, target: Target, count: int) -> Sample:
    """A list of 5,000 objects, of which the product's users may see a half."""
    made = Generator(services, target, paths=(LIST_PATH,), size=(1_000_000, 1 << 30))
    with made as generator:
        generator.ask("run", streams=1, count=1, seconds=60)
        with metered(target) as meter:
            result = generator.ask("run", streams=1, count=count, seconds=60)
    return {
        "p50_ms": result["p50"] * 1e3,
        "mb": result["bytes"] / result["count"] / 1e6,
        **meter.per("cpu_ms", result["count"], 1e3),
    }
