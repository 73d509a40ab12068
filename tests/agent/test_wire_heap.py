"""What the kernel sees of the buffers that relaying takes and gives back."""

import platform
import subprocess
import sys

import pytest

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
