"""What the journal costs each request: run `python tests/bench/bench_journal.py`.

Prints microseconds of processor time, the best of many rounds, for requests of 200 users with
programs of their own to 200 paths: the entry with its id, its two rows,
and the whole with notes and commits. The target: entry, id and both rows in less than 5.
"""

import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from mk8s_proxy.audit import rows
from mk8s_proxy.audit.event import AuditEntry, AuditFacts
from mk8s_proxy.audit.identifier import new_audit_id
from mk8s_proxy.audit.journal import Journal

Encode = Callable[[AuditEntry, float], bytes]

PASSES = 5
ROUNDS = 20
REQUESTS = 2048
USERS = 200
PATHS = 200
TICKS = (1, 32)

GROUPS = ("mk8s:users", "system:authenticated")
PEOPLE = [
    (f"user-{n}@example.com", f"4b1c2f0e-6f1d-4a55-8f0e-{n:012x}", f"b7a0d2c4f1e84d6f{n:016x}")
    for n in range(USERS)
]
ADDRESSES = [f"192.0.2.{n}" for n in range(USERS)]
AGENTS = [f"kubectl/v1.{n}.1 (linux/amd64) kubernetes/8adc0f0".encode() for n in range(USERS)]
NAMES = [(f"shop-{n}", f"web-6d4b75cb6d-{n:05}") for n in range(PATHS)]
TARGETS = [f"/api/v1/namespaces/{space}/pods/{name}".encode() for space, name in NAMES]
REASONS = [f"role developer-{n}, rule 2" for n in range(10)]
CHANCE = random.Random(1)
ASKED = [(CHANCE.randrange(USERS), CHANCE.randrange(PATHS)) for _ in range(REQUESTS)]


def make_entry(user: int, path: int) -> AuditEntry:
    """A GET of one pod, made as the handler chain makes it."""
    entry = AuditEntry(new_audit_id(), time.time(), ADDRESSES[user])
    namespace, name = NAMES[path]
    person, uid, token_id = PEOPLE[user]
    entry.facts = AuditFacts(
        "GET",
        TARGETS[path].decode("ascii", "replace"),
        AGENTS[user].decode("utf-8", "replace"),
        user=person,
        uid=uid,
        groups=GROUPS,
        token_id=token_id,
        cluster="prod",
        verb="get",
        api_version="v1",
        namespace=namespace,
        resource="pods",
        name=name,
        decision="allow",
        reason=REASONS[user % len(REASONS)],
    )
    return entry


def make_entries() -> list[AuditEntry]:
    """New entries: their decoded strings have no hash yet, as in a request."""
    return [make_entry(user, path) for user, path in ASKED]


def end(entry: AuditEntry) -> None:
    """What is learnt at the end of a request."""
    entry.code = 200
    entry.bytes_out = 2048
    entry.duration = 0.0123
    entry.upstream_audit_id = entry.audit_id


def best(work: Callable[[list[AuditEntry]], object]) -> float:
    """Microseconds for each request; the entries are made outside of the measured time."""
    fastest = float("inf")
    for _ in range(ROUNDS):
        entries = make_entries()
        began = time.process_time()
        work(entries)
        fastest = min(fastest, time.process_time() - began)
    return fastest / REQUESTS * 1e6


def intents(encode: Encode) -> float:
    """Microseconds for an intent row."""

    def work(entries: list[AuditEntry]) -> None:
        for entry in entries:
            encode(entry, time.time())

    return best(work)


def outcomes(encode: Encode) -> float:
    """Microseconds for an outcome row, and for what is learnt before it."""

    def work(entries: list[AuditEntry]) -> None:
        for entry in entries:
            end(entry)
            encode(entry, time.time())

    return best(work)


def journalling(journal: Journal, tick: int) -> float:
    """Microseconds for both rows of a request, noted and written in ticks of so many requests."""

    def work(entries: list[AuditEntry]) -> None:
        for start in range(0, len(entries), tick):
            requests = entries[start : start + tick]
            for entry in requests:
                journal.intent(entry)
            journal.commit()
            for entry in requests:
                end(entry)
                journal.outcome(entry)
            journal.commit()

    return best(work)


def measure(folder: Path) -> dict[str, float]:
    """Each figure once."""
    figures = {
        "entry and id": best(lambda _: make_entries()),
        "intent": intents(rows.encode_intent),
        "outcome": outcomes(rows.encode_outcome),
    }
    figures["all of it"] = sum(figures.values())
    journal = Journal(folder / "journal.jsonl", max_bytes=1 << 26, keep=1)
    for tick in TICKS:
        figures[f"both rows written, tick of {tick}"] = journalling(journal, tick)
    journal.close()
    return figures


def main() -> None:
    """Print the best of each figure: the passes are apart in time, a busy spell spoils only one."""
    with tempfile.TemporaryDirectory() as folder:
        passes = [measure(Path(folder)) for _ in range(PASSES)]
    for name in passes[0]:
        print(f"{name:28} {min(figures[name] for figures in passes):6.2f} us")


if __name__ == "__main__":
    main()
