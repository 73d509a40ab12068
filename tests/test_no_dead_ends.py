"""Nothing is left lying: every function has a caller, every setting a reader. Tests are neither."""

import ast
import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mk8s_agent.settings import Settings as AgentSettings
from mk8s_proxy.settings.model import Settings

CHECKOUT = Path(__file__).resolve().parent.parent
PACKAGES = ("mk8s_proxy", "mk8s_agent", "mk8s_cli", "certs")
GENERATED = "migrations/versions"

CALLED_BY_OTHERS = {
    # asyncio's transports
    "get_buffer", "buffer_updated", "pause_writing", "resume_writing", "eof_received",
    "connection_made", "connection_lost",
    # httptools' parsers
    "on_message_begin", "on_url", "on_header", "on_headers_complete", "on_body",
    "on_message_complete",
    # click, SQLAlchemy
    "get_command", "list_commands", "format_commands", "parse_args", "process_bind_param",
    "process_result_value",
    # string.Formatter
    "get_field", "convert_field", "format_field",
    # setuptools' entry points and alembic
    "main",
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


def docstrings(tree: ast.Module) -> set[int]:
    """The statements that are nothing but a string: they name functions and call none."""
    return {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }


def names_used(tree: ast.Module) -> set[str]:
    """Identifiers that are read, and words of strings, such as "package.module:function"."""
    said = docstrings(tree)
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.Constant) and id(node) not in said:
            found.update(re.findall(r"\w+", str(node.value)))
    return found


def is_command(function: Function) -> bool:
    """Registered by its decorator, as click's commands are."""
    calls = [it.func for it in function.decorator_list if isinstance(it, ast.Call)]
    return any(isinstance(it, ast.Attribute) and it.attr in {"command", "group"} for it in calls)


def functions(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, Function) and not node.name.startswith("__") and not is_command(node):
            yield node.name


def uncalled(parsed: list[ast.Module]) -> set[str]:
    used = set().union(*map(names_used, parsed))
    return {name for tree in parsed for name in functions(tree)} - used


def test_every_function_has_a_caller() -> None:
    alone = uncalled([tree for _, tree in trees()])
    assert alone - CALLED_BY_OTHERS == set()


def test_the_search_finds_what_nobody_calls() -> None:
    source = """
def lonely():
    '''lonely'''
def called(): ...
def named(): ...
@click.command()
def command(): called()
TABLE = {"a": "module:named"}
"""
    assert uncalled([ast.parse(source)]) == {"lonely"}


def settings_of(owner: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Place and last name of each single setting."""
    for entry in dataclasses.fields(owner):
        if dataclasses.is_dataclass(entry.default_factory):
            yield from settings_of(entry.default_factory, f"{prefix}{entry.name}.")
        else:
            yield f"{prefix}{entry.name}", entry.name


PROGRAMS = {"mk8s_proxy": Settings, "mk8s_agent": AgentSettings}
DEFINE_ONLY = ("settings", "check_config.py")
"""Where settings are made and shown: to be read there is not to have an effect."""


def reads(package: str) -> set[str]:
    found: set[str] = set()
    for path, tree in trees((package,)):
        inside = path.relative_to(CHECKOUT / package).parts
        # the agent's one file of settings also computes what they mean
        if package == "mk8s_proxy" and not set(inside).isdisjoint(DEFINE_ONLY):
            continue
        found |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    return found


@pytest.mark.parametrize("package", sorted(PROGRAMS))
def test_every_setting_is_read(package: str) -> None:
    read = reads(package)
    unread = {place for place, name in settings_of(PROGRAMS[package]) if name not in read}
    assert unread - DERIVED == set()


DERIVED = {"audit.path"}
"""Read by a property of the model that other code reads: `journal_path`."""
