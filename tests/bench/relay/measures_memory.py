"""Memory, as growth of PSS in processes that have served nothing else: watches, stalled readers."""

import time
from collections.abc import Callable

from tests.bench.relay.generator import Generator
from tests.bench.relay.launch import Services
from tests.bench.relay.measures import Sample, metered
from tests.bench.relay.targets import BULK_BYTES, BULK_PATH, WATCH_PATH, Target

_KIB, _MIB = 1024, 1024 * 1024
_STREAMS = 100
"""Watches on one connection: what an API server's clients are allowed."""
_SETTLED = 0.01
_PATIENCE = 20.0


def settled(memory: Callable[[], dict[str, int]], pause: float = 0.5) -> dict[str, int]:
    """The memory once it has stopped to change, or after 20 seconds."""
    deadline = time.monotonic() + _PATIENCE
    last = memory()
    quiet = 0
    while quiet < 2 and time.monotonic() < deadline:
        time.sleep(pause)
        now = memory()
        still = all(abs(now[part] - last[part]) <= _SETTLED * last[part] for part in last)
        quiet = quiet + 1 if still else 0
        last = now
    return last


def growth(before: dict[str, int], after: dict[str, int], unit: float, name: str) -> Sample:
    """The difference by part, in units."""
    return {f"{name}.{part}": (after[part] - before[part]) / unit for part in before}


def idle_watches(services: Services, target: Target, count: int) -> Sample:
    """KiB for each open watch on which nothing happens, and the CPU that a second of them takes."""
    connections = max(count // _STREAMS, 1)
    streams = count // connections
    made = Generator(services, target, connections=connections)
    with made as warm:
        warm.ask("run", streams=4, count=connections * 20, seconds=30)
    made = Generator(
        services, target, connections=connections, paths=(WATCH_PATH,), size=(0, 1 << 40)
    )
    with made as generator:
        before = settled(target.memory)
        generator.ask("hold", streams=streams, count=connections * streams)
        after = settled(target.memory)
        with metered(target) as meter:
            time.sleep(1.0)
    return {
        **growth(before, after, _KIB * connections * streams, "kib"),
        "idle_cpu_ms_s": meter.total * 1e3,
    }


def slow_readers(services: Services, target: Target, streams: int) -> Sample:
    """MiB by which memory grows while one client reads none of its many 20 MB answers.

    Afterwards the client reads: every byte must still arrive.
    """
    size = (BULK_BYTES, BULK_BYTES)
    with Generator(services, target, paths=(BULK_PATH,), size=size) as generator:
        generator.ask("run", streams=1, count=1, seconds=30)
        before = settled(target.memory)
        generator.ask("stall", streams=streams, count=streams)
        after = settled(target.memory)
        with Generator(services, target) as other:
            beside = other.ask("run", streams=1, count=50, seconds=30)
        result = generator.ask("resume")
    return {
        **growth(before, after, _MIB, "mib"),
        "other_client_p50_us": beside["p50"] * 1e6,
        "read_later": result["count"],
    }
