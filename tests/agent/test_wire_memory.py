"""The one bounded memory: what it holds, what it forgets first, and that it never holds more."""

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mk8s_agent.wire.memory import ENTRY_BYTES, Memory


def keys(memory: Memory[int, str], most: int = 100) -> list[int]:
    return [key for key in range(most) if memory.find(key) is not None]


def filled(entries: int, most_entries: int = 1000, most_bytes: int = 1 << 20) -> Memory[int, str]:
    memory: Memory[int, str] = Memory(most_entries, most_bytes)
    for key in range(entries):
        memory.keep(key, str(key), 0)
    return memory


def test_it_finds_what_it_keeps() -> None:
    memory = filled(3)
    assert [memory.find(key) for key in range(4)] == ["0", "1", "2", None]
    assert len(memory) == 3
    assert memory.size == 3 * ENTRY_BYTES
    assert repr(memory) == f"<Memory 3 of 1000, {3 * ENTRY_BYTES} bytes>"


def test_the_oldest_go_first() -> None:
    memory = filled(5, most_entries=4)
    assert keys(memory) == [1, 2, 3, 4]


def test_what_is_kept_again_is_the_newest_and_counted_once() -> None:
    memory = filled(4, most_entries=4)
    memory.keep(0, "again", 10)
    memory.keep(4, "new", 0)
    assert keys(memory) == [0, 2, 3, 4]
    assert memory.find(0) == "again"
    assert memory.size == 4 * ENTRY_BYTES + 10


def test_bytes_are_bounded_too() -> None:
    memory = filled(4, most_bytes=4 * ENTRY_BYTES)
    memory.keep(4, "large", 2 * ENTRY_BYTES)
    assert keys(memory) == [3, 4]


@pytest.mark.parametrize(("entries", "size"), [(0, 1 << 20), (10, ENTRY_BYTES - 1)])
def test_what_alone_is_too_much_is_not_kept(entries: int, size: int) -> None:
    assert keys(filled(3, entries, size)) == []


def test_a_value_that_has_become_too_large_does_not_leave_the_old_one() -> None:
    memory = filled(3)
    memory.keep(1, "large", 2 << 20)
    assert keys(memory) == [0, 2]


def test_one_can_be_forgotten_and_all() -> None:
    memory = filled(3)
    memory.forget(1)
    memory.forget(7)
    assert keys(memory) == [0, 2]
    memory.clear()
    assert (keys(memory), len(memory), memory.size) == ([], 0, 0)


def test_a_sweep_looks_at_a_part_and_in_time_at_all() -> None:
    memory = filled(250)
    seen: list[str] = []
    memory.sweep(lambda value: bool(seen.append(value)))
    assert 10 <= len(seen) <= 11
    for _ in range(24):
        memory.sweep(lambda value: bool(seen.append(value)))
    assert set(seen) == {str(key) for key in range(250)}


def test_what_is_over_is_gone_within_a_minute_however_much_it_is() -> None:
    memory = filled(1000)
    memory.sweep(lambda _: False)
    for _ in range(50):
        memory.sweep(lambda value: value != "7")
    assert keys(memory, 1000) == [7]


def test_a_sweep_of_what_was_forgotten_meanwhile() -> None:
    memory = filled(60)
    memory.sweep(lambda _: False)
    for key in range(60):
        memory.forget(key)
    for _ in range(60):
        memory.sweep(lambda _: True)
    assert len(memory) == 0


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 2000))), st.integers(1, 8))
def test_it_is_never_more_than_its_bounds(kept: list[tuple[int, int]], most: int) -> None:
    memory: Memory[int, int] = Memory(most, 4000)
    sizes: dict[int, int] = {}
    for key, size in kept:
        memory.keep(key, size, size)
        sizes[key] = size + ENTRY_BYTES
        held = {key: value for key in sizes if (value := memory.find(key)) is not None}
        assert len(memory) == len(held) <= most
        assert memory.size == sum(sizes[key] for key in held) <= 4000
        assert memory.find(key) == size, "the newest fits"


def test_an_entry_costs_what_is_counted() -> None:
    memory: Memory[int, int] = Memory(1 << 20, 1 << 30)
    numbers = list(range(100_000, 150_000))
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for number in numbers:
            memory.keep(number, number, 0)
        spent = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert spent <= memory.size
