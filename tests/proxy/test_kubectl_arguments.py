"""How a kubectl command line is read: as cobra and pflag read it, or not at all."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from mk8s_proxy.kubectl import rules, table
from mk8s_proxy.kubectl.arguments import Line, find, read
from mk8s_proxy.kubectl.check import check
from mk8s_proxy.kubectl.refusal import CommandRefused
from tests.kubectl_flags.__main__ import TABLE
from tests.oracle.build import COBRA, build

ALONE = "\x00"
"""What the oracle says of a flag to which nothing is attached."""


class Cobra:
    """The Go parser, one process."""

    def __init__(self) -> None:
        command = [build(COBRA), TABLE]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def read(self, *lines: list[str]) -> list[dict[str, Any]]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(lines).encode() + b"\n")
        self._process.stdin.flush()
        found: list[dict[str, Any]] = json.loads(self._process.stdout.readline())
        return found

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()


@pytest.fixture(scope="module")
def cobra() -> Iterator[Cobra]:
    if not (shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")):
        pytest.skip("needs the go command")
    found = Cobra()
    yield found
    found.close()


def spoken(line: Line) -> dict[str, Any]:
    """A line in the words of the oracle."""
    rest = line.rest
    return {
        "error": "",
        "words": " ".join(line.command.words),
        "flags": [
            [given.flag.name, ALONE if given.value is None else given.value] for given in line.flags
        ],
        "arguments": [*line.arguments, *(rest or ())],
        "dash": -1 if rest is None else len(line.arguments),
    }


def read_here(arguments: list[str]) -> dict[str, Any] | None:
    try:
        return spoken(read(arguments, table.load()))
    except CommandRefused:
        return None


@pytest.mark.parametrize("flag", ["-", "-it", "-xyz"])
def test_neither_no_letter_nor_several_take_the_next_word(flag: str) -> None:
    command, _ = find([flag, "get", "pods"], table.load())
    assert command.words == ("get",)


def words_of(*commands: str) -> list[str]:
    return sorted({word for command in commands for word in command.split()})


COMMANDS = table.load().commands
NAMES = words_of(*(" ".join(words) for words in COMMANDS))
ALIASES = sorted({name for command in COMMANDS.values() for name in command.children})
FLAGS = sorted({name for command in COMMANDS.values() for name in command.by_name})
LETTERS = sorted({letter for command in COMMANDS.values() for letter in command.by_letter})
PLAIN = st.sampled_from(
    ["", "-", "--", "pods", "web", "x=y", "-1", "--help", "-h", "é", "-é", "=="]
)
VALUES = st.sampled_from(["", "=", "x", "-", "--", "json", "true", "=x", "-n", "get"])
LONG = st.builds(
    "{}{}{}".format, st.sampled_from(["--", "--", "--", "---"]),
    st.sampled_from([*FLAGS, "dry_run", "unknown", "=x", "test.v"]),
    st.one_of(st.just(""), st.builds("={}".format, VALUES)),
)  # fmt: skip
SHORT = st.builds(
    "-{}{}".format,
    st.text(st.sampled_from([*LETTERS, "z"]), min_size=1, max_size=3),
    st.one_of(st.just(""), st.builds("={}".format, VALUES), VALUES),
)
WORD = st.sampled_from([*NAMES, *ALIASES])
LINES = st.lists(st.one_of(WORD, WORD, LONG, SHORT, SHORT, PLAIN), max_size=8)


ALL = tuple(COMMANDS)
RUN = tuple(tuple(words.split()) for words in rules.COMMANDS)
NAMES_OF = {words: st.sampled_from(sorted(command.by_name)) for words, command in COMMANDS.items()}


@st.composite
def likely(draw: st.DrawFn, among: tuple[table.Words, ...] = ALL) -> list[str]:
    """A command with flags that it has, between and among its words."""
    command = COMMANDS[draw(st.sampled_from(among))]
    arguments = list(command.words)
    for name in draw(st.lists(NAMES_OF[command.words], max_size=4)):
        flag = command.by_name[name]
        value = draw(VALUES)
        spellings = [[f"--{name}={value}"], [f"--{name}"], [f"--{name}", value]]
        if flag.short:
            letter = f"-{flag.short}"
            spellings += [[letter], [letter, value], [f"{letter}{value}"], [f"{letter}={value}"]]
        at = draw(st.integers(0, len(arguments)))
        arguments[at:at] = draw(st.sampled_from(spellings))
    for extra in draw(st.lists(st.one_of(PLAIN, WORD), max_size=3)):
        arguments.insert(draw(st.integers(0, len(arguments))), extra)
    return arguments


@given(st.lists(st.one_of(LINES, likely(), likely()), min_size=20, max_size=40))
@settings(max_examples=settings().max_examples // 5)
@example([["-n", "get"], ["-n", "x", "get"], ["create", "-Rf", "-", "deployment"]])
@example([["get", "-o="], ["get", "-A="], ["get", "-Ao=json"], ["get", "-oA"], ["get", "-ojson"]])
@example([["rollout", "-n", "x", "status", "web"], ["exec", "web", "--", "ls", "--", "-l"]])
@example([["top", "po", "-A"], ["create", "svc", "clusterip", "x", "--tcp=1"], ["get", "-test.v"]])
@example(
    [["--all", "get"], ["create", "--zz", "deployment", "x"], ["get", "---x"], ["get", "--=x"]]
)
def test_every_line_is_read_as_kubectl_reads_it_or_refused(
    cobra: Cobra, lines: list[list[str]]
) -> None:
    for line, there in zip(lines, cobra.read(*lines), strict=True):
        here = read_here(line)
        if here is not None:
            assert here == there, line


@given(st.lists(likely(), min_size=20, max_size=40))
@settings(max_examples=settings().max_examples // 10)
def test_nothing_that_kubectl_can_read_is_refused_for_its_spelling(
    cobra: Cobra, lines: list[list[str]]
) -> None:
    """But for flags before a word that need not be known there: what they mean is kubectl's."""
    for line, there in zip(lines, cobra.read(*lines), strict=True):
        if there["error"] or read_here(line) is not None:
            continue
        with pytest.raises(CommandRefused, match=r"put flags behind the whole|plugins are not"):
            read(line, table.load())


@given(likely(RUN))
@settings(max_examples=settings().max_examples // 2, suppress_health_check=list(HealthCheck))
def test_what_central_runs_says_the_same_in_one_spelling(cobra: Cobra, line: list[str]) -> None:
    try:
        checked = check(line, "/k8s/prod")
    except CommandRefused:
        assume(False)
    asked, composed = cobra.read(line, list(checked.arguments))
    assert composed["words"] == asked["words"]
    assert composed["arguments"] == asked["arguments"]
    assert composed["dash"] == asked["dash"]
    for (name, value), (other_name, other) in zip(composed["flags"], asked["flags"], strict=True):
        assert name == other_name
        assert (
            value == other
            or table.load().commands[tuple(asked["words"].split())].by_name[name].kind == "switch"
            or name == "raw"
        )
    read_again = check(list(checked.arguments), "")
    assert read_again.arguments == checked.arguments
