"""Command lines in pages: found, split as a shell would, and checked without being run.

A page has code blocks of three kinds: indented by four spaces or fenced as ```sh they are command
lines, every other fence names its language. Inline code that begins with a program is a command
line too; there "..." and words in capitals stand for something.
"""

import configparser
import functools
import importlib
import re
import shlex
import subprocess
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from mk8s_agent.command import command as agent_command
from mk8s_cli.command_table import mk8s
from mk8s_proxy.process.main import main as central_command
from tests.support import kubectl as kubectls

CHECKOUT = Path(__file__).resolve().parents[2]
LANGUAGES = {"sh", "text", "yaml"}
NOT_GIVEN = getattr(click.core, "UNSET", None)  # since click 8.3
VARIABLE = re.compile(r"[A-Z][A-Z0-9_]*=.*")


@dataclass(frozen=True, slots=True)
class CommandLine:
    """One simple command: what stands between two `&&`."""

    page: str
    line: int
    block: int
    """The line where its block begins."""
    variables: dict[str, str]
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page}:{self.line}: {' '.join(self.words)}"


@dataclass(frozen=True, slots=True)
class Block:
    """One code block of a page."""

    line: int
    language: str
    text: str


def blocks(text: str) -> list[Block]:
    """The code blocks of a page; those without a fence are command lines, as "sh"."""
    found: list[Block] = []
    lines = text.splitlines()
    place = 0
    while place < len(lines):
        begin = place
        if lines[place].startswith("```"):
            place = lines.index("```", place + 1)
            body = lines[begin + 1 : place]
            found.append(Block(begin + 2, lines[begin].removeprefix("```"), "\n".join(body)))
        elif lines[place].startswith("    ") and not lines[max(0, place - 1)].strip():
            while place < len(lines) and lines[place].startswith("    "):
                place += 1
            body = [line[4:] for line in lines[begin:place]]
            found.append(Block(begin + 1, "sh", "\n".join(body)))
        place += 1
    return found


def command_lines(page: Path) -> Iterator[CommandLine]:
    """Every simple command of a page's blocks, in order."""
    name = page.relative_to(CHECKOUT).as_posix()
    for block in blocks(page.read_text()):
        if block.language == "sh":
            yield from _commands_of(name, block)


def _commands_of(name: str, block: Block) -> Iterator[CommandLine]:
    whole, begin = "", block.line
    for number, line in enumerate(block.text.splitlines(), block.line):
        begin = begin if whole else number
        whole += line.removesuffix("\\")
        if line.endswith("\\"):
            continue
        for variables, words in split(whole):
            yield CommandLine(name, begin, block.line, variables, words)
        whole = ""


def split(text: str) -> Iterator[tuple[dict[str, str], tuple[str, ...]]]:
    """The simple commands of one line, each with the variables before it."""
    lexer = shlex.shlex(text, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    read = iter([*lexer, "&&"])
    for word in read:
        if word in {"<", ">"}:
            next(read)  # a file
        elif word != "&&":
            assert not set(word) <= set(";|&<>()"), f"only && and files: {text}"
            words.append(word)
        elif words:
            count = next(at for at, it in enumerate([*words, ""]) if not VARIABLE.fullmatch(it))
            pairs = (it.partition("=") for it in words[:count])
            yield {name: value for name, _, value in pairs}, tuple(words[count:])
            words = []


def inline_commands(text: str) -> Iterator[tuple[str, ...]]:
    """Inline code that begins with a program that `CHECKS` knows; headings have usages instead."""
    prose = re.sub(r"^```.*?^```$|^#.*?$", "", text, flags=re.DOTALL | re.MULTILINE)
    for found in re.finditer(r"`([^`\n]+)`", prose):
        first, _, rest = found[1].partition(" ")
        if rest and first in CHECKS:
            yield from (words for _, words in split(found[1]) if words)


# Checks: each raises AssertionError or click.UsageError for a word that its program does not know.


def check(words: Sequence[str]) -> None:
    """Whether the program, subcommands, options and files of a command exist."""
    program = words[0].removeprefix(".venv/bin/")
    assert program in CHECKS, f"no test knows the program {words[0]}: {' '.join(words)}"
    CHECKS[program](list(words[1:]))


def _click(root: click.Command) -> Callable[[list[str]], None]:
    """A program of ours: click reads the words and calls nothing."""

    def parse(words: list[str]) -> None:
        name, command, context = root.name or "", root, click.Context(root)
        words = words[:-1] if words[-1:] == ["..."] else words
        while isinstance(command, click.Group):
            _, words, _ = command.make_parser(context).parse_args(list(words))
            if words in ([], ["COMMAND", "[ARGS]..."]):
                return  # a whole group is meant
            found, below, words = command.resolve_command(context, words)
            assert below is not None, f"no command {words}"
            name, command = found or "", below
            context = click.Context(command, context, info_name=name)
        if type(command).parse_args is click.Command.parse_args and words:
            _read_words(command, context, words)

    return parse


def _read_words(command: click.Command, context: click.Context, words: list[str]) -> None:
    """Options and arguments of a command that looks at them; files need not exist."""
    values, more, _ = command.make_parser(context).parse_args(list(words))
    assert not more, f"{context.info_name} takes no more arguments: {more}"
    for it in command.params:
        value = values.get(it.name or "")
        if value is None or value is NOT_GIVEN:
            assert not it.required, f"{context.info_name} needs {it.human_readable_name}"
        elif isinstance(it.type, (click.Choice, click.types.IntParamType)) and not it.multiple:
            it.type_cast_value(context, value)


@functools.cache
def _kubectl_options(command: tuple[str, ...]) -> str:
    """What a kubectl says about a command and about options of all commands."""
    binary = kubectls.binaries()[-1]
    asked = ([*command, "--help"], ["options"])
    return "".join(
        subprocess.run([binary, *it], capture_output=True, text=True, timeout=30).stdout
        for it in asked
    )


def _kubectl(words: list[str]) -> None:
    """Kubectl's own help knows the command and each option."""
    if words == ["..."] or not kubectls.binaries():
        return
    if words[0] == "-n":
        words = words[2:]
    nested = {"create", "auth", "rollout"}
    depth = 3 if words[:2] == ["create", "secret"] else 2 if words[0] in nested else 1
    command = tuple(words[:depth])
    told = _kubectl_options(command)
    assert f"kubectl {' '.join(command)}" in told, f"kubectl has no command {' '.join(command)}"
    for word in words:
        if word.startswith("-"):
            option = re.escape(word.partition("=")[0])
            assert re.search(rf"(?<![\w-]){option}(?=[=,\s])", told), f"kubectl has no {word}"


def _tox(words: list[str]) -> None:
    if words:
        assert words[0] == "-e"
        config = configparser.ConfigParser()
        config.read(CHECKOUT / "tox.ini")
        assert f"testenv:{words[1]}" in config, f"tox.ini has no environment {words[1]}"


def _pip(words: list[str]) -> None:
    assert words[0] in {"install", "wheel"}, words
    known = {"-q", "--no-deps", "-e"}
    extras = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    for word in words[1:]:
        if found := re.fullmatch(r"\.\[(\w+)\]", word):
            assert found[1] in extras, f"pyproject.toml has no extra {found[1]}"
        else:
            assert word in known | {".", "tox", "tox-uv"}, f"pip: {word}"


def _python(words: list[str]) -> None:
    """A virtual environment, one of our modules or scripts."""
    if words[:1] == ["-m"]:
        if words[1:] != ["venv", ".venv"]:
            _module(words[1], [word for word in words[2:] if word != "..."])
        return
    assert (CHECKOUT / words[0]).is_file(), f"there is no {words[0]}"
    source = (CHECKOUT / words[0]).read_text()
    for option in (word for word in words[1:] if word.startswith("-")):
        assert f'"{option}"' in source, f"{words[0]} has no option {option}"


def _module(name: str, words: list[str]) -> None:
    """Benchmarks, conformance, the oracle: their parsers take the words, nothing is run."""
    parsers = {
        "tests.attacks": ("tests.attacks.session", lambda it: it.arguments),
        "tests.conformance": ("tests.conformance.__main__", lambda it: it.arguments().parse_args),
        "tests.bench.relay": ("tests.bench.relay.session", lambda it: it.arguments),
        "tests.bench.bench_audit": ("tests.bench.bench_audit", lambda it: it.arguments),
        "tests.bench.bench_exchange": ("tests.bench.bench_exchange", lambda _: lambda _words: None),
        "tests.bench.bench_metrics": ("tests.bench.bench_metrics", lambda _: lambda _words: None),
        "tests.bench.bench_out_again": (
            "tests.bench.bench_out_again",
            lambda _: lambda _words: None,
        ),
        "tests.first_steps.build": ("tests.first_steps.build", lambda _: lambda _words: None),
        "tests.sso.build": ("tests.sso.build", lambda _: lambda _words: None),
        "tests.support.helm": ("tests.support.helm", lambda _: lambda _words: None),
        "tests.bench.bench_start": (
            "tests.bench.bench_start",
            lambda it: it.arguments().parse_args,
        ),
        "tests.oracle.build": ("tests.oracle.build", lambda _: lambda _words: None),
        "tests.oracle.fuzz": ("tests.oracle.fuzz", lambda it: _click(it.main)),
    }
    assert name in parsers, f"no test knows the module {name}"
    module, parser = parsers[name]
    words = [*words, "FILE"] if (name, words) == ("tests.bench.relay", ["--publish"]) else words
    try:
        parser(importlib.import_module(module))(words)
    except SystemExit as error:
        raise AssertionError(f"{name} does not take {words}") from error


def _docker(words: list[str]) -> None:
    """Only what the pages use; files are those of the checkout."""
    known = {"build", "compose", "run", "up", "-d", "--rm", "-f", "-t", ".", "central", "agent"}
    for place, word in enumerate(words):
        if word.startswith("deploy/"):
            assert (CHECKOUT / word).is_file(), f"there is no {word}"
        elif word == "init":
            return CHECKS["mk8s-central"](words[place:])
        else:
            assert word in known or words[place - 1] == "-t", f"docker: {word}"
    return None


def _helm(words: list[str]) -> None:
    """Only what the pages use; tests/test_charts.py renders it with its values."""
    assert words[:2] == ["upgrade", "--install"], words
    assert (CHECKOUT / words[3] / "Chart.yaml").is_file(), f"there is no chart {words[3]}"
    options = [word for word in words if word.startswith("--")]
    assert set(options) <= {"--install", "--namespace", "--set"}, options


def _pytest(words: list[str]) -> None:
    for word in words:
        assert word == "-q" or (CHECKOUT / word).exists(), f"there is no {word}"


def _bash(words: list[str]) -> None:
    assert (CHECKOUT / words[0]).is_file(), f"there is no {words[0]}"


def _eval(words: list[str]) -> None:
    (word,) = words
    for _, inner in split(word.removeprefix("$(").removesuffix(")")):
        check(inner)


def _sqlite3(words: list[str]) -> None:
    assert words == ["central.db", ".backup FILE"], words


CHECKS: dict[str, Callable[[list[str]], None]] = {
    "mk8s": _click(mk8s),
    "mk8s-central": _click(central_command),
    "mk8s-agent": _click(agent_command),
    "kubectl": _kubectl,
    "tox": _tox,
    "pip": _pip,
    "python": _python,
    "python3": _python,
    "docker": _docker,
    "helm": _helm,
    "pytest": _pytest,
    "bash": _bash,
    "eval": _eval,
    "sqlite3": _sqlite3,
}
