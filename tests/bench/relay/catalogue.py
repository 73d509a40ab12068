"""All measures by name, in the order in which a round takes them."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from tests.bench.relay.goals import DIRECT
from tests.bench.relay.laboratory import Laboratory
from tests.bench.relay.load_sockets import LoadError
from tests.bench.relay.measures import SHAPES, Sample, Shape, small_gets
from tests.bench.relay.targets import Target


@dataclass(frozen=True, slots=True)
class Measure:
    """Something measured once in each round, of each target in turn."""

    name: str
    take: Callable[[Laboratory, int], None]


def turn(targets: list[Target], number: int) -> list[Target]:
    """The targets with another one first in each round, so that none always follows the same."""
    start = number % len(targets) if targets else 0
    return targets[start:] + targets[:start]


def _small(shape: Shape, laboratory: Laboratory, number: int) -> None:
    samples: dict[str, Sample] = {}
    for target in turn(list(laboratory.targets.values()), number):
        try:
            samples[target.name] = small_gets(
                laboratory.services, target, shape, laboratory.options.seconds
            )
        except (LoadError, OSError) as error:
            laboratory.results.note(f"{shape.name}: {target.name} failed: {error}")
    base = samples.get(DIRECT, {}).get("p50_us")
    for name, sample in samples.items():
        if base is not None and name != DIRECT:
            sample["added_p50_us"] = sample["p50_us"] - base
        laboratory.results.add(shape.name, name, sample)


MEASURES = tuple(Measure(shape.name, partial(_small, shape)) for shape in SHAPES)


def chosen(names: list[str]) -> list[Measure]:
    """The measures whose names contain one of these; all when none is given."""
    return [it for it in MEASURES if not names or any(name in it.name for name in names)]
