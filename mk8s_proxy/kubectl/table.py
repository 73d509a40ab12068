"""kubectl's commands and flags, of all versions that were read. Data: `flags.json`.

A flag that some version does not have is known all the same: that kubectl says so itself.
"""

import functools
import importlib.resources
import json
from typing import Final, Literal, NamedTuple

Kind = Literal["switch", "value", "optional"]
"""switch: true or false, true when nothing is said. value: takes the next argument where none is
attached. optional: has a value of its own where none is attached (`--dry-run`)."""
Words = tuple[str, ...]
"""A command, as in ("rollout", "status"); () is kubectl itself."""
ROOT: Final[Words] = ()


class Flag(NamedTuple):
    """A flag of a command."""

    name: str
    kind: Kind
    short: str
    """Its letter, "" for none."""


class Command(NamedTuple):
    """A command as kubectl's parser sees it."""

    words: Words
    by_name: dict[str, Flag]
    """Its own flags and those of every command."""
    by_letter: dict[str, Flag]
    children: dict[str, Words]
    """Its subcommands by their names and aliases."""


class Table(NamedTuple):
    """All commands."""

    versions: tuple[str, ...]
    """Of the kubectls that were read, as in "1.33", oldest first."""
    commands: dict[Words, Command]


@functools.cache
def load() -> Table:
    """The table of the package; the same one each time, not to be changed."""
    text = importlib.resources.files(__package__).joinpath("flags.json").read_text()
    return table_of(json.loads(text))


def table_of(data: dict[str, object]) -> Table:
    """The table of such data as `flags.json` holds."""
    versions, described = data["versions"], data["commands"]
    assert isinstance(versions, list)
    assert isinstance(described, dict)
    everywhere = _flags(described[""]["flags"])
    commands = {}
    for text, about in described.items():
        flags = everywhere | _flags(about["flags"])
        letters = {flag.short: flag for flag in flags.values() if flag.short}
        words = tuple(text.split())
        commands[words] = Command(words, flags, letters, {})
    for text, about in described.items():
        words = tuple(text.split())
        for name in (*words[-1:], *about["aliases"]):
            commands[words[:-1]].children[name] = words
    return Table(tuple(versions), commands)


def _flags(described: dict[str, list[str]]) -> dict[str, Flag]:
    return {name: Flag(name, about[0], about[1]) for name, about in described.items()}  # type: ignore[arg-type]
