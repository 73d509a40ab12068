"""Two runs of an operation, laid side by side: same or, in one line, the first difference."""

import difflib
from collections.abc import Mapping, Sequence

from tests.conformance.normalise import normalise
from tests.conformance.outcome import Cell, Outcome, Verdict

SHOWN = 300
"""Characters of each side in a difference."""


def first_difference(direct: str, through: str) -> str:
    """The first line that differs, of both; "" when none does."""
    left, right = direct.splitlines(), through.splitlines()
    matcher = difflib.SequenceMatcher(None, left, right, autojunk=False)
    for tag, start, end, other_start, other_end in matcher.get_opcodes():
        if tag != "equal":
            ours = "\\n".join(left[start:end])[:SHOWN] or "(nothing)"
            theirs = "\\n".join(right[other_start:other_end])[:SHOWN] or "(nothing)"
            return f"direct: {ours} | mk8s: {theirs}"
    return ""


def compare(
    direct: Sequence[Outcome],
    through: Sequence[Outcome],
    chosen: tuple[Mapping[str, str], Mapping[str, str]],
) -> Cell:
    """The cell of two runs.

    Args:
        direct: the steps without mk8s.
        through: the same steps through mk8s.
        chosen: the words for the runner's own choices, of each run (`normalise`).
    """
    if len(direct) != len(through):
        reason = f"direct: {len(direct)} steps | mk8s: {len(through)} steps"
        return Cell(Verdict.DIFFERS, reason, min(len(direct), len(through)))
    for left, right in zip(direct, through, strict=True):
        if reason := _difference(left, right, chosen):
            step = normalise(left.step, chosen[0])
            return Cell(Verdict.DIFFERS, f"{step}: {reason}", len(direct))
    return Cell(Verdict.SAME, "", len(direct))


def _difference(
    left: Outcome, right: Outcome, chosen: tuple[Mapping[str, str], Mapping[str, str]]
) -> str:
    def both(one: str, other: str) -> str:
        return first_difference(normalise(one, chosen[0]), normalise(other, chosen[1]))

    if left.code != right.code:
        said = both(left.errors, right.errors)
        return f"direct: code {left.code} | mk8s: code {right.code}; {said}"
    if reason := both(left.output, right.output):
        return f"output: {reason}"
    if reason := both(left.errors, right.errors):
        return f"errors: {reason}"
    facts = ["\n".join(sorted(normalise(fact, words) for fact in outcome.facts))
             for outcome, words in ((left, chosen[0]), (right, chosen[1]))]  # fmt: skip
    reason = first_difference(facts[0], facts[1])
    return f"requests: {reason}" if reason else ""
