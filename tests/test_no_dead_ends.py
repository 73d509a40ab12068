"""Nothing is left lying: every function has a caller, every setting a reader. Tests are neither."""

import ast
import dataclasses
import inspect
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mk8s_agent.settings import Settings as AgentSettings
from mk8s_proxy.settings.login import FederationSettings, GroupRule, IssuerSettings
from mk8s_proxy.settings.model import Settings

CHECKOUT = Path(__file__).resolve().parent.parent
PACKAGES = ("mk8s_proxy", "mk8s_agent", "mk8s_cli", "certs")
GENERATED = "migrations/versions"

CALLED_BY_OTHERS = {
    # asyncio's transports
    "get_buffer", "buffer_updated", "pause_writing", "resume_writing", "eof_received",
    # httptools' parsers
    "on_message_begin", "on_url", "on_header", "on_headers_complete", "on_message_complete",
    # http.server
    "do_GET", "log_message", "handle_error", "verify_request",
    # click, SQLAlchemy
    "get_command", "format_commands", "parse_args",
    "process_bind_param", "process_result_value",
    # string.Formatter
    "get_field", "convert_field", "format_field",
    # settings for documentation and tests
    "environment_variables",
}  # fmt: skip
"""Functions that only a library calls, or that only exist to be asked from outside."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def trees(packages: tuple[str, ...] = PACKAGES) -> Iterator[tuple[Path, ast.Module]]:
    for package in packages:
        for path in sorted((CHECKOUT / package).rglob("*.py")):
            if GENERATED not in path.as_posix():
                yield path, ast.parse(path.read_text())


def walked(tree: ast.AST) -> list[ast.AST]:
    """All nodes. To find them takes long, so whoever asks more than one question keeps them."""
    return list(ast.walk(tree))


def docstrings(nodes: list[ast.AST]) -> set[int]:
    """The statements that are nothing but a string: they name functions and call none."""
    return {
        id(node.value)
        for node in nodes
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }


def names_used(nodes: list[ast.AST]) -> set[str]:
    """Identifiers that are read, and words of strings such as "package.module:function"."""
    said = docstrings(nodes)
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.Constant) and id(node) not in said:
            text = str(node.value)
            found.update(re.findall(r"\w+", text) if re.fullmatch(r"[\w.:]+", text) else ())
    return found


def is_command(function: Function) -> bool:
    """Registered by its decorator, as click's commands are."""
    calls = [it.func for it in function.decorator_list if isinstance(it, ast.Call)]
    return any(isinstance(it, ast.Attribute) and it.attr in {"command", "group"} for it in calls)


def functions(nodes: list[ast.AST]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, Function) and not node.name.startswith("__") and not is_command(node):
            yield node.name


def uncalled(parsed: list[ast.Module]) -> set[str]:
    modules = [walked(tree) for tree in parsed]
    used = set().union(*map(names_used, modules))
    return {name for nodes in modules for name in functions(nodes)} - used


def test_every_function_has_a_caller() -> None:
    assert uncalled([tree for _, tree in trees()]) == CALLED_BY_OTHERS, "no more and no less"


def test_the_search_finds_what_nobody_calls() -> None:
    source = """
def lonely():
    '''lonely'''
def called(): ...
def named(): ...
@click.command()
def command(): called()
TABLE = {"a": "module:named"}
log.info("they are lonely")
"""
    assert uncalled([ast.parse(source)]) == {"lonely"}


PROGRAMS = {"mk8s_proxy": Settings, "mk8s_agent": AgentSettings}
READ_IN = {"mk8s_proxy": ("mk8s_proxy", "mk8s_agent/wire"), "mk8s_agent": ("mk8s_agent",)}
DEFINE_ONLY = (
    "mk8s_proxy/settings/",
    "mk8s_proxy/process/check_config.py",
    "mk8s_agent/settings.py",
)
"""Where settings are made and shown: to be read there is not to have an effect."""
SEEN_AS = {"LimitSettings": "deadlines"}
"""The listener may not import the settings; it has a protocol of what it reads of these."""


def sections(owner: Any) -> dict[str, Any]:
    """The classes of settings by the attribute that holds one; the whole is under ""."""
    inner = {
        entry.name: entry.default_factory
        for entry in dataclasses.fields(owner)
        if dataclasses.is_dataclass(entry.default_factory)
    }
    return {"": owner, **inner}


def settings_of(owner: Any) -> set[str]:
    """Places of all single settings, such as "audit.keep"."""
    parts = sections(owner)
    return {
        f"{part}.{entry.name}".removeprefix(".")
        for part, kind in parts.items()
        for entry in dataclasses.fields(kind)
        if part or entry.name not in parts
    }


def last_name(node: ast.expr) -> str:
    """What an expression is called: "limits" of `self._settings.limits`."""
    if isinstance(node, ast.Name):
        return node.id
    return node.attr if isinstance(node, ast.Attribute) else ""


def annotated(nodes: list[ast.AST]) -> Iterator[tuple[str, set[str]]]:
    """Names with the words of their annotations."""
    for node in nodes:
        if isinstance(node, ast.arg) and node.annotation:
            yield node.arg, set(re.findall(r"\w+", ast.unparse(node.annotation)))
        elif isinstance(node, ast.AnnAssign):
            yield last_name(node.target), set(re.findall(r"\w+", ast.unparse(node.annotation)))


def assigned(nodes: list[ast.AST]) -> Iterator[tuple[str, str]]:
    """What is given a value, with what the value is called."""
    for node in nodes:
        if isinstance(node, ast.Assign):
            for target in node.targets:
                pairs = [(target, node.value)]
                if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                    pairs = list(zip(target.elts, node.value.elts, strict=True))
                yield from ((last_name(to), last_name(value)) for to, value in pairs)


def called(
    part: str,
    kinds: dict[str, Any],
    annotations: list[tuple[str, set[str]]],
    values: list[tuple[str, str]],
) -> set[str]:
    """How a module calls the settings of this part: as annotated, or by what it assigns."""
    kind = kinds[part].__name__
    others = {other.__name__ for other in kinds.values()} - {kind}
    names = {part or "settings", SEEN_AS.get(kind, "")} - {""}
    names -= {name for name, words in annotations if words & others}
    names |= {name for name, words in annotations if kind in words}
    while more := {to for to, value in values if value in names and to} - names:
        names |= more
    return names


def reads(tree: ast.AST, owner: Any, whole: str = "") -> set[str]:
    """Places of the settings that a module reads, as `audit.keep` or by names that stand for it."""
    kinds, nodes = sections(owner), walked(tree)
    annotations, values = list(annotated(nodes)), list(assigned(nodes))
    names = {part: called(part, kinds, annotations, values) for part in kinds}
    names[""] |= {whole} - {""}
    return {
        f"{part}.{node.attr}".removeprefix(".")
        for node in nodes
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
        for part in kinds
        if last_name(node.value) in names[part]
    }


def derived(owner: Any) -> dict[str, set[str]]:
    """The settings that each property of the settings computes its value of."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(owner))).body
    assert isinstance(tree, ast.ClassDef)
    return {
        node.name: reads(node, owner, "self")
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
        and any(last_name(it) == "property" for it in node.decorator_list)
    }


def unread(owner: Any, parsed: list[ast.Module]) -> set[str]:
    read = set().union(*(reads(tree, owner) for tree in parsed))
    for name, places in derived(owner).items():
        read |= places if name in read else set()
    return settings_of(owner) - read


@pytest.mark.parametrize("package", sorted(PROGRAMS))
def test_every_setting_is_read(package: str) -> None:
    parsed = [
        tree
        for path, tree in trees(READ_IN[package])
        if not path.relative_to(CHECKOUT).as_posix().startswith(DEFINE_ONLY)
    ]
    assert unread(PROGRAMS[package], parsed) == set()


@pytest.mark.parametrize("kind", [IssuerSettings, FederationSettings, GroupRule])
def test_every_setting_of_an_item_is_read(kind: Any) -> None:
    """Items of lists, in modules that know settings, under whatever name."""
    read = {
        node.attr
        for path, tree in trees(("mk8s_proxy",))
        if not path.relative_to(CHECKOUT).as_posix().startswith(DEFINE_ONLY)
        and "settings" in path.read_text()
        for node in walked(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
    }
    read |= {"title"} if "shown" in read else set()  # a property of it
    assert {entry.name for entry in dataclasses.fields(kind)} - read == set()


@dataclasses.dataclass
class Inner:
    keep: int = 1
    path: str = ""
    dead: int = 1


@dataclasses.dataclass
class Outer:
    inner: Inner = dataclasses.field(default_factory=Inner)
    listen: str = ""
    keep: int = 1
    file: str = ""

    @property
    def place(self) -> str:
        """A value of two settings."""
        return self.inner.path or self.file


@pytest.mark.parametrize(
    "source",
    [
        "print(settings.inner.keep)",
        "def f(some: Inner): return some.keep",
        "def f(some: 'Outer | None'): return some.inner.keep",
        "class A:\n def f(self, settings: Inner): self._s = settings\n def g(self): self._s.keep",
        "number, part = 1, self.chosen.inner\nprint(part.keep)",
    ],
)
def test_the_search_knows_whose_setting_is_read(source: str) -> None:
    assert settings_of(Outer) - unread(Outer, [ast.parse(source)]) == {"inner.keep"}


def test_the_search_finds_what_nobody_reads() -> None:
    source = "def f(settings: Outer): return other.dead, settings.place, settings.listen"
    assert unread(Outer, [ast.parse(source)]) == {"inner.keep", "inner.dead", "keep"}
