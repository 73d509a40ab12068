"""What one `kubectl get pods` goes through in central, held: a count, not a time."""

import pytest

from mk8s_proxy.chain import handler_chain
from tests.bench.bench_exchange import count_calls

CEILINGS = {
    "nothing is known but the token": (120, 35),
    "the fields are known, not the target": (91, 31),
    "the target is known, not the fields": (93, 28),
    "both, by another connection": (77, 26),
}
"""Calls and files. Whoever adds a step that a reader needs says so here; a wrapper is none."""


@pytest.mark.skipif(
    not handler_chain.__file__.endswith(".py"), reason="compiled modules have no frames to count"
)
def test_a_request_goes_through_few_calls_and_files() -> None:
    over = {}
    for _ in range(3):  # the first row of a second makes its text: two calls more
        counted = count_calls()
        over = {
            known: counted[known].report()
            for known, (calls, files) in CEILINGS.items()
            if counted[known].total > calls or len(counted[known].files) > files
        }
        if not over:
            break
    assert not over, "\n\n".join(over.values())
