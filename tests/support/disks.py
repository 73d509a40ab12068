"""Disks that fail or stall: what `os.write` does with files, and with nothing else."""

import os
import stat
from collections.abc import Callable

import pytest

Write = Callable[[int, bytes], int]


def write_files_by(patch: pytest.MonkeyPatch, write: Write) -> None:
    """Lets `write` do what `os.write` does with plain files; pipes and sockets are no disks."""
    real = os.write

    def either(descriptor: int, data: bytes) -> int:
        is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
        return write(descriptor, data) if is_file else real(descriptor, data)

    patch.setattr(os, "write", either)
