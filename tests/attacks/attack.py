"""What an attack is: a name, what it is of, what it does, and how it is judged.

A `Load` is what somebody sends for some seconds, in a process of its own; it is judged by what
happens to another user and to memory meanwhile. A `Check` has one right outcome (a refusal with its
reason, a row, a closed tunnel), which its own code looks for.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.attacks.wire import Attacker

if TYPE_CHECKING:
    from tests.attacks.stage import Stage

Settings = tuple[tuple[str, str], ...]


class NotHeld(Exception):
    """The attack succeeded, or did what it must not; the text says what."""


class LeftOut(Exception):
    """The attack cannot be made here; the text says what is missing."""


def must(condition: object, text: str) -> None:
    """Raises NotHeld with this text unless the condition holds."""
    if not condition:
        raise NotHeld(text)


@dataclass(frozen=True, slots=True)
class Load:
    """What somebody sends for some seconds.

    Args:
        name: how it is called.
        point: of issue 11 ("8"), or of the design's list of attacks ("D1").
        what: one line: who sends what.
        act: does it, in a process of its own.
        seconds: how long at most.
        settings: central's, beside its defaults: attacks with others have a stage of their own.
        judge: looks at what the attacker was answered (the JSON of `Counts`) and at the stage
            while it goes on; the sentence for the table. Raises NotHeld.
        alone: gets a fresh stage, as its memory would otherwise be that of others.
        readers: the neighbour's errors that are right here (the answer "429" of a full share).
    """

    name: str
    point: str
    what: str
    act: Callable[[Attacker], None]
    seconds: float = 6.0
    settings: Settings = ()
    judge: Callable[["Stage", dict[str, Any]], str] | None = None
    alone: bool = False


@dataclass(frozen=True, slots=True)
class Check:
    """What has one right outcome.

    Args:
        name: how it is called.
        point: as of `Load`.
        what: one line: who does what.
        act: does it and looks; the sentence for the table. Raises NotHeld or LeftOut.
        settings: as of `Load`.
        alone: gets a fresh stage, and leaves none behind.
        harms: the cluster or the audit is out of order meanwhile on purpose, so the neighbour's
            errors are right.
    """

    name: str
    point: str
    what: str
    act: Callable[["Stage"], str]
    settings: Settings = ()
    alone: bool = False
    harms: bool = False


Attack = Load | Check
