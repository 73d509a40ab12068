"""Whether an attack was held, by what happened to the neighbour and to memory.

The neighbour's p99 may double. On a machine that others use, a p99 of 3 ms doubles by itself, so
below a floor it is not looked at: a request waits for one turn of central's loop and one of the
agent's, which hold nothing longer than 20 ms each by their own tests (`tests/support/work.py`), so
what is below 40 ms is not the attack's doing; where the same neighbour without an attack has been
slower than that in this run, the floor is what was seen then.
"""

from dataclasses import dataclass, field

from tests.attacks.meter import MIB, Window

TURNS_MS = 40.0
FACTOR = 2.0
MEMORY_SHARE = 0.2
MEMORY_SECONDS = 60.0
AGENT_LIMIT = 512 * MIB
"""`deploy/kubernetes/agent.yaml` gives an agent so much."""


@dataclass
class Memory:
    """Bytes by process: before, at the most, and when the wait for it was over."""

    before: dict[str, int] = field(default_factory=dict)
    most: dict[str, int] = field(default_factory=dict)
    after: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    """How long it took to come back, or was waited for in vain."""


@dataclass
class Finding:
    """What is written of one attack."""

    name: str
    point: str
    what: str
    rate: str = ""
    before: Window | None = None
    during: Window | None = None
    memory: Memory | None = None
    cpu: float = 0.0
    """Of central, in shares of one processor, during the attack."""
    held: bool | None = None
    """None when it was left out."""
    why: str = ""
    tries: int = 1


def floor(quiet: list[float]) -> float:
    """The p99 in milliseconds below which nothing is concluded.

    Args:
        quiet: the neighbour's p99 in windows without an attack, as measured in this run.
    """
    return max([TURNS_MS, *quiet])


def faults(finding: Finding, lowest: float) -> list[str]:
    """What is wrong with the figures of a load; empty when it was held."""
    found = []
    before, during, memory = finding.before, finding.during, finding.memory
    assert before is not None
    assert during is not None
    assert memory is not None
    if during.errors:
        told = ", ".join(f"{count} x {name}" for name, count in during.errors.items())
        found.append(f"the neighbour got {told}")
    if not during.count:
        found.append("the neighbour got no answer at all")
    if during.p99 > max(FACTOR * before.p99, lowest):
        found.append(f"the neighbour's p99 is {during.p99:.0f} ms")
    for name, after in memory.after.items():
        if after > memory.before[name] * (1 + MEMORY_SHARE):
            more = (after - memory.before[name]) // MIB
            found.append(f"{name} keeps {more} MiB after {memory.seconds:.0f} s")
        if name.startswith("agent") and memory.most[name] > AGENT_LIMIT:
            found.append(f"{name} had {memory.most[name] // MIB} MiB, over its manifest's limit")
    return found
