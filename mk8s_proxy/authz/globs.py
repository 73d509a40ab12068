"""Globs, compiled. Called by `compile`.

`*` stands for any characters, also none, also newlines; everything else stands for itself.
"""

import re
from collections.abc import Iterable


class Globs:
    """Several globs as one question: a set of the exact ones, one regular expression of the rest.

    Attributes:
        everything: whether any text matches, the empty one included.
        exact: the texts without `*`.
        prefixes: what stands before the first `*` of each glob.
    """

    __slots__ = ("_pattern", "everything", "exact", "prefixes")

    def __init__(self, globs: Iterable[str]) -> None:
        globs = tuple(globs)
        self.exact = frozenset(glob for glob in globs if "*" not in glob)
        patterns = [glob for glob in globs if "*" in glob]
        self.everything = any(not glob.strip("*") for glob in patterns)
        self.prefixes = frozenset(glob.partition("*")[0] for glob in patterns)
        union = "|".join(map(_expression, patterns))
        self._pattern = re.compile(union, re.DOTALL) if union else None

    def matches(self, text: str) -> bool:
        """Whether one of the globs matches the whole text."""
        if self.everything or text in self.exact:
            return True
        return self._pattern is not None and self._pattern.fullmatch(text) is not None


def _expression(glob: str) -> str:
    """Write a glob as a regular expression that never backtracks over more than one `*`.

    The first place where the text between two stars occurs is as good as any later one, so each
    such step is atomic (CPython's fnmatch does the same).
    """
    first, *middle, last = (re.escape(part) for part in re.split(r"\*+", glob))
    return first + "".join(f"(?>.*?{part})" for part in middle) + ".*" + last
