"""Regular expressions that operators write, matched in linear time.

Python's own engine takes exponential time for some ("(a+)+$"), and what is matched is often sent by
others. RE2 has no such patterns: it lacks what would need them, backreferences and looking around.
"""

import importlib
from collections.abc import Iterator
from typing import Any, Protocol


class Found(Protocol):
    """One place where a pattern matches."""

    def span(self, group: int, /) -> tuple[int, int]:
        """Where a group begins and ends; twice -1 for one that took no part."""


class Pattern(Protocol):
    """A compiled pattern."""

    @property
    def groups(self) -> int:
        """How many groups it has."""

    def finditer(self, text: str, /) -> Iterator[Found]:
        """All places, from the left."""


class BadPattern(ValueError):
    """No pattern of RE2; the message says what is wrong with it."""


def compile_pattern(text: str) -> Pattern:
    """Compile one pattern, for any number of texts.

    Raises:
        BadPattern: it is none, or needs what RE2 has not.
    """
    engine: Any = importlib.import_module("re2")  # 20 ms, for those who have patterns
    options = engine.Options()
    options.log_errors = False
    try:
        compiled: Pattern = engine.compile(text, options)
    except engine.error as error:
        [told] = error.args
        raise BadPattern(told.decode() if isinstance(told, bytes) else str(told)) from None
    return compiled
