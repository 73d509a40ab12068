"""How cost grows: CPU per request against clusters, roles, watches and users (`--growth`).

Each point is measured beside a small product that has one cluster, 20 roles, 200 users and no
watch, turn by turn, so that the weather of the machine cancels out: "ratio" is the grown product's
CPU per request divided by the small one's in the same turn.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from tests.bench.relay.generator import Generator
from tests.bench.relay.laboratory import Laboratory
from tests.bench.relay.launch import FAILURES, Services
from tests.bench.relay.measures import SHAPES, Shape, small_gets
from tests.bench.relay.product import ROLES
from tests.bench.relay.results import Results
from tests.bench.relay.targets import WATCH_PATH, Target
from tests.bench.relay.tunnels import start_fleet

_SHAPE: Shape = SHAPES[1]
_WATCHES_OF_CONNECTION = 100
_RULES = 2
"""Of a role here: 10,000 roles of ten rules would measure the YAML parser."""
FLAT = 1.2
"""The issue: flat within 20 %."""


@dataclass(frozen=True, slots=True)
class Dimension:
    """Something that a product may have much of."""

    name: str
    sizes: tuple[int, ...]
    quick: tuple[int, ...]
    grown: Callable[[Laboratory, Services, int], Iterator[Target]]
    """Starts a product of a size, yields it once, ends what it keeps open."""


def _clusters(laboratory: Laboratory, services: Services, size: int) -> Iterator[Target]:
    product = laboratory.new_product(services)
    if size > 1:
        start_fleet(product, services, size - 1)
    yield product.target()


def _roles(laboratory: Laboratory, services: Services, size: int) -> Iterator[Target]:
    yield laboratory.new_product(services, roles=size, rules=_RULES).target()


def _users(laboratory: Laboratory, services: Services, size: int) -> Iterator[Target]:
    yield laboratory.new_product(services, roles=ROLES, people=size).target()


def _watches(laboratory: Laboratory, services: Services, size: int) -> Iterator[Target]:
    target = laboratory.new_product(services).target()
    connections = -(-size // _WATCHES_OF_CONNECTION)
    with ExitStack() as stack:
        if size:
            made = Generator(
                services, target, connections=connections, paths=(WATCH_PATH,), size=(0, 1 << 40)
            )
            generator = stack.enter_context(made)
            generator.ask("hold", streams=min(size, _WATCHES_OF_CONNECTION), count=size)
        yield target


DIMENSIONS = (
    Dimension("clusters", (1, 10, 100, 1000), (1, 30), _clusters),
    Dimension("roles", (10, 100, 1000, 10_000), (10, 500), _roles),
    Dimension("watches", (0, 100, 1000, 10_000), (0, 300), _watches),
    Dimension("users", (1, 10, 100, 1000, 10_000), (1, 500), _users),
)


@contextmanager
def _running(laboratory: Laboratory, dimension: Dimension, size: int) -> Iterator[Target]:
    folder = laboratory.services.folder / f"{dimension.name}-{size}"
    folder.mkdir()
    services = Services(folder)
    try:
        yield from dimension.grown(laboratory, services, size)
    finally:
        services.close()


def measure_growth(laboratory: Laboratory, names: list[str], say: Callable[[str], None]) -> None:
    """Every dimension at every size; one sample for each turn."""
    options = laboratory.options
    small = laboratory.product.target()
    for dimension in DIMENSIONS:
        if names and not dimension.name.startswith(tuple(names)):
            continue
        for size in dimension.quick if options.quick else dimension.sizes:
            say(f"growth: {size} {dimension.name}")
            try:
                with _running(laboratory, dimension, size) as grown:
                    for number in range(options.rounds):
                        _turn(laboratory, f"growth: {dimension.name}", size, (small, grown), number)
            except FAILURES as error:
                laboratory.results.note(f"growth: {size} {dimension.name}: {error}")


def _turn(
    laboratory: Laboratory, measure: str, size: int, pair: tuple[Target, Target], number: int
) -> None:
    seconds, services = laboratory.options.seconds, laboratory.services
    costs = {}
    for index in (0, 1) if number % 2 else (1, 0):
        sample = small_gets(services, pair[index], _SHAPE, seconds)
        costs[index] = sample["cpu_us"]
    figures = {"cpu_us": costs[1], "small_cpu_us": costs[0], "ratio": costs[1] / costs[0]}
    laboratory.results.add(measure, str(size), figures)


def verdicts(results: Results) -> list[str]:
    """For each dimension, whether the cost stayed flat. Pure."""
    lines = []
    for measure, sizes in results.values.items():
        if not measure.startswith("growth: "):
            continue
        middles = {
            int(size): sorted(figures["ratio"])[len(figures["ratio"]) // 2]
            for size, figures in sizes.items()
        }
        first = middles[min(middles)]
        worst = max(middles, key=lambda size: middles[size] / first)
        change = middles[worst] / first
        word = "flat" if change <= FLAT else "NOT flat"
        lines.append(
            f"{measure}: {word} within 20 %: at most {change:.2f} of the cost at "
            f"{min(middles)}, reached at {worst}"
        )
    return lines
