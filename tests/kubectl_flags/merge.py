"""One table of the commands and flags of several kubectls, and its text."""

import json
from collections.abc import Mapping
from typing import Any

from tests.kubectl_flags.read import Command, Flag

Tables = Mapping[str, Mapping[str, Command]]
"""Commands by their words, by version."""


def merged(tables: Tables) -> dict[str, Any]:
    """The content of `flags.json`. A flag that every version has says no versions.

    Raises:
        ValueError: a flag is read differently by two versions, or a letter means two flags.
    """
    versions = sorted(tables, key=sort_key)
    commands: dict[str, Any] = {}
    for version in versions:
        for words, command in tables[version].items():
            entry = commands.setdefault(words, {"aliases": set(), "flags": {}})
            entry["aliases"] |= set(command.aliases)
            for name, flag in command.flags.items():
                known, held = entry["flags"].get(name, (flag, []))
                entry["flags"][name] = (_agreed(f"{words} --{name}", known, flag), [*held, version])
    _check_letters(commands)
    return {
        "versions": versions,
        "commands": {
            words: {
                "aliases": sorted(entry["aliases"]),
                "flags": {
                    name: [*flag, *_span(held, versions)]
                    for name, (flag, held) in sorted(entry["flags"].items())
                },
            }
            for words, entry in sorted(commands.items())
        },
    }


def _check_letters(commands: dict[str, Any]) -> None:
    for words, entry in commands.items():
        flags = commands[""]["flags"] | entry["flags"]
        letters = [flag.short for flag, _ in flags.values() if flag.short]
        twice = {letter for letter in letters if letters.count(letter) > 1}
        if twice:
            raise ValueError(f"{words}: {twice} mean several flags")


def _agreed(name: str, one: Flag, other: Flag) -> Flag:
    """The flag of two versions; one of them may have no letter for it yet."""
    letters = {one.short, other.short} - {""}
    if one.kind != other.kind or len(letters) > 1:
        raise ValueError(f"{name}: {one} and {other}")
    return Flag(one.kind, "".join(letters))


def _span(held: list[str], versions: list[str]) -> list[str]:
    """First and last version that has it, "" for the ends of the table."""
    if held == versions:
        return []
    first = "" if held[0] == versions[0] else held[0]
    return [first, "" if held[-1] == versions[-1] else held[-1]]


def sort_key(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def text_of(table: Mapping[str, Any]) -> str:
    """JSON with one flag a line, so that a change of a version can be read."""
    blocks = []
    for words, command in table["commands"].items():
        flags = ",\n".join(
            f"    {json.dumps(name)}: {json.dumps(flag)}" for name, flag in command["flags"].items()
        )
        body = f'"aliases": {json.dumps(command["aliases"])}, "flags": {{\n{flags}\n  }}'
        blocks.append(f"  {json.dumps(words)}: {{{body}}}")
    commands = ",\n".join(blocks)
    return f'{{"versions": {json.dumps(table["versions"])},\n"commands": {{\n{commands}\n}}}}\n'
