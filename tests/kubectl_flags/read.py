"""Reads the commands and flags of one kubectl out of its help.

Help says a flag's name, its shorthand and its default. Whether a flag takes the next argument
follows from the default where that is true or false; of the others the parser is asked, since some
have a value of their own (`--dry-run`). Hidden flags are not seen, and so not known.
"""

import json
import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

FLAG = re.compile(r"^    (?:-(?P<short>.), )?--(?P<name>[\w-]+)=(?P<default>.*):$")
COMMAND = re.compile(r"^  (?P<name>[a-z][a-z-]*) {2,}\S")
ALIASES = re.compile(r"^Aliases:\n(?P<names>.+)$", re.MULTILINE)


class Flag(NamedTuple):
    kind: str
    """value: takes one; switch: true or false; optional: has a value of its own."""
    short: str


class Command(NamedTuple):
    aliases: tuple[str, ...]
    flags: dict[str, Flag]


class Kubectl:
    """One kubectl, run in an empty folder."""

    def __init__(self, program: Path, folder: Path) -> None:
        self._program = program.absolute()
        self._folder = folder
        self._kinds: dict[tuple[str, str], str] = {}

    def version(self) -> str:
        """Major and minor version, as in 1.33."""
        said = json.loads(self._run("version", "--client", "-o", "json"))["clientVersion"]
        major, minor = said["gitVersion"].removeprefix("v").split(".")[:2]
        return f"{major}.{minor}"

    def commands(self, wanted: Sequence[str] = ()) -> dict[str, Command]:
        """All commands, or those that are wanted; under "" the flags that every one has."""
        found = {"": Command((), self._flags((), self._run("options")))}
        for words in [tuple(text.split()) for text in wanted] or self._tree(()):
            text = self._run(*words, "--help")
            aliases = ALIASES.search(text)
            names = aliases["names"].strip().split(", ") if aliases else []
            others = tuple(name for name in names if name != words[-1])
            found[" ".join(words)] = Command(others, self._flags(words, text))
        return found

    def _tree(self, words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        for name in subcommands(self._run(*words, "--help")):
            yield (*words, name)
            yield from self._tree((*words, name))

    def _flags(self, words: tuple[str, ...], text: str) -> dict[str, Flag]:
        found = {}
        for line in text.splitlines():
            if flag := FLAG.match(line):
                kind = self._kind(words, flag["name"], flag["default"])
                found[flag["name"]] = Flag(kind, flag["short"] or "")
        return found

    def _kind(self, words: tuple[str, ...], name: str, default: str) -> str:
        if default in {"true", "false"}:
            return "switch"
        known = self._kinds.get((name, default))
        if known is None:
            said = self._run(*(words or ("version",)), "--help", f"--{name}")
            known = "optional" if "Usage:" in said else "value"
            self._kinds[name, default] = known
        return known

    def _run(self, *arguments: str) -> str:
        environment = {"HOME": str(self._folder), "PATH": os.devnull, "KUBERC": "off"}
        done = subprocess.run(
            [self._program, *arguments],
            cwd=self._folder, env=environment, capture_output=True, text=True, timeout=30,
        )  # fmt: skip
        return done.stdout + done.stderr


def subcommands(text: str) -> Iterator[str]:
    """The names in the sections of commands of a help text."""
    within = False
    for line in text.splitlines():
        if line and not line.startswith(" "):
            within = "Commands" in line and line.endswith(":")
        elif within and (command := COMMAND.match(line)):
            yield command["name"]
