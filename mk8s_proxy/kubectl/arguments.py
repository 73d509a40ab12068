"""Reads a command line as kubectl does: cobra finds the command, pflag reads its flags.

`find` is cobra's `Find` (`command.go`: `Find`, `stripFlags`, `argsMinusFirstX`), `_Reader` is
pflag's `parseArgs` (`flag.go`). Both are followed to the letter where the table knows the flags;
where it does not, or where cobra and pflag could see something else than we do (flags that kubectl
hides, names with `_`, `-test.`), the line is refused. Tests ask the Go parser the same.
"""

from typing import NamedTuple

from mk8s_proxy.kubectl.refusal import CommandRefused, shown
from mk8s_proxy.kubectl.table import ROOT, Command, Flag, Table


class Given(NamedTuple):
    """A flag as it was given."""

    flag: Flag
    value: str | None
    """None where nothing was attached to a flag that can do without."""


class Line(NamedTuple):
    """A command line that was read."""

    command: Command
    flags: tuple[Given, ...]
    """In their order."""
    arguments: tuple[str, ...]
    """What is no flag, up to a "--"."""
    rest: tuple[str, ...] | None
    """What stands behind the "--"; None without one."""


def read(arguments: list[str], table: Table) -> Line:
    """Read the arguments behind "kubectl".

    Raises:
        CommandRefused: kubectl could not read them either, or not for sure in the same way.
    """
    command, left = find(arguments, table)
    reader = _Reader(command)
    reader.read(left)
    if command.children and reader.arguments:
        raise CommandRefused(
            f'"{shown(reader.arguments[0])}" is no command of "{_name(command)}"; plugins are not '
            "run here"
        )
    rest = None if reader.rest is None else tuple(reader.rest)
    return Line(command, tuple(reader.flags), tuple(reader.arguments), rest)


def find(arguments: list[str], table: Table) -> tuple[Command, list[str]]:
    """The command that is meant, and the arguments without its words.

    Raises:
        CommandRefused: there is a flag before a word that need not be known there.
    """
    command, left = table.commands[ROOT], list(arguments)
    while command.children:
        place = _next_word(command, left)
        child = None if place is None else command.children.get(left[place])
        if place is None or child is None:
            break
        command = table.commands[child]
        del left[place]
    return command, left


def _next_word(command: Command, arguments: list[str]) -> int | None:
    """Where the first word is that is neither a flag nor a flag's value, as cobra looks for it."""
    place = 0
    while place < len(arguments):
        argument = arguments[place]
        if argument == "--":
            return None
        if argument and not argument.startswith("-"):
            return place
        place += 1
        if _takes_next(command, argument):
            if len(arguments) - place <= 1:  # cobra gives up here, even if it is a word
                return None
            place += 1
    return None


def _takes_next(command: Command, argument: str) -> bool:
    """Whether cobra takes the next argument for the value of this one."""
    if "=" in argument:
        return False
    if argument.startswith("--"):
        flag = command.by_name.get(argument[2:])
    elif len(argument.encode()) == 2:
        flag = command.by_letter.get(argument[1])
    else:  # nothing, "-", or several letters: never, whatever they mean
        return False
    if flag is None:
        raise CommandRefused(
            f'"{shown(argument)}" is no flag of "{_name(command)}": put flags behind the whole '
            "command"
        )
    return flag.kind == "value"


class _Reader:
    """Reads flags and arguments, and keeps what it has read."""

    def __init__(self, command: Command) -> None:
        self._command = command
        self.flags: list[Given] = []
        self.arguments: list[str] = []
        self.rest: list[str] | None = None

    def read(self, arguments: list[str]) -> None:
        """Read all of them."""
        left = arguments[::-1]
        while left:
            argument = left.pop()
            if not argument.startswith("-") or argument == "-":
                self.arguments.append(argument)
            elif argument == "--":
                self.rest = left[::-1]
                return
            elif argument.startswith("--"):
                self._long(argument, left)
            else:
                self._letters(argument, left)

    def _long(self, argument: str, left: list[str]) -> None:
        name, equals, value = argument[2:].partition("=")
        flag = self._command.by_name.get(name)
        if flag is None:
            raise self._unknown(f"--{name}")
        if equals:
            self._give(flag, value)
        elif flag.kind != "value":
            self._give(flag, None)
        else:
            self._give(flag, _next(left, argument))

    def _letters(self, argument: str, left: list[str]) -> None:
        letters = argument[1:]
        if letters.startswith("test."):  # pflag skips these, for Go's test programs
            raise self._unknown(argument)
        while letters:
            flag = self._command.by_letter.get(letters[0])
            if flag is None:
                raise self._unknown(f"-{letters[0]}")
            letters = letters[1:]
            if letters.startswith("=") and len(letters) > 1:
                self._give(flag, letters[1:])
                return
            if flag.kind == "value":
                self._give(flag, letters or _next(left, argument))
                return
            self._give(flag, None)

    def _give(self, flag: Flag, value: str | None) -> None:
        self.flags.append(Given(flag, value))

    def _unknown(self, flag: str) -> CommandRefused:
        return CommandRefused(
            f'"{shown(flag)}" is no flag that is known of "{_name(self._command)}"'
        )


def _name(command: Command) -> str:
    return " ".join(("kubectl", *command.words))


def _next(left: list[str], argument: str) -> str:
    if not left:
        raise CommandRefused(f'the flag "{shown(argument)}" needs a value')
    return left.pop()
