"""The faulty disk: `shim.c`, compiled where there is a C compiler; a file says what to do."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_SOURCE = Path(__file__).with_name("shim.c")


@dataclass(frozen=True, slots=True)
class Shim:
    """A built shim."""

    library: Path
    mode: Path

    def environment(self) -> dict[str, str]:
        """The variables of a program whose journal's disk can be made faulty."""
        return {"LD_PRELOAD": str(self.library), "MK8S_ATTACK_FAULT": str(self.mode)}

    @contextmanager
    def fault(self, kind: str) -> Iterator[None]:
        """A fault for the length of the block; the letters are those of `shim.c`."""
        self.mode.write_text(kind)
        try:
            yield
        finally:
            self.mode.write_text("0")


def built(folder: Path) -> Shim | None:
    """The shim, in this folder; None without a compiler, or on another system than Linux."""
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        return None
    library = folder / "shim.so"
    command = [compiler, "-shared", "-fPIC", "-O2", "-o", library, _SOURCE, "-ldl"]
    done = subprocess.run([str(word) for word in command], capture_output=True, timeout=60)
    return Shim(library, folder / "fault") if done.returncode == 0 else None
