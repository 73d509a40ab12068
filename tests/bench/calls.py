"""Calls and files that one request takes in central; printed by `bench_exchange --calls`.

Counts calls of Python functions of ours, comprehensions apart: pure Python only, a compiled module
has no frames. A reader who follows the request goes through as many files.
"""

import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

ROOMS = ("mk8s_proxy", "mk8s_agent")
_COMPREHENSIONS = ("<listcomp>", "<dictcomp>", "<setcomp>")
"""Frames of their own before Python 3.12 only."""
_HOUSE = Path(__file__).resolve().parents[2]


class Calls:
    """Counts while `run` runs something."""

    def __init__(self) -> None:
        self.functions: Counter[tuple[str, str]] = Counter()
        """File and function, and how often it was called."""

    @property
    def total(self) -> int:
        """All calls."""
        return self.functions.total()

    @property
    def files(self) -> dict[str, int]:
        """Calls in each file."""
        files: Counter[str] = Counter()
        for (file, _), count in self.functions.items():
            files[file] += count
        return dict(files)

    def run(self, work: Callable[..., object], *arguments: Any) -> None:
        """Does the work and counts its calls."""
        sys.setprofile(self._note)
        try:
            work(*arguments)
        finally:
            sys.setprofile(None)

    def _note(self, frame: FrameType, event: str, _argument: object) -> None:
        code = frame.f_code
        if event != "call" or code.co_name in _COMPREHENSIONS:
            return
        path = Path(code.co_filename)
        if path.is_relative_to(_HOUSE):
            file = path.relative_to(_HOUSE).as_posix()
            if file.startswith(ROOMS):
                self.functions[file, code.co_qualname] += 1

    def report(self) -> str:
        """A line for each file and function, and the sum."""
        lines = []
        for file, count in sorted(self.files.items()):
            lines.append(f"{count:4} {file}")
            functions = [(name, n) for (of, name), n in self.functions.items() if of == file]
            lines += [f"     {n:4} {name}" for name, n in functions]
        return "\n".join([*lines, f"{self.total} calls in {len(self.files)} files"])
