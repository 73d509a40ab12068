"""What the metrics cost a request in central: run `python -m tests.bench.bench_metrics`.

Prints nanoseconds of processor time, the least of many rounds: the count of an outcome, as the
journal has it counted once for each request, and the two times that are noted on its way. A scrape
costs no request anything; what it takes is printed for a thousand clusters.
"""

import time
from collections.abc import Callable

from mk8s_agent.wire.exposition import exposition
from mk8s_agent.wire.metrics import Snapshot
from mk8s_proxy.audit.counts import VERBS, RequestCounts
from mk8s_proxy.audit.event import AuditEntry, AuditFacts
from mk8s_proxy.audit.identifier import new_audit_id
from mk8s_proxy.process.metrics import METRICS

CLUSTERS = 1000
ROUNDS = 2000
TURNS = 500


def an_entry(verb: str = "get", code: int = 200) -> AuditEntry:
    """A request that a cluster answered."""
    facts = AuditFacts(uid="u", cluster="cluster-500", verb=verb, decision="allow")
    began = time.monotonic()
    return AuditEntry(
        new_audit_id(), time.time(), facts=facts, code=code, bytes_in=10, bytes_out=2048,
        duration=0.012, began=began, left=began + 0.0003, answered=began + 0.011,
    )  # fmt: skip


def least(work: Callable[[], object]) -> float:
    """Nanoseconds for a turn of what repeats itself `TURNS` times: the least of all rounds."""
    found = []
    for _ in range(ROUNDS):
        began = time.process_time()
        work()
        found.append(time.process_time() - began)
    return min(found) / TURNS * 1e9


def main() -> None:
    """Print the costs."""
    counts = RequestCounts()
    counts.follow(f"cluster-{number}" for number in range(CLUSTERS))
    entries = [an_entry(verb) for verb in VERBS]

    def count() -> None:
        for turn in range(TURNS):
            counts.outcome(entries[turn % len(entries)])

    def loop() -> None:
        for turn in range(TURNS):
            _ = entries[turn % len(entries)]

    def stamp() -> None:
        for turn in range(TURNS):
            entry = entries[turn % len(entries)]
            entry.left = entry.left
            entry.answered = time.monotonic()

    idle = least(loop)
    stamps = least(stamp) - idle
    for entry in entries:
        entry.answered = entry.left + 0.01
    print(f"count of an outcome: {least(count) - idle:6.0f} ns")
    print(f"times on the way:    {stamps:6.0f} ns")
    print_scrape(counts)


def print_scrape(counts: RequestCounts) -> None:
    """Print what an answer to Prometheus takes."""
    for name in counts.clusters:
        for code in (200, 201, 404):
            for verb in ("get", "list", "watch"):
                entry = an_entry(verb, code)
                entry.facts = entry.facts._replace(cluster=name)
                counts.outcome(entry)
    began = time.perf_counter()
    snapshot: Snapshot = {
        "mk8s_central_requests_total": {
            (name, verb, code): count
            for name, it in counts.clusters.items()
            for (verb, code), count in it.by_verb_and_code().items()
        }
    }
    collected = time.perf_counter()
    text, _ = exposition(METRICS, snapshot)
    written = time.perf_counter()
    samples = len(snapshot["mk8s_central_requests_total"])
    print(f"a scrape of {samples} series of requests, {len(text)} bytes: "
          f"{(collected - began) * 1e3:.1f} ms to collect, {(written - collected) * 1e3:.1f} ms "
          "to write")  # fmt: skip


if __name__ == "__main__":
    main()
