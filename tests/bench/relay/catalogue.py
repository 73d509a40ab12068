"""All measures by name, in the order in which a round takes them."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial

from tests.bench.relay import measures_bulk, measures_memory, measures_wan, tunnels
from tests.bench.relay.cross_check import h2load
from tests.bench.relay.goals import DIRECT, GO, PRODUCT
from tests.bench.relay.laboratory import Laboratory
from tests.bench.relay.launch import FAILURES, Missing, Services
from tests.bench.relay.measures import (
    SHAPES,
    Sample,
    Shape,
    handshakes,
    large_lists,
    small_gets,
)
from tests.bench.relay.measures_splice import splice
from tests.bench.relay.targets import Target

_MB = 1_000_000
_KUBE_SIZE = (1000, 1 << 20)


@dataclass(frozen=True, slots=True)
class Measure:
    """Something measured once in each round, of each target in turn."""

    name: str
    take: Callable[[Laboratory, int], None]


def turn(targets: Collection[Target], number: int) -> list[Target]:
    """The targets with another one first in each round, so that none always follows the same."""
    row = list(targets)
    start = number % len(row) if row else 0
    return row[start:] + row[:start]


def each(
    laboratory: Laboratory,
    name: str,
    targets: Collection[Target],
    take: Callable[[Target], Sample],
) -> dict[str, Sample]:
    """Samples by target; a target that fails is noted and left out."""
    samples: dict[str, Sample] = {}
    for target in targets:
        try:
            samples[target.name] = take(target)
        except FAILURES as error:
            laboratory.results.note(f"{name}: {target.name}: {error}")
    return samples


def keep(laboratory: Laboratory, name: str, samples: dict[str, Sample]) -> None:
    """Adds a round's samples to the results."""
    for target, sample in samples.items():
        laboratory.results.add(name, target, sample)


def compared(samples: dict[str, Sample]) -> dict[str, Sample]:
    """The samples with what each target adds to the direct way's median latency."""
    base = samples.get(DIRECT, {}).get("p50_us")
    if base is None:
        return samples
    return {
        name: sample if name == DIRECT else sample | {"added_p50_us": sample["p50_us"] - base}
        for name, sample in samples.items()
    }


def _small(shape: Shape, laboratory: Laboratory, number: int) -> None:
    def take(target: Target) -> Sample:
        return small_gets(laboratory.services, target, shape, laboratory.options.seconds)

    targets = turn(laboratory.targets.values(), number)
    keep(laboratory, shape.name, compared(each(laboratory, shape.name, targets, take)))


def _kube(shape: Shape, laboratory: Laboratory, number: int) -> None:
    name = f"kube {shape.name}"

    def take(target: Target) -> Sample:
        seconds = laboratory.options.seconds
        return small_gets(laboratory.services, target, shape, seconds, size=_KUBE_SIZE)

    try:
        targets = turn(laboratory.kube.values(), number)
    except Missing as reason:
        laboratory.results.note(f"{name}: {reason}")
        return
    keep(laboratory, name, compared(each(laboratory, name, targets, take)))


def _of_all(
    name: str,
    take: Callable[[Laboratory, Target], Sample],
    without: tuple[str, ...],
    laboratory: Laboratory,
    number: int,
) -> None:
    targets = [it for it in laboratory.targets.values() if it.name not in without]
    samples = each(laboratory, name, turn(targets, number), partial(take, laboratory))
    keep(laboratory, name, samples)


def _fresh(
    name: str, take: Callable[[Laboratory, Target], Sample], laboratory: Laboratory, _number: int
) -> None:
    for kind in (PRODUCT, GO):
        try:
            with laboratory.fresh(kind) as target:
                laboratory.results.add(name, kind, take(laboratory, target))
        except FAILURES as error:
            laboratory.results.note(f"{name}: {kind}: {error}")


def _tunnels(laboratory: Laboratory, _number: int) -> None:
    count = laboratory.options.amount(1000, 100)
    for kind in (PRODUCT, GO):
        take = tunnels.product_tunnels if kind == PRODUCT else tunnels.go_tunnels
        try:
            laboratory.results.add("tunnels", kind, take(laboratory, kind, count))
        except FAILURES as error:
            laboratory.results.note(f"tunnels: {kind}: {error}")


def _workers(laboratory: Laboratory, number: int) -> None:
    for workers in (1, 2):
        with laboratory.fresh(PRODUCT, MK8S_WORKERS=str(workers)) as target:
            sample = small_gets(laboratory.services, target, SHAPES[2], laboratory.options.seconds)
            laboratory.results.add("workers", f"{workers} of product", sample)


def _wan(laboratory: Laboratory, number: int) -> None:
    name = "wan 50 ms"
    for kind in (PRODUCT, DIRECT) if number % 2 else (DIRECT, PRODUCT):
        folder = laboratory.services.folder / f"wan-{kind}-{number}"
        folder.mkdir()
        services = Services(folder)
        try:
            if kind == PRODUCT:
                sample = measures_wan.product_over_line(laboratory, services)
            else:
                sample = measures_wan.plain_copy(services)
            laboratory.results.add(name, kind, sample)
        except FAILURES as error:
            laboratory.results.note(f"{name}: {kind}: {error}")
        finally:
            services.close()


def _bulk(laboratory: Laboratory, target: Target) -> Sample:
    return measures_bulk.bulk(laboratory.services, target, laboratory.options.amount(40, 6))


def _under_bulk(laboratory: Laboratory, target: Target) -> Sample:
    seconds = laboratory.options.seconds
    return measures_bulk.small_under_bulk(laboratory.services, target, seconds)


def _handshakes(laboratory: Laboratory, target: Target) -> Sample:
    return handshakes(laboratory.services, target, laboratory.options.amount(400, 60))


def _splice(laboratory: Laboratory, target: Target) -> Sample:
    size = laboratory.options.amount(400, 50) * _MB
    return splice(target, size, laboratory.options.amount(2000, 200))


def _lists(laboratory: Laboratory, target: Target) -> Sample:
    return large_lists(laboratory.services, target, laboratory.options.amount(20, 4))


def _h2load(laboratory: Laboratory, target: Target) -> Sample:
    return h2load(laboratory.services, target, laboratory.options.amount(20_000, 2000))


def _watches(laboratory: Laboratory, target: Target) -> Sample:
    count = laboratory.options.amount(2000, 400)
    return measures_memory.idle_watches(laboratory.services, target, count)


def _stalled(laboratory: Laboratory, target: Target) -> Sample:
    return measures_memory.slow_readers(laboratory.services, target, 20)


_NOT_SPLICED = ("nginx", "haproxy", "go-tunnel", "go-tunnel-400")
MEASURES = (
    *(Measure(shape.name, partial(_small, shape)) for shape in SHAPES),
    *(Measure(f"kube {shape.name}", partial(_kube, shape)) for shape in SHAPES[:2]),
    Measure("h2load c32", partial(_of_all, "h2load c32", _h2load, ())),
    Measure("bulk", partial(_of_all, "bulk", _bulk, ())),
    Measure("small under bulk", partial(_of_all, "small under bulk", _under_bulk, ())),
    Measure("handshakes", partial(_of_all, "handshakes", _handshakes, ())),
    Measure("splice", partial(_of_all, "splice", _splice, _NOT_SPLICED)),
    Measure("lists", partial(_of_all, "lists", _lists, ())),
    Measure("idle watches", partial(_fresh, "idle watches", _watches)),
    Measure("slow readers", partial(_fresh, "slow readers", _stalled)),
    Measure("tunnels", _tunnels),
    Measure("workers", _workers),
    Measure("wan 50 ms", _wan),
)


def chosen(names: list[str]) -> list[Measure]:
    """The measures whose names begin with one of these; all when none is given."""
    return [it for it in MEASURES if not names or it.name.startswith(tuple(names))]
