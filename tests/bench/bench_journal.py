"""How long an audit row takes: run `python tests/bench/bench_journal.py`.

Prints microseconds for the entry, its intent and its outcome, for an audit id, and for a commit of
32 requests. The target is under 10 microseconds each for intent and outcome.
"""

import tempfile
import time
import timeit
from collections.abc import Callable
from pathlib import Path

from mk8s_proxy.audit.event import AuditEntry, encode_intent, encode_outcome, new_audit_id
from mk8s_proxy.audit.journal import Journal

ROUNDS = 20_000
TICK = 32


def entry() -> AuditEntry:
    """A pod list of kubectl, as the corridor fills it."""
    return AuditEntry(
        audit_id="0199f0a1-7c3e-7abc-8def-0123456789ab",
        received=time.time(),
        user="dev@example.com",
        uid="4b1c2f0e-6f1d-4a55-8f0e-0a4f6d1f4c11",
        groups=("mk8s:users", "system:authenticated"),
        token_id="b7a0d2c4f1e84d6f",
        cluster="prod",
        method="GET",
        verb="list",
        request_uri="/api/v1/namespaces/default/pods?limit=500",
        api_version="v1",
        namespace="default",
        resource="pods",
        source_ip="192.0.2.10",
        user_agent="kubectl/v1.33.1 (linux/amd64) kubernetes/8adc0f0",
        decision="allow",
        reason="role developer, rule 2",
        code=200,
        bytes_out=48_213,
        duration=0.0123,
    )


def microseconds(call: Callable[[], object], rounds: int = ROUNDS) -> float:
    """The best of five runs, per call, in processor time."""
    runs = timeit.repeat(call, number=rounds, repeat=5, timer=time.process_time)
    return min(runs) / rounds * 1e6


def tick(journal: Journal) -> None:
    """One loop tick: 32 requests begin and end."""
    for _ in range(TICK):
        request = entry()
        journal.intent(request)
        journal.outcome(request)
    journal.commit()


def main() -> None:
    """Print the figures."""
    now = time.time()
    filled = entry()
    encode_intent(filled, now)
    print(f"entry     {microseconds(entry):6.2f} us")
    print(f"intent    {microseconds(lambda: encode_intent(filled, now)):6.2f} us")
    print(f"outcome   {microseconds(lambda: encode_outcome(filled, now)):6.2f} us")
    print(f"audit id  {microseconds(new_audit_id):6.2f} us")
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(Path(folder) / "journal.jsonl", max_bytes=1 << 30, keep=1)
        whole = microseconds(lambda: tick(journal), ROUNDS // TICK) / TICK
        print(f"whole     {whole:6.2f} us for each request of a tick of {TICK}, write included")
        journal.close()


if __name__ == "__main__":
    main()
