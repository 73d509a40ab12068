"""What each memory of the request path buys; run by `bench_exchange --memories`.

Each is switched off alone (it keeps nothing), and all are, and the CPU of a request is compared
with that where all are on; for new heads, for recurring ones and for HTTP/1.1. The rounds are
interleaved, so that a neighbour on the machine disturbs all alike, and of all rounds the least
counts, since a neighbour only adds. A memory that is off still costs its lookup, so the gain is
rather too large than too small. Central's memories are compared with central's CPU of a request,
the agent's with the agent's.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from mk8s_agent.wire import hpack_codec
from mk8s_agent.wire.memory import Memory
from mk8s_proxy.audit import rows
from mk8s_proxy.listener import http1_reader, request_head
from mk8s_proxy.tunnel import request_block, response_head

RESULTS = Path(__file__).with_name("MEMORIES.md")
_BEGIN, _END = "<!-- begin {} -->\n", "<!-- end {} -->\n"
ALL = "all of them"
_WARM_ROUNDS = 8
"""All that the clients ask again has been asked once by then."""

Kept = Memory[Any, Any]


def memories_of(bench: Any) -> dict[str, tuple[str, Kept]]:
    """The side and the memory of each name."""
    chain = bench.central.chain
    policy = bench.central.policies.current
    return {
        "recurring requests": ("central", bench.central.config.recurring._known),
        "heads but for their target": ("central", request_head._repeated),
        "HTTP/1.1 heads": ("central", http1_reader._known),
        "targets": ("central", chain._addresses._known),
        "verified tokens": ("central", chain._authenticator.verified),
        "accesses of roles": ("central", policy._by_roles),
        "answers of the policy": ("central", policy._answers),
        "audit: requests": ("central", rows._requests),
        "audit: callers": ("central", rows._callers),
        "audit: verdicts": ("central", rows._verdicts),
        "identities for the agent": ("central", request_block._identities),
        "forwarded headers": ("central", request_block._forwarded),
        "names in answers": ("central", response_head._places),
        "encoded names": ("central", hpack_codec._names),
        "carried parts": ("agent", bench.apiserver.reader._carried),
    }


class Comparison:
    """One kind of load, with memories on and off.

    Args:
        bench: a `bench_exchange.Bench` under this load.
        rounds: of each turn.
    """

    def __init__(self, bench: Any, rounds: int) -> None:
        self.bench = bench
        self.memories = memories_of(bench)
        self._bounds = {name: kept.most_entries for name, (_, kept) in self.memories.items()}
        self._rounds = rounds
        self._order = [ALL]
        for name in self.memories:
            self._order += ["", name]
        self.seconds: dict[str, dict[str, list[float]]] = {}
        """Microseconds of a request by what is off ("" for nothing) and by side, for each turn."""

    def turn(self, measure: Callable[[Any, int], dict[str, float]]) -> None:
        """Measures everything once."""
        for off in self._order:
            self._switch(off)
            for _ in range(_WARM_ROUNDS):
                self.bench.round()
            for side, value in measure(self.bench, self._rounds).items():
                self.seconds.setdefault(off, {}).setdefault(side, []).append(value)
        self._switch("")

    def _switch(self, off: str) -> None:
        for name, (_, kept) in self.memories.items():
            kept.clear()
            kept.most_entries = 0 if off in (name, ALL) else self._bounds[name]

    def cost(self, off: str, side: str) -> float:
        """Microseconds of a request on one side."""
        return min(self.seconds[off][side])

    def gain(self, name: str) -> float:
        """Percent of a request that a memory saves."""
        side = self.memories[name][0]
        return (self.cost(name, side) / self.cost("", side) - 1) * 100


def table(comparisons: dict[str, Comparison]) -> str:
    """The figures as Markdown."""
    first = next(iter(comparisons.values()))
    loads = list(comparisons)
    lines = [
        f"| off | {' | '.join(loads)} |",
        f"|---|{'---:|' * len(loads)}",
    ]
    for side in ("central", "agent"):
        costs = [f"{one.cost('', side):.1f} us" for one in comparisons.values()]
        lines.append(f"| nothing: {side} | {' | '.join(costs)} |")
        costs = [f"{one.cost(ALL, side):.1f} us" for one in comparisons.values()]
        lines.append(f"| {ALL}: {side} | {' | '.join(costs)} |")
    for name, (side, _) in first.memories.items():
        gains = [f"{one.gain(name):+.1f} %" for one in comparisons.values()]
        lines.append(f"| {name} ({side}) | {' | '.join(gains)} |")
    return "\n".join(lines) + "\n"


def write(text: str) -> None:
    """Puts the figures of this run into the results, in the place of the last of its kind."""
    kind = "pure" if str(hpack_codec.__file__).endswith(".py") else "compiled"
    begin, end = _BEGIN.format(kind), _END.format(kind)
    whole = RESULTS.read_text()
    before, _, rest = whole.partition(begin)
    RESULTS.write_text(f"{before}{begin}{text}{end}{rest.partition(end)[2]}")
