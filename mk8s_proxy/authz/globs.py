"""Globs, compiled. Called by `compile`.

`*` stands for any characters, also none, also newlines; everything else stands for itself.
"""

import functools
import re
from typing import Final

EXACT: Final = 0
PREFIX: Final = 1
SUFFIX: Final = 2


class Globs:
    """Several globs as one question: one set, one tuple of prefixes, one regular expression.

    Attributes:
        everything: whether any text matches, the empty one included.
        exact: the texts without `*`.
        keys: what a text must be (EXACT), or begin (PREFIX) or end (SUFFIX) with, for one of the
            globs to match it: the keys of an index.
    """

    __slots__ = ("_ends", "_pattern", "_starts", "everything", "exact", "keys")

    def __init__(self, globs: tuple[str, ...]) -> None:
        starred = [re.sub(r"\*+", "*", glob) for glob in globs if "*" in glob]
        single = [glob for glob in starred if glob.count("*") == 1]
        union = "|".join(
            _expression(glob)
            for glob in starred
            if glob.count("*") > 1 or not (glob.startswith("*") or glob.endswith("*"))
        )
        self.exact = frozenset(glob for glob in globs if "*" not in glob)
        self.everything = "*" in starred
        self._starts = tuple(glob[:-1] for glob in single if glob.endswith("*"))
        self._ends = tuple(glob[1:] for glob in single if glob.startswith("*"))
        self._pattern = re.compile(union, re.DOTALL) if union else None
        keys = [(text, EXACT) for text in self.exact]
        for glob in starred:
            prefix, _, rest = glob.partition("*")
            suffix = rest.rpartition("*")[2]
            keys.append((suffix, SUFFIX) if suffix and not prefix else (prefix, PREFIX))
        self.keys = tuple(dict.fromkeys(keys))

    def matches(self, text: str) -> bool:
        """Whether one of the globs matches the whole text."""
        if text in self.exact or text.startswith(self._starts) or text.endswith(self._ends):
            return True
        return self._pattern is not None and self._pattern.fullmatch(text) is not None


@functools.lru_cache(maxsize=4096)
def compile_globs(globs: tuple[str, ...]) -> Globs:
    """Compile globs; most rules of a policy share theirs with others."""
    return Globs(globs)


def _expression(glob: str) -> str:
    """Write a glob as a regular expression that never backtracks over more than one `*`.

    The first place where the text between two stars occurs is as good as any later one, so each
    such step is atomic (CPython's fnmatch does the same).
    """
    first, *middle, last = (re.escape(part) for part in glob.split("*"))
    return first + "".join(f"(?>.*?{part})" for part in middle) + ".*" + last
