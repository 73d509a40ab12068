"""What the kernel knows about a process: CPU from schedstat, memory as PSS. Used by the measures.

`/proc/PID/task/*/schedstat` begins with the nanoseconds that a thread has run, user and system
together; `/proc/PID/stat` counts in ticks of 10 ms, too coarse for runs of a second.
"""

import os
from collections.abc import Iterable
from pathlib import Path

_PROC = Path("/proc")


def parse_schedstat(text: str) -> int:
    """Nanoseconds on a CPU: the first of the three numbers."""
    return int(text.split(maxsplit=1)[0])


def parse_pss(text: str) -> int:
    """Bytes of PSS out of smaps_rollup: each shared page counts by its share."""
    for line in text.splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise ValueError("smaps_rollup has no Pss line")


def parse_parent(stat: str) -> int:
    """The parent's pid out of /proc/PID/stat, whose second field may hold blanks and brackets."""
    return int(stat.rpartition(")")[2].split()[1])


def parse_ticks(stat: str) -> int:
    """User and system time in clock ticks out of /proc/PID/stat: the cross-check of schedstat."""
    fields = stat.rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def family(pid: int) -> list[int]:
    """A process and all its descendants: nginx and haproxy work in children."""
    children: dict[int, list[int]] = {}
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            try:
                parent = parse_parent((entry / "stat").read_text())
            except OSError:  # it ended meanwhile
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found = [pid]
    for member in found:
        found.extend(children.get(member, ()))
    return found


def cpu_seconds(pids: Iterable[int]) -> float:
    """CPU time of all threads of these processes up to now."""
    total = 0
    for pid in pids:
        for task in (_PROC / str(pid) / "task").iterdir():
            try:
                total += parse_schedstat((task / "schedstat").read_text())
            except FileNotFoundError:  # the thread ended meanwhile; its time is lost
                continue
    return total / 1e9


def ticks_seconds(pids: Iterable[int]) -> float:
    """The same by the other account."""
    ticks = sum(parse_ticks((_PROC / str(pid) / "stat").read_text()) for pid in pids)
    return ticks / os.sysconf("SC_CLK_TCK")


def pss_bytes(pids: Iterable[int]) -> int:
    """Proportional set size of these processes."""
    return sum(parse_pss((_PROC / str(pid) / "smaps_rollup").read_text()) for pid in pids)
