"""Audit ids: UUIDs of version 7 that only grow, and that no two processes share."""

import os
import subprocess
import sys
import textwrap
import uuid
from itertools import pairwise
from pathlib import Path

import pytest

from mk8s_proxy.audit.identifier import AuditIds, new_audit_id


def test_ids_are_version_7_and_only_grow() -> None:
    ids = [new_audit_id() for _ in range(5000)]
    assert all(left < right for left, right in pairwise(ids))
    for text in ids[::100]:
        parsed = uuid.UUID(text)
        assert (parsed.version, parsed.variant, str(parsed)) == (7, uuid.RFC_4122, text)


def test_ids_carry_the_time() -> None:
    made = AuditIds(lambda: 1_790_000_000_123_456_789).new()
    assert uuid.UUID(made).int >> 80 == 1_790_000_000_123


def test_ids_grow_while_the_clock_steps_back() -> None:
    moments = iter([5_000_000_000, 4_000_000_000, 5_000_000_000, 5_001_000_000])
    ids = AuditIds(lambda: next(moments))
    made = [ids.new() for _ in range(4)]
    assert made == sorted(set(made))


def test_ids_of_a_millisecond_differ_in_their_last_group() -> None:
    ids = AuditIds(lambda: 5_000_000_000)
    made = [ids.new() for _ in range(1000)]
    assert len({text.rpartition("-")[0] for text in made}) == 1
    lasts = [int(text.rpartition("-")[2], 16) for text in made]
    assert lasts == list(range(lasts[0], lasts[0] + 1000))


def test_each_millisecond_starts_at_a_random_place() -> None:
    moments = iter(range(1_000_000, 1_000_000_000_000, 1_000_000))
    ids = AuditIds(lambda: next(moments))
    made = [uuid.UUID(ids.new()).int & ((1 << 76) - 1) for _ in range(2000)]
    assert len(set(made)) == 2000
    # Each of the 73 random bits is seen both set and clear; variant and counter's top bit are not.
    seen_set, seen_clear = 0, 0
    for value in made:
        seen_set |= value
        seen_clear |= ~value
    random_bits = ((1 << 76) - 1) & ~(0b11 << 62) & ~(1 << 47)
    assert seen_set & seen_clear & ((1 << 76) - 1) == random_bits


def test_a_random_place_leaves_room_to_count_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "urandom", lambda size: b"\xff" * size)
    ids = AuditIds(lambda: 5_000_000_000)
    first, second = uuid.UUID(ids.new()), uuid.UUID(ids.new())
    assert str(first) == "00000000-1388-7fff-bfff-7fffffffffff"
    assert str(second) == "00000000-1388-7fff-bfff-800000000000"


def test_a_forked_worker_does_not_repeat_its_parents_ids() -> None:
    ids = AuditIds(lambda: 5_000_000_000)
    first = uuid.UUID(ids.new()).int
    ids.forget()
    assert abs(uuid.UUID(ids.new()).int - first) > 1000


FORK = """
    import os
    from mk8s_proxy.audit.identifier import new_audit_id

    new_audit_id()
    child = os.fork()
    made = [new_audit_id() for _ in range(50)]
    if child:
        os.waitpid(child, 0)
    print("\\n".join(made), flush=True)
"""


def test_a_forked_worker_does_not_draw_its_parents_random_numbers() -> None:
    moments = iter([5_000_000_000, 5_001_000_000])
    ids = AuditIds(lambda: next(moments))
    ids.new()
    left = ids._seeds
    ids.forget()
    ids.new()
    assert ids._seeds != left


def test_forking_is_noticed() -> None:
    checkout = Path(__file__).parent.parent.parent
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FORK)],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": str(checkout)},
    )
    assert len(set(done.stdout.split())) == 100
