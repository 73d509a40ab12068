"""What the kernel sees of the buffers that relaying takes and gives back."""

import ctypes
import platform
import subprocess
import sys
from types import SimpleNamespace

import pytest

from mk8s_agent.wire import heap
from mk8s_agent.wire.heap import HeapWatch, give_back
from mk8s_agent.wire.limits import MIB

PIECES = """
import resource
{start}
piece = bytearray(300 * 1024)
copies = [bytes(piece) for _ in range(4)]
del copies
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(100):
    copies = [bytes(piece) for _ in range(4)]
    del copies
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(start: str) -> int:
    """Page faults of a hundred pieces in four copies each, in a process of its own."""
    command = [sys.executable, "-c", PIECES.format(start=start)]
    return int(subprocess.run(command, capture_output=True, check=True, text=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's thresholds")
def test_pieces_are_not_faulted_in_anew() -> None:
    imported = "from mk8s_agent.wire.heap import keep_heap"
    assert faults(f"{imported}\nkeep_heap()") * 10 < faults(imported)


LARGE = """
{start}
def resident():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))
before, small = resident(), []
for size in (20, 30, 24, 40):
    grown = bytearray()
    for _ in range(size * 16):
        grown += bytes(65536)
    copy = bytes(grown)
    small.append(bytes(300_000))  # it stays, on top of what was taken from the heap
    del grown, copy
print(resident() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's thresholds")
def test_attack_large_objects_leave_no_memory_behind() -> None:
    def left(start: str) -> int:
        command = [sys.executable, "-c", LARGE.format(start=start)]
        return int(subprocess.run(command, capture_output=True, check=True, text=True).stdout)

    imported = "from mk8s_agent.wire.heap import keep_heap"
    assert left(f"{imported}\nkeep_heap()") * 4 < left(f"{imported}\nbytes(2 << 20)")


def test_both_thresholds_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[int, int]] = []
    library = SimpleNamespace(mallopt=lambda *what: told.append(what))
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: library)
    heap.keep_heap()
    assert told == [(-3, 2 * MIB), (-1, 4 * MIB)]


def test_what_a_crowd_of_slow_readers_left_is_worth_giving_back() -> None:
    watch = HeapWatch()
    growing = [0, 40 * MIB, 200 * MIB, 120 * MIB, 51 * MIB]
    assert not any(watch.is_worth_it(waiting) for waiting in growing)
    assert [watch.is_worth_it(waiting * MIB) for waiting in (50, 20, 12, 0)] == [
        True, False, True, False,
    ]  # fmt: skip
    assert not any(watch.is_worth_it(waiting * MIB) for waiting in (31, 0, 32, 9))
    assert watch.is_worth_it(8 * MIB)


def test_giving_back_leaves_what_is_in_use() -> None:
    kept = [bytes([number]) * 100_000 for number in range(100)]
    del kept[::2]
    give_back()
    assert [piece[0] for piece in kept] == list(range(1, 100, 2))


def test_a_c_library_that_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr(ctypes, "CDLL", asked.append)
    give_back()
    heap.keep_heap()
    assert asked == [None, None]


def test_memory_is_given_back_once(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[int] = []
    monkeypatch.setattr(heap, "give_back", lambda: given.append(1))
    watch = HeapWatch()
    for waiting in (0, 40 * MIB, 0, 0):
        watch.second(waiting)
    assert given == [1]
