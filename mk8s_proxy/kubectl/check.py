"""From a caller's arguments to those that central runs kubectl with.

Called by the management API. What comes out says the same as what was asked, in one spelling:
words, `--name=value`, arguments, `--` and what stood behind it. So however a kubectl reads
shorthands, attached values or flags among arguments, there is nothing left for it to read.
"""

from typing import Final, NamedTuple

from mk8s_proxy.kubectl import rules, table
from mk8s_proxy.kubectl.arguments import Given, Line, read
from mk8s_proxy.kubectl.refusal import CommandRefused

MOST_ARGUMENTS: Final = 512
MOST_BYTES: Final = 64 * 1024
"""Of all arguments: the target of an exec must fit into a request."""
HIDDEN: Final = "REDACTED"

_TRUE: Final = frozenset(("1", "t", "T", "true", "TRUE", "True"))
_FALSE: Final = frozenset(("0", "f", "F", "false", "FALSE", "False"))
"""What Go's strconv.ParseBool takes."""


class Checked(NamedTuple):
    """A command that central will run."""

    arguments: tuple[str, ...]
    """For kubectl."""
    shown: tuple[str, ...]
    """For the audit: the same without what may be a secret."""
    users: tuple[str, ...]
    """As whom it acts, if so asked: policy decides."""
    groups: tuple[str, ...]
    """As whose members."""
    is_raw: bool
    """Whether it names a whole path on central: older kubectls put that in place of the server's
    own path, newer ones behind it. So the server should have none."""


def check(arguments: list[str], prefix: str) -> Checked:
    """Read and judge a command.

    Args:
        arguments: what the caller would write behind "kubectl".
        prefix: the path of the cluster on central, as in /k8s/prod, for `--raw`.

    Raises:
        CommandRefused: it cannot be read, or is not run for callers.
    """
    _check_size(arguments)
    line = read(arguments, table.load())
    rule = rules.rule_of(line.command.words)
    for given in line.flags:
        _check_flag(line, rule, given)
    flags = [_written(given, prefix) for given in line.flags]
    rest = () if line.rest is None else ("--", *line.rest)
    asked = (*line.arguments, *rest)
    hidden = [_hidden(given, flag) for given, flag in zip(line.flags, flags, strict=True)]
    shown_arguments = asked
    if line.command.words == rules.SET_ENV:
        shown_arguments = tuple(map(_without_value, asked))
    return Checked(
        (*line.command.words, *flags, *asked),
        (*line.command.words, *hidden, *shown_arguments),
        _values(line, "as"),
        _values(line, "as-group"),
        any(given.flag.name == rules.RAW for given in line.flags),
    )


def _check_size(arguments: list[str]) -> None:
    if not arguments:
        raise CommandRefused("write what stands behind kubectl, one word an item")
    if len(arguments) > MOST_ARGUMENTS:
        raise CommandRefused(f"at most {MOST_ARGUMENTS} arguments")
    if any("\0" in argument for argument in arguments):
        raise CommandRefused("an argument cannot contain a NUL")
    try:
        size = sum(len(argument.encode()) for argument in arguments)
    except UnicodeEncodeError:
        raise CommandRefused("an argument is no text") from None
    if size > MOST_BYTES:
        raise CommandRefused(f"the arguments are too long: at most {MOST_BYTES} bytes")


def _check_flag(line: Line, rule: frozenset[str], given: Given) -> None:
    flag = given.flag
    if flag.name not in rule:
        why = rules.why_not(line.command.words, flag.name)
        raise CommandRefused(f"--{flag.name} is not taken for {_name(line)}: {why}")
    if flag.kind == "switch" and given.value is not None and given.value not in _TRUE | _FALSE:
        raise CommandRefused(f"--{flag.name}: true or false")
    problem = rules.problem_of(line.command.words, flag.name, given.value or "")
    if problem:
        raise CommandRefused(f"--{flag.name}: {problem}")


def _written(given: Given, prefix: str) -> str:
    """A flag in the one spelling. One without a value is left so: kubectl knows its own."""
    name, value = given.flag.name, given.value
    if given.flag.kind == "switch":
        return f"--{name}={'false' if value in _FALSE else 'true'}"
    if value is None:
        return f"--{name}"
    return f"--{name}={prefix}{value}" if name == rules.RAW else f"--{name}={value}"


def _hidden(given: Given, written: str) -> str:
    return f"--{given.flag.name}={HIDDEN}" if given.flag.name in rules.SECRET else written


def _without_value(argument: str) -> str:
    """NAME=VALUE without the value."""
    name, equals, _ = argument.partition("=")
    return f"{name}={HIDDEN}" if equals else argument


def _values(line: Line, name: str) -> tuple[str, ...]:
    return tuple(given.value or "" for given in line.flags if given.flag.name == name)


def _name(line: Line) -> str:
    return " ".join(("kubectl", *line.command.words))
