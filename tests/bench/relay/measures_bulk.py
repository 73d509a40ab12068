"""Bodies of 20 MB, and small GETs beside them."""

import time

from tests.bench.relay.generator import Generator
from tests.bench.relay.launch import Services
from tests.bench.relay.measures import Sample, metered
from tests.bench.relay.targets import BULK_BYTES, BULK_PATH, Target

_GB = 1e9
_EXACTLY = (BULK_BYTES, BULK_BYTES)


def bulk(services: Services, target: Target, count: int) -> Sample:
    """Downloads one after the other on one connection."""
    made = Generator(services, target, paths=(BULK_PATH,), size=_EXACTLY)
    with made as generator:
        generator.ask("run", streams=1, count=2, seconds=60)
        with metered(target) as meter:
            result = generator.ask("run", streams=1, count=count, seconds=120)
    return {
        "mb_s": result["bytes"] / 1e6 / result["seconds"],
        **meter.per("cpu_s_gb", result["bytes"], _GB),
    }


def small_under_bulk(services: Services, target: Target, seconds: float) -> Sample:
    """Single GETs while two clients download 20 MB bodies without a pause."""
    heavy = Generator(services, target, connections=2, paths=(BULK_PATH,), size=_EXACTLY)
    with heavy as background, Generator(services, target) as generator:
        generator.ask("run", streams=1, count=200, seconds=60)
        background.tell("run", streams=1)
        time.sleep(0.3)  # both downloads are under way
        result = generator.ask("run", streams=1, seconds=seconds)
        background.tell("close")  # any line ends the run
        downloads = background.hear()
    return {
        "p50_us": result["p50"] * 1e6,
        "p99_us": result["p99"] * 1e6,
        "count": result["count"],
        "bulk_mb_s": downloads["bytes"] / 1e6 / downloads["seconds"],
    }
