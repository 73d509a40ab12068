"""The shape of the house: rooms small enough to read, storeys placed, nothing of one machine in it.

Import directions are checked by import-linter (`tox -e imports`); this file checks what it cannot.
"""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent
PACKAGES = ("mk8s_proxy", "mk8s_agent", "mk8s_cli")
MODULE_LINES = 400
FUNCTION_LINES = 30
NESTING_LEVELS = 3

GENERATED = "migrations/versions"
MODULES = sorted(
    path
    for package in PACKAGES
    for path in (CHECKOUT / package).rglob("*.py")
    if GENERATED not in path.as_posix()
)
BLOCKS = (
    ast.If,
    ast.For,
    ast.AsyncFor,
    ast.While,
    ast.With,
    ast.AsyncWith,
    ast.Try,
    ast.TryStar,
    ast.Match,
)
Function = ast.FunctionDef | ast.AsyncFunctionDef


def name_of(path: Path) -> str:
    return path.relative_to(CHECKOUT).as_posix()


def functions_of(tree: ast.AST) -> Iterator[Function]:
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def body_lines(function: Function) -> int:
    """Lines of the body: a long signature or docstring is no burden, a long body is."""
    body = function.body
    if ast.get_docstring(function, clean=False) is not None:
        body = body[1:]
    if not body:
        return 0
    return (function.end_lineno or 0) - body[0].lineno + 1


def is_elif(block: ast.AST, child: ast.AST) -> bool:
    return isinstance(block, ast.If) and isinstance(child, ast.If) and block.orelse == [child]


def nesting(node: ast.AST) -> int:
    """How deep the blocks inside `node` go; functions defined inside it count for themselves."""
    deepest = 0
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Function):
            continue
        level = nesting(child)
        if isinstance(child, BLOCKS) and not is_elif(node, child):
            level += 1
        deepest = max(deepest, level)
    return deepest


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_modules_are_rooms_one_can_live_in(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= MODULE_LINES, "split it by chapter"
    long = {
        f"{function.name}: {body_lines(function)} lines"
        for function in functions_of(ast.parse(text))
        if body_lines(function) > FUNCTION_LINES
    }
    assert not long
    deep = {
        f"{function.name}: {nesting(function)} levels"
        for function in functions_of(ast.parse(text))
        if nesting(function) > NESTING_LEVELS
    }
    assert not deep


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_every_module_says_what_it_is(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text()))


def test_every_folder_of_modules_is_a_package() -> None:
    """The wheel and import-linter would both leave out what is none, silently."""
    assert {
        name_of(path.parent) for path in MODULES if not path.with_name("__init__.py").exists()
    } == set()


def test_the_measures_measure() -> None:
    source = """
def f(
    a,
):
    '''Doc.'''
    if a:
        pass
    elif a > 1:
        for x in a:
            with x:
                def g():
                    while True: pass
"""
    outer, inner = functions_of(ast.parse(source))
    assert (outer.name, body_lines(outer), nesting(outer)) == ("f", 7, 3)
    assert (inner.name, nesting(inner)) == ("g", 1)


def tracked_files() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=CHECKOUT, capture_output=True, text=True, check=True
    )
    names = [name for name in listed.stdout.split("\0") if name]
    return [CHECKOUT / name for name in names if (CHECKOUT / name).is_file()]


# Spelled in two parts so that this file does not hold what it looks for.
REGISTRY_HOSTS = tuple(
    left + right
    for left, right in (
        ("pypi", r"\.org"),
        ("python", r"hosted\.org"),
        ("npm", r"js\.org"),
        ("deb\\.debian", r"\.org"),
        ("proxy\\.golang", r"\.org"),
    )
)
MACHINE_PATHS = ("/ro" + "ot/", "/ho" + r"me/[a-z]", "/wo" + "rk/", "/Use" + "rs/[A-Za-z]")


def test_nothing_names_this_machine_or_a_package_registry() -> None:
    here = [re.escape(f"{folder}/") for folder in (CHECKOUT.parent, Path.home())]
    forbidden = re.compile("|".join((*REGISTRY_HOSTS, *MACHINE_PATHS, *here)))
    found = {}
    for path in tracked_files():
        try:
            hit = forbidden.search(path.read_text())
        except UnicodeDecodeError:
            continue
        if hit:
            found[name_of(path)] = hit.group()
    assert not found


def contract(name: str) -> dict[str, list[str]]:
    settings = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
    contracts = settings["tool"]["importlinter"]["contracts"]
    return next(entry for entry in contracts if entry["name"] == name)


def test_decision_code_is_held_free_of_io() -> None:
    """The rooms that the coverage gate holds complete, import-linter must hold pure."""
    settings = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
    gated = {
        pattern.removesuffix("/*").replace("/", ".")
        for pattern in settings["tool"]["mk8s"]["coverage"]["every_branch"]
    }
    assert gated <= set(contract("Protocol and policy code does no I/O")["source_modules"])


def rooms() -> list[Path]:
    """The rooms of the three houses, not the cupboards in them."""
    return sorted({path.parent for path in MODULES if len(path.relative_to(CHECKOUT).parts) <= 3})


@pytest.mark.parametrize("room", rooms(), ids=name_of)
def test_a_room_says_what_it_is_for_and_its_init_holds_nothing_else(room: Path) -> None:
    """Three lines at least: what it is for, who calls it, what it may not do."""
    tree = ast.parse((room / "__init__.py").read_text())
    said = ast.get_docstring(tree) or ""
    assert said.count("\n") >= 2
    assert [type(statement) for statement in tree.body] == [ast.Expr]


DISTRIBUTIONS = {"yaml": "pyyaml", "prometheus_client": "prometheus-client"}


class RunTime(ast.NodeTransformer):
    """Leaves out what only the type checker reads."""

    def visit_If(self, node: ast.If) -> Any:
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return node.orelse
        return self.generic_visit(node)


def imported_by(package: str) -> set[str]:
    """Top-level names that a package imports when it runs, wherever in its files."""
    found = set()
    for path in MODULES:
        if name_of(path).startswith(f"{package}/"):
            for node in ast.walk(RunTime().visit(ast.parse(path.read_text()))):
                if isinstance(node, ast.Import):
                    found |= {alias.name.split(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module:
                    found.add(node.module.split(".")[0])
    return found


def test_the_agents_extra_names_all_that_its_image_needs() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    named = {
        re.split(r"[^A-Za-z0-9_-]", requirement)[0].lower()
        for requirement in project["optional-dependencies"]["agent"]
    }
    foreign = imported_by("mk8s_agent") - set(sys.stdlib_module_names) - {"mk8s_agent"}
    assert {DISTRIBUTIONS.get(name, name) for name in foreign} <= named


def test_the_agent_image_holds_the_agent_alone() -> None:
    dockerfile = (CHECKOUT / "deploy/docker/agent.Dockerfile").read_text()
    copied = [line for line in dockerfile.splitlines() if line.startswith("COPY ")]
    assert any("mk8s_agent" in line for line in copied)
    assert not any("mk8s_proxy" in line or "mk8s_cli" in line for line in copied)


TASK_STARTERS = ("create_task", "ensure_future", "TaskGroup", "run_coroutine_threadsafe")
MAY_START_TASKS = ("mk8s_agent/wire/background.py", "mk8s_cli/demo_api/")
"""The demo's cluster is part of the CLI, which shares no code with the agent."""


def starts_of_tasks(tree: ast.AST) -> list[str]:
    """Where a task begins, by whatever name its loop or group goes."""
    return [
        f"line {node.lineno}: {node.attr}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in TASK_STARTERS
    ]


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_tasks_are_started_in_one_place(path: Path) -> None:
    """A task that nobody owns loses its exception, and with it whatever it was to keep going."""
    if not name_of(path).startswith(MAY_START_TASKS):
        assert starts_of_tasks(ast.parse(path.read_text())) == []


def test_the_search_for_tasks_finds_them() -> None:
    source = "loop.create_task(x)\ngroup.create_task\nasyncio.ensure_future(x)\ncreate_tasks()"
    assert len(starts_of_tasks(ast.parse(source))) == 3
    background = CHECKOUT / MAY_START_TASKS[0]
    assert starts_of_tasks(ast.parse(background.read_text()))


def test_test_files_have_names_of_their_own() -> None:
    """pytest imports a test file by its bare name: of two equal ones it refuses the second."""
    names = [path.name for path in (CHECKOUT / "tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))
